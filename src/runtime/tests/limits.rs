//! What the process may not have: tried out in children of their own, because limits concern a whole process.

use super::harness::{BACKENDS, Command, PATIENCE, Seen, Server, options};
use crate::runtime::{Backend, BackendChoice, Options, StartError, start};
use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{self, Child, ChildStdout, Stdio},
};

/// Tells a test that it runs in such a child, and on which backend.
const CHILD: &str = "CORECAST_TEST_CHILD";

fn backend_of_child() -> Option<Backend> {
    match env::var(CHILD).ok()?.as_str() {
        "ring" => Some(Backend::Ring),
        _ => Some(Backend::Poll),
    }
}

/// Runs the test with this name again, in a child with the limit (`ulimit` letter and value).
fn spawn(test: &str, backend: Backend, letter: char, limit: u32) -> (Child, BufReader<ChildStdout>) {
    let name = if backend == Backend::Ring { "ring" } else { "poll" };
    let binary = env::current_exe().expect("a path");
    let mut child = process::Command::new("sh")
        .arg("-c")
        .arg(format!("ulimit -{letter} {limit} && exec \"$0\" --exact --nocapture \"$1\""))
        .arg(binary)
        .arg(format!("runtime::tests::limits::{test}"))
        .env(CHILD, name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    (child, output)
}

/// The rest of the first line that contains `mark`.
fn line_after(output: &mut BufReader<ChildStdout>, mark: &str) -> String {
    let mut all = String::new();
    loop {
        let mut line = String::new();
        assert_ne!(output.read_line(&mut line).expect("text"), 0, "the child said only:\n{all}");
        if let Some((_, rest)) = line.split_once(mark) {
            return rest.trim().to_owned();
        }
        all += &line;
    }
}

fn echo(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut [0]).is_ok()
}

fn cpu_ms() -> u64 {
    // SAFETY: all-zero is a valid rusage, which the call fills in.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &raw mut usage), 0);
        usage
    };
    [usage.ru_utime, usage.ru_stime].iter().map(|it| (it.tv_sec * 1000 + it.tv_usec / 1000) as u64).sum()
}

#[test]
fn running_out_of_descriptors_hurts_nobody_inside() {
    if let Some(backend) = backend_of_child() {
        let server = Server::start(1, backend);
        server.order(0, Command::Tidy);
        println!("address {}", server.address());
        // Until the parent says it is over.
        let before = cpu_ms();
        let _ = std::io::stdin().read(&mut [0]);
        println!("cpu {}", cpu_ms() - before);
        return server.stop();
    }
    for backend in BACKENDS {
        let (mut child, mut output) =
            spawn("running_out_of_descriptors_hurts_nobody_inside", backend, 'n', 64);
        let address: SocketAddr = line_after(&mut output, "address ").parse().expect("an address");
        let mut inside = Vec::new();
        let mut refused = 0;
        while refused < 20 {
            let mut stream = TcpStream::connect(address).expect("the kernel takes it");
            if echo(&mut stream) {
                assert_eq!(refused, 0, "{backend:?}: nobody left");
                inside.push(stream);
            } else {
                refused += 1;
            }
        }
        assert!(inside.len() > 20, "{backend:?}: {} are inside", inside.len());
        assert!(inside.iter_mut().all(echo), "{backend:?}: those inside stay");
        inside.truncate(10);
        let mut welcome = 0;
        while welcome < 5 {
            let mut stream = TcpStream::connect(address).expect("the kernel takes it");
            if echo(&mut stream) {
                welcome += 1;
                inside.push(stream);
            }
        }
        drop(child.stdin.take());
        let cpu_ms: u64 = line_after(&mut output, "cpu ").parse().expect("a number");
        assert!(cpu_ms < 1500, "{backend:?}: {cpu_ms} ms spent");
        assert!(child.wait().expect("an end").success());
    }
}

// Row: limit, what the child must say.
#[test]
fn too_low_limits_are_said_so() {
    if let Some(backend) = backend_of_child() {
        let (say, _seen) = std::sync::mpsc::channel();
        let make = move |seat| super::harness::Echo::new(&seat, say.clone());
        match start(options(2, backend), make) {
            Ok(_) => println!("said: started"),
            Err(error) => println!("said: {error}"),
        }
        return;
    }
    #[track_caller]
    fn check(letter: char, limit: u32, want: &str) {
        for backend in BACKENDS {
            let (mut child, mut output) = spawn("too_low_limits_are_said_so", backend, letter, limit);
            let said = line_after(&mut output, "said: ");
            assert!(said.starts_with(want), "{backend:?}: {said}");
            assert!(child.wait().expect("an end").success());
        }
    }
    check('l', 0, "only 0 KiB of memory may be locked, 512 KiB are needed: raise it");
    check('l', 511, "only 511 KiB of memory may be locked");
    check('l', 512, "started");
    check('n', 39, "only 39 files may be open, at least 40 are needed: raise it");
    check('n', 40, "started");
}

#[test]
fn a_core_that_cannot_be_is_an_error() {
    let mut unpinnable = options(1, Backend::Poll);
    unpinnable.cpus = vec![100_000];
    let (say, _seen) = std::sync::mpsc::channel();
    let error = start(unpinnable, move |seat| super::harness::Echo::new(&seat, say.clone()))
        .expect_err("there is no such CPU");
    assert!(matches!(error, StartError::Core { core: 0, .. }), "{error}");
}

#[test]
fn a_driver_that_cannot_be_made_is_an_error() {
    let (say, _seen) = std::sync::mpsc::channel();
    let make = move |seat: crate::runtime::CoreSeat| {
        assert_ne!(seat.core, 1, "no luck");
        super::harness::Echo::new(&seat, say.clone())
    };
    let error = start(options(2, Backend::Poll), make).expect_err("core 1 has no driver");
    assert!(matches!(error, StartError::Core { core: 1, .. }), "{error}");
}

#[test]
fn auto_finds_a_backend() {
    let server = Server::with(Options { backend: BackendChoice::Auto, ..options(1, Backend::Ring) });
    let mut stream = TcpStream::connect(server.address()).expect("accepted");
    assert!(echo(&mut stream), "{:?} works", server.running.backend());
    server.tell(0, Command::Report);
    server.until(|seen| matches!(seen, Seen::Report { .. }).then_some(()));
    server.stop();
}
