//! Descriptors that do not live as long as the waits on them: closed, duplicated, their numbers
//! used again, forgotten.

mod common;

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use common::*;
use greenloop_reactor::{Backend, Reactor};
use rustix::io::{Errno, dup, dup2};

type Names = Reactor<&'static str>;

/// Closes `old` and makes its number stand for `new`'s file, as when the kernel reuses it.
fn reuse(mut old: OwnedFd, new: OwnedFd) -> OwnedFd {
    dup2(&new, &mut old).unwrap();
    old
}

#[test]
fn a_new_owner_of_the_number_orphans_the_old_owners_waits() {
    for keep_a_duplicate in [false, true] {
        each_backend(|reactor: &mut Names| {
            let (old, old_writer) = pipe();
            let duplicate = keep_a_duplicate.then(|| dup(&old).unwrap());
            reactor.wait_fd(raw(&old), 1, READ, "old 1").unwrap();
            reactor.wait_fd(raw(&old), 1, READ, "old 2").unwrap();
            let (new, new_writer) = pipe();
            let number = reuse(old, new);
            reactor.wait_fd(raw(&number), 2, READ, "new").unwrap();
            assert_eq!(brief_now(reactor), ["wait old 1 re", "wait old 2 re"]);
            if duplicate.is_some() {
                put(&old_writer);
                assert!(brief_now(reactor).is_empty(), "that file is none of its");
            }
            put(&new_writer);
            assert_eq!(brief_now(reactor), ["wait new r"]);
        });
    }
}

#[test]
fn a_new_owner_of_the_same_file_takes_over_its_registration() {
    each_backend(|reactor: &mut Names| {
        let (reader, writer) = pipe();
        reactor.wait_fd(raw(&reader), 1, READ, "old").unwrap();
        reactor.wait_fd(raw(&reader), 2, READ, "new").unwrap();
        assert_eq!(brief_now(reactor), ["wait old re"]);
        put(&writer);
        assert_eq!(brief_now(reactor), ["wait new r"]);
    });
}

#[test]
fn an_orphan_can_be_cancelled_before_it_is_reported() {
    each_backend(|reactor: &mut Names| {
        let (reader, writer) = pipe();
        let old = reactor.wait_fd(raw(&reader), 1, READ, "old").unwrap();
        reactor.wait_fd(raw(&reader), 2, READ, "new").unwrap();
        assert_eq!(reactor.wait_count(), 2);
        assert_eq!(reactor.wait_cancel(old), Some("old"));
        assert!(brief_now(reactor).is_empty());
        put(&writer);
        assert_eq!(brief_now(reactor), ["wait new r"]);
    });
}

/// epoll alone can tell: with poll the registration follows the number.
#[test]
fn a_wait_without_owner_finds_out_that_the_number_was_reused() {
    let _turn = one_at_a_time();
    let mut reactor = Names::new(Backend::Epoll).unwrap();
    let (old, _old_writer) = pipe();
    reactor.wait_fd(raw(&old), 1, READ, "old").unwrap();
    let (new, new_writer) = pipe();
    let number = reuse(old, new);
    reactor.wait_fd(raw(&number), 0, READ, "new").unwrap();
    assert_eq!(brief_now(&mut reactor), ["wait old re"]);
    put(&new_writer);
    assert_eq!(brief_now(&mut reactor), ["wait new r"]);
}

#[test]
fn a_number_found_closed_ends_the_waits_on_it() {
    each_backend(|reactor: &mut Names| {
        let (old, _old_writer) = pipe();
        let fd = raw(&old);
        reactor.wait_fd(fd, 1, READ, "old").unwrap();
        reactor.watch(fd, READ, "watch").unwrap();
        drop(old);
        assert_eq!(errno(reactor.wait_fd(fd, 2, READ, "new")), Some(Errno::BADF));
        assert_eq!(brief_now(reactor), ["wait old re", "watch watch re"]);
        assert!(brief_now(reactor).is_empty());
        assert_eq!((reactor.wait_count(), reactor.watch_count()), (0, 0));
    });
}

