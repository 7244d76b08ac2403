//! The transports of clients that only listen, and what pages ask before they connect.

use super::{
    rules::Rule,
    settings::{KIB, MESSAGE, WAIT_OR_DEFAULT, seconds},
    table::sections,
    transforms::ConnectResponses,
};
use std::time::Duration;

sections! {
    UniWebSocket {
        /// Serve it.
        enabled: bool = false, Rule::Any;
        /// Path of the endpoint.
        handler_prefix: String = "/connection/uni_websocket".into(), Rule::Path;
        /// Bytes of the message that connects; more closes with 1009.
        message_size_limit: usize = 64 * KIB, MESSAGE;
        /// Several pushes may come in one frame, a line each. Costs less; not every client expects it.
        join_push_messages: bool = false, Rule::Any;
        /// Agree to compression (permessage-deflate) with listeners that offer it, as `websocket.compression` does with clients.
        compression: bool = false, Rule::Any;
        /// How hard to compress: 1 is fastest, 9 smallest.
        compression_level: u32 = 1, Rule::Range(1, 9);
        /// Bytes of what is sent in one frame from which on it is compressed; below 64 nothing is.
        compression_min_size: usize = 0, Rule::Range(0, 1 << 30);
        /// Bytes of the message that connects when inflated; more closes with 1009. 0: ten times `uni_websocket.message_size_limit`.
        decompressed_message_size_limit: usize = 0, Rule::Range(0, 1 << 34);
        /// A listener that takes no bytes for this long is closed with 3009.
        write_timeout: Duration = seconds(1), WAIT_OR_DEFAULT;
        /// Say why a connection ends in the close frame only, and not in a push before it.
        disable_disconnect_push: bool = false, Rule::Any;
        /// End the connection without a close frame, where the server ends it.
        disable_closing_handshake: bool = false, Rule::Any;
    }

    UniSse {
        /// Serve it.
        enabled: bool = false, Rule::Any;
        /// Path of the endpoint.
        handler_prefix: String = "/connection/uni_sse".into(), Rule::Path;
        /// Bytes of the request that connects, where it is a POST; more is answered 413.
        max_request_body_size: usize = 64 * KIB, MESSAGE;
    }
    + parts {
        /// Answer a listener that may not connect with an HTTP status. Otherwise the response is 200, and a push in it says why.
        connect_code_to_http_response: ConnectResponses,
    }

    UniHttpStream {
        /// Serve it.
        enabled: bool = false, Rule::Any;
        /// Path of the endpoint.
        handler_prefix: String = "/connection/uni_http_stream".into(), Rule::Path;
        /// Bytes of the request that connects; more is answered 413.
        max_request_body_size: usize = 64 * KIB, MESSAGE;
    }
    + parts {
        /// The same as `uni_sse.connect_code_to_http_response`.
        connect_code_to_http_response: ConnectResponses,
    }

    Init {
        /// Serve it.
        enabled: bool = false, Rule::Any;
        /// Path of the endpoint.
        handler_prefix: String = "/connection/init".into(), Rule::Path;
    }
}
