//! Settings: as the operator writes them, and as the server uses them.
//!
//! One table ([`settings`]) says which options there are; from it come the structs, their defaults, names in
//! files and in the environment, checks, `gen-config` and `docs/CONFIG.md`. [`load`] turns file text,
//! environment and flags into [`Settings`] that are known to be valid, or into all errors at once, each with
//! its place, key, what was found and what is allowed.
//!
//! No files, environment or clock here: the caller brings texts.

mod apply;
mod centrifugo;
mod check;
mod choices;
mod derived;
mod dev;
mod duration;
mod error;
mod keys;
mod listeners;
mod load;
mod migrate;
mod nearest;
mod node;
mod overrides;
mod rate_limit;
mod read;
mod reference;
mod rules;
mod sections;
mod settings;
mod show;
mod table;
#[cfg(test)]
mod tests;
mod transforms;
mod values;

pub use choices::{ClientKey, DataFormat, MapMode, PollMode, ProtocolV1, RecoveryMode, SubscriptionType};
pub use derived::TlsPart;
pub use duration::parse as parse_duration;
pub use error::{ConfigError, ConfigErrors, Place, Problem};
pub use load::{Flag, Loaded, SourceFile, Sources, load};
pub use migrate::{Migrated, migrate};
pub use rate_limit::{Bucket, Buckets, CommandLimits, ErrorLimits, Limit, RateLimit};
pub use read::{Format, TEXT_BYTES_MAX};
pub use reference::reference;
pub use settings::{
    Backend, Channel, ChannelOptions, Client, Cores, Endpoint, EndpointKind, Health, HttpApi, HttpServer,
    Log, Map, Mesh, Namespace, Node, PersonalChannel, Poll, Prometheus, Proxy, Runtime, Settings, SharedPoll,
    Shutdown, SubscriptionToken, Tls, Token, WebSocket,
};
pub use show::show;
pub use transforms::{ConnectDisconnects, ConnectResponses, DisconnectTo, ResponseTo, Transforms};
pub use values::{Headers, OrOff, regex};

/// For fuzzing: loads any bytes as a file of each format, as a variable and as a flag. Must not panic.
pub fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for name in ["fuzz", "fuzz.json", "fuzz.toml", "fuzz.yaml"] {
        let file = SourceFile { name: name.to_owned(), text: text.clone().into_owned() };
        accept_or_explain(Sources { file: Some(file), ..Sources::default() });
    }
    let (key, value) = text.split_once('=').unwrap_or((&text, ""));
    let flag = Flag { flag: "--set".to_owned(), key: key.to_owned(), value: value.to_owned() };
    accept_or_explain(Sources { flags: vec![flag], ..Sources::default() });
    let name = format!("CORECAST_{key}");
    accept_or_explain(Sources { environment: vec![(name, value.to_owned())], ..Sources::default() });
}

fn accept_or_explain(sources: Sources) {
    match load(sources) {
        Ok(loaded) => drop(show(&loaded.settings, Format::Toml)),
        Err(errors) => assert!(!errors.to_string().is_empty(), "an error says something"),
    }
}
