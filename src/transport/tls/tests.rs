//! The filter between a runtime that takes as little as it likes and a driver that echoes, against rustls as client.

use super::{Acceptor, Material, NOT_TLS, Options, Ready, Tls, session::Session};
use crate::{
    cli::gen_cert::{Made, make},
    metrics::{Counter, Counters},
    runtime::{Clock, Close, Driver, End, MeshOut, Net, Next, Short, WriteSource},
    stdx::slab::Key,
    transport::{Level, Log},
};
use arbitrary::{Result, Unstructured};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    io::{Read as _, Write as _},
    sync::Arc,
};

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("after 1970").as_secs().cast_signed()
}

struct Silent;

impl Log for Silent {
    fn enabled(&self, _level: Level) -> bool {
        true
    }

    fn write(&self, _level: Level, _line: std::fmt::Arguments<'_>) {}
}

/// Sends back what it gets, in pieces, and minds short writes as the broker's outbox does.
#[derive(Default)]
struct Echo {
    waiting: BTreeMap<Key, Vec<u8>>,
    blocked: BTreeSet<Key>,
    ends: Vec<(Key, End)>,
    closes: Vec<(Key, Close)>,
    piece: usize,
}

struct Pieces<'a>(Vec<(Key, &'a [u8])>, usize);

impl WriteSource for Pieces<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn write<'a>(&'a self, index: usize, pieces: &mut Vec<&'a [u8]>) -> Key {
        let (conn, bytes) = self.0[index];
        pieces.extend(bytes.chunks(self.1));
        conn
    }
}

impl Driver for Echo {
    type Message = ();
    type Foreign = ();

    fn begin_turn(&mut self, _clock: Clock) {}
    fn on_accept(&mut self, conn: Key, _listener: usize, _peer: std::net::SocketAddr) {
        self.waiting.insert(conn, Vec::new());
    }
    fn on_adopt(&mut self, conn: Key, _peer: std::net::SocketAddr, first: &[u8]) {
        self.waiting.insert(conn, first.to_vec());
    }
    fn on_data(&mut self, conn: Key, bytes: &mut [u8]) {
        self.waiting.get_mut(&conn).expect("accepted").extend_from_slice(bytes);
        // The driver may change what it is lent.
        bytes.fill(0);
    }
    fn on_end(&mut self, conn: Key, end: End) {
        self.ends.push((conn, end));
    }
    fn on_writable(&mut self, conn: Key) {
        assert!(self.blocked.remove(&conn), "told of room it did not wait for");
    }
    fn on_released(&mut self, _conn: Key) {}
    fn on_batch(&mut self, _from: usize, _batch: &mut Vec<()>) {}
    fn on_foreign(&mut self, _message: ()) {}

    fn end_turn(&mut self, net: &mut dyn Net, _mesh: &mut dyn MeshOut<()>) -> Next {
        let writes: Vec<_> = self
            .waiting
            .iter()
            .filter(|(conn, bytes)| !bytes.is_empty() && !self.blocked.contains(conn))
            .map(|(conn, bytes)| (*conn, &bytes[..]))
            .collect();
        let conns: Vec<Key> = writes.iter().map(|(conn, _)| *conn).collect();
        let mut shorts = Vec::new();
        net.flush(&Pieces(writes, self.piece.max(1)), &mut shorts);
        assert!(shorts.is_sorted_by_key(|short| short.index));
        for (index, conn) in conns.into_iter().enumerate() {
            let waiting = self.waiting.get_mut(&conn).expect("accepted");
            match shorts.iter().find(|short| short.index == index) {
                None => waiting.clear(),
                Some(short) => {
                    assert_eq!(short.error, None);
                    waiting.drain(..short.sent);
                    self.blocked.insert(conn);
                }
            }
        }
        for (conn, how) in std::mem::take(&mut self.closes) {
            net.close(conn, how);
        }
        Next::Sleep { until_ms: None }
    }
}

/// Takes at most `room` bytes of each write; those it cut can be written to again after [`FakeNet::relieve`].
#[derive(Default)]
struct FakeNet {
    room: usize,
    written: BTreeMap<Key, Vec<u8>>,
    cut: BTreeSet<Key>,
    closed: Vec<(Key, Close)>,
    counters: Counters,
}

