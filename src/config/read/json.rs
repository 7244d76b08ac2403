//! Strict JSON (RFC 8259) with positions.
//!
//! `serde_json` gives no position for a value that is well-formed but wrong, and keeps the last of two equal
//! keys; a configuration needs the first and must refuse the second.

use super::{DEPTH_MAX, Syntax};
use crate::config::node::{At, Entry, Node, Value};

/// The one value `text` holds.
///
/// # Errors
/// [`Syntax`] where the text stops being JSON, repeats a key, or nests deeper than the limit.
pub fn json(text: &str) -> Result<Node, Syntax> {
    let mut reader = Reader { rest: text, at: At { line: 1, column: 1 } };
    let node = reader.value(0)?;
    reader.space();
    if reader.rest.is_empty() { Ok(node) } else { Err(reader.wrong("expected the end of the file")) }
}

struct Reader<'a> {
    rest: &'a str,
    at: At,
}

impl Reader<'_> {
    fn wrong(&self, message: &str) -> Syntax {
        let found = match self.peek() {
            Some(it) => format!("found {it:?}"),
            None => "found the end of the file".to_owned(),
        };
        Syntax { at: self.at, message: format!("{message}, {found}") }
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let it = chars.next()?;
        self.rest = chars.as_str();
        if it == '\n' {
            self.at = At { line: self.at.line + 1, column: 1 };
        } else {
            self.at.column += 1;
        }
        Some(it)
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.next();
        }
        found
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\r' | '\n')) {
            self.next();
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, Syntax> {
        self.space();
        let at = self.at;
        let value = match self.peek() {
            Some('{' | '[') if depth >= DEPTH_MAX => return Err(self.wrong("nested too deep")),
            Some('{') => self.map(depth)?,
            Some('[') => self.list(depth)?,
            Some('"') => Value::Text(self.string()?),
            Some('-' | '0'..='9') => self.number()?,
            Some('t') => self.word("true", Value::Bool(true))?,
            Some('f') => self.word("false", Value::Bool(false))?,
            Some('n') => self.word("null", Value::Null)?,
            _ => return Err(self.wrong("expected a value")),
        };
        Ok(Node { at, value })
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, Syntax> {
        for wanted in word.chars() {
            if !self.take(wanted) {
                return Err(self.wrong(&format!("expected {word}")));
            }
        }
        Ok(value)
    }

    fn map(&mut self, depth: usize) -> Result<Value, Syntax> {
        self.next();
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        self.space();
        while !self.take('}') {
            if !entries.is_empty() {
                self.comma('}')?;
            }
            let at = self.at;
            if self.peek() != Some('"') {
                return Err(self.wrong("expected a key in double quotes"));
            }
            let key = self.string()?;
            if !seen.insert(key.clone()) {
                return Err(Syntax { at, message: format!("the key {key:?} is here twice") });
            }
            self.space();
            if !self.take(':') {
                return Err(self.wrong("expected ':'"));
            }
            let node = self.value(depth + 1)?;
            entries.push(Entry { key, at, node });
            self.space();
        }
        Ok(Value::Map(entries))
    }

    fn list(&mut self, depth: usize) -> Result<Value, Syntax> {
        self.next();
        let mut items = Vec::new();
        self.space();
        while !self.take(']') {
            if !items.is_empty() {
                self.comma(']')?;
            }
            items.push(self.value(depth + 1)?);
            self.space();
        }
        Ok(Value::List(items))
    }

    fn comma(&mut self, close: char) -> Result<(), Syntax> {
        if !self.take(',') {
            return Err(self.wrong(&format!("expected ',' or {close:?}")));
        }
        self.space();
        Ok(())
    }

    fn string(&mut self) -> Result<String, Syntax> {
        self.next();
        let mut text = String::new();
        loop {
            match self.peek() {
                Some('"') => break,
                Some('\\') => text.push(self.escape()?),
                Some(it) if it >= ' ' => {
                    text.push(it);
                    self.next();
                }
                _ => return Err(self.wrong("expected the closing '\"' of a text")),
            }
        }
        self.next();
        Ok(text)
    }

    fn escape(&mut self) -> Result<char, Syntax> {
        self.next();
        let plain = match self.peek() {
            Some('u') => return self.unicode(),
            Some(it @ ('"' | '\\' | '/')) => it,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            _ => return Err(self.wrong("expected an escape")),
        };
        self.next();
        Ok(plain)
    }

    fn unicode(&mut self) -> Result<char, Syntax> {
        let mut code = self.hex()?;
        if (0xd800..0xdc00).contains(&code) {
            if !self.take('\\') || self.peek() != Some('u') {
                return Err(self.wrong("expected the second half of a surrogate pair"));
            }
            let low = self.hex()?;
            if !(0xdc00..0xe000).contains(&low) {
                return Err(self.wrong("expected the second half of a surrogate pair"));
            }
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
        char::from_u32(code).ok_or_else(|| self.wrong("expected a Unicode character"))
    }

    fn hex(&mut self) -> Result<u32, Syntax> {
        self.next();
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|it| it.to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.wrong("expected four hexadecimal digits"))?;
            self.next();
        }
        Ok(code)
    }

    fn number(&mut self) -> Result<Value, Syntax> {
        let start = self.rest;
        self.take('-');
        if !self.take('0') {
            self.digits()?;
        }
        let mut whole = true;
        if self.take('.') {
            whole = false;
            self.digits()?;
        }
        if self.take('e') || self.take('E') {
            whole = false;
            let _ = self.take('+') || self.take('-');
            self.digits()?;
        }
        let text = &start[..start.len() - self.rest.len()];
        // What is beyond 128 bits is certainly beyond the limits of any setting.
        match text.parse() {
            Ok(it) if whole => Ok(Value::Int(it)),
            _ => text.parse().map(Value::Float).map_err(|_| self.wrong("expected a number")),
        }
    }

    fn digits(&mut self) -> Result<(), Syntax> {
        if !self.peek().is_some_and(|it| it.is_ascii_digit()) {
            return Err(self.wrong("expected a digit"));
        }
        while self.peek().is_some_and(|it| it.is_ascii_digit()) {
            self.next();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Our verdict and value are those of `serde_json`.
    #[track_caller]
    fn check(text: &str) {
        fn same(ours: &Value, theirs: &serde_json::Value) -> bool {
            match (ours, theirs) {
                (Value::Null, serde_json::Value::Null) => true,
                (Value::Bool(a), serde_json::Value::Bool(b)) => a == b,
                (Value::Int(a), serde_json::Value::Number(b)) => {
                    b.as_i128() == Some(*a) || b.as_f64().is_some_and(|b| b == *a as f64)
                }
                (Value::Float(a), serde_json::Value::Number(b)) => b.as_f64() == Some(*a),
                (Value::Text(a), serde_json::Value::String(b)) => a == b,
                (Value::List(a), serde_json::Value::Array(b)) => {
                    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(&a.value, b))
                }
                (Value::Map(a), serde_json::Value::Object(b)) => {
                    a.len() == b.len()
                        && a.iter().all(|it| b.get(&it.key).is_some_and(|b| same(&it.node.value, b)))
                }
                _ => false,
            }
        }
        match (json(text), serde_json::from_str(text)) {
            (Ok(ours), Ok(theirs)) => assert!(same(&ours.value, &theirs), "{text:?}: {ours:?} {theirs:?}"),
            (Err(_), Err(_)) => {}
            (Err(ours), Ok(_)) if ours.message.contains("twice") || ours.message.contains("deep") => {}
            // Beyond a double: infinite for us, an error there; no setting takes either.
            (Ok(_), Err(theirs)) if theirs.to_string().contains("out of range") => {}
            (ours, theirs) => panic!("{text:?}: {ours:?} {theirs:?}"),
        }
    }

    #[test]
    fn agrees_with_serde_json() {
        for text in [
            "",
            "1",
            "-0",
            "01",
            "1.",
            ".5",
            "1e5",
            "1E+5",
            "1e",
            "-",
            "+1",
            "\"\\u00e9\"",
            "\"\\ud83d\\ude00\"",
            "\"\\ud83d\"",
            "\"\\ude00\"",
            "\"\\ud83d\\u0041\"",
            "\"\\x\"",
            "\"a\nb\"",
            "\"",
            "tru",
            "truex",
            "nul",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\" 1}",
            "{\"a\":}",
            "[]",
            "{}",
            "[[],{}]",
            "1 2",
            "\u{a0}1",
            "123456789012345678901234567890",
            "\"\u{7f}\"",
            "{\"a\":{\"b\":[1,\"x\",null,true,false]}}",
        ] {
            check(text);
        }
        arbtest::arbtest(|u| {
            const PIECES: [&str; 22] = [
                "{", "}", "[", "]", ",", ":", "\"a\"", "\"b\\n\"", "1", "-2.5", "0", "e3", "true", "false",
                "null", " ", "\n", "\"", "\\u0041", "é", "\\", ".",
            ];
            let mut text = String::new();
            for _ in 0..u.int_in_range(0..=20)? {
                text += u.choose(&PIECES)?;
            }
            check(&text);
            Ok(())
        });
    }
}
