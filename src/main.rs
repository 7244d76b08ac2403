//! The `corecast` command; everything is in the library's `cli`.

fn main() -> std::process::ExitCode {
    corecast::cli::run(std::env::args_os())
}
