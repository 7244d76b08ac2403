//! The page of `/metrics`.

use crate::{
    broker::seam::CoreStats,
    metrics::{Kind, prometheus},
};

/// Counters of every core, and what the node holds.
#[must_use]
pub fn text(cores: &[CoreStats], cores_total: usize, version: &str) -> String {
    let mut text = String::new();
    let counters: Vec<_> = cores.iter().map(|core| (usize::from(core.core), &core.counters)).collect();
    prometheus::counters(&mut text, &counters);
    let sum = |of: fn(&CoreStats) -> u32| cores.iter().map(of).map(u64::from).sum::<u64>();
    for (name, help, value) in [
        ("corecast_clients", "Sessions past connect.", sum(|core| core.clients)),
        ("corecast_users", "Distinct users among them, the anonymous one left out.", sum(|core| core.users)),
        ("corecast_subscriptions", "Subscriptions of clients.", sum(|core| core.subscriptions)),
        ("corecast_channels", "Channels with at least one subscriber.", sum(|core| core.channels)),
        ("corecast_cores", "Cores of this node.", cores_total as u64),
        ("corecast_cores_answered", "Cores whose counters are in this page.", cores.len() as u64),
    ] {
        prometheus::metric(&mut text, name, Kind::Gauge, help, &[(&[], value)]);
    }
    prometheus::metric(
        &mut text,
        "corecast_build_info",
        Kind::Gauge,
        "Always 1; the version is a label.",
        &[(&[("version", version)], 1)],
    );
    text
}
