//! The fuzz targets on stable: random bytes and mutated good ones. `FUZZ_ROUNDS` sets how many inputs
//! each target gets (default 20 000).

use super::*;

/// Good inputs to start from.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let steered = |bytes: &[u8]| [&[3, 1, 4, 1][..], bytes].concat();
    match target {
        "ws_frames" => {
            let mut stream = Vec::new();
            write_masked(&mut stream, Opcode::Text, "{\"id\":1} é".as_bytes(), [1, 2, 3, 4]);
            write_masked(&mut stream, Opcode::Ping, b"beat", [9, 8, 7, 6]);
            write_masked(&mut stream, Opcode::Binary, &[7; 200], [0, 0, 1, 0]);
            let mut fragments = Vec::new();
            write_masked(&mut fragments, Opcode::Text, "h\u{e9}".as_bytes(), [1, 1, 1, 1]);
            fragments[0] &= 0x7f;
            write_masked(&mut fragments, Opcode::Pong, b"", [0; 4]);
            write_masked(&mut fragments, Opcode::Continuation, "\u{1f600}".as_bytes(), [5, 5, 0, 5]);
            let mut close = Vec::new();
            write_masked(&mut close, Opcode::Close, b"\x03\xe8bye", [1, 2, 3, 4]);
            vec![steered(&stream), steered(&fragments), steered(&[&fragments[..], &close].concat())]
        }
        "inflate" => {
            let text = br#"{"id":1,"publish":{"channel":"news","data":{"text":"news news news news"}}}"#;
            let mut deflater = Deflater::new(deflate::Options::default());
            let mut fast = deflater.deflate(Window::Bits15, text).unwrap().to_vec();
            let long = deflater.deflate(Window::Bits9, &text.repeat(40)).unwrap().to_vec();
            let stored = [&[0, 5, 0, 0xfa, 0xff][..], b"Hello", &[0]].concat();
            let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
            let offer = b"permessage-deflate; client_max_window_bits; server_max_window_bits=\"10\", x; a=b";
            let several = [&last[..], &stored].concat();
            fast.extend_from_slice(&[0, 0, 0xff, 0xff]);
            [&fast[..], &long, &stored, &last, offer, &several].map(|it| [&[255, 63, 0, 0][..], it].concat()).to_vec()
        }
        "fossil" => {
            let first = r#"{"text":"Привет, как дела?","numbers":[1,2,3,4,5,6,7,8,9,10]}"#.repeat(3);
            let second = first.replacen("как", "кок", 1);
            let mut encoder = fossil::Encoder::default();
            let delta = encoder.delta(first.as_bytes(), second.as_bytes(), fossil::Literals::Text).unwrap();
            let at = (first.len() as u32).to_le_bytes();
            [second.as_bytes(), delta, b"4\n4@2,nCoGq;"].map(|it| [&at[..], first.as_bytes(), it].concat()).to_vec()
        }
        "json_commands" => [
            r#"{"id":1,"connect":{"token":"t","data":{"a":[1,2.5e3,null]},"subs":{"n":{"recover":true,"offset":5,"epoch":"e"}},"headers":{"X":"y"}}}"#,
            "{\"id\":2,\"subscribe\":{\"channel\":\"a\\u00e9\",\"tf\":{\"key\":\"t\"},\"flag\":-2}}\n{}\n{\"id\":3,\"publish\":{\"channel\":\"a\",\"data\":{\"x\": [1,\t2]}}}",
            r#"{"id":6,"history":{"channel":"a","limit":-1,"since":{"offset":18446744073709551615,"epoch":"e"},"reverse":true}}"#,
            r#"{"id":1,"rpc":{"method":"x","data":"\ud83d\ude00"}}"#,
            r#"{"push":{"channel":"a","pub":{"data":{},"info":{"user":"","client":"c"},"offset":1,"tags":{"k":"v"}}}}"#,
        ]
        .map(|it| it.as_bytes().to_vec())
        .to_vec(),
        "protobuf_commands" => {
            let mut all = Vec::new();
            for json in seeds("json_commands") {
                let mut frame = Vec::new();
                for command in client::decode(Protocol::Json, &json) {
                    encode_command(Protocol::Protobuf, &command.unwrap(), &mut frame);
                }
                all.push(frame);
            }
            all
        }
        "v1_commands" => [
            &br#"{"params":{"token":"t","data":{"a":[1]},"subs":{"n":{"recover":true,"seq":5,"gen":1,"epoch":"e"}}},"id":1}"#[..],
            b"{\"method\":1,\"params\":{\"channel\":\"a\",\"offset\":7},\"id\":2}\n{\"method\":\"publish\",\"params\":{\"channel\":\"a\",\"data\":[1]},\"id\":3}",
            br#"{"method":7,"id":4}"#,
            b"\x05\x08\x01\x1a\x01\x00\x0f\x08\x02\x10\x03\x1a\x09\x0a\x01c\x12\x04\"hi\"",
        ]
        .map(<[u8]>::to_vec)
        .to_vec(),
        "backend" => [
            &br#"{"result":{"items":[{"key":"a","data":{"n":[1]},"version":2},{"key":"b","removed":true}],"epoch":"e"}}"#[..],
            br#"{"result":{"items":[{"key":"\u00e9\n","b64data":"/w=="},{"key":"","data":null}]},"error":null}"#,
            br#"{"error":{"code":1000,"message":"no"}}"#,
        ]
        .map(<[u8]>::to_vec)
        .to_vec(),
        "sockjs" => [&br#"["{\"id\":1}","\ud83d\ude00 \n"]"#[..], b"[]", br#""one""#].map(<[u8]>::to_vec).to_vec(),
        "http_head" => [
            "GET /connection/websocket?cf_protocol=protobuf HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            "POST /api/publish HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhellonext",
            "POST /api HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nT: v\r\n\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n",
        ]
        .map(|it| steered(it.as_bytes()))
        .to_vec(),
        other => panic!("no seeds for {other}"),
    }
}

