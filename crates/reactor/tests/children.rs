//! Child processes: ends, stops and continuations, by pidfds and by SIGCHLD.

mod common;

use std::process::{Child, Command, Stdio};

use common::*;
use greenloop_reactor::{Backend, Reactor};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, waitid, waitpid,
};

type Names = Reactor<&'static str>;

/// Runs a test with each backend and each way to learn of children.
fn each_way(test: impl Fn(&mut Names)) {
    each_backend(&test);
    each_backend(|reactor: &mut Names| {
        reactor.child_signals_only();
        test(reactor);
    });
}

/// A child that ends with `status` as soon as its standard input is closed.
fn child(status: u8) -> Child {
    Command::new("/bin/sh")
        .args(["-c", &format!("read x; exit {status}")])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap()
}

fn pid(child: &Child) -> i32 {
    child.id() as i32
}

fn end(child: &mut Child) {
    drop(child.stdin.take());
}

fn as_pid(child: &Child) -> Pid {
    Pid::from_raw(pid(child)).unwrap()
}

/// Waits until a child has ended, and leaves its status.
fn wait_for_end(child: &Child) {
    waitid(WaitId::Pid(as_pid(child)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
}

/// What fires of children until `count` have been told of.
fn reports(reactor: &mut Names, count: usize) -> Vec<String> {
    let mut reports = Vec::new();
    while reports.len() < count {
        let fired = poll_until_fired(reactor);
        reports.extend(brief(reactor, &fired).into_iter().filter(|one| one != "woken"));
    }
    reports
}

fn no_reports(reactor: &mut Names) {
    let reports: Vec<_> = brief_now(reactor).into_iter().filter(|one| one != "woken").collect();
    assert!(reports.is_empty(), "{reports:?}");
}

#[test]
fn an_end_is_told_to_everybody_who_watches_and_once() {
    each_way(|reactor| {
        let mut one = child(3);
        let first = reactor.child_add(pid(&one), false, "first").unwrap();
        let second = reactor.child_add(pid(&one), false, "second").unwrap();
        assert_eq!(reactor.watch_count() + reactor.child_count(), 2);
        no_reports(reactor);
        end(&mut one);
        let mut told = reports(reactor, 2);
        told.sort();
        assert_eq!(told, ["child first 768", "child second 768"]);
        assert!(waitpid(Some(as_pid(&one)), WaitOptions::NOHANG).is_err(), "it was waited for");
        no_reports(reactor);
        assert_eq!(reactor.watch_count() + reactor.child_count(), 2, "until they are removed");
        assert_eq!(reactor.child_data(first), Some(&"first"));
        assert_eq!(reactor.child_remove(first), Some("first"));
        assert_eq!(reactor.child_remove(first), None);
        assert_eq!(reactor.child_data(first), None);
        assert_eq!(reactor.child_remove(second), Some("second"));
        assert_eq!(reactor.watch_count() + reactor.child_count(), 0);
    });
}

#[test]
fn an_end_before_the_watch_is_told() {
    each_way(|reactor| {
        let mut one = child(0);
        end(&mut one);
        wait_for_end(&one);
        let key = reactor.child_add(pid(&one), false, "one").unwrap();
        assert_eq!(reports(reactor, 1), ["child one 0"]);
        assert_eq!(reactor.child_remove(key), Some("one"));
    });
}

#[test]
fn children_that_nobody_watches_are_left_alone() {
    each_way(|reactor| {
        let (mut one, mut other) = (child(1), child(2));
        let removed = reactor.child_add(pid(&other), false, "removed").unwrap();
        let key = reactor.child_add(pid(&one), false, "one").unwrap();
        assert_eq!(reactor.child_remove(removed), Some("removed"));
        end(&mut other);
        wait_for_end(&other);
        end(&mut one);
        assert_eq!(reports(reactor, 1), ["child one 256"]);
        assert_eq!(other.wait().unwrap().code(), Some(2), "its status is still there");
        assert_eq!(reactor.child_remove(key), Some("one"));
    });
}

#[test]
fn death_by_a_signal_shows() {
    each_way(|reactor| {
        let mut one = child(0);
        let key = reactor.child_add(pid(&one), false, "one").unwrap();
        kill_process(as_pid(&one), Signal::KILL).unwrap();
        assert_eq!(reports(reactor, 1), ["child one 9"]);
        assert!(one.wait().is_err(), "it was waited for");
        assert_eq!(reactor.child_remove(key), Some("one"));
    });
}

#[test]
fn stops_are_told_with_trace_only() {
    each_way(|reactor| {
        let mut one = child(0);
        let plain = reactor.child_add(pid(&one), false, "plain").unwrap();
        let traced = reactor.child_add(pid(&one), true, "traced").unwrap();
        kill_process(as_pid(&one), Signal::STOP).unwrap();
        let stopped = (Signal::STOP.as_raw() << 8) | 0x7f;
        assert_eq!(reports(reactor, 1), [format!("child traced {stopped}")]);
        kill_process(as_pid(&one), Signal::CONT).unwrap();
        assert_eq!(reports(reactor, 1), [format!("child traced {}", 0xffff)]);
        end(&mut one);
        let mut told = reports(reactor, 2);
        told.sort();
        assert_eq!(told, ["child plain 0", "child traced 0"]);
        assert_eq!(reactor.child_remove(plain), Some("plain"));
        assert_eq!(reactor.child_remove(traced), Some("traced"));
    });
}

#[test]
fn any_child_means_all_that_end() {
    each_way(|reactor| {
        let any = reactor.child_add(0, false, "any").unwrap();
        let (mut one, mut other) = (child(1), child(2));
        let key = reactor.child_add(pid(&other), false, "other").unwrap();
        end(&mut one);
        assert_eq!(reports(reactor, 1), ["child any 256"]);
        end(&mut other);
        let mut told = reports(reactor, 2);
        told.sort();
        assert_eq!(told, ["child any 512", "child other 512"]);
        assert_eq!(reactor.child_remove(any), Some("any"));
        assert_eq!(reactor.child_remove(key), Some("other"));
    });
}

#[test]
fn a_number_that_is_no_child_is_never_told_of() {
    each_way(|reactor| {
        for number in [1, 99_999_999, -5] {
            let key = reactor.child_add(number, false, "none").unwrap();
            no_reports(reactor);
            assert_eq!(reactor.child_count(), 1);
            assert_eq!(reactor.child_remove(key), Some("none"));
        }
    });
}

#[test]
fn a_child_that_somebody_else_waited_for_ends_without_a_status() {
    each_backend(|reactor: &mut Names| {
        let mut one = child(7);
        let key = reactor.child_add(pid(&one), false, "one").unwrap();
        end(&mut one);
        assert_eq!(one.wait().unwrap().code(), Some(7));
        assert_eq!(reports(reactor, 1), ["child one unknown"]);
        no_reports(reactor);
        assert_eq!(reactor.child_remove(key), Some("one"));
    });
}

#[test]
fn an_ignored_sigchld_is_handled_between_install_and_reset() {
    use std::ffi::c_int;
    unsafe extern "C" {
        fn signal(signum: c_int, handler: usize) -> usize;
    }
    const SIG_IGN: usize = 1;
    let _turn = one_at_a_time();
    let signum = Signal::CHILD.as_raw();
    // SAFETY: SIG_IGN is a valid disposition.
    let before = unsafe { signal(signum, SIG_IGN) };
    let mut reactor: Names = Reactor::new(Backend::Auto).unwrap();
    reactor.sigchld_install().unwrap();
    let mut one = child(5);
    let key = reactor.child_add(pid(&one), false, "one").unwrap();
    end(&mut one);
    assert_eq!(reports(&mut reactor, 1), ["child one 1280"]);
    reactor.child_remove(key);
    reactor.sigchld_reset();
    // SAFETY: puts back what was there.
    assert_eq!(unsafe { signal(signum, before) }, SIG_IGN);
}

#[test]
fn clear_gives_every_payload_back() {
    each_way(|reactor| {
        let mut one = child(0);
        reactor.child_add(pid(&one), false, "plain").unwrap();
        reactor.child_add(pid(&one), true, "traced").unwrap();
        reactor.child_add(0, false, "any").unwrap();
        let mut out = Vec::new();
        reactor.clear(&mut out);
        out.sort_unstable();
        assert_eq!(out, ["any", "plain", "traced"]);
        assert_eq!(reactor.watch_count() + reactor.child_count(), 0);
        end(&mut one);
        assert!(one.wait().unwrap().success());
        no_reports(reactor);
    });
}
