//! `corecast migrate`: a configuration of Centrifugo v6, rewritten, with a report of what is kept and what is lost.

use super::{Failure, environment, print, read};
use crate::config::{Format, Migrated};
use std::{fmt::Write as _, io::Write as _, path::PathBuf, process::ExitCode};

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  corecast migrate config.json > corecast.json\n  \
                  corecast migrate config.yaml --format toml --output corecast.toml\n\n\
                  The report goes to standard error. Variables CENTRIFUGO_… of the environment are judged as well.\n\
                  Exit status: 0 nothing is lost, 2 something is (the rest is written), 1 the file cannot be read.")]
pub struct Args {
    /// Configuration file of Centrifugo v6 in JSON, TOML or YAML
    file: PathBuf,
    /// Format to write; that of the file by default
    #[arg(short, long, value_enum)]
    format: Option<Output>,
    /// File to write instead of standard output; it must not exist
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Output {
    Json,
    Toml,
    Yaml,
}

pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let format = args.format.map(|it| match it {
        Output::Json => Format::Json,
        Output::Toml => Format::Toml,
        Output::Yaml => Format::Yaml,
    });
    let migrated = crate::config::migrate(&read(&args.file)?, format, &environment())?;
    match &args.output {
        Some(path) => create(path, &migrated.text)?,
        None => print(&migrated.text)?,
    }
    // If the report cannot be written, the exit status still says it.
    let _ = std::io::stderr().write_all(report(&migrated).as_bytes());
    Ok(if migrated.lost.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

/// A configuration holds secrets: nobody but the owner reads the new file, and none is overwritten.
fn create(path: &PathBuf, text: &str) -> Result<(), Failure> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(Failure::Write)
}

fn report(Migrated { kept, notes, lost, .. }: &Migrated) -> String {
    let mut text = format!("{kept} keys mean the same\n");
    for note in notes {
        let _ = writeln!(text, "{note}");
    }
    for line in lost {
        let _ = writeln!(text, "lost: {line}");
    }
    text += &match lost.len() {
        0 => "nothing is lost\n".to_owned(),
        1 => "1 thing is lost\n".to_owned(),
        count => format!("{count} things are lost\n"),
    };
    text
}
