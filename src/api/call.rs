//! One request of a caller, from its bytes to the body of its response.
//!
//! A call is a list of steps. A single method has one; a batch and the legacy form have many. Steps start
//! one after the other, or all at once when a batch says `parallel`; what they bring is kept in their order.
//! Everything is decoded before the first step starts: malformed input changes nothing.

use super::{
    decode,
    encode::{self, ErrorMode, Node},
    method::{Method, method, numbered},
    quick,
};
use crate::{
    broker::seam::{ApiReply, ApiRequest},
    model::ErrorCode,
};
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;
use std::{fmt, ops::Range};

/// Most steps of a batch or of a legacy request; more is answered with error 106.
pub const BATCH_MAX: usize = 10_000;

const PUBLISH: &str = "publish";
/// About what stands around a result.
const AROUND_RESULT: usize = 16;

/// The body is not JSON of the asked shape: HTTP 400 with this text.
#[derive(Debug, thiserror::Error)]
#[error("malformed request: {0}")]
pub struct Malformed(String);

impl From<serde_json::Error> for Malformed {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

/// Status and JSON body.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub body: Vec<u8>,
}

#[derive(Debug)]
pub struct Call {
    shape: Shape,
    mode: ErrorMode,
    parallel: bool,
    steps: Vec<Step>,
    /// Result objects, in the order in which they came.
    results: Vec<u8>,
    /// The next step to start.
    next: usize,
    /// Steps without an answer, started or not.
    open: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Single,
    Batch,
    Lines,
}

#[derive(Debug)]
enum Step {
    Waiting(&'static str, ApiRequest),
    Running(&'static str),
    /// The error, or where in the results the object of the method is.
    Answered(&'static str, Result<Range<usize>, ErrorCode>),
}

/// Where a caller posts to.
#[derive(Clone, Copy, Debug)]
pub enum Endpoint {
    /// `<prefix>/<method>`
    Method(&'static Method),
    /// `<prefix>/batch`
    Batch,
    /// `<prefix>`: the method is in the body.
    Legacy,
}

impl Endpoint {
    /// What is at `<prefix>/<name>`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        if name == "batch" { Some(Self::Batch) } else { method(name).map(Self::Method) }
    }
}

impl Call {
    /// The call of a `POST`. An empty body stands for `{}`, except at the legacy endpoint.
    pub fn new(endpoint: Endpoint, body: &[u8], mode: ErrorMode) -> Result<Self, Malformed> {
        let json = text(body)?;
        let or_empty = || if json.trim_ascii().is_empty() { "{}" } else { json };
        match endpoint {
            Endpoint::Method(method) => Ok(Self::of(Shape::Single, mode, vec![step(method, or_empty())?])),
            Endpoint::Batch => Self::batch(or_empty(), mode),
            Endpoint::Legacy => Self::legacy(json, mode),
        }
    }

    fn batch(json: &str, mode: ErrorMode) -> Result<Self, Malformed> {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Batch<'a> {
            #[serde(borrow)]
            commands: Option<Vec<Option<Fields<'a>>>>,
            parallel: Option<bool>,
        }
        if let Some(requests) = quick::batch(json, BATCH_MAX) {
            let steps = requests.into_iter().map(|request| Step::Waiting(PUBLISH, request)).collect();
            return Ok(Self::of(Shape::Batch, mode, steps));
        }
        let batch: Batch<'_> = decode::object(json)?;
        let commands = batch.commands.unwrap_or_default();
        if commands.len() > BATCH_MAX {
            return Ok(Self::refused(mode, ErrorCode::LimitExceeded));
        }
        let steps = commands.iter().map(|command| match command {
            None => Ok(Step::Answered("error", Err(ErrorCode::BadRequest))),
            Some(Fields(fields)) => {
                match fields.iter().find_map(|(name, json)| Some((method(name)?, json))) {
                    Some((method, json)) => step(method, json.get()),
                    None => Ok(Step::Answered("error", Err(ErrorCode::MethodNotFound))),
                }
            }
        });
        let mut call = Self::of(Shape::Batch, mode, steps.collect::<Result<_, Malformed>>()?);
        call.parallel = batch.parallel.unwrap_or(false);
        Ok(call)
    }

    /// `{"method": …, "params": …}`, one or several in a row.
    fn legacy(json: &str, mode: ErrorMode) -> Result<Self, Malformed> {
        #[derive(Deserialize)]
        struct Line<'a> {
            #[serde(default)]
            method: serde_json::Value,
            #[serde(default, borrow)]
            params: Option<&'a RawValue>,
        }
        let mut steps = Vec::new();
        for line in serde_json::Deserializer::from_str(json).into_iter::<&RawValue>() {
            let line: Line<'_> = decode::object(line?.get())?;
            let method = match &line.method {
                serde_json::Value::String(name) => method(name),
                // The number of `publish` is 0, and a zero may be left out.
                serde_json::Value::Null => numbered(0),
                serde_json::Value::Number(number) => number.as_u64().and_then(numbered),
                _ => return Err(Malformed("method is neither a name nor a number".into())),
            };
            if steps.len() == BATCH_MAX {
                return Ok(Self::refused(mode, ErrorCode::LimitExceeded));
            }
            steps.push(match method {
                Some(method) => step(method, line.params.map_or("{}", RawValue::get))?,
                None => Step::Answered("error", Err(ErrorCode::MethodNotFound)),
            });
        }
        if steps.is_empty() {
            return Err(Malformed("no command".into()));
        }
        Ok(Self::of(Shape::Lines, mode, steps))
    }

    fn refused(mode: ErrorMode, error: ErrorCode) -> Self {
        Self::of(Shape::Single, mode, vec![Step::Answered("error", Err(error))])
    }

    fn of(shape: Shape, mode: ErrorMode, steps: Vec<Step>) -> Self {
        let open = steps.iter().filter(|step| !matches!(step, Step::Answered(..))).count();
        Self { shape, mode, parallel: false, steps, results: Vec::new(), next: 0, open }
    }

    /// The next broker call to make, with the number of its step. `None`: nothing to start before an answer comes.
    pub fn start_next(&mut self) -> Option<(usize, ApiRequest)> {
        while let Some(step) = self.steps.get_mut(self.next) {
            let running = match step {
                Step::Waiting(name, _) => Step::Running(name),
                Step::Running(_) if !self.parallel => return None,
                Step::Running(_) | Step::Answered(..) => {
                    self.next += 1;
                    continue;
                }
            };
            if let Step::Waiting(_, request) = std::mem::replace(step, running) {
                return Some((self.next, request));
            }
        }
        None
    }

    /// Takes the answer of a step. Anything but the first answer of a running step is ignored.
    pub fn answer(&mut self, step: usize, reply: Result<ApiReply, ErrorCode>, node: &Node<'_>) {
        if let Some(step) = self.steps.get_mut(step)
            && let Step::Running(name) = *step
        {
            let begin = self.results.len();
            let answer = reply.map(|reply| {
                encode::result(&mut self.results, &reply, node);
                begin..self.results.len()
            });
            *step = Step::Answered(name, answer);
            self.open -= 1;
        }
    }

    /// Every step has its answer.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.open == 0
    }

