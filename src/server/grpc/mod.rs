//! `uni_grpc`: clients that only listen, by gRPC over HTTP/2.
//!
//! A thread beside the cores speaks gRPC (tonic on hyper on tokio) and decides nothing: for each `Consume` it hands a core one
//! end of a socket pair and the request as it came, and passes on what comes back. To the core that is a connection like
//! others, with its limits, its pings and its end. Why so: `docs/decisions/0013-grpc-by-a-gateway.md`.

mod connection;
mod consume;
mod pushes;

use crate::{
    config::Settings,
    runtime::Sender,
    transport::{Foreign, Level, Log, tls::Acceptor},
    wire::forwarded::Network,
};
use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    net::{SocketAddr, TcpListener},
    pin::{Pin, pin},
    sync::{Arc, atomic::AtomicUsize},
    task::Poll,
    thread,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};

/// How long after running out of descriptors accepting is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// How often to look whether the thread has ended.
const LOOK: Duration = Duration::from_millis(5);

/// What every connection needs to know.
struct Gateway {
    settings: Arc<Settings>,
    log: Arc<dyn Log>,
    /// Whose `X-Forwarded-For` is believed.
    trusted: Vec<Network>,
    /// `None`: connections begin with HTTP/2.
    tls: Option<Arc<Acceptor>>,
    cores: Vec<Sender<Foreign>>,
    /// Picks a core for the next client.
    turn: AtomicUsize,
    draining: watch::Receiver<bool>,
}

/// The thread at work.
pub(super) struct Serving {
    draining: watch::Sender<bool>,
    thread: thread::JoinHandle<()>,
}

impl Serving {
    /// Accepts nothing more; connections end with their last stream, and streams when their core says so.
    pub fn drain(&self) {
        // Nobody listens any more: it has ended.
        let _ = self.draining.send(true);
    }

    /// Gives clients time to take their last words, at most until `deadline`.
    pub fn wait(self, deadline: Instant) {
        while !self.thread.is_finished() && Instant::now() < deadline {
            thread::sleep(LOOK);
        }
    }
}

/// Starts the thread behind `listener`, which speaks TLS where there is an acceptor.
///
/// # Errors
/// The system has no thread or no descriptors to give.
pub(super) fn start(
    settings: &Arc<Settings>,
    log: &Arc<dyn Log>,
    listener: TcpListener,
    tls: Option<Arc<Acceptor>>,
    cores: Vec<Sender<Foreign>>,
) -> io::Result<Serving> {
    let (address, is_secure) = (listener.local_addr()?, tls.is_some());
    listener.set_nonblocking(true)?;
    let (draining, told) = watch::channel(false);
    let gateway = Arc::new(Gateway {
        settings: Arc::clone(settings),
        log: Arc::clone(log),
        // Settings are checked when they are loaded.
        trusted: settings.http_server.trusted_proxies.iter().filter_map(|it| it.parse().ok()).collect(),
        tls,
        cores,
        turn: AtomicUsize::new(0),
        draining: told,
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = thread::Builder::new().name("corecast-grpc".into()).spawn(move || {
        runtime.block_on(serve(&gateway, listener));
    })?;
    if log.enabled(Level::Info) {
        let tls = if is_secure { ", TLS" } else { "" };
        log.write(Level::Info, format_args!("uni_grpc on {address}{tls}"));
    }
    Ok(Serving { draining, thread })
}

/// Accepts until told to drain, and returns when the last connection has ended.
async fn serve(gateway: &Arc<Gateway>, listener: TcpListener) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let (alive, mut all_gone) = mpsc::channel::<Infallible>(1);
    let mut drained = pin!(drained(gateway.draining.clone()));
    while let Some(accepted) = next(&listener, drained.as_mut()).await {
        match accepted {
            Ok((stream, peer)) => {
                let (gateway, alive) = (Arc::clone(gateway), alive.clone());
                tokio::spawn(async move {
                    connection::begin(gateway, stream, peer).await;
                    drop(alive);
                });
            }
            Err(error) => {
                gateway.log(Level::Warn, format_args!("uni_grpc cannot accept: {error}"));
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    drop((alive, listener));
    all_gone.recv().await;
}

/// The next connection; `None`: it is time to drain.
async fn next(
    listener: &tokio::net::TcpListener,
    mut drained: Pin<&mut impl Future<Output = ()>>,
) -> Option<io::Result<(tokio::net::TcpStream, SocketAddr)>> {
    poll_fn(|context| match drained.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => listener.poll_accept(context).map(Some),
    })
    .await
}

/// Returns when the process is to end.
async fn drained(mut draining: watch::Receiver<bool>) {
    // An error says that nobody will tell any more.
    let _ = draining.wait_for(|told| *told).await;
}

impl Gateway {
    fn log(&self, level: Level, line: std::fmt::Arguments<'_>) {
        if self.log.enabled(level) {
            self.log.write(level, line);
        }
    }
}
