//! [`ApiReply`] -> JSON, with the keys Centrifugo always writes and without those it omits.

use super::base64;
use crate::{
    broker::seam::{ApiReply, CoreStats},
    metrics::{Counter, Counters, Kind},
    model::{ClientInfo, ErrorCode, Extra, Position, Publication},
};
use std::{io::Write as _, sync::Arc};

/// What `info` says about this process.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    pub uid: &'a str,
    pub name: &'a str,
    pub version: &'static str,
    /// Seconds since start.
    pub uptime: u64,
}

/// Where an error of the API goes: into the body, or also into the HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorMode {
    Body,
    Transport,
}

/// HTTP status of an error in [`ErrorMode::Transport`].
pub fn status_of(error: ErrorCode) -> u16 {
    match error {
        ErrorCode::Unauthorized => 401,
        ErrorCode::PermissionDenied => 403,
        ErrorCode::UnknownChannel | ErrorCode::MethodNotFound => 404,
        ErrorCode::BadRequest | ErrorCode::NotAvailable | ErrorCode::LimitExceeded => 400,
        ErrorCode::AlreadySubscribed | ErrorCode::ConcurrentPagination => 409,
        ErrorCode::UnrecoverablePosition => 416,
        ErrorCode::TooManyRequests => 429,
        ErrorCode::Internal | ErrorCode::TokenExpired | ErrorCode::Expired => 500,
    }
}

fn put(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    // A Vec takes every write.
    let _ = out.write_fmt(arguments);
}

pub fn string(out: &mut Vec<u8>, text: &str) {
    let _ = serde_json::to_writer(out, text);
}

fn key(out: &mut Vec<u8>, name: &str) {
    if !matches!(out.last(), Some(b'{')) {
        out.push(b',');
    }
    put(out, format_args!("\"{name}\":"));
}

/// A payload: JSON as it is, anything else in base64 under `b64` + name.
fn payload(out: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    if serde_json::from_slice::<&serde_json::value::RawValue>(bytes).is_ok() {
        key(out, name);
        out.extend_from_slice(bytes);
    } else {
        key(out, &format!("b64{name}"));
        out.push(b'"');
        base64::encode(bytes, out);
        out.push(b'"');
    }
}

/// `{"code":…,"message":…}`
pub fn error(out: &mut Vec<u8>, error: ErrorCode) {
    put(out, format_args!("{{\"code\":{},\"message\":\"{}\"}}", error.code(), error.message()));
}

fn position(out: &mut Vec<u8>, position: Option<&Position>) {
    out.push(b'{');
    if let Some(position) = position {
        if position.offset > 0 {
            key(out, "offset");
            put(out, format_args!("{}", position.offset));
        }
        if !position.epoch.is_empty() {
            key(out, "epoch");
            string(out, &position.epoch);
        }
    }
    out.push(b'}');
}

fn client_info(out: &mut Vec<u8>, info: &ClientInfo) {
    out.extend_from_slice(b"{\"user\":");
    string(out, &info.user);
    put(out, format_args!(",\"client\":\"{}\"", info.client));
    for (name, bytes) in [("conn_info", &info.conn_info), ("chan_info", &info.chan_info)] {
        if let Some(bytes) = bytes.as_ref().filter(|bytes| !bytes.is_empty()) {
            payload(out, name, bytes);
        }
    }
    out.push(b'}');
}

fn publication(out: &mut Vec<u8>, publication: &Publication) {
    out.push(b'{');
    payload(out, "data", &publication.data);
    beside_data(out, publication);
    out.push(b'}');
}

fn beside_data(out: &mut Vec<u8>, publication: &Publication) {
    if let Some(info) = &publication.info {
        key(out, "info");
        client_info(out, info);
    }
    if publication.offset > 0 {
        key(out, "offset");
        put(out, format_args!("{}", publication.offset));
    }
    if !publication.tags.is_empty() {
        key(out, "tags");
        out.push(b'{');
        for (index, (name, value)) in publication.tags.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            string(out, name);
            out.push(b':');
            string(out, value);
        }
        out.push(b'}');
    }
}

/// An entry of a map, or a change of one.
fn entry(out: &mut Vec<u8>, publication: &Publication) {
    let none = Extra::default();
    let Extra { key: name, removed, score, .. } = publication.extra.as_deref().unwrap_or(&none);
    out.push(b'{');
    key(out, "key");
    string(out, name);
    if !publication.data.is_empty() {
        payload(out, "data", &publication.data);
    }
    beside_data(out, publication);
    if *score != 0 {
        key(out, "score");
        put(out, format_args!("{score}"));
    }
    if *removed {
        key(out, "removed");
        out.extend_from_slice(b"true");
    }
    key(out, "time");
    put(out, format_args!("{}}}", publication.time_ms));
}

fn list<T>(out: &mut Vec<u8>, items: &[T], mut item: impl FnMut(&mut Vec<u8>, &T)) {
    for (index, each) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        item(out, each);
    }
}

