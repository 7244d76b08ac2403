//! A tree of values -> [`Settings`], collecting everything that is wrong on the way.

use super::{
    centrifugo::{self, Found},
    error::{ConfigErrors, Place, Problem},
    keys,
    nearest::nearest,
    node::{At, Entry, Node, Value},
    rules::Rule,
    settings::{ChannelOptions, Namespace, Settings},
    table::{Opt, Part, Section, entry, option},
};
use std::collections::BTreeMap;

/// Settings under construction.
pub struct Draft {
    pub settings: Settings,
    /// Where each key was last set.
    pub places: BTreeMap<String, Place>,
    pub errors: ConfigErrors,
    /// Options of Centrifugo that were there, that nothing here reads, and that ask for nothing.
    pub passed_over: Vec<String>,
    /// Those that are there and change nothing.
    pub no_effect: Vec<String>,
    /// What a namespace's options are before anything is said about them.
    namespace_base: ChannelOptions,
}

/// Under which prefix a section stands: as written, and as the table has it.
#[derive(Clone, Copy)]
struct Prefix<'a> {
    shown: &'a str,
    table: &'a str,
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

impl Draft {
    pub fn new(settings: Settings) -> Self {
        let namespace_base = settings.channel.without_namespace.clone();
        let (places, errors) = (BTreeMap::new(), ConfigErrors::default());
        let (passed_over, no_effect) = (Vec::new(), Vec::new());
        Self { settings, places, errors, passed_over, no_effect, namespace_base }
    }

    /// Lays the tree of one source over what is there.
    pub fn apply(&mut self, entries: &[Entry], place: &dyn Fn(At) -> Place) {
        let mut settings = std::mem::take(&mut self.settings);
        self.section(&mut settings, Prefix { shown: "", table: "" }, entries, place);
        self.settings = settings;
    }

    /// Sets options of a namespace that exists already.
    pub fn apply_namespace(&mut self, index: usize, entries: &[Entry], place: &dyn Fn(At) -> Place) {
        let mut settings = std::mem::take(&mut self.settings);
        if let Some(namespace) = settings.channel.namespaces.get_mut(index) {
            let shown = keys::namespace(&namespace.name);
            let prefix = Prefix { shown: &shown, table: keys::WITHOUT_NAMESPACE };
            self.section(&mut namespace.options, prefix, entries, place);
        }
        self.settings = settings;
    }

    fn section(
        &mut self,
        into: &mut dyn Section,
        prefix: Prefix<'_>,
        entries: &[Entry],
        place: &dyn Fn(At) -> Place,
    ) {
        for entry in entries {
            let shown = join(prefix.shown, &entry.key);
            if let Some(option) = option(into, &entry.key) {
                self.option(into, option, &shown, &entry.node, place(entry.node.at));
                continue;
            }
            let table = join(prefix.table, &entry.key);
            match (into.part(&entry.key), &entry.node.value) {
                (Some(Part::Section(part)), Value::Map(entries)) => {
                    self.section(part, Prefix { shown: &shown, table: &table }, entries, place);
                }
                (Some(Part::Section(_)), Value::Null) => {}
                (Some(Part::Section(_)), other) => {
                    self.refuse(&shown, other, "a section", place(entry.node.at))
                }
                (Some(Part::Namespaces(list)), value) => {
                    self.namespaces(list, &shown, value, place, entry.node.at);
                }
                (None, _) if centrifugo::knows(&table) => self.centrifugo(&table, &shown, entry, place),
                (None, _) => self.unknown(into, prefix, &shown, entry, place(entry.at)),
            }
        }
    }

    fn option(&mut self, into: &mut dyn Section, option: &Opt, key: &str, node: &Node, place: Place) {
        match into.set(option.name, &node.value) {
            Ok(()) => {
                self.places.insert(key.to_owned(), place);
            }
            Err(allowed) => {
                let secret = matches!(option.rule, Rule::Secret);
                let found = if secret { node.value.kind().to_owned() } else { node.value.brief() };
                self.errors.push(place, Problem::NotAllowed { key: key.to_owned(), found, allowed });
            }
        }
    }

