//! Asks backends for the cores, on threads of its own: DNS, TLS and slow answers hold up nobody but who waits for them.
//!
//! There are as many threads as calls are open, up to a limit, and then calls wait in a queue that is bounded too. A
//! connection to a backend is kept for the next call. What a backend answers is read here, so that a core gets
//! values. Why a call failed goes to the log, at most once in [`REPORT_EVERY`] for each kind of call.

use crate::{
    broker::seam::{BackendAnswer, BackendRequest, BackendResult, PollRefresh},
    config::{Proxy, Settings},
    runtime::{SendError, Sender},
    transport::{BackendJob, Foreign, Level, Log},
};
use rustls::crypto::aws_lc_rs;
use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};
use ureq::{
    Agent,
    http::Response,
    tls::{TlsConfig, TlsProvider},
};

/// How often failures are told of.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// A core whose inbox is full is told a little later.
const AGAIN: Duration = Duration::from_millis(5);

/// Enough for TLS and for an answer that is read.
const STACK_SIZE: usize = 512 * 1024;

/// The queue of calls, if there is anything to call.
pub struct Queue {
    pub jobs: Option<SyncSender<BackendJob>>,
    waiting: Receiver<BackendJob>,
}

impl Queue {
    pub fn new(settings: &Settings) -> Self {
        let (jobs, waiting) = sync_channel(settings.backend.queue_max_calls);
        let any = !settings.channel.proxy.shared_poll_refresh.endpoint.is_empty();
        Self { jobs: any.then_some(jobs), waiting }
    }
}

/// What all threads have in common.
struct Room {
    jobs: Mutex<Receiver<BackendJob>>,
    cores: Vec<Sender<Foreign>>,
    log: Arc<dyn Log>,
    poll_refresh: Backend,
    answer_size_max: u64,
    threads_max: usize,
    threads: AtomicUsize,
    idle: AtomicUsize,
}

/// Where calls of one kind go.
struct Backend {
    /// The section of the configuration.
    name: &'static str,
    agent: Agent,
    endpoint: String,
    headers: Vec<(String, String)>,
    reports: Mutex<Reports>,
}

#[derive(Default)]
struct Reports {
    at: Option<Instant>,
    /// Failures since.
    untold: u64,
    failing: bool,
}

/// Starts the first thread, where there is anything to call. They end with the cores.
///
/// # Errors
/// The system has no thread to give.
pub fn start(
    settings: &Settings,
    log: &Arc<dyn Log>,
    queue: Queue,
    cores: Vec<Sender<Foreign>>,
) -> Result<(), io::Error> {
    if queue.jobs.is_none() {
        return Ok(());
    }
    let threads_max = settings.shared_poll.concurrency_limit;
    let proxy = &settings.channel.proxy.shared_poll_refresh;
    let room = Room {
        jobs: Mutex::new(queue.waiting),
        cores,
        log: Arc::clone(log),
        poll_refresh: Backend::new("channel.proxy.shared_poll_refresh", proxy, threads_max),
        answer_size_max: settings.backend.answer_size_max as u64,
        threads_max,
        threads: AtomicUsize::new(1),
        idle: AtomicUsize::new(0),
    };
    spawn(Arc::new(room))
}

fn spawn(room: Arc<Room>) -> Result<(), io::Error> {
    let builder = thread::Builder::new().name("corecast-backend".into()).stack_size(STACK_SIZE);
    builder.spawn(move || room.serve()).map(drop)
}

impl Backend {
    /// No redirects and no proxy: an endpoint is where the configuration says.
    fn new(name: &'static str, proxy: &Proxy, calls_max: usize) -> Self {
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
            .build();
        let config = Agent::config_builder()
            .timeout_global(Some(proxy.timeout))
            .max_redirects(0)
            .http_status_as_error(false)
            .max_idle_connections(calls_max)
            .max_idle_connections_per_host(calls_max)
            .proxy(None)
            .user_agent(concat!("corecast/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .build();
        Self {
            name,
            agent: config.into(),
            endpoint: proxy.endpoint.clone(),
            headers: proxy.http.static_headers.0.clone(),
            reports: Mutex::default(),
        }
    }

    /// The body of an answer with status 200.
    fn post(&self, body: &[u8], size_max: u64) -> Result<Vec<u8>, String> {
        let mut request = self.agent.post(&self.endpoint).header("Content-Type", "application/json");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut answer: Response<_> = request.send(body).map_err(|error| error.to_string())?;
        if answer.status() != 200 {
            return Err(format!("it answered {}", answer.status()));
        }
        let body = answer.body_mut().with_config().limit(size_max).read_to_vec();
        body.map_err(|error| error.to_string())
    }

    fn report(&self, log: &dyn Log, failure: Option<&str>) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let name = self.name;
        let Some(reason) = failure else {
            if std::mem::take(&mut reports.failing) {
                *reports = Reports::default();
                if log.enabled(Level::Info) {
                    log.write(Level::Info, format_args!("the backend of {name} answers again"));
                }
            }
            return;
        };
        reports.failing = true;
        if reports.at.is_some_and(|at| at.elapsed() < REPORT_EVERY) {
            reports.untold += 1;
            return;
        }
        reports.at = Some(Instant::now());
        let untold = std::mem::take(&mut reports.untold);
        if log.enabled(Level::Warn) {
            let line =
                format_args!("no answer from the backend of {name} ({untold} more since the last): {reason}");
            log.write(Level::Warn, line);
        }
    }
}

impl Room {
    fn serve(self: Arc<Self>) {
        loop {
            self.idle.fetch_add(1, Ordering::Relaxed);
            let job = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let others_idle = self.idle.fetch_sub(1, Ordering::Relaxed) - 1;
            let Ok(job) = job else { return };
            if others_idle == 0 {
                self.grow();
            }
            let (id, core, asked) = (job.call.id, job.core, Instant::now());
            let answer = self.ask(&job.call.request);
            let micros = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.tell(core, Foreign::Backend { id, result: BackendResult { answer, micros } });
        }
    }

