//! Writing one message, whatever its encoding: a message tells a sink its fields in order, and the sink writes
//! them as JSON, as Protobuf, or only counts bytes (Protobuf needs lengths before contents).

use super::schema::Field;
use crate::{
    model::{ClientId, ClientInfo},
    stdx::varint,
    wire::json::{write_inside, write_number, write_string, write_value},
};

use std::sync::Arc;

/// A message that can tell its fields.
pub(super) trait Encode {
    fn fields<S: Sink>(&self, sink: &mut S);
}

/// A field with the zero value of its type is left out, unless the method says otherwise.
pub(super) trait Sink {
    fn uint(&mut self, field: Field, value: u64);
    fn int(&mut self, field: Field, value: i64);
    /// As [`Sink::int`]; in Protobuf `sint64`.
    fn sint(&mut self, field: Field, value: i64);
    fn flag(&mut self, field: Field, value: bool);
    fn text(&mut self, field: Field, value: &str);
    /// Bytes; in JSON a value that is embedded as it is, less raw newlines.
    fn payload(&mut self, field: Field, value: &[u8]);
    /// Bytes; in JSON a string, for which they must be UTF-8.
    fn quoted(&mut self, field: Field, value: &[u8]);
    fn client(&mut self, field: Field, value: ClientId);
    /// Written even when it has no content.
    fn message(&mut self, field: Field, value: &impl Encode);
    fn list<M: Encode>(&mut self, field: Field, items: impl Iterator<Item = M>);
    fn map<K: Key, M: Encode>(&mut self, field: Field, entries: impl ExactSizeIterator<Item = (K, M)>);
    /// A list of texts, empty ones as well.
    fn texts(&mut self, field: Field, items: &[impl AsRef<str>]);
    fn text_map(
        &mut self,
        field: Field,
        entries: impl ExactSizeIterator<Item = (impl AsRef<str>, impl AsRef<str>)>,
    );
    /// Clients by their ids, as [`Sink::map_always`] would write them.
    fn clients(&mut self, field: Field, clients: &[Arc<ClientInfo>]) {
        self.map_always(field, clients.iter().map(|info| (info.client, &**info)));
    }

    // What JSON writes even if it is zero or empty, and Protobuf does not.
    fn uint_always(&mut self, field: Field, value: u64) {
        self.uint(field, value);
    }
    fn text_always(&mut self, field: Field, value: &str) {
        self.text(field, value);
    }
    fn list_always<M: Encode>(&mut self, field: Field, items: impl ExactSizeIterator<Item = M>) {
        self.list(field, items);
    }
    fn map_always<K: Key, M: Encode>(
        &mut self,
        field: Field,
        entries: impl ExactSizeIterator<Item = (K, M)>,
    ) {
        self.map(field, entries);
    }
}

/// What a map may be keyed by.
pub(super) trait Key {
    fn write_json(&self, out: &mut Vec<u8>);
    /// As the field of an entry.
    fn tell<S: Sink>(&self, field: Field, sink: &mut S);
}

impl Key for &str {
    fn write_json(&self, out: &mut Vec<u8>) {
        write_string(out, self);
    }

    fn tell<S: Sink>(&self, field: Field, sink: &mut S) {
        sink.text(field, self);
    }
}

impl Key for ClientId {
    #[inline]
    fn write_json(&self, out: &mut Vec<u8>) {
        write_client(out, *self);
    }

    #[inline]
    fn tell<S: Sink>(&self, field: Field, sink: &mut S) {
        sink.client(field, *self);
    }
}

/// A client id as a JSON string: nothing in it has to be escaped.
#[inline]
fn write_client(out: &mut Vec<u8>, client: ClientId) {
    let mut quoted = [b'"'; 38];
    if let Some(inside) = quoted.get_mut(1..37) {
        inside.copy_from_slice(&client.text());
    }
    out.extend_from_slice(&quoted);
}

/// Appends JSON.
pub(super) struct Json<'v> {
    out: &'v mut Vec<u8>,
    /// Nothing stands in the open object yet.
    first: bool,
}

