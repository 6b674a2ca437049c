//! What arenas take from the system, and give back.

mod common;

use common::{Co, Rig, SMALL};
use greenloop_stack::{Arena, Config};
use std::hint::black_box;
use std::io::ErrorKind;
use std::process::Command;
use std::rc::Rc;

unsafe extern "C" {
    fn mincore(address: *mut u8, length: usize, residency: *mut u8) -> i32;
    fn setrlimit(resource: i32, limits: *const [u64; 2]) -> i32;
    fn getrlimit(resource: i32, limits: *mut [u64; 2]) -> i32;
}

const PAGE: usize = 4096;

/// Resident bytes of the stack below a slot's middle.
fn resident(co: &Co, stack_size: usize) -> usize {
    let high = (co.middle() as usize).next_multiple_of(PAGE);
    let low = high - stack_size;
    let mut pages = vec![0_u8; stack_size / PAGE];
    // SAFETY: the range is a slot's stack, and there is a byte for each of its pages.
    let status = unsafe { mincore(low as *mut u8, stack_size, pages.as_mut_ptr()) };
    assert_eq!(status, 0, "{}", std::io::Error::last_os_error());
    pages.iter().filter(|page| **page & 1 != 0).count() * PAGE
}

/// Uses about `bytes` of stack.
#[inline(never)]
fn burrow(bytes: usize) -> u64 {
    let block = [bytes as u64; 128];
    black_box(&block);
    let below = if bytes > 1024 { burrow(bytes - 1024) } else { 0 };
    below + block[bytes % 128]
}

fn parker(depth: usize) -> Rc<Co> {
    Co::new(move |rig, _| {
        black_box(burrow(depth));
        rig.to_main(0);
        (rig.main(), 0)
    })
}

const ROOMY: Config = Config { stack_size: 4 << 20, data_size: 16 << 10, slots: 4 };

#[test]
fn pages_of_a_deep_call_are_given_back_after_the_end() {
    let rig = Rig::new(ROOMY);
    let deep = parker(2 << 20);
    rig.switch(&deep, 0);
    assert!(resident(&deep, ROOMY.stack_size) > 2 << 20);
    rig.switch(&deep, 0);
    // One mark is looked at each time; nearly all of them are overwritten.
    for _ in 0..8 {
        let shallow = parker(0);
        rig.switch(&shallow, 0);
        assert_eq!(shallow.middle(), deep.middle());
        rig.switch(&shallow, 0);
    }
    assert!(resident(&deep, ROOMY.stack_size) < 128 << 10);
}

#[test]
fn pages_of_a_deep_call_are_given_back_after_an_eviction() {
    let rig = Rig::new(ROOMY);
    let deep = parker(2 << 20);
    rig.switch(&deep, 0);
    let all: Vec<_> = (0..60).map(|_| parker(0)).collect();
    for co in &all {
        rig.switch(co, 0);
    }
    assert!(deep.co.is_evicted());
    // Only what it has in use while parked was copied, not how deep it once was.
    assert!(deep.co.copied_bytes() < 4096);
    assert!(resident(&deep, ROOMY.stack_size) < 128 << 10);
    rig.switch(&deep, 0);
    for co in &all {
        rig.switch(co, 0);
    }
}

#[test]
fn one_that_parks_deep_keeps_its_bytes() {
    #[inline(never)]
    fn park_deep(rig: &Rig, levels: u64) {
        let block = [levels; 128];
        black_box(&block);
        if levels > 0 {
            park_deep(rig, levels - 1);
        } else {
            rig.to_main(0);
        }
        assert_eq!(block, [levels; 128]);
    }
    let rig = Rig::new(ROOMY);
    // 1 MiB and more each, far below the marks.
    let all: Vec<_> = (0..6)
        .map(|_| {
            Co::new(|rig, _| {
                park_deep(rig, 1024);
                park_deep(rig, 10);
                (rig.main(), 1)
            })
        })
        .collect();
    for _ in 0..2 {
        for co in &all {
            assert_eq!(rig.switch(co, 0), 0);
        }
    }
    for co in &all {
        assert_eq!(rig.switch(co, 0), 1);
    }
}

#[test]
fn shallow_coroutines_touch_few_pages() {
    let rig = Rig::new(ROOMY);
    for _ in 0..20 {
        let co = parker(0);
        rig.switch(&co, 0);
        // The page of the marks, and the top.
        assert!(resident(&co, ROOMY.stack_size) <= 6 * PAGE);
        rig.switch(&co, 0);
    }
}

#[test]
fn sizes_out_of_range_are_refused() {
    let refused = |config: Config| {
        let Err(error) = Arena::<common::TestHooks>::new(config) else {
            panic!("{config:?} was accepted")
        };
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        error.to_string()
    };
    let fine = SMALL;
    for stack_size in [0, Config::MIN_STACK_SIZE - 1, (1 << 30) + 1, usize::MAX] {
        assert!(refused(Config { stack_size, ..fine }).contains("stack size"));
    }
    for data_size in [0, (16 << 10) - 1, (1 << 30) + 1, usize::MAX] {
        assert!(refused(Config { data_size, ..fine }).contains("data size"));
    }
    for slots in [0, 3, 16_385, usize::MAX] {
        assert!(refused(Config { slots, ..fine }).contains("slots"));
    }
    for config in [
        fine,
        Config::default(),
        Config { stack_size: Config::MIN_STACK_SIZE, data_size: 16 << 10, slots: 4 },
        Config { stack_size: 1 << 30, data_size: 1 << 30, slots: 16_384 },
    ] {
        let arena = Arena::<common::TestHooks>::new(config).expect("accepted");
        assert_eq!(arena.config(), config);
        assert_eq!(arena.mapped_slots(), 0);
    }
}

