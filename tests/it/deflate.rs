//! Compression over real sockets: Autobahn's 216 cases (12.* and 13.*) as a table of our own against the echo server, with a
//! client on plain `flate2`, and the server with clients that agree to it and such that do not.
//!
//! Node's `ws`, which shares no code with this, runs the same table in `tests/sdk/node/autobahn.test.mjs`.

use crate::{
    client::{Frame, PATH, WebSocket, frame},
    server::{PATIENCE, Server, VARIANTS},
};
use corecast::runtime::{self, Cores, Options};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use std::net::TcpStream;

#[path = "../../examples/wsecho/echo.rs"]
mod echo;

/// What the server always answers first.
const ANSWER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Bytes sent in a case, one message at least. Autobahn sends 1000 messages of any size.
const CASE_BYTES: usize = 64 * 1024;

/// Size of a message, and of its fragments (0: one frame): the last number of a case.
const SIZES: [(usize, usize); 18] = [
    (16, 0),
    (64, 0),
    (256, 0),
    (1024, 0),
    (4096, 0),
    (8192, 0),
    (16_384, 0),
    (32_768, 0),
    (65_536, 0),
    (131_072, 0),
    (8192, 256),
    (16_384, 256),
    (32_768, 256),
    (65_536, 256),
    (131_072, 256),
    (131_072, 1024),
    (131_072, 4096),
    (131_072, 32_768),
];

/// What is sent, by the kinds of 12.1 to 12.5, as long as the longest message and more.
fn data(kind: usize) -> (bool, Vec<u8>) {
    let mut state = 7u32;
    let mut below = |limit: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % limit
    };
    let words = ["habe", "nun", "ach", "Juristerei", "und", "leider", "heißem", "Bemühn", "Müh"];
    let mut bytes = Vec::new();
    for n in 0.. {
        match kind {
            0 => bytes.extend(format!("{{\"id\":{n},\"price\":{},\"name\":\"item\"}}", below(9999)).bytes()),
            1 => bytes.extend([100 + ((n % 512) >> 4) as u8 + below(4) as u8]),
            2 => bytes.extend(format!("{} ", words[below(9) as usize]).bytes()),
            3 => bytes.extend(format!("<tr><td><a href=\"/{n}\">{}</a></td></tr>\n", below(999)).bytes()),
            _ => bytes.extend([below(256) as u8]),
        }
        if bytes.len() > 150_000 {
            return (matches!(kind, 0 | 2 | 3), bytes);
        }
    }
    unreachable!("it ends when it is long enough")
}

struct Case {
    name: &'static str,
    kind: usize,
    offer: &'static str,
    answer: &'static str,
    bits: u8,
}

/// The first two numbers of a case.
fn cases() -> Vec<Case> {
    const PLAIN: &str = "permessage-deflate";
    let case = |name, kind, offer, bits| {
        let answer = match bits {
            9 => "; server_max_window_bits=9",
            15 => "; server_max_window_bits=15",
            _ => "",
        };
        Case { name, kind, offer, answer, bits: if bits == 0 { 15 } else { bits } }
    };
    let takeover = "permessage-deflate; server_no_context_takeover";
    let both = "permessage-deflate; server_no_context_takeover; server_max_window_bits=9";
    vec![
        case("12.1", 0, PLAIN, 0),
        case("12.2", 1, PLAIN, 0),
        case("12.3", 2, PLAIN, 0),
        case("12.4", 3, PLAIN, 0),
        case("12.5", 4, PLAIN, 0),
        case("13.1", 0, PLAIN, 0),
        case("13.2", 0, takeover, 0),
        case("13.3", 0, "permessage-deflate; server_max_window_bits=9", 9),
        case("13.4", 0, "permessage-deflate; server_max_window_bits=15", 15),
        case("13.5", 0, both, 9),
        case("13.6", 0, "permessage-deflate; server_no_context_takeover; server_max_window_bits=15", 15),
        case(
            "13.7",
            0,
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=9, \
             permessage-deflate; server_no_context_takeover, permessage-deflate",
            9,
        ),
    ]
}

fn deflate(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() * 2 + 100);
    let mut zlib = Compress::new(Compression::new(6), false);
    zlib.compress_vec(message, &mut out, FlushCompress::Sync).expect("zlib");
    assert!(out.ends_with(&TAIL));
    out.truncate(out.len() - TAIL.len());
    out
}

