//! All sources -> settings, or everything that is wrong with them.
//!
//! Later sources win: defaults (or those of `--dev`), file, environment, flags. Nothing here reads a file or
//! the environment: who calls has done that.

use super::{
    apply::Draft,
    error::{ConfigErrors, Place, Problem},
    keys,
    node::{At, Value},
    read::{self, Format},
    settings::Settings,
};
use std::collections::BTreeMap;

/// Everything that can say something about settings.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub file: Option<SourceFile>,
    /// All variables of the process; those without our prefix are passed over.
    pub environment: Vec<(String, String)>,
    pub flags: Vec<Flag>,
    /// Start from [`Settings::dev`], and listen on a loopback address only.
    pub dev: bool,
}

#[derive(Clone, Debug)]
pub struct SourceFile {
    /// As in messages; its extension tells the format.
    pub name: String,
    pub text: String,
}

/// One key set on the command line.
#[derive(Clone, Debug)]
pub struct Flag {
    /// How it was spelled, for messages: `--set client.insecure`, `--port`.
    pub flag: String,
    pub key: String,
    pub value: String,
}

impl Flag {
    /// `key=value` of `--set`. `None`: there is no `=`.
    #[must_use]
    pub fn set(text: &str) -> Option<Self> {
        let (key, value) = text.split_once('=')?;
        let key = key.trim();
        Some(Self { flag: format!("--set {key}"), key: key.to_owned(), value: value.to_owned() })
    }
}

/// What the sources say.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    pub settings: Settings,
    /// What works but was hardly meant; one line each, for the log.
    pub warnings: Vec<String>,
    /// Options of Centrifugo that nothing here reads and that ask for nothing.
    pub passed_over: Vec<String>,
    /// Where each key was last set.
    places: BTreeMap<String, Place>,
}

impl Loaded {
    /// The errors of values only their user can judge, each a key and why: with their places.
    #[must_use]
    pub fn complain(&self, problems: Vec<(String, String)>) -> ConfigErrors {
        let mut errors = ConfigErrors::default();
        for (key, reason) in problems {
            let place = self.places.get(&key).cloned().unwrap_or(Place::Default);
            errors.push(place, Problem::Unusable { key, reason });
        }
        errors
    }
}

/// Settings from all sources, checked.
///
/// # Errors
/// All that is wrong in all sources at once, unless the file is not even JSON, TOML or YAML: then its
/// syntax error comes with the errors of the other sources.
pub fn load(sources: Sources) -> Result<Loaded, ConfigErrors> {
    let Sources { file, environment, flags, dev } = sources;
    let mut draft = Draft::new(if dev { Settings::dev() } else { Settings::default() });
    if let Some(file) = file {
        apply_file(&mut draft, &file);
    }
    draft.apply_environment(&environment);
    for flag in flags {
        draft.apply_flag(&flag.flag, &flag.key, &flag.value);
    }
    draft.check(dev);
    if !draft.errors.is_empty() {
        return Err(draft.errors);
    }
    let Draft { mut settings, places, passed_over, no_effect, .. } = draft;
    if settings.http_server.address == "localhost" {
        settings.http_server.address = "127.0.0.1".into();
    }
    let mut warnings = warnings(&settings, &environment, dev);
    if !no_effect.is_empty() {
        warnings.push(format!("without effect here, as nothing needs it: {}", no_effect.join(" ")));
    }
    Ok(Loaded { settings, warnings, passed_over, places })
}

fn apply_file(draft: &mut Draft, file: &SourceFile) {
    let place = |at: At| Place::File { name: file.name.clone(), at };
    match read::read(Format::of(&file.name, &file.text), &file.text) {
        Ok(node) => {
            if let Value::Map(entries) = &node.value {
                draft.apply(entries, &place);
                draft.errors.sort();
            }
        }
        Err(syntax) => draft.errors.push(place(syntax.at), Problem::Syntax(syntax.message)),
    }
}

fn warnings(settings: &Settings, environment: &[(String, String)], dev: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if !dev && settings.client.insecure {
        warnings.push("client.insecure is on: every client may do everything".to_owned());
    }
    if settings.client.insecure_skip_token_signature_verify {
        warnings
            .push("client.insecure_skip_token_signature_verify is on: anybody can make tokens".to_owned());
    }
    for (section, token) in settings.client.tokens() {
        if token.insecure_skip_jwks_endpoint_safety_check {
            warnings.push(format!(
                "{section}.insecure_skip_jwks_endpoint_safety_check is on: a token may choose where its key is from"
            ));
        }
    }
    if !dev && settings.http_api.insecure && !settings.http_api.disabled {
        warnings.push(
            "http_api.insecure is on: everybody who reaches the port may call the server API".to_owned(),
        );
    }
    if settings.http_api.key.is_empty() && !settings.http_api.insecure && !settings.http_api.disabled {
        warnings.push("http_api.key is empty: every call of the server API is answered 401".to_owned());
    }
    let theirs = environment.iter().filter(|(name, _)| name.starts_with("CENTRIFUGO_")).count();
    if theirs > 0 {
        let prefix = keys::ENVIRONMENT_PREFIX;
        warnings.push(format!("{theirs} variables CENTRIFUGO_… are not read: the prefix is {prefix}"));
    }
    warnings
}