    /// Steps answered with an error.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Answered(_, Err(_)))).count()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The response. A step without an answer counts as an internal error.
    #[must_use]
    pub fn finish(self) -> Response {
        let mut body = Vec::with_capacity(self.results.len() + self.steps.len() * AROUND_RESULT);
        let results = self.results;
        let answers = self.steps.into_iter().map(|step| match step {
            Step::Answered(name, answer) => {
                (name, answer.map(|range| results.get(range).unwrap_or_default()))
            }
            Step::Waiting(name, _) | Step::Running(name) => (name, Err(ErrorCode::Internal)),
        });
        let mut status = 200;
        match self.shape {
            Shape::Single => {
                for (_, answer) in answers {
                    match answer {
                        Err(error) if self.mode == ErrorMode::Transport => {
                            status = encode::status_of(error);
                            encode::error(&mut body, error);
                        }
                        answer => wrapped(&mut body, "result", answer),
                    }
                }
            }
            Shape::Lines => {
                for (_, answer) in answers {
                    if !body.is_empty() {
                        body.push(b'\n');
                    }
                    wrapped(&mut body, "result", answer);
                }
            }
            Shape::Batch => {
                body.extend_from_slice(b"{\"replies\":[");
                for (index, (name, answer)) in answers.enumerate() {
                    if index > 0 {
                        body.push(b',');
                    }
                    wrapped(&mut body, name, answer);
                }
                body.extend_from_slice(b"]}");
            }
        }
        Response { status, body }
    }
}

/// `name` is one of ours: nothing in it has to be escaped.
fn wrapped(out: &mut Vec<u8>, name: &'static str, answer: Result<&[u8], ErrorCode>) {
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(if answer.is_ok() { name } else { "error" }.as_bytes());
    out.extend_from_slice(b"\":");
    match answer {
        Ok(result) => out.extend_from_slice(result),
        Err(error) => encode::error(out, error),
    }
    out.push(b'}');
}

fn step(method: &'static Method, json: &str) -> Result<Step, Malformed> {
    if method.name == PUBLISH
        && let Some(request) = quick::publish(json)
    {
        return Ok(Step::Waiting(PUBLISH, request));
    }
    Ok(match (method.decode)(json)? {
        Ok(request) => Step::Waiting(method.name, request),
        Err(error) => Step::Answered(method.name, Err(error)),
    })
}

fn text(body: &[u8]) -> Result<&str, Malformed> {
    simdutf8::basic::from_utf8(body).map_err(|_| Malformed("not UTF-8".into()))
}

/// The non-null fields of an object, in order.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    if value.get() != "null" {
                        fields.push((name, value));
                    }
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests;
