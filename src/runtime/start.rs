//! From options to running cores, and back.
//!
//! Everything that can be refused is tried before the first core runs its driver: limits, io_uring, addresses,
//! executors. A core that fails afterwards takes the others down with it, and [`Running::join`] names it.

use super::{
    Driver,
    bell::Bell,
    checks::{self, Found},
    core_loop::{Core, panic_message},
    cpus,
    error::{RunError, StartError},
    inbox::{self, Receiver, Sender},
    listen::listen,
    mesh::{self, Mesh},
    net::{CoreLoads, Sockets},
    options::{Backend, Options},
    watch::{Lever, Watch},
};
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};
use std::{
    collections::VecDeque,
    net::{SocketAddr, TcpListener},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

const RING_DEPTH: usize = 256;
/// Long, because an executor whose preempt timer fires before its first task ran parks for ever
/// (docs/decisions/0006).
const PREEMPT_TIMER: Duration = Duration::from_secs(60);

/// What a driver may know about its place when it is made.
#[derive(Clone, Debug)]
pub struct CoreSeat {
    pub core: usize,
    pub cores: usize,
    /// The CPU this core is pinned to, if it is.
    pub cpu: Option<usize>,
    pub backend: Backend,
    /// As bound, in the order of [`Options::addresses`].
    pub addresses: Vec<SocketAddr>,
    pub pulse: Pulse,
}

/// Tells which cores still turn.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<Shared>);

impl Pulse {
    /// Milliseconds since the core last showed that its loop runs. A healthy core stays near 100, a busy one far
    /// below; one stuck in its driver grows without end.
    #[must_use]
    pub fn silent_ms(&self, core: usize) -> u64 {
        self.0.silent_ms(core)
    }
}

/// State shared by all threads of one run; touched ten times a second or when something ends.
#[derive(Debug)]
pub(super) struct Shared {
    epoch: Instant,
    beats: Vec<AtomicU64>,
    stopping: AtomicBool,
    bells: Vec<Arc<Bell>>,
    levers: Arc<[Lever]>,
}

impl Shared {
    /// Milliseconds since the run began: [`super::Clock::ms`].
    pub fn now_ms(&self) -> u64 {
        self.epoch.elapsed().as_millis() as u64
    }

    pub fn lever(&self, core: usize) -> &Lever {
        &self.levers[core]
    }

    pub fn beat(&self, core: usize) {
        self.beats[core].store(self.now_ms(), Ordering::Relaxed);
    }

    fn silent_ms(&self, core: usize) -> u64 {
        self.now_ms().saturating_sub(self.beats[core].load(Ordering::Relaxed))
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Ends all cores without asking their drivers.
    fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        for bell in &self.bells {
            bell.ring();
        }
    }
}

/// Cores at work. Dropping it stops them.
#[derive(Debug)]
pub struct Running<F> {
    addresses: Vec<SocketAddr>,
    found: Found,
    senders: Vec<Sender<F>>,
    threads: Vec<JoinHandle<Result<(), RunError>>>,
    watch: Option<Watch>,
    shared: Arc<Shared>,
}

impl<F> Running<F> {
    /// Addresses as bound, in the order of [`Options::addresses`].
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    #[must_use]
    pub fn cores(&self) -> usize {
        self.senders.len()
    }

    /// What carries the connections; the same on every core.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.found.backend
    }

    /// How many files this process may open, after raising its limit.
    #[must_use]
    pub fn open_files_max(&self) -> u64 {
        self.found.open_files_max
    }

    /// One per core, in order.
    #[must_use]
    pub fn senders(&self) -> &[Sender<F>] {
        &self.senders
    }

    #[must_use]
    pub fn pulse(&self) -> Pulse {
        Pulse(self.shared.clone())
    }

    /// Ends all cores at once, without asking their drivers.
    pub fn stop(&self) {
        self.shared.stop();
    }

    /// Waits until all cores have ended.
    ///
    /// # Errors
    /// The first core, by number, that ended otherwise than by its driver's wish.
    pub fn join(mut self) -> Result<(), RunError> {
        self.join_threads()
    }

    fn join_threads(&mut self) -> Result<(), RunError> {
        let mut result = Ok(());
        for (core, thread) in self.threads.drain(..).enumerate() {
            let ended = thread
                .join()
                .unwrap_or_else(|panic| Err(RunError::Panicked { core, message: panic_message(&*panic) }));
            result = result.and(ended);
        }
        if let Some(watch) = self.watch.take() {
            watch.end();
        }
        result
    }
}

impl<F> Drop for Running<F> {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.shared.stop();
        }
        // Whoever wants to know calls `join`.
        let _ = self.join_threads();
    }
}

/// What one core's thread starts with.
struct Thread<D: Driver, Make> {
    seat: CoreSeat,
    options: Arc<Options>,
    make: Make,
    listeners: Vec<TcpListener>,
    loads: CoreLoads,
    mesh: Mesh<D::Message>,
    inbox: Receiver<D::Foreign>,
    bell: Arc<Bell>,
    shared: Arc<Shared>,
}

