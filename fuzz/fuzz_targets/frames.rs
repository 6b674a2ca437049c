//! See the module of the same name.
#![no_main]

#[path = "../../crates/websocket/tests/checks/frames.rs"]
mod frames;

libfuzzer_sys::fuzz_target!(|data: &[u8]| frames::check(data));
