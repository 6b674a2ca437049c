//! What arenas take from the system, and give back.

mod common;

use common::{Co, Rig, SMALL, child};
use greenloop_stack::{Arena, Config};
use std::hint::black_box;
use std::io::ErrorKind;
use std::rc::Rc;

unsafe extern "C" {
    fn setrlimit(resource: i32, limits: *const [u64; 2]) -> i32;
    fn getrlimit(resource: i32, limits: *mut [u64; 2]) -> i32;
}

const PAGE: usize = 4096;

/// What the system says of the mapping that a slot's stack and data area are: a field in KiB.
fn mapping_field(co: &Co, field: &str) -> Option<String> {
    let top = co.middle() as usize - 1;
    let smaps = std::fs::read_to_string("/proc/self/smaps").expect("it can be read");
    let bound = |text: &str| usize::from_str_radix(text, 16).ok();
    let mut inside = false;
    smaps.lines().find_map(|line| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        if let Some((low, high)) = range
            && let (Some(low), Some(high)) = (bound(low), bound(high))
        {
            inside = (low..high).contains(&top);
        }
        line.strip_prefix(field).filter(|_| inside).map(|rest| rest.trim().to_owned())
    })
}

/// Bytes of memory that a slot has.
fn resident(co: &Co) -> usize {
    let field = mapping_field(co, "Rss:").expect("the slot is mapped");
    field.trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
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

const ROOMY: Config = Config { stack_size: 4 << 20, least_stack_size: 4 << 20, ..SMALL };

#[test]
fn pages_of_a_deep_call_are_given_back_after_the_end() {
    let rig = Rig::new(ROOMY);
    let deep = parker(2 << 20);
    rig.switch(&deep, 0);
    assert!(resident(&deep) > 2 << 20);
    rig.switch(&deep, 0);
    // One word is looked at each time; nearly all of them are overwritten.
    for _ in 0..8 {
        let shallow = parker(0);
        rig.switch(&shallow, 0);
        assert_eq!(shallow.middle(), deep.middle());
        rig.switch(&shallow, 0);
    }
    assert!(resident(&deep) < 128 << 10);
}

#[test]
fn also_of_a_deep_call_with_holes() {
    /// Leaves nearly 4 KiB of each frame untouched.
    #[inline(never)]
    fn leap(levels: usize) -> usize {
        let hole = [const { std::mem::MaybeUninit::<usize>::uninit() }; 500];
        let below = if levels > 0 { leap(black_box(levels - 1)) } else { 0 };
        below + usize::from(black_box(&hole).is_empty())
    }
    let rig = Rig::new(ROOMY);
    let deep = Co::new(|rig, _| {
        black_box(leap(400));
        rig.to_main(0);
        (rig.main(), 0)
    });
    rig.switch(&deep, 0);
    assert!(resident(&deep) > 1 << 20, "{}", resident(&deep));
    rig.switch(&deep, 0);
    // Each word has its turn.
    for _ in 0..64 {
        let shallow = parker(0);
        rig.switch(&shallow, 0);
        assert_eq!(shallow.middle(), deep.middle());
        rig.switch(&shallow, 0);
    }
    assert!(resident(&deep) < 128 << 10);
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
    assert!(resident(&deep) < 128 << 10);
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
    // 1 MiB and more each, far below what is kept.
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
    for _ in 0..200 {
        let co = parker(0);
        rig.switch(&co, 0);
        // Looking for deep excursions commits nothing.
        assert!(resident(&co) <= 4 * PAGE, "{}", resident(&co));
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
        assert!(refused(Config { least_stack_size: stack_size, ..fine }).contains("stack size"));
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
        Config {
            stack_size: Config::MIN_STACK_SIZE,
            least_stack_size: Config::MIN_STACK_SIZE,
            data_size: 16 << 10,
            slots: 4,
        },
        Config {
            stack_size: 1 << 30,
            least_stack_size: 1 << 30,
            data_size: 1 << 30,
            slots: 16_384,
        },
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

const RLIMIT_DATA: i32 = 2;
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

/// Runs a test of this file in a process of its own. True in that process.
fn succeeds_alone(name: &str) -> bool {
    let Some(output) = child(name) else { return true };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
    false
}

/// Bytes of address space that a slot takes at least.
fn extent(config: Config) -> u64 {
    (config.stack_size + config.data_size) as u64
}

/// Bytes of the stack of a coroutine, with what its top is staggered by.
fn whole_stack(co: &Co) -> usize {
    co.home.get().expect("it runs").stack_size.next_multiple_of(PAGE)
}

fn start_and_end(rig: &Rig, count: usize) {
    let all: Vec<_> = (0..count).map(|_| parker(0)).collect();
    for co in &all {
        rig.switch(co, 0);
    }
    for co in &all {
        rig.switch(co, 0);
    }
}

#[test]
fn where_address_space_is_limited_stacks_take_a_share() {
    if !succeeds_alone("where_address_space_is_limited_stacks_take_a_share") {
        return;
    }
    let size = 32 << 20;
    let config = Config { stack_size: size, least_stack_size: size, slots: 64, ..SMALL };
    let rig = Rig::new(config);
    // A quarter for about ten slots.
    allow(40 * extent(config));
    start_and_end(&rig, 40);
    let mapped = rig.arena().mapped_slots();
    assert!((8..12).contains(&mapped), "{mapped}");
    // With room again, there are more.
    allow_all();
    start_and_end(&rig, 40);
    assert_eq!(rig.arena().mapped_slots(), 40);
}

#[test]
fn the_limit_of_data_counts_as_well() {
    if !succeeds_alone("the_limit_of_data_counts_as_well") {
        return;
    }
    let size = 32 << 20;
    let rig = Rig::new(Config { stack_size: size, least_stack_size: size, slots: 64, ..SMALL });
    let new = [1 << 30, u64::MAX];
    // SAFETY: two words, as the call reads.
    assert_eq!(unsafe { setrlimit(RLIMIT_DATA, &raw const new) }, 0);
    start_and_end(&rig, 40);
    // 256 MiB, of slots that take a little more than 32.
    assert_eq!(rig.arena().mapped_slots(), 7);
}

#[test]
fn an_arena_gets_the_least_slots_beyond_the_share() {
    if !succeeds_alone("an_arena_gets_the_least_slots_beyond_the_share") {
        return;
    }
    let size = 32 << 20;
    let config = Config { stack_size: size, least_stack_size: size, slots: 64, ..SMALL };
    allow(16 * extent(config));
    let first = Rig::new(config);
    start_and_end(&first, 20);
    assert_eq!(first.arena().mapped_slots(), 4);
    let second = Rig::new(config);
    start_and_end(&second, 20);
    assert_eq!(second.arena().mapped_slots(), 4);
}

#[test]
fn stacks_that_are_needed_are_made_smaller_where_there_is_no_room() {
    if !succeeds_alone("stacks_that_are_needed_are_made_smaller_where_there_is_no_room") {
        return;
    }
    let (size, least) = (64 << 20, 4 << 20);
    let rig = Rig::new(Config { stack_size: size, least_stack_size: least, slots: 8, ..SMALL });
    allow((size + size / 2) as u64);
    let all: Vec<_> = (0..20).map(|_| parker(0)).collect();
    for co in &all {
        rig.switch(co, 0);
    }
    assert_eq!(rig.arena().mapped_slots(), 4);
    let mut sizes: Vec<_> = all.iter().map(|co| whole_stack(co) >> 20).collect();
    sizes.sort_unstable();
    sizes.dedup();
    // A whole one; of the others, what fitted when half of it did not, and so on.
    assert_eq!(sizes.last(), Some(&64), "{sizes:?}");
    assert!(sizes.len() > 1 && sizes.iter().all(|size| [4, 8, 16, 32, 64].contains(size)));
    for co in &all {
        rig.switch(co, 0);
    }
}

#[test]
fn new_sizes_are_for_slots_mapped_later() {
    let rig = Rig::new(SMALL);
    let first = parker(0);
    rig.switch(&first, 0);
    let larger = Config { stack_size: 1 << 20, least_stack_size: 1 << 20, slots: 5, ..SMALL };
    rig.arena().set_config(larger).expect("sizes in range");
    assert_eq!(rig.arena().config(), larger);
    let second = parker(512 << 10);
    rig.switch(&second, 0);
    assert_eq!((whole_stack(&first), whole_stack(&second)), (SMALL.stack_size, 1 << 20));
    start_and_end(&rig, 20);
    assert_eq!(rig.arena().mapped_slots(), 5);
    let wrong = Config { slots: 0, ..larger };
    assert_eq!(rig.arena().set_config(wrong).expect_err("too few").kind(), ErrorKind::InvalidInput);
    assert_eq!(rig.arena().config(), larger);
    for co in [first, second] {
        rig.switch(&co, 0);
    }
}

#[test]
fn stacks_are_not_made_of_huge_pages() {
    let rig = Rig::new(ROOMY);
    let co = parker(0);
    rig.switch(&co, 0);
    let flags = mapping_field(&co, "VmFlags:").expect("the stack is mapped");
    assert!(flags.split(' ').any(|flag| flag == "nh"), "{flags}");
    rig.switch(&co, 0);
}

#[test]
fn without_room_for_the_least_slots_a_start_fails() {
    if !succeeds_alone("without_room_for_the_least_slots_a_start_fails") {
        return;
    }
    let size = 64 << 20;
    let rig = Rig::new(Config { stack_size: size, least_stack_size: size, slots: 8, ..SMALL });
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
    if !succeeds_alone("without_room_for_the_scratch_stack_a_switch_fails_and_changes_nothing") {
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
