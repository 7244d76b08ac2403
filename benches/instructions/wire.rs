//! Bytes in: commands in both protocols, frames of clients.

use crate::case;
use corecast::{
    model::Protocol,
    wire::{
        client::{Command, PublishRequest, Request, decode, encode_command},
        websocket::{Decoder, Event, Opcode, Options, Role, write_masked},
    },
};
use std::hint::black_box;

const COMMANDS: u32 = 256;

/// A publish command of a client, with a payload of 128 bytes.
pub fn publish(protocol: Protocol, channel: &str, id: u32) -> Vec<u8> {
    let data = format!("\"{}\"", "x".repeat(126));
    let request =
        PublishRequest { channel: channel.into(), data: Some(data.as_bytes()), ..PublishRequest::default() };
    let mut out = Vec::new();
    encode_command(protocol, &Command { id, request: Request::Publish(request) }, &mut out);
    out
}

pub fn run() {
    for (name, protocol) in
        [("decode-publish-json", Protocol::Json), ("decode-publish-protobuf", Protocol::Protobuf)]
    {
        let command = publish(protocol, "bench", 7);
        case(name, COMMANDS, || {
            for _ in 0..COMMANDS {
                for command in decode(protocol, black_box(&command)) {
                    black_box(&command).as_ref().expect("a command of the protocol");
                }
            }
        });
    }
    frames("frame-text", Opcode::Text);
    frames("frame-binary", Opcode::Binary);
}

/// One read that brought many frames of 170 bytes: headers, masks, UTF-8.
fn frames(name: &str, opcode: Opcode) {
    let mut masked = Vec::new();
    for at in 0..COMMANDS {
        write_masked(
            &mut masked,
            opcode,
            &publish(Protocol::Json, "bench", 7),
            (at * 0x0101_0101).to_be_bytes(),
        );
    }
    let options = Options { role: Role::Server, message_size_limit: 65_536, compression: false };
    let mut decoder = Decoder::default();
    let mut bytes = masked.clone();
    case(name, COMMANDS, || {
        bytes.copy_from_slice(&masked);
        let mut frames = decoder.feed(&mut bytes, &options);
        let mut count = 0;
        while let Some(event) = frames.next().expect("frames of a client") {
            count += u32::from(matches!(black_box(event), Event::Message { .. }));
        }
        assert_eq!(count, COMMANDS);
    });
}
