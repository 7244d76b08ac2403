//! The methods by name, and by number for the legacy form.

use super::{
    decode::{self, Decode},
    decode_map, decode_poll,
};

#[derive(Debug)]
pub struct Method {
    /// Last segment of the path; also the key of a batch command.
    pub name: &'static str,
    /// In the legacy form `{"method": N}`.
    pub number: Option<u64>,
    pub about: &'static str,
    pub(super) decode: Decode,
}

const fn of(name: &'static str, number: Option<u64>, about: &'static str, decode: Decode) -> Method {
    Method { name, number, about, decode }
}

pub const METHODS: &[Method] = &[
    of("publish", Some(0), "publish to a channel", decode::publish),
    of("broadcast", Some(1), "publish the same to many channels", decode::broadcast),
    of("subscribe", Some(11), "subscribe a user's sessions to a channel", decode::subscribe),
    of("unsubscribe", Some(2), "end a user's subscriptions", decode::unsubscribe),
    of("disconnect", Some(3), "close a user's connections", decode::disconnect),
    of("presence", Some(4), "who is subscribed to a channel", decode::presence),
    of("presence_stats", Some(5), "how many are subscribed to a channel", decode::presence_stats),
    of("history", Some(6), "the latest publications of a channel", decode::history),
    of("history_remove", Some(7), "forget the publications of a channel", decode::history_remove),
    of("channels", Some(8), "channels with subscribers", decode::channels),
    of("info", Some(9), "this node and its cores", decode::info),
    of("rpc", Some(10), "call a handler of the application", decode::rpc),
    of("refresh", Some(12), "prolong a user's connections", decode::refresh),
    of("block_user", None, "keep a user out, and end its sessions", decode::block_user),
    of("unblock_user", None, "let a user in again", decode::unblock_user),
    of("revoke_token", None, "refuse the token with this id", decode::revoke_token),
    of("invalidate_user_tokens", None, "refuse a user's older tokens", decode::invalidate_user_tokens),
    of("map_publish", Some(33), "set a key of a map channel", decode_map::publish),
    of("map_remove", Some(34), "remove a key of a map channel", decode_map::remove),
    of("map_read_state", Some(35), "read the keys of a map channel", decode_map::read_state),
    of("map_read_stream", Some(36), "read the changes of a map channel", decode_map::read_stream),
    of("map_stats", Some(37), "size of a map channel", decode_map::stats),
    of("map_clear", Some(38), "empty a map channel", decode_map::clear),
    of("shared_poll_publish", Some(39), "publish a key of a shared poll", decode_poll::publish),
];

#[must_use]
pub fn method(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name)
}

pub fn numbered(number: u64) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.number == Some(number))
}

#[cfg(test)]
mod tests {
    use super::METHODS;

    #[test]
    fn names_and_numbers_are_unique() {
        for (index, one) in METHODS.iter().enumerate() {
            for other in &METHODS[index + 1..] {
                assert_ne!(one.name, other.name);
                assert!(one.number.is_none() || one.number != other.number);
            }
        }
    }
}
