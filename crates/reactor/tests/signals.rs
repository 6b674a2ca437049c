//! Signals: delivery, coalescing, and whose handler is installed when.
//!
//! Each test has a signal number of its own: dispositions are the process's.

mod common;

use std::ffi::c_int;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::*;
use greenloop_reactor::{Backend, Fired, Reactor};
use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};

type Names = Reactor<&'static str>;

unsafe extern "C" {
    fn signal(signum: c_int, handler: usize) -> usize;
    fn raise(signum: c_int) -> c_int;
}

const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;

fn send(signal: Signal) {
    kill_process(getpid(), signal).unwrap();
}

/// Signals this very thread; the handler has run when it returns.
fn raise_here(signum: i32) {
    // SAFETY: raise may be called with any number.
    assert_eq!(unsafe { raise(signum) }, 0);
}

/// Installs a plain handler, as a program would, and returns the one before.
fn install(signum: i32, handler: usize) -> usize {
    // SAFETY: the handlers passed are SIG_DFL, SIG_IGN, or functions that touch one atomic.
    unsafe { signal(signum, handler) }
}

#[test]
fn a_signal_is_reported_to_each_registration_until_it_is_removed() {
    each_backend(|reactor: &mut Names| {
        let signum = Signal::USR1.as_raw();
        let first = reactor.signal_add(signum, "first").unwrap();
        let second = reactor.signal_add(signum, "second").unwrap();
        assert_eq!(reactor.signal_count(), 2);
        assert!(brief_now(reactor).is_empty());
        send(Signal::USR1);
        let mut fired = Vec::new();
        let start = Instant::now();
        while fired.is_empty() {
            assert!(start.elapsed() < HANG);
            reactor.poll(Some(HANG), &mut fired).unwrap();
        }
        assert_eq!(brief(reactor, &fired), ["signal first 10", "signal second 10", "woken"]);
        assert_eq!(reactor.signal_remove(first), Some("first"));
        assert_eq!(reactor.signal_remove(first), None);
        assert_eq!(reactor.signal_data(first), None);
        for _ in 0..5 {
            raise_here(signum);
        }
        assert_eq!(brief_now(reactor), ["signal second 10", "woken"]);
        assert!(brief_now(reactor).is_empty());
        assert_eq!(reactor.signal_remove(second), Some("second"));
        assert_eq!(reactor.signal_count(), 0);
    });
}

#[test]
fn a_signal_ends_a_poll_that_would_wait_for_ever() {
    each_backend(|reactor: &mut Names| {
        let signum = Signal::USR2.as_raw();
        reactor.signal_add(signum, "usr2").unwrap();
        let thread = std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            send(Signal::USR2);
        });
        let mut fired = Vec::new();
        while fired.is_empty() {
            reactor.poll(None, &mut fired).unwrap();
        }
        assert!(matches!(fired[0], Fired::Signal { signum: 12, .. }));
        thread.join().unwrap();
    });
}

#[test]
fn two_reactors_each_report_a_signal() {
    let _turn = one_at_a_time();
    let signum = Signal::WINCH.as_raw();
    let mut one = Names::new(Backend::Epoll).unwrap();
    let mut two = Names::new(Backend::Poll).unwrap();
    one.signal_add(signum, "one").unwrap();
    two.signal_add(signum, "two").unwrap();
    raise_here(signum);
    assert_eq!(brief_now(&mut one), ["signal one 28", "woken"]);
    assert_eq!(brief_now(&mut two), ["signal two 28", "woken"]);
    drop(one);
    raise_here(signum);
    assert_eq!(brief_now(&mut two), ["signal two 28", "woken"]);
}

#[test]
fn numbers_that_cannot_be_handled_are_refused() {
    let _turn = one_at_a_time();
    let mut reactor = Names::new(Backend::Auto).unwrap();
    let unblockable = [Signal::KILL, Signal::STOP, Signal::SEGV, Signal::FPE, Signal::ILL];
    let refused = unblockable.map(Signal::as_raw);
    for signum in refused.into_iter().chain([-1, 0, 65, i32::MIN, i32::MAX]) {
        let result = errno(reactor.signal_add(signum, "x"));
        assert_eq!(result, Some(Errno::INVAL), "{signum}");
    }
    // The C library keeps the first real-time signals to itself.
    assert_eq!(errno(reactor.signal_add(32, "x")), Some(Errno::INVAL));
    assert_eq!(reactor.signal_count(), 0);
}

#[test]
fn the_disposition_from_before_comes_back() {
    let _turn = one_at_a_time();
    let signum = Signal::URG.as_raw();
    let mut reactor = Names::new(Backend::Auto).unwrap();
    for before in [SIG_DFL, SIG_IGN, SIG_DFL] {
        install(signum, before);
        let key = reactor.signal_add(signum, "urg").unwrap();
        raise_here(signum);
        assert_eq!(brief_now(&mut reactor), ["signal urg 23", "woken"]);
        reactor.signal_remove(key);
        assert_eq!(install(signum, SIG_DFL), before);
    }
}

static EARLIER: AtomicU32 = AtomicU32::new(0);

extern "C" fn count_earlier(_: c_int) {
    EARLIER.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn a_handler_from_before_is_still_run() {
    let _turn = one_at_a_time();
    let signum = Signal::IO.as_raw();
    install(signum, count_earlier as *const () as usize);
    let mut reactor = Names::new(Backend::Auto).unwrap();
    let key = reactor.signal_add(signum, "io").unwrap();
    raise_here(signum);
    assert_eq!(EARLIER.load(Ordering::Relaxed), 1);
    assert_eq!(brief_now(&mut reactor), ["signal io 29", "woken"]);
    reactor.signal_remove(key);
    raise_here(signum);
    assert_eq!(EARLIER.load(Ordering::Relaxed), 2);
    assert!(brief_now(&mut reactor).is_empty());
}

extern "C" fn ignore(_: c_int) {}

#[test]
fn a_handler_installed_over_ours_stays_until_the_next_registration() {
    let _turn = one_at_a_time();
    let signum = Signal::CONT.as_raw();
    let theirs = ignore as *const () as usize;
    let mut reactor = Names::new(Backend::Auto).unwrap();
    let key = reactor.signal_add(signum, "cont").unwrap();
    install(signum, theirs);
    reactor.signal_remove(key);
    let key = reactor.signal_add(signum, "again").unwrap();
    raise_here(signum);
    assert_eq!(brief_now(&mut reactor), ["signal again 18", "woken"]);
    reactor.signal_remove(key);
    assert_eq!(install(signum, SIG_DFL), theirs);
}

/// Signals of one kind and another arriving all the time: none is lost for good.
#[test]
fn the_last_of_many_signals_is_always_reported() {
    each_backend(|reactor: &mut Reactor<i32>| {
        let signals = [34, 40, 63, 64];
        for signum in signals {
            reactor.signal_add(signum, signum).unwrap();
        }
        for round in 0..500 {
            let signum = signals[round % signals.len()];
            raise_here(signum);
            let fired = poll_now(reactor);
            assert!(
                fired
                    .iter()
                    .any(|one| matches!(one, Fired::Signal { signum: s, .. } if *s == signum))
            );
        }
    });
}
