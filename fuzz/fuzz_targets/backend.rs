#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| corecast::wire::fuzz::backend_answer(input));