#[test]
fn poll_reports_a_number_closed_behind_its_back() {
    let _turn = one_at_a_time();
    let mut reactor = Names::new(Backend::Poll).unwrap();
    let (reader, _writer) = pipe();
    let fd = raw(&reader);
    reactor.wait_fd(fd, 1, READ, "wait").unwrap();
    let watch = reactor.watch(fd, WRITE, "watch").unwrap();
    drop(reader);
    assert_eq!(brief_now(&mut reactor), ["wait wait re", "watch watch we"]);
    assert!(brief_now(&mut reactor).is_empty());
    assert_eq!(reactor.unwatch(watch), Some("watch"));
}

#[test]
fn forgetting_hands_back_every_user_and_frees_the_number() {
    each_backend(|reactor: &mut Names| {
        let (reader, writer) = pipe();
        let fd = raw(&reader);
        let duplicate = dup(&reader).unwrap();
        let wait = reactor.wait_fd(fd, 1, READ, "owner").unwrap();
        reactor.wait_fd(fd, 0, READ, "anyone").unwrap();
        let watch = reactor.watch(fd, READ, "watch").unwrap();
        let mut fired = Vec::new();
        reactor.forget_fd(fd, &mut fired);
        assert_eq!(brief(reactor, &fired), ["wait owner re", "wait anyone re", "watch watch re"]);
        assert_eq!((reactor.wait_count(), reactor.watch_count()), (0, 0));
        assert_eq!(reactor.wait_cancel(wait), None);
        // The file lives on in the duplicate, but nothing of it is reported.
        drop(reader);
        put(&writer);
        assert!(brief_now(reactor).is_empty());
        assert_eq!(reactor.watch_data(watch), Some(&"watch"));
        assert_eq!(reactor.unwatch(watch), Some("watch"));
        assert_eq!(reactor.unwatch(watch), None);

        let (new, new_writer) = pipe();
        assert_eq!(raw(&new), fd, "the lowest free number");
        reactor.wait_fd(fd, 2, READ, "new").unwrap();
        assert!(brief_now(reactor).is_empty());
        put(&new_writer);
        assert_eq!(brief_now(reactor), ["wait new r"]);
        drop(duplicate);
    });
}

#[test]
fn forgetting_an_idle_registration_ends_it() {
    each_backend(|reactor: &mut Names| {
        let (reader, writer) = pipe();
        let key = reactor.wait_fd(raw(&reader), 1, READ, "a").unwrap();
        reactor.wait_cancel(key);
        let mut fired = Vec::new();
        reactor.forget_fd(raw(&reader), &mut fired);
        reactor.forget_fd(raw(&reader), &mut fired);
        assert!(fired.is_empty());
        reactor.wait_fd(raw(&reader), 2, READ, "b").unwrap();
        assert!(brief_now(reactor).is_empty(), "no orphan of owner 1");
        put(&writer);
        assert_eq!(brief_now(reactor), ["wait b r"]);
    });
}

/// A level-triggered registration that no `epoll_ctl` can reach any more must not keep the loop
/// from sleeping.
#[test]
fn a_registration_out_of_reach_does_not_keep_the_loop_busy() {
    let _turn = one_at_a_time();
    let mut reactor = Names::new(Backend::Epoll).unwrap();
    let (bystander, bystander_writer) = pipe();
    reactor.wait_fd(raw(&bystander), 7, READ, "bystander").unwrap();
    let (reader, writer) = pipe();
    let duplicate = dup(&reader).unwrap();
    let watch = reactor.watch(raw(&reader), READ, "watch").unwrap();
    drop(reader);
    put(&writer);
    reactor.unwatch(watch);
    let mut polls = 0;
    loop {
        polls += 1;
        assert!(polls < 100, "the loop is kept busy");
        let start = Instant::now();
        let mut fired = Vec::new();
        let timeout = Duration::from_millis(20);
        reactor.poll(Some(timeout), &mut fired).unwrap();
        assert!(fired.is_empty());
        if start.elapsed() >= timeout {
            break;
        }
    }
    put(&bystander_writer);
    assert_eq!(brief_now(&mut reactor), ["wait bystander r"]);
    reactor.waker().wake();
    assert_eq!(brief_now(&mut reactor), ["woken"]);
    drop(duplicate);
}