impl Net for FakeNet {
    fn pause(&mut self, _conn: Key) {}
    fn resume(&mut self, _conn: Key) {}
    fn close(&mut self, conn: Key, how: Close) {
        self.closed.push((conn, how));
    }
    fn flush(&mut self, source: &dyn WriteSource, shorts: &mut Vec<Short>) {
        let mut seen = BTreeSet::new();
        for index in 0..source.len() {
            let mut pieces = Vec::new();
            let conn = source.write(index, &mut pieces);
            assert!(seen.insert(conn), "one write per connection");
            assert!(!self.cut.contains(&conn), "written to while it takes nothing");
            let bytes = pieces.concat();
            let sent = bytes.len().min(self.room);
            self.written.entry(conn).or_default().extend_from_slice(&bytes[..sent]);
            if sent < bytes.len() {
                self.cut.insert(conn);
                shorts.push(Short { index, sent, error: None });
            }
        }
    }
    fn stop_accepting(&mut self) {}
    fn connections(&self) -> usize {
        0
    }
    fn counters(&self) -> &Counters {
        &self.counters
    }
    fn reset_turn_max(&mut self) {}
}

impl MeshOut<()> for () {
    fn cores(&self) -> usize {
        1
    }
    fn core(&self) -> usize {
        0
    }
    fn send(&mut self, _to: usize, _batch: &mut Vec<()>) -> bool {
        true
    }
}

struct Bed {
    tls: Tls<Echo>,
    net: FakeNet,
}

thread_local! { static MICROS: Cell<u64> = const { Cell::new(0) }; }

fn pair() -> Made {
    make(&["localhost".to_owned()], 36_500).expect("a certificate")
}

fn ready(made: &Made, client_ca: Option<&Made>) -> Ready {
    let material = Material {
        cert_pem: made.cert_pem.clone().into(),
        key_pem: made.key_pem.clone().into(),
        client_ca_pem: client_ca.map(|it| it.cert_pem.clone().into()),
        only_tls13: false,
        protocol: "http/1.1",
    };
    Ready::new(&material, now()).expect("good material")
}

impl Bed {
    fn new(ready: Ready) -> Self {
        let options = Options {
            handshake_size_max: 64 * 1024,
            handshake_turn_us: 100,
            proxied: false,
            linger_ms: 5,
            first_core: true,
            micros: || MICROS.replace(MICROS.get() + 40),
        };
        let echo = Echo { piece: 7000, ..Echo::default() };
        let net = FakeNet { room: usize::MAX, ..FakeNet::default() };
        Self { tls: Tls::new(echo, Arc::new(Acceptor::new(ready)), options, Arc::new(Silent)), net }
    }

    fn accept(&mut self, index: u32) -> Key {
        let conn = Key { index, generation: 0 };
        self.tls.on_accept(conn, 0, ([127, 0, 0, 1], 1).into());
        conn
    }

    fn turn(&mut self) -> Next {
        self.tls.begin_turn(Clock::default());
        self.tls.end_turn(&mut self.net, &mut ())
    }

    /// Sockets that were cut take bytes again.
    fn relieve(&mut self) {
        for conn in std::mem::take(&mut self.net.cut) {
            self.tls.on_writable(conn);
        }
    }

    fn session(&self, conn: Key) -> &Session {
        self.tls.filter.sessions.get(conn).expect("a session")
    }

    /// Everything that is under way between a client and the server, until nothing is.
    fn settle(&mut self, conn: Key, client: &mut ClientConnection) -> Vec<u8> {
        let mut got = Vec::new();
        for _ in 0..1000 {
            let mut sent = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut sent).expect("a vector");
            }
            if !sent.is_empty() {
                self.tls.on_data(conn, &mut sent);
            }
            let next = self.turn();
            self.relieve();
            let answer = std::mem::take(self.net.written.entry(conn).or_default());
            take(client, &answer, &mut got);
            if answer.is_empty() && sent.is_empty() && next != Next::Again && self.net.cut.is_empty() {
                return got;
            }
        }
        panic!("it does not settle");
    }
}

/// Has the client read ciphertext, and appends what comes of it.
fn take(client: &mut ClientConnection, mut bytes: &[u8], got: &mut Vec<u8>) {
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).expect("room");
        client.process_new_packets().expect("what the server says is understood");
        // `WouldBlock` is the usual end.
        let _ = client.reader().read_to_end(got);
    }
}