    fn refuse(&mut self, key: &str, found: &Value, allowed: &str, place: Place) {
        let (key, allowed) = (key.to_owned(), allowed.to_owned());
        self.errors.push(place, Problem::NotAllowed { key, found: found.brief(), allowed });
    }

    fn centrifugo(&mut self, table: &str, shown: &str, entry: &Entry, place: &dyn Fn(At) -> Place) {
        let mut fine = true;
        centrifugo::check(table, entry, &mut |found, key, entry| {
            fine = false;
            let key = format!("{shown}{}", key.strip_prefix(table).unwrap_or_default());
            if found == Found::NoEffect {
                return self.no_effect.push(key);
            }
            // Many of these are secrets: switches are shown, texts are not.
            let found = match &entry.node.value {
                it @ (Value::Bool(_) | Value::Int(_)) => it.brief(),
                it => it.kind().to_owned(),
            };
            self.errors.push(place(entry.node.at), Problem::NotSupported { key, found });
        });
        if fine {
            self.passed_over.push(shown.to_owned());
        }
    }

    fn unknown(&mut self, into: &dyn Section, prefix: Prefix<'_>, shown: &str, entry: &Entry, place: Place) {
        if let Some((section, name)) = shown.rsplit_once('.')
            && entry.key.contains('.')
            && keys::kind(shown).is_some()
        {
            let (key, section, name) = (shown.to_owned(), section.to_owned(), name.to_owned());
            self.errors.push(place, Problem::Dotted { key, section, name });
            return;
        }
        let own = into.options().into_iter().map(|option| join(prefix.shown, option.name));
        let candidates: Vec<String> = own.chain(keys::all_and_sections()).collect();
        let nearest = nearest(shown, candidates.iter().map(String::as_str));
        let nearest = nearest.map(|(nearest, close)| (nearest.to_owned(), close));
        self.errors.push(place, Problem::UnknownKey { key: shown.to_owned(), nearest });
    }

    fn namespaces(
        &mut self,
        list: &mut Vec<Namespace>,
        key: &str,
        value: &Value,
        place: &dyn Fn(At) -> Place,
        at: At,
    ) {
        const ALLOWED: &str = "a list of sections, each with a name";
        let items = match value {
            Value::List(items) => items.as_slice(),
            Value::Null => &[],
            _ => return self.refuse(key, value, ALLOWED, place(at)),
        };
        list.clear();
        for (index, item) in items.iter().enumerate() {
            let shown = format!("{key}[{index}]");
            let Value::Map(entries) = &item.value else {
                self.refuse(&shown, &item.value, ALLOWED, place(item.at));
                continue;
            };
            let named = entry(entries, "name");
            if named.is_none() {
                let (key, allowed) = (format!("{shown}.name"), Rule::Name.allowed(super::table::Kind::Text));
                self.errors
                    .push(place(item.at), Problem::NotAllowed { key, found: "nothing".into(), allowed });
            }
            let shown = match named.map(|node| &node.value) {
                Some(Value::Text(name)) if Rule::Name.allows_text(name) => keys::namespace(name),
                _ => shown,
            };
            let at = named.map_or(item.at, |node| node.at);
            let mut namespace = Namespace { options: self.namespace_base.clone(), ..Namespace::default() };
            self.section(
                &mut namespace,
                Prefix { shown: &shown, table: keys::WITHOUT_NAMESPACE },
                entries,
                place,
            );
            self.add_namespace(list, namespace, &shown, place(at));
        }
    }

    fn add_namespace(&mut self, list: &mut Vec<Namespace>, namespace: Namespace, key: &str, place: Place) {
        if list.iter().any(|other| other.name == namespace.name) {
            let (key, found) = (format!("{key}.name"), format!("{:?}", namespace.name));
            let reason = "another namespace has this name".to_owned();
            self.errors.push(place, Problem::Conflict { key, found, reason });
        } else if !namespace.name.is_empty() {
            list.push(namespace);
        }
    }
}
