//! Coroutines that share slots: eviction, restoring, giving up.

mod common;

use common::{Co, Rig, SMALL, mix};
use greenloop_stack::Config;
use std::hint::black_box;
use std::rc::Rc;

/// A coroutine that keeps a pattern on its stack, and checks it each time it is resumed with 0.
/// Resumed with anything else it ends, and gives that to main.
fn keeper(seed: u64) -> Rc<Co> {
    Co::new(move |rig, _| {
        let mut words = [0_u64; 64];
        for (index, word) in words.iter_mut().enumerate() {
            *word = mix(seed, index as u64);
        }
        black_box(&words);
        let address = (&raw const words) as usize;
        let mut arg = rig.to_main(address);
        while arg == 0 {
            for (index, word) in words.iter().enumerate() {
                assert_eq!(*word, mix(seed, index as u64));
            }
            arg = rig.to_main((&raw const words) as usize);
        }
        for (index, word) in words.iter().enumerate() {
            assert_eq!(*word, mix(seed, index as u64));
        }
        (rig.main(), arg)
    })
}

fn slot_count(rig: &Rig) -> usize {
    rig.arena().mapped_slots()
}

#[test]
fn many_coroutines_live_in_few_slots_at_fixed_addresses() {
    let rig = Rig::new(SMALL);
    let all: Vec<_> = (0..200).map(keeper).collect();
    let addresses: Vec<_> = all.iter().map(|co| rig.switch(co, 0)).collect();
    assert_eq!(slot_count(&rig), 4);
    assert_eq!(all.iter().filter(|co| co.co.is_evicted()).count(), 196);
    for round in 0..5 {
        let backwards = round % 2 == 1;
        for index in 0..all.len() {
            let index = if backwards { all.len() - 1 - index } else { index };
            assert_eq!(rig.switch(&all[index], 0), addresses[index]);
            assert!(!all[index].co.is_evicted());
        }
    }
    for co in &all {
        assert_eq!(rig.switch(co, 5), 5);
        assert!(!co.co.has_home() && !co.co.is_evicted());
        assert_eq!(co.co.copied_bytes(), 0);
    }
    assert_eq!(slot_count(&rig), 4);
}

#[test]
fn the_hooks_are_told_of_every_move() {
    let rig = Rig::new(SMALL);
    let all: Vec<_> = (0..5).map(keeper).collect();
    for co in &all {
        rig.switch(co, 0);
    }
    let evicted = all.iter().find(|co| co.co.is_evicted()).expect("five in four slots");
    let moves = evicted.moves.borrow().clone();
    let [out] = moves[..] else { panic!("moved once: {moves:?}") };
    assert!(out.out);
    assert_eq!(out.high, evicted.middle() as usize);
    assert_eq!(out.low, evicted.co.sp() as usize);
    assert_eq!(out.high - out.low, evicted.co.copied_bytes());
    assert_eq!(out.shift, evicted.co.copy_shift());
    // The pattern, a few frames, no more.
    assert!((512..4096).contains(&evicted.co.copied_bytes()));

    rig.switch(evicted, 0);
    let moves = evicted.moves.borrow().clone();
    assert_eq!(moves.len(), 2);
    assert_eq!(moves[1], common::Move { out: false, ..out });
}

#[test]
fn the_data_area_travels_with_the_stack() {
    let rig = Rig::new(SMALL);
    let fill = |co: &Co, seed: u64, words: usize| {
        let base = co.middle().cast::<u64>();
        for index in 0..words {
            // SAFETY: the data area is at least 16 KiB, and aligned.
            unsafe { base.add(index).write(mix(seed, index as u64)) };
        }
        co.used.set(words * 8);
    };
    let check = |co: &Co, seed: u64| {
        let base = co.middle().cast::<u64>();
        for index in 0..co.used.get() / 8 {
            // SAFETY: as above.
            assert_eq!(unsafe { base.add(index).read() }, mix(seed, index as u64));
        }
    };
    let all: Vec<_> = (0..20_u64)
        .map(|seed| {
            Co::new(move |rig, _| {
                let me = rig.running();
                for round in 0..4 {
                    fill(&me, seed + round, (seed as usize * 97 + round as usize * 31) % 2048);
                    rig.to_main(0);
                    check(&me, seed + round);
                }
                (rig.main(), 1)
            })
        })
        .collect();
    for round in 0..5 {
        for co in &all {
            assert_eq!(rig.switch(co, 0), usize::from(round == 4));
        }
    }
}

