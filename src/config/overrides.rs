//! Single keys from flags and from the environment, laid over what the file says.
//!
//! A flag's value that parses as JSON is taken as JSON. A variable's value is read as its key's type; lists are
//! separated by spaces or commas, or JSON.

use super::{
    apply::Draft,
    centrifugo,
    error::{Place, Problem},
    keys::{self, environment_name, environment_part},
    nearest::nearest,
    node::{Entry, Value},
    read,
    settings::{ChannelOptions, Namespace},
    table::{Kind, Section},
};

impl Draft {
    /// One `key=value` of the command line; `flag` is how it was spelled, without the value.
    pub fn apply_flag(&mut self, flag: &str, key: &str, text: &str) {
        let place = Place::Flag { flag: flag.to_owned() };
        self.apply_text(key, text, &place, |kind, text| match (read::json(text), kind) {
            (Ok(node), None) => node.value,
            (Err(_), None) => Value::text(text),
            (Ok(node), Some(kind)) => match node.value {
                Value::Text(text) => typed(kind, &text),
                // A key of digits is still a key.
                Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Null if kind == Kind::Text => {
                    Value::text(text)
                }
                value => value,
            },
            (Err(_), Some(kind)) => typed(kind, text),
        });
    }

    /// All variables that begin with our prefix; others are not ours.
    pub fn apply_environment(&mut self, variables: &[(String, String)]) {
        let mut ours: Vec<_> =
            variables.iter().filter(|(name, _)| name.starts_with(keys::ENVIRONMENT_PREFIX)).collect();
        // The list of namespaces comes before what is said about each.
        let list = environment_name(keys::NAMESPACES);
        ours.sort_by_key(|(name, _)| (*name != list, name.clone()));
        for (name, value) in ours {
            self.variable(name, value);
        }
    }

    fn variable(&mut self, name: &str, value: &str) {
        let place = Place::Environment { name: name.to_owned() };
        let known = |key: &String| environment_name(key) == name;
        let key =
            keys::all().into_iter().map(|(key, _)| key).chain([keys::NAMESPACES.to_owned()]).find(known);
        let key = match key {
            // Kubernetes writes `tcp://…` where we have a port.
            _ if kubernetes(name, value) => return,
            Some(key) => Some(key),
            None => match namespace_variable(name, &self.settings.channel.namespaces) {
                Ok(key) => key,
                Err(problem) => return self.errors.push(place, problem),
            },
        };
        let Some(key) = key.or_else(|| centrifugo_key(name)) else {
            let names: Vec<_> = keys::all().iter().map(|(key, _)| environment_name(key)).collect();
            let nearest = nearest(name, names.iter().map(String::as_str));
            let nearest = nearest.map(|(nearest, close)| (nearest.to_owned(), close));
            return self.errors.push(place, Problem::UnknownVariable { nearest });
        };
        self.apply_text(&key, value, &place, |kind, text| match kind {
            Some(kind) => typed(kind, text),
            None => read::json(text).map_or_else(|_| Value::text(text), |node| node.value),
        });
    }

    fn apply_text(
        &mut self,
        key: &str,
        text: &str,
        place: &Place,
        value: impl Fn(Option<Kind>, &str) -> Value,
    ) {
        if let Some(rest) = key.strip_prefix(keys::NAMESPACES).and_then(|rest| rest.strip_prefix('.')) {
            return self.apply_namespace_text(key, rest, text, place, value);
        }
        let kind = keys::kind(key);
        let value = match value(kind, text) {
            Value::Text(names) if key == keys::NAMESPACES => named(&names),
            value => value,
        };
        let known =
            kind.is_some() || centrifugo::knows(key) || keys::all_and_sections().iter().any(|it| it == key);
        if known {
            self.apply(&nested(key, value), &|_| place.clone());
        } else {
            let candidates = keys::all_and_sections();
            let nearest = nearest(key, candidates.iter().map(String::as_str));
            let nearest = nearest.map(|(nearest, close)| (nearest.to_owned(), close));
            self.errors.push(place.clone(), Problem::UnknownKey { key: key.to_owned(), nearest });
        }
    }

    /// `rest` is `name.option`, and the name may have dots.
    fn apply_namespace_text(
        &mut self,
        key: &str,
        rest: &str,
        text: &str,
        place: &Place,
        value: impl Fn(Option<Kind>, &str) -> Value,
    ) {
        let namespaces = &self.settings.channel.namespaces;
        let found = namespaces.iter().enumerate().filter_map(|(index, namespace)| {
            Some((index, rest.strip_prefix(namespace.name.as_str())?.strip_prefix('.')?))
        });
        let Some((index, option)) = found.min_by_key(|(_, option)| option.len()) else {
            let known = namespaces.iter().map(|namespace| namespace.name.clone()).collect();
            return self.errors.push(place.clone(), Problem::NoNamespace { key: key.to_owned(), known });
        };
        let kind = keys::kind(&format!("{}.{option}", keys::WITHOUT_NAMESPACE));
        self.apply_namespace(index, &nested(option, value(kind, text)), &|_| place.clone());
    }
}

/// `a.b` = value -> {a: {b: value}}
fn nested(key: &str, value: Value) -> Vec<Entry> {
    match key.split_once('.') {
        Some((section, rest)) => vec![Entry::new(section, Value::Map(nested(rest, value)))],
        None => vec![Entry::new(key, value)],
    }
}

/// Namespaces of which only the names are said.
fn named(names: &str) -> Value {
    let namespace = |name| Value::Map(vec![Entry::new("name", Value::text(name))]).into();
    Value::List(items(names).map(namespace).collect())
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ',']).map(str::trim).filter(|item| !item.is_empty())
}

