//! `corecast check-config`: says `ok` and what the settings come to, or everything that is wrong.

use super::{ConfigArgs, Failure, print};
use crate::config::{Cores, Settings};
use std::fmt::Write;

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  corecast check-config --config corecast.toml\n  \
                        corecast check-config --config corecast.toml --set http_server.port=9000\n\n\
                        The environment counts as well: CORECAST_HTTP_SERVER_PORT=9000.")]
pub struct CheckConfigArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

pub fn run(args: &CheckConfigArgs) -> Result<(), Failure> {
    let loaded = args.config.load()?;
    super::check_files(&loaded)?;
    let mut text = format!("ok\n{}", summary(&loaded.settings));
    if !loaded.passed_over.is_empty() {
        let _ = writeln!(text, "passed over, as they ask for nothing: {}", loaded.passed_over.join(" "));
    }
    for warning in loaded.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    print(&text)
}

fn summary(settings: &Settings) -> String {
    let mut text = String::new();
    let address = match settings.http_server.address.as_str() {
        "" => "all addresses".to_owned(),
        address => address.to_owned(),
    };
    let tls = if settings.http_server.tls.enabled { ", TLS" } else { "" };
    let _ = writeln!(text, "listens on: {address}, port {}{tls}", settings.http_server.port);
    let endpoints = [
        (!settings.websocket.disabled, &settings.websocket.handler_prefix),
        (!settings.http_api.disabled, &settings.http_api.handler_prefix),
        (settings.health.enabled, &settings.health.handler_prefix),
        (settings.prometheus.enabled, &settings.prometheus.handler_prefix),
    ];
    let on: Vec<_> = endpoints.iter().filter(|(on, _)| *on).map(|(_, path)| path.as_str()).collect();
    let _ = writeln!(text, "serves: {}", on.join(" "));
    let cores = match &settings.runtime.cores {
        Cores::All => "all the cpuset allows".to_owned(),
        Cores::Count(count) => format!("the first {count}"),
        Cores::List(cpus) => format!("CPUs {cpus:?}"),
    };
    let _ = writeln!(text, "cores: {cores}");
    let names: Vec<_> = settings.channel.namespaces.iter().map(|namespace| namespace.name.as_str()).collect();
    let _ = match names.as_slice() {
        [] => writeln!(text, "namespaces: none"),
        names => writeln!(text, "namespaces: {}", names.join(" ")),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_runs() {
        let mut settings = Settings::dev();
        settings.health.enabled = false;
        settings.runtime.cores = Cores::List(vec![0, 2]);
        assert_eq!(
            summary(&settings),
            "listens on: 127.0.0.1, port 8000\nserves: /connection/websocket /api /metrics\ncores: CPUs [0, 2]\n\
             namespaces: none\n"
        );
    }
}
