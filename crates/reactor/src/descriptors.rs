//! Waits and watches on descriptors, and the registrations that serve them.
//!
//! # Why an edge is never lost
//!
//! An owner's waiter has tried the system call and got `EAGAIN` before it calls [`wait`], and the
//! reactor is not polled in between. So the descriptor was not ready at some moment before the
//! wait began. If the registration is older than that moment, becoming ready afterwards is an
//! edge that no poll has consumed, and the next poll reports it. If the registration is made (or
//! changed from level back to edge) after it, then making or changing it reports present
//! readiness. Either way the wait fires. Reports that find no waiter can therefore be dropped:
//! whoever comes later tries the call first and sees the readiness there.
//!
//! A short count is not `EAGAIN`: a caller that got one must try again before it waits. There is one
//! exception, which saves servers that answer and read on a system call for each message. A read of
//! a byte stream that gets less than it asked for has found the stream empty at that moment. What
//! comes afterwards is an edge, so until one is reported a wait loses nothing ([`note_exhausted`]):
//! not even after other polls, for example while a server does something else for its client.
//! Unless what follows the bytes was there by then and has been reported with them: the end of the
//! stream or an error, or bytes behind urgent ones, at which reads stop. Reports say so, and short
//! reads mean nothing for a descriptor with such a report.
//!
//! A wait without an owner has tried nothing, which is why it gets level triggering.
//!
//! How registrations are chosen and kept true is in [`registration`].
//!
//! [`wait`]: Descriptors::wait
//! [`note_exhausted`]: Descriptors::note_exhausted

use std::io;
use std::mem;
use std::os::fd::RawFd;

use crate::arena::{Arena, Handle, List};
use crate::fdtable::{FdTable, State, parse_token};
use crate::sys::{AnyPoller, Event, Mode, Poller};
use crate::types::{Fired, Interest, Ready, WaitKey, WatchKey};

mod registration;
#[cfg(test)]
mod tests;

/// The token of the wake pipe: no descriptor has this number.
const WAKE_TOKEN: u64 = u64::MAX;

/// The token of the wall clock's descriptor.
const CLOCK_TOKEN: u64 = u64::MAX - 1;

/// In place of the descriptor of an orphaned wait or a deactivated watch.
const DETACHED: RawFd = -1;

struct Wait<T> {
    fd: RawFd,
    owner: u64,
    interest: Interest,
    data: T,
}

struct Watch<T> {
    fd: RawFd,
    interest: Interest,
    data: T,
}

/// A wait or watch whose descriptor is gone, to be reported by the next poll. It can be taken
/// back until then.
enum Orphan {
    Wait(Handle),
    Watch(Handle),
}

/// What one call of [`Descriptors::poll`] met besides what it appended.
pub(crate) struct Outcome {
    pub(crate) interrupted: bool,
    pub(crate) woken: bool,
    pub(crate) clock: bool,
}

pub(crate) struct Descriptors<T> {
    poller: AnyPoller,
    wake_fd: RawFd,
    clock_fd: Option<RawFd>,
    table: FdTable,
    waits: Arena<Wait<T>>,
    watches: Arena<Watch<T>>,
    detached_watches: usize,
    orphans: Vec<Orphan>,
    /// Descriptors in [`State::AlwaysReady`]; some may have no users any more.
    always_ready: Vec<RawFd>,
    registered: usize,
    /// Reports with an outdated token since the poller was last rebuilt.
    stale_reports: usize,
    events: Vec<Event>,
}

impl<T> Descriptors<T> {
    pub(crate) fn new(mut poller: AnyPoller, wake_fd: RawFd) -> io::Result<Self> {
        poller.add(wake_fd, WAKE_TOKEN, Mode::Level(Interest::READABLE))?;
        Ok(Descriptors {
            poller,
            wake_fd,
            clock_fd: None,
            table: FdTable::new(),
            waits: Arena::new(),
            watches: Arena::new(),
            detached_watches: 0,
            orphans: Vec::new(),
            always_ready: Vec::new(),
            registered: 0,
            stale_reports: 0,
            events: Vec::new(),
        })
    }

