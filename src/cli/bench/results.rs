//! Where a run leaves its figures: `bench-results/<date>-<machine>-<scenario>/` with the setup, every run as one
//! line of JSON, a summary and a plot.
//!
//! Nothing in it names the machine or its folders: the machine is its number of CPUs and their model.

use super::{BenchError, Common};
use serde_json::Value;
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

pub struct Results {
    folder: PathBuf,
    raw: File,
}

impl Results {
    /// The folder `--out` names, or a new one under `bench-results`.
    ///
    /// # Errors
    /// [`BenchError::Output`] when it cannot be made.
    pub fn open(scenario: &str, out: Option<&Path>) -> Result<Self, BenchError> {
        let folder = out.map_or_else(|| default_folder(scenario), Path::to_path_buf);
        let failed = |source| BenchError::Output { path: folder.clone(), source };
        fs::create_dir_all(&folder).map_err(failed)?;
        let raw = File::create(folder.join("raw.jsonl")).map_err(failed)?;
        Ok(Self { folder, raw })
    }

    /// One run, with what it was part of.
    ///
    /// # Errors
    /// [`BenchError::Output`].
    pub fn run(&mut self, run: &Value) -> Result<(), BenchError> {
        let path = self.folder.join("raw.jsonl");
        writeln!(self.raw, "{run}").map_err(|source| BenchError::Output { path, source })
    }

    /// # Errors
    /// [`BenchError::Output`].
    pub fn write(&self, name: &str, text: &str) -> Result<(), BenchError> {
        let path = self.folder.join(name);
        fs::write(&path, text).map_err(|source| BenchError::Output { path, source })
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// A second run of a day has its own number: results are never written over.
fn default_folder(scenario: &str) -> PathBuf {
    let name = format!("{}-{}-{scenario}", today(), machine());
    let base = Path::new("bench-results").join(&name);
    let numbered = (2..1000).map(|number| Path::new("bench-results").join(format!("{name}-{number}")));
    std::iter::once(base.clone()).chain(numbered).find(|it| !it.exists()).unwrap_or(base)
}

/// The folder of all scenarios of a day: the same for every attempt, so that one goes on where another ended.
pub fn folder_of_all(quick: bool) -> PathBuf {
    let quick = if quick { "-quick" } else { "" };
    Path::new("bench-results").join(format!("{}-{}-all{quick}", today(), machine()))
}

/// `2cpu-amd-epyc`.
fn machine() -> String {
    let (cpus, model) = (cpu_count(), cpu_model());
    let mut slug = String::new();
    for letter in model.to_lowercase().chars() {
        match letter {
            'a'..='z' | '0'..='9' => slug.push(letter),
            _ if !slug.ends_with('-') => slug.push('-'),
            _ => {}
        }
    }
    slug.truncate(40);
    format!("{cpus}cpu-{}", slug.trim_matches('-'))
}

/// CPUs this process was given. Taken once: the client counts none less for staying on one.
pub fn cpu_count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}

pub fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.and_then(|it| it.split_once(':')).map(|it| it.1.trim());
    model.filter(|it| !it.is_empty()).unwrap_or(std::env::consts::ARCH).to_owned()
}

fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
    date(seconds / 86_400)
}

/// The Gregorian date of a day since 1970: years are counted from March, so that leap days come last.
fn date(days: u64) -> String {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", year + era * 400 + next)
}

/// What a reader needs to do the same again.
#[must_use]
pub fn setup(common: &Common, commands: &[(String, String)]) -> String {
    let read = |path: &str| fs::read_to_string(path).map_or("unknown".to_owned(), |it| it.trim().to_owned());
    let core = |core: Option<usize>| core.map_or("any CPU".to_owned(), |it| format!("CPU {it}"));
    let spin = if common.spin { ", never asleep" } else { "" };
    let mut lines = vec![
        format!("- version: {}, commit of the working directory: {}", env!("CARGO_PKG_VERSION"), commit()),
        format!("- kernel: {}", read("/proc/sys/kernel/osrelease")),
        format!("- CPU: {}, {} CPUs", cpu_model(), cpu_count()),
        format!("- congestion control: {}", read("/proc/sys/net/ipv4/tcp_congestion_control")),
        format!("- load before: {}", read("/proc/loadavg")),
        format!("- client: on {}{spin}", core(common.client_core)),
    ];
    lines.extend(commands.iter().map(|(name, command)| format!("- {name}: `{command}`")));
    lines.push(format!("- command: `{}`", command_line(std::env::args())));
    format!("# Setup\n\n{}\n", lines.join("\n"))
}

/// The command as it was given; the program and files by their names only.
fn command_line(arguments: impl Iterator<Item = String>) -> String {
    let name = |it: &str| it.rsplit('/').next().unwrap_or_default().to_owned();
    let tidy = |it: String| match it.split_once('=') {
        Some((flag, value)) if value.starts_with('/') => format!("{flag}={}", name(value)),
        _ if it.starts_with('/') => name(&it),
        _ => it,
    };
    let mut words = arguments.map(tidy);
    let program = name(&words.next().unwrap_or_default());
    std::iter::once(program).chain(words).collect::<Vec<_>>().join(" ")
}

/// Only a checkout of this very program has a commit worth naming.
fn commit() -> String {
    let ours = fs::read_to_string("Cargo.toml").is_ok_and(|it| it.contains("name = \"corecast\""));
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let known = ours.then(|| git(&["rev-parse", "HEAD"])).flatten();
    let changed = || git(&["status", "--porcelain", "-uno"]).is_some_and(|it| !it.is_empty());
    match known {
        Some(commit) if changed() => commit + " with changes",
        Some(commit) => commit,
        None => "unknown".to_owned(),
    }
}

/// A table in Markdown.
#[must_use]
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = head.iter().map(|it| (*it).to_owned()).collect();
    let rule = format!("|{}\n", "---|".repeat(head.len()));
    line(&head) + &rule + &rows.iter().map(|it| line(it)).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (days, want) in [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_779, "2026-11-22"),
        ] {
            assert_eq!(date(days), want);
        }
    }

    #[test]
    fn no_folder_of_the_machine_is_named() {
        let words = ["/x/y/corecast", "bench", "seed", "--out", "/x/y/z", "--json=/x/j", "--url", "ws://h/p"];
        let got = command_line(words.iter().map(|it| (*it).to_owned()));
        assert_eq!(got, "corecast bench seed --out z --json=j --url ws://h/p");
        assert!(!machine().contains('/') && machine().contains("cpu-"));
    }

    #[test]
    fn tables() {
        let rows = [vec!["1".to_owned(), "2".to_owned()]];
        assert_eq!(table(&["a", "b"], &rows), "| a | b |\n|---|---|\n| 1 | 2 |\n");
    }
}
