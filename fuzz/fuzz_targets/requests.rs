//! See the module of the same name.
#![no_main]

#[path = "../../crates/http1/tests/checks/requests.rs"]
mod requests;

libfuzzer_sys::fuzz_target!(|data: &[u8]| requests::check(data));
