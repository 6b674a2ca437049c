//! See the module of the same name.
#![no_main]

#[path = "../../crates/http1/tests/checks/chunks.rs"]
mod chunks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| chunks::check(data));
