//! One HTTP/1.1 connection: bytes in, exchanges, bytes out. No sockets and no broker.
//!
//! Requests may be pipelined. Each becomes an [`Exchange`] in a queue, and leaves it in order once its
//! response is there. When `http_server.pipeline_max` are open, or [`OUTPUT_MAX`] bytes wait to be written,
//! no further request is looked at and the driver stops reading. After an error of form (4xx from the head
//! or the body) nothing that follows can be trusted, so the connection ends with that response.

mod body;
mod cors;
pub mod date;
pub mod metrics;
pub mod response;
pub mod route;
mod site;
mod stream;

pub use response::Response;
pub use site::{Identity, Site, Upgrade};
pub use stream::{StreamPlan, StreamStart};

use self::{
    body::Gathering,
    response::{Fields, Manner},
    site::{Plan, Target},
};
use crate::{
    api::Call,
    broker::seam::{ApiReply, ApiRequest, SockJsAnswer, SockJsAsk},
    model::{ErrorCode, Now, Protocol},
    wire::client::decode_emulation,
    wire::http::{BodyDecoder, CONTINUE, EMPTY_HEADER, Framing, HeadLimits, Request, parse_head},
    wire::sockjs,
};
use std::{collections::VecDeque, net::SocketAddr};

/// Bytes of responses that may wait for the socket before reading pauses.
pub const OUTPUT_MAX: usize = 64 * 1024;

/// Headers there is room for without memory of their own.
const FEW_HEADERS: usize = 128;

/// Longest request target.
const TARGET_MAX: usize = 8 * 1024;

#[derive(Debug)]
pub struct Http {
    /// The peer, or whom its proxy speaks for.
    pub peer: SocketAddr,
    input: Vec<u8>,
    /// Bytes of `input` that are done with.
    used: usize,
    /// Bytes of input in which no head ends.
    searched: usize,
    body: Option<(Box<Gathering>, Manner)>,
    exchanges: VecDeque<Exchange>,
    /// Number of the first exchange in the queue.
    first: u64,
    output: Vec<u8>,
    /// No further request is looked at: the last response says so, or the driver wants to end.
    stopped: bool,
}

#[derive(Debug)]
struct Exchange {
    manner: Manner,
    state: State,
}

#[derive(Debug)]
enum State {
    Call(Box<Call>),
    Metrics,
    /// Waits for the session to have its commands; for the response then.
    Emulation(Fields),
    /// Waits for what its session is told, or has heard.
    SockJs(Fields),
    /// A session begins once this is the first.
    Stream(Box<StreamStart>),
    /// `100 Continue`; not an answer yet.
    Continue,
    Done(Response),
}

/// What the driver has to do before the next look at the connection.
#[derive(Debug)]
pub enum Next {
    /// More bytes, or room.
    Wait,
    /// Start the broker calls of this exchange: see [`Http::start_call`].
    Call(u64),
    /// Ask every core for its counters, and render them as metrics: see [`Http::answer_metrics`].
    Metrics(u64),
    /// Hand these commands to their session: see [`Http::answer_emulation`].
    Emulate { exchange: u64, session: String, commands: Vec<u8> },
    /// Ask about this session of SockJS: see [`Http::answer_sockjs`].
    SockJs { exchange: u64, session: String, ask: SockJsAsk },
    /// The response is a session from here on.
    Stream(Box<StreamStart>),
    /// Not HTTP any more. What follows the head is in [`Http::take_input`].
    Upgrade(Upgrade),
}

impl Http {
    #[must_use]
    pub fn new(peer: SocketAddr) -> Self {
        Self {
            peer,
            input: Vec::new(),
            used: 0,
            searched: 0,
            body: None,
            exchanges: VecDeque::new(),
            first: 0,
            output: Vec::new(),
            stopped: false,
        }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if !self.stopped {
            self.input.extend_from_slice(bytes);
        }
    }

    /// Bytes that arrived and were not looked at.
    #[must_use]
    pub fn input(&self) -> &[u8] {
        &self.input[self.used..]
    }

    pub fn take_input(&mut self) -> Vec<u8> {
        let mut input = std::mem::take(&mut self.input);
        input.drain(..std::mem::take(&mut self.used));
        input
    }

    pub fn consume(&mut self, bytes: usize) {
        self.used = (self.used + bytes).min(self.input.len());
        if self.used == self.input.len() {
            // An idle connection holds no buffer.
            self.input = Vec::new();
            self.used = 0;
        } else if self.used >= 16 * 1024 {
            self.input.drain(..self.used);
            self.used = 0;
        }
    }

