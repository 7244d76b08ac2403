//! The command line: which subcommands there are, and what all of them share.
//!
//! Exit status: 0 done, 1 a configuration or something at run time is wrong, 2 the command line is, or
//! `migrate` could not bring everything along. Messages go to standard error, results to standard output.

mod bench;
mod check_config;
mod client;
pub(crate) mod gen_cert;
mod gen_config;
mod migrate;
mod pub_command;
pub mod serve;
mod sub_command;
mod tokens;
mod version;
mod wire;

use crate::config::{ConfigErrors, Flag, Loaded, SourceFile, Sources, TEXT_BYTES_MAX};
use clap::{Args, Parser, Subcommand};
use std::{
    ffi::OsString,
    fs::File,
    io::{Read, Write},
    path::PathBuf,
    process::ExitCode,
};

#[derive(Parser, Debug)]
#[command(
    name = "corecast",
    version,
    about = "Real-time messaging server that speaks the Centrifugal client protocol",
    after_help = "First message:\n  corecast serve --dev\n\nConfiguration:\n  corecast gen-config --format toml > corecast.toml\n  \
                  corecast check-config --config corecast.toml\n  corecast serve --config corecast.toml"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the server
    Serve(Box<serve::ServeArgs>),
    /// Check a configuration without running it
    #[command(alias = "checkconfig")]
    CheckConfig(check_config::CheckConfigArgs),
    /// Write a configuration with every key and its default
    #[command(aliases = ["genconfig", "defaultconfig"])]
    GenConfig(gen_config::GenConfigArgs),
    /// Turn a configuration of Centrifugo v6 into one of Corecast, and say what is lost
    Migrate(migrate::Args),
    /// Make a certificate that signs itself, to try TLS
    #[command(alias = "gencert")]
    GenCert(gen_cert::Args),
    /// Make a connection token
    #[command(alias = "gentoken")]
    GenToken(tokens::GenTokenArgs),
    /// Make a subscription token
    #[command(alias = "gensubtoken")]
    GenSubToken(tokens::GenSubTokenArgs),
    /// Say what a token says, or why it is refused
    #[command(aliases = ["checktoken", "checksubtoken"])]
    CheckToken(tokens::CheckTokenArgs),
    /// Publish to a channel
    Pub(pub_command::Args),
    /// Subscribe to channels and print what arrives
    Sub(sub_command::Args),
    /// Measure a server that speaks the protocol
    Bench(Box<bench::Args>),
    /// Print the version
    Version,
}

/// Runs the command `arguments` asks for; the first is the program's own name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" with status 0. If even this cannot be written, nobody listens.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let done = match cli.command {
        Command::Serve(args) => serve::run(&args).map(|()| ExitCode::SUCCESS),
        Command::CheckConfig(args) => check_config::run(&args).map(|()| ExitCode::SUCCESS),
        Command::GenConfig(args) => gen_config::run(&args).map(|()| ExitCode::SUCCESS),
        Command::GenCert(args) => gen_cert::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Migrate(args) => migrate::run(&args),
        Command::GenToken(args) => tokens::generate(&args).map(|()| ExitCode::SUCCESS),
        Command::GenSubToken(args) => tokens::generate_sub(&args).map(|()| ExitCode::SUCCESS),
        Command::CheckToken(args) => tokens::check(&args).map(|()| ExitCode::SUCCESS),
        Command::Pub(args) => pub_command::run(args).map_err(|error| Failure::Run(error.to_string())),
        Command::Sub(args) => sub_command::run(args).map_err(|error| Failure::Run(error.to_string())),
        Command::Bench(args) => bench::run(*args).map_err(|error| Failure::Run(error.to_string())),
        Command::Version => version::run().map(|()| ExitCode::SUCCESS),
    };
    match done {
        Ok(status) => status,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Why a command failed, for the operator.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: std::io::Error },
    #[error("cannot write the result: {0}")]
    Write(std::io::Error),
    /// One sentence with cause and remedy.
    #[error("{0}")]
    Run(String),
}

