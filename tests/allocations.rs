//! The whole server in this process, under an allocator that counts: a delivery allocates nothing.
//!
//! What a turn allocates belongs to its publications. The same publications, 16 in one write, to few subscribers
//! and to many must cost as many allocations: runtime, transport, broker and encoding are all in it.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PATIENCE: Duration = Duration::from_secs(20);
const PER_WRITE: usize = 16;
const FEW: usize = 10;
const MANY: usize = 110;
const TURNS: u64 = 50;

struct Client {
    stream: TcpStream,
    buffer: Box<[u8; 64 * 1024]>,
}

impl Client {
    fn connect(address: SocketAddr, channel: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
            .write_all(
                b"GET /connection/websocket HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            )
            .expect("an upgrade");
        let mut client = Self { stream, buffer: Box::new([0; 64 * 1024]) };
        client.await_count(b"\r\n\r\n", 1);
        client.say(br#"{"id":1,"connect":{}}"#);
        client.await_count(b"\"id\":1,", 1);
        if let Some(channel) = channel {
            client.say(format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#).as_bytes());
            client.await_count(b"\"id\":2,", 1);
        }
        client
    }

    /// One masked text frame; the mask is zero.
    fn say(&mut self, message: &[u8]) {
        self.stream.write_all(&frame(message)).expect("a frame");
    }

    /// Reads until `what` has come so often since the call.
    fn await_count(&mut self, what: &[u8], count: usize) {
        let (mut filled, mut seen) = (0, 0);
        while seen < count {
            let read = self.stream.read(&mut self.buffer[filled..]).expect("what was asked for");
            assert_ne!(read, 0, "the server closed the connection");
            filled += read;
            seen = self.buffer[..filled].windows(what.len()).filter(|window| *window == what).count();
        }
    }
}

fn frame(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("a short message");
    let header = match u8::try_from(length) {
        Ok(short) if short < 126 => vec![0x81, 0x80 | short],
        _ => [&[0x81, 0xfe], &length.to_be_bytes()[..]].concat(),
    };
    [&header[..], &[0; 4][..], message].concat()
}

/// The server, in threads of this process.
fn serve() -> SocketAddr {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its address");
    let mut settings = corecast::config::Settings::default();
    settings.http_server.address = "127.0.0.1".into();
    settings.http_server.port = free.port();
    settings.client.insecure = true;
    settings.log.level = "none".into();
    settings.runtime.cores = corecast::config::Cores::Count(1);
    thread::spawn(|| corecast::server::run(settings, corecast::server::Options::default()));
    let begin = Instant::now();
    while TcpStream::connect(free).is_err() {
        assert!(begin.elapsed() < PATIENCE, "the server never listened");
        thread::yield_now();
    }
    free
}

/// Allocations of so many turns, in each of which everybody gets everything.
fn turns(publisher: &mut Client, subscribers: &mut [Client], publications: &[u8], turns: u64) -> u64 {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..turns {
        publisher.stream.write_all(publications).expect("publications");
        subscribers.iter_mut().for_each(|it| it.await_count(b"{\"push\"", PER_WRITE));
        publisher.await_count(b"\"publish\":{}", PER_WRITE);
    }
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

#[test]
fn a_delivery_allocates_nothing() {
    let address = serve();
    let mut publisher = Client::connect(address, None);
    let command = format!(r#"{{"id":7,"publish":{{"channel":"bench","data":"{}"}}}}"#, "x".repeat(126));
    let publications = frame(vec![command.as_str(); PER_WRITE].join("\n").as_bytes());
    let mut subscribers: Vec<Client> = (0..FEW).map(|_| Client::connect(address, Some("bench"))).collect();
    // Memory that is kept from turn to turn grows first.
    turns(&mut publisher, &mut subscribers, &publications, TURNS);
    let few = turns(&mut publisher, &mut subscribers, &publications, TURNS);
    subscribers.extend((FEW..MANY).map(|_| Client::connect(address, Some("bench"))));
    turns(&mut publisher, &mut subscribers, &publications, TURNS);
    let many = turns(&mut publisher, &mut subscribers, &publications, TURNS);
    let deliveries = TURNS * ((MANY - FEW) * PER_WRITE) as u64;
    let each = (many as f64 - few as f64) / deliveries as f64;
    let per_publication = few as f64 / (TURNS * PER_WRITE as u64) as f64;
    println!("{per_publication:.2} allocations per publication, {each:.5} more per delivery");
    assert!(each < 0.001, "{few} allocations with {FEW} subscribers, {many} with {MANY}");
}
