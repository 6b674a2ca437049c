//! One-shot waits: when they fire and when they do not.

mod common;

use std::time::{Duration, Instant};

use common::*;
use greenloop_reactor::{Backend, Fired, Interest, Reactor};
use rustix::io::{Errno, dup2};

type Names = Reactor<&'static str>;

#[test]
fn a_wait_fires_once() {
    each_backend(|reactor: &mut Names| {
        let (reader, writer) = pipe();
        let key = reactor.wait_fd(raw(&reader), 1, READ, "a").unwrap();
        assert!(brief_now(reactor).is_empty());
        put(&writer);
        match poll_until_fired(reactor).as_slice() {
            [Fired::Wait { key: fired, data, .. }] => assert_eq!((*fired, *data), (key, "a")),
            other => panic!("{other:?}"),
        }
        assert!(brief_now(reactor).is_empty());
        assert_eq!(reactor.wait_cancel(key), None);
        assert_eq!(reactor.wait_count(), 0);
    });
}

#[test]
fn an_edge_that_found_no_waiter_does_not_keep_the_next_from_firing() {
    each_backend(|reactor: &mut Names| {
        let (reader, writer) = sockets();
        reactor.wait_fd(raw(&reader), 1, READ, "first").unwrap();
        put(&writer);
        assert_eq!(brief_now(reactor), ["wait first r"]);
        // Readiness comes, is reported to nobody, and is taken by a caller that tries first.
        put(&writer);
        assert!(brief_now(reactor).is_empty());
        empty(&reader);
        reactor.wait_fd(raw(&reader), 1, READ, "second").unwrap();
        assert!(brief_now(reactor).is_empty());
        put(&writer);
        assert_eq!(brief_now(reactor), ["wait second r"]);
    });
}

#[test]
fn readiness_between_the_attempt_and_the_wait_is_not_lost() {
    each_backend(|reactor: &mut Names| {
        let (reader, writer) = sockets();
        for round in 0..3 {
            empty(&reader);
            put(&writer);
            reactor.wait_fd(raw(&reader), 1, READ, "late").unwrap();
            assert_eq!(brief_now(reactor), ["wait late r"], "round {round}");
        }
    });
}

#[test]
fn each_direction_fires_its_own_waiters_in_order() {
    each_backend(|reactor: &mut Names| {
        let (here, there) = sockets();
        fill(&here);
        for (interest, name) in
            [(READ, "r1"), (WRITE, "w1"), (READ, "r2"), (READ | WRITE, "both"), (WRITE, "w2")]
        {
            reactor.wait_fd(raw(&here), 1, interest, name).unwrap();
        }
        assert!(brief_now(reactor).is_empty());
        put(&there);
        assert_eq!(brief_now(reactor), ["wait r1 r", "wait r2 r", "wait both r"]);
        assert!(!reactor.has_waiter(raw(&here), READ));
        empty(&there);
        assert_eq!(brief_now(reactor), ["wait w1 w", "wait w2 w"]);
    });
}

#[test]
fn a_cancelled_wait_does_not_fire_and_leaves_the_others() {
    each_backend(|reactor: &mut Names| {
        let (reader, writer) = pipe();
        let keys =
            ["a", "b", "c"].map(|name| reactor.wait_fd(raw(&reader), 1, READ, name).unwrap());
        assert_eq!(reactor.wait_cancel(keys[1]), Some("b"));
        assert_eq!(reactor.wait_cancel(keys[1]), None);
        put(&writer);
        assert_eq!(brief_now(reactor), ["wait a r", "wait c r"]);
    });
}

#[test]
fn has_waiter_is_about_one_shot_waits_of_that_direction() {
    each_backend(|reactor: &mut Names| {
        let (here, _there) = sockets();
        let fd = raw(&here);
        reactor.watch(fd, WRITE, "watch").unwrap();
        assert!(!reactor.has_waiter(fd, READ | WRITE));
        let key = reactor.wait_fd(fd, 1, READ, "wait").unwrap();
        assert!(reactor.has_waiter(fd, READ) && reactor.has_waiter(fd, READ | WRITE));
        assert!(!reactor.has_waiter(fd, WRITE));
        reactor.wait_cancel(key);
        assert!(!reactor.has_waiter(fd, READ));
        assert!(!reactor.has_waiter(-1, READ) && !reactor.has_waiter(i32::MAX, READ));
    });
}

