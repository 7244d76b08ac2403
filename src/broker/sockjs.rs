//! Sessions of SockJS over HTTP. They have no connection of their own: what they are told waits until a request comes
//! to take it, on any core, and what they say comes by further requests.
//!
//! Such a session lives on the core that the hash of its id names, under a key that no connection has
//! (`sockjs.http_sessions_max` of them are kept free). A request to receive is answered as soon as there is something; a response
//! without an end asks again after every answer.

use super::{
    core::{Core, SessionStart},
    mesh::{Mesh, Outgoing},
    outbox::Framing,
    seam::{Effect, SockJsAnswer, SockJsAsk},
};
use crate::{
    config::Settings,
    model::{ConnKey, CoreId, Disconnect, Protocol},
    wire::sockjs,
};
use std::{collections::HashMap, sync::Arc};

/// How often sessions are looked at that nobody may ask for any more, in milliseconds.
const CHECK_MS: u64 = 1000;

/// What one core asks another about a session.
#[derive(Debug)]
pub struct SockJsAsked {
    pub session: Box<str>,
    /// As the asking core numbers its questions.
    pub call: u64,
    pub ask: SockJsAsk,
}

/// The sessions that live on one core.
#[derive(Debug)]
pub(super) struct Visits {
    by_id: HashMap<Box<str>, ConnKey, ahash::RandomState>,
    by_key: HashMap<ConnKey, Visit, ahash::RandomState>,
    /// Keys to be used again, and the first index that never was.
    free: Vec<ConnKey>,
    fresh: u32,
    keys: u32,
    /// How long a session waits for a request.
    patience_ms: u64,
    /// When to look for those nobody asks for; `u64::MAX`: there are no sessions.
    check_ms: u64,
}

#[derive(Debug)]
struct Visit {
    id: Box<str>,
    /// Who waits for something to tell the client.
    receiver: Option<(CoreId, u64)>,
    /// When it is over, unless somebody asks before.
    over_ms: u64,
    /// The session has ended: what its client is told last.
    last: Option<Vec<u8>>,
}

impl Visits {
    pub fn new(settings: &Settings, seed: u64) -> Self {
        let hasher = ahash::RandomState::with_seeds(seed, 15, 16, 17);
        Self {
            by_id: HashMap::with_hasher(hasher.clone()),
            by_key: HashMap::with_hasher(hasher),
            free: Vec::new(),
            fresh: 0,
            keys: settings.sockjs.keys(),
            patience_ms: u64::try_from(settings.sockjs.disconnect_delay.as_millis()).unwrap_or(u64::MAX),
            check_ms: u64::MAX,
        }
    }

    pub fn next_deadline(&self) -> Option<u64> {
        (self.check_ms != u64::MAX).then_some(self.check_ms)
    }

    fn take_key(&mut self) -> Option<ConnKey> {
        self.free.pop().or_else(|| {
            let index = self.fresh;
            (index < self.keys).then(|| {
                self.fresh += 1;
                ConnKey { index, generation: 0 }
            })
        })
    }
}

impl Core {
    /// Something about a SockJS session, wherever on this node it is. A question to receive or to send is answered by
    /// exactly one [`Effect::SockJs`] with this number, unless its asker leaves before; [`SockJsAsk::Leave`] is not.
    pub fn sockjs(&mut self, call: u64, session: &str, ask: SockJsAsk) {
        let owner = self.owners.of(session);
        if matches!(ask, SockJsAsk::Send { .. }) && !self.out.take_credit(owner) {
            return self.effects.push(Effect::SockJs { call, answer: SockJsAnswer::Full });
        }
        self.out.send(owner, Mesh::SockJs(Box::new(SockJsAsked { session: session.into(), call, ask })));
        self.pump();
    }

    pub(super) fn on_sockjs(&mut self, from: CoreId, asked: SockJsAsked) {
        let SockJsAsked { session, call, ask } = asked;
        let answer = match ask {
            SockJsAsk::Receive { user } => self.receive(from, call, session, user),
            SockJsAsk::Send { messages } => Some(self.hear_sockjs(&session, &messages)),
            SockJsAsk::Leave { receiver } => {
                self.forget_receiver(from, &session, receiver);
                None
            }
        };
        if let Some(answer) = answer {
            self.out.send(from, Mesh::SockJsAnswer { call, answer: Box::new(answer) });
        }
    }

    pub(super) fn on_sockjs_answer(&mut self, from: CoreId, call: u64, answer: SockJsAnswer) {
        if matches!(answer, SockJsAnswer::Sent | SockJsAnswer::Unknown) {
            self.out.return_credit(from);
        }
        self.effects.push(Effect::SockJs { call, answer });
    }

    /// `None`: there is nothing yet, and the asker is told when there is.
    fn receive(
        &mut self,
        from: CoreId,
        call: u64,
        id: Box<str>,
        user: Option<Arc<str>>,
    ) -> Option<SockJsAnswer> {
        let Some(&conn) = self.visits.by_id.get(&id) else { return Some(self.begin_visit(id, user)) };
        if self.visits.by_key.get(&conn)?.receiver.is_some() {
            return Some(SockJsAnswer::Last(close_line(2010, "Another connection still open")));
        }
        let answer = self.take_letters(conn);
        if answer.is_none()
            && let Some(visit) = self.visits.by_key.get_mut(&conn)
        {
            visit.receiver = Some((from, call));
            visit.over_ms = u64::MAX;
        }
        answer
    }

