//! Rules of the house as tests: who may import whom, where `unsafe`, clocks and the executor may appear, and
//! that files stay readable. `docs/ARCHITECTURE.md` argues them; this file is the list that counts.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Who may import whom, lowest first. Keep equal to the table in `docs/ARCHITECTURE.md`.
const LAYERS: &[(&str, &[&str])] = &[
    ("stdx", &[]),
    ("model", &["stdx"]),
    ("wire", &["stdx", "model"]),
    ("config", &["stdx", "model"]),
    ("metrics", &["stdx", "model"]),
    ("auth", &["stdx", "model", "config"]),
    ("broker", &["stdx", "model", "wire", "config", "metrics", "auth"]),
    ("api", &["stdx", "model", "wire", "config", "metrics", "broker"]),
    ("runtime", &["stdx", "metrics"]),
    ("transport", &["stdx", "model", "wire", "config", "metrics", "broker", "api", "runtime"]),
];

/// Modules that may import everything.
const TOP: &[&str] = &["server", "cli", "sim"];

/// The files with `unsafe` in them, each for a measured reason. `docs/ARCHITECTURE.md` says which.
const UNSAFE_IN: &[&str] = &[
    "src/runtime/",
    "src/cli/bench/sys.rs",
    "src/cli/bench/floor/conn.rs",
    "src/cli/bench/floor/ring.rs",
    "src/cli/bench/floor/hold.rs",
];

/// Words that must not appear outside their place, and the place.
const PLACES: &[(&str, &[&str])] = &[
    ("glommio::", &["src/runtime/"]),
    // The floor is what the runtime is measured against: it must not stand on it.
    ("io_uring::", &["src/runtime/", "src/cli/bench/floor/"]),
    ("core_affinity::", &["src/runtime/"]),
    ("Instant::now", &["src/runtime/", "src/cli/", "src/server/"]),
    ("SystemTime::now", &["src/runtime/", "src/cli/", "src/server/"]),
    ("std::env", &["src/cli/", "src/server/", "src/sim/", "src/main.rs"]),
    ("std::fs", &["src/cli/", "src/server/", "src/runtime/"]),
    ("std::thread", &["src/runtime/", "src/cli/", "src/server/", "src/sim/"]),
    ("async fn", &["src/runtime/", "src/server/"]),
];

const LINES_MAX: usize = 700;

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The lines of a file that are the program itself: no comments, and nothing from its unit tests on.
fn code(path: &Path) -> Vec<(usize, String)> {
    let is_test = path.file_stem().is_some_and(|stem| stem.to_string_lossy().contains("test"))
        || path.components().any(|part| part.as_os_str() == "tests");
    if is_test {
        return Vec::new();
    }
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]") || line.contains("loom"))
        .map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default().to_owned()))
        .collect()
}

/// `a` and `b` of `crate::a::…; crate::{b, …}`.
fn crate_paths(line: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut found = Vec::new();
    for rest in line.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => found.push(word(rest)),
            Some(list) => found.extend(list.split(',').map(word)),
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

/// Joins `use crate::{` blocks into one line, so that what stands on the following lines is seen.
fn joined(path: &Path) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut depth = 0usize;
    for (number, line) in code(path) {
        if depth > 0 {
            let inner = line.trim();
            // Only the first level names modules.
            if depth == 1
                && let Some((_, last)) = lines.last_mut()
            {
                last.push_str(inner);
                if !inner.ends_with(',') && !inner.ends_with('{') && !inner.ends_with('}') {
                    last.push(',');
                }
            }
            depth = (depth + inner.matches('{').count()).saturating_sub(inner.matches('}').count());
            continue;
        }
        if line.trim_end().ends_with("crate::{") {
            depth = 1;
        }
        lines.push((number, line));
    }
    lines
}