#[test]
fn numbers_that_are_not_open_are_refused() {
    each_backend(|reactor: &mut Names| {
        for fd in [-1, i32::MIN, i32::MAX, 1_000_000] {
            for owner in [0, 1] {
                let refused = errno(reactor.wait_fd(fd, owner, READ, "x"));
                assert_eq!(refused, Some(Errno::BADF));
            }
            assert_eq!(errno(reactor.watch(fd, READ, "x")), Some(Errno::BADF));
            reactor.forget_fd(fd, &mut Vec::new());
        }
        let (reader, _writer) = pipe();
        let nothing = Interest::default();
        let refused = errno(reactor.wait_fd(raw(&reader), 1, nothing, "x"));
        assert_eq!(refused, Some(Errno::INVAL));
        assert_eq!(errno(reactor.watch(raw(&reader), nothing, "x")), Some(Errno::INVAL));
        assert_eq!((reactor.wait_count(), reactor.watch_count()), (0, 0));
    });
}

#[test]
fn a_refused_empty_interest_is_refused_on_a_kept_registration_too() {
    each_backend(|reactor: &mut Names| {
        let (reader, _writer) = pipe();
        reactor.wait_fd(raw(&reader), 1, READ, "a").unwrap();
        let refused = errno(reactor.wait_fd(raw(&reader), 1, Interest::default(), "x"));
        assert_eq!(refused, Some(Errno::INVAL));
    });
}

#[test]
fn a_wait_without_owner_fires_for_what_is_ready_already() {
    each_backend(|reactor: &mut Names| {
        let (reader, writer) = pipe();
        put(&writer);
        for _ in 0..3 {
            reactor.wait_fd(raw(&reader), 0, READ, "level").unwrap();
            assert_eq!(brief_now(reactor), ["wait level r"]);
        }
        assert!(brief_now(reactor).is_empty());
    });
}

#[test]
fn waits_with_and_without_owner_share_a_descriptor() {
    each_backend(|reactor: &mut Names| {
        let (here, there) = sockets();
        let fd = raw(&here);
        reactor.wait_fd(fd, 1, READ, "owner").unwrap();
        reactor.wait_fd(fd, 0, WRITE, "anyone").unwrap();
        assert_eq!(brief_now(reactor), ["wait anyone w"]);
        assert!(brief_now(reactor).is_empty());
        put(&there);
        assert_eq!(brief_now(reactor), ["wait owner r"]);
        // Data that is left lying is no reason to fire an owner's wait, but it is for the other.
        empty(&here);
        reactor.wait_fd(fd, 1, READ, "owner").unwrap();
        let key = reactor.wait_fd(fd, 0, READ, "anyone").unwrap();
        assert!(brief_now(reactor).is_empty());
        assert_eq!(reactor.wait_cancel(key), Some("anyone"));
        put(&there);
        assert_eq!(brief_now(reactor), ["wait owner r"]);
    });
}

#[test]
fn files_that_never_block_are_always_ready() {
    each_backend(|reactor: &mut Names| {
        let directory = std::env::temp_dir();
        let file = rustix::fs::open(
            &directory,
            rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::RUSR,
        )
        .unwrap();
        let fd = raw(&file);
        let start = Instant::now();
        for owner in [0, 1] {
            for _ in 0..2 {
                let cancelled = reactor.wait_fd(fd, owner, READ, "no").unwrap();
                reactor.wait_fd(fd, owner, READ, "r").unwrap();
                reactor.wait_fd(fd, owner, WRITE, "w").unwrap();
                assert_eq!(reactor.wait_cancel(cancelled), Some("no"));
                let fired = poll_until_fired(reactor);
                assert_eq!(brief(reactor, &fired), ["wait r r", "wait w w"]);
                assert!(brief_now(reactor).is_empty());
            }
        }
        let watch = reactor.watch(fd, READ, "watch").unwrap();
        for _ in 0..2 {
            let fired = poll_until_fired(reactor);
            assert_eq!(brief(reactor, &fired), ["watch watch r"]);
        }
        assert_eq!(reactor.unwatch(watch), Some("watch"));
        assert!(start.elapsed() < HANG);

        // The number passes to a pipe, and must now wait like one.
        let (reader, writer) = pipe();
        let mut number = file;
        dup2(&reader, &mut number).unwrap();
        reactor.wait_fd(fd, 0, READ, "pipe").unwrap();
        assert!(brief_now(reactor).is_empty());
        put(&writer);
        assert_eq!(brief_now(reactor), ["wait pipe r"]);
    });
}

