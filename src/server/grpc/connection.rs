//! One HTTP/2 connection: from its first byte to the end of its last stream.

use super::{Gateway, consume, drained};
use crate::transport::Level;
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// Bytes of one stream that wait for its client or the connection. With them full the core is held back, and its own limits
/// on a slow client apply.
const SEND_BUFFER: usize = 64 * 1024;

/// Bytes of the header fields of a request.
const HEADERS_MAX: u32 = 16 * 1024;

/// How much a connection is used.
#[derive(Debug, Default)]
pub(super) struct Usage {
    streams: AtomicUsize,
    /// Streams that ever were.
    begun: AtomicU64,
}

/// Counts as a stream until it is dropped.
#[derive(Debug)]
pub(super) struct InUse(Arc<Usage>);

impl InUse {
    pub fn of(usage: &Arc<Usage>) -> Self {
        usage.streams.fetch_add(1, Ordering::Relaxed);
        usage.begun.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(usage))
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves a connection from its first byte on, which is one of TLS where that is on.
pub(super) async fn begin(gateway: Arc<Gateway>, stream: TcpStream, peer: SocketAddr) {
    // Slower without, but not wrong.
    let _ = stream.set_nodelay(true);
    match gateway.tls.as_ref().map(|tls| TlsAcceptor::from(tls.config())) {
        None => serve(gateway, stream, peer).await,
        Some(acceptor) => match shake_hands(&gateway, &acceptor, stream).await {
            Ok(stream) => serve(gateway, stream, peer).await,
            Err(why) => {
                gateway.log(Level::Debug, format_args!("{peer}: uni_grpc: a TLS handshake failed: {why}"));
            }
        },
    }
}

/// Ends with the process as well: nobody is owed anything yet.
async fn shake_hands(
    gateway: &Gateway,
    acceptor: &TlsAcceptor,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, String> {
    let patience = gateway.settings.http_server.head_timeout;
    let mut done = pin!(timeout(patience, acceptor.accept(stream)));
    let mut drained = pin!(drained(gateway.draining.clone()));
    poll_fn(|context| match done.as_mut().poll(context) {
        Poll::Ready(Ok(done)) => Poll::Ready(done.map_err(|error| error.to_string())),
        Poll::Ready(Err(_)) => Poll::Ready(Err("it took longer than http_server.head_timeout".into())),
        Poll::Pending => drained.as_mut().poll(context).map(|()| Err("the server ends".into())),
    })
    .await
}

/// Serves a connection until its client, `http_server.keep_alive_timeout` without a stream, or the end of the process
/// ends it.
async fn serve<S>(gateway: Arc<Gateway>, stream: S, peer: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let usage = Arc::new(Usage::default());
    let service = service_fn({
        let (gateway, usage) = (Arc::clone(&gateway), Arc::clone(&usage));
        move |request| consume::answer(Arc::clone(&gateway), peer, InUse::of(&usage), request)
    });
    let settings = &gateway.settings;
    let beats = settings.client.ping_interval.0.zip(settings.client.pong_timeout.0);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        // A peer that has vanished answers no ping.
        .keep_alive_interval(beats.map(|(interval, _)| interval))
        .keep_alive_timeout(beats.map_or(Duration::ZERO, |(_, timeout)| timeout).max(Duration::from_secs(1)))
        .max_concurrent_streams(settings.uni_grpc.max_concurrent_streams)
        .max_header_list_size(HEADERS_MAX)
        .max_send_buf_size(SEND_BUFFER);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut drained = pin!(drained(gateway.draining.clone()));
    let patience = settings.http_server.keep_alive_timeout;
    let mut idle = pin!(tokio::time::sleep(patience));
    let (mut leaving, mut seen) = (false, 0);
    poll_fn(|context| {
        loop {
            // An error is the client's: nobody is left to be told.
            if connection.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            if !leaving && drained.as_mut().poll(context).is_ready() {
                leaving = true;
                connection.as_mut().graceful_shutdown();
                continue;
            }
            if idle.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            let begun = usage.begun.load(Ordering::Relaxed);
            let unused =
                usage.streams.load(Ordering::Relaxed) == 0 && begun == std::mem::replace(&mut seen, begun);
            match (unused, leaving) {
                // It was told, and does not go.
                (true, true) => return Poll::Ready(()),
                (true, false) => {
                    leaving = true;
                    connection.as_mut().graceful_shutdown();
                    wait(idle.as_mut(), settings.http_server.close_timeout);
                }
                (false, _) => wait(idle.as_mut(), patience),
            }
        }
    })
    .await;
}

fn wait(timer: Pin<&mut tokio::time::Sleep>, time: Duration) {
    timer.reset(Instant::now() + time);
}