impl<'v> Json<'v> {
    pub fn new(out: &'v mut Vec<u8>) -> Self {
        Self { out, first: true }
    }

    #[inline]
    pub fn object(&mut self, message: &impl Encode) {
        self.out.push(b'{');
        self.first = true;
        message.fields(self);
        self.out.push(b'}');
        self.first = false;
    }

    #[inline]
    fn key(&mut self, field: Field) {
        let key = field.key.as_bytes();
        self.out.extend_from_slice(key.get(usize::from(self.first)..).unwrap_or_default());
        self.first = false;
    }

    /// One client of a map, from templates: there may be thousands.
    fn client_entry(&mut self, comma: bool, info: &ClientInfo) {
        const HEAD: [u8; 49] = *b",\"------------------------------------\":{\"user\":\"";
        const TAIL: [u8; 49] = *b"\",\"client\":\"------------------------------------\"";
        let text = info.client.text();
        let (mut head, mut tail) = (HEAD, TAIL);
        head[2..38].copy_from_slice(&text);
        tail[12..48].copy_from_slice(&text);
        self.out.reserve(HEAD.len() + info.user.len() + TAIL.len() + 1);
        self.out.extend_from_slice(if comma { &head } else { &head[1..] });
        if !info.user.is_empty() {
            write_inside(self.out, &info.user);
        }
        self.out.extend_from_slice(&tail);
        self.first = false;
        info.infos(self);
        self.out.push(b'}');
    }

    #[inline]
    fn entry(&mut self, index: usize, key: &impl Key) {
        if index > 0 {
            self.out.push(b',');
        }
        key.write_json(self.out);
        self.out.push(b':');
    }
}

impl Sink for Json<'_> {
    #[inline]
    fn uint(&mut self, field: Field, value: u64) {
        if value != 0 {
            self.uint_always(field, value);
        }
    }

    fn int(&mut self, field: Field, value: i64) {
        if value != 0 {
            self.key(field);
            if value < 0 {
                self.out.push(b'-');
            }
            write_number(self.out, value.unsigned_abs());
        }
    }

    fn sint(&mut self, field: Field, value: i64) {
        self.int(field, value);
    }

    fn flag(&mut self, field: Field, value: bool) {
        if value {
            self.key(field);
            self.out.extend_from_slice(b"true");
        }
    }

    #[inline]
    fn text(&mut self, field: Field, value: &str) {
        if !value.is_empty() {
            self.text_always(field, value);
        }
    }

    #[inline]
    fn payload(&mut self, field: Field, value: &[u8]) {
        if !value.is_empty() {
            self.key(field);
            write_value(self.out, value);
        }
    }

    fn quoted(&mut self, field: Field, value: &[u8]) {
        self.text(field, simdutf8::basic::from_utf8(value).unwrap_or_default());
    }

    fn client(&mut self, field: Field, value: ClientId) {
        self.key(field);
        write_client(self.out, value);
    }

    #[inline]
    fn message(&mut self, field: Field, value: &impl Encode) {
        self.key(field);
        self.object(value);
    }

    fn list<M: Encode>(&mut self, field: Field, items: impl Iterator<Item = M>) {
        let mut items = items.peekable();
        if items.peek().is_some() {
            self.key(field);
            self.out.push(b'[');
            for (index, item) in items.enumerate() {
                if index > 0 {
                    self.out.push(b',');
                }
                self.object(&item);
            }
            self.out.push(b']');
        }
    }

    fn map<K: Key, M: Encode>(&mut self, field: Field, entries: impl ExactSizeIterator<Item = (K, M)>) {
        if entries.len() > 0 {
            self.map_always(field, entries);
        }
    }

    fn texts(&mut self, field: Field, items: &[impl AsRef<str>]) {
        if !items.is_empty() {
            self.key(field);
            self.out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    self.out.push(b',');
                }
                write_string(self.out, item.as_ref());
            }
            self.out.push(b']');
        }
    }

    fn text_map(
        &mut self,
        field: Field,
        entries: impl ExactSizeIterator<Item = (impl AsRef<str>, impl AsRef<str>)>,
    ) {
        if entries.len() > 0 {
            self.key(field);
            self.out.push(b'{');
            for (index, (key, value)) in entries.enumerate() {
                self.entry(index, &key.as_ref());
                write_string(self.out, value.as_ref());
            }
            self.out.push(b'}');
        }
    }

    fn uint_always(&mut self, field: Field, value: u64) {
        self.key(field);
        write_number(self.out, value);
    }

    fn text_always(&mut self, field: Field, value: &str) {
        self.key(field);
        write_string(self.out, value);
    }

    fn clients(&mut self, field: Field, clients: &[Arc<ClientInfo>]) {
        self.key(field);
        self.out.push(b'{');
        for (index, info) in clients.iter().enumerate() {
            self.client_entry(index > 0, info);
        }
        self.out.push(b'}');
        self.first = false;
    }

    fn list_always<M: Encode>(&mut self, field: Field, items: impl ExactSizeIterator<Item = M>) {
        if items.len() > 0 {
            self.list(field, items);
        } else {
            self.key(field);
            self.out.extend_from_slice(b"[]");
        }
    }

    fn map_always<K: Key, M: Encode>(
        &mut self,
        field: Field,
        entries: impl ExactSizeIterator<Item = (K, M)>,
    ) {
        self.key(field);
        self.out.push(b'{');
        for (index, (key, value)) in entries.enumerate() {
            self.entry(index, &key);
            self.object(&value);
        }
        self.out.push(b'}');
        self.first = false;
    }
}

