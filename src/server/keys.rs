//! Fetches key sets for the cores, on a thread of its own: DNS, TLS and slow endpoints hold nobody up but tokens that
//! wait for them.
//!
//! Every core is told what an endpoint said, so one question serves all of them. However many cores ask, an
//! endpoint is asked at most once in [`REFETCH_MS`]; every [`REFRESH`] those in use are asked again, so that a
//! key that was withdrawn stops being one. What an endpoint said stays valid while it does not answer.

use crate::{
    auth::{KeySet, REFETCH_MS},
    config::Settings,
    runtime::Sender,
    transport::{Foreign, Level, Log},
};
use rustls::crypto::aws_lc_rs;
use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};
use ureq::{
    Agent,
    tls::{TlsConfig, TlsProvider},
};

/// Endpoints that may wait to be asked.
pub const WAITING_MAX: usize = 64;

/// Bytes of a set of keys.
const SIZE_MAX: u64 = 256 * 1024;

/// How long one answer may take, from the look-up of the name to the last byte.
const PATIENCE: Duration = Duration::from_secs(4);

/// How often keys in use are asked for again.
const REFRESH: Duration = Duration::from_secs(3600);

/// Endpoints that are refreshed; others are asked when a token needs them.
const REFRESHED_MAX: usize = 256;

struct Asked {
    at: Instant,
    keys: Option<Arc<KeySet>>,
}

struct Fetcher {
    agent: Agent,
    cores: Vec<Sender<Foreign>>,
    log: Arc<dyn Log>,
    asked: HashMap<Arc<str>, Asked>,
}

/// Starts the thread, where tokens have keys to be fetched. It ends with the cores.
///
/// # Errors
/// The system has no thread to give.
pub fn start(
    settings: &Settings,
    log: &Arc<dyn Log>,
    wanted: Receiver<Arc<str>>,
    cores: Vec<Sender<Foreign>>,
) -> Result<(), io::Error> {
    let client = &settings.client;
    let fetched = [&client.token, &client.subscription_token.token]
        .iter()
        .any(|token| !token.jwks_public_endpoint.is_empty());
    if fetched {
        let fetcher = Fetcher { agent: agent(), cores, log: Arc::clone(log), asked: HashMap::new() };
        thread::Builder::new().name("corecast-keys".into()).spawn(move || fetcher.run(&wanted))?;
    }
    Ok(())
}

/// No redirects: an endpoint is where the configuration says.
fn agent() -> Agent {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
        .build();
    let config = Agent::config_builder().timeout_global(Some(PATIENCE)).max_redirects(0).tls_config(tls);
    config.build().into()
}

impl Fetcher {
    fn run(mut self, wanted: &Receiver<Arc<str>>) {
        loop {
            match wanted.recv_timeout(REFRESH / 60) {
                Ok(endpoint) => self.serve(&endpoint),
                Err(RecvTimeoutError::Timeout) => self.refresh(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// A core wants the keys of this endpoint. Another one may have asked just now.
    fn serve(&mut self, endpoint: &Arc<str>) {
        let recent = |asked: &&Asked| asked.at.elapsed() < Duration::from_millis(REFETCH_MS);
        match self.asked.get(endpoint).filter(recent) {
            Some(asked) => self.tell(endpoint, asked.keys.as_ref()),
            None => self.ask(endpoint),
        }
    }

    fn refresh(&mut self) {
        let due: Vec<_> = self
            .asked
            .iter()
            .filter(|(_, asked)| asked.keys.is_some() && asked.at.elapsed() >= REFRESH)
            .map(|(endpoint, _)| Arc::clone(endpoint))
            .collect();
        due.iter().for_each(|endpoint| self.ask(endpoint));
    }

    fn ask(&mut self, endpoint: &Arc<str>) {
        let keys = match self.fetch(endpoint) {
            Ok(keys) => Some(Arc::new(keys)),
            Err(reason) => {
                if self.log.enabled(Level::Warn) {
                    let line =
                        format_args!("no keys from {endpoint} (client.token.jwks_public_endpoint): {reason}");
                    self.log.write(Level::Warn, line);
                }
                None
            }
        };
        if self.asked.len() >= REFRESHED_MAX {
            self.asked.retain(|_, asked| asked.at.elapsed() < Duration::from_millis(REFETCH_MS));
        }
        self.tell(endpoint, keys.as_ref());
        self.asked.insert(Arc::clone(endpoint), Asked { at: Instant::now(), keys });
    }

    fn fetch(&self, endpoint: &str) -> Result<KeySet, String> {
        let mut answer = self.agent.get(endpoint).call().map_err(|error| error.to_string())?;
        if answer.status() != 200 {
            return Err(format!("it answered {}", answer.status()));
        }
        let body = answer.body_mut().with_config().limit(SIZE_MAX).read_to_vec();
        KeySet::read(&body.map_err(|error| error.to_string())?)
    }

    fn tell(&self, endpoint: &Arc<str>, keys: Option<&Arc<KeySet>>) {
        for core in &self.cores {
            // A core whose inbox is full gives up waiting by itself.
            let _ = core.send(Foreign::Keys { endpoint: Arc::clone(endpoint), keys: keys.cloned() });
        }
    }
}