/// The result object of a reply, without anything around it.
pub fn result(out: &mut Vec<u8>, reply: &ApiReply, node: &Node<'_>) {
    match reply {
        ApiReply::Publish { position: at } => position(out, at.as_ref()),
        ApiReply::Broadcast(responses) => {
            out.extend_from_slice(b"{\"responses\":[");
            list(out, responses, |out, response| match response {
                Ok(at) => {
                    out.extend_from_slice(b"{\"result\":");
                    position(out, at.as_ref());
                    out.push(b'}');
                }
                Err(code) => {
                    out.extend_from_slice(b"{\"error\":");
                    error(out, *code);
                    out.push(b'}');
                }
            });
            out.extend_from_slice(b"]}");
        }
        ApiReply::Done => out.extend_from_slice(b"{}"),
        ApiReply::Presence(clients) => presence(out, clients),
        ApiReply::PresenceStats { clients, users } => {
            put(out, format_args!("{{\"num_clients\":{clients},\"num_users\":{users}}}"));
        }
        ApiReply::History { publications, position } => {
            out.extend_from_slice(b"{\"publications\":[");
            list(out, publications, |out, each| publication(out, each));
            out.extend_from_slice(b"],\"epoch\":");
            string(out, &position.epoch);
            put(out, format_args!(",\"offset\":{}}}", position.offset));
        }
        ApiReply::MapSet { position: at, suppressed } => {
            position(out, at.as_ref());
            if let Some(suppressed) = suppressed {
                out.pop();
                key(out, "suppressed");
                out.extend_from_slice(b"true");
                key(out, "suppress_reason");
                string(out, suppressed.reason());
                out.push(b'}');
            }
        }
        ApiReply::MapState { entries, position, cursor } => {
            out.extend_from_slice(b"{\"entries\":[");
            list(out, entries, |out, each| entry(out, each));
            out.extend_from_slice(b"],\"epoch\":");
            string(out, &position.epoch);
            put(out, format_args!(",\"offset\":{}", position.offset));
            if !cursor.is_empty() {
                key(out, "cursor");
                string(out, cursor);
            }
            out.push(b'}');
        }
        ApiReply::MapStats { keys } => put(out, format_args!("{{\"num_keys\":{keys}}}")),
        ApiReply::Channels(channels) => {
            out.extend_from_slice(b"{\"channels\":{");
            list(out, channels, |out, (name, clients)| {
                string(out, name);
                put(out, format_args!(":{{\"num_clients\":{clients}}}"));
            });
            out.extend_from_slice(b"}}");
        }
        ApiReply::Stats { cores, cores_total } => info(out, cores, *cores_total, node),
    }
}

fn presence(out: &mut Vec<u8>, clients: &[Arc<ClientInfo>]) {
    out.extend_from_slice(b"{\"presence\":{");
    list(out, clients, |out, info| {
        put(out, format_args!("\"{}\":", info.client));
        client_info(out, info);
    });
    out.extend_from_slice(b"}}");
}

/// One node, with its cores: connections, sessions, longest turn since the last scrape, share of time busy.
fn info(out: &mut Vec<u8>, cores: &[CoreStats], cores_total: usize, node: &Node<'_>) {
    let sum = |of: fn(&CoreStats) -> u32| cores.iter().map(of).map(u64::from).sum::<u64>();
    out.extend_from_slice(b"{\"nodes\":[{\"uid\":");
    string(out, node.uid);
    out.extend_from_slice(b",\"name\":");
    string(out, node.name);
    out.extend_from_slice(b",\"version\":");
    string(out, node.version);
    put(
        out,
        format_args!(
            ",\"num_clients\":{},\"num_users\":{},\"num_subs\":{},\"num_channels\":{},\"uptime\":{},\"cores_total\":{cores_total},\"cores\":[",
            sum(|core| core.clients),
            sum(|core| core.users),
            sum(|core| core.subscriptions),
            sum(|core| core.channels),
            node.uptime,
        ),
    );
    list(out, cores, |out, core| {
        let busy_us = core.counters.value(Counter::BusyMicros);
        let up_us = (node.uptime * 1_000_000).max(busy_us).max(1);
        put(
            out,
            format_args!(
                "{{\"core\":{},\"connections\":{},\"num_clients\":{},\"num_subs\":{},\"num_channels\":{},\"turns\":{},\"turn_us_max\":{},\"busy_us\":{busy_us},\"busy_share\":{:.4}}}",
                core.core,
                core.counters.value(Counter::ConnectionsOpen),
                core.clients,
                core.subscriptions,
                core.channels,
                core.counters.value(Counter::Turns),
                core.counters.value(Counter::TurnMicrosMax),
                busy_us as f64 / up_us as f64,
            ),
        );
    });
    out.extend_from_slice(b"],\"metrics\":");
    metrics(out, cores, node.uptime);
    out.extend_from_slice(b"}]}");
}

/// What all cores together have counted since the start, by the names of `/metrics`.
fn metrics(out: &mut Vec<u8>, cores: &[CoreStats], uptime: u64) {
    let mut sums = Counters::default();
    cores.iter().for_each(|core| sums.merge(&core.counters));
    put(out, format_args!("{{\"interval\":{uptime},\"items\":{{"));
    let counted = |it: &&Counter| it.describe().1 == Kind::Counter;
    let counted: Vec<Counter> = Counter::ALL.iter().filter(counted).copied().collect();
    list(out, &counted, |out, &counter| {
        put(out, format_args!("\"{}\":{}", counter.describe().0, sums.value(counter)));
    });
    out.extend_from_slice(b"}}");
}
