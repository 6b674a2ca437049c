//! Watches, alone, several to a descriptor, and mixed with one-shot waits.

mod common;

use common::*;
use greenloop_reactor::Reactor;
use rustix::io::dup2;

type Names = Reactor<&'static str>;

#[test]
fn a_watch_fires_for_as_long_as_its_descriptor_is_ready() {
    each_backend(|reactor: &mut Names| {
        let (reader, writer) = pipe();
        let key = reactor.watch(raw(&reader), READ, "a").unwrap();
        assert!(brief_now(reactor).is_empty());
        put(&writer);
        for _ in 0..3 {
            assert_eq!(brief_now(reactor), ["watch a r"]);
        }
        empty(&reader);
        assert!(brief_now(reactor).is_empty());
        put(&writer);
        assert_eq!(reactor.watch_data(key), Some(&"a"));
        assert_eq!(reactor.unwatch(key), Some("a"));
        assert_eq!(reactor.unwatch(key), None);
        assert_eq!(reactor.watch_data(key), None);
        assert!(brief_now(reactor).is_empty());
        assert_eq!(reactor.watch_count(), 0);
    });
}

#[test]
fn each_of_several_watches_gets_the_directions_it_asked_for() {
    each_backend(|reactor: &mut Names| {
        let (here, there) = sockets();
        let fd = raw(&here);
        let read = reactor.watch(fd, READ, "read").unwrap();
        let write = reactor.watch(fd, WRITE, "write").unwrap();
        let both = reactor.watch(fd, READ | WRITE, "both").unwrap();
        assert_eq!(brief_now(reactor), ["watch write w", "watch both w"]);
        put(&there);
        assert_eq!(brief_now(reactor), ["watch read r", "watch write w", "watch both rw"]);
        reactor.unwatch(both);
        assert_eq!(brief_now(reactor), ["watch read r", "watch write w"]);
        reactor.unwatch(write);
        for _ in 0..3 {
            assert_eq!(brief_now(reactor), ["watch read r"]);
        }
        reactor.unwatch(read);
        assert!(brief_now(reactor).is_empty());
    });
}

#[test]
fn watches_and_waits_mix_on_one_descriptor() {
    each_backend(|reactor: &mut Names| {
        let (here, there) = sockets();
        let fd = raw(&here);
        // An edge-triggered registration first; then a watch joins, serves, and leaves.
        reactor.wait_fd(fd, 1, READ, "wait 1").unwrap();
        let watch = reactor.watch(fd, READ, "watch").unwrap();
        put(&there);
        assert_eq!(brief_now(reactor), ["wait wait 1 r", "watch watch r"]);
        assert_eq!(brief_now(reactor), ["watch watch r"]);
        empty(&here);
        fill(&here);
        reactor.wait_fd(fd, 1, WRITE, "writer").unwrap();
        reactor.wait_fd(fd, 1, READ, "wait 2").unwrap();
        assert!(brief_now(reactor).is_empty());
        empty(&there);
        assert_eq!(brief_now(reactor), ["wait writer w"]);
        // Nobody wants to know of room to write any more: neither fires nor spins.
        assert!(brief_now(reactor).is_empty());
        assert!(brief_now(reactor).is_empty());
        assert_eq!(reactor.unwatch(watch), Some("watch"));
        assert!(brief_now(reactor).is_empty());
        put(&there);
        assert_eq!(brief_now(reactor), ["wait wait 2 r"]);
        // Back to edges.
        assert!(brief_now(reactor).is_empty());
        empty(&here);
        reactor.wait_fd(fd, 1, READ, "wait 3").unwrap();
        put(&there);
        assert_eq!(brief_now(reactor), ["wait wait 3 r"]);
    });
}

#[test]
fn readiness_that_comes_while_a_watch_leaves_reaches_the_wait() {
    each_backend(|reactor: &mut Names| {
        let (here, there) = sockets();
        let fd = raw(&here);
        let watch = reactor.watch(fd, WRITE, "watch").unwrap();
        reactor.wait_fd(fd, 1, READ, "wait").unwrap();
        put(&there);
        reactor.unwatch(watch);
        let fired = brief_now(reactor);
        assert_eq!(fired, ["wait wait r"]);
    });
}

#[test]
fn a_hang_up_is_reported_to_a_watch_of_either_direction() {
    each_backend(|reactor: &mut Names| {
        let (reader, writer) = pipe();
        reactor.watch(raw(&reader), READ, "read").unwrap();
        let write = reactor.watch(raw(&reader), WRITE, "write").unwrap();
        drop(writer);
        for _ in 0..2 {
            assert_eq!(brief_now(reactor), ["watch read rh", "watch write wh"]);
        }
        reactor.unwatch(write);
        assert_eq!(brief_now(reactor), ["watch read rh"]);
    });
}

#[test]
fn a_watch_follows_its_number_once_the_number_is_used_again() {
    each_backend(|reactor: &mut Names| {
        let (mut number, _old_writer) = pipe();
        reactor.watch(raw(&number), READ, "first").unwrap();
        let (new, new_writer) = pipe();
        dup2(&new, &mut number).unwrap();
        reactor.watch(raw(&number), READ, "second").unwrap();
        put(&new_writer);
        assert_eq!(brief_now(reactor), ["watch first r", "watch second r"]);
    });
}

#[test]
fn a_thousand_watches_on_one_descriptor() {
    each_backend(|reactor: &mut Reactor<usize>| {
        let (reader, writer) = pipe();
        let keys: Vec<_> =
            (0..1000).map(|number| reactor.watch(raw(&reader), READ, number).unwrap()).collect();
        put(&writer);
        assert_eq!(poll_now(reactor).len(), 1000);
        for (number, key) in keys.into_iter().enumerate().rev() {
            assert_eq!(reactor.unwatch(key), Some(number));
        }
        assert!(poll_now(reactor).is_empty());
    });
}
