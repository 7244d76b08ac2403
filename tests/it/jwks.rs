//! Keys from a JWKS endpoint: fetched while tokens wait, once for all cores, however many ask.

use crate::{
    client::{PATH, WebSocket},
    server::{Server, VARIANTS},
};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as URL};
use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Answers every request with `body`, and counts them.
struct Endpoint {
    url: String,
    asked: Arc<AtomicUsize>,
}

impl Endpoint {
    fn start(body: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/keys", listener.local_addr().expect("an address"));
        let asked = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&asked);
        // Ends with the process: accepting waits for ever.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                }
                counter.fetch_add(1, Ordering::SeqCst);
                let len = body.len();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n");
                let _ = stream.write_all((head + &body).as_bytes());
            }
        });
        Self { url, asked }
    }
}

fn connect(server: &Server, pair: &Ed25519KeyPair, id: &str) -> WebSocket {
    let header = format!(r#"{{"alg":"EdDSA","kid":"{id}"}}"#);
    let signed = format!("{}.{}", URL.encode(header), URL.encode(r#"{"sub":"42"}"#));
    let token = format!("{signed}.{}", URL.encode(pair.sign(signed.as_bytes())));
    let (mut client, _) = WebSocket::open_at(server, PATH, "");
    client.text(&format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#));
    client
}

#[test]
fn unknown_keys_are_fetched_once_and_good_ones_connect() {
    let pair = Ed25519KeyPair::generate().expect("a key");
    let x = URL.encode(pair.public_key().as_ref());
    let keys = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"1","use":"sig","x":"{x}"}}]}}"#);
    for variant in VARIANTS {
        let endpoint = Endpoint::start(keys.clone());
        let own = format!("client.token.jwks_public_endpoint={}", endpoint.url);
        let settings: Vec<_> = variant.iter().copied().chain([own.as_str()]).collect();
        let server = Server::start(&settings);
        let mut good = connect(&server, &pair, "1");
        let mut bad: Vec<_> = (0..50).map(|n| connect(&server, &pair, &format!("unknown{n}"))).collect();
        assert!(good.line().contains(r#""connect":{"client""#));
        for client in &mut bad {
            assert_eq!(client.close(), (3500, "invalid token".to_owned()));
        }
        let asked = endpoint.asked.load(Ordering::SeqCst);
        assert!((1..=2).contains(&asked), "{asked} fetches");
        assert!(connect(&server, &pair, "1").line().contains(r#""connect":{"client""#));
    }
}

#[test]
fn an_endpoint_that_is_not_there_is_said_and_clients_come_back() {
    let pair = Ed25519KeyPair::generate().expect("a key");
    let nowhere = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let own = format!("client.token.jwks_public_endpoint=http://{nowhere}/keys");
    let server = Server::start(&[&own]);
    let line = connect(&server, &pair, "1").line();
    assert_eq!(line, r#"{"id":1,"error":{"code":100,"message":"internal server error","temporary":true}}"#);
    server.wait_for("no keys from http://");
}
