//! What fuzzing has found to be worth keeping (see `make fuzz`), without a fuzzer: each
//! file takes another way through the code.

#[path = "checks/frames.rs"]
mod frames;

use std::fs;
use std::path::Path;

fn replay(name: &str, check: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
    let mut count = 0;
    for entry in fs::read_dir(directory).expect("a directory of inputs") {
        let path = entry.expect("an input").path();
        let input = fs::read(&path).expect("a file");
        // Seen with a test that fails only.
        println!("{}", path.display());
        check(&input);
        count += 1;
    }
    assert!(count > 0, "no inputs");
}

#[test]
fn frames_of_the_corpus() {
    replay("frames", frames::check);
}