/// Starts one core per entry of [`Options::cpus`], each with a driver that `make` builds on its own thread.
/// When this returns, all cores are running and connections to the addresses will be accepted.
///
/// # Errors
/// [`StartError`], one sentence with cause and remedy; nothing is left running then.
pub fn start<D: Driver>(
    options: Options,
    make: impl Fn(CoreSeat) -> D + Send + Sync + Clone + 'static,
) -> Result<Running<D::Foreign>, StartError> {
    if options.cpus.is_empty() {
        return Err(StartError::NoCores);
    }
    let cores = options.cpus.len();
    let found = checks::check(&options)?;
    let (listeners, addresses) = listen(&options.addresses, cores, options.backlog)?;
    let system = |source| StartError::System { what: "an event descriptor", source };
    let bells: Vec<Arc<Bell>> =
        (0..cores).map(|_| Bell::new().map(Arc::new)).collect::<Result<_, _>>().map_err(system)?;
    let shared = Arc::new(Shared {
        epoch: Instant::now(),
        beats: (0..cores).map(|_| AtomicU64::new(0)).collect(),
        stopping: AtomicBool::new(false),
        bells: bells.clone(),
        levers: bells.iter().cloned().map(Lever::new).collect(),
    });
    let watch = Watch::start(shared.levers.clone())
        .map_err(|source| StartError::System { what: "a thread", source })?;
    let pinned = cpus::distinct(&options.cpus);
    let options = Arc::new(options);
    let loads = CoreLoads::for_cores(cores, options.balance);
    let meshes = mesh::mesh(&bells, options.mesh_batches_max.max(1));
    let mut running = Running {
        addresses,
        found,
        senders: Vec::new(),
        threads: Vec::new(),
        watch: Some(watch),
        shared: shared.clone(),
    };
    let (report, reports) = mpsc::channel();
    for (core, ((listeners, loads), mesh)) in listeners.into_iter().zip(loads).zip(meshes).enumerate() {
        let (sender, inbox) = inbox::inbox(bells[core].clone(), options.inbox_messages_max.max(1));
        running.senders.push(sender);
        let seat = CoreSeat {
            core,
            cores,
            cpu: pinned.then_some(options.cpus[core]),
            backend: found.backend,
            addresses: running.addresses.clone(),
            pulse: running.pulse(),
        };
        let thread = Thread::<D, _> {
            seat,
            options: options.clone(),
            make: make.clone(),
            listeners,
            loads,
            mesh,
            inbox,
            bell: bells[core].clone(),
            shared: shared.clone(),
        };
        let report = report.clone();
        let handle = thread::Builder::new()
            .name(format!("corecast-{core}"))
            .spawn(move || thread.run(&report))
            .map_err(|error| StartError::Core { core, reason: error.to_string() })?;
        running.threads.push(handle);
    }
    drop(report);
    // A core that fails to start says so; when all have started, or one has not, nobody holds the channel or
    // an error is in it. Dropping `running` ends the others.
    for _ in 0..cores {
        reports.recv().unwrap_or_else(|_| {
            Err(StartError::Core { core: 0, reason: "its thread ended without a word".into() })
        })?;
    }
    Ok(running)
}

impl<D: Driver, Make: Fn(CoreSeat) -> D> Thread<D, Make> {
    fn run(self, report: &mpsc::Sender<Result<(), StartError>>) -> Result<(), RunError> {
        let core = self.seat.core;
        let shared = self.shared.clone();
        let result = catch_unwind(AssertUnwindSafe(|| self.run_executor(report))).unwrap_or_else(|panic| {
            let message = panic_message(&*panic);
            // Heard only while starting.
            let reason = format!("it panicked: {message}");
            let _ = report.send(Err(StartError::Core { core, reason }));
            Err(RunError::Panicked { core, message })
        });
        if result.is_err() {
            shared.stop();
        }
        result
    }

    fn run_executor(self, report: &mpsc::Sender<Result<(), StartError>>) -> Result<(), RunError> {
        match executor(self.seat.cpu) {
            // The core never gives the thread back, so the executor never parks (docs/decisions/0009).
            Ok(executor) => executor.run(async move { self.live(report) }),
            Err(reason) => {
                let _ = report.send(Err(StartError::Core { core: self.seat.core, reason }));
                Ok(())
            }
        }
    }

    /// Builds what must be built on this thread and runs it.
    fn live(self, report: &mpsc::Sender<Result<(), StartError>>) -> Result<(), RunError> {
        let index = self.seat.core;
        let bell = self.bell.clone();
        let net = Sockets::new(&self.options, self.seat.backend, self.listeners, self.loads, bell);
        let net = match net {
            Ok(net) => net,
            Err(error) => {
                let reason = format!("its ring was refused ({error})");
                let _ = report.send(Err(StartError::Core { core: index, reason }));
                return Ok(());
            }
        };
        let core = Core {
            index,
            driver: (self.make)(self.seat),
            net,
            mesh: self.mesh,
            inbox: self.inbox,
            bell: self.bell,
            shared: self.shared,
            foreign: VecDeque::new(),
        };
        core.shared.beat(index);
        let _ = report.send(Ok(()));
        core.run()
    }
}

fn executor(cpu: Option<usize>) -> Result<LocalExecutor, String> {
    let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
    LocalExecutorBuilder::new(placement)
        .io_memory(0)
        .ring_depth(RING_DEPTH)
        .preempt_timer(PREEMPT_TIMER)
        .make()
        .map_err(|error| error.to_string())
}
