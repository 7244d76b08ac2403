//! Responses, from status to bytes.

use crate::wire::http::{self, Version, reason_phrase};
use std::borrow::Cow;

pub const JSON: &str = "application/json";
pub const JAVASCRIPT: &str = "application/javascript; charset=UTF-8";
pub const TEXT: &str = "text/plain; charset=utf-8";

/// More header fields of a response, name and value.
pub type Fields = Vec<(&'static str, Cow<'static, str>)>;

#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    content_type: &'static str,
    fields: Fields,
    body: Vec<u8>,
}

/// How a response is written to the request it answers.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub version: Version,
    pub keep_alive: bool,
    /// The length of the body without the body.
    pub head_only: bool,
}

impl Manner {
    /// For what is not even a request.
    pub const LAST: Self = Self { version: Version::Http11, keep_alive: false, head_only: false };
}

impl Response {
    #[must_use]
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, content_type, fields: Vec::new(), body: body.into() }
    }

    /// An error with its reason phrase as the body.
    #[must_use]
    pub fn error(status: u16) -> Self {
        Self::new(status, TEXT, format!("{}\n", reason_phrase(status)))
    }

    #[must_use]
    pub fn with(mut self, fields: &[(&'static str, &'static str)]) -> Self {
        self.fields.extend(fields.iter().map(|&(name, value)| (name, Cow::Borrowed(value))));
        self
    }

    #[must_use]
    pub fn with_fields(mut self, fields: &[(&'static str, Cow<'static, str>)]) -> Self {
        self.fields.extend_from_slice(fields);
        self
    }

    /// Appends head and body.
    pub fn write(&self, out: &mut Vec<u8>, date: &str, manner: Manner) {
        let date = ("Date", date);
        let all: Vec<(&str, &str)>;
        let headers = if self.fields.is_empty() {
            std::slice::from_ref(&date)
        } else {
            let fields = self.fields.iter().map(|(name, value)| (*name, &**value));
            all = std::iter::once(date).chain(fields).collect();
            &all
        };
        let head = http::Response {
            status: self.status,
            version: manner.version,
            keep_alive: manner.keep_alive,
            content_type: if self.body.is_empty() { "" } else { self.content_type },
            content_length: Some(self.body.len()),
            headers,
        };
        http::write_response_head(out, &head);
        if !manner.head_only {
            out.extend_from_slice(&self.body);
        }
    }
}
