//! `corecast version`.

use super::{Failure, print};

pub fn run() -> Result<(), Failure> {
    print(&format!("corecast {}\n", env!("CARGO_PKG_VERSION")))
}
