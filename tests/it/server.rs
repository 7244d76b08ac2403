//! A `corecast serve` of a test's own.

use std::{
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Nothing in these tests takes longer on a machine that works.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Both backends, on one core and on two.
pub const VARIANTS: [[&str; 2]; 4] = [
    ["runtime.backend=ring", "runtime.cores=1"],
    ["runtime.backend=ring", "runtime.cores=2"],
    ["runtime.backend=poll", "runtime.cores=1"],
    ["runtime.backend=poll", "runtime.cores=2"],
];

/// Asks again until there is an answer.
#[track_caller]
pub fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begin.elapsed() < PATIENCE, "it never came");
    }
}

pub struct Server {
    child: Child,
    pub address: SocketAddr,
    said: Arc<(Mutex<Said>, Condvar)>,
}

#[derive(Default)]
struct Said {
    text: String,
    ended: bool,
}

/// The command with these settings, on a port the system chooses.
pub fn command(settings: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corecast"));
    command.args(["serve", "--set", "http_server.address=127.0.0.1", "--set", "http_server.port=0"]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

impl Server {
    pub fn start(settings: &[&str]) -> Self {
        Self::spawn(command(settings))
    }

    /// Started with `--dev`: everything is allowed.
    pub fn dev(settings: &[&str]) -> Self {
        let mut command = command(settings);
        command.arg("--dev");
        Self::spawn(command)
    }

    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the server's program");
        let said: Arc<(Mutex<Said>, Condvar)> = Arc::default();
        let stderr = BufReader::new(child.stderr.take().expect("its error output"));
        let writer = Arc::clone(&said);
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut said = writer.0.lock().expect("a lock");
                said.text.push_str(&line);
                said.text.push('\n');
                writer.1.notify_all();
            }
            writer.0.lock().expect("a lock").ended = true;
            writer.1.notify_all();
        });
        let mut server = Self { child, address: ([127, 0, 0, 1], 0).into(), said };
        server.wait_for(" ready on ");
        let text = server.said();
        let rest = text.split(" ready on ").nth(1).expect("the ready line");
        server.address = rest.split(' ').next().and_then(|it| it.parse().ok()).expect("its address");
        server
    }

    /// Everything it wrote to its error output so far.
    pub fn said(&self) -> String {
        self.said.0.lock().unwrap_or_else(PoisonError::into_inner).text.clone()
    }

    /// Waits until it has written this.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let (said, changed) = &*self.said;
        let said = said.lock().expect("a lock");
        let (said, timeout) = changed
            .wait_timeout_while(said, PATIENCE, |said| !said.text.contains(text) && !said.ended)
            .expect("a lock");
        assert!(!timeout.timed_out() && said.text.contains(text), "no {text:?} in: {}", said.text);
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        stream
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let done = Command::new("kill").args(["-s", name, &pid]).status().expect("kill");
        assert!(done.success());
    }

    /// Waits for the end of the process.
    pub fn ended(&mut self) -> ExitStatus {
        exit_of(&mut self.child)
    }
}

pub fn exit_of(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("the child's status") {
            return status;
        }
        assert!(start.elapsed() < PATIENCE, "the process does not end");
        thread::park_timeout(Duration::from_millis(5));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the server said:\n{}", self.said());
        }
    }
}
