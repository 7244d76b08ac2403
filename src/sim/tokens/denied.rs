//! Who is kept out, as far as whoever called the server API knows: surely, maybe, or not.

use super::token::{Skew, Token};
use crate::{broker::seam::Denial, model::Now};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not answered, or nobody knows what became of it.
    Open,
    /// Done on all cores.
    Sure,
    /// Not done, or replaced by another one.
    Void,
}

#[derive(Debug)]
struct Issued {
    denial: Denial,
    state: State,
    /// From when it was issued until it was answered.
    skew: Skew,
    answered: bool,
    /// The wall clock then, at least.
    unix_ms: u64,
}

#[derive(Debug, Default)]
pub struct Denied(Vec<Issued>);

/// Whom or what a denial is about: the last one about the same holds.
fn about(denial: &Denial) -> (u8, &str, &str) {
    match denial {
        Denial::Block { user, .. } | Denial::Unblock { user } => (0, user, ""),
        Denial::Revoke { id, .. } => (1, id, ""),
        Denial::Invalidate { user, channel, .. } => (2, user, channel),
    }
}

impl Denied {
    /// Its number.
    pub fn issue(&mut self, denial: &Denial, now: Now) -> usize {
        let mut state = State::Open;
        for other in self.0.iter_mut().filter(|other| about(&other.denial) == about(denial)) {
            // Which of two that are on their way comes first, nobody knows.
            if !other.answered {
                state = State::Void;
            }
            other.state = State::Void;
        }
        self.0.push(Issued {
            denial: denial.clone(),
            state,
            skew: Skew::of(now),
            answered: false,
            unix_ms: now.unix_ms,
        });
        self.0.len() - 1
    }

    /// `known`: whether it was done is known, and was it?
    pub fn answered(&mut self, number: usize, known: Option<bool>) {
        let issued = &mut self.0[number];
        // What nobody knows may happen later.
        issued.answered = known.is_some();
        match (known, issued.state) {
            (Some(true), State::Open) => issued.state = State::Sure,
            (Some(false), _) => issued.state = State::Void,
            _ => {}
        }
    }

    pub fn clock_jumped(&mut self, now: Now) {
        for issued in self.0.iter_mut().filter(|issued| !issued.answered) {
            issued.skew.widen(now);
            issued.unix_ms = issued.unix_ms.min(now.unix_ms);
        }
    }

    fn sure(&self, now: Now) -> impl Iterator<Item = &Issued> {
        let lasts = move |issued: &&Issued| {
            let expire_at = match issued.denial {
                Denial::Block { expire_at, .. }
                | Denial::Revoke { expire_at, .. }
                | Denial::Invalidate { expire_at, .. } => expire_at,
                Denial::Unblock { .. } => return false,
            };
            expire_at == 0 || now.ms < issued.skew.due(Some(expire_at * 1000)).earliest
        };
        self.0.iter().filter(|issued| issued.state == State::Sure).filter(lasts)
    }

    pub fn surely_blocks(&self, user: &str, now: Now) -> bool {
        self.sure(now).any(|it| matches!(&it.denial, Denial::Block { user: whom, .. } if **whom == *user))
    }

    pub fn surely_refuses(&self, token: &Token, now: Now) -> bool {
        self.sure(now).any(|it| match &it.denial {
            Denial::Revoke { id, .. } => **id == *token.id,
            Denial::Invalidate { user, channel, issued_before, .. } => {
                let before_ms = if *issued_before == 0 { it.unix_ms } else { issued_before * 1000 };
                **user == *token.user && **channel == *token.channel && token.issued_unix_ms < before_ms
            }
            _ => false,
        })
    }

    pub fn may_block(&self, user: &str) -> bool {
        self.0.iter().any(|it| matches!(&it.denial, Denial::Block { user: whom, .. } if **whom == *user))
    }

    pub fn may_refuse(&self, token: &Token) -> bool {
        self.0.iter().any(|it| match &it.denial {
            Denial::Revoke { id, .. } => **id == *token.id,
            Denial::Invalidate { user, channel, issued_before, .. } => {
                let older = *issued_before == 0 || token.issued_unix_ms < issued_before * 1000;
                **user == *token.user && **channel == *token.channel && older
            }
            _ => false,
        })
    }
}
