//! A configuration of Centrifugo v6 -> one of Corecast that does the same, and what of it cannot.

use super::{
    apply::Draft,
    error::{ConfigErrors, Place, Problem},
    keys,
    load::SourceFile,
    node::{At, Entry, Value},
    overrides::{kubernetes, typed},
    read::{self, Format},
    settings::Settings,
    show::show_some,
    table::Kind,
};

/// What variables of Centrifugo begin with.
const THEIR_PREFIX: &str = "CENTRIFUGO_";

/// Switches that are on here and off there where nothing is said.
const OFF_THERE: &[&str] = &["health.enabled", "prometheus.enabled"];

/// A configuration brought along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The file to write: only keys that were said, in the order of our table, without comments.
    pub text: String,
    /// Keys that mean the same as before.
    pub kept: usize,
    /// What looks different and does the same, one line each.
    pub notes: Vec<String>,
    /// What Corecast does not do, one line each. Empty: nothing is lost.
    pub lost: Vec<String>,
}

/// Turns `file` into a configuration in `format` (`None`: that of the file).
///
/// `environment` is that of Centrifugo: its variables stay variables and are judged by the same rules.
///
/// # Errors
/// The file is not JSON, TOML or YAML.
pub fn migrate(
    file: &SourceFile,
    format: Option<Format>,
    environment: &[(String, String)],
) -> Result<Migrated, ConfigErrors> {
    let place = |at: At| Place::File { name: file.name.clone(), at };
    let read_as = Format::of(&file.name, &file.text);
    let mut draft = Draft::new(Settings::default());
    let mut entries = match read::read(read_as, &file.text) {
        Ok(node) => match node.value {
            Value::Map(entries) => entries,
            _ => Vec::new(),
        },
        Err(syntax) => {
            draft.errors.push(place(syntax.at), Problem::Syntax(syntax.message));
            return Err(draft.errors);
        }
    };
    let mut notes = Vec::new();
    loosen(&mut entries, "", "", &mut |at, key, value| {
        notes.push(format!("{}: {key} is written as {value}", place(at)));
    });
    draft.apply(&entries, &place);
    let kept = draft.places.len();
    switch_off(&mut draft, &mut notes);
    draft.check(false);
    draft.errors.sort();
    let mut lost: Vec<_> = draft.errors.to_string().lines().map(str::to_owned).collect();
    if !draft.passed_over.is_empty() {
        notes.push(format!("left out, as they ask for nothing: {}", draft.passed_over.join(" ")));
    }
    if !draft.no_effect.is_empty() {
        notes.push(format!("left out, as nothing needs it here: {}", draft.no_effect.join(" ")));
    }
    for (name, value) in environment.iter().filter(|(name, _)| name.starts_with(THEIR_PREFIX)) {
        variable(&draft.settings, name, value, &mut notes, &mut lost);
    }
    let text = show_some(&draft.settings, format.unwrap_or(read_as), &|key| draft.places.contains_key(key));
    Ok(Migrated { text, kept, notes, lost })
}

/// Gives values the type their key has: Centrifugo takes `"8000"` for a number and `"a b"` for a list.
fn loosen(entries: &mut [Entry], shown: &str, table: &str, changed: &mut dyn FnMut(At, &str, String)) {
    for entry in entries {
        let (shown, table) = (format!("{shown}{}", entry.key), format!("{table}{}", entry.key));
        let at = entry.node.at;
        match &mut entry.node.value {
            Value::Map(entries) => loosen(entries, &format!("{shown}."), &format!("{table}."), changed),
            Value::List(items) if table == keys::NAMESPACES => {
                for (index, item) in items.iter_mut().enumerate() {
                    let Value::Map(entries) = &mut item.value else { continue };
                    let shown = format!("{shown}[{index}].");
                    loosen(entries, &shown, &format!("{}.", keys::WITHOUT_NAMESPACE), changed);
                }
            }
            value => {
                if let Some(ours) = keys::kind(&table).and_then(|kind| fitting(kind, value)) {
                    changed(at, &shown, ours.brief());
                    *value = ours;
                }
            }
        }
    }
}