#[test]
fn modules_import_only_downwards() {
    let mut wrong = Vec::new();
    for (module, allowed) in LAYERS {
        for file in rust_files(&Path::new("src").join(module)) {
            for (number, line) in joined(&file) {
                for target in crate_paths(&line) {
                    let known = LAYERS.iter().any(|(name, _)| *name == target) || TOP.contains(&&*target);
                    if known && target != *module && !allowed.contains(&&*target) {
                        wrong.push(format!("{}:{number}: {module} -> {target}", file.display()));
                    }
                }
                if line.contains("super::super") {
                    wrong.push(format!("{}:{number}: super::super hides where it leads", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports against the layering:\n{}", wrong.join("\n"));
}

#[test]
fn every_folder_has_its_layer() {
    for entry in fs::read_dir("src").unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            let name = entry.file_name().into_string().unwrap();
            let known = LAYERS.iter().any(|(layer, _)| *layer == name) || TOP.contains(&&*name);
            assert!(known, "src/{name} is in no layer: add it to LAYERS and to docs/ARCHITECTURE.md");
        }
    }
}

#[test]
fn the_table_in_the_docs_is_this_one() {
    let docs = fs::read_to_string("docs/ARCHITECTURE.md").unwrap();
    for (module, allowed) in LAYERS {
        let row = docs
            .lines()
            .find(|line| line.starts_with(&format!("| `{module}` |")))
            .unwrap_or_else(|| panic!("docs/ARCHITECTURE.md has no row for `{module}`"));
        let told = row.split('|').nth(2).unwrap().trim();
        let want = if allowed.is_empty() { "–".to_owned() } else { allowed.join(", ") };
        assert_eq!(told, want, "the row of `{module}` in docs/ARCHITECTURE.md");
    }
}

#[test]
fn unsafe_stands_only_in_listed_files_and_says_why() {
    let mut wrong = Vec::new();
    for file in rust_files(Path::new("src")) {
        let name = file.display().to_string();
        let text = fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in code(&file) {
            let is_unsafe =
                line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl");
            if !is_unsafe {
                continue;
            }
            if !UNSAFE_IN.iter().any(|place| name.starts_with(place)) {
                wrong.push(format!("{name}:{number}: unsafe in a file that is not listed"));
            }
            let before = &lines[number.saturating_sub(12)..number];
            if !before.iter().any(|line| line.contains("SAFETY") || line.contains("# Safety")) {
                wrong.push(format!("{name}:{number}: unsafe without its invariant"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn things_stay_in_their_place() {
    let mut wrong = Vec::new();
    for file in rust_files(Path::new("src")) {
        let name = file.display().to_string();
        for (number, line) in code(&file) {
            for (word, places) in PLACES {
                if line.contains(word) && !places.iter().any(|place| name.starts_with(place)) {
                    wrong.push(format!("{name}:{number}: {word}"));
                }
            }
            for word in ["todo!(", "unimplemented!(", "dbg!("] {
                if line.contains(word) {
                    wrong.push(format!("{name}:{number}: {word}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "out of place:\n{}", wrong.join("\n"));
}

#[test]
fn files_stay_readable_and_tests_run() {
    let mut wrong = Vec::new();
    for folder in ["src", "tests", "examples", "benches"] {
        for file in rust_files(Path::new(folder)) {
            let text = fs::read_to_string(&file).unwrap();
            let count = text.lines().count();
            if count > LINES_MAX {
                wrong.push(format!("{}: {count} lines", file.display()));
            }
            let ignored = concat!("#[", "ignore");
            if text.contains(ignored) {
                wrong.push(format!("{}: a test that never runs", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The rules find what they look for.
#[derive(serde::Deserialize)]
struct Mutants {
    mutant: Vec<Mutant>,
}

#[derive(serde::Deserialize)]
struct Mutant {
    name: String,
    file: String,
    find: String,
}

// A bug whose text has moved is planted nowhere, and nobody would notice until the mutants are run.
#[test]
fn every_bug_can_still_be_planted() {
    let list = fs::read_to_string("tests/mutants/mutants.toml").unwrap();
    let list: Mutants = toml::from_str(&list).unwrap();
    let lost: Vec<_> = list
        .mutant
        .iter()
        .filter(|it| fs::read_to_string(&it.file).map_or(0, |text| text.matches(&it.find).count()) != 1)
        .map(|it| format!("{}: its text occurs not once in {}", it.name, it.file))
        .collect();
    assert!(lost.is_empty(), "{lost:#?}");
}

#[test]
fn the_rules_see() {
    assert_eq!(crate_paths("use crate::{model::A, broker::B};"), ["model", "broker"]);
    assert_eq!(crate_paths("x: crate::wire::client::Reply,"), ["wire"]);
}
