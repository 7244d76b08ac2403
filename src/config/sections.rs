//! Sections that are more than a list of options, so that the table of [`settings`](super::settings) cannot say them.

use super::{
    node::Value,
    rules::Rule,
    settings::{ChannelOptions, Token},
    table::{Opt, OptionValue, Part, Section, read},
};
use std::marker::PhantomData;

/// A namespace: its name and what it says about its channels.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Namespace {
    pub name: String,
    /// The form of its channels' names, where `channel.patterns` is on; empty: they begin with its name.
    pub pattern: String,
    pub options: ChannelOptions,
}

impl Section for Namespace {
    fn options(&self) -> Vec<&'static Opt> {
        const NAME: Opt =
            Opt { name: "name", kind: String::KIND, rule: Rule::Name, text: " Name, before the boundary." };
        const PATTERN: Opt = Opt {
            name: "pattern",
            kind: String::KIND,
            rule: Rule::Form,
            text: " Form of its channels' names, where `channel.patterns` is on.",
        };
        [&NAME, &PATTERN].into_iter().chain(self.options.options()).collect()
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), String> {
        if name == "name" {
            self.name = read(value, &Rule::Name)?;
            return Ok(());
        }
        if name == "pattern" {
            self.pattern = read(value, &Rule::Form)?;
            return Ok(());
        }
        self.options.set(name, value)
    }

    fn show(&self, name: &str) -> Value {
        match name {
            "name" => Value::text(&self.name),
            "pattern" => Value::text(&self.pattern),
            _ => self.options.show(name),
        }
    }

    fn part_names(&self) -> &'static [(&'static str, &'static str)] {
        self.options.part_names()
    }

    fn part(&mut self, name: &str) -> Option<Part<'_>> {
        self.options.part(name)
    }
}

/// Keys and rules of subscription tokens; those of connection tokens hold unless this is enabled.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct SubscriptionToken {
    pub enabled: bool,
    pub token: Token,
}

impl Section for SubscriptionToken {
    fn options(&self) -> Vec<&'static Opt> {
        const ENABLED: Opt = Opt {
            name: "enabled",
            kind: bool::KIND,
            rule: Rule::Any,
            text: " Use these for subscription tokens, and `client.token` for connection tokens only.",
        };
        [&ENABLED].into_iter().chain(self.token.options()).collect()
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), String> {
        if name == "enabled" {
            self.enabled = read(value, &Rule::Any)?;
            return Ok(());
        }
        self.token.set(name, value)
    }

    fn show(&self, name: &str) -> Value {
        if name == "enabled" { self.enabled.show() } else { self.token.show(name) }
    }
}

/// A switch and a path on the client port.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint<Kind> {
    pub enabled: bool,
    pub handler_prefix: String,
    pub kind: PhantomData<Kind>,
}

/// Marks the endpoint that says whether all cores turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Health;
/// Marks the endpoint of the metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Prometheus;

/// Where an endpoint is unless told otherwise.
pub trait EndpointKind {
    const HANDLER_PREFIX: &'static str;
}

impl EndpointKind for Health {
    const HANDLER_PREFIX: &'static str = "/health";
}

impl EndpointKind for Prometheus {
    const HANDLER_PREFIX: &'static str = "/metrics";
}

impl<K: EndpointKind> Default for Endpoint<K> {
    fn default() -> Self {
        Self { enabled: true, handler_prefix: K::HANDLER_PREFIX.into(), kind: PhantomData }
    }
}

impl<K> Section for Endpoint<K> {
    fn options(&self) -> Vec<&'static Opt> {
        const ENABLED: Opt = Opt { name: "enabled", kind: bool::KIND, rule: Rule::Any, text: " Serve it." };
        const PATH: Opt = Opt {
            name: "handler_prefix",
            kind: String::KIND,
            rule: Rule::Path,
            text: " Path of the endpoint.",
        };
        vec![&ENABLED, &PATH]
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), String> {
        match name {
            "enabled" => self.enabled = read(value, &Rule::Any)?,
            _ => self.handler_prefix = read(value, &Rule::Path)?,
        }
        Ok(())
    }

    fn show(&self, name: &str) -> Value {
        if name == "enabled" { self.enabled.show() } else { self.handler_prefix.show() }
    }
}