/// The value with the type of its key, where it has another one that can be meant so.
fn fitting(kind: Kind, value: &Value) -> Option<Value> {
    let ours = match (kind, value) {
        (Kind::Bool | Kind::Integer | Kind::List | Kind::Sections, Value::Text(text)) => typed(kind, text),
        (Kind::Bool, Value::Int(it @ (0 | 1))) => Value::Bool(*it == 1),
        (Kind::Text, Value::Int(it)) => Value::text(it.to_string()),
        _ => return None,
    };
    (ours != *value).then_some(ours)
}

fn switch_off(draft: &mut Draft, notes: &mut Vec<String>) {
    for key in OFF_THERE {
        if !draft.places.contains_key(*key) {
            draft.apply_flag("migrate", key, "false");
            notes.push(format!("{key} = false is added: without it the endpoint is off there and on here"));
        }
    }
}

fn variable(settings: &Settings, name: &str, value: &str, notes: &mut Vec<String>, lost: &mut Vec<String>) {
    if kubernetes(name, value) {
        return;
    }
    let ours = name.replacen(THEIR_PREFIX, keys::ENVIRONMENT_PREFIX, 1);
    let mut draft = Draft::new(settings.clone());
    draft.apply_environment(&[(ours.clone(), value.to_owned())]);
    if draft.errors.is_empty() {
        notes.push(format!("environment {name}: rename it to {ours}"));
    } else {
        lost.push(format!(
            "environment {name}, as {}",
            draft.errors.to_string().trim_start_matches("environment ")
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{OrOff, Sources, load};

    fn file(name: &str, text: &str) -> SourceFile {
        SourceFile { name: name.into(), text: text.into() }
    }

    fn migrated(text: &str) -> Migrated {
        migrate(&file("c.json", text), None, &[]).expect("a configuration")
    }

    #[track_caller]
    fn settings(name: &str, text: &str) -> Settings {
        load(Sources { file: Some(file(name, text)), ..Sources::default() }).expect(text).settings
    }

    const ENDPOINTS: &str = r#""health":{"enabled":true},"prometheus":{"enabled":true}"#;

    #[test]
    fn what_is_shared_stays_word_for_word() {
        let text = format!(
            r#"{{"client":{{"allowed_origins":["https://a.b"],"token":{{"hmac_secret_key":"s"}}}},
            "channel":{{"namespaces":[{{"name":"chat","history_size":10,"history_ttl":"5m","presence":true}}]}},
            "admin":{{"enabled":false,"password":"x"}},"engine":{{"type":"memory"}},{ENDPOINTS}}}"#
        );
        for (format, name) in [(Format::Json, "c.json"), (Format::Toml, "c.toml"), (Format::Yaml, "c.yaml")] {
            let got = migrate(&file("c.json", &text), Some(format), &[]).expect("a configuration");
            assert_eq!(got.lost, [""; 0]);
            assert_eq!(got.notes, ["left out, as they ask for nothing: admin engine"]);
            assert_eq!(got.kept, 8);
            assert_eq!(settings(name, &got.text), settings("c.json", &text), "{}", got.text);
            assert!(!got.text.contains("admin") && !got.text.contains("port"), "{}", got.text);
        }
    }

    #[test]
    fn defaults_that_differ_are_written_out() {
        let got = migrated("{}");
        let ours = settings("c.json", &got.text);
        assert!(!ours.health.enabled && !ours.prometheus.enabled);
        assert_eq!((got.kept, got.notes.len(), got.lost.len()), (0, 2, 0), "{got:?}");
        assert!(settings("c.json", &migrated(&format!("{{{ENDPOINTS}}}")).text).health.enabled);
    }

    #[test]
    fn other_spellings_become_ours() {
        let got = migrated(&format!(
            r#"{{"http_server":{{"port":"9000"}},"client":{{"insecure":"true","allowed_origins":"a b"}},
            "node":{{"name":7}},"channel":{{"namespaces":[{{"name":"ab","presence":1}}]}},{ENDPOINTS}}}"#
        ));
        assert_eq!(got.lost, [""; 0]);
        assert_eq!(got.notes.len(), 5, "{:?}", got.notes);
        let ours = settings("c.json", &got.text);
        assert_eq!((ours.http_server.port, ours.client.insecure, ours.node.name.as_str()), (9000, true, "7"));
        assert_eq!(ours.client.allowed_origins, ["a", "b"]);
        assert!(ours.channel.namespaces[0].options.presence);
    }

    #[test]
    fn what_is_lost_is_said_with_its_place() {
        let got = migrated(
            "{\"admin\":{\"enabled\":true},\n\"log\":{\"level\":\"loud\"},\n\"client\":{\"ping_interval\":\"25\",\n\
             \"conection_limit\":5,\"channel_limit\":7},\n\"channel\":{\"namespaces\":[{\"name\":\"ab\",\n\
             \"subscribe_proxy_enabled\":true}]}}",
        );
        let places = ["c.json:1:", "c.json:2:", "c.json:3:", "c.json:4:", "c.json:6:"];
        assert_eq!(got.lost.len(), places.len(), "{:?}", got.lost);
        for (line, place) in got.lost.iter().zip(places) {
            assert!(line.starts_with(place), "{line}");
        }
        let ours = settings("c.json", &got.text);
        assert_eq!((ours.client.channel_limit, ours.log.level.as_str()), (7, "info"));
    }

    #[test]
    fn what_is_off_stays_off_and_what_only_tunes_is_left_out() {
        let got = migrated(&format!(
            r#"{{"client":{{"ping_interval":-1,"pong_timeout":"-1s","concurrency":8}},
            "log":{{"level":"trace"}},{ENDPOINTS}}}"#
        ));
        assert_eq!(got.lost, [""; 0]);
        assert_eq!(got.notes, ["left out, as nothing needs it here: client.concurrency"]);
        let ours = settings("c.json", &got.text);
        assert_eq!((ours.client.ping_interval, ours.client.pong_timeout), (OrOff(None), OrOff(None)));
        assert_eq!(ours.log.level, "trace");
    }

    #[test]
    fn variables_are_renamed_or_lost() {
        let environment = [
            ("CENTRIFUGO_HTTP_API_KEY", "k"),
            ("CENTRIFUGO_CHANNEL_NAMESPACES_AB_PRESENCE", "true"),
            ("CENTRIFUGO_ADMIN_ENABLED", "true"),
            ("CENTRIFUGO_CLIENT_NOTHING", "1"),
            ("CENTRIFUGO_SERVICE_HOST", "10.0.0.1"),
            ("HOME", "/"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let text = format!(r#"{{"channel":{{"namespaces":[{{"name":"ab"}}]}},{ENDPOINTS}}}"#);
        let got = migrate(&file("c", &text), None, &environment).expect("a configuration");
        assert_eq!(got.notes.len(), 2, "{:?}", got.notes);
        assert!(got.notes[0].ends_with("CENTRIFUGO_HTTP_API_KEY: rename it to CORECAST_HTTP_API_KEY"));
        assert_eq!(got.lost.len(), 2, "{:?}", got.lost);
        assert!(got.lost[0].starts_with("environment CENTRIFUGO_ADMIN_ENABLED"), "{:?}", got.lost);
        assert!(!got.text.contains("admin") && !got.text.contains("key"));
    }

    #[test]
    fn not_a_configuration() {
        let error = migrate(&file("c.json", "{\n"), None, &[]).expect_err("no JSON").to_string();
        assert!(error.starts_with("c.json:2:"), "{error}");
    }
}
