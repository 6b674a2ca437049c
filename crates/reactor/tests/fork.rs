//! A forked child goes on with its copy of the reactor, and the parent's is not disturbed.
//!
//! Alone in its binary: a fork copies only the thread that calls it.

mod common;

use std::ffi::c_int;
use std::os::fd::{FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use common::*;
use greenloop_reactor::{Backend, Reactor};
use rustix::process::{Pid, Signal, WaitOptions, waitpid};

unsafe extern "C" {
    fn fork() -> c_int;
    fn _exit(status: c_int) -> !;
    fn raise(signum: c_int) -> c_int;
}

/// Runs `child` in a forked process and returns whether it got through.
fn in_child(child: impl FnOnce()) -> bool {
    // SAFETY: no other thread of this process holds a lock: the test harness waits for this one,
    // the only test, and the child leaves by _exit.
    let pid = unsafe { fork() };
    if pid == 0 {
        let passed = catch_unwind(AssertUnwindSafe(child)).is_ok();
        // SAFETY: ends the child without running the parent's exit handlers.
        unsafe { _exit(if passed { 0 } else { 1 }) };
    }
    let pid = Pid::from_raw(pid).expect("fork works");
    let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
    status.exit_status() == Some(0)
}

#[test]
fn a_child_has_a_reactor_of_its_own() {
    for &backend in Backend::SUPPORTED {
        let mut reactor: Reactor<&'static str> = Reactor::new(backend).unwrap();
        let waker = reactor.waker();
        let number = waker.raw_fd();
        let (here, there) = sockets();
        let (idle, _idle_there) = sockets();
        let (gone, _gone_there) = sockets();
        let signum = Signal::USR1.as_raw();
        reactor.wait_fd(raw(&here), 1, READ, "wait").unwrap();
        let watch = reactor.watch(raw(&here), READ, "watch").unwrap();
        let key = reactor.wait_fd(raw(&idle), 2, READ, "idle").unwrap();
        reactor.wait_cancel(key);
        reactor.wait_fd(raw(&gone), 3, READ, "gone").unwrap();
        reactor.timer_add(0, "timer");
        reactor.signal_add(signum, "signal").unwrap();

        let passed = in_child(|| {
            // SAFETY: the child does not use `gone` again, and leaves by _exit.
            drop(unsafe { OwnedFd::from_raw_fd(raw(&gone)) });

            reactor.reinit_after_fork().unwrap();
            let first = brief_now(&mut reactor);
            assert!(first.contains(&"timer timer".to_owned()));
            assert!(first.contains(&"wait gone re".to_owned()));
            assert_eq!(first.len(), 2);
            assert_eq!(waker.raw_fd(), number);
            waker.wake();
            assert_eq!(brief_now(&mut reactor), ["woken"]);
            // SAFETY: raise may be called with any number.
            unsafe { raise(signum) };
            assert_eq!(brief_now(&mut reactor), ["signal signal 10", "woken"]);
            put(&there);
            assert_eq!(brief_now(&mut reactor), ["wait wait r", "watch watch r"]);
            reactor.unwatch(watch);
            reactor.forget_fd(raw(&here), &mut Vec::new());
            // An idle registration is made again for its next wait.
            reactor.wait_fd(raw(&idle), 2, WRITE, "idle").unwrap();
            assert_eq!(brief_now(&mut reactor), ["wait idle w"]);
        });
        assert!(passed, "the child's own assertions are above");

        // The child's wake-ups, forgetting and unwatching were its own; the data was for both.
        assert_eq!(brief_now(&mut reactor), ["wait wait r", "watch watch r", "timer timer"]);
        empty(&here);
        reactor.wait_fd(raw(&here), 1, READ, "wait").unwrap();
        put(&there);
        assert_eq!(brief_now(&mut reactor), ["wait wait r", "watch watch r"]);

        // A wake-up that was pending at the fork reaches the child too.
        waker.wake();
        let passed = in_child(|| {
            reactor.reinit_after_fork().unwrap();
            assert!(brief_now(&mut reactor).contains(&"woken".to_owned()));
        });
        assert!(passed, "the child's own assertions are above");
        assert!(brief_now(&mut reactor).contains(&"woken".to_owned()));
    }
}
