//! Settings -> a configuration file with every key, for `gen-config`.
//!
//! TOML and YAML carry each option's text as a comment. What is written reads back to the same settings.

use super::{
    node::{Node, Value},
    read::Format,
    settings::{Namespace, Settings},
    table::{Part, Section},
};
use std::fmt::Write;

/// A file in `format` that says everything `settings` says.
#[must_use]
pub fn show(settings: &Settings, format: Format) -> String {
    let mut settings = settings.clone();
    let mut text = String::new();
    match format {
        Format::Json => {
            json(&mut text, &mut settings, "");
            text.push('\n');
        }
        Format::Toml => toml(&mut text, &mut settings, ""),
        Format::Yaml => yaml(&mut text, &mut settings, ""),
    }
    text
}

fn json(text: &mut String, section: &mut dyn Section, indent: &str) {
    let inner = format!("{indent}  ");
    let mut between = "{\n";
    for option in section.options() {
        let value = inline(&section.show(option.name), ": ");
        *text += &format!("{between}{inner}\"{}\": {value}", option.name);
        between = ",\n";
    }
    for (name, _) in section.part_names() {
        *text += &format!("{between}{inner}\"{name}\": ");
        between = ",\n";
        match section.part(name) {
            Some(Part::Section(part)) => json(text, part, &inner),
            Some(Part::Namespaces(list)) => *text += &inline(&namespaces(list), ": "),
            None => {}
        }
    }
    *text += &format!("\n{indent}}}");
}

fn yaml(text: &mut String, section: &mut dyn Section, indent: &str) {
    for option in section.options() {
        comment(text, option.text, indent);
        let value = inline(&section.show(option.name), ": ");
        *text += &format!("{indent}{}: {value}\n", option.name);
    }
    for (name, about) in section.part_names() {
        comment(text, about, indent);
        match section.part(name) {
            Some(Part::Section(part)) => {
                *text += &format!("{indent}{name}:\n");
                yaml(text, part, &format!("{indent}  "));
            }
            Some(Part::Namespaces(list)) => {
                *text += &format!("{indent}{name}: {}\n", inline(&namespaces(list), ": "));
            }
            None => {}
        }
    }
}

fn toml(text: &mut String, section: &mut dyn Section, prefix: &str) {
    for option in section.options() {
        comment(text, option.text, "");
        *text += &format!("{} = {}\n", option.name, inline(&section.show(option.name), " = "));
    }
    for (name, about) in section.part_names() {
        if let Some(Part::Namespaces(list)) = section.part(name) {
            comment(text, about, "");
            *text += &format!("{name} = {}\n", inline(&namespaces(list), " = "));
        }
    }
    for (name, about) in section.part_names() {
        if let Some(Part::Section(part)) = section.part(name) {
            if !text.is_empty() {
                text.push('\n');
            }
            comment(text, about, "");
            *text += &format!("[{prefix}{name}]\n");
            toml(text, part, &format!("{prefix}{name}."));
        }
    }
}

fn comment(text: &mut String, about: &str, indent: &str) {
    const COLUMNS: usize = 100;
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

fn namespaces(list: &[Namespace]) -> Value {
    let one = |namespace: &Namespace| -> Node {
        let entries = namespace.options().into_iter();
        let entry =
            |option: &super::table::Opt| super::node::Entry::new(option.name, namespace.show(option.name));
        Value::Map(entries.map(entry).collect()).into()
    };
    Value::List(list.iter().map(one).collect())
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
            let entry = |it: &super::node::Entry| {
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