    pub(crate) fn backend(&self) -> &'static str {
        self.poller.name()
    }

    pub(crate) fn poller_fd(&self) -> Option<RawFd> {
        self.poller.fd()
    }

    /// Has polls report the wall clock's descriptor from now on.
    pub(crate) fn add_clock(&mut self, fd: RawFd) -> io::Result<()> {
        self.poller.add(fd, CLOCK_TOKEN, Mode::Level(Interest::READABLE))?;
        self.clock_fd = Some(fd);
        Ok(())
    }

    /// Forgets the wall clock's descriptor, which is about to be closed.
    pub(crate) fn remove_clock(&mut self) {
        if let Some(fd) = self.clock_fd.take() {
            // It fails after a fork, when the registration is the parent's: nothing is lost then.
            let _ = self.poller.delete(fd);
        }
    }

    /// Puts another poller in this one's place, with nothing to be reported but wake-ups.
    pub(crate) fn replace_poller(&mut self, mut poller: AnyPoller) -> io::Result<()> {
        poller.add(self.wake_fd, WAKE_TOKEN, Mode::Level(Interest::READABLE))?;
        self.poller = poller;
        self.clock_fd = None;
        Ok(())
    }

    pub(crate) fn wait_count(&self) -> usize {
        self.waits.len()
    }

    pub(crate) fn watch_count(&self) -> usize {
        self.watches.len() - self.detached_watches
    }

    pub(crate) fn has_waiter(&self, fd: RawFd, interest: Interest) -> bool {
        self.table.get(fd).is_some_and(|slot| !slot.waited_for().and(interest).is_empty())
    }

    pub(crate) fn wait(
        &mut self,
        fd: RawFd,
        owner: u64,
        interest: Interest,
        data: T,
    ) -> io::Result<WaitKey> {
        let is_kept = owner != 0
            && !interest.is_empty()
            && self.table.get(fd).is_some_and(|slot| {
                slot.owner == owner && slot.state == State::Registered(Mode::Edge)
            });
        if !is_kept {
            self.arm(fd, owner, interest, owner == 0)?;
        }
        let slot = self.table.slot(fd);
        let handle = self.waits.push_back(&mut slot.waits, Wait { fd, owner, interest, data });
        slot.wait_joined(owner, interest);
        Ok(WaitKey(handle))
    }

    /// Notes that the owner has read less than it asked for from a byte stream.
    #[inline]
    pub(crate) fn note_exhausted(&mut self, fd: RawFd, owner: u64) {
        if self.table.get(fd).is_some_and(|slot| {
            slot.owner == owner && slot.state == State::Registered(Mode::Edge) && !slot.is_unusual
        }) {
            self.table.slot(fd).is_exhausted = true;
        }
    }

    /// Whether the owner may wait without another try. See [`Self::note_exhausted`].
    #[inline]
    pub(crate) fn is_exhausted(&self, fd: RawFd, owner: u64) -> bool {
        self.table.get(fd).is_some_and(|slot| {
            slot.is_exhausted && slot.owner == owner && slot.state == State::Registered(Mode::Edge)
        })
    }

    pub(crate) fn cancel(&mut self, WaitKey(handle): WaitKey) -> Option<T> {
        let fd = self.waits.get(handle)?.fd;
        let wait = self.remove_wait(handle.index);
        if fd != DETACHED {
            self.settle(fd, false);
        }
        Some(wait.data)
    }

    /// Cancels the waits whose payloads are `unwanted`.
    pub(crate) fn cancel_if(&mut self, mut unwanted: impl FnMut(&T) -> bool, out: &mut Vec<T>) {
        let waits = self.waits.handles(|wait| unwanted(&wait.data));
        out.extend(waits.into_iter().filter_map(|handle| self.cancel(WaitKey(handle))));
    }

    pub(crate) fn watch(&mut self, fd: RawFd, interest: Interest, data: T) -> io::Result<WatchKey> {
        self.watch_or_return(fd, interest, data).map_err(|(error, _)| error)
    }

    /// As `watch`; an error gives the payload back.
    pub(crate) fn watch_or_return(
        &mut self,
        fd: RawFd,
        interest: Interest,
        data: T,
    ) -> Result<WatchKey, (io::Error, T)> {
        if let Err(error) = self.arm(fd, 0, interest, true) {
            return Err((error, data));
        }
        let slot = self.table.slot(fd);
        let handle = self.watches.push_back(&mut slot.watches, Watch { fd, interest, data });
        slot.watch_joined(interest);
        Ok(WatchKey(handle))
    }

    pub(crate) fn unwatch(&mut self, WatchKey(handle): WatchKey) -> Option<T> {
        let &Watch { fd, interest, .. } = self.watches.get(handle)?;
        if fd == DETACHED {
            self.detached_watches -= 1;
        } else {
            let slot = self.table.slot(fd);
            self.watches.unlink(&mut slot.watches, handle.index);
            slot.watch_left(interest);
            self.settle(fd, false);
        }
        Some(self.watches.remove(handle.index).data)
    }

    pub(crate) fn watch_data(&self, WatchKey(handle): WatchKey) -> Option<&T> {
        self.watches.get(handle).map(|watch| &watch.data)
    }

    /// Ends all use of a descriptor that is about to be closed, and reports its users as fired.
    pub(crate) fn forget(&mut self, fd: RawFd, fired: &mut Vec<Fired<T>>) {
        let earlier = self.orphans.len();
        self.abandon(fd);
        self.report_orphans(earlier, fired);
    }

    pub(crate) fn poll(
        &mut self,
        timeout: Option<u64>,
        fired: &mut Vec<Fired<T>>,
    ) -> io::Result<Outcome> {
        let timeout = if self.has_something_to_report() { Some(0) } else { timeout };
        let mut events = mem::take(&mut self.events);
        events.clear();
        let result = self.poller.wait(timeout, &mut events);
        let mut outcome = Outcome { interrupted: false, woken: false, clock: false };
        match result {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => outcome.interrupted = true,
            Err(error) => {
                self.events = events;
                return Err(error);
            }
        }
        for event in &events {
            match event.token {
                WAKE_TOKEN => outcome.woken = true,
                CLOCK_TOKEN => outcome.clock = true,
                _ => self.dispatch(*event, fired),
            }
        }
        self.events = events;
        if !self.always_ready.is_empty() {
            self.fire_always_ready(fired);
        }
        self.report_orphans(0, fired);
        self.rebuild_if_stale()?;
        Ok(outcome)
    }

    /// Removes all users and registrations, handing back the payloads.
    pub(crate) fn clear(&mut self, out: &mut Vec<T>) {
        for fd in self.table.numbers() {
            self.deregister(fd);
            self.table.slot(fd).clear();
        }
        self.always_ready.clear();
        self.orphans.clear();
        self.detached_watches = 0;
        out.extend(self.waits.drain().map(|wait| wait.data));
        out.extend(self.watches.drain().map(|watch| watch.data));
    }

    fn orphan_wait(&mut self, index: u32) {
        self.detach_wait(index);
        self.orphans.push(Orphan::Wait(self.waits.handle(index)));
    }

    /// Takes a wait off its descriptor; it stays in the arena.
    #[inline]
    fn detach_wait(&mut self, index: u32) {
        let wait = self.waits.at_mut(index);
        let (fd, owner, interest) = (wait.fd, wait.owner, wait.interest);
        wait.fd = DETACHED;
        let slot = self.table.slot(fd);
        self.waits.unlink(&mut slot.waits, index);
        slot.wait_left(owner, interest);
    }

    #[inline]
    fn remove_wait(&mut self, index: u32) -> Wait<T> {
        if self.waits.at(index).fd != DETACHED {
            self.detach_wait(index);
        }
        self.waits.remove(index)
    }

    fn dispatch(&mut self, event: Event, fired: &mut Vec<Fired<T>>) {
        let (fd, stamp) = parse_token(event.token);
        let slot = match self.table.get(fd) {
            Some(slot) if slot.stamp == stamp && slot.is_registered() => slot,
            _ => {
                self.stale_reports += 1;
                return;
            }
        };
        if event.ready.closed() {
            self.abandon(fd);
            return;
        }
        let state = slot.state;
        let wanted = slot.wanted();
        let slot = self.table.slot(fd);
        slot.is_exhausted = false;
        slot.is_unusual |= event.ready.is_unusual();
        self.fire(fd, event.ready, fired);
        if let State::Registered(Mode::Level(present)) = state {
            let reported = event.ready.interest().and(present);
            let narrow = !reported.without(wanted).is_empty();
            self.settle(fd, narrow);
        }
    }

    /// Fires the users of `fd` that `ready` concerns, in the order in which they came, waits
    /// before watches.
    fn fire(&mut self, fd: RawFd, ready: Ready, fired: &mut Vec<Fired<T>>) {
        let slot = self.table.slot(fd);
        let (waits, watches): (List, List) = (slot.waits, slot.watches);
        let mut next = waits.first();
        while let Some(index) = next {
            next = self.waits.after(index);
            let interest = self.waits.at(index).interest;
            if interest.and(ready.interest()).is_empty() {
                continue;
            }
            let key = WaitKey(self.waits.handle(index));
            fired.push(Fired::Wait {
                key,
                ready: ready.limited_to(interest),
                data: self.remove_wait(index).data,
            });
        }
        let mut next = watches.first();
        while let Some(index) = next {
            next = self.watches.after(index);
            let interest = self.watches.at(index).interest;
            if !interest.and(ready.interest()).is_empty() {
                fired.push(Fired::Watch {
                    key: WatchKey(self.watches.handle(index)),
                    ready: ready.limited_to(interest),
                });
            }
        }
    }

    fn has_something_to_report(&self) -> bool {
        self.orphans.iter().any(|orphan| match *orphan {
            Orphan::Wait(handle) => self.waits.get(handle).is_some(),
            Orphan::Watch(handle) => self.watches.get(handle).is_some(),
        }) || self.always_ready.iter().any(|&fd| self.is_always_ready_with_users(fd))
    }

    fn is_always_ready_with_users(&self, fd: RawFd) -> bool {
        self.table.get(fd).is_some_and(|slot| slot.state == State::AlwaysReady && slot.has_users())
    }

    fn list_always_ready(&mut self, fd: RawFd) {
        if !self.always_ready.contains(&fd) {
            self.always_ready.push(fd);
        }
    }

    fn fire_always_ready(&mut self, fired: &mut Vec<Fired<T>>) {
        let mut listed = mem::take(&mut self.always_ready);
        listed.retain(|&fd| {
            if !self.is_always_ready_with_users(fd) {
                return false;
            }
            self.fire(fd, Ready::BOTH, fired);
            self.settle(fd, false);
            self.is_always_ready_with_users(fd)
        });
        self.always_ready = listed;
    }

    /// Reports the orphans from position `from` on that were not taken back.
    fn report_orphans(&mut self, from: usize, fired: &mut Vec<Fired<T>>) {
        for orphan in self.orphans.drain(from..) {
            match orphan {
                Orphan::Wait(handle) => {
                    if let Some(wait) = self.waits.get(handle) {
                        let ready = Ready::GONE.limited_to(wait.interest);
                        fired.push(Fired::Wait {
                            key: WaitKey(handle),
                            ready,
                            data: self.waits.remove(handle.index).data,
                        });
                    }
                }
                Orphan::Watch(handle) => {
                    if let Some(watch) = self.watches.get(handle) {
                        fired.push(Fired::Watch {
                            key: WatchKey(handle),
                            ready: Ready::GONE.limited_to(watch.interest),
                        });
                    }
                }
            }
        }
    }
}
