#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| corecast::wire::fuzz::v1_commands(input));
