//! The rows in Protobuf, byte by byte.

use super::servers;
use crate::{
    client::{Frame, PATH, WebSocket},
    server::Server,
};

/// A client of Protobuf.
fn open(server: &Server) -> WebSocket {
    WebSocket::open_at(server, &format!("{PATH}?cf_protocol=protobuf"), "").0
}

/// The next so many messages, without the lengths in front: none of them has more than 127 bytes.
fn messages(client: &mut WebSocket, count: usize) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while found.len() < count {
        let Frame::Binary(bytes) = client.frame() else { panic!("not binary") };
        let mut rest = &bytes[..];
        while let Some((&len, behind)) = rest.split_first() {
            let (message, next) = behind.split_at(usize::from(len));
            found.push(message.to_vec());
            rest = next;
        }
    }
    assert_eq!(found.len(), count, "{found:?}");
    found
}

fn len(bytes: &[u8]) -> u8 {
    u8::try_from(bytes.len()).expect("a short text")
}

#[test]
fn the_life_of_a_channel() {
    for server in servers() {
        let mut client = open(&server);
        client.binary(&[4, 8, 1, 0x22, 0]);
        let connected = messages(&mut client, 1).remove(0);
        let id = &connected[6..42];
        let version = super::VERSION.as_bytes();
        let result = [&[0x0a, 36][..], id, &[0x12, len(version)], version, &[0x38, 25, 0x40, 1]].concat();
        assert_eq!(connected, [&[8, 1, 0x2a, len(&result)][..], &result[..]].concat());

        client.binary(b"\x08\x08\x02\x2a\x04\x0a\x02pb");
        let told = messages(&mut client, 2);
        let epoch = &told[0][8..8 + usize::from(told[0][7])];
        let epoch_len = len(epoch);
        let subscribed = [&[8, 2, 0x32, 6 + epoch_len, 0x18, 1, 0x32, epoch_len][..], epoch, &[0x50, 1]];
        assert_eq!(told[0], subscribed.concat());
        assert_eq!(told[1], [&b"\x22\x2e\x12\x02pb\x2a\x28\x0a\x26\x12\x24"[..], id].concat());

        client.binary(b"\x0c\x08\x03\x3a\x08\x0a\x02pb\x12\x02\x00\xff");
        let mut told = messages(&mut client, 2);
        // Either may come first.
        told.sort_unstable();
        assert_eq!(told[0], [8, 3, 0x42, 0]);
        let lens = [0x22, 54 + epoch_len, 0x12, 2, b'p', b'b', 0x22, 48 + epoch_len];
        let data = b"\x22\x02\x00\xff\x2a\x26\x12\x24";
        let push = [&lens[..], &data[..], id, &[0x30, 1, 0x72, epoch_len], epoch];
        assert_eq!(told[1], push.concat());
    }
}

#[test]
fn pings_and_pongs() {
    let server = Server::start(&[
        "client.allow_anonymous_connect_without_token=true",
        "client.ping_interval=300ms",
        "client.pong_timeout=200ms",
    ]);
    let mut client = open(&server);
    client.binary(&[4, 8, 1, 0x22, 0]);
    messages(&mut client, 1);
    for _ in 0..2 {
        assert_eq!(client.frame(), Frame::Binary(vec![0]));
        client.binary(&[0]);
    }
    client.binary(&[0]);
    assert_eq!(client.frame(), Frame::Close(Some(3501), "bad request".into()));
}
