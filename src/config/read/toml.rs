//! TOML by the `toml` crate, whose tree keeps byte spans.

use super::Syntax;
use crate::config::node::{At, Entry, Node, Value};
use std::ops::Range;
use toml::de::{DeTable, DeValue};

pub fn toml(text: &str) -> Result<Node, Syntax> {
    let lines = Lines::new(text);
    let table = DeTable::parse(text).map_err(|error| Syntax {
        at: error.span().map_or(At::default(), |span| lines.at(&span)),
        message: error.message().replace('\n', ", "),
    })?;
    Ok(Node { at: lines.at(&table.span()), value: map(table.get_ref(), &lines) })
}

fn map(table: &DeTable<'_>, lines: &Lines<'_>) -> Value {
    let entries = table.iter().map(|(key, value)| Entry {
        key: key.get_ref().clone().into_owned(),
        at: lines.at(&key.span()),
        node: Node { at: lines.at(&value.span()), value: convert(value.get_ref(), lines) },
    });
    Value::Map(entries.collect())
}

fn convert(value: &DeValue<'_>, lines: &Lines<'_>) -> Value {
    match value {
        DeValue::String(it) => Value::text(&**it),
        DeValue::Integer(it) => match i128::from_str_radix(it.as_str(), it.radix()) {
            Ok(it) => Value::Int(it),
            Err(_) => Value::Float(f64::INFINITY),
        },
        DeValue::Float(it) => Value::Float(it.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(it) => Value::Bool(*it),
        // No setting is a date; as text the message shows what was written.
        DeValue::Datetime(it) => Value::text(it.to_string()),
        DeValue::Array(items) => {
            let node = |item: &::toml::Spanned<DeValue<'_>>| Node {
                at: lines.at(&item.span()),
                value: convert(item.get_ref(), lines),
            };
            Value::List(items.iter().map(node).collect())
        }
        DeValue::Table(table) => map(table, lines),
    }
}

/// Byte offsets to lines and columns, by a table of where lines begin.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let after = memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1);
        Self { text, starts: std::iter::once(0).chain(after).collect() }
    }

    fn at(&self, span: &Range<usize>) -> At {
        let line = self.starts.partition_point(|start| *start <= span.start);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let column = self.text.get(start..span.start).map_or(0, |before| before.chars().count() + 1);
        At { line: u32::try_from(line).unwrap_or(0), column: u32::try_from(column).unwrap_or(0) }
    }
}