    /// Nothing is owed to the client, and the rest of a request is what everybody waits for.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.stopped && self.exchanges.is_empty() && (self.body.is_some() || !self.input().is_empty())
    }

    /// No byte of a request has come yet.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.first == 0 && self.exchanges.is_empty() && self.input.is_empty() && self.body.is_none()
    }

    /// Exchanges without a complete response.
    #[must_use]
    pub fn open(&self) -> usize {
        self.exchanges.len()
    }

    /// Reading on would only fill buffers.
    #[must_use]
    pub fn is_full(&self, site: &Site) -> bool {
        self.exchanges.len() >= site.settings.http_server.pipeline_max || self.output.len() > OUTPUT_MAX
    }

    /// The last response is made: close when everything is written.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.stopped && self.exchanges.is_empty()
    }

    /// Takes no further requests; those that are open get their responses.
    pub fn stop(&mut self) {
        if !self.stopped {
            self.stopped = true;
            self.input = Vec::new();
            self.used = 0;
            self.body = None;
            if let Some(last) = self.exchanges.back_mut() {
                last.manner.keep_alive = false;
            }
        }
    }

    /// Responses ready to be written, at most about `max` bytes.
    pub fn take_output(&mut self, max: usize) -> Vec<u8> {
        if self.output.len() <= max {
            return std::mem::take(&mut self.output);
        }
        let rest = self.output.split_off(max);
        std::mem::replace(&mut self.output, rest)
    }

    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Looks at the input until something has to be done elsewhere.
    pub fn next(&mut self, site: &mut Site, now: Now) -> Next {
        loop {
            // Answers that are there make room for requests.
            self.advance(site, now);
            if let Some(start) = self.take_stream() {
                if !site.draining {
                    return Next::Stream(start);
                }
                self.answer_last(Response::error(503).with_fields(&start.plan.cors));
                continue;
            }
            if self.stopped || self.is_full(site) {
                return Next::Wait;
            }
            let Some((mut gathering, manner)) = self.body.take() else {
                match self.read_head(site) {
                    Some(next) => return next,
                    None => continue,
                }
            };
            match gathering.feed(&self.input[self.used..]) {
                Err(error) => {
                    let response = Response::error(error.status()).with_fields(gathering.plan.cors());
                    self.refuse(response);
                }
                Ok((used, whole)) => {
                    self.consume(used);
                    if !whole {
                        self.body = Some((gathering, manner));
                        return Next::Wait;
                    }
                    let Gathering { plan, bytes, .. } = *gathering;
                    if let Some(next) = self.run(plan, manner, &bytes, site) {
                        return next;
                    }
                }
            }
        }
    }

    /// Waits when the head is not complete, or must wait for the answers before it. `None`: go on.
    fn read_head(&mut self, site: &Site) -> Option<Next> {
        let server = &site.settings.http_server;
        let input = &self.input[self.used..];
        // A head ends with a line; without the end of one there is nothing new to find out.
        let fresh = &input[self.searched.min(input.len())..];
        let limits = HeadLimits { size_max: server.header_size_max, uri_max: TARGET_MAX };
        if input.is_empty() || (memchr::memchr(b'\n', fresh).is_none() && input.len() < TARGET_MAX) {
            return Some(Next::Wait);
        }
        let (mut few, mut many);
        let slots = if server.header_count_max <= FEW_HEADERS {
            few = [EMPTY_HEADER; FEW_HEADERS];
            &mut few[..server.header_count_max]
        } else {
            many = vec![EMPTY_HEADER; server.header_count_max];
            &mut many[..]
        };
        let head = match parse_head(input, slots, limits) {
            Ok(Some(head)) => head,
            Ok(None) => {
                self.searched = input.len();
                return Some(Next::Wait);
            }
            Err(error) => {
                self.refuse(Response::error(error.status()));
                return None;
            }
        };
        let Request { method, version, keep_alive, expects_continue, framing, .. } = head.request;
        let manner = Manner { version, keep_alive, head_only: method == "HEAD" };
        let target = site.plan(&head.request, self.peer);
        let len = head.len;
        let plan = match target {
            Target::Plan(plan) => plan,
            // The connection changes its language behind the answers that are still owed.
            Target::Upgrade(_) if !self.exchanges.is_empty() => {
                self.searched = 0;
                return Some(Next::Wait);
            }
            Target::Upgrade(upgrade) => {
                self.consume(len);
                return Some(Next::Upgrade(*upgrade));
            }
        };
        self.searched = 0;
        self.read_body(plan, manner, Head { len, framing, expects_continue }, site)
    }

    /// What comes behind the head of a request.
    fn read_body(&mut self, plan: Plan, mut manner: Manner, head: Head, site: &Site) -> Option<Next> {
        let Head { len, framing, expects_continue } = head;
        let has_body = framing != Framing::Length(0);
        // Most requests come in one piece: their body is read where it is.
        let body_max = plan.body_max(&site.settings);
        if let Framing::Length(body_len) = framing
            && !matches!(plan, Plan::Answer(_))
            && let Some(body_len) = usize::try_from(body_len).ok().filter(|&len| len <= body_max)
            && let Some(end) = len.checked_add(body_len)
            && let Some(body) = self.input().get(len..end)
        {
            let number = self.next_number();
            let (state, next) = begin(plan, &mut manner, body, number, site);
            self.consume(end);
            self.begin_exchange(manner, state);
            return next;
        }
        self.consume(len);
        if let Plan::Answer(response) = plan {
            // What would follow is a body nobody wants.
            manner.keep_alive &= !has_body;
            self.end_exchange(manner, response);
            return None;
        }
        match BodyDecoder::new(framing, body_max as u64) {
            Err(error) => self.refuse(Response::error(error.status()).with_fields(plan.cors())),
            Ok(decoder) => {
                if expects_continue && has_body && self.input().is_empty() {
                    let manner = Manner { keep_alive: true, ..manner };
                    self.exchanges.push_back(Exchange { manner, state: State::Continue });
                }
                self.body = Some((Box::new(Gathering::new(plan, decoder)), manner));
            }
        }
        None
    }

    /// Starts what a complete request asks for.
    fn run(&mut self, plan: Plan, mut manner: Manner, body: &[u8], site: &Site) -> Option<Next> {
        let (state, next) = begin(plan, &mut manner, body, self.next_number(), site);
        self.begin_exchange(manner, state);
        next
    }

    /// Of the exchange that begins next.
    fn next_number(&self) -> u64 {
        self.first + self.exchanges.len() as u64
    }

    fn begin_exchange(&mut self, manner: Manner, state: State) {
        self.exchanges.push_back(Exchange { manner, state });
        if !manner.keep_alive {
            self.stop();
        }
    }

    fn end_exchange(&mut self, manner: Manner, response: Response) {
        self.begin_exchange(manner, State::Done(response));
    }

    /// The response to a request that was to change the language of the connection; nothing comes behind it.
    pub fn answer_last(&mut self, response: Response) {
        self.end_exchange(Manner::LAST, response);
    }

    /// Ends the connection with this response behind those that are owed.
    pub fn refuse(&mut self, response: Response) {
        if !self.stopped {
            self.stopped = true;
            self.input = Vec::new();
            self.used = 0;
            self.body = None;
            self.exchanges.push_back(Exchange { manner: Manner::LAST, state: State::Done(response) });
        }
    }

    fn exchange(&mut self, number: u64) -> Option<&mut Exchange> {
        let index = number.checked_sub(self.first)?;
        self.exchanges.get_mut(usize::try_from(index).ok()?)
    }

    /// The next broker call of an exchange: its step, and what to ask. Ask again after each answer.
    pub fn start_call(&mut self, number: u64) -> Option<(usize, ApiRequest)> {
        match &mut self.exchange(number)?.state {
            State::Call(call) => call.start_next(),
            _ => None,
        }
    }

    /// Takes the answer of a step; once all are there the response is made. Returns the number of steps
    /// and of errors of a call that ended.
    pub fn answer_call(
        &mut self,
        number: u64,
        step: usize,
        reply: Result<ApiReply, ErrorCode>,
        site: &Site,
        now: Now,
    ) {
        if let Some(exchange) = self.exchange(number)
            && let State::Call(call) = &mut exchange.state
        {
            call.answer(step, reply, &site.node(now));
        }
    }

    pub fn answer_metrics(&mut self, number: u64, response: Response) {
        if let Some(exchange) = self.exchange(number)
            && matches!(exchange.state, State::Metrics)
        {
            exchange.state = State::Done(response);
        }
    }

    /// The session has the commands of this exchange, or why not.
    pub fn answer_emulation(&mut self, number: u64, reply: Result<(), ErrorCode>) {
        if let Some(exchange) = self.exchange(number)
            && let State::Emulation(cors) = &exchange.state
        {
            let status = match reply {
                Ok(()) => 204,
                Err(ErrorCode::TooManyRequests) => 503,
                Err(_) => 500,
            };
            exchange.state = State::Done(Response::new(status, "", Vec::new()).with_fields(cors));
        }
    }

    /// What became of a question about a session of SockJS.
    pub fn answer_sockjs(&mut self, number: u64, answer: SockJsAnswer) {
        if let Some(exchange) = self.exchange(number)
            && let State::SockJs(cors) = &exchange.state
        {
            let fresh = [("Cache-Control", "no-store, no-cache, no-transform, must-revalidate, max-age=0")];
            let response = match answer {
                SockJsAnswer::Frames(lines) | SockJsAnswer::Last(lines) => {
                    Response::new(200, response::JAVASCRIPT, lines).with(&fresh)
                }
                SockJsAnswer::Sent => Response::new(204, "", Vec::new()).with(&fresh),
                SockJsAnswer::Unknown => Response::error(404),
                SockJsAnswer::Full => Response::error(503),
            };
            exchange.state = State::Done(response.with_fields(cors));
        }
    }

    /// The session that is next, if one is.
    fn take_stream(&mut self) -> Option<Box<StreamStart>> {
        if !matches!(self.exchanges.front()?.state, State::Stream(_)) {
            return None;
        }
        self.first += 1;
        match self.exchanges.pop_front()?.state {
            State::Stream(start) => Some(start),
            _ => None,
        }
    }

    /// Moves finished responses from the front of the queue to the output.
    fn advance(&mut self, site: &mut Site, now: Now) {
        loop {
            match self.exchanges.front_mut() {
                Some(Exchange { state: State::Call(call), .. }) if !call.is_finished() => return,
                Some(Exchange {
                    state: State::Metrics | State::Emulation(_) | State::SockJs(_) | State::Stream(_),
                    ..
                })
                | None => {
                    return;
                }
                Some(_) => {}
            }
            let Some(Exchange { manner, state }) = self.exchanges.pop_front() else { return };
            self.first += 1;
            let response = match state {
                State::Continue => {
                    self.output.extend_from_slice(CONTINUE);
                    continue;
                }
                State::Call(call) => {
                    let crate::api::Response { status, body } = call.finish();
                    Response::new(status, response::JSON, body)
                }
                State::Done(response) => response,
                State::Metrics | State::Emulation(_) | State::SockJs(_) | State::Stream(_) => return,
            };
            response.write(&mut self.output, site.date.at(now.unix_ms), manner);
        }
    }
}

