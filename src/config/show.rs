//! Settings -> a configuration file: with every key for `gen-config`, with some for `migrate`.
//!
//! TOML and YAML carry each option's text as a comment. What is written reads back to the same settings.

use super::{
    keys,
    node::{Entry, Node, Value},
    read::Format,
    settings::{Namespace, Settings},
    table::{Part, Section},
};
use std::fmt::Write;

/// A file in `format` that says everything `settings` says.
#[must_use]
pub fn show(settings: &Settings, format: Format) -> String {
    render(&items(&mut settings.clone(), "", &|_| true), format)
}

/// A file in `format` that says what `settings` says about the keys that are `wanted`, without comments.
pub fn show_some(settings: &Settings, format: Format, wanted: &dyn Fn(&str) -> bool) -> String {
    let mut items = items(&mut settings.clone(), "", wanted);
    without_comments(&mut items);
    render(&items, format)
}

/// A key or a section of the file to be.
struct Item {
    name: &'static str,
    about: &'static str,
    what: What,
}

enum What {
    Value(Value),
    Section(Vec<Item>),
}

fn items(section: &mut dyn Section, prefix: &str, wanted: &dyn Fn(&str) -> bool) -> Vec<Item> {
    let mut items = Vec::new();
    for option in section.options() {
        if wanted(&format!("{prefix}{}", option.name)) {
            let what = What::Value(section.show(option.name));
            items.push(Item { name: option.name, about: option.text, what });
        }
    }
    for &(name, about) in section.part_names() {
        let what = match section.part(name) {
            Some(Part::Section(part)) => match items_of_part(part, &format!("{prefix}{name}."), wanted) {
                Some(items) => What::Section(items),
                None => continue,
            },
            Some(Part::Namespaces(list)) if list.is_empty() && !wanted(keys::NAMESPACES) => continue,
            Some(Part::Namespaces(list)) => What::Value(namespaces(list, wanted)),
            None => continue,
        };
        items.push(Item { name, about, what });
    }
    items
}

/// `None`: nothing of it is wanted.
fn items_of_part(part: &mut dyn Section, prefix: &str, wanted: &dyn Fn(&str) -> bool) -> Option<Vec<Item>> {
    Some(items(part, prefix, wanted)).filter(|items| !items.is_empty())
}

fn namespaces(list: &[Namespace], wanted: &dyn Fn(&str) -> bool) -> Value {
    let one = |namespace: &Namespace| -> Node {
        let prefix = keys::namespace(&namespace.name);
        Value::Map(entries(items(&mut namespace.clone(), &format!("{prefix}."), wanted))).into()
    };
    Value::List(list.iter().map(one).collect())
}

fn entries(items: Vec<Item>) -> Vec<Entry> {
    let value = |what| match what {
        What::Value(value) => value,
        What::Section(items) => Value::Map(entries(items)),
    };
    items.into_iter().map(|item| Entry::new(item.name, value(item.what))).collect()
}

fn without_comments(items: &mut [Item]) {
    for item in items {
        item.about = "";
        if let What::Section(items) = &mut item.what {
            without_comments(items);
        }
    }
}

fn render(items: &[Item], format: Format) -> String {
    let mut text = String::new();
    match format {
        Format::Json => {
            json(&mut text, items, "");
            text.push('\n');
        }
        Format::Toml => toml(&mut text, items, ""),
        Format::Yaml => yaml(&mut text, items, ""),
    }
    text
}

fn json(text: &mut String, items: &[Item], indent: &str) {
    let inner = format!("{indent}  ");
    text.push('{');
    for (index, item) in items.iter().enumerate() {
        *text += &format!("{}\n{inner}\"{}\": ", if index == 0 { "" } else { "," }, item.name);
        match &item.what {
            What::Value(value) => *text += &inline(value, ": "),
            What::Section(items) => json(text, items, &inner),
        }
    }
    *text += &format!("\n{indent}}}");
}

fn yaml(text: &mut String, items: &[Item], indent: &str) {
    for item in items {
        comment(text, item.about, indent);
        match &item.what {
            What::Value(value) => *text += &format!("{indent}{}: {}\n", item.name, inline(value, ": ")),
            What::Section(items) => {
                *text += &format!("{indent}{}:\n", item.name);
                yaml(text, items, &format!("{indent}  "));
            }
        }
    }
}

/// A table's own keys come before the tables in it.
fn toml(text: &mut String, items: &[Item], prefix: &str) {
    for item in items {
        if let What::Value(value) = &item.what {
            comment(text, item.about, "");
            *text += &format!("{} = {}\n", item.name, inline(value, " = "));
        }
    }
    for item in items {
        if let What::Section(items) = &item.what {
            if !text.is_empty() {
                text.push('\n');
            }
            comment(text, item.about, "");
            *text += &format!("[{prefix}{}]\n", item.name);
            toml(text, items, &format!("{prefix}{}.", item.name));
        }
    }
}

fn comment(text: &mut String, about: &str, indent: &str) {
    const COLUMNS: usize = 100;
    if about.is_empty() {
        return;
    }
    let mut line = String::new();
    for word in about.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            *text += &format!("{indent}#{line}\n");
            line.clear();
        }
        line.push(' ');
        line += word;
    }
    *text += &format!("{indent}#{line}\n");
}

/// A value on one line: JSON, and with another sign after keys, TOML.
pub fn inline(value: &Value, equals: &str) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(it) => it.to_string(),
        Value::Int(it) => it.to_string(),
        Value::Float(it) => it.to_string(),
        Value::Text(it) => quoted(it),
        Value::List(items) => {
            let items: Vec<_> = items.iter().map(|item| inline(&item.value, equals)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(entries) => {
            let entry = |it: &Entry| {
                let key = if equals == ": " { quoted(&it.key) } else { it.key.clone() };
                format!("{key}{equals}{}", inline(&it.node.value, equals))
            };
            let entries: Vec<_> = entries.iter().map(entry).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

/// In double quotes, with the escapes JSON, TOML and YAML have in common.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for it in text.chars() {
        match it {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(it);
            }
            // Controls, and what one of the three does not take as it is.
            '\0'..=' '
            | '\u{7f}'..='\u{a0}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}'
                if it != ' ' =>
            {
                let _ = write!(quoted, "\\u{:04x}", u32::from(it));
            }
            _ => quoted.push(it),
        }
    }
    quoted.push('"');
    quoted
}
