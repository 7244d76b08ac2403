//! The table of options: what one is, and the macro that turns a table into a struct and its defaults.
//!
//! One row is name, type, default, rule and text. From it come the field, `Default`, reading and checking a
//! value, `gen-config`, the environment name and `docs/CONFIG.md`: nothing about an option is said twice.

use super::{
    duration,
    node::{Node, Value},
    rules::{Rule, Zero},
    settings::Namespace,
};

/// What the world is told about an option; its value lives in a field of the same name.
#[derive(Clone, Copy, Debug)]
pub struct Opt {
    pub name: &'static str,
    pub kind: Kind,
    pub rule: Rule,
    /// What it does, in which unit, at which cost.
    pub text: &'static str,
}

/// The type of an option, as an operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Integer,
    Duration,
    Text,
    List,
    Cores,
    /// A list of sections, whose form their rule says.
    Sections,
    Headers,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "boolean",
            Self::Integer => "integer",
            Self::Duration => "duration",
            Self::Text => "text",
            Self::List => "list of texts",
            Self::Cores => "count or list",
            Self::Sections => "list of sections",
            Self::Headers => "texts by name",
        }
    }
}

/// A type an option can have.
pub trait OptionValue: Sized {
    const KIND: Kind;
    /// `None`: not of this type, or beyond what it can hold.
    fn read(value: &Value) -> Option<Self>;
    fn show(&self) -> Value;
    fn obeys(&self, rule: &Rule) -> bool;
}

/// Options and further sections under a common prefix.
pub trait Section {
    fn options(&self) -> Vec<&'static Opt>;
    /// Reads and checks the option `name`. On an error the value stays as it was.
    ///
    /// # Errors
    /// What is allowed, when the value is not.
    fn set(&mut self, name: &str, value: &Value) -> Result<(), String>;
    fn show(&self, name: &str) -> Value;
    /// Names and texts of the sections inside this one.
    fn part_names(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }
    fn part(&mut self, _name: &str) -> Option<Part<'_>> {
        None
    }
}

pub enum Part<'a> {
    Section(&'a mut dyn Section),
    Namespaces(&'a mut Vec<Namespace>),
}

/// What can stand in the `parts` of a table.
pub trait AsPart {
    fn as_part(&mut self) -> Part<'_>;
}

impl<S: Section> AsPart for S {
    fn as_part(&mut self) -> Part<'_> {
        Part::Section(self)
    }
}

impl AsPart for Vec<Namespace> {
    fn as_part(&mut self) -> Part<'_> {
        Part::Namespaces(self)
    }
}

/// Reads a value of an option and checks its rule.
pub fn read<V: OptionValue>(value: &Value, rule: &Rule) -> Result<V, String> {
    V::read(value).filter(|it| it.obeys(rule)).ok_or_else(|| rule.allowed(V::KIND))
}

/// The same for an option with this default: where zero stands for something else, it is read as that.
pub fn read_or<V: OptionValue>(value: &Value, rule: &Rule, default: V) -> Result<V, String> {
    match rule.zero().filter(|_| is_zero(value, V::KIND)) {
        Some(Zero::Default) => Ok(default),
        Some(Zero::Most(most)) => read(&Value::Int(most.into()), rule),
        None => read(value, rule),
    }
}

fn is_zero(value: &Value, kind: Kind) -> bool {
    match value {
        Value::Int(0) => true,
        Value::Text(text) => {
            kind == Kind::Duration && duration::parse(text).is_some_and(|time| time.is_zero())
        }
        _ => false,
    }
}

/// The option `name` of a section.
pub fn option(section: &dyn Section, name: &str) -> Option<&'static Opt> {
    section.options().into_iter().find(|option| option.name == name)
}

/// The value of an option in a map of settings.
pub fn entry<'a>(map: &'a [super::node::Entry], name: &str) -> Option<&'a Node> {
    map.iter().find(|entry| entry.key == name).map(|entry| &entry.node)
}

macro_rules! sections {
    ($(
        $(#[doc = $doc:literal])*
        $Name:ident {
            $( $(#[doc = $text:literal])* $field:ident: $type:ty = $default:expr, $rule:expr; )*
        }
        $(+ parts { $( $(#[doc = $part_text:literal])* $part:ident: $part_type:ty, )* })?
    )*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $Name {
            $( $(#[doc = $text])* pub $field: $type, )*
            $($( $(#[doc = $part_text])* pub $part: $part_type, )*)?
        }

        impl Default for $Name {
            fn default() -> Self {
                Self {
                    $( $field: $default, )*
                    $($( $part: <$part_type>::default(), )*)?
                }
            }
        }

        impl $crate::config::table::Section for $Name {
            fn options(&self) -> Vec<&'static $crate::config::table::Opt> {
                const OPTIONS: &[$crate::config::table::Opt] = &[$(
                    $crate::config::table::Opt {
                        name: stringify!($field),
                        kind: <$type as $crate::config::table::OptionValue>::KIND,
                        rule: $rule,
                        text: concat!($($text),*),
                    },
                )*];
                OPTIONS.iter().collect()
            }

            #[allow(unused_variables, reason = "a section may have no options of its own")]
            fn set(&mut self, name: &str, value: &$crate::config::node::Value) -> Result<(), String> {
                match name {
                    $( stringify!($field) => self.$field = $crate::config::table::read_or(value, &$rule, $default)?, )*
                    _ => unreachable!("callers look names up in options()"),
                }
                #[allow(unreachable_code, reason = "likewise")]
                Ok(())
            }

            fn show(&self, name: &str) -> $crate::config::node::Value {
                match name {
                    $( stringify!($field) => $crate::config::table::OptionValue::show(&self.$field), )*
                    _ => unreachable!("callers look names up in options()"),
                }
            }

            $(
                fn part_names(&self) -> &'static [(&'static str, &'static str)] {
                    &[$( (stringify!($part), concat!($($part_text),*)), )*]
                }

                fn part(&mut self, name: &str) -> Option<$crate::config::table::Part<'_>> {
                    match name {
                        $( stringify!($part) => Some($crate::config::table::AsPart::as_part(&mut self.$part)), )*
                        _ => None,
                    }
                }
            )?
        }
    )*};
}
pub(super) use sections;