/// Two coroutines with the same home, the second one resident: the first is evicted.
fn two_in_one_slot(rig: &Rig, all: &mut Vec<Rc<Co>>) -> (Rc<Co>, Rc<Co>) {
    loop {
        let co = keeper(all.len() as u64);
        rig.switch(&co, 0);
        let middle = co.middle();
        let other = all.iter().find(|other| other.co.is_evicted() && other.middle() == middle);
        if let Some(other) = other.cloned() {
            all.push(Rc::clone(&co));
            return (other, co);
        }
        all.push(co);
    }
}

#[test]
fn one_switches_to_another_whose_home_it_runs_in() {
    let rig = Rig::new(SMALL);
    let mut all = Vec::new();
    let (evicted, _) = two_in_one_slot(&rig, &mut all);
    // A fresh one in the same home, which goes straight to the evicted one.
    let target = Rc::clone(&evicted);
    let mut hoppers = Vec::new();
    let hopper = loop {
        let target = Rc::clone(&target);
        let hopper = Co::new(move |rig, _| {
            let words = black_box([3_u64; 40]);
            for _ in 0..3 {
                let arg = rig.to_main(1);
                assert_eq!(arg, 7);
                // Comes back by main: the target parks there.
                assert_eq!(rig.switch(&target, 0), 9);
                assert_eq!(words, [3; 40]);
            }
            (target, 0)
        });
        assert_eq!(rig.switch(&hopper, 0), 1);
        if hopper.middle() == evicted.middle() {
            break hopper;
        }
        hoppers.push(hopper);
    };
    assert!(evicted.co.is_evicted());
    for _ in 0..3 {
        // The hopper runs, evicts itself for the target, and is evicted when main resumes it.
        let address = rig.switch(&hopper, 7);
        assert!(hopper.co.is_evicted() && !evicted.co.is_evicted());
        assert!(address < evicted.middle() as usize);
        let before = hopper.moves.borrow().len();
        let parked = rig.switch(&hopper, 9);
        assert_eq!(hopper.moves.borrow().len(), before + 1);
        // The last round ends the hopper: on the scratch stack again, its own stack not kept.
        if parked == 1 {
            assert!(!hopper.co.is_evicted() && evicted.co.is_evicted());
        }
    }
    assert!(!hopper.co.has_home());
    assert!(!evicted.co.is_evicted());
    assert_eq!(rig.switch(&evicted, 6), 6);
    for co in all.iter().chain(&hoppers) {
        rig.release(co);
    }
}

#[test]
fn a_finished_one_goes_on_with_another_whose_home_it_was() {
    let rig = Rig::new(SMALL);
    let mut all = Vec::new();
    for _ in 0..10 {
        let (evicted, resident) = two_in_one_slot(&rig, &mut all);
        // The resident one ends; the evicted one is restored over the stack that it ended on.
        let target = Rc::clone(&evicted);
        let ender = Co::new(move |_, _| (target, 0));
        assert_eq!(rig.switch(&resident, 5), 5);
        // The slot that was just left is the first to be given again.
        let address = rig.switch(&ender, 0);
        assert_eq!(ender.middle(), evicted.middle());
        assert!(!ender.co.has_home() && !evicted.co.is_evicted());
        assert!(address < evicted.middle() as usize);
        all.retain(|co| co.co.has_home());
        all.push(ender);
    }
    for co in all.iter().filter(|co| co.co.has_home()) {
        assert_eq!(rig.switch(co, 4), 4);
    }
}

