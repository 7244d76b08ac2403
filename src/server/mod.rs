//! Makes a server of the parts: cores, listeners, signals, the end.
//!
//! The calling thread waits for signals and for the cores. The first SIGTERM or SIGINT drains: accepting stops,
//! every client is told 3001, answers that are owed are given, and the process ends when all connections
//! have, at the latest after `shutdown.timeout`. A second one ends it at once. SIGHUP reads the certificate anew, and so does a change of
//! its files.

mod backend;
mod grpc;
mod keys;
mod log;
mod ready;
mod tls;

pub use log::Stderr;
pub use tls::problems as tls_problems;

use crate::{
    config::{Backend, Cores, Settings},
    runtime::{self, BackendChoice, CoreSeat, RunError, StartError},
    transport::{
        BackendJob, CoreDriver, Foreign, Gate, Identity, Level, Log, Shared,
        tls::{Tls, Unusable},
    },
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener},
    sync::{Arc, mpsc},
    thread,
    time::Instant,
};
use tls::Acceptors;

/// How to run, beside the settings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Print lines to paste.
    pub dev: bool,
}

/// Why the server did not start, or ended otherwise than asked. One sentence: the cause, then the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("{0} {1:?} is not an IP address: write one of this machine, or leave it empty for all")]
    Address(&'static str, String),
    #[error(
        "cannot serve uni_grpc on {address} ({source}): see uni_grpc.address and uni_grpc.port, and what else listens there"
    )]
    Grpc { address: SocketAddr, source: io::Error },
    #[error("{}.{}: {}", .0, .1.option, .1.reason)]
    Tls(&'static str, Unusable),
    #[error("cannot listen for signals ({0}): check the limits of this process")]
    Signals(io::Error),
    #[error("the system has no randomness to give ({0}): see that /dev/urandom or getrandom(2) is reachable")]
    Random(getrandom::Error),
    #[error("the system gives no further thread ({0}): check the limits of this process")]
    Thread(io::Error),
    #[error("stopped by a second signal before all clients were told")]
    Forced,
}

/// What the waiting thread hears.
enum Event {
    /// To end.
    Signal,
    Reload,
    Ended(Result<(), RunError>),
}

/// Serves until told to stop.
///
/// # Errors
/// [`ServeError`]; nothing is left running then, except after [`ServeError::Forced`].
pub fn run(settings: Settings, options: Options) -> Result<(), ServeError> {
    let log: Arc<dyn Log> = Arc::new(Stderr::new(&settings.log.level));
    let settings = Arc::new(settings);
    let acceptors = Acceptors::new(&settings).map_err(|(part, why)| ServeError::Tls(part, why))?;
    // Before the cores, so that their threads inherit nothing that would end them.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(ServeError::Signals)?;
    let grpc = grpc_listener(&settings)?;
    let (key_fetches, wanted_keys) = mpsc::sync_channel(keys::WAITING_MAX);
    let calls = backend::Queue::new(&settings);
    let drivers = drivers(&settings, &log, key_fetches, calls.jobs.clone())?;
    let running = match &acceptors.http {
        None => runtime::start(runtime_options(&settings)?, drivers)?,
        Some(acceptor) => {
            let (settings, acceptor, log) = (Arc::clone(&settings), Arc::clone(acceptor), Arc::clone(&log));
            let options = runtime_options(&settings)?;
            runtime::start(options, move |seat: CoreSeat| {
                let options = tls::options(&settings, seat.core);
                Tls::new(drivers(seat), Arc::clone(&acceptor), options, Arc::clone(&log))
            })?
        }
    };
    let backend = format!("{:?}", running.backend()).to_lowercase();
    if settings.runtime.backend == Backend::Auto
        && running.backend() == runtime::Backend::Poll
        && log.enabled(Level::Warn)
    {
        log.write(
            Level::Warn,
            format_args!("this kernel does not allow the ring backend, so connections are served by poll: slower, otherwise the same"),
        );
    }
    if log.enabled(Level::Info) {
        log.write(Level::Info, format_args!("at most {} open files", running.open_files_max()));
    }
    ready::say(&settings, running.addresses(), running.cores(), &backend, options.dev);

    let senders = running.senders().to_vec();
    keys::start(&settings, &log, wanted_keys, senders.clone()).map_err(ServeError::Thread)?;
    backend::start(&settings, &log, calls, senders.clone()).map_err(ServeError::Thread)?;
    let grpc = grpc
        .map(|listener| grpc::start(&settings, &log, listener, acceptors.grpc.clone(), senders.clone()))
        .transpose()
        .map_err(ServeError::Thread)?;
    let (events, inbox) = mpsc::channel();
    let on_signal = events.clone();
    let signal_handle = signals.handle();
    thread::spawn(move || {
        signals.forever().try_for_each(|signal| {
            on_signal.send(if signal == SIGHUP { Event::Reload } else { Event::Signal })
        })
    });
    thread::spawn(move || events.send(Event::Ended(running.join())));

    let tell = |message: fn() -> Foreign| {
        for sender in &senders {
            // A core that has ended needs no telling.
            let _ = sender.send(message());
        }
    };
    let mut deadline: Option<Instant> = None;
    let mut watch = tls::Watch::new(&settings);
    let ended = loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let event = match [left, watch.every()].into_iter().flatten().min() {
            None => inbox.recv().ok(),
            Some(wait) => inbox.recv_timeout(wait).ok(),
        };
        match event {
            Some(Event::Ended(result)) => break result.map_err(ServeError::from),
            Some(Event::Reload) => acceptors.reload(&settings, &*log),
            Some(Event::Signal) if deadline.is_some() => break Err(ServeError::Forced),
            Some(Event::Signal) => {
                if log.enabled(Level::Info) {
                    log.write(Level::Info, format_args!("stopping: telling every client 3001"));
                }
                deadline = Some(Instant::now() + settings.shutdown.timeout);
                tell(|| Foreign::Drain);
                grpc.iter().for_each(grpc::Serving::drain);
            }
            None if left.is_none_or(|left| !left.is_zero()) => {
                if watch.has_changed() {
                    acceptors.reload(&settings, &*log);
                }
            }
            None => {
                if log.enabled(Level::Warn) {
                    log.write(Level::Warn, format_args!("shutdown.timeout has passed: cutting what is left"));
                }
                tell(|| Foreign::Stop);
                break loop {
                    match inbox.recv() {
                        Ok(Event::Reload) => {}
                        Ok(Event::Ended(result)) => break result.map_err(ServeError::from),
                        Ok(Event::Signal) => break Err(ServeError::Forced),
                        Err(_) => break Ok(()),
                    }
                };
            }
        }
    };
    signal_handle.close();
    if let (Some(grpc), Some(deadline)) = (grpc, deadline) {
        grpc.wait(deadline);
    }
    ended
}