/// Where Protobuf goes: into bytes, or only into their number. The fields are told to both in the same way.
pub(super) trait Wire {
    fn varint(&mut self, value: u64);
    fn bytes(&mut self, bytes: &[u8]);
    fn client(&mut self, client: ClientId);
    /// The content of a message, its length in front.
    fn delimited(&mut self, message: &impl Encode);
}

/// Appends Protobuf.
pub(super) struct Bytes<'v>(pub &'v mut Vec<u8>);

/// Counts the bytes that [`Bytes`] would append.
pub(super) struct Size(pub usize);

impl Wire for Bytes<'_> {
    #[inline]
    fn varint(&mut self, value: u64) {
        varint::write(self.0, value);
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn client(&mut self, client: ClientId) {
        self.0.extend_from_slice(&client.text());
    }

    fn delimited(&mut self, message: &impl Encode) {
        let mut size = Size(0);
        message.fields(&mut size);
        varint::write(self.0, size.0 as u64);
        message.fields(self);
    }
}

impl Wire for Size {
    #[inline]
    fn varint(&mut self, value: u64) {
        self.0 += varint::len(value);
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn client(&mut self, _client: ClientId) {
        self.0 += 36;
    }

    fn delimited(&mut self, message: &impl Encode) {
        let mut size = Self(0);
        message.fields(&mut size);
        self.0 += varint::len(size.0 as u64) + size.0;
    }
}

const VARINT: u64 = 0;
const LEN: u64 = 2;

#[inline]
fn tag(field: Field, wire_type: u64) -> u64 {
    u64::from(field.number) << 3 | wire_type
}

/// An entry of a map is a message with the key in field 1 and the value in field 2.
struct Entry<K, V>(K, V);
const KEY: Field = Field { number: 1, key: "" };
const VALUE: Field = Field { number: 2, key: "" };

impl<K: Key, M: Encode> Encode for Entry<K, &M> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        self.0.tell(KEY, sink);
        sink.message(VALUE, self.1);
    }
}

impl<K: AsRef<str>> Encode for Entry<K, &str> {
    fn fields<S: Sink>(&self, sink: &mut S) {
        sink.text(KEY, self.0.as_ref());
        sink.text(VALUE, self.1);
    }
}