#[test]
fn a_pinned_coroutine_makes_no_room_for_others() {
    let rig = Rig::new(SMALL);
    let pinned = keeper(99);
    let address = rig.switch(&pinned, 0);
    rig.arena().pin(&pinned.co);
    let all: Vec<_> = (0..50).map(keeper).collect();
    for _ in 0..3 {
        for co in &all {
            rig.switch(co, 0);
            assert!(!pinned.co.is_evicted());
        }
        assert_eq!(rig.switch(&pinned, 0), address);
    }
    assert!(pinned.moves.borrow().is_empty());
    // Its end frees the slot for good: another one there is not pinned.
    assert_eq!(rig.switch(&pinned, 8), 8);
    let heir = keeper(98);
    rig.switch(&heir, 0);
    assert_eq!(heir.middle(), pinned.middle());
    let more: Vec<_> = (100..110).map(keeper).collect();
    for co in &more {
        rig.switch(co, 0);
    }
    assert!(heir.co.is_evicted());
}

#[test]
fn pinning_one_without_a_home_does_nothing() {
    let rig = Rig::new(SMALL);
    let co = keeper(0);
    rig.arena().pin(&co.co);
    rig.arena().pin(&rig.main().co);
    rig.switch(&co, 0);
    let all: Vec<_> = (1..9).map(keeper).collect();
    for co in &all {
        rig.switch(co, 0);
    }
    assert!(co.co.is_evicted());
}

#[test]
fn a_pin_ends_with_whom_it_was_for_wherever_that_is() {
    let rig = Rig::new(SMALL);
    let first = keeper(0);
    rig.switch(&first, 0);
    let mut others = vec![Rc::clone(&first)];
    // The first goes, another one comes into its home and is pinned, and goes for the first.
    let pinned = loop {
        let co = keeper(others.len() as u64);
        rig.switch(&co, 0);
        if co.middle() == first.middle() {
            break co;
        }
        others.push(co);
    };
    rig.arena().pin(&pinned.co);
    rig.switch(&first, 0);
    assert!(pinned.co.is_evicted());
    rig.release(&pinned);
    let all: Vec<_> = (100..110).map(keeper).collect();
    for co in &all {
        rig.switch(co, 0);
    }
    assert!(first.co.is_evicted());
}

#[test]
fn unpinning_one_leaves_another_s_pin() {
    let rig = Rig::new(SMALL);
    let mut all = Vec::new();
    let (a, b) = two_in_one_slot(&rig, &mut all);
    let (here, away) = if a.co.is_evicted() { (b, a) } else { (a, b) };
    rig.arena().pin(&here.co);
    rig.arena().unpin(&away.co);
    let more: Vec<_> = (200..210).map(keeper).collect();
    for co in &more {
        rig.switch(co, 0);
    }
    assert!(!here.co.is_evicted());
    rig.arena().unpin(&here.co);
    let more: Vec<_> = (300..310).map(keeper).collect();
    for co in &more {
        rig.switch(co, 0);
    }
    assert!(here.co.is_evicted());
}

#[test]
fn when_every_slot_is_pinned_the_next_start_fails() {
    let rig = Rig::new(SMALL);
    let all: Vec<_> = (0..4).map(keeper).collect();
    for co in &all {
        rig.switch(co, 0);
        rig.arena().pin(&co.co);
    }
    let one_more = keeper(5);
    let error = rig.settle(&one_more).expect_err("no slot can be emptied");
    assert_eq!(error.kind(), std::io::ErrorKind::OutOfMemory);
    assert!(!one_more.co.has_home());
    assert_eq!(rig.switch(&all[2], 3), 3);
    rig.switch(&one_more, 0);
    assert_eq!(one_more.middle(), all[2].middle());
}

