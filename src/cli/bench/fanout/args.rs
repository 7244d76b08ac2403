//! What can be said about a fan-out on the command line, and by the scenarios that are made of it.

use crate::cli::bench::{Common, transport::Transport};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub(in crate::cli::bench) common: Common,
    /// Connections that subscribe
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub subscribers: usize,
    /// How the subscribers are connected; publishers are WebSockets
    #[arg(long, value_enum, default_value_t, conflicts_with = "rounds")]
    pub transport: Transport,
    #[command(flatten)]
    pub publishing: Publishing,
    /// Measure so many rounds between runs of the floor, instead of once without it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: Option<u16>,
    /// With --rounds, measure the server alone
    #[arg(long)]
    pub no_floor: bool,
    /// Cores the publishers must sit on, seen from the owner of the channel; empty: wherever they land.
    #[arg(skip)]
    pub sides: Vec<Side>,
}

/// Where a publisher sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// On the core that owns the channel.
    Owner,
    /// On another.
    Other,
}

#[derive(Clone, Debug, clap::Args)]
pub struct PublishArgs {
    #[command(flatten)]
    pub(in crate::cli::bench) common: Common,
    #[command(flatten)]
    pub(in crate::cli::bench) publishing: Publishing,
}

impl From<PublishArgs> for Args {
    fn from(args: PublishArgs) -> Self {
        Self::new(args.common, 0, args.publishing)
    }
}

impl Args {
    pub(in crate::cli::bench) fn new(common: Common, subscribers: usize, publishing: Publishing) -> Self {
        Self {
            transport: common.transport,
            common,
            subscribers,
            publishing,
            rounds: None,
            no_floor: false,
            sides: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Publishing {
    /// Connections that publish
    #[arg(long, value_name = "M", default_value_t = 1)]
    pub publishers: usize,
    /// The channel
    #[arg(long, default_value = "bench")]
    pub channel: String,
    /// Bytes of each payload
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    pub size: usize,
    /// Commands each publisher keeps in flight
    #[arg(long, value_name = "W", default_value_t = 1)]
    pub window: u32,
    /// Write so many commands at once and wait for the last reply before the next so many
    #[arg(long, value_name = "K", conflicts_with = "window")]
    pub batch: Option<u32>,
    /// Publications per second, all publishers together, by the clock whatever the replies do
    #[arg(long, value_name = "PER_SECOND", conflicts_with = "window")]
    pub rate: Option<f64>,
    /// Seconds to measure
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    pub duration: f64,
    /// Seconds of the same before
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub warmup: f64,
    /// End after so many publications instead of --duration; no warm-up
    #[arg(long, value_name = "N", conflicts_with_all = ["duration", "warmup"])]
    pub messages: Option<u64>,
    /// Payloads that compress like text.
    #[arg(skip)]
    pub prose: bool,
}

impl Default for Publishing {
    fn default() -> Self {
        Self {
            publishers: 1,
            channel: "bench".into(),
            size: 128,
            window: 1,
            batch: None,
            rate: None,
            duration: 5.0,
            warmup: 1.0,
            messages: None,
            prose: false,
        }
    }
}
