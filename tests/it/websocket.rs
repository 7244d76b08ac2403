//! WebSocket framing over real sockets: what is answered, and with which code it ends.

use crate::{
    client::{Frame, PATH, WebSocket, frame, upgrade},
    server::{Server, VARIANTS},
};

/// What ends a connection, whole or byte by byte.
fn table() -> Vec<(&'static str, Vec<u8>, u16)> {
    let with_mask = |bytes: &[u8]| [bytes, &[0; 4]].concat();
    let close = |payload: &[u8]| frame(0x88, payload);
    let code = |code: u16| frame(0x88, &code.to_be_bytes());
    let mut rows = vec![
        ("unmasked text", vec![0x81, 2, b'{', b'}'], 1002),
        ("unmasked ping", vec![0x89, 0], 1002),
        ("rsv1", frame(0xc1, b"{}"), 1002),
        ("rsv2", frame(0xa1, b"{}"), 1002),
        ("rsv3", frame(0x91, b"{}"), 1002),
        ("all reserved bits", frame(0xf1, b"{}"), 1002),
        ("rsv1 on a ping", frame(0xc9, b""), 1002),
        ("fragmented ping", frame(0x09, b""), 1002),
        ("fragmented pong", frame(0x0a, b""), 1002),
        ("fragmented close", frame(0x08, &1000u16.to_be_bytes()), 1002),
        ("long ping", frame(0x89, &[0; 126]), 1002),
        ("long close", frame(0x88, &[3; 126]), 1002),
        ("continuation of nothing", frame(0x80, b"{}"), 1002),
        ("first continuation of nothing", frame(0x00, b"{}"), 1002),
        ("text inside text", [frame(0x01, b"{"), frame(0x81, b"}")].concat(), 1002),
        ("binary inside text", [frame(0x01, b"{"), frame(0x82, b"}")].concat(), 1002),
        ("16-bit length for 125", with_mask(&[0x81, 0xfe, 0, 125]), 1002),
        ("64-bit length for 65535", with_mask(&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]), 1002),
        ("length with the top bit", with_mask(&[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]), 1002),
        ("close of one byte", close(&[3]), 1002),
        ("close with a reason that is not UTF-8", close(&[3, 0xe8, 0xff]), 1007),
        ("text that is not UTF-8", frame(0x81, &[0xff]), 1007),
        ("text with a cut character", frame(0x81, &[b'a', 0xe2, 0x82]), 1007),
        ("text with a surrogate", frame(0x81, &[0xed, 0xa0, 0x80]), 1007),
        ("text with an overlong slash", frame(0x81, &[0xc0, 0xaf]), 1007),
        ("character cut by the message's end", [frame(0x01, &[0xe2]), frame(0x80, &[0x82])].concat(), 1007),
        ("wrong text before its frame ends", frame(0x81, &[0xff; 1000])[..100].to_vec(), 1007),
        ("length above the limit", with_mask(&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 1]), 1009),
        ("length of all", with_mask(&[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), 1009),
        (
            "fragments above the limit",
            [frame(0x01, &[b' '; 40_000]), frame(0x00, &[b' '; 25_536]), frame(0x80, b" ")].concat(),
            1009,
        ),
        ("empty message", frame(0x81, b""), 3501),
        ("binary that is not JSON", frame(0x82, &[1, 2, 3]), 3501),
        ("a message of exactly the limit", frame(0x82, &[b' '; 65_536]), 3501),
        (
            "garbage in fragments",
            [frame(0x01, b"gar"), frame(0x89, b""), frame(0x80, b"bage")].concat(),
            3501,
        ),
    ];
    rows.extend(
        [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf].map(|op| ("reserved opcode", frame(0x80 | op, b""), 1002)),
    );
    rows.extend(
        [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]
            .map(|number| ("close with a code that is none", code(number), 1002)),
    );
    rows
}

#[track_caller]
fn ends_with(mut client: WebSocket, name: &str, bytes: &[u8], code: u16) {
    loop {
        match client.frame() {
            // Asked for by a row.
            Frame::Pong(_) => {}
            Frame::Close(got, _) => {
                break assert_eq!(got, Some(code), "{name}: {:02x?}", &bytes[..bytes.len().min(16)]);
            }
            other => panic!("{name}: {other:?} instead of close {code}"),
        }
    }
}