impl<W: Wire> Sink for W {
    #[inline]
    fn uint(&mut self, field: Field, value: u64) {
        if value != 0 {
            self.varint(tag(field, VARINT));
            self.varint(value);
        }
    }

    fn int(&mut self, field: Field, value: i64) {
        // Two's complement of 64 bits, also for int32: https://protobuf.dev/programming-guides/encoding/
        self.uint(field, value as u64);
    }

    fn sint(&mut self, field: Field, value: i64) {
        self.uint(field, (value << 1 ^ value >> 63) as u64);
    }

    fn flag(&mut self, field: Field, value: bool) {
        self.uint(field, u64::from(value));
    }

    #[inline]
    fn text(&mut self, field: Field, value: &str) {
        self.payload(field, value.as_bytes());
    }

    #[inline]
    fn payload(&mut self, field: Field, value: &[u8]) {
        if !value.is_empty() {
            self.varint(tag(field, LEN));
            self.varint(value.len() as u64);
            self.bytes(value);
        }
    }

    fn quoted(&mut self, field: Field, value: &[u8]) {
        self.payload(field, value);
    }

    fn client(&mut self, field: Field, value: ClientId) {
        self.varint(tag(field, LEN));
        self.varint(36);
        Wire::client(self, value);
    }

    #[inline]
    fn message(&mut self, field: Field, value: &impl Encode) {
        self.varint(tag(field, LEN));
        self.delimited(value);
    }

    fn list<M: Encode>(&mut self, field: Field, items: impl Iterator<Item = M>) {
        for item in items {
            self.message(field, &item);
        }
    }

    fn map<K: Key, M: Encode>(&mut self, field: Field, entries: impl ExactSizeIterator<Item = (K, M)>) {
        for (key, value) in entries {
            self.message(field, &Entry(key, &value));
        }
    }

    fn texts(&mut self, field: Field, items: &[impl AsRef<str>]) {
        for item in items {
            self.varint(tag(field, LEN));
            self.varint(item.as_ref().len() as u64);
            self.bytes(item.as_ref().as_bytes());
        }
    }

    fn text_map(
        &mut self,
        field: Field,
        entries: impl ExactSizeIterator<Item = (impl AsRef<str>, impl AsRef<str>)>,
    ) {
        for (key, value) in entries {
            self.message(field, &Entry(key, value.as_ref()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::schema::presence_result, *};

    struct Plain<'a>(&'a [Arc<ClientInfo>]);

    impl Encode for Plain<'_> {
        fn fields<S: Sink>(&self, sink: &mut S) {
            sink.map_always(presence_result::PRESENCE, self.0.iter().map(|info| (info.client, &**info)));
        }
    }

    struct Quick<'a>(&'a [Arc<ClientInfo>]);

    impl Encode for Quick<'_> {
        fn fields<S: Sink>(&self, sink: &mut S) {
            sink.clients(presence_result::PRESENCE, self.0);
        }
    }

    #[test]
    fn clients_from_templates_are_clients() {
        arbtest::arbtest(|u| {
            let mut clients = Vec::new();
            for _ in 0..u.int_in_range(0..=4)? {
                let user: String = u.arbitrary()?;
                let info = |u: &mut arbitrary::Unstructured<'_>| {
                    Ok::<_, arbitrary::Error>(match u.int_in_range(0..=2)? {
                        0 => None,
                        1 => Some(b"".as_slice().into()),
                        _ => Some(b"{\"a\":\n1}".as_slice().into()),
                    })
                };
                let (conn_info, chan_info) = (info(u)?, info(u)?);
                let client = ClientId(u.arbitrary()?);
                clients.push(Arc::new(ClientInfo { user: user.into(), client, conn_info, chan_info }));
            }
            let (mut plain, mut quick) = (Vec::new(), Vec::new());
            Json::new(&mut plain).object(&Plain(&clients));
            Json::new(&mut quick).object(&Quick(&clients));
            assert_eq!(String::from_utf8(quick), String::from_utf8(plain));
            Ok(())
        });
    }
}