#[test]
fn coroutines_are_given_up_in_every_state() {
    let rig = Rig::new(SMALL);
    let homeless = keeper(0);
    rig.release(&homeless);
    assert!(!homeless.co.has_home());

    let unstarted = keeper(1);
    let middle = rig.settle(&unstarted).expect("a slot").middle;
    rig.release(&unstarted);
    assert!(!unstarted.co.has_home());
    rig.release(&unstarted);

    let resident = keeper(2);
    rig.switch(&resident, 0);
    assert_eq!(resident.middle(), middle);
    rig.release(&resident);
    assert!(!resident.co.has_home());

    let all: Vec<_> = (3..30).map(keeper).collect();
    for co in &all {
        rig.switch(co, 0);
    }
    let (evicted, here): (Vec<_>, Vec<_>) = all.iter().partition(|co| co.co.is_evicted());
    for co in evicted {
        rig.release(co);
        assert!(!co.co.is_evicted() && !co.co.has_home());
        assert_eq!(co.co.copied_bytes(), 0);
    }
    for co in here {
        assert_eq!(rig.switch(co, 1), 1);
    }
}

#[test]
fn one_that_was_evicted_before_it_ran_starts_all_the_same() {
    let rig = Rig::new(SMALL);
    let first = keeper(1);
    rig.settle(&first).expect("a slot");
    let all: Vec<_> = (2..10).map(keeper).collect();
    for co in &all {
        rig.switch(co, 0);
    }
    assert!(first.co.is_evicted());
    let address = rig.switch(&first, 0);
    assert!(address < first.middle() as usize);
    assert_eq!(rig.switch(&first, 2), 2);
}

#[test]
fn a_free_slot_that_got_its_evicted_owner_back_is_not_given_away() {
    let rig = Rig::new(SMALL);
    let mut all = Vec::new();
    let (evicted, resident) = two_in_one_slot(&rig, &mut all);
    // The resident one ends: the slot is on the free list. The evicted one comes back to it.
    assert_eq!(rig.switch(&resident, 5), 5);
    let address = rig.switch(&evicted, 0);
    // Fresh ones must go elsewhere as long as they can, and evict, not overwrite, what is there.
    let fresh: Vec<_> = (50..60).map(keeper).collect();
    rig.switch(&fresh[0], 0);
    assert_ne!(fresh[0].middle(), evicted.middle());
    for co in &fresh[1..] {
        rig.switch(co, 0);
    }
    assert_eq!(rig.switch(&evicted, 0), address);
    // It ends, and its slot is free again, once.
    assert_eq!(rig.switch(&evicted, 5), 5);
    let (one, two) = (keeper(70), keeper(71));
    rig.switch(&one, 0);
    rig.switch(&two, 0);
    assert_eq!(one.middle(), evicted.middle());
    assert_ne!(two.middle(), evicted.middle());
    for co in fresh.iter().chain([&one, &two]) {
        assert_eq!(rig.switch(co, 9), 9);
    }
}

#[test]
fn the_running_slot_is_never_given_away() {
    let rig = Rig::new(SMALL);
    let starter = Co::new(|rig, _| {
        let words = black_box([0xABCD_u64; 100]);
        let me = rig.running();
        let fresh: Vec<_> = (0..30).map(keeper).collect();
        for co in &fresh {
            let home = rig.settle(co).expect("a slot");
            assert_ne!(home.middle, me.middle());
            assert!(!me.co.is_evicted());
        }
        assert_eq!(words, [0xABCD; 100]);
        for co in &fresh {
            rig.release(co);
        }
        (rig.main(), 1)
    });
    assert_eq!(rig.switch(&starter, 0), 1);
}

#[test]
fn slots_are_mapped_as_they_are_wanted() {
    let rig = Rig::new(Config { slots: 10, ..SMALL });
    assert_eq!(slot_count(&rig), 0);
    let all: Vec<_> = (0..20).map(keeper).collect();
    for (index, co) in all.iter().enumerate() {
        rig.switch(co, 0);
        assert_eq!(slot_count(&rig), (index + 1).min(10));
    }
    for co in &all {
        rig.switch(co, 1);
    }
    assert_eq!(slot_count(&rig), 10);
}
