//! How many system calls registrations cost with edge triggering. What fires when is tested from
//! outside, in `tests/`.

use std::cell::Cell;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use rustix::io::{dup, write};
use rustix::pipe::pipe;

use super::*;
use crate::sys::Backend;
use crate::sys::counting::{Calls, Counting};
use crate::waker::Waker;

const READ: Interest = Interest::READABLE;
const WRITE: Interest = Interest::WRITABLE;
const NONE: Calls = Calls { add: 0, modify: 0, delete: 0, reset: 0 };
const ADD: Calls = Calls { add: 1, ..NONE };
const MODIFY: Calls = Calls { modify: 1, ..NONE };
const DELETE: Calls = Calls { delete: 1, ..NONE };

struct Bench {
    descriptors: Descriptors<()>,
    calls: Rc<Cell<Calls>>,
    _waker: Waker,
}

impl Bench {
    fn new() -> Bench {
        let waker = Waker::new().unwrap();
        let (counting, calls) = Counting::new(AnyPoller::new(Backend::Epoll).unwrap());
        let poller = AnyPoller::Counting(counting);
        let descriptors = Descriptors::new(poller, waker.reader_fd()).unwrap();
        calls.take();
        Bench { descriptors, calls, _waker: waker }
    }

    /// The calls since the last time.
    fn calls(&self) -> Calls {
        self.calls.take()
    }

    fn wait(&mut self, fd: &OwnedFd, owner: u64, interest: Interest) -> WaitKey {
        let fd = fd.as_raw_fd();
        self.descriptors.wait(fd, owner, interest, ()).unwrap()
    }

    fn watch(&mut self, fd: &OwnedFd, interest: Interest) -> WatchKey {
        let fd = fd.as_raw_fd();
        self.descriptors.watch(fd, interest, ()).unwrap()
    }

    /// Polls, and returns how many fired.
    fn poll(&mut self) -> usize {
        let mut fired = Vec::new();
        self.descriptors.poll(Some(0), &mut fired).unwrap();
        fired.len()
    }
}

fn sockets() -> (OwnedFd, OwnedFd) {
    let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
    (here.into(), there.into())
}

fn put(fd: &OwnedFd) {
    write(fd, b"x").unwrap();
}

#[test]
fn an_owners_registration_is_made_once_and_kept() {
    let mut bench = Bench::new();
    let (here, there) = sockets();
    bench.wait(&here, 1, READ);
    assert_eq!(bench.calls(), ADD);
    for _ in 0..5 {
        put(&there);
        assert!(bench.poll() > 0);
        let cancelled = bench.wait(&here, 1, WRITE);
        bench.descriptors.cancel(cancelled);
        bench.wait(&here, 1, READ);
        bench.wait(&here, 1, WRITE);
    }
    assert_eq!(bench.calls(), NONE);
    bench.descriptors.forget(here.as_raw_fd(), &mut Vec::new());
    assert_eq!(bench.calls(), DELETE);
    bench.descriptors.forget(here.as_raw_fd(), &mut Vec::new());
    assert_eq!(bench.calls(), NONE);
}

#[test]
fn a_wait_without_owner_leaves_no_registration() {
    let mut bench = Bench::new();
    let (here, there) = sockets();
    put(&there);
    bench.wait(&here, 0, READ);
    assert_eq!(bench.calls(), ADD);
    assert_eq!(bench.poll(), 1);
    assert_eq!(bench.calls(), DELETE);
    let key = bench.wait(&here, 0, READ);
    bench.descriptors.cancel(key);
    assert_eq!(bench.calls(), Calls { add: 1, ..DELETE });
}

#[test]
fn a_wait_without_owner_takes_the_owners_registration_to_level_and_back() {
    let mut bench = Bench::new();
    let (here, there) = sockets();
    bench.wait(&here, 1, READ);
    bench.calls();
    for _ in 0..2 {
        bench.wait(&here, 0, WRITE);
        assert_eq!(bench.calls(), MODIFY);
        assert_eq!(bench.poll(), 1);
        assert_eq!(bench.calls(), MODIFY);
    }
    let key = bench.wait(&here, 0, WRITE);
    bench.descriptors.cancel(key);
    assert_eq!(bench.calls(), Calls { modify: 2, ..NONE });
    bench.wait(&here, 1, WRITE);
    put(&there);
    assert_eq!(bench.poll(), 2);
    assert_eq!(bench.calls(), NONE);
}

#[test]
fn several_watches_share_one_registration() {
    let mut bench = Bench::new();
    let (here, _there) = sockets();
    let read = bench.watch(&here, READ);
    assert_eq!(bench.calls(), ADD);
    let write = bench.watch(&here, WRITE);
    assert_eq!(bench.calls(), MODIFY);
    bench.descriptors.unwatch(read);
    assert_eq!(bench.calls(), NONE, "narrowed when it is in the way");
    bench.descriptors.unwatch(write);
    assert_eq!(bench.calls(), DELETE);
}

#[test]
fn waits_beside_a_watch_cost_nothing_until_readiness_is_in_the_way() {
    let mut bench = Bench::new();
    let (here, there) = sockets();
    let watch = bench.watch(&here, READ);
    bench.wait(&here, 1, WRITE);
    assert_eq!(bench.calls(), Calls { modify: 1, ..ADD });
    for _ in 0..3 {
        assert_eq!(bench.poll(), 1);
        bench.wait(&here, 1, WRITE);
    }
    assert_eq!(bench.calls(), NONE);
    assert_eq!(bench.poll(), 1);
    assert_eq!(bench.poll(), 0, "room to write, which nobody wants");
    assert_eq!(bench.calls(), MODIFY);
    put(&there);
    assert_eq!(bench.poll(), 1);
    bench.descriptors.unwatch(watch);
    assert_eq!(bench.calls(), MODIFY, "back to edges for the owner");
    assert_eq!(bench.poll(), 0);
    assert_eq!(bench.poll(), 0);
    assert_eq!(bench.calls(), NONE);
}

