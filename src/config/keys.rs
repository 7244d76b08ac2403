//! The keys of all options, and the environment variables that stand for them.

use super::{
    settings::Settings,
    table::{Kind, Opt, Part, Section, option},
};

/// Where options of channels stand in the table.
pub const WITHOUT_NAMESPACE: &str = "channel.without_namespace";
/// The list of namespaces.
pub const NAMESPACES: &str = "channel.namespaces";

/// The prefix of the options of one namespace.
pub fn namespace(name: &str) -> String {
    format!("{NAMESPACES}.{name}")
}

/// Every option outside the list of namespaces, with its key, in the order of the table.
pub fn all() -> Vec<(String, &'static Opt)> {
    let mut all = Vec::new();
    visit(&mut Settings::default(), "", &mut |prefix, section| {
        for option in section.options() {
            all.push((format!("{prefix}{}", option.name), option));
        }
    });
    all
}

/// What a mistyped key may have meant.
pub fn all_and_sections() -> Vec<String> {
    let mut all: Vec<_> = all().into_iter().map(|(key, _)| key).collect();
    visit(&mut Settings::default(), "", &mut |prefix, _| all.push(prefix.trim_end_matches('.').to_owned()));
    all.retain(|key| !key.is_empty());
    all.push(NAMESPACES.to_owned());
    all
}

/// Calls `each` for every section with the prefix of its keys, outer ones first.
pub fn visit(section: &mut dyn Section, prefix: &str, each: &mut dyn FnMut(&str, &mut dyn Section)) {
    each(prefix, section);
    for (name, _) in section.part_names() {
        if let Some(Part::Section(part)) = section.part(name) {
            visit(part, &format!("{prefix}{name}."), each);
        }
    }
}

/// The kind of the option `key`.
pub fn kind(key: &str) -> Option<Kind> {
    let mut settings = Settings::default();
    let mut section: &mut dyn Section = &mut settings;
    let mut parts: Vec<&str> = key.split('.').collect();
    let name = parts.pop()?;
    for part in parts {
        section = match section.part(part)? {
            Part::Section(section) => section,
            Part::Namespaces(_) => return None,
        };
    }
    option(section, name).map(|option| option.kind)
}

/// What every environment variable of ours begins with.
pub const ENVIRONMENT_PREFIX: &str = "CORECAST_";

/// The environment variable of `key`.
pub fn environment_name(key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", environment_part(key))
}

/// A key or a namespace's name as it stands in an environment variable.
pub fn environment_part(key: &str) -> String {
    key.to_ascii_uppercase().replace(['.', '-'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_unique_in_every_spelling() {
        let all = all();
        let mut names: Vec<_> = all.iter().map(|(key, _)| environment_name(key)).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all.len());
        assert!(names.len() > 80, "{}", names.len());
        assert!(all.iter().all(|(key, option)| kind(key) == Some(option.kind)));
        assert_eq!(kind("client"), None);
        assert_eq!(kind("client.nothing"), None);
        assert_eq!(kind("channel.namespaces.a.presence"), None);
    }

    #[test]
    fn every_option_is_documented() {
        for (key, option) in all() {
            assert!(option.text.trim().ends_with('.'), "{key}: {:?}", option.text);
        }
    }
}