/// Where settings come from; shared by all commands that need them.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigArgs {
    /// Configuration file in JSON, TOML or YAML
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one key, as `http_server.port=9000`; a value that parses as JSON is taken as JSON
    #[arg(short, long = "set", value_name = "KEY=VALUE", value_parser = flag)]
    pub set: Vec<Flag>,
    /// Development: insecure, on loopback only, everything allowed and kept for five minutes
    #[arg(long)]
    pub dev: bool,
}

fn flag(text: &str) -> Result<Flag, &'static str> {
    Flag::set(text).ok_or("must be KEY=VALUE, as http_server.port=9000")
}

impl ConfigArgs {
    /// Reads file and environment and loads the settings they make.
    ///
    /// # Errors
    /// The file cannot be read, or something in it, in the environment or in the flags is wrong.
    pub fn load(&self) -> Result<Loaded, Failure> {
        let file = self.config.as_ref().map(read).transpose()?;
        let sources = Sources { file, environment: environment(), flags: self.set.clone(), dev: self.dev };
        let loaded = crate::config::load(sources)?;
        match crate::auth::check(&loaded.settings.client) {
            problems if problems.is_empty() => Ok(loaded),
            problems => Err(loaded.complain(problems).into()),
        }
    }
}

/// What the files named in the settings hold is looked at by the commands that need them.
fn check_files(loaded: &Loaded) -> Result<(), Failure> {
    match crate::server::tls_problems(&loaded.settings) {
        problems if problems.is_empty() => Ok(()),
        problems => Err(loaded.complain(problems).into()),
    }
}

/// Bytes that are no UTF-8 become U+FFFD: the format's reader says where, or the text is only a comment.
fn read(path: &PathBuf) -> Result<SourceFile, Failure> {
    let wrong = |error| Failure::Read { path: path.clone(), error };
    let mut bytes = Vec::new();
    let bound = u64::try_from(TEXT_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).and_then(|file| file.take(bound).read_to_end(&mut bytes)).map_err(wrong)?;
    Ok(SourceFile { name: path.display().to_string(), text: String::from_utf8_lossy(&bytes).into_owned() })
}

fn environment() -> Vec<(String, String)> {
    let text = |it: OsString| it.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

/// Writes a command's result; a reader that has gone (`| head`) is no failure.
fn print(result: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(result.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::Write(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn spellings() {
        #[track_caller]
        fn check(line: &str, want: Result<&str, i32>) {
            let got = Cli::try_parse_from(line.split(' ')).map(|cli| format!("{:?}", cli.command));
            match (got, want) {
                (Ok(got), Ok(want)) => assert!(got.contains(want), "{line}: {got}"),
                (Err(got), Err(want)) => assert_eq!(got.exit_code(), want, "{line}: {got}"),
                (got, want) => panic!("{line}: {got:?}, want {want:?}"),
            }
        }
        check("corecast serve --dev", Ok("dev: true"));
        check("corecast serve -c x.toml --set a.b=c=d", Ok("key: \"a.b\", value: \"c=d\""));
        check("corecast serve --port 9000", Ok("port: Some(\"9000\")"));
        check("corecast check-config --config x", Ok("CheckConfig"));
        check("corecast checkconfig -c x", Ok("CheckConfig"));
        check("corecast genconfig", Ok("GenConfig"));
        check("corecast gen-config --format yaml", Ok("Yaml"));
        check("corecast migrate a.json --format toml -o b.toml", Ok("Migrate"));
        check("corecast migrate", Err(2));
        check("corecast gen-cert --host a.b --host 10.0.0.1 --days 7", Ok("GenCert"));
        check("corecast gen-cert --days x", Err(2));
        check("corecast gentoken -c x -u 42", Ok("GenToken"));
        check("corecast gen-sub-token -c x --user 42 --channel $a --ttl 0s", Ok("GenSubToken"));
        check("corecast gen-sub-token -c x --user 42", Err(2));
        check("corecast gen-token --ttl 1", Err(2));
        check("corecast checksubtoken a.b.c", Ok("CheckToken"));
        check("corecast version", Ok("Version"));
        check("corecast --help", Err(0));
        check("corecast", Err(2));
        check("corecast serv", Err(2));
        check("corecast serve --set a", Err(2));
        check("corecast gen-config --format ini", Err(2));
    }
}