fn client_config(
    roots: &Made,
    version: &'static SupportedProtocolVersion,
    own: Option<&Made>,
) -> Arc<ClientConfig> {
    let mut store = RootCertStore::empty();
    let cert = |made: &Made| CertificateDer::from_pem_slice(made.cert_pem.as_bytes()).expect("a certificate");
    store.add(cert(roots)).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(store);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes()).expect("a key");
            builder.with_client_auth_cert(vec![cert(own)], key).expect("a pair")
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

fn client(config: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from("localhost").expect("a name");
    ClientConnection::new(Arc::clone(config), name).expect("a client")
}

#[test]
fn what_is_said_comes_back_whatever_the_sockets_take() {
    let made = pair();
    let configs = [client_config(&made, &TLS12, None), client_config(&made, &TLS13, None)];
    arbtest::arbtest(|u| talk(u, &made, &configs)).budget_ms(1500);
}

fn talk(u: &mut Unstructured<'_>, made: &Made, configs: &[Arc<ClientConfig>; 2]) -> Result<()> {
    let mut bed = Bed::new(ready(made, None));
    let conn = bed.accept(0);
    let mut client = client(u.choose(configs)?);
    let (mut said, mut heard, mut on_its_way) = (Vec::new(), Vec::new(), Vec::new());
    bed.tls.inner.piece = u.int_in_range(1..=20_000)?;
    for step in 0..400 {
        if step < 40 && said.len() < 300_000 {
            let len = u.int_in_range(0..=40_000)?;
            let bytes: Vec<u8> = (0..len).map(|at: usize| (at * 7 + step) as u8).collect();
            let written = client.writer().write(&bytes).expect("a buffer");
            said.extend_from_slice(&bytes[..written]);
        }
        while client.wants_write() {
            client.write_tls(&mut on_its_way).expect("a vector");
        }
        for _ in 0..u.int_in_range(1..=3)? {
            let len = u.int_in_range(0..=on_its_way.len().min(30_000))?;
            let mut part: Vec<u8> = on_its_way.drain(..len).collect();
            if !part.is_empty() {
                bed.tls.on_data(conn, &mut part);
            }
        }
        bed.net.room = if step > 300 { usize::MAX } else { u.int_in_range(0..=50_000)? };
        bed.turn();
        if step > 300 || u.ratio(1, 2)? {
            bed.relieve();
        }
        let answer = std::mem::take(bed.net.written.entry(conn).or_default());
        take(&mut client, &answer, &mut heard);
    }
    bed.net.room = usize::MAX;
    bed.tls.on_data(conn, &mut on_its_way);
    heard.extend(bed.settle(conn, &mut client));
    assert_eq!(heard.len(), said.len());
    assert!(heard == said, "bytes were changed");
    assert!(!client.is_handshaking() && client.alpn_protocol() == Some(b"http/1.1"));
    assert_eq!((bed.tls.filter.done, bed.tls.inner.ends.len()), (1, 0));
    // Idle it holds nothing.
    let session = bed.session(conn);
    assert_eq!((session.incoming.capacity(), session.outgoing.capacity()), (0, 0));
    // Each side says its goodbye before the connection ends.
    if u.arbitrary()? {
        client.send_close_notify();
        bed.settle(conn, &mut client);
        assert_eq!(bed.tls.inner.ends, [(conn, End::Eof)]);
    }
    bed.tls.inner.closes.push((conn, Close::Graceful { linger_ms: 9 }));
    bed.turn();
    let mut goodbye = &bed.net.written[&conn][..];
    client.read_tls(&mut goodbye).expect("room");
    assert!(client.process_new_packets().expect("understood").peer_has_closed());
    assert_eq!(bed.net.closed, [(conn, Close::Graceful { linger_ms: 9 })]);
    Ok(())
}

