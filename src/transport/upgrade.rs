//! The opening handshake of a WebSocket: which protocol it will speak, and the answer.

use super::http::{Response, Upgrade};
use crate::{
    model::Protocol,
    wire::{
        deflate::negotiate,
        http::{Request, parameter},
        websocket::{check_upgrade, choose_subprotocol, write_upgrade},
    },
};
use std::net::IpAddr;

/// Grants the upgrade, or says why not.
///
/// The subprotocol decides between JSON and Protobuf; without one the query does (`cf_protocol=protobuf`, or
/// `format=protobuf` of old clients).
///
/// `compression`: permessage-deflate may be agreed on. Who the user is, the caller knows.
pub fn accept(request: &Request<'_, '_>, client: IpAddr, compression: bool) -> Result<Upgrade, Response> {
    let granted = check_upgrade(request)
        .map_err(|refusal| Response::error(refusal.status()).with(refusal.headers()))?;
    let says = |name, value: &str| parameter(request.query, name).is_some_and(|given| given == value);
    let chosen = choose_subprotocol(request);
    let protocol = match chosen {
        Some((_, protocol)) => protocol,
        None if says("cf_protocol", "protobuf") || says("format", "protobuf") => Protocol::Protobuf,
        None => Protocol::Json,
    };
    let deflate = if compression { negotiate(request) } else { None };
    let extensions = deflate.map(|agreement| agreement.to_string()).unwrap_or_default();
    let mut response = Vec::new();
    write_upgrade(&mut response, granted.key, chosen.map(|(name, _)| name), &extensions);
    let websocket_pings = says("cf_ws_frame_ping_pong", "true");
    Ok(Upgrade {
        response,
        protocol,
        websocket_pings,
        deflate,
        client,
        user: None,
        listener: None,
        sockjs: false,
    })
}