#[test]
fn every_breach_has_its_code() {
    for variant in VARIANTS {
        let server =
            Server::start(&[variant[0], variant[1], "client.allow_anonymous_connect_without_token=true"]);
        let (mut bystander, _) = WebSocket::connected(&server);
        for (name, bytes, code) in table() {
            let mut client = WebSocket::open(&server);
            client.raw(&bytes);
            ends_with(client, name, &bytes, code);
            if bytes.len() < 200 {
                // In one segment with the handshake, and in two with the cut in the frame.
                let mut all = upgrade(PATH, "").into_bytes();
                all.extend_from_slice(&bytes);
                let mut client = WebSocket::open(&server);
                let (start, rest) = bytes.split_at(bytes.len() / 2);
                client.raw(start);
                client.raw(rest);
                ends_with(client, name, &bytes, code);
                let mut stream = server.connect();
                std::io::Write::write_all(&mut stream, &all).expect("a write");
                assert_eq!(crate::http::answer(&mut stream, true).expect("an answer").status, 101);
                ends_with(WebSocket::over(stream), name, &bytes, code);
            }
        }
        // Others have noticed nothing.
        bystander.text(r#"{"id":2,"rpc":{"method":"x"}}"#);
        assert_eq!(bystander.line(), r#"{"id":2,"error":{"code":108,"message":"not available"}}"#);
    }
}

#[test]
fn control_frames_are_answered() {
    for variant in VARIANTS {
        let server =
            Server::start(&[variant[0], variant[1], "client.allow_anonymous_connect_without_token=true"]);
        let mut client = WebSocket::open(&server);
        client.raw(&frame(0x89, b""));
        assert_eq!(client.frame(), Frame::Pong(vec![]));
        client.raw(&frame(0x89, &[7; 125]));
        assert_eq!(client.frame(), Frame::Pong(vec![7; 125]));
        // An unasked pong is nothing, and a ping may stand between fragments.
        client.raw(&frame(0x8a, b"x"));
        client.raw(&frame(0x01, br#"{"id":1,"#));
        client.raw(&frame(0x89, b"in between"));
        client.raw(&frame(0x80, br#""connect":{}}"#));
        assert_eq!(client.frame(), Frame::Pong(b"in between".to_vec()));
        assert!(client.line().starts_with(r#"{"id":1,"connect":"#));
        for (sent, answered) in [
            (frame(0x88, &[]), Frame::Close(None, String::new())),
            (frame(0x88, &[3, 0xe8]), Frame::Close(Some(1000), String::new())),
            (frame(0x88, &[0x0f, 0xa0, b'b', b'y', b'e']), Frame::Close(Some(4000), String::new())),
        ] {
            let mut client = WebSocket::open(&server);
            client.raw(&sent);
            // What follows a close is not read.
            client.raw(&frame(0x89, b""));
            assert_eq!(client.frame(), answered);
            assert_eq!(client.frame(), Frame::Eof);
        }
    }
}

#[test]
fn messages_at_the_limit() {
    let server = Server::start(&[
        "client.allow_anonymous_connect_without_token=true",
        "websocket.message_size_limit=1000",
    ]);
    for (len, closed) in [(1000, None), (1001, Some(1009))] {
        let mut client = WebSocket::open(&server);
        let start = r#"{"id":1,"connect":{"name":""#;
        let text = format!("{start}{}\"}}}}", "x".repeat(len - start.len() - 3));
        assert_eq!(text.len(), len);
        client.text(&text);
        match closed {
            None => assert!(client.line().starts_with(r#"{"id":1,"connect":"#)),
            Some(code) => assert_eq!(client.frame(), Frame::Close(Some(code), String::new())),
        }
    }
}

#[test]
fn pings_of_both_kinds() {
    let settings = [
        "client.allow_anonymous_connect_without_token=true",
        "client.ping_interval=400ms",
        "client.pong_timeout=200ms",
        "client.stale_close_delay=300ms",
    ];
    let server = Server::start(&settings);
    // Never connects, never answers, answers.
    let mut stale = WebSocket::open(&server);
    assert_eq!(stale.close(), (3502, "stale".to_owned()));
    let (mut deaf, _) = WebSocket::connected(&server);
    assert_eq!(deaf.line(), "{}");
    assert_eq!(deaf.close(), (3012, "no pong".to_owned()));
    let (mut client, _) = WebSocket::connected(&server);
    for _ in 0..3 {
        assert_eq!(client.line(), "{}");
        client.text("{}");
    }
    let (mut frames, _) = WebSocket::open_at(&server, &format!("{PATH}?cf_ws_frame_ping_pong=true"), "");
    frames.text(r#"{"id":1,"connect":{}}"#);
    let reply = frames.line();
    assert!(!reply.contains("ping") && !reply.contains("pong"), "{reply}");
    for _ in 0..3 {
        let Frame::Ping(payload) = frames.frame() else { panic!("no ping frame") };
        frames.raw(&frame(0x8a, &payload));
    }
}

#[test]
fn a_client_that_does_not_read_is_cut_and_others_are_served() {
    for variant in VARIANTS {
        let server = Server::dev(&[
            variant[0],
            variant[1],
            "client.queue_max_size=100000",
            "channel.without_namespace.history_size=10",
        ]);
        let (mut stalled, _) = WebSocket::connected(&server);
        stalled.text(r#"{"id":2,"subscribe":{"channel":"news"}}"#);
        stalled.line();
        stalled.line();
        let (mut publisher, _) = WebSocket::connected(&server);
        let data = "x".repeat(20_000);
        let mut cut = false;
        for id in 2..4000 {
            publisher.text(&format!(r#"{{"id":{id},"publish":{{"channel":"news","data":"{data}"}}}}"#));
            assert_eq!(publisher.line(), format!(r#"{{"id":{id},"publish":{{}}}}"#));
            if id % 50 == 0 {
                let (_, stats) = crate::http::post(&server, "/api/presence_stats", r#"{"channel":"news"}"#);
                cut = stats == r#"{"result":{"num_clients":0,"num_users":0}}"#;
                if cut {
                    break;
                }
            }
        }
        assert!(cut, "{variant:?}: nobody cut the client that does not read");
    }
}
