//! Text of a configuration file -> [`Node`], in JSON, TOML or YAML.

mod json;
mod toml;
mod yaml;

pub use json::json;

use super::node::{At, Node, Value};

/// Largest configuration file, in bytes.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// Deepest nesting; our own keys need five levels.
const DEPTH_MAX: usize = 32;

/// Why a text is not what it claims to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syntax {
    pub at: At,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Toml,
    Yaml,
}

impl Format {
    pub const ALL: [Self; 3] = [Self::Json, Self::Toml, Self::Yaml];

    /// By the extension of `name`; another extension: by what the text looks like.
    #[must_use]
    pub fn of(name: &str, text: &str) -> Self {
        match name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).as_deref() {
            Some("json") => Self::Json,
            Some("toml") => Self::Toml,
            Some("yaml" | "yml") => Self::Yaml,
            _ => Self::sniff(text),
        }
    }

    fn sniff(text: &str) -> Self {
        let mut lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
        match lines.find(|line| !line.is_empty() && !line.starts_with('#')) {
            Some(line) if line.starts_with('{') => Self::Json,
            Some(line) if line.starts_with('[') => Self::Toml,
            Some(line) => match (line.find('='), line.find(':')) {
                (Some(equals), colon) if colon.is_none_or(|colon| equals < colon) => Self::Toml,
                _ => Self::Yaml,
            },
            None => Self::Yaml,
        }
    }
}

/// The tree of a whole file. A file without content is an empty section.
///
/// # Errors
/// [`Syntax`] at the first place that is not the format, has a key twice, or nests too deep.
pub fn read(format: Format, text: &str) -> Result<Node, Syntax> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Syntax { at: At::default(), message: format!("larger than {TEXT_BYTES_MAX} bytes") });
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let node = match format {
        Format::Json => json(text),
        Format::Toml => toml::toml(text),
        Format::Yaml => yaml::yaml(text),
    }?;
    match node.value {
        Value::Map(_) => Ok(node),
        Value::Null => Ok(Value::Map(Vec::new()).into()),
        other => {
            let message = format!("the file must hold a section of settings, found {}", other.kind());
            Err(Syntax { at: node.at, message })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(node: &Node) -> String {
        match &node.value {
            Value::List(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(",")),
            Value::Map(entries) => {
                let mut all: Vec<_> =
                    entries.iter().map(|entry| format!("{}:{}", entry.key, plain(&entry.node))).collect();
                all.sort();
                format!("{{{}}}", all.join(","))
            }
            scalar => scalar.brief(),
        }
    }

    #[test]
    fn three_formats_one_tree() {
        let want = r#"{a:{b:-1,c:true,d:"x\"é",e:1.5,f:["1",2]},g:[{name:"n"}]}"#;
        for (format, text) in [
            (
                Format::Json,
                r#"{"a":{"b":-1,"c":true,"d":"x\"\u00e9","e":1.5,"f":["1",2]},"g":[{"name":"n"}]}"#,
            ),
            (Format::Toml, "[a]\nb=-1\nc=true\nd='x\"é'\ne=1.5\nf=['1',2]\n[[g]]\nname='n'"),
            (Format::Yaml, "a:\n  b: -1\n  c: true\n  d: x\"é\n  e: 1.5\n  f: ['1', 2]\ng:\n- name: n\n"),
        ] {
            assert_eq!(read(format, text).as_ref().map(plain).as_deref(), Ok(want), "{format:?}");
        }
    }

    #[test]
    fn places_are_named() {
        for (format, text, key, value) in [
            (Format::Json, "{\n  \"é\": {\"key\": 7}}", (2, 9), (2, 16)),
            (Format::Toml, "\n['é']\nkey = 7", (3, 1), (3, 7)),
            (Format::Toml, "'é'.key = 7", (1, 5), (1, 11)),
            (Format::Yaml, "é:\n  key: 7", (2, 3), (2, 8)),
        ] {
            let node = read(format, text).unwrap();
            let Value::Map(outer) = &node.value else { panic!("{node:?}") };
            let Value::Map(inner) = &outer[0].node.value else { panic!("{node:?}") };
            let at = |at: At| (at.line, at.column);
            assert_eq!(at(inner[0].at), key, "{format:?}");
            assert_eq!(at(inner[0].node.at), value, "{format:?}");
        }
    }

    #[test]
    fn empty_files_are_empty_sections() {
        for (format, text) in
            [(Format::Json, "{}"), (Format::Toml, ""), (Format::Yaml, ""), (Format::Yaml, "# x\n")]
        {
            assert_eq!(read(format, text).as_ref().map(plain).as_deref(), Ok("{}"), "{format:?} {text:?}");
        }
    }

    #[test]
    fn refusals() {
        #[track_caller]
        fn check(format: Format, text: &str, line: u32) {
            let error = read(format, text).expect_err(text);
            assert_eq!(error.at.line, line, "{error:?}");
        }
        check(Format::Json, "", 1);
        check(Format::Json, "[]", 1);
        check(Format::Json, "{\n\"a\":1,\n\"a\":2}", 3);
        check(Format::Toml, "a=1\na=2", 2);
        check(Format::Toml, "a=1\nb", 2);
        check(Format::Yaml, "a: 1\na: 2", 2);
        check(Format::Yaml, "- 1", 1);
        check(Format::Yaml, "a: [1", 1);
        check(Format::Yaml, "a: 1\n---\nb: 2\n", 3);
        assert!(read(Format::Yaml, &" ".repeat(TEXT_BYTES_MAX)).is_ok());
        assert!(read(Format::Yaml, &" ".repeat(TEXT_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        assert!(read(Format::Json, &nested(DEPTH_MAX)).is_ok());
        assert!(read(Format::Json, &nested(DEPTH_MAX + 1)).is_err());
        assert!(read(Format::Yaml, &nested(DEPTH_MAX)).is_ok());
        for format in Format::ALL {
            for open in ["[", "{\"a\":", "{a=", "- ", "a=["] {
                assert!(read(format, &open.repeat(100_000)).is_err(), "{format:?} {open}");
            }
        }
    }

    #[test]
    fn formats_are_told_apart() {
        for (name, text, want) in [
            ("a.json", "", Format::Json),
            ("a.TOML", "{", Format::Toml),
            ("dir.toml/a.yml", "", Format::Yaml),
            ("a", "\u{feff} {\"a\":1}", Format::Json),
            ("a.conf", "# x\n[client]\n", Format::Toml),
            ("a.conf", "a.b = 'x:y'", Format::Toml),
            ("a.conf", "client:\n  b: 'x=y'", Format::Yaml),
        ] {
            assert_eq!(Format::of(name, text), want, "{name} {text}");
        }
    }
}
