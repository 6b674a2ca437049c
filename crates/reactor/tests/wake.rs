//! Wake-ups from other threads and through the waker's descriptor.

mod common;

use std::os::fd::BorrowedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use greenloop_reactor::{Backend, Fired, Reactor, Waker};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{FdFlags, fcntl_getfd};

type Names = Reactor<&'static str>;

fn borrowed(waker: &Waker) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open for as long as the waker lives.
    unsafe { BorrowedFd::borrow_raw(waker.raw_fd()) }
}

#[test]
fn a_wake_before_the_poll_is_kept_and_reported_once() {
    each_backend(|reactor: &mut Names| {
        let waker = reactor.waker();
        for _ in 0..1000 {
            waker.wake();
        }
        assert_eq!(brief_now(reactor), ["woken"]);
        assert!(brief_now(reactor).is_empty());
        waker.clone().wake();
        assert_eq!(brief_now(reactor), ["woken"]);
    });
}

#[test]
fn a_wake_ends_a_poll_that_would_wait_for_ever() {
    each_backend(|reactor: &mut Names| {
        let waker = reactor.waker();
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            waker.wake();
        });
        let mut fired = Vec::new();
        while fired.is_empty() {
            reactor.poll(None, &mut fired).unwrap();
        }
        assert_eq!(brief(reactor, &fired), ["woken"]);
        thread.join().unwrap();
    });
}

#[test]
fn bytes_written_by_others_wake_too() {
    each_backend(|reactor: &mut Names| {
        let waker = reactor.waker();
        for size in [1, 511, 512, 513, 5000] {
            rustix::io::write(borrowed(&waker), &vec![2; size]).unwrap();
            assert_eq!(brief_now(reactor), ["woken"]);
            assert!(brief_now(reactor).is_empty());
        }
        fill(borrowed(&waker));
        waker.wake();
        assert_eq!(brief_now(reactor), ["woken"]);
        waker.wake();
        assert_eq!(brief_now(reactor), ["woken"]);
    });
}

#[test]
fn the_wakers_descriptor_is_nonblocking_and_not_inherited() {
    each_backend(|reactor: &mut Names| {
        let waker = reactor.waker();
        let flags = fcntl_getfl(borrowed(&waker)).unwrap();
        assert!(flags.contains(OFlags::NONBLOCK));
        assert_eq!(fcntl_getfd(borrowed(&waker)).unwrap(), FdFlags::CLOEXEC);
    });
}

#[test]
fn a_waker_may_outlive_its_reactor() {
    let _turn = one_at_a_time();
    let waker = Names::new(Backend::Auto).unwrap().waker();
    for _ in 0..3 {
        waker.wake();
    }
}

#[test]
fn no_wake_up_is_lost_among_many_threads() {
    const THREADS: u64 = 4;
    const ITEMS: u64 = 5_000;
    each_backend(|reactor: &mut Names| {
        let queue = Mutex::new(Vec::new());
        let sent = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                let waker = reactor.waker();
                let (queue, sent) = (&queue, &sent);
                scope.spawn(move || {
                    for _ in 0..ITEMS {
                        queue.lock().unwrap().push(1_u64);
                        sent.fetch_add(1, Ordering::Relaxed);
                        waker.wake();
                    }
                });
            }
            let start = Instant::now();
            let mut received = 0;
            let mut fired = Vec::new();
            while received < THREADS * ITEMS {
                assert!(start.elapsed() < HANG, "{received} of {sent:?} received");
                // Waiting here with items in the queue means that their wake-up was lost.
                reactor.poll(Some(HANG), &mut fired).unwrap();
                for one in fired.drain(..) {
                    assert!(matches!(one, Fired::Woken));
                    received += queue.lock().unwrap().drain(..).sum::<u64>();
                }
            }
        });
    });
}
