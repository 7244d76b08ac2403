//! `corecast gen-config`: a configuration with every key.

use super::{Failure, print};
use crate::config::{Format, Settings, reference, show};

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  corecast gen-config > corecast.json\n  corecast gen-config --format toml > corecast.toml\n  \
                        corecast gen-config --dev --format yaml"
)]
pub struct GenConfigArgs {
    /// Format to write
    #[arg(short, long, value_enum, default_value_t = Output::Json)]
    format: Output,
    /// The settings of `serve --dev` instead of the defaults
    #[arg(long)]
    dev: bool,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Json,
    Toml,
    Yaml,
    /// The page that documents all keys
    Markdown,
}

pub fn run(args: &GenConfigArgs) -> Result<(), Failure> {
    let settings = if args.dev { Settings::dev() } else { Settings::default() };
    print(&match args.format {
        Output::Json => show(&settings, Format::Json),
        Output::Toml => show(&settings, Format::Toml),
        Output::Yaml => show(&settings, Format::Yaml),
        Output::Markdown => reference(),
    })
}
