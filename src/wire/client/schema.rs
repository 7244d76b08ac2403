//! Names and numbers of the fields this server reads and writes. `schema/client.proto` says what they mean;
//! a test compares the two.

/// A field for an encoder: its number in Protobuf and its key in JSON.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub number: u32,
    /// The key as it stands in a message, with the comma before and the colon behind: `,"channel":`.
    pub key: &'static str,
}

macro_rules! messages {
    ($($(#[$doc:meta])* $module:ident = $message:literal { $($field:ident = $number:literal $name:literal),* $(,)? })*) => {
        $($(#[$doc])*
        #[allow(dead_code, reason = "a message with the fields of another shares its reader")]
        pub mod $module {
            use super::Field;
            $(pub const $field: Field =
                Field { number: $number, key: concat!(",\"", $name, "\":") };)*

            /// The bare numbers, for `match`.
            pub mod n { $(pub const $field: u32 = $number;)* }

            /// The number of the field with this name in JSON; 0 for a name we do not know.
            #[inline]
            pub fn number(name: &str) -> u32 {
                match name { $($name => $number,)* _ => 0 }
            }
        })*

        /// Message, field and number of everything above.
        #[cfg(test)]
        pub const ALL: &[(&str, &str, u32)] = &[$($(($message, $name, $number),)*)*];
    };
}

pub(super) use messages;

messages! {
    command = "Command" {
        ID = 1 "id", CONNECT = 4 "connect", SUBSCRIBE = 5 "subscribe", UNSUBSCRIBE = 6 "unsubscribe",
        PUBLISH = 7 "publish", PRESENCE = 8 "presence", PRESENCE_STATS = 9 "presence_stats",
        HISTORY = 10 "history", PING = 11 "ping", SEND = 12 "send", RPC = 13 "rpc", REFRESH = 14 "refresh",
        SUB_REFRESH = 15 "sub_refresh",
    }
    reply = "Reply" {
        ID = 1 "id", ERROR = 2 "error", PUSH = 4 "push", CONNECT = 5 "connect", SUBSCRIBE = 6 "subscribe",
        UNSUBSCRIBE = 7 "unsubscribe", PUBLISH = 8 "publish", PRESENCE = 9 "presence",
        PRESENCE_STATS = 10 "presence_stats", HISTORY = 11 "history", PING = 12 "ping", RPC = 13 "rpc",
        REFRESH = 14 "refresh", SUB_REFRESH = 15 "sub_refresh",
    }
    push = "Push" {
        ID = 1 "id", CHANNEL = 2 "channel", PUB = 4 "pub", JOIN = 5 "join", LEAVE = 6 "leave",
        UNSUBSCRIBE = 7 "unsubscribe", MESSAGE = 8 "message", SUBSCRIBE = 9 "subscribe", CONNECT = 10 "connect",
        DISCONNECT = 11 "disconnect", REFRESH = 12 "refresh",
    }
    error = "Error" { CODE = 1 "code", MESSAGE = 2 "message", TEMPORARY = 3 "temporary" }
    client_info = "ClientInfo" {
        USER = 1 "user", CLIENT = 2 "client", CONN_INFO = 3 "conn_info", CHAN_INFO = 4 "chan_info",
    }
    publication = "Publication" {
        DATA = 4 "data", INFO = 5 "info", OFFSET = 6 "offset", TAGS = 7 "tags", DELTA = 8 "delta",
        CHANNEL = 10 "channel", KEY = 11 "key", REMOVED = 12 "removed", SCORE = 13 "score", EPOCH = 14 "epoch",
        VERSION = 16 "version",
    }
    /// `Leave` has the same field.
    join = "Join" { INFO = 1 "info" }
    unsubscribe = "Unsubscribe" { CODE = 2 "code", REASON = 3 "reason" }
    subscribe = "Subscribe" {
        RECOVERABLE = 1 "recoverable", EPOCH = 4 "epoch", OFFSET = 5 "offset", POSITIONED = 6 "positioned",
        DATA = 7 "data",
    }
    message = "Message" { DATA = 1 "data" }
    disconnect = "Disconnect" { CODE = 1 "code", REASON = 2 "reason" }
    refresh = "Refresh" { EXPIRES = 1 "expires", TTL = 2 "ttl" }
    emulation_request = "EmulationRequest" { NODE = 1 "node", SESSION = 2 "session", DATA = 3 "data" }
    stream_position = "StreamPosition" { OFFSET = 1 "offset", EPOCH = 2 "epoch" }
    connect_request = "ConnectRequest" {
        TOKEN = 1 "token", DATA = 2 "data", SUBS = 3 "subs", NAME = 4 "name", VERSION = 5 "version",
        HEADERS = 6 "headers",
    }
    connect_result = "ConnectResult" {
        CLIENT = 1 "client", VERSION = 2 "version", EXPIRES = 3 "expires", TTL = 4 "ttl", DATA = 5 "data",
        SUBS = 6 "subs", PING = 7 "ping", PONG = 8 "pong", SESSION = 9 "session", NODE = 10 "node",
        TIME = 11 "time",
    }
    // Of a push: other numbers than in a reply.
    connect = "Connect" {
        CLIENT = 1 "client", VERSION = 2 "version", DATA = 3 "data", SUBS = 4 "subs", EXPIRES = 5 "expires",
        TTL = 6 "ttl", PING = 7 "ping", PONG = 8 "pong", SESSION = 9 "session", NODE = 10 "node", TIME = 11 "time",
    }
    subscribe_request = "SubscribeRequest" {
        CHANNEL = 1 "channel", TOKEN = 2 "token", RECOVER = 3 "recover", EPOCH = 6 "epoch",
        OFFSET = 7 "offset", DATA = 8 "data", POSITIONED = 9 "positioned", RECOVERABLE = 10 "recoverable",
        JOIN_LEAVE = 11 "join_leave", DELTA = 12 "delta", TF = 13 "tf", FLAG = 14 "flag", TYPE = 15 "type",
        PHASE = 16 "phase", CURSOR = 17 "cursor", LIMIT = 18 "limit", ASC = 19 "asc",
        CONFLATION = 1000 "conflation",
    }
    subscribe_result = "SubscribeResult" {
        EXPIRES = 1 "expires", TTL = 2 "ttl", RECOVERABLE = 3 "recoverable", EPOCH = 6 "epoch",
        PUBLICATIONS = 7 "publications", RECOVERED = 8 "recovered", OFFSET = 9 "offset",
        POSITIONED = 10 "positioned", DATA = 11 "data", WAS_RECOVERING = 12 "was_recovering", DELTA = 13 "delta",
        ID = 14 "id", TYPE = 15 "type", PHASE = 16 "phase", CURSOR = 17 "cursor", STATE = 18 "state",
        PUBLISH_DEBOUNCE = 19 "publish_debounce", CONFLATION = 1000 "conflation",
    }
    filter_node = "FilterNode" {
        OP = 1 "op", KEY = 2 "key", CMP = 3 "cmp", VAL = 4 "val", VALS = 5 "vals", NODES = 6 "nodes",
    }
    refresh_request = "RefreshRequest" { TOKEN = 1 "token" }
    refresh_result = "RefreshResult" { EXPIRES = 3 "expires", TTL = 4 "ttl" }
    sub_refresh_request = "SubRefreshRequest" {
        CHANNEL = 1 "channel", TOKEN = 2 "token", TYPE = 3 "type", TRACK = 4 "track", UNTRACK = 5 "untrack",
    }
    sub_refresh_result = "SubRefreshResult" { EXPIRES = 1 "expires", TTL = 2 "ttl", ITEMS = 3 "items" }
    track_batch = "TrackBatch" { SIGNATURE = 1 "signature", ITEMS = 2 "items" }
    keyed_item = "KeyedItem" { KEY = 1 "key", VERSION = 2 "version" }
    /// `PresenceRequest` and `PresenceStatsRequest` have the same field.
    unsubscribe_request = "UnsubscribeRequest" { CHANNEL = 1 "channel" }
    publish_request = "PublishRequest" {
        CHANNEL = 1 "channel", DATA = 2 "data", TYPE = 3 "type", KEY = 4 "key", REMOVED = 5 "removed",
    }
    presence_result = "PresenceResult" { PRESENCE = 1 "presence" }
    presence_stats_result = "PresenceStatsResult" { NUM_CLIENTS = 1 "num_clients", NUM_USERS = 2 "num_users" }
    history_request = "HistoryRequest" { CHANNEL = 1 "channel", LIMIT = 7 "limit", SINCE = 8 "since", REVERSE = 9 "reverse" }
    history_result = "HistoryResult" { PUBLICATIONS = 1 "publications", EPOCH = 2 "epoch", OFFSET = 3 "offset" }
    rpc_request = "RPCRequest" { DATA = 1 "data", METHOD = 2 "method" }
    /// `SendRequest` has the same field.
    rpc_result = "RPCResult" { DATA = 1 "data" }
}

/// The number of no field: for messages whose content is passed over.
pub fn nothing(_name: &str) -> u32 {
    0
}