/// A text as a value of this kind; what does not fit stays text and is refused with the rest.
pub fn typed(kind: Kind, text: &str) -> Value {
    let list =
        || read::json(text).ok().map(|node| node.value).filter(|value| matches!(value, Value::List(_)));
    match kind {
        Kind::Bool => match text {
            "true" | "1" => Value::Bool(true),
            "false" | "0" => Value::Bool(false),
            _ => Value::text(text),
        },
        Kind::Integer => text.parse().map_or_else(|_| Value::text(text), Value::Int),
        Kind::Duration | Kind::Text => Value::text(text),
        Kind::List => list().unwrap_or_else(|| Value::texts(items(text))),
        Kind::Sections => list().unwrap_or_else(|| Value::text(text)),
        Kind::Headers => {
            let map = read::json(text).ok().map(|node| node.value);
            map.filter(|value| matches!(value, Value::Map(_))).unwrap_or_else(|| Value::text(text))
        }
        Kind::Cores => list().unwrap_or_else(|| Value::text(items(text).collect::<Vec<_>>().join(","))),
    }
}

/// The key a variable of one namespace stands for: the longest option name that leaves a namespace's name.
fn namespace_variable(name: &str, namespaces: &[Namespace]) -> Result<Option<String>, Problem> {
    let prefix = format!("{}_", environment_name(keys::NAMESPACES));
    let Some(rest) = name.strip_prefix(&prefix) else { return Ok(None) };
    let mut options: Vec<&str> = ChannelOptions::default().options().into_iter().map(|it| it.name).collect();
    let of_channels = |key: &'static str| key.strip_prefix(keys::WITHOUT_NAMESPACE)?.strip_prefix('.');
    options.extend(centrifugo::keys().filter_map(of_channels));
    options.sort_by_key(|option| std::cmp::Reverse(option.len()));
    for option in &options {
        let Some(name) = rest.strip_suffix(&environment_part(option)).and_then(|rest| rest.strip_suffix('_'))
        else {
            continue;
        };
        let mut same = namespaces.iter().filter(|namespace| environment_part(&namespace.name) == name);
        match (same.next(), same.next()) {
            (Some(namespace), None) => {
                return Ok(Some(format!("{}.{option}", keys::namespace(&namespace.name))));
            }
            (Some(_), Some(_)) => return Err(Problem::AmbiguousVariable),
            (None, _) => {}
        }
    }
    let known = namespaces.iter().map(|namespace| namespace.name.clone()).collect();
    let names_option = options.iter().any(|option| rest.ends_with(&format!("_{}", environment_part(option))));
    if names_option { Err(Problem::NoNamespace { key: name.to_owned(), known }) } else { Ok(None) }
}

/// The Centrifugo option a variable would stand for.
fn centrifugo_key(name: &str) -> Option<String> {
    let matching = centrifugo::keys().filter_map(|key| {
        let rest = name.strip_prefix(&environment_name(key))?;
        match rest.strip_prefix('_') {
            Some(below) => Some((key, format!("{key}.{}", below.to_ascii_lowercase()))),
            None => rest.is_empty().then(|| (key, key.to_owned())),
        }
    });
    matching.max_by_key(|(key, _)| key.len()).map(|(_, key)| key)
}

/// Variables Kubernetes sets for services whose name begins with ours, as `CORECAST_SERVICE_HOST` and
/// `CORECAST_API_PORT_80_TCP_ADDR`.
pub fn kubernetes(name: &str, value: &str) -> bool {
    let after =
        |mark: &str| name.match_indices(mark).map(|(at, mark)| &name[at + mark.len()..]).collect::<Vec<_>>();
    let service = |rest: &&str| *rest == "HOST" || *rest == "PORT" || rest.starts_with("PORT_");
    let port = |rest: &&str| match rest.strip_prefix('_') {
        Some(rest) => link(rest),
        None => rest.is_empty() && value.contains("://"),
    };
    after("_SERVICE_").iter().any(service) || after("_PORT").iter().any(port)
}

/// What follows `_PORT_`: `8000_TCP`, `8000_TCP_ADDR`.
fn link(rest: &str) -> bool {
    let mut parts = rest.split('_');
    let number = parts.next().is_some_and(|it| it.parse::<u16>().is_ok());
    let protocol = matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"));
    number
        && protocol
        && matches!(parts.next(), None | Some("ADDR" | "PORT" | "PROTO"))
        && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubernetes_shapes() {
        for (name, value, want) in [
            ("CORECAST_SERVICE_HOST", "10.0.0.1", true),
            ("CORECAST_SERVICE_PORT", "8000", true),
            ("CORECAST_SERVICE_PORT_HTTP_METRICS", "8000", true),
            ("CORECAST_PORT", "tcp://10.0.0.1:8000", true),
            ("CORECAST_HTTP_SERVER_PORT", "tcp://10.0.0.1:8000", true),
            ("CORECAST_PORT_8000_TCP", "tcp://10.0.0.1:8000", true),
            ("CORECAST_PORT_8000_TCP_ADDR", "10.0.0.1", true),
            ("CORECAST_MY_API_PORT_53_UDP_PROTO", "udp", true),
            ("CORECAST_MY_API_PORT_53_TCP_PORT", "53", true),
            ("CORECAST_HTTP_SERVER_PORT", "9000", false),
            ("CORECAST_PORT", "8000", false),
            ("CORECAST_HTTP_SERVER_ADDRESS", "10.0.0.1", false),
            ("CORECAST_PORT_X_TCP", "x", false),
            ("CORECAST_PORT_1_TCP_OTHER", "x", false),
        ] {
            assert_eq!(kubernetes(name, value), want, "{name}={value}");
        }
    }
}