#[test]
fn hang_up_and_error_wake_whoever_waits() {
    each_backend(|reactor: &mut Names| {
        let (here, there) = sockets();
        fill(&here);
        reactor.wait_fd(raw(&here), 1, READ, "reader").unwrap();
        reactor.wait_fd(raw(&here), 1, WRITE, "writer").unwrap();
        drop(there);
        let fired = brief_now(reactor);
        assert_eq!(fired.len(), 2);
        assert!(fired[0].starts_with("wait reader r") && fired[0].ends_with('h'));
        assert!(fired[1].starts_with("wait writer w") && fired[1].ends_with('h'));

        let (reader, writer) = pipe();
        fill(&writer);
        reactor.wait_fd(raw(&writer), 2, WRITE, "broken").unwrap();
        drop(reader);
        assert_eq!(brief_now(reactor), ["wait broken we"]);
    });
}

#[test]
fn a_kept_registration_does_not_keep_the_loop_busy() {
    each_backend(|reactor: &mut Names| {
        let (here, there) = sockets();
        reactor.wait_fd(raw(&here), 1, READ, "wait").unwrap();
        put(&there);
        assert_eq!(brief_now(reactor), ["wait wait r"]);
        // There is data to read and room to write, but nobody waits for either; nor for the
        // hang-up, once its edge has passed.
        for hang_up in [None, Some(there)] {
            if hang_up.is_some() {
                drop(hang_up);
                assert!(brief_now(reactor).is_empty());
            }
            let timeout = Duration::from_millis(20);
            let start = Instant::now();
            let mut fired = Vec::new();
            reactor.poll(Some(timeout), &mut fired).unwrap();
            assert!(fired.is_empty() && start.elapsed() >= timeout);
        }
    });
}

#[test]
fn a_thousand_descriptors() {
    each_backend(|reactor: &mut Reactor<usize>| {
        let pairs: Vec<_> = (0..1000).map(|_| sockets()).collect();
        for round in 0..3 {
            for (number, (here, _)) in pairs.iter().enumerate() {
                reactor.wait_fd(raw(here), number as u64 + 1, READ, number).unwrap();
            }
            assert_eq!(reactor.wait_count(), 1000);
            let chosen = |number: &usize| number % 3 == round;
            for (_, there) in pairs.iter().enumerate().filter(|(n, _)| chosen(n)).map(|p| p.1) {
                put(there);
            }
            let start = Instant::now();
            let mut seen = Vec::new();
            while seen.len() < (0..1000).filter(chosen).count() {
                assert!(start.elapsed() < HANG);
                seen.extend(poll_now(reactor).into_iter().map(|fired| match fired {
                    Fired::Wait { data, .. } => data,
                    other => panic!("{other:?}"),
                }));
            }
            seen.sort_unstable();
            assert!(seen.iter().copied().eq((0..1000).filter(chosen)));
            for (here, _) in &pairs {
                empty(here);
            }
            let mut left = Vec::new();
            for (here, _) in &pairs {
                reactor.forget_fd(raw(here), &mut left);
            }
            assert_eq!(left.len() + seen.len(), 1000);
        }
    });
}

#[test]
fn drain_and_clear_hand_back_every_payload() {
    each_backend(|reactor: &mut Names| {
        let (here, there) = sockets();
        let fd = raw(&here);
        let wait = reactor.wait_fd(fd, 1, READ, "wait").unwrap();
        reactor.wait_fd(fd, 2, READ, "other").unwrap();
        let watch = reactor.watch(fd, READ, "watch").unwrap();
        let timer = reactor.timer_add(0, "timer");
        let signal = reactor.signal_add(10, "signal").unwrap();
        let mut out = Vec::new();
        reactor.clear(&mut out);
        out.sort_unstable();
        assert_eq!(out, ["other", "signal", "timer", "wait", "watch"]);
        assert_eq!(reactor.wait_cancel(wait), None);
        assert_eq!(reactor.unwatch(watch), None);
        assert_eq!(reactor.timer_remove(timer), None);
        assert_eq!(reactor.signal_remove(signal), None);
        put(&there);
        assert!(brief_now(reactor).is_empty());
        // And it can be used again.
        reactor.wait_fd(fd, 1, WRITE, "again").unwrap();
        assert_eq!(brief_now(reactor), ["wait again w"]);
    });
    let mut reactor = Names::new(Backend::Auto).unwrap();
    reactor.timer_add(u64::MAX, "never");
    assert_eq!(reactor.drain(), ["never"]);
}