/// In steps shorter than the window, so that what is referred to comes from it.
fn inflate(payload: &[u8], bits: u8) -> Vec<u8> {
    let mut zlib = Decompress::new_with_window_bits(false, bits);
    let (mut out, mut rest) = (Vec::new(), [payload, &TAIL].concat());
    loop {
        let mut step = [0; 500];
        let (before_in, before_out) = (zlib.total_in(), zlib.total_out());
        zlib.decompress(&rest, &mut step, FlushDecompress::None).expect("DEFLATE");
        rest.drain(..(zlib.total_in() - before_in) as usize);
        let made = (zlib.total_out() - before_out) as usize;
        out.extend_from_slice(&step[..made]);
        if made == 0 && rest.is_empty() {
            return out;
        }
    }
}

/// One compressed message as its frames.
fn compressed(first: u8, message: &[u8], fragment: usize) -> Vec<u8> {
    let payload = deflate(message);
    if fragment == 0 {
        return frame(0xc0 | first, &payload);
    }
    let count = payload.chunks(fragment).count();
    let piece = |(n, piece): (usize, &[u8])| {
        let fin = if n + 1 == count { 0x80 } else { 0 };
        frame(if n == 0 { 0x40 | first | fin } else { fin }, piece)
    };
    payload.chunks(fragment).enumerate().flat_map(piece).collect()
}

fn agree(stream: TcpStream, path: &str, offer: &str) -> (WebSocket, String) {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let (client, head) = WebSocket::open_on(stream, path, &format!("Sec-WebSocket-Extensions: {offer}\r\n"));
    let answer = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "));
    (client, answer.unwrap_or_default().to_owned())
}

#[test]
fn autobahn_12_and_13() {
    let cpus = runtime::choose_cpus(&Cores::Count(1)).expect("a CPU");
    let options = Options { cpus, addresses: vec![([127, 0, 0, 1], 0).into()], ..Options::default() };
    let running = runtime::start(options, |seat| echo::Echo::new(seat, 1 << 24)).expect("an echo server");
    let mut count = 0;
    for Case { name, kind, offer, answer, bits } in cases() {
        let (text, bytes) = data(kind);
        for (index, (size, fragment)) in SIZES.into_iter().enumerate() {
            let name = format!("{name}.{}", index + 1);
            let stream = TcpStream::connect(running.addresses()[0]).expect("a connection");
            let (mut client, got) = agree(stream, "/", offer);
            assert_eq!(got, format!("{ANSWER}{answer}"), "{name}");
            for n in 0..(CASE_BYTES / size).clamp(1, 100) {
                let from = n * size % (bytes.len() - size);
                let piece = &bytes[from..from + size];
                let message =
                    if text { String::from_utf8_lossy(piece).into_owned().into() } else { piece.to_vec() };
                let opcode = if text { 1 } else { 2 };
                client.raw(&compressed(opcode, &message, fragment));
                let (first, payload) = client.parts().expect("an echo");
                assert_eq!(first & !0x40, 0x80 | opcode, "{name}");
                let deflated = first & 0x40 != 0;
                assert_eq!(deflated, kind < 4 && size >= 256 || deflated && size == 64, "{name}: compressed");
                let echo = if deflated { inflate(&payload, bits) } else { payload };
                assert!(echo == message, "{name}: message {n} came back changed");
            }
            count += 1;
        }
    }
    assert_eq!(count, 216);
    running.stop();
}

/// The next message, whether it was compressed, and its bytes on the wire.
fn hear(client: &mut WebSocket) -> (bool, String, usize) {
    let (first, payload) = client.parts().expect("a frame");
    let deflated = first & 0x40 != 0;
    assert_eq!(first & !0x40, 0x81);
    let len = payload.len();
    let text = if deflated { inflate(&payload, 15) } else { payload };
    (deflated, String::from_utf8(text).expect("UTF-8"), len)
}

