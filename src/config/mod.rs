//! Settings: as the operator writes them, and as the server uses them.

mod settings;

pub use settings::*;
