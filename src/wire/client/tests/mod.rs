pub(super) mod arbitrary_messages;
mod codes_file;
mod decode;
mod deltas;
mod golden;
mod prost_messages;
mod round_trip;
mod schema_file;