#[test]
fn an_odd_stack_size_is_rounded_up() {
    let odd = Config { stack_size: (128 << 10) + 1, ..SMALL };
    let arena = Arena::<common::TestHooks>::new(odd).expect("accepted");
    let rounded = arena.config().stack_size;
    assert!(rounded > odd.stack_size && rounded.is_multiple_of(PAGE));
}

#[test]
fn slots_are_unmapped_with_the_arena() {
    let mappings = || {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("it can be read");
        maps.lines().map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
    };
    let rig = Rig::new(SMALL);
    let co = parker(0);
    rig.switch(&co, 0);
    let middle = co.middle() as usize;
    let contains = |maps: &Vec<String>| {
        maps.iter().any(|range| {
            let (low, high) = range.split_once('-').expect("a range");
            let bound = |text| usize::from_str_radix(text, 16).expect("an address");
            bound(low) == middle - SMALL.stack_size && middle < bound(high)
        })
    };
    let before: Vec<String> = mappings();
    assert!(contains(&before), "{before:?}");
    rig.switch(&co, 0);
    drop(rig);
    assert!(!contains(&mappings()));
}

const RLIMIT_AS: i32 = 9;

fn limits() -> [u64; 2] {
    let mut limits = [0; 2];
    // SAFETY: two words, as the call fills in.
    assert_eq!(unsafe { getrlimit(RLIMIT_AS, &raw mut limits) }, 0);
    limits
}

/// Lets the process have `more` bytes of address space than it has now.
fn allow(more: u64) {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("it can be read");
    let pages: u64 = statm.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    let new = [pages * PAGE as u64 + more, limits()[1]];
    // SAFETY: two words, as the call reads.
    assert_eq!(unsafe { setrlimit(RLIMIT_AS, &raw const new) }, 0);
}

fn allow_all() {
    let new = [limits()[1]; 2];
    // SAFETY: two words, as the call reads.
    assert_eq!(unsafe { setrlimit(RLIMIT_AS, &raw const new) }, 0);
}

/// Runs a test of this file in a process of its own, alone. True in that process.
fn in_child(name: &str) -> bool {
    const MARK: &str = "GREENLOOP_STACK_TEST_CHILD";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let program = std::env::current_exe().expect("the test binary");
    let output = Command::new(program)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .output()
        .expect("the test binary runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
    false
}

#[test]
fn when_address_space_is_scarce_the_slots_there_are_do() {
    if !in_child("when_address_space_is_scarce_the_slots_there_are_do") {
        return;
    }
    let big = Config { stack_size: 32 << 20, data_size: 64 << 10, slots: 64 };
    let rig = Rig::new(big);
    allow(6 * (33 << 20));
    let all: Vec<_> = (0..40).map(|_| parker(0)).collect();
    for co in &all {
        rig.switch(co, 0);
    }
    let mapped = rig.arena().mapped_slots();
    assert!((4..8).contains(&mapped), "{mapped}");
    for co in &all {
        rig.switch(co, 0);
    }
    // With room again, there are more.
    allow_all();
    let all: Vec<_> = (0..40).map(|_| parker(0)).collect();
    for co in &all {
        rig.switch(co, 0);
    }
    assert_eq!(rig.arena().mapped_slots(), 40);
}

#[test]
fn without_room_for_the_least_slots_a_start_fails() {
    if !in_child("without_room_for_the_least_slots_a_start_fails") {
        return;
    }
    let rig = Rig::new(Config { stack_size: 64 << 20, data_size: 64 << 10, slots: 8 });
    let first = parker(0);
    rig.switch(&first, 0);
    allow(8 << 20);
    let second = parker(0);
    let error = rig.try_switch(&second, 0).expect_err("no room for a second slot");
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    assert!(!second.co.has_home());
    allow_all();
    rig.switch(&second, 0);
    rig.switch(&second, 0);
    rig.switch(&first, 0);
}

#[test]
fn without_room_for_the_scratch_stack_a_switch_fails_and_changes_nothing() {
    if !in_child("without_room_for_the_scratch_stack_a_switch_fails_and_changes_nothing") {
        return;
    }
    let rig = Rig::new(SMALL);
    let first = parker(0);
    rig.switch(&first, 0);
    let mut others = Vec::new();
    // One in the same home, that goes straight to the first.
    let hopper = loop {
        let target = Rc::clone(&first);
        let hopper = Co::new(move |rig, _| {
            rig.to_main(0);
            allow(0);
            let error = rig.try_switch(&target, 0).expect_err("no room for the scratch stack");
            assert_eq!(error.kind(), ErrorKind::OutOfMemory);
            assert!(target.co.is_evicted());
            allow_all();
            // The first ends, in main.
            assert_eq!(rig.switch(&target, 0), 3);
            (rig.main(), 4)
        });
        rig.switch(&hopper, 0);
        if hopper.middle() == first.middle() {
            break hopper;
        }
        others.push(hopper);
    };
    assert!(first.co.is_evicted());
    assert_eq!(rig.switch(&hopper, 0), 0);
    assert!(!first.co.has_home());
    assert_eq!(rig.switch(&hopper, 3), 4);
}
