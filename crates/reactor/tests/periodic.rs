//! Periodic timers: moments on the wall clock. (That they follow it when it is set is tested where
//! the clock can be pretended to be: in `src/periodic.rs`.)

mod common;

use std::time::{SystemTime, UNIX_EPOCH};

use common::*;
use greenloop_reactor::Reactor;

type Names = Reactor<&'static str>;

const MILLI: i64 = 1_000_000;

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64
}

#[test]
fn a_moment_is_waited_for_and_told_once() {
    each_backend(|reactor: &mut Names| {
        let moment = now() + 20 * MILLI;
        let key = reactor.periodic_add(moment, 0, "once").unwrap();
        assert_eq!(reactor.periodic_count(), 1);
        assert_eq!(reactor.periodic_moment(key), Some(moment as u64));
        assert!(brief_now(reactor).is_empty());
        let fired = poll_until_fired(reactor);
        assert!(now() >= moment);
        assert_eq!(brief(reactor, &fired), ["periodic once"]);
        assert_eq!(reactor.periodic_moment(key), None);
        assert!(brief_now(reactor).is_empty());
        assert_eq!(reactor.periodic_remove(key), Some("once"));
        assert_eq!(reactor.periodic_remove(key), None);
        assert_eq!(reactor.periodic_data(key), None);
        assert_eq!(reactor.periodic_count(), 0);
    });
}

#[test]
fn a_moment_that_is_past_is_told_at_once() {
    each_backend(|reactor: &mut Names| {
        let key = reactor.periodic_add(0, 0, "past").unwrap();
        let fired = poll_until_fired(reactor);
        assert_eq!(brief(reactor, &fired), ["periodic past"]);
        assert_eq!(reactor.periodic_remove(key), Some("past"));
    });
}

#[test]
fn an_interval_falls_on_its_multiples() {
    each_backend(|reactor: &mut Names| {
        let interval = 10 * MILLI as u64;
        let key = reactor.periodic_add(3 * MILLI, interval, "every").unwrap();
        let mut before = 0;
        for _ in 0..3 {
            let moment = reactor.periodic_moment(key).unwrap();
            assert!(moment > before);
            assert_eq!(moment % interval, 3 * MILLI as u64);
            let fired = poll_until_fired(reactor);
            assert!(now() as u64 >= moment);
            assert_eq!(brief(reactor, &fired), ["periodic every"]);
            before = moment;
        }
        reactor.periodic_remove(key);
        let mut out = Vec::new();
        reactor.periodic_add(0, 0, "cleared").unwrap();
        reactor.clear(&mut out);
        assert_eq!(out, ["cleared"]);
        assert!(brief_now(reactor).is_empty());
    });
}

#[test]
fn an_earlier_moment_takes_precedence_and_a_removed_one_is_not_told() {
    each_backend(|reactor: &mut Names| {
        let far = now() + 3_600_000 * MILLI;
        reactor.periodic_add(far, 0, "far").unwrap();
        assert!(brief_now(reactor).is_empty());
        let near = now() + 5 * MILLI;
        let removed = reactor.periodic_add(near, 0, "removed").unwrap();
        reactor.periodic_add(near + 5 * MILLI, 0, "near").unwrap();
        assert!(brief_now(reactor).iter().all(|one| one == "periodic removed"));
        reactor.periodic_remove(removed);
        loop {
            let mut fired = Vec::new();
            reactor.poll(Some(HANG), &mut fired).unwrap();
            if !fired.is_empty() {
                assert_eq!(brief(reactor, &fired), ["periodic near"]);
                break;
            }
        }
    });
}