/// xorshift64*: the same inputs on every run.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit.max(1)
    }
}

/// Bytes that decoders care about.
const TOKENS: [&[u8]; 18] = [
    b"{",
    b"}",
    b"\"",
    b":",
    b",",
    b"\n",
    b"\r\n",
    b"\0",
    b"\x80",
    b"\xff",
    b"\\u",
    b"null",
    b"\x7f",
    b"0",
    b"[[[[",
    b"{\"a\":",
    b"\xed\xa0\x80",
    b"chunked",
];

fn mutated(rng: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[rng.below(seeds.len())].clone();
    if rng.below(8) == 0 {
        let len = rng.below(64);
        bytes = (0..len).map(|_| rng.next() as u8).collect();
    }
    for _ in 0..rng.below(5) {
        let at = rng.below(bytes.len() + 1);
        let len = rng.below(1 + (bytes.len() - at).min(12));
        match rng.below(5) {
            0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << rng.below(8)),
            1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = rng.next() as u8),
            2 => drop(bytes.drain(at..at + len)),
            3 => {
                let token = TOKENS[rng.below(TOKENS.len())];
                bytes.splice(at..at, token.iter().copied());
            }
            _ => {
                let piece = bytes[at..at + len].to_vec();
                let to = rng.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
        }
    }
    bytes
}

#[test]
fn targets_hold_on_mutated_inputs() {
    let rounds = std::env::var("FUZZ_ROUNDS").map_or(20_000, |it| it.parse().unwrap());
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        seeds.iter().for_each(|seed| target(seed));
        let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
        for round in 0..rounds {
            let input = mutated(&mut rng, &seeds);
            let outcome = std::panic::catch_unwind(|| target(&input));
            assert!(outcome.is_ok(), "{name}, round {round}: {input:?}");
        }
    }
}
