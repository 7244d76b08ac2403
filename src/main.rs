//! The `corecast` command; everything is in the library's `cli`.

/// Its thread-local heaps suit cores that share nothing.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    corecast::cli::run(std::env::args_os())
}
