//! A configuration as a tree of values that know where they were written.
//!
//! All three file formats are read into this one shape, so that everything after reading (unknown keys,
//! types, limits) is decided once and every complaint can name line and column.

/// A place in a file, from 1; columns count characters. Zero: unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct At {
    pub line: u32,
    pub column: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub at: At,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a map. Readers refuse a map that has a key twice.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub at: At,
    pub node: Node,
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        Self { at: At::default(), value }
    }
}

impl Entry {
    pub fn new(key: &str, value: Value) -> Self {
        Self { key: key.to_owned(), at: At::default(), node: value.into() }
    }
}

impl Value {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        Self::List(texts.into_iter().map(|text| Self::text(text).into()).collect())
    }

    /// What it is, for messages that must not repeat the value.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a section",
        }
    }

    /// The value as it would be written, cut short: for messages.
    pub fn brief(&self) -> String {
        const CHARS_MAX: usize = 60;
        let text = match self {
            Self::List(_) | Self::Map(_) => return self.kind().to_owned(),
            Self::Null => "null".to_owned(),
            Self::Bool(it) => it.to_string(),
            Self::Int(it) => it.to_string(),
            Self::Float(it) => it.to_string(),
            Self::Text(it) => format!("{it:?}"),
        };
        match text.char_indices().nth(CHARS_MAX) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    }
}
