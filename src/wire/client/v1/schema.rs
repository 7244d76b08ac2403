//! Names and numbers of the fields of version 1 where they are not those of version 2. `schema/client_v1.proto` says
//! what they mean; a test compares the two.

use crate::wire::client::schema::{Field, messages};

messages! {
    command = "Command" { ID = 1 "id", METHOD = 2 "method", PARAMS = 3 "params" }
    reply = "Reply" { ID = 1 "id", ERROR = 2 "error", RESULT = 3 "result" }
    push = "Push" { TYPE = 1 "type", CHANNEL = 2 "channel", DATA = 3 "data" }
    error = "Error" { CODE = 1 "code", MESSAGE = 2 "message" }
    publication = "Publication" {
        SEQ = 1 "seq", GEN = 2 "gen", DATA = 4 "data", INFO = 5 "info", OFFSET = 6 "offset", TAGS = 7 "tags",
    }
    subscribe = "Subscribe" {
        RECOVERABLE = 1 "recoverable", SEQ = 2 "seq", GEN = 3 "gen", EPOCH = 4 "epoch", OFFSET = 5 "offset",
        POSITIONED = 6 "positioned", DATA = 7 "data",
    }
    connect_request = "ConnectRequest" {
        TOKEN = 1 "token", DATA = 2 "data", SUBS = 3 "subs", NAME = 4 "name", VERSION = 5 "version",
    }
    connect_result = "ConnectResult" {
        CLIENT = 1 "client", VERSION = 2 "version", EXPIRES = 3 "expires", TTL = 4 "ttl", DATA = 5 "data",
        SUBS = 6 "subs",
    }
    subscribe_request = "SubscribeRequest" {
        CHANNEL = 1 "channel", TOKEN = 2 "token", RECOVER = 3 "recover", SEQ = 4 "seq", GEN = 5 "gen",
        EPOCH = 6 "epoch", OFFSET = 7 "offset", DATA = 8 "data",
    }
    subscribe_result = "SubscribeResult" {
        EXPIRES = 1 "expires", TTL = 2 "ttl", RECOVERABLE = 3 "recoverable", SEQ = 4 "seq", GEN = 5 "gen",
        EPOCH = 6 "epoch", PUBLICATIONS = 7 "publications", RECOVERED = 8 "recovered", OFFSET = 9 "offset",
        POSITIONED = 10 "positioned", DATA = 11 "data",
    }
    refresh_result = "RefreshResult" {
        CLIENT = 1 "client", VERSION = 2 "version", EXPIRES = 3 "expires", TTL = 4 "ttl",
    }
}
