//! For tests: the platform's best poller, with its calls counted.

use std::cell::Cell;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

use super::{Added, AnyPoller, Event, Mode, Poller};

/// Calls since they were last looked at. Those of `wait` are not counted.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Calls {
    pub(crate) add: usize,
    pub(crate) modify: usize,
    pub(crate) delete: usize,
    pub(crate) reset: usize,
}

pub(crate) struct Counting {
    inner: Box<AnyPoller>,
    calls: Rc<Cell<Calls>>,
}

impl Counting {
    pub(crate) fn new(inner: AnyPoller) -> (Counting, Rc<Cell<Calls>>) {
        let calls = Rc::default();
        let counting = Counting { inner: Box::new(inner), calls: Rc::clone(&calls) };
        (counting, calls)
    }

    fn count(&self, one_more: impl FnOnce(&mut Calls)) {
        let mut calls = self.calls.get();
        one_more(&mut calls);
        self.calls.set(calls);
    }
}

impl Poller for Counting {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn fd(&self) -> Option<RawFd> {
        self.inner.fd()
    }

    fn edge_triggered(&self) -> bool {
        self.inner.edge_triggered()
    }

    fn add(&mut self, fd: RawFd, token: u64, mode: Mode) -> io::Result<Added> {
        self.count(|calls| calls.add += 1);
        self.inner.add(fd, token, mode)
    }

    fn modify(&mut self, fd: RawFd, token: u64, mode: Mode) -> io::Result<()> {
        self.count(|calls| calls.modify += 1);
        self.inner.modify(fd, token, mode)
    }

    fn delete(&mut self, fd: RawFd) -> io::Result<()> {
        self.count(|calls| calls.delete += 1);
        self.inner.delete(fd)
    }

    fn wait(&mut self, timeout: Option<u64>, events: &mut Vec<Event>) -> io::Result<()> {
        self.inner.wait(timeout, events)
    }

    fn reset(&mut self) -> io::Result<()> {
        self.count(|calls| calls.reset += 1);
        self.inner.reset()
    }
}