#[test]
fn who_agrees_is_sent_less_and_told_the_same() {
    for variant in VARIANTS {
        let server = Server::dev(&[
            variant[0],
            variant[1],
            "websocket.compression=true",
            "channel.without_namespace.join_leave=false",
            "channel.without_namespace.force_push_join_leave=false",
        ]);
        let mut clients: Vec<_> = [ANSWER, ANSWER, "", ""]
            .map(|want| {
                let offer = if want.is_empty() { "x" } else { "permessage-deflate; client_max_window_bits" };
                let (mut client, got) = agree(server.connect(), PATH, offer);
                assert_eq!(got, want);
                client.text("{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}");
                let mut heard = String::new();
                while !heard.contains("{\"id\":2,\"subscribe\"") {
                    heard += &hear(&mut client).1;
                }
                client
            })
            .into();
        let word = "news ".repeat(100);
        for n in 0..20 {
            let call = format!(r#"{{"channel":"news","data":{{"n":{n},"text":"{word}"}}}}"#);
            crate::http::post(&server, "/api/publish", &call);
            let heard: Vec<_> = clients.iter_mut().map(hear).collect();
            for (at, (deflated, text, len)) in heard.iter().enumerate() {
                assert_eq!((text, *deflated), (&heard[3].1, at < 2));
                assert!(text.contains(&format!("\"n\":{n},")));
                assert!(!deflated || *len < 150, "{len} bytes");
            }
        }
        // What a client compresses is read; a bomb ends it; so does a command above the limit.
        clients[0].raw(&compressed(1, br#"{"id":3,"rpc":{"method":"x"}}"#, 0));
        assert_eq!(hear(&mut clients[0]).1, r#"{"id":3,"error":{"code":108,"message":"not available"}}"#);
        clients[0].raw(&compressed(1, &vec![b' '; 655_361], 0));
        assert_eq!(clients[0].frame(), Frame::Close(Some(1009), String::new()));
        let long = format!(r#"{{"id":3,"rpc":{{"method":"x","data":"{}"}}}}"#, "x".repeat(70_000));
        clients[1].raw(&compressed(1, long.as_bytes(), 0));
        assert!(matches!(clients[1].frame(), Frame::Close(Some(3501), _)));
        // Who did not agree may not.
        clients[2].raw(&compressed(1, b"{}", 0));
        assert_eq!(clients[2].frame(), Frame::Close(Some(1002), String::new()));
        let metrics = crate::http::get(&server, "/metrics").1;
        let sum = |name: &str| -> u64 {
            let value = |line: &str| line.strip_prefix(name)?.rsplit_once(' ')?.1.parse::<u64>().ok();
            metrics.lines().filter_map(value).sum()
        };
        assert!(sum("corecast_deflated_messages_total") >= 20, "{metrics}");
        assert!(sum("corecast_deflate_bytes_out_total") * 3 < sum("corecast_deflate_bytes_in_total"));
        assert_eq!(sum("corecast_inflated_messages_total"), 2);
    }
}

// Listeners have options of their own; what they say may be compressed as well.
#[test]
fn listeners_agree_by_their_own_options() {
    const UNI: &str = "/connection/uni_websocket";
    let server = Server::dev(&[
        "runtime.cores=1",
        "uni_websocket.compression=true",
        "uni_websocket.compression_min_size=300",
        "uni_websocket.message_size_limit=1000",
        "channel.without_namespace.join_leave=false",
        "channel.without_namespace.force_push_join_leave=false",
    ]);
    let offer = "permessage-deflate";
    assert_eq!(agree(server.connect(), PATH, offer).1, "", "clients have theirs");
    let connect = br#"{"subs":{"news":{}}}"#;
    let (mut plain, got) = agree(server.connect(), UNI, "x");
    assert_eq!(got, "");
    plain.raw(&frame(0x81, connect));
    let (mut listener, got) = agree(server.connect(), UNI, offer);
    assert_eq!(got, ANSWER);
    listener.raw(&compressed(1, connect, 0));
    for client in [&mut plain, &mut listener] {
        assert!(hear(client).1.starts_with(r#"{"connect":{"client":""#));
    }
    for (text, deflated) in [("x".repeat(200), false), ("x".repeat(400), true)] {
        let call = format!(r#"{{"channel":"news","data":"{text}"}}"#);
        assert_eq!(crate::http::post(&server, "/api/publish", &call).0, 200);
        let (was_deflated, heard, _) = hear(&mut listener);
        assert!(was_deflated == deflated && heard.contains(&text), "{heard}");
        let (was_deflated, same, _) = hear(&mut plain);
        assert_eq!((was_deflated, same), (false, heard));
    }
    let (mut bomb, _) = agree(server.connect(), UNI, offer);
    bomb.raw(&compressed(1, &[b' '; 10_001], 0));
    assert_eq!(bomb.frame(), Frame::Close(Some(1009), String::new()));
}
