//! See the module of the same name.
#![no_main]

#[path = "../../crates/http1/tests/checks/responses.rs"]
mod responses;

libfuzzer_sys::fuzz_target!(|data: &[u8]| responses::check(data));
