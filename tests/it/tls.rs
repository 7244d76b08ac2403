//! TLS on the client port, over real sockets: rustls as client, certificates made by `gen-cert`.

use crate::{
    client::{frame, upgrade},
    server::{Server, VARIANTS, command, eventually},
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use std::{
    collections::VecDeque,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
};

/// A folder with `cert.pem` and `key.pem`, gone with the test.
struct Pair(PathBuf);

impl Pair {
    fn new(name: &str) -> Self {
        let pair = Self(std::env::temp_dir().join(format!("corecast-{}-{name}", std::process::id())));
        fs::create_dir_all(&pair.0).expect("a folder");
        pair.make("365");
        pair
    }

    /// Writes another pair over the one that is there.
    fn make(&self, days: &str) {
        let made = Command::new(env!("CARGO_BIN_EXE_corecast"))
            .args(["gen-cert", "--days", days, "--cert", &self.path("cert"), "--key", &self.path("key")])
            .stdout(Stdio::null())
            .status();
        assert!(made.expect("the program").success());
    }

    fn path(&self, what: &str) -> String {
        self.0.join(format!("{what}.pem")).to_str().expect("text").to_owned()
    }

    fn settings(&self) -> [String; 3] {
        [
            "http_server.tls.enabled=true".into(),
            format!("http_server.tls.cert_pem={}", self.path("cert")),
            format!("http_server.tls.key_pem={}", self.path("key")),
        ]
    }

    fn serve(&self, more: &[&str]) -> Server {
        let settings = self.settings();
        let settings: Vec<&str> = settings.iter().map(String::as_str).chain(more.iter().copied()).collect();
        Server::dev(&settings)
    }

    /// Trusts the certificate that is there now, and no other.
    fn trust(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_file(self.path("cert")).expect("a certificate");
        roots.add(root).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        Arc::new(builder.expect("versions").with_root_certificates(roots).with_no_client_auth())
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A client behind TLS.
struct Secure(StreamOwned<ClientConnection, TcpStream>, VecDeque<String>);

impl Secure {
    fn open(server: &Server, trust: &Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from("localhost").expect("a name");
        let client = ClientConnection::new(Arc::clone(trust), name).expect("a client");
        Self(StreamOwned::new(client, server.connect()), VecDeque::new())
    }

    /// As a WebSocket and a client of the protocol.
    fn connected(server: &Server, trust: &Arc<ClientConfig>) -> Self {
        let mut client = Self::open(server, trust);
        client.say(upgrade("/connection/websocket", "").as_bytes());
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        client.text(r#"{"id":1,"connect":{}}"#);
        assert!(client.line().starts_with(r#"{"id":1,"connect":{"#));
        client
    }

    fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("a write");
    }

    fn text(&mut self, text: &str) {
        self.say(&frame(0x81, text.as_bytes()));
    }

    fn take<const LEN: usize>(&mut self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        self.0.read_exact(&mut bytes).expect("bytes");
        bytes
    }

    fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.take::<1>());
        }
        String::from_utf8(head).expect("text")
    }

    fn frame(&mut self) -> (u8, Vec<u8>) {
        let [first, len] = self.take();
        let len = match len {
            126 => usize::from(u16::from_be_bytes(self.take())),
            127 => usize::try_from(u64::from_be_bytes(self.take())).expect("a length"),
            len => usize::from(len),
        };
        let mut payload = vec![0; len];
        self.0.read_exact(&mut payload).expect("a payload");
        (first, payload)
    }

    /// The next message; several may come in one frame.
    fn line(&mut self) -> String {
        while self.1.is_empty() {
            let (first, payload) = self.frame();
            assert_eq!(first, 0x81, "{payload:?}");
            self.1.extend(String::from_utf8(payload).expect("text").lines().map(str::to_owned));
        }
        self.1.pop_front().expect("a line")
    }

    /// It answers, so it is there.
    fn is_there(&mut self) {
        self.text(r#"{"id":9,"rpc":{"method":"x"}}"#);
        assert!(self.line().contains(r#""id":9"#));
    }
}

fn health(server: &Server, trust: &Arc<ClientConfig>) -> String {
    let mut client = Secure::open(server, trust);
    client.say(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut text = String::new();
    // The server says its goodbye before it closes: anything else is an error here.
    client.0.read_to_string(&mut text).expect("an answer and a close_notify");
    text
}

fn metric(server: &Server, trust: &Arc<ClientConfig>, name: &str) -> u64 {
    let mut client = Secure::open(server, trust);
    client.say(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut text = String::new();
    client.0.read_to_string(&mut text).expect("the metrics");
    let values =
        text.lines().filter_map(|line| line.strip_prefix(name)?.split(' ').next_back()?.parse::<u64>().ok());
    values.sum()
}

#[test]
fn channels_and_http_over_tls() {
    let pair = Pair::new("talk");
    for variant in VARIANTS {
        let server = pair.serve(&variant);
        let trust = pair.trust();
        let mut client = Secure::connected(&server, &trust);
        client.text(r#"{"id":2,"subscribe":{"channel":"a"}}"#);
        assert!(client.line().contains(r#""recoverable":true"#));
        assert!(client.line().contains(r#""join""#));
        // More than a record, more than a read buffer, and more than is sealed at a time.
        let big = "x".repeat(60_000);
        for id in 3..13 {
            client.text(&format!(r#"{{"id":{id},"publish":{{"channel":"a","data":"{big}"}}}}"#));
            let lines = [client.line(), client.line()];
            assert!(lines.iter().any(|line| *line == format!(r#"{{"id":{id},"publish":{{}}}}"#)), "{id}");
            assert!(lines.iter().any(|line| line.contains(&big)), "{id}");
        }
        client.text(r#"{"id":20,"history":{"channel":"a","limit":10}}"#);
        let history = client.line();
        assert_eq!(history.matches(&big).count(), 10);
        assert!(health(&server, &trust).ends_with("\r\n\r\n{}"));
        assert!(metric(&server, &trust, "corecast_tls_handshakes_total") >= 3);
        // The session is told before the connection ends.
        server.signal("TERM");
        let (first, payload) = client.frame();
        assert_eq!((first, &payload[2..]), (0x88, &b"shutdown"[..]));
    }
}

#[test]
fn a_new_certificate_drops_nobody_and_a_bad_one_changes_nothing() {
    let pair = Pair::new("reload");
    for variant in [VARIANTS[1], VARIANTS[2]] {
        let server = pair.serve(&variant);
        let old = pair.trust();
        let mut held: Vec<_> = (0..20).map(|_| Secure::connected(&server, &old)).collect();

        pair.make("365");
        server.signal("HUP");
        server.wait_for("was read anew");
        let new = pair.trust();
        Secure::connected(&server, &new).is_there();
        held.iter_mut().for_each(Secure::is_there);

        // A key of another, an expired one, and none at all.
        let key = fs::read(pair.path("key")).expect("a key");
        pair.make("365");
        fs::write(pair.path("key"), key).expect("a file");
        server.signal("HUP");
        server.wait_for("key_pem does not go with cert_pem");
        pair.make("0");
        server.signal("HUP");
        server.wait_for("cert_pem expired");
        fs::remove_file(pair.path("cert")).expect("a file");
        server.signal("HUP");
        server.wait_for("No such file");
        Secure::connected(&server, &new).is_there();
        held.iter_mut().for_each(Secure::is_there);
        assert_eq!(metric(&server, &new, "corecast_tls_reloads_total"), 1);
        assert_eq!(metric(&server, &new, "corecast_tls_reloads_failed_total"), 3);
        pair.make("365");
    }
}

#[test]
fn handshakes_that_are_none() {
    let pair = Pair::new("none");
    for variant in [VARIANTS[0], VARIANTS[3]] {
        let server =
            pair.serve(&[variant[0], variant[1], "http_server.head_timeout=300ms", "log.level=debug"]);
        let trust = pair.trust();
        let mut held = Secure::connected(&server, &trust);
        let mut hello = Vec::new();
        let name = ServerName::try_from("localhost").expect("a name");
        let mut client = ClientConnection::new(Arc::clone(&trust), name).expect("a client");
        client.write_tls(&mut hello).expect("a vector");

        // Without TLS.
        let mut plain = server.connect();
        plain.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("a write");
        let mut text = String::new();
        plain.read_to_string(&mut text).expect("an answer and an end");
        assert!(text.starts_with("HTTP/1.1 400 ") && text.contains("https"), "{text}");
        server.wait_for("it speaks HTTP without TLS");
        // Noise: an alert, and an end.
        let mut noise = server.connect();
        noise.write_all(&[1; 64]).expect("a write");
        let mut bytes = Vec::new();
        noise.read_to_end(&mut bytes).expect("an end");
        assert_eq!(bytes.first(), Some(&0x15));
        // Half of one, and nothing more: cut after the time a head may take.
        let mut halves: Vec<_> = (0..20).map(|_| server.connect()).collect();
        for half in &mut halves {
            half.write_all(&hello[..hello.len() / 2]).expect("a write");
        }
        for half in &mut halves {
            bytes.clear();
            // Gone in whatever way.
            let _ = half.read_to_end(&mut bytes);
            assert!(bytes.is_empty());
        }
        // One that comes byte by byte is one.
        let mut drip = server.connect();
        for byte in &hello {
            drip.write_all(&[*byte]).expect("a write");
        }
        let mut record = [0; 1];
        drip.read_exact(&mut record).expect("an answer");
        assert_eq!(record, [0x16]);
        drop(drip);
        held.is_there();
        eventually(|| (metric(&server, &trust, "corecast_tls_handshakes_failed_total") == 23).then_some(()));
    }
}

#[test]
fn what_cannot_be_used_stops_the_start() {
    let (pair, other) = (Pair::new("start"), Pair::new("other"));
    let refused = |settings: &[String]| {
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let output = command(&settings).arg("--dev").output().expect("the program");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).expect("text")
    };
    let [enabled, cert, key] = pair.settings();
    for (settings, says) in [
        (vec![enabled.clone()], "http_server.tls.enabled = true: needs http_server.tls.cert_pem"),
        (vec![enabled.clone(), cert.clone()], "needs http_server.tls.key_pem"),
        (
            vec![enabled.clone(), cert.clone(), other.settings()[2].clone()],
            "http_server.tls.key_pem: does not go with cert_pem",
        ),
        (
            vec![enabled.clone(), "http_server.tls.cert_pem=/nonexistent".into(), key.clone()],
            "--set http_server.tls.cert_pem: http_server.tls.cert_pem: is neither PEM nor a file: /nonexistent",
        ),
    ] {
        let text = refused(&settings);
        assert!(text.contains(says), "{text}");
    }
    // Text in place of a file, and in base64.
    let text = fs::read_to_string(pair.path("cert")).expect("a file");
    let base64 = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &text);
    for cert in [text, base64] {
        let cert = format!("http_server.tls.cert_pem={cert}");
        let server = Server::dev(&[&enabled, &cert, &key]);
        assert!(health(&server, &pair.trust()).ends_with("{}"));
        server.wait_for("clients   wss://");
    }
}

#[test]
fn the_command_line_speaks_tls() {
    let pair = Pair::new("line");
    let server = pair.serve(&["runtime.cores=1"]);
    let (ws, api) = (
        format!("wss://localhost:{}/connection/websocket", server.address.port()),
        format!("https://{}/api", server.address),
    );
    let run = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_corecast")).args(arguments).output().expect("the program");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let ca = pair.path("cert");
    assert!(run(&["pub", "news", "1", "--url", &ws, "--ca", &ca]).0);
    assert!(run(&["pub", "news", "2", "--api", &api, "--ca", &ca]).0);
    let (good, _, said) = run(&["pub", "news", "3", "--url", &ws]);
    assert!(!good && said.contains("TLS failed") && said.contains("--ca"), "{said}");
    let mut sub = Command::new(env!("CARGO_BIN_EXE_corecast"))
        .args(["sub", "news", "--url", &ws, "--ca", &ca, "--count", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program");
    let trust = pair.trust();
    eventually(|| (metric(&server, &trust, "corecast_subscriptions ") == 1).then_some(()));
    assert!(run(&["pub", "news", "4", "--url", &ws, "--ca", &ca]).0);
    assert!(sub.wait().expect("its end").success());
    let mut shown = String::new();
    sub.stdout.take().expect("its output").read_to_string(&mut shown).expect("text");
    assert!(shown.contains("[news 3] 4"), "{shown}");
}

#[test]
fn files_that_change_are_read_again() {
    let pair = Pair::new("watch");
    let server = pair.serve(&["runtime.cores=1", "http_server.tls.watch_interval=20ms"]);
    let mut held = Secure::connected(&server, &pair.trust());
    pair.make("365");
    server.wait_for("was read anew");
    Secure::connected(&server, &pair.trust()).is_there();
    held.is_there();
    // Draining goes on beside it.
    server.signal("TERM");
    assert_eq!(held.frame().0, 0x88);
}