#[test]
fn a_close_waits_for_what_the_socket_has_not_taken() {
    let made = pair();
    let mut bed = Bed::new(ready(&made, None));
    let conn = bed.accept(0);
    let mut client = client(&client_config(&made, &TLS13, None));
    bed.settle(conn, &mut client);
    client.writer().write_all(&[5; 1000]).expect("a buffer");
    let mut sent = Vec::new();
    client.write_tls(&mut sent).expect("a vector");
    bed.net.room = 10;
    bed.tls.on_data(conn, &mut sent);
    bed.turn();
    bed.tls.inner.closes.push((conn, Close::Graceful { linger_ms: 9 }));
    bed.turn();
    assert_eq!(bed.net.closed, []);
    bed.net.room = usize::MAX;
    bed.relieve();
    bed.turn();
    assert_eq!(bed.net.closed, [(conn, Close::Graceful { linger_ms: 9 })]);
    let mut got = Vec::new();
    take(&mut client, &bed.net.written[&conn], &mut got);
    assert_eq!(got, [5; 1000]);
    // The driver above may lose patience.
    bed.tls.inner.closes.push((conn, Close::Reset));
    bed.turn();
    assert_eq!(bed.net.closed.last(), Some(&(conn, Close::Reset)));
}

#[test]
fn what_is_not_tls_is_told_so() {
    let made = pair();
    for (sent, answer) in [
        (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], NOT_TLS),
        // A fatal alert: decode_error, unexpected_message.
        (&[0x16, 3, 1, 0, 4, 9, 0, 0, 0], &[0x15, 3, 3, 0, 2, 2]),
        (&[0; 100], &[0x15, 3, 3, 0, 2, 2]),
    ] {
        let mut bed = Bed::new(ready(&made, None));
        let conn = bed.accept(0);
        bed.tls.on_data(conn, &mut sent.to_vec());
        bed.turn();
        assert_eq!(bed.tls.inner.ends, [(conn, End::Error(71))], "{sent:?}");
        bed.tls.inner.closes.push((conn, Close::Reset));
        bed.turn();
        bed.turn();
        let written = &bed.net.written[&conn];
        assert!(written.starts_with(answer), "{sent:?}: {written:?}");
        assert_eq!(bed.net.closed, [(conn, Close::Graceful { linger_ms: 5 })], "{sent:?}");
        bed.tls.on_released(conn);
        assert_eq!((bed.tls.filter.failed, bed.tls.filter.done), (1, 0));
    }
}

// It is read by the driver above, like one without TLS; broken ones too, and it complains.
#[test]
fn a_proxy_header_comes_first() {
    let made = pair();
    let header = b"PROXY TCP4 203.0.113.7 127.0.0.1 5000 8000\r\n";
    for step in [1, 20, header.len(), 10_000] {
        let mut bed = Bed::new(ready(&made, None));
        bed.tls.filter.options.proxied = true;
        let conn = bed.accept(0);
        let mut client = client(&client_config(&made, &TLS13, None));
        let mut sent = header.to_vec();
        client.write_tls(&mut sent).expect("a vector");
        for part in sent.chunks_mut(step) {
            bed.tls.on_data(conn, part);
            bed.turn();
        }
        // What was echoed before the handshake was done is not sent: there was nobody to read it.
        let answer = std::mem::take(bed.net.written.entry(conn).or_default());
        take(&mut client, &answer, &mut Vec::new());
        client.writer().write_all(b"behind it").expect("a buffer");
        assert_eq!(bed.settle(conn, &mut client), b"behind it", "in steps of {step}");
    }
    let mut bed = Bed::new(ready(&made, None));
    bed.tls.filter.options.proxied = true;
    let conn = bed.accept(0);
    bed.tls.inner.blocked.insert(conn);
    bed.tls.on_data(conn, &mut b"PROXY NONSENSE\r\n".to_vec());
    bed.turn();
    assert_eq!(bed.tls.inner.waiting[&conn], b"PROXY NONSENSE\r\n");
}

#[test]
fn a_handshake_has_a_size() {
    let mut bed = Bed::new(ready(&pair(), None));
    let conn = bed.accept(0);
    // The first of a client hello that never ends, in records of one byte.
    bed.tls.on_data(conn, &mut [0x16, 3, 1, 0, 4, 1, 0, 0xff, 0xff]);
    for _ in 0..11_000 {
        bed.tls.on_data(conn, &mut [0x16, 3, 1, 0, 1, 7]);
    }
    bed.turn();
    assert_eq!(bed.tls.inner.ends, [(conn, End::Error(71))]);
    assert_eq!(bed.session(conn).incoming.capacity(), 0);
}