fn grpc_listener(settings: &Settings) -> Result<Option<TcpListener>, ServeError> {
    let uni_grpc = &settings.uni_grpc;
    if !uni_grpc.enabled {
        return Ok(None);
    }
    let address = address("uni_grpc.address", &uni_grpc.address, uni_grpc.port)?;
    TcpListener::bind(address).map(Some).map_err(|source| ServeError::Grpc { address, source })
}

fn runtime_options(settings: &Settings) -> Result<runtime::Options, ServeError> {
    let cores = match &settings.runtime.cores {
        Cores::All => runtime::Cores::All,
        Cores::Count(count) => runtime::Cores::Count(*count),
        Cores::List(list) => runtime::Cores::List(list.clone()),
    };
    let runtime = &settings.runtime;
    Ok(runtime::Options {
        cpus: runtime::choose_cpus(&cores)?,
        backend: match runtime.backend {
            Backend::Auto => BackendChoice::Auto,
            Backend::Ring => BackendChoice::Ring,
            Backend::Poll => BackendChoice::Poll,
        },
        addresses: vec![address(
            "http_server.address",
            &settings.http_server.address,
            settings.http_server.port,
        )?],
        backlog: runtime.listen_backlog,
        buffer_count: runtime.buffer_count,
        buffer_size: runtime.buffer_size,
        turn_completions_max: runtime.turn_completions_max,
        turn_time_max: runtime.turn_time_max,
        balance: runtime.balance,
        first_key: settings.sockjs.keys(),
        ..runtime::Options::default()
    })
}

/// All addresses means IPv6 and IPv4 through one socket, or IPv4 alone where there is no IPv6.
fn address(key: &'static str, text: &str, port: u16) -> Result<SocketAddr, ServeError> {
    if text.is_empty() {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        return Ok(match TcpListener::bind(any) {
            Ok(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
            Err(_) => SocketAddr::from(([0, 0, 0, 0], port)),
        });
    }
    let ip: IpAddr = match text {
        "localhost" => [127, 0, 0, 1].into(),
        text => text.parse().map_err(|_| ServeError::Address(key, text.to_owned()))?,
    };
    Ok(SocketAddr::new(ip, port))
}

/// What builds the driver of each core, on its thread.
fn drivers(
    settings: &Arc<Settings>,
    log: &Arc<dyn Log>,
    key_fetches: mpsc::SyncSender<Arc<str>>,
    backend: Option<mpsc::SyncSender<BackendJob>>,
) -> Result<impl Fn(CoreSeat) -> CoreDriver + Send + Sync + Clone + 'static, ServeError> {
    let (settings, log) = (Arc::clone(settings), Arc::clone(log));
    let mut random = [0u8; 32];
    getrandom::fill(&mut random).map_err(ServeError::Random)?;
    let word = |at: usize| random[at..at + 8].iter().fold(0u64, |word, &byte| word << 8 | u64::from(byte));
    let (hash_key, seed) = (word(0), word(8));
    let uid =
        crate::model::ClientId::from_random(u128::from(word(16)) << 64 | u128::from(word(24))).to_string();
    let shared: Arc<std::sync::OnceLock<Arc<Shared>>> = Arc::default();
    Ok(move |seat: CoreSeat| {
        let shared = shared.get_or_init(|| {
            let gate = Gate::new(&settings.client, seed);
            Arc::new(Shared::new(seat.cores, gate, key_fetches.clone(), backend.clone()))
        });
        let port = seat.addresses.first().map_or(0, SocketAddr::port);
        let name = match settings.node.name.as_str() {
            "" => format!("{}_{port}", ready::host_name()),
            name => name.to_owned(),
        };
        // The clock of the cores begins with the run.
        let identity = Identity { uid: uid.clone(), name, version: env!("CARGO_PKG_VERSION"), started_ms: 0 };
        // Distinct seeds by a large odd step.
        let seed = seed.wrapping_add((seat.core as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        CoreDriver::new(
            &seat,
            seed,
            hash_key,
            &settings,
            Arc::new(identity),
            Arc::clone(shared),
            Arc::clone(&log),
        )
    })
}
