//! What a person types: the subcommands of the binary.

pub mod bench;
pub mod client;
pub mod pub_command;
pub mod sub_command;