#[test]
fn a_turn_shakes_few_hands_and_the_queue_is_served_in_order() {
    let made = pair();
    let mut bed = Bed::new(ready(&made, None));
    let config = client_config(&made, &TLS13, None);
    let conns: Vec<Key> = (0..10).map(|index| bed.accept(index)).collect();
    for &conn in &conns {
        let mut hello = Vec::new();
        client(&config).write_tls(&mut hello).expect("a vector");
        bed.tls.on_data(conn, &mut hello);
    }
    // A look at the clock costs 40 here, and 100 are allowed: three a turn.
    for answered in [3, 6, 9, 10] {
        let next = bed.turn();
        assert_eq!(bed.net.written.keys().copied().collect::<Vec<_>>(), conns[..answered]);
        assert_eq!(next == Next::Again, answered < 10);
    }
}

#[test]
fn a_new_certificate_is_for_new_connections() {
    let (old, new) = (pair(), pair());
    let mut bed = Bed::new(ready(&old, None));
    let (first, second) = (bed.accept(0), bed.accept(1));
    let mut before = client(&client_config(&old, &TLS13, None));
    bed.settle(first, &mut before);
    bed.tls.filter.acceptor.replace(ready(&new, None));
    let third = bed.accept(2);
    let mut between = client(&client_config(&old, &TLS13, None));
    bed.settle(second, &mut between);
    let mut after = client(&client_config(&new, &TLS13, None));
    bed.settle(third, &mut after);
    for (conn, client) in [(first, &mut before), (second, &mut between), (third, &mut after)] {
        client.writer().write_all(b"still there").expect("a buffer");
        assert_eq!(bed.settle(conn, client), b"still there");
    }
    bed.turn();
    assert_eq!(bed.tls.filter.counters.value(Counter::TlsReloads), 1);
    assert!(bed.tls.filter.counters.value(Counter::TlsCertificateUntil) > now() as u64);
}

#[test]
fn who_comes_back_resumes() {
    let made = pair();
    for version in [&TLS12, &TLS13] {
        let mut bed = Bed::new(ready(&made, None));
        let config = client_config(&made, version, None);
        for (index, resumed) in [(0, 0), (1, 1)] {
            let conn = bed.accept(index);
            bed.settle(conn, &mut client(&config));
            assert_eq!((bed.tls.filter.done, bed.tls.filter.resumed), (u64::from(index) + 1, resumed));
        }
    }
}

#[test]
fn clients_show_their_certificates_where_they_must() {
    let (made, own, stranger) = (pair(), pair(), pair());
    for (shown, version, good) in [
        (Some(&own), &TLS13, true),
        (Some(&own), &TLS12, true),
        (Some(&stranger), &TLS13, false),
        (None, &TLS13, false),
        (None, &TLS12, false),
    ] {
        let mut bed = Bed::new(ready(&made, Some(&own)));
        let conn = bed.accept(0);
        let mut client = client(&client_config(&made, version, shown));
        for _ in 0..10 {
            let mut sent = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut sent).expect("a vector");
            }
            bed.tls.on_data(conn, &mut sent);
            bed.turn();
            let answer = std::mem::take(bed.net.written.entry(conn).or_default());
            let _ = client.read_tls(&mut &answer[..]);
            // An alert is an error here.
            let _ = client.process_new_packets();
        }
        assert_eq!(bed.tls.filter.done == 1, good);
        assert_eq!(bed.tls.inner.ends.is_empty(), good);
    }
}

#[test]
fn material_that_cannot_be_used_says_why() {
    let (made, other) = (pair(), pair());
    let expired = make(&["localhost".to_owned()], 0).expect("a certificate");
    let check = |cert: &str, key: &str, ca: Option<&str>, option: &str, says: &str| {
        let material = Material {
            cert_pem: cert.into(),
            key_pem: key.into(),
            client_ca_pem: ca.map(Into::into),
            only_tls13: true,
            protocol: "http/1.1",
        };
        let error = Ready::new(&material, now() + 60_000_000).expect_err(says);
        assert_eq!(error.option, option, "{error:?}");
        assert!(error.reason.contains(says), "{error:?}");
    };
    check(&made.cert_pem, &other.key_pem, None, "key_pem", "does not go with cert_pem");
    check(&expired.cert_pem, &expired.key_pem, None, "cert_pem", "expired");
    check("nothing", &made.key_pem, None, "cert_pem", "holds no certificate");
    check(&made.key_pem, &made.key_pem, None, "cert_pem", "holds no certificate");
    check(&made.cert_pem, &made.cert_pem, None, "key_pem", "holds no private key");
    check(&made.cert_pem, &made.key_pem, Some("x"), "client_ca_pem", "holds no certificate");
    let material = Material {
        cert_pem: made.cert_pem.into(),
        key_pem: made.key_pem.into(),
        client_ca_pem: None,
        only_tls13: true,
        protocol: "http/1.1",
    };
    assert!(Ready::new(&material, 0).expect_err("too early").reason.contains("is valid only"));
}

