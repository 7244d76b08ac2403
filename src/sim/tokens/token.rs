//! Tokens, and the times on them: on the wall clock, which jumps while they are on their way.

use super::keys::Signer;
use crate::{model::Now, stdx::rng::Rng};

/// By how much the wall clock was ahead of the cores' own while something was on its way, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Skew {
    pub least: u64,
    pub most: u64,
}

/// When a time is up on the cores' own clock: not before `earliest`, and not after `latest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub earliest: u64,
    pub latest: u64,
}

impl Due {
    pub const NEVER: Self = Self { earliest: u64::MAX, latest: u64::MAX };

    pub fn or(self, other: Self) -> Self {
        Self { earliest: self.earliest.min(other.earliest), latest: self.latest.max(other.latest) }
    }
}

impl Skew {
    pub fn of(now: Now) -> Self {
        let ahead = now.unix_ms - now.ms;
        Self { least: ahead, most: ahead }
    }

    pub fn widen(&mut self, now: Now) {
        let ahead = now.unix_ms - now.ms;
        (self.least, self.most) = (self.least.min(ahead), self.most.max(ahead));
    }

    /// When a time on the wall clock is on the cores' own.
    pub fn due(self, unix_ms: Option<u64>) -> Due {
        unix_ms.map_or(Due::NEVER, |at| Due {
            earliest: at.saturating_sub(self.most),
            latest: at.saturating_sub(self.least),
        })
    }

    /// This time on the wall clock may have come.
    pub fn may_have_passed(self, unix_ms: Option<u64>, now_ms: u64) -> bool {
        unix_ms.is_some_and(|at| at <= now_ms + self.most)
    }
}

/// What is wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Good,
    Forged,
    /// Of another user.
    Foreign,
    /// Expired long ago.
    Old,
    /// Brings other subscriptions than the one before.
    OtherChannels,
}

/// What the capabilities of a token allow with the channels that have no other way in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    pub subscribe: bool,
    pub publish: bool,
}

#[derive(Clone, Debug)]
pub struct Token {
    pub text: String,
    pub user: &'static str,
    /// Empty: of a connection.
    pub channel: &'static str,
    pub id: String,
    pub issued_unix_ms: u64,
    /// Until then it is accepted.
    pub expires_unix_ms: Option<u64>,
    /// Until then what it opens is open.
    pub ends_unix_ms: Option<u64>,
    pub caps: Caps,
    pub subs: Vec<&'static str>,
    pub fate: Fate,
    /// The number of the key that signed it.
    pub key: usize,
}

/// What a token is to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub user: &'static str,
    pub channel: &'static str,
    pub caps: Caps,
    pub subs: Vec<&'static str>,
    pub fate: Fate,
}

/// Makes tokens.
pub struct Mint {
    made: u64,
    pub signer: Signer,
}

impl Mint {
    pub fn new(signer: Signer) -> Self {
        Self { made: 0, signer }
    }

    pub fn token(&mut self, rng: &mut Rng, now: Now, wanted: Wanted) -> Token {
        self.made += 1;
        let Wanted { user, channel, caps, mut subs, fate } = wanted;
        let id = format!("t{}", self.made);
        let end = (now.unix_ms + 1_500 + rng.below(8_000)).div_ceil(1000);
        // Accepted as long as what it opens is open; longer; and both for ever.
        let (expires, ends, expire_at) = match rng.below(6) {
            0 => (None, None, String::new()),
            1 | 2 if channel.is_empty() => {
                let expires = end + 3600;
                (Some(expires), Some(end), format!(r#","expire_at":{end}"#))
            }
            3 if channel.is_empty() => (Some(end), None, r#","expire_at":0"#.into()),
            _ => (Some(end), Some(end), String::new()),
        };
        let (expires, ends) = if fate == Fate::Old { (Some(1), Some(1)) } else { (expires, ends) };
        let expire_at = if fate == Fate::Old { String::new() } else { expire_at };
        if fate == Fate::OtherChannels {
            subs = if subs.is_empty() { vec!["srv:a"] } else { Vec::new() };
        }
        let iat = now.unix_ms / 1000;
        let named = if fate == Fate::Foreign { "somebody else" } else { user };
        let mut claims = format!(r#"{{"sub":"{named}","jti":"{id}","iat":{iat}{expire_at}"#);
        if let Some(expires) = expires {
            claims += &format!(r#","exp":{expires}"#);
        }
        if !channel.is_empty() {
            claims += &format!(r#","channel":"{channel}""#);
        }
        if !subs.is_empty() {
            claims += &format!(r#","channels":["{}"]"#, subs.join(r#"",""#));
        }
        if caps != Caps::default() {
            let allow: Vec<_> = [(caps.subscribe, r#""sub""#), (caps.publish, r#""pub""#)]
                .into_iter()
                .filter_map(|(allowed, name)| allowed.then_some(name))
                .collect();
            let allow = allow.join(",");
            claims += &format!(r#","caps":[{{"channels":["cap:*"],"match":"wildcard","allow":[{allow}]}}]"#);
        }
        claims.push('}');
        Token {
            text: self.signer.sign(&claims, fate == Fate::Forged),
            user,
            channel,
            id,
            issued_unix_ms: iat * 1000,
            expires_unix_ms: expires.map(|seconds| seconds * 1000),
            ends_unix_ms: ends.map(|seconds| seconds * 1000),
            caps,
            subs,
            fate,
            key: self.signer.count().saturating_sub(1),
        }
    }
}
