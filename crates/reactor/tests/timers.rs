//! Timers: order, removal, and their part in the length of a poll.

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::*;
use greenloop_reactor::{Backend, Fired, Reactor, TimerKey, monotonic_ns};
use proptest::prelude::*;

#[test]
fn timers_expire_by_deadline_and_then_by_age() {
    each_backend(|reactor: &mut Reactor<&'static str>| {
        for (deadline, name) in [(30, "d"), (10, "a"), (20, "b"), (20, "c"), (10, "a2")] {
            reactor.timer_add(deadline, name);
        }
        assert_eq!(reactor.next_deadline(), Some(10));
        assert_eq!(reactor.timer_count(), 5);
        assert!(reactor.pop_expired(9).is_none());
        assert_eq!(reactor.pop_expired(10).unwrap().1, "a");
        assert_eq!(brief_now(reactor), ["timer a2", "timer b", "timer c", "timer d"]);
        assert_eq!(reactor.next_deadline(), None);
    });
}

#[test]
fn a_stale_key_is_harmless() {
    let mut reactor = Reactor::new(Backend::Auto).unwrap();
    let old = reactor.timer_add(1, "old");
    assert_eq!(reactor.timer_deadline(old), Some(1));
    assert_eq!(reactor.timer_remove(old), Some("old"));
    let new = reactor.timer_add(2, "new");
    assert_ne!(old, new);
    assert_eq!(reactor.timer_remove(old), None);
    assert_eq!(reactor.timer_deadline(old), None);
    assert_eq!(reactor.pop_expired(2), Some((new, "new")));
    assert_eq!(reactor.timer_remove(new), None);
}

#[test]
fn a_poll_lasts_until_the_next_deadline_and_not_less() {
    each_backend(|reactor: &mut Reactor<&'static str>| {
        for micros in [200, 1_500, 20_000] {
            let deadline = monotonic_ns() + micros * 1_000;
            reactor.timer_add(deadline, "timer");
            let mut fired = Vec::new();
            let start = Instant::now();
            while fired.is_empty() {
                assert!(start.elapsed() < HANG);
                reactor.poll(None, &mut fired).unwrap();
            }
            assert!(monotonic_ns() >= deadline);
            assert!(reactor.now() >= deadline);
            assert_eq!(brief(reactor, &fired), ["timer timer"]);
        }
    });
}

/// A timed wait that finds its timer costs one poll, not one that is a little short and another.
#[test]
fn one_poll_is_enough_for_a_timer() {
    each_backend(|reactor: &mut Reactor<&'static str>| {
        for micros in 1..50 {
            reactor.timer_add(monotonic_ns() + micros * 10_000 + 1, "timer");
            let mut fired = Vec::new();
            let polled = reactor.poll(None, &mut fired).unwrap();
            assert!(polled.interrupted || fired.len() == 1);
        }
    });
}

#[test]
fn a_timeout_that_is_shorter_than_the_next_timer_ends_the_poll() {
    each_backend(|reactor: &mut Reactor<&'static str>| {
        let timer = reactor.timer_add(u64::MAX, "never");
        let timeout = Duration::from_millis(5);
        let start = Instant::now();
        let mut fired = Vec::new();
        reactor.poll(Some(timeout), &mut fired).unwrap();
        assert!(fired.is_empty());
        assert!(start.elapsed() >= timeout && start.elapsed() < HANG);
        assert_eq!(reactor.timer_deadline(timer), Some(u64::MAX));
    });
}

#[test]
fn the_longest_duration_is_a_valid_timeout() {
    each_backend(|reactor: &mut Reactor<&'static str>| {
        reactor.waker().wake();
        let mut fired = Vec::new();
        reactor.poll(Some(Duration::MAX), &mut fired).unwrap();
        assert_eq!(brief(reactor, &fired), ["woken"]);
    });
}

#[test]
fn expired_timers_come_after_descriptors_and_even_with_a_timeout_of_zero() {
    each_backend(|reactor: &mut Reactor<&'static str>| {
        let (reader, writer) = pipe();
        reactor.timer_add(0, "timer");
        reactor.wait_fd(raw(&reader), 1, READ, "wait").unwrap();
        put(&writer);
        assert_eq!(brief_now(reactor), ["wait wait r", "timer timer"]);
    });
}

#[test]
fn the_clock_is_read_by_polls_and_on_demand() {
    let mut reactor: Reactor<()> = Reactor::new(Backend::Auto).unwrap();
    let made = reactor.now();
    let updated = reactor.update_now();
    assert!(updated >= made && reactor.now() == updated);
    reactor.poll(Some(Duration::from_millis(1)), &mut Vec::new()).unwrap();
    assert!(reactor.now() >= updated + 1_000_000);
}

#[derive(Clone, Debug)]
enum Step {
    Add(u64),
    /// Of all timers ever added, so that stale keys are tried too.
    Remove(prop::sample::Index),
    Pop(u64),
}

fn step() -> impl Strategy<Value = Step> {
    // Few deadlines, for many ties.
    prop_oneof![
        4 => (0_u64..20).prop_map(Step::Add),
        2 => any::<prop::sample::Index>().prop_map(Step::Remove),
        1 => (0_u64..25).prop_map(Step::Pop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn timers_behave_like_a_sorted_map(steps in prop::collection::vec(step(), 1..300)) {
        let mut reactor: Reactor<usize> = Reactor::new(Backend::Poll).unwrap();
        let mut model: BTreeMap<(u64, usize), TimerKey> = BTreeMap::new();
        let mut added: Vec<(u64, TimerKey)> = Vec::new();
        for step in steps {
            match step {
                Step::Add(deadline) => {
                    let age = added.len();
                    let key = reactor.timer_add(deadline, age);
                    added.push((deadline, key));
                    model.insert((deadline, age), key);
                }
                Step::Remove(index) if !added.is_empty() => {
                    let age = index.index(added.len());
                    let (deadline, key) = added[age];
                    let expected = model.remove(&(deadline, age)).map(|_| age);
                    let listed = reactor.timer_deadline(key);
                    prop_assert_eq!(listed, expected.map(|_| deadline));
                    prop_assert_eq!(reactor.timer_remove(key), expected);
                }
                Step::Remove(_) => {}
                Step::Pop(now) => {
                    let first = model.first_key_value().map(|(&at, &key)| (at, key));
                    let expected = first.filter(|((deadline, _), _)| *deadline <= now);
                    if let Some((at, _)) = expected {
                        model.remove(&at);
                    }
                    let expected = expected.map(|((_, age), key)| (key, age));
                    prop_assert_eq!(reactor.pop_expired(now), expected);
                }
            }
            prop_assert_eq!(reactor.timer_count(), model.len());
            let earliest = model.keys().next().map(|&(deadline, _)| deadline);
            prop_assert_eq!(reactor.next_deadline(), earliest);
        }
        let mut fired = Vec::new();
        reactor.poll(Some(Duration::ZERO), &mut fired).unwrap();
        let fired: Vec<_> = fired
            .into_iter()
            .map(|one| match one {
                Fired::Timer { key, data } => (key, data),
                other => panic!("{other:?}"),
            })
            .collect();
        let rest: Vec<_> = model.into_iter().map(|((_, age), key)| (key, age)).collect();
        prop_assert_eq!(fired, rest);
    }
}
