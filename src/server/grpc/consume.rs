//! The one method: `Consume`. Messages pass as they are; the core reads the request and writes the pushes.
//! Of the metadata it looks at what proxies say: the client's address, and its user.

use super::{Gateway, connection::InUse, pushes::Pushes};
use crate::{
    transport::{Level, introduce},
    wire::forwarded::client_address,
};
use bytes::{Buf as _, BufMut as _, Bytes};
use hyper::{Request, Response, body::Incoming};
use std::{
    convert::Infallible,
    net::SocketAddr,
    os::unix::net::UnixStream,
    sync::{Arc, atomic::Ordering},
};
use tonic::{
    Status,
    body::Body,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::BoxFuture,
    server::{Grpc, ServerStreamingService},
};

/// Service and method of `schema/unistream.proto`.
const CONSUME: &str = "/centrifugal.centrifugo.unistream.CentrifugoUniStream/Consume";

/// Memory a stream begins with to frame its pushes in.
const FRAMING_BUFFER: usize = 1024;
/// Pushes that are ready are framed together up to this many bytes.
const FRAMED_TOGETHER: usize = 32 * 1024;

/// Answers any request on the port.
pub(super) async fn answer(
    gateway: Arc<Gateway>,
    peer: SocketAddr,
    in_use: InUse,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    if request.uri().path() != CONSUME {
        return Ok(Status::unimplemented(format!("this port serves {CONSUME}")).into_http());
    }
    let forwarded = request.headers().get_all("x-forwarded-for");
    let values = forwarded.iter().filter_map(|value| value.to_str().ok());
    let client = SocketAddr::new(client_address(peer.ip(), values, &gateway.trusted), peer.port());
    let header = gateway.settings.client.user_id_http_header.as_str();
    let user = if header.is_empty() { None } else { request.headers().get(header) };
    let user = user.and_then(|user| user.to_str().ok()).unwrap_or_default().to_owned();
    let patience = gateway.settings.http_server.head_timeout;
    let size_max = gateway.settings.uni_grpc.max_receive_message_size;
    let service = Consume { gateway, client, user, in_use: Some(in_use) };
    let mut grpc = Grpc::new(AsItIs).max_decoding_message_size(size_max);
    // What takes time is the request; the response begins at once.
    let answered = tokio::time::timeout(patience, grpc.server_streaming(service, request)).await;
    let too_slow =
        |_| Status::deadline_exceeded("the request took longer than http_server.head_timeout").into_http();
    Ok(answered.unwrap_or_else(too_slow))
}

struct Consume {
    gateway: Arc<Gateway>,
    client: SocketAddr,
    /// Whom a trusted proxy vouches for; empty: nobody.
    user: String,
    in_use: Option<InUse>,
}

impl ServerStreamingService<Vec<u8>> for Consume {
    type Response = Bytes;
    type ResponseStream = Pushes;
    type Future = BoxFuture<tonic::Response<Pushes>, Status>;

    fn call(&mut self, request: tonic::Request<Vec<u8>>) -> Self::Future {
        let pushes = self.connect(&request.into_inner());
        Box::pin(std::future::ready(pushes.map(tonic::Response::new)))
    }
}

impl Consume {
    fn connect(&mut self, request: &[u8]) -> Result<Pushes, Status> {
        let Self { gateway, client, user, in_use } = self;
        let no_socket = |error: std::io::Error| {
            gateway.log(Level::Warn, format_args!("{client}: no sockets for a client of uni_grpc: {error}"));
            Status::unavailable("the server has no descriptors left")
        };
        let (ours, theirs) = UnixStream::pair().map_err(no_socket)?;
        let turn = gateway.turn.fetch_add(1, Ordering::Relaxed);
        let core = gateway.cores.get(turn % gateway.cores.len().max(1));
        let first = introduce(user, request);
        let adopted = core.is_some_and(|core| core.adopt(theirs.into(), *client, first).is_ok());
        if !adopted {
            return Err(Status::unavailable("the server is busy or ends"));
        }
        Pushes::new(ours, in_use.take()).map_err(no_socket)
    }
}

/// Passes messages through, without a look inside.
struct AsItIs;

impl Codec for AsItIs {
    type Encode = Bytes;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for AsItIs {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, push: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(push);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(FRAMING_BUFFER, FRAMED_TOGETHER)
    }
}

impl Decoder for AsItIs {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; message.remaining()];
        message.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}