/// Of a head at the front of the input: its length, and what it says of the body.
struct Head {
    len: usize,
    framing: Framing,
    expects_continue: bool,
}

/// How an exchange begins, and what has to be done for it elsewhere.
fn begin(plan: Plan, manner: &mut Manner, body: &[u8], number: u64, site: &Site) -> (State, Option<Next>) {
    match plan {
        Plan::Answer(response) => (State::Done(response), None),
        Plan::Metrics => (State::Metrics, Some(Next::Metrics(number))),
        Plan::Api { endpoint, mode } => match Call::new(endpoint, body, mode) {
            Ok(call) => (State::Call(Box::new(call)), Some(Next::Call(number))),
            Err(malformed) => {
                let response = Response::new(400, response::TEXT, format!("{malformed}\n"));
                (State::Done(response), None)
            }
        },
        Plan::Stream(plan) => match plan.start(body) {
            Ok(start) => {
                manner.keep_alive = false;
                (State::Stream(Box::new(start)), None)
            }
            Err(response) => (State::Done(response), None),
        },
        Plan::Emulation { protocol, cors } => match emulation(protocol, body, site) {
            Ok((session, commands)) => {
                (State::Emulation(cors), Some(Next::Emulate { exchange: number, session, commands }))
            }
            Err(status) => (State::Done(Response::new(status, "", Vec::new()).with_fields(&cors)), None),
        },
        Plan::SockJs { sends: true, cors, .. } if body.is_empty() => {
            (payload_error("Payload expected.", &cors), None)
        }
        Plan::SockJs { sends: true, cors, .. } if sockjs::decode_messages(body).is_err() => {
            (payload_error("Broken JSON encoding.", &cors), None)
        }
        Plan::SockJs { session, sends, user, cors } => {
            let messages = body.into();
            let ask = if sends { SockJsAsk::Send { messages } } else { SockJsAsk::Receive { user } };
            (State::SockJs(cors), Some(Next::SockJs { exchange: number, session, ask }))
        }
    }
}

fn payload_error(text: &str, cors: &Fields) -> State {
    State::Done(Response::new(500, response::TEXT, format!("{text}\n")).with_fields(cors))
}

/// Session and commands of a request, or the status that says what is wrong with it.
fn emulation(protocol: Protocol, body: &[u8], site: &Site) -> Result<(String, Vec<u8>), u16> {
    let request = decode_emulation(protocol, body).map_err(|_| 400u16)?;
    if request.node != site.identity.uid.as_str() {
        return Err(404);
    }
    Ok((request.session.into_owned(), request.commands.into_owned()))
}
