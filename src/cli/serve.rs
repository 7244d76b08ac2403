//! `corecast serve`: from flags to valid settings, then to the server.

use super::{ConfigArgs, Failure};
use crate::config::{Flag, Loaded};

#[derive(clap::Args, Clone, Debug, Default)]
#[command(after_help = "Examples:\n  corecast serve --dev\n  corecast serve --config corecast.toml\n  \
                        corecast serve --config corecast.toml --port 9000 --set runtime.cores=2\n  \
                        CORECAST_HTTP_API_KEY=secret corecast serve\n\n\
                        Later sources win: defaults, file, environment (CORECAST_ and the key in upper case with _ for .), flags.\n\
                        All keys: corecast gen-config --format toml")]
pub struct ServeArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Address to listen on, short for --set http_server.address=…
    #[arg(short, long, value_name = "ADDRESS")]
    pub address: Option<String>,
    /// Port to listen on, short for --set http_server.port=…
    #[arg(short, long, value_name = "PORT")]
    pub port: Option<String>,
    /// Least important messages to write, short for --set log.level=…
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

impl ServeArgs {
    /// Settings from file, environment and flags. The short flags win over `--set`.
    ///
    /// # Errors
    /// As [`ConfigArgs::load`].
    pub fn load(&self) -> Result<Loaded, Failure> {
        let mut config = self.config.clone();
        let short = [
            ("--address", "http_server.address", &self.address),
            ("--port", "http_server.port", &self.port),
            ("--log-level", "log.level", &self.log_level),
        ];
        for (flag, key, value) in short {
            if let Some(value) = value {
                config.set.push(Flag { flag: flag.into(), key: key.into(), value: value.clone() });
            }
        }
        config.load()
    }
}

/// Loads the settings and serves until told to stop.
///
/// # Errors
/// The configuration is wrong, or the server cannot start or run: one sentence with cause and remedy.
pub fn run(args: &ServeArgs) -> Result<(), Failure> {
    let loaded = args.load()?;
    super::check_files(&loaded)?;
    let Loaded { settings, warnings, .. } = loaded;
    for warning in &warnings {
        eprintln!("warning: {warning}");
    }
    let options = crate::server::Options { dev: args.config.dev };
    crate::server::run(settings, options).map_err(|error| Failure::Run(error.to_string()))
}
