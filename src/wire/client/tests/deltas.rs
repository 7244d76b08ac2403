//! Publications for those who agreed on deltas: strings in JSON, bytes in Protobuf. And channels by number.

use crate::{
    model::{Protocol, Publication},
    wire::client::{
        Push, Reply, Request, ServerMessage, ServerPush, ServerReply, SubscribeResult, decode,
        decode_replies, encode_numbered_push, encode_push, encode_reply, unquoted,
    },
};
use std::sync::Arc;

const FULL: &str = "{\"a\": \"<long> \\\" text\", \"б\":\n[1]}";
const PATCH: &str = "15\nW@0,1:ж_@X,3gT4_g;";

fn publication() -> Arc<Publication> {
    let tags = vec![("k".into(), "v".into())];
    Arc::new(Publication { offset: 2, data: FULL.as_bytes().into(), tags, ..Publication::default() })
}

#[test]
fn json_strings() {
    let publication = publication();
    let mut out = Vec::new();
    for patch in [None, Some(PATCH.as_bytes())] {
        encode_push(Protocol::Json, "d", &Push::Patched { publication: &publication, patch }, &mut out);
        out.push(b'\n');
    }
    let want = concat!(
        r#"{"push":{"channel":"d","pub":{"data":"{\"a\": \"\u003clong\u003e \\\" text\", \"б\":\n[1]}","offset":2,"tags":{"k":"v"}}}}"#,
        "\n",
        r#"{"push":{"channel":"d","pub":{"data":"15\nW@0,1:ж_@X,3gT4_g;","offset":2,"tags":{"k":"v"},"delta":true}}}"#,
        "\n",
    );
    assert_eq!(String::from_utf8(out).unwrap(), want);
}

#[test]
fn what_was_written_is_read() {
    let publications = [publication(), publication()];
    let patches = [None, Some(PATCH.as_bytes().into())];
    let result = SubscribeResult {
        publications: &publications,
        patches: Some(&patches),
        ..SubscribeResult::default()
    };
    for protocol in [Protocol::Json, Protocol::Protobuf] {
        let mut frame = Vec::new();
        encode_reply(protocol, 7, &Reply::Subscribe(&result), &mut frame);
        let read = decode_replies(protocol, &frame).next().unwrap().unwrap();
        let ServerMessage::Reply { id: 7, reply: ServerReply::Subscribe(read) } = read else {
            panic!("{read:?}")
        };
        assert!(read.delta);
        let told = |at: usize| (unquoted(protocol, read.publications[at].data), read.publications[at].delta);
        assert_eq!(told(0), (Some(FULL.as_bytes().into()), false));
        assert_eq!(told(1), (Some(PATCH.as_bytes().into()), true));

        let mut frame = Vec::new();
        let push = Push::Patched { publication: &publications[0], patch: Some(PATCH.as_bytes()) };
        encode_push(protocol, "d", &push, &mut frame);
        let read = decode_replies(protocol, &frame).next().unwrap().unwrap();
        let ServerMessage::Push { push: ServerPush::Publication(read), .. } = read else {
            panic!("{read:?}")
        };
        assert_eq!((unquoted(protocol, read.data), read.delta), (Some(PATCH.as_bytes().into()), true));
    }
    assert_eq!(unquoted(Protocol::Json, b"{}"), None);
    assert_eq!(unquoted(Protocol::Json, b"\"a\" 1"), None);
}

#[test]
fn channels_by_number() {
    let publication = Publication { data: b"1".as_slice().into(), ..Publication::default() };
    let push = Push::Publication { publication: &publication, epoch: "" };
    let mut frame = Vec::new();
    encode_numbered_push(Protocol::Json, 7, &push, &mut frame);
    assert_eq!(frame, br#"{"push":{"id":7,"pub":{"data":1}}}"#);
    for protocol in [Protocol::Json, Protocol::Protobuf] {
        let mut frame = Vec::new();
        encode_numbered_push(protocol, 7, &push, &mut frame);
        let read = decode_replies(protocol, &frame).next().unwrap().unwrap();
        let ServerMessage::NumberedPush { number: 7, push: ServerPush::Publication(read) } = read else {
            panic!("{read:?}")
        };
        assert_eq!(read.data, b"1");
    }
}

// Deeper than anybody needs: read, and not believed.
#[test]
fn filters_are_read_to_some_depth() {
    let depth = |depth: usize| {
        let text = format!(
            r#"{{"id":1,"subscribe":{{"channel":"c","tf":{}{{"key":"k"}}{}}}}}"#,
            r#"{"op":"not","nodes":["#.repeat(depth),
            "]}".repeat(depth)
        );
        let command = decode(Protocol::Json, text.as_bytes()).next().unwrap().unwrap();
        let Request::Subscribe(request) = command.request else { panic!("a subscribe") };
        let mut node = *request.tags_filter.unwrap();
        while let Some(inner) = node.nodes.pop() {
            node = inner;
        }
        node.key.into_owned()
    };
    assert_eq!((&*depth(31), &*depth(32)), ("k", ""));
}