#[test]
fn a_registration_out_of_reach_costs_one_rebuild() {
    let mut bench = Bench::new();
    let (reader, writer) = pipe().unwrap();
    let (bystander, there) = sockets();
    let (idle, _idle_there) = sockets();
    bench.wait(&bystander, 1, READ);
    let key = bench.wait(&idle, 2, READ);
    bench.descriptors.cancel(key);
    assert_eq!(bench.poll(), 0);
    let duplicate = dup(&reader).unwrap();
    let watch = bench.watch(&reader, READ);
    drop(reader);
    put(&writer);
    bench.descriptors.unwatch(watch);
    bench.calls();
    assert_eq!(bench.poll(), 0);
    // The bystander and the wake pipe; what only had an owner waits for its next use.
    let rebuild = Calls { reset: 1, add: 2, ..NONE };
    assert_eq!(bench.calls(), rebuild);
    put(&there);
    assert_eq!(bench.poll(), 1);
    assert_eq!(bench.poll(), 0);
    assert_eq!(bench.calls(), NONE);
    bench.wait(&idle, 2, READ);
    assert_eq!(bench.calls(), ADD);
    drop(duplicate);
}

/// Both ends of a TCP connection.
fn connection() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0.into(), there)
}

/// Has the owner 1 wait for bytes and read them.
fn receive(bench: &mut Bench, here: &OwnedFd, mut there: &TcpStream) {
    bench.wait(here, 1, READ);
    there.write_all(b"bytes").unwrap();
    while bench.poll() == 0 {}
    assert_eq!(rustix::io::read(here, &mut [0; 64]), Ok(5));
}

#[test]
fn a_short_read_shows_that_nothing_is_left_until_something_is_reported() {
    let mut bench = Bench::new();
    let (here, mut there) = connection();
    let fd = here.as_raw_fd();
    bench.descriptors.note_exhausted(fd, 1);
    assert!(!bench.descriptors.is_exhausted(fd, 1), "not registered: nothing would be reported");
    receive(&mut bench, &here, &there);
    assert!(!bench.descriptors.is_exhausted(fd, 1));
    bench.descriptors.note_exhausted(fd, 2);
    assert!(!bench.descriptors.is_exhausted(fd, 2), "somebody else's registration");
    bench.descriptors.note_exhausted(fd, 1);
    assert!(bench.descriptors.is_exhausted(fd, 1));
    assert_eq!(bench.poll(), 0);
    assert!(bench.descriptors.is_exhausted(fd, 1), "a poll that reports nothing of it");
    there.write_all(b"more").unwrap();
    assert!(bench.descriptors.is_exhausted(fd, 1), "it will be reported");
    bench.wait(&here, 1, READ);
    while bench.poll() == 0 {}
    assert!(!bench.descriptors.is_exhausted(fd, 1));
    assert_eq!(bench.calls(), ADD);
}

#[test]
fn a_report_that_nobody_waits_for_ends_what_a_short_read_has_shown() {
    let mut bench = Bench::new();
    let (here, mut there) = connection();
    receive(&mut bench, &here, &there);
    bench.descriptors.note_exhausted(here.as_raw_fd(), 1);
    there.write_all(b"more").unwrap();
    bench.poll();
    assert!(!bench.descriptors.is_exhausted(here.as_raw_fd(), 1));
}

#[test]
fn a_short_read_shows_nothing_once_the_end_or_urgent_data_were_reported() {
    let end = |there: &TcpStream| there.shutdown(std::net::Shutdown::Write).unwrap();
    let urge = |there: &TcpStream| {
        rustix::net::send(there, b"u", rustix::net::SendFlags::OOB).unwrap();
    };
    for unusual in [&end as &dyn Fn(&TcpStream), &urge] {
        let mut bench = Bench::new();
        let (here, there) = connection();
        let fd = here.as_raw_fd();
        receive(&mut bench, &here, &there);
        bench.descriptors.note_exhausted(fd, 1);
        unusual(&there);
        assert!(bench.descriptors.is_exhausted(fd, 1), "it will be reported");
        while !bench.descriptors.table.get(fd).unwrap().is_unusual {
            bench.poll();
        }
        bench.descriptors.note_exhausted(fd, 1);
        assert!(!bench.descriptors.is_exhausted(fd, 1));
        // Another owner of the same file has it reported again.
        bench.wait(&here, 2, WRITE);
        bench.descriptors.note_exhausted(fd, 2);
        assert!(bench.descriptors.is_exhausted(fd, 2));
        bench.poll();
        bench.descriptors.note_exhausted(fd, 2);
        assert!(!bench.descriptors.is_exhausted(fd, 2));
    }
}

#[test]
fn a_short_read_shows_nothing_while_the_registration_is_level_triggered() {
    let mut bench = Bench::new();
    let (here, there) = connection();
    let fd = here.as_raw_fd();
    receive(&mut bench, &here, &there);
    bench.descriptors.note_exhausted(fd, 1);
    let watch = bench.watch(&here, READ);
    assert!(!bench.descriptors.is_exhausted(fd, 1));
    bench.descriptors.note_exhausted(fd, 1);
    bench.descriptors.unwatch(watch);
    bench.poll();
    assert!(!bench.descriptors.is_exhausted(fd, 1));
}
