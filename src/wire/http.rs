//! HTTP/1.1 as the client port needs it: request heads, bodies, query parameters, response heads.
//!
//! The parser of heads is httparse; what it leaves open is decided here, strictly where proxies and servers
//! are known to disagree: a request whose length can be read in two ways is refused. No I/O, no routing.

mod body;
mod head;
mod query;
mod response;

#[cfg(test)]
mod tests;

pub use body::{Body, BodyDecoder, BodyError, Framing};
pub use head::{
    EMPTY_HEADER, Head, HeadError, HeadLimits, HeaderSlot, Request, Version, parse_head, token_in_list,
};
pub use query::{decode_component, parameter, parameters};
pub use response::{CONTINUE, Response, reason_phrase, write_response_head};
