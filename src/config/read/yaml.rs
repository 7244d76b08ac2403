//! YAML by `serde-saphyr`, which bounds depth, nodes and aliases and reports where each node stands.
//!
//! Only `true` and `false` are booleans, as in YAML 1.2: `no` is text.

use super::{DEPTH_MAX, Syntax};
use crate::config::node::{At, Entry, Node, Value};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};
use std::fmt;

pub fn yaml(text: &str) -> Result<Node, Syntax> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Value::Null.into());
    }
    // Aliases and merge keys cannot make the tree larger than this.
    const NODES_MAX: usize = 100_000;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX, max_nodes: NODES_MAX, max_events: 4 * NODES_MAX, },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: NODES_MAX, },
        strict_booleans: true,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(raw) => Ok(node(raw)),
        Err(error) => {
            Err(Syntax { at: error.location().map_or(At::default(), at), message: message(&error) })
        }
    }
}

/// What is wrong, on one line, without the place: that stands in front.
fn message(error: &serde_saphyr::Error) -> String {
    let text = error.to_string().replace('\n', ", ");
    match text.rfind(" at line ") {
        Some(end) if error.location().is_some() => text[..end].to_owned(),
        _ => text,
    }
}

fn at(location: Location) -> At {
    At {
        line: u32::try_from(location.line()).unwrap_or(0),
        column: u32::try_from(location.column()).unwrap_or(0),
    }
}

fn node(raw: Spanned<Raw>) -> Node {
    Node { at: at(raw.referenced), value: raw.value.0 }
}

struct Raw(Value);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor).map(Raw)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a setting")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, it: bool) -> Result<Value, E> {
        Ok(Value::Bool(it))
    }

    fn visit_i64<E>(self, it: i64) -> Result<Value, E> {
        Ok(Value::Int(it.into()))
    }

    fn visit_u64<E>(self, it: u64) -> Result<Value, E> {
        Ok(Value::Int(it.into()))
    }

    fn visit_i128<E>(self, it: i128) -> Result<Value, E> {
        Ok(Value::Int(it))
    }

    fn visit_u128<E>(self, it: u128) -> Result<Value, E> {
        Ok(i128::try_from(it).map_or(Value::Float(f64::INFINITY), Value::Int))
    }

    fn visit_f64<E>(self, it: f64) -> Result<Value, E> {
        Ok(Value::Float(it))
    }

    fn visit_str<E>(self, it: &str) -> Result<Value, E> {
        Ok(Value::text(it))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Raw>>()? {
            list.push(node(item));
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let value = entries.next_value::<Spanned<Raw>>()?;
            map.push(Entry { key: key.value, at: at(key.referenced), node: node(value) });
        }
        Ok(Value::Map(map))
    }
}