// Whatever a client sends, before and after its handshake: nothing panics, and what is broken ends.
#[test]
fn hostile_bytes() {
    let made = pair();
    let configs = [client_config(&made, &TLS12, None), client_config(&made, &TLS13, None)];
    arbtest::arbtest(|u| {
        let mut bed = Bed::new(ready(&made, None));
        let conn = bed.accept(0);
        let mut client = client(u.choose(&configs)?);
        let is_open = u.arbitrary()?;
        if is_open {
            bed.settle(conn, &mut client);
            client.writer().write_all(&[1; 300]).expect("a buffer");
        }
        let mut sent = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut sent).expect("a vector");
        }
        for _ in 0..u.int_in_range(1..=6)? {
            let at = u.choose_index(sent.len())?;
            match u.int_in_range(0..=2)? {
                0 => sent[at] = u.arbitrary()?,
                1 => drop(sent.remove(at)),
                _ => sent.insert(at, u.arbitrary()?),
            }
        }
        for part in sent.chunks_mut(u.int_in_range(1..=400)?) {
            bed.tls.on_data(conn, part);
            bed.turn();
            // The driver above writes whenever it likes.
            bed.tls.inner.waiting.entry(conn).or_default().push(1);
            bed.turn();
        }
        bed.tls.on_end(conn, End::Eof);
        bed.turn();
        assert_eq!(bed.tls.inner.ends.len(), 1);
        bed.tls.inner.closes.push((conn, Close::Graceful { linger_ms: 1 }));
        bed.turn();
        bed.turn();
        assert_eq!(bed.net.closed.len(), 1);
        Ok(())
    })
    .budget_ms(1000);
}

// A message of the handshake cut in two records after it, with writes in between: TLS remembers places in bytes that
// it has seen, and they must still be there.
#[test]
fn half_a_key_update_and_writes_in_between() {
    use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    let made = pair();
    let mut config = (*client_config(&made, &TLS13, None)).clone();
    config.enable_secret_extraction = true;
    let config = Arc::new(config);
    let mut bed = Bed::new(ready(&made, None));
    let conn = bed.accept(0);
    let mut client = client(&config);
    bed.settle(conn, &mut client);
    let secrets = client.dangerous_extract_secrets().expect("secrets");
    let (begin, rustls::ConnectionTrafficSecrets::Aes256Gcm { key, iv }) = secrets.tx else {
        panic!("another suite: the test wants AES-256-GCM");
    };
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).expect("a key"));
    let record = |sequence: u64, kind: u8, contents: &[u8]| {
        let mut body = [contents, &[kind]].concat();
        let header = [23, 3, 3, 0, (body.len() + 16) as u8];
        let mut nonce: [u8; 12] = iv.as_ref().try_into().expect("12 bytes");
        nonce[4..].iter_mut().zip(sequence.to_be_bytes()).for_each(|(byte, of)| *byte ^= of);
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(nonce, Aad::from(header), &mut body).expect("sealed");
        [&header[..], &body].concat()
    };
    // KeyUpdate, wanting none in return: 24, length 1, 0.
    let hold = |bed: &mut Bed, mut bytes: Vec<u8>| {
        bed.tls.on_data(conn, &mut bytes);
        bed.tls.inner.waiting.entry(conn).or_default().extend([7; 50]);
        bed.turn();
        bed.turn();
    };
    hold(&mut bed, record(begin, 23, b"data"));
    hold(&mut bed, record(begin + 1, 22, &[24, 0]));
    hold(&mut bed, record(begin + 2, 22, &[0, 1]));
    assert_eq!(bed.tls.inner.ends, []);
    hold(&mut bed, record(begin + 3, 22, &[0]));
    // What follows would have to come under the new key.
    hold(&mut bed, record(begin + 4, 23, b"data"));
    assert_eq!(bed.tls.inner.ends, [(conn, End::Error(71))]);
}