    /// One more thread, for the next call. Without it that call waits for one that is open.
    fn grow(self: &Arc<Self>) {
        let more = |threads: usize| (threads < self.threads_max).then_some(threads + 1);
        if self.threads.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
            && spawn(Arc::clone(self)).is_err()
        {
            self.threads.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn ask(&self, request: &BackendRequest) -> Option<BackendAnswer> {
        let (backend, answer) = match request {
            BackendRequest::PollRefresh(refresh) => {
                let backend = &self.poll_refresh;
                let body = backend.post(&refresh.body(), self.answer_size_max);
                let read = |body: Vec<u8>| PollRefresh::answer(&body).map_err(|error| error.to_string());
                (backend, body.and_then(read).map(BackendAnswer::PollRefresh))
            }
        };
        backend.report(&*self.log, answer.as_ref().err().map(String::as_str));
        answer.ok()
    }

    /// Every call is answered, or its core would wait for ever.
    fn tell(&self, core: u16, mut message: Foreign) {
        let Some(core) = self.cores.get(usize::from(core)) else { return };
        while let Err(SendError::Full(again)) = core.send(message) {
            message = again;
            thread::sleep(AGAIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{BufRead, BufReader, Write},
        net::TcpListener,
    };

    /// Answers requests on one connection after the other, in order, and tells what it was asked on which.
    fn backend(answers: Vec<(Duration, String)>) -> (Backend, thread::JoinHandle<Vec<(usize, String)>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}/refresh", listener.local_addr().unwrap());
        let headers = crate::config::Headers(vec![("X-Key".into(), "k".into())]);
        let mut proxy = Proxy { endpoint, timeout: Duration::from_millis(300), ..Proxy::default() };
        proxy.http.static_headers = headers;
        let serve = move || {
            let (mut asked, mut answers) = (Vec::new(), answers.into_iter().peekable());
            for connection in 0.. {
                if answers.peek().is_none() {
                    return asked;
                }
                let mut stream = BufReader::new(listener.accept().unwrap().0);
                while let Some(request) = request(&mut stream) {
                    asked.push((connection, request));
                    let Some((delay, answer)) = answers.next() else { return asked };
                    thread::sleep(delay);
                    let closes = answer.contains("Connection: close");
                    if stream.get_mut().write_all(answer.as_bytes()).is_err() || closes {
                        break;
                    }
                }
            }
            asked
        };
        (Backend::new("test", &proxy, 4), thread::spawn(serve))
    }

    fn request(stream: &mut impl BufRead) -> Option<String> {
        let (mut head, mut len) = (String::new(), 0);
        loop {
            let at = head.len();
            if stream.read_line(&mut head).ok()? == 0 {
                return None;
            }
            let line = head[at..].to_ascii_lowercase();
            if let Some(text) = line.strip_prefix("content-length:") {
                len = text.trim().parse().ok()?;
            }
            if line == "\r\n" {
                let mut body = vec![0; len];
                stream.read_exact(&mut body).ok()?;
                return Some(head + std::str::from_utf8(&body).ok()?);
            }
        }
    }

    fn answer(status: &str, body: &str) -> (Duration, String) {
        (Duration::ZERO, format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    }

    #[test]
    fn requests_share_a_connection_and_carry_what_the_configuration_says() {
        let (backend, served) = backend(vec![answer("200 OK", "{}"), answer("200 OK", "[1]")]);
        assert_eq!(backend.post(b"{\"a\":1}", 100), Ok(b"{}".to_vec()));
        assert_eq!(backend.post(b"{}", 100), Ok(b"[1]".to_vec()));
        drop(backend);
        let asked = served.join().unwrap();
        assert_eq!(asked.iter().map(|(connection, _)| *connection).collect::<Vec<_>>(), [0, 0]);
        let first = asked[0].1.to_ascii_lowercase();
        assert!(first.starts_with("post /refresh http/1.1\r\n"), "{first}");
        assert!(
            first.contains("content-type: application/json\r\n") && first.contains("x-key: k\r\n"),
            "{first}"
        );
        assert!(first.ends_with("\r\n\r\n{\"a\":1}"), "{first}");
    }

    #[test]
    fn what_is_no_answer_in_time_and_size_is_a_failure() {
        let close = |status: &str, body: &str| {
            let (delay, text) = answer(status, body);
            (delay, text.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"))
        };
        let (backend, served) = backend(vec![
            close("503 Service Unavailable", ""),
            close("302 Found\r\nLocation: /other", ""),
            close("200 OK", &"x".repeat(101)),
            (Duration::from_millis(600), close("200 OK", "{}").1),
            close("200 OK", "ok"),
        ]);
        let mut reasons = Vec::new();
        for _ in 0..4 {
            reasons.push(backend.post(b"{}", 100).unwrap_err());
        }
        assert!(reasons[0].contains("503"), "{reasons:?}");
        assert!(reasons[2].contains("limit") || reasons[2].contains("large"), "{reasons:?}");
        assert!(reasons[3].contains("timeout"), "{reasons:?}");
        let good = (0..50).find_map(|_| {
            thread::sleep(Duration::from_millis(20));
            backend.post(b"{}", 100).ok()
        });
        assert_eq!(good, Some(b"ok".to_vec()));
        assert!(served.join().unwrap().iter().all(|(_, asked)| asked.starts_with("POST /refresh")));
    }
}
