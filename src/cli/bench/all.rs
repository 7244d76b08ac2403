//! Every scenario that has a bar, in order, each as a program of its own with a folder of its own, and one table.
//!
//! A scenario that has finished is not run again: the same command goes on where it was interrupted. One that
//! fails is told, and the others still run.

mod steps;

use super::{
    BenchError, bars, published,
    results::{self, table},
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};
use steps::{STEPS, Step};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Folder of the results; what has finished in it is kept [default: bench-results/<date>-<machine>-all]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Only these scenarios
    #[arg(long, value_name = "SCENARIO", value_delimiter = ',')]
    only: Vec<String>,
    /// Tiny loads, one round: whether everything works, no figures to believe. In a folder of its own, whose table says so
    #[arg(long)]
    quick: bool,
    /// Let the client sleep
    #[arg(long)]
    no_spin: bool,
    /// Run nothing, only make the table of what there is
    #[arg(long)]
    table_only: bool,
}

/// # Errors
/// [`BenchError::Output`] when the results cannot be written, [`BenchError::Usage`] for scenarios that do not exist.
pub fn run(args: &Args) -> Result<ExitCode, BenchError> {
    if args.only.iter().any(|it| STEPS.iter().all(|step| step.name != it)) {
        return Err(BenchError::Usage(steps::NAMES));
    }
    let folder = args.out.clone().unwrap_or_else(|| results::folder_of_all(args.quick));
    fs::create_dir_all(&folder).map_err(|source| BenchError::Output { path: folder.clone(), source })?;
    mark(args, &folder)?;
    let mut failed = Vec::new();
    for step in &STEPS {
        let wanted = args.only.is_empty() || args.only.iter().any(|it| it == step.name);
        if wanted && !args.table_only && finished(&folder, step.name).is_none() && !step.run(args, &folder)? {
            failed.push(step.name);
        }
    }
    let summary = summary(&folder, &failed);
    let path = folder.join("SUMMARY.md");
    fs::write(&path, &summary).map_err(|source| BenchError::Output { path, source })?;
    print!("{summary}");
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A file that says that what is in the folder was quick.
const QUICK: &str = "quick";

/// Figures of quick runs and others never share a table.
fn mark(args: &Args, folder: &Path) -> Result<(), BenchError> {
    let (path, empty) = (folder.join(QUICK), STEPS.iter().all(|step| finished(folder, step.name).is_none()));
    match (args.quick, path.exists()) {
        (true, false) if empty => fs::write(&path, "").map_err(|source| BenchError::Output { path, source }),
        (true, false) => {
            Err(BenchError::Usage("the folder has figures that were not quick: name another with --out"))
        }
        (false, true) if !args.table_only => {
            Err(BenchError::Usage("the folder has figures of --quick: name another with --out"))
        }
        _ => Ok(()),
    }
}

impl Step {
    /// Whether it succeeded.
    fn run(&self, args: &Args, folder: &Path) -> Result<bool, BenchError> {
        eprintln!("== {}", self.name);
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", self.scenario]).args(self.arguments);
        if args.quick {
            command.args(self.quick);
        }
        if args.no_spin {
            command.arg("--no-spin");
        }
        command.arg("--out").arg(folder.join(self.name));
        // What it would show is in its summary; its progress and complaints are not.
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(command.status()?.success())
    }
}

/// The last line of the raw data of a scenario that has finished.
fn finished(folder: &Path, name: &str) -> Option<Value> {
    let raw = fs::read_to_string(folder.join(name).join("raw.jsonl")).ok()?;
    let last: Value = serde_json::from_str(raw.lines().next_back()?).ok()?;
    last.get("bars").is_some().then_some(last)
}

fn summary(folder: &Path, failed: &[&str]) -> String {
    let done: Vec<(&str, Option<Value>)> =
        STEPS.iter().map(|step| (step.name, finished(folder, step.name))).collect();
    let lists: Vec<Value> = done.iter().filter_map(|it| Some(it.1.as_ref()?["bars"].clone())).collect();
    let state = |name: &str, it: &Option<Value>| match it {
        Some(_) => format!("[summary]({name}/SUMMARY.md), [setup]({name}/SETUP.md)"),
        None if failed.contains(&name) => "FAILED".to_owned(),
        None => "not run".to_owned(),
    };
    let scenarios: Vec<Vec<String>> =
        done.iter().map(|(name, it)| vec![format!("`{name}`"), state(name, it)]).collect();
    let quick = match folder.join(QUICK).exists() {
        true => {
            "**Quick: tiny loads, one round. It shows that everything works; no figure and no verdict here means anything.**\n\n"
        }
        false => "",
    };
    format!(
        "# All bars\n\n{quick}{} × {}, server and client on the same machine. docs/BENCH.md says what the figures mean.\n\n{}\n\
         ## Beside what others publish\n\n{}\n## Scenarios\n\n{}",
        results::cpu_count(),
        results::cpu_model(),
        bars::merge(&lists),
        published::table(&|step| done.iter().find(|it| it.0 == step)?.1.as_ref()?.get("rows").cloned()),
        table(&["scenario", "results"], &scenarios)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_finished_counts() {
        let folder = std::env::temp_dir().join(format!("corecast-bench-all-{}", std::process::id()));
        let write = |name: &str, raw: &str| {
            fs::create_dir_all(folder.join(name)).unwrap();
            fs::write(folder.join(name).join("raw.jsonl"), raw).unwrap();
        };
        let bars = bars::json(&[bars::Bar::at_most("P3", "it", Some(1.0), 2.0, "")]);
        write("paced", &format!("{{\"run\":1}}\n{}\n", serde_json::json!({"bars": bars, "rows": []})));
        write("seed", "{\"run\":1}\n{\"run\":2");
        assert!(finished(&folder, "paced").is_some());
        assert!(finished(&folder, "seed").is_none() && finished(&folder, "storm").is_none());
        let summary = summary(&folder, &["seed"]);
        assert!(summary.contains("| P3 | it | ≤ 2 | 1 | yes |"), "{summary}");
        assert!(
            summary.contains("| `seed` | FAILED |") && summary.contains("| `storm` | not run |"),
            "{summary}"
        );
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn quick_figures_stay_among_themselves() {
        let folder = std::env::temp_dir().join(format!("corecast-bench-quick-{}", std::process::id()));
        let args =
            |quick, table_only| Args { out: None, only: Vec::new(), quick, no_spin: false, table_only };
        fs::create_dir_all(folder.join("seed")).unwrap();
        mark(&args(false, false), &folder).unwrap();
        assert!(!summary(&folder, &[]).contains("Quick"));
        mark(&args(true, false), &folder).unwrap();
        assert!(summary(&folder, &[]).contains("**Quick: "));
        mark(&args(true, false), &folder).unwrap();
        mark(&args(false, true), &folder).unwrap();
        assert!(mark(&args(false, false), &folder).is_err(), "it is quick");
        fs::remove_file(folder.join(QUICK)).unwrap();
        fs::write(folder.join("seed/raw.jsonl"), "{\"bars\":[]}\n").unwrap();
        assert!(mark(&args(true, false), &folder).is_err(), "it was not quick");
        mark(&args(false, false), &folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
    }
}
