//! Sessions whose client speaks by requests of their own (`http_stream`, `sse`): how such a request finds its session.
//!
//! The reply to connect names the session. Its low half is the place of the connection, hidden as in client ids;
//! its high half is a keyed hash of client id and place, which nobody can guess and no session needs to store.

use super::{
    core::{Core, Uplink},
    mesh::{Answer, AskKey, Emulated, Mesh, Outgoing},
    pending::Pending,
    seam::{ApiReply, Effect},
    session::State,
};
use crate::model::{ClientId, ConnKey, CoreId, Disconnect, ErrorCode};
use aws_lc_rs::hmac;
use std::{fmt, str::FromStr};
use subtle::ConstantTimeEq as _;

const INDEX_BITS: u32 = 32;
const CORE_BITS: u32 = 7;

/// Names a session to its own client. Whoever knows it may speak for the client.
#[derive(Clone, Copy)]
pub struct SessionId(u128);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(..)")
    }
}

/// Not what a session id looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSessionId;

impl FromStr for SessionId {
    type Err = NoSessionId;

    fn from_str(text: &str) -> Result<Self, NoSessionId> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NoSessionId);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| NoSessionId)
    }
}

/// Makes and checks session ids. `hash_key` is the same on all cores of a process.
pub(super) struct SessionIds {
    places: ahash::RandomState,
    key: hmac::Key,
}

impl SessionIds {
    /// `secret` is this core's alone.
    pub fn new(hash_key: u64, secret: u64) -> Self {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&hash_key.to_be_bytes());
        key[8..].copy_from_slice(&secret.to_be_bytes());
        Self {
            places: ahash::RandomState::with_seeds(hash_key, 0x7365_7373, 3, 4),
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
        }
    }

    /// The id of the session of this client. The same client on the same connection has always the same.
    pub fn of(&self, core: CoreId, conn: ConnKey, client: ClientId) -> SessionId {
        let place = u64::from(conn.index)
            | (u64::from(core) << INDEX_BITS)
            | (u64::from(conn.generation) << (INDEX_BITS + CORE_BITS));
        let mut mac = hmac::Context::with_key(&self.key);
        mac.update(&client.0.to_be_bytes());
        mac.update(&place.to_be_bytes());
        let tag = mac.sign();
        let high = tag.as_ref().iter().take(8).fold(0, |high, &byte| (high << 8) | u64::from(byte));
        SessionId((u128::from(high) << 64) | u128::from(place ^ self.places.hash_one(high)))
    }

    /// Core and slot an id was made for. Only a hint: compare the id of the session found there.
    pub fn place(&self, id: SessionId) -> (CoreId, u32) {
        let place = id.0 as u64 ^ self.places.hash_one((id.0 >> 64) as u64);
        ((place >> INDEX_BITS) as CoreId & ((1 << CORE_BITS) - 1), place as u32)
    }
}

impl fmt::Debug for SessionIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionIds")
    }
}

impl Core {
    /// Commands of an emulated session, wherever on this node it is. Answered by exactly one
    /// [`Effect::ApiReply`] with this number, maybe before this returns: done once the session has them, or when
    /// there is no such session (any more); [`ErrorCode::TooManyRequests`] when its core has too many open.
    pub fn emulate(&mut self, call: u64, session: &str, commands: &[u8]) {
        let reply = match session.parse::<SessionId>() {
            Ok(session) => {
                let (core, _) = self.session_ids.place(session);
                if core == self.id {
                    self.hear(session, commands);
                    Ok(ApiReply::Done)
                } else if usize::from(core) >= self.cores {
                    Ok(ApiReply::Done)
                } else if self.out.take_credit(core) {
                    let id = self.pending.insert(Pending::Api { call });
                    self.expire_later(id);
                    let emulated = Box::new(Emulated { session, commands: commands.into() });
                    return self.out.send(core, Mesh::Emulate { id, emulated });
                } else {
                    Err(ErrorCode::TooManyRequests)
                }
            }
            Err(NoSessionId) => Ok(ApiReply::Done),
        };
        self.effects.push(Effect::ApiReply { call, reply });
    }

    pub(super) fn on_emulate(&mut self, from: CoreId, id: AskKey, emulated: &Emulated) {
        self.hear(emulated.session, &emulated.commands);
        self.out.send(from, Mesh::Answer { id, answer: Box::new(Answer::Emulated) });
    }

    /// A session of this core gets what its client says. Reading cannot be paused here: who says more than may
    /// wait comes back later.
    fn hear(&mut self, session: SessionId, commands: &[u8]) {
        let Some(conn) = self.find_session(session) else { return };
        if self.sessions.get(conn).is_none_or(|session| session.uplink != Uplink::Requests) {
            return;
        }
        if self.held_bytes(conn) > self.settings.client.held_max_size {
            self.end(conn, Disconnect::TOO_MANY_REQUESTS);
            return self.pump();
        }
        self.on_message(conn, commands);
    }

    /// The session of this core with this id.
    pub(super) fn find_session(&self, id: SessionId) -> Option<ConnKey> {
        let (core, index) = self.session_ids.place(id);
        let (conn, session) = self.sessions.at(index).filter(|_| core == self.id)?;
        let named = session.uplink != Uplink::Connection && session.state == State::Connected;
        let info = session.info.as_ref().filter(|_| named)?;
        let own = self.session_ids.of(self.id, conn, info.client);
        bool::from(own.0.to_be_bytes().ct_eq(&id.0.to_be_bytes())).then_some(conn)
    }

    /// What a client is told its session is; empty for one that has its connection to speak on.
    pub(super) fn session_id(&self, conn: ConnKey, client: ClientId) -> String {
        match self.sessions.get(conn) {
            Some(session) if session.uplink != Uplink::Connection => {
                self.session_ids.of(self.id, conn, client).to_string()
            }
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::slab::Key;

    #[test]
    fn an_id_leads_back_to_its_place_and_nobody_else_makes_it() {
        arbtest::arbtest(|u| {
            let hash_key = u.arbitrary()?;
            let ids = SessionIds::new(hash_key, u.arbitrary()?);
            let core = u.int_in_range(0..=127)?;
            let conn = Key { index: u.arbitrary()?, generation: u.arbitrary()? };
            let client = ClientId(u.arbitrary()?);
            let id = ids.of(core, conn, client);
            assert_eq!(ids.place(id), (core, conn.index));
            let again: SessionId = id.to_string().parse().unwrap();
            assert_eq!(again.0, id.0);
            // Every core of the process can read the place.
            let other = SessionIds::new(hash_key, u.arbitrary()?);
            assert_eq!(other.place(id), (core, conn.index));
            for other in [ids.of(core, conn, ClientId(client.0 ^ 1)), ids.of(core ^ 1, conn, client)] {
                assert_ne!(other.0 >> 64, id.0 >> 64);
            }
            Ok(())
        });
    }

    #[test]
    fn what_is_no_session_id() {
        for text in ["", "0", "+0000000000000000000000000000001", "g0000000000000000000000000000000"] {
            assert!(text.parse::<SessionId>().is_err(), "{text}");
        }
        assert!("00000000000000000000000000000001".parse::<SessionId>().is_ok());
    }
}
