#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| corecast::auth::fuzz_caps(input));