    fn begin_visit(&mut self, id: Box<str>, user: Option<Arc<str>>) -> SockJsAnswer {
        let Some(conn) = self.visits.take_key() else { return SockJsAnswer::Full };
        self.write.open_parked(conn, self.now.ms);
        let start = SessionStart { user, ..SessionStart::new(Protocol::Json, Framing::SockJsLine) };
        self.start_session(conn, start);
        let over_ms = self.now.ms.saturating_add(self.visits.patience_ms);
        self.visits.by_id.insert(id.clone(), conn);
        self.visits.by_key.insert(conn, Visit { id, receiver: None, over_ms, last: None });
        self.visits.check_ms = self.visits.check_ms.min(self.now.ms + CHECK_MS);
        SockJsAnswer::Frames([sockjs::OPEN, b"\n"].concat())
    }

    /// What waits for the client; from now on somebody has to ask again in time.
    fn take_letters(&mut self, conn: ConnKey) -> Option<SockJsAnswer> {
        let over_ms = self.now.ms.saturating_add(self.visits.patience_ms);
        let visit = self.visits.by_key.get_mut(&conn)?;
        let mut letters = self.write.take_parked(conn, self.now.ms);
        let answer = match &visit.last {
            Some(last) => {
                letters.extend_from_slice(last);
                SockJsAnswer::Last(letters)
            }
            None if letters.is_empty() => return None,
            None => SockJsAnswer::Frames(letters),
        };
        visit.over_ms = over_ms;
        Some(answer)
    }

    /// Hands what there is to those who wait for it.
    pub(super) fn serve_visits(&mut self) {
        let mut ready = Vec::new();
        self.write.take_parked_ready(&mut ready);
        for conn in ready {
            self.serve_visit(conn);
        }
        self.pump_local();
    }

    fn serve_visit(&mut self, conn: ConnKey) {
        let waiting = self.visits.by_key.get(&conn).and_then(|visit| visit.receiver);
        if let Some((core, call)) = waiting
            && let Some(answer) = self.take_letters(conn)
        {
            if let Some(visit) = self.visits.by_key.get_mut(&conn) {
                visit.receiver = None;
            }
            self.out.send(core, Mesh::SockJsAnswer { call, answer: Box::new(answer) });
        }
    }

    fn hear_sockjs(&mut self, session: &str, messages: &[u8]) -> SockJsAnswer {
        let found = self.visits.by_id.get(session).copied().filter(|&conn| self.sessions.get(conn).is_some());
        let Some(conn) = found else { return SockJsAnswer::Unknown };
        // Reading cannot be paused here: who says more than may wait comes back later.
        if self.held_bytes(conn) > self.settings.client.held_max_size {
            self.end(conn, Disconnect::TOO_MANY_REQUESTS);
            return SockJsAnswer::Sent;
        }
        for message in sockjs::decode_messages(messages).iter().flatten() {
            self.on_message(conn, message.as_bytes());
        }
        SockJsAnswer::Sent
    }

    fn forget_receiver(&mut self, from: CoreId, session: &str, receiver: u64) {
        let over_ms = self.now.ms.saturating_add(self.visits.patience_ms);
        let conn = self.visits.by_id.get(session).copied();
        if let Some(visit) = conn.and_then(|conn| self.visits.by_key.get_mut(&conn))
            && visit.receiver == Some((from, receiver))
        {
            visit.receiver = None;
            visit.over_ms = over_ms;
        }
    }

    /// True: the session that ended is one of these, and its client is told so.
    pub(super) fn end_visit(&mut self, conn: ConnKey, disconnect: &Disconnect) -> bool {
        let Some(visit) = self.visits.by_key.get_mut(&conn) else { return false };
        visit.last = Some(close_line(disconnect.code, &disconnect.reason));
        if visit.receiver.is_none() {
            visit.over_ms = visit.over_ms.min(self.now.ms.saturating_add(self.visits.patience_ms));
        }
        if matches!(disconnect.code, 3008 | 3009) {
            self.write.drop_queue(conn);
        }
        self.serve_visit(conn);
        true
    }

    /// Ends the sessions nobody asks for any more.
    pub(super) fn check_visits(&mut self) {
        let now_ms = self.now.ms;
        if now_ms < self.visits.check_ms {
            return;
        }
        // Their requests may lie unread in the sockets since the server stood still. A check that stays overdue would look
        // like standing still itself.
        if now_ms < self.grace_until_ms {
            self.visits.check_ms = self.grace_until_ms;
            return;
        }
        let over =
            self.visits.by_key.iter().filter(|(_, visit)| visit.over_ms <= now_ms).map(|(&conn, _)| conn);
        for conn in over.collect::<Vec<_>>() {
            self.forget_session(conn);
            if let Some(visit) = self.visits.by_key.remove(&conn) {
                self.visits.by_id.remove(&visit.id);
            }
            self.write.remove(conn);
            self.visits.free.push(ConnKey { generation: conn.generation.wrapping_add(1), ..conn });
        }
        self.visits.check_ms = if self.visits.by_key.is_empty() { u64::MAX } else { now_ms + CHECK_MS };
    }
}

fn close_line(code: u32, reason: &str) -> Vec<u8> {
    let mut line = Vec::new();
    sockjs::write_close(&mut line, code, reason);
    line.push(b'\n');
    line
}
