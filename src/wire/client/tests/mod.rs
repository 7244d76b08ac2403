mod arbitrary_messages;
mod codes_file;
mod decode;
mod golden;
mod prost_messages;
mod round_trip;
mod schema_file;
