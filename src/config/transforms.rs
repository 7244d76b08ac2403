//! What a code becomes for peers that cannot be told it: lists of `{"code": …, "to": …}`.

use super::{
    node::{Entry, Value},
    rules::Rule,
    table::{Kind, OptionValue, entry, sections},
};

sections! {
    /// Codes of errors to disconnects.
    ConnectDisconnects {
        /// Whether `transforms` count.
        enabled: bool = false, Rule::Any;
        /// From the code of an error to how the connection ends; the first that matches. Others: 109 and 110 to 3005, 111 to 3013, 103 to 3507, and 3004.
        transforms: Transforms<DisconnectTo> = Transforms::default(), Rule::Shape(DISCONNECTS);
    }

    /// Codes of errors and disconnects to statuses.
    ConnectResponses {
        /// Whether the answer waits for whether the listener is connected.
        enabled: bool = false, Rule::Any;
        /// From the code of an error or a disconnect to a status and a body (empty: the text of the code); the first that matches. Others are answered 500.
        transforms: Transforms<ResponseTo> = Transforms::default(), Rule::Shape(RESPONSES);
    }
}

const DISCONNECTS: &str = "a list of {\"code\": 103, \"to\": {\"code\": 4403, \"reason\": \"no\"}}, codes from 3001 to 4999, \
                           reasons of at most 123 bytes";
const RESPONSES: &str = "a list of {\"code\": 103, \"to\": {\"status_code\": 403, \"body\": \"no\"}}, statuses from 200 to 599, \
                         bodies of at most 4096 bytes";

/// Rows of one list.
const ROWS_MAX: usize = 100;

/// The longest reason a close frame holds.
const REASON_MAX: usize = 123;

const BODY_MAX: usize = 4096;

/// Rows in the order in which they are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transforms<To>(pub Vec<(u32, To)>);

impl<To> Default for Transforms<To> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<To> Transforms<To> {
    /// What `code` becomes.
    #[must_use]
    pub fn of(&self, code: u32) -> Option<&To> {
        self.0.iter().find(|(from, _)| *from == code).map(|(_, to)| to)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisconnectTo {
    pub code: u32,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseTo {
    pub status: u16,
    pub body: String,
}

/// What stands behind `to`: a number and a text.
pub trait Target: Sized {
    const NAMES: [&'static str; 2];
    fn new(number: u32, text: String) -> Option<Self>;
    fn parts(&self) -> (u32, &str);
    fn is_good(&self) -> bool;
}

impl Target for DisconnectTo {
    const NAMES: [&'static str; 2] = ["code", "reason"];

    fn new(code: u32, reason: String) -> Option<Self> {
        Some(Self { code, reason })
    }

    fn parts(&self) -> (u32, &str) {
        (self.code, &self.reason)
    }

    fn is_good(&self) -> bool {
        (3001..5000).contains(&self.code) && self.reason.len() <= REASON_MAX
    }
}

impl Target for ResponseTo {
    const NAMES: [&'static str; 2] = ["status_code", "body"];

    fn new(status: u32, body: String) -> Option<Self> {
        Some(Self { status: u16::try_from(status).ok()?, body })
    }

    fn parts(&self) -> (u32, &str) {
        (self.status.into(), &self.body)
    }

    fn is_good(&self) -> bool {
        (200..600).contains(&self.status) && self.body.len() <= BODY_MAX
    }
}

impl<To: Target> OptionValue for Transforms<To> {
    const KIND: Kind = Kind::Sections;

    fn read(value: &Value) -> Option<Self> {
        let Value::List(items) = value else { return None };
        items.iter().map(|item| row(&item.value)).collect::<Option<_>>().map(Self)
    }

    fn show(&self) -> Value {
        let show = |(code, to): &(u32, To)| {
            let (number, text) = to.parts();
            let to = Value::Map(vec![
                Entry::new(To::NAMES[0], number.show()),
                Entry::new(To::NAMES[1], Value::text(text)),
            ]);
            Value::Map(vec![Entry::new("code", code.show()), Entry::new("to", to)]).into()
        };
        Value::List(self.0.iter().map(show).collect())
    }

    fn obeys(&self, _rule: &Rule) -> bool {
        self.0.len() <= ROWS_MAX && self.0.iter().all(|(code, to)| *code > 0 && to.is_good())
    }
}

fn row<To: Target>(value: &Value) -> Option<(u32, To)> {
    let Value::Map(entries) = value else { return None };
    let code = u32::read(&entry(entries, "code")?.value)?;
    let Value::Map(to) = &entry(entries, "to")?.value else { return None };
    let number = u32::read(&entry(to, To::NAMES[0])?.value)?;
    let text = entry(to, To::NAMES[1]).map_or(Some(String::new()), |node| String::read(&node.value))?;
    let known = |entries: &[Entry], names: &[&str]| entries.iter().all(|it| names.contains(&it.key.as_str()));
    let whole = known(entries, &["code", "to"]) && known(to, &To::NAMES);
    Some((code, To::new(number, text)?)).filter(|_| whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read;

    #[test]
    fn transforms_table() {
        #[track_caller]
        fn check<To: Target + PartialEq + std::fmt::Debug>(text: &str, want: Option<&[(u32, u32, &str)]>) {
            let value = read::json(text).unwrap().value;
            let found = Transforms::<To>::read(&value).filter(|it| it.obeys(&Rule::Any));
            let rows = found.as_ref().map(|it| {
                it.0.iter().map(|(code, to)| (*code, to.parts().0, to.parts().1)).collect::<Vec<_>>()
            });
            assert_eq!(rows.as_deref(), want, "{text}");
            if let Some(found) = &found {
                assert_eq!(Transforms::<To>::read(&found.show()).as_ref(), Some(found), "{text}");
            }
        }
        check::<DisconnectTo>("[]", Some(&[]));
        check::<DisconnectTo>(
            r#"[{"code":404,"to":{"code":4904,"reason":"not found"}},{"to":{"code":3500},"code":103}]"#,
            Some(&[(404, 4904, "not found"), (103, 3500, "")]),
        );
        check::<ResponseTo>(
            r#"[{"code":3501,"to":{"status_code":401,"body":"who?"}}]"#,
            Some(&[(3501, 401, "who?")]),
        );
        for bad in [
            "{}",
            r#"[{"code":404}]"#,
            r#"[{"code":404,"to":4904}]"#,
            r#"[{"code":0,"to":{"code":4904}}]"#,
            r#"[{"code":404,"to":{"code":3000}}]"#,
            r#"[{"code":404,"to":{"code":5000}}]"#,
            r#"[{"code":404,"to":{"status_code":404}}]"#,
            r#"[{"code":404,"to":{"code":4904,"reason":1}}]"#,
            r#"[{"code":404,"to":{"code":4904,"more":1}}]"#,
            r#"[{"code":404,"to":{"code":4904},"more":1}]"#,
            r#"[{"code":"404","to":{"code":4904}}]"#,
        ] {
            check::<DisconnectTo>(bad, None);
        }
        for status in ["199", "600", "70000"] {
            check::<ResponseTo>(&format!(r#"[{{"code":1,"to":{{"status_code":{status}}}}}]"#), None);
        }
        let long = format!(r#"[{{"code":1,"to":{{"code":4000,"reason":"{}"}}}}]"#, "x".repeat(124));
        check::<DisconnectTo>(&long, None);
    }
}
