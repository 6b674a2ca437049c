//! Waits and watches on descriptors, and the registrations that serve them.
//!
//! # Which registration serves whom
//!
//! | users of the descriptor                       | registration                          |
//! |-----------------------------------------------|---------------------------------------|
//! | an owner, with or without waits of its own    | edge-triggered, both directions, kept |
//! | any watch, or any wait without an owner       | level-triggered, what they all want   |
//! | nobody, and no owner                          | none                                  |
//!
//! A backend without edge triggering gets exact level interests instead, which cost it nothing.
//!
//! # Why an edge is never lost
//!
//! An owner's waiter has tried the system call and got `EAGAIN` before it calls [`wait`], and the
//! reactor is not polled in between. So the descriptor was not ready at some moment before the
//! wait began. If the registration is older than that moment, becoming ready afterwards is an
//! edge that no poll has consumed, and the next poll reports it. If the registration is made (or
//! changed from level back to edge) after it, then making or changing it reports present
//! readiness. Either way the wait fires. Reports that find no waiter can therefore be dropped:
//! whoever comes later tries the call first and sees the readiness there. A short count is not
//! `EAGAIN`: a caller that got one must try again before it waits.
//!
//! A wait without an owner has tried nothing, which is why it gets level triggering.
//!
//! # When a number changes its meaning
//!
//! A descriptor may be closed, and its number given to another file, without [`forget`] having
//! been called. Three things find it out:
//!
//! * a wait by another owner, who must have got the number after it: the earlier owner's waits
//!   are orphaned, that is, fire with error readiness at the next poll;
//! * a watch or ownerless wait, which cannot tell whose file it is and so verifies the
//!   registration with a system call even where its interest is covered: if the file has none,
//!   the owner's waits are orphaned. Watches and ownerless waits go by number, and follow it;
//! * the stamp in a report's token, which belongs to an earlier registration. The earlier file
//!   lives on through a duplicate, and its registration is out of reach of `epoll_ctl`, which
//!   finds registrations by number. If such reports keep coming the poller is rebuilt.
//!
//! [`wait`]: Descriptors::wait
//! [`forget`]: Descriptors::forget

use std::io;
use std::mem;
use std::os::fd::RawFd;

use rustix::io::Errno;

use crate::arena::{Arena, Handle, List};
use crate::fdtable::{FdTable, Slot, State, parse_token};
use crate::sys::{Added, AnyPoller, Event, Mode, Poller};
use crate::types::{Fired, Interest, Ready, WaitKey, WatchKey};

#[cfg(test)]
mod tests;

/// The token of the wake pipe: no descriptor has this number.
const WAKE_TOKEN: u64 = u64::MAX;

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
}

pub(crate) struct Descriptors<T> {
    poller: AnyPoller,
    wake_fd: RawFd,
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

    pub(crate) fn wait_count(&self) -> usize {
        self.waits.len()
    }

    pub(crate) fn watch_count(&self) -> usize {
        self.watches.len() - self.detached_watches
    }

    pub(crate) fn has_waiter(&self, fd: RawFd, interest: Interest) -> bool {
        self.table
            .get(fd)
            .is_some_and(|slot| !slot.waited_for().and(interest).is_empty())
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
        let handle = self.waits.push_back(
            &mut slot.waits,
            Wait {
                fd,
                owner,
                interest,
                data,
            },
        );
        slot.wait_joined(owner, interest);
        Ok(WaitKey(handle))
    }

    pub(crate) fn cancel(&mut self, WaitKey(handle): WaitKey) -> Option<T> {
        let fd = self.waits.get(handle)?.fd;
        let wait = self.remove_wait(handle.index);
        if fd != DETACHED {
            self.settle(fd, false);
        }
        Some(wait.data)
    }

    pub(crate) fn watch(&mut self, fd: RawFd, interest: Interest, data: T) -> io::Result<WatchKey> {
        self.arm(fd, 0, interest, true)?;
        let slot = self.table.slot(fd);
        let handle = self
            .watches
            .push_back(&mut slot.watches, Watch { fd, interest, data });
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
        let timeout = if self.has_something_to_report() {
            Some(0)
        } else {
            timeout
        };
        let mut events = mem::take(&mut self.events);
        events.clear();
        let result = self.poller.wait(timeout, &mut events);
        let mut outcome = Outcome {
            interrupted: false,
            woken: false,
        };
        match result {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => outcome.interrupted = true,
            Err(error) => {
                self.events = events;
                return Err(error);
            }
        }
        for event in &events {
            if event.token == WAKE_TOKEN {
                outcome.woken = true;
            } else {
                self.dispatch(*event, fired);
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

    /// Gives the poller new kernel objects and registers again whatever has users. Descriptors
    /// that only had an owner are registered again when next waited for.
    pub(crate) fn rebuild(&mut self) -> io::Result<()> {
        self.poller.reset()?;
        self.stale_reports = 0;
        self.registered = 0;
        let edge_triggered = self.poller.edge_triggered();
        for fd in self.table.numbers() {
            let slot = self.table.slot(fd);
            if !slot.is_registered() {
                continue;
            }
            slot.state = State::Unregistered;
            slot.stamp = slot.stamp.wrapping_add(1);
            if !slot.has_users() {
                slot.owner = 0;
            } else if let Some(mode) = slot.target(edge_triggered)
                && self.add(fd, mode).is_err()
            {
                self.abandon(fd);
            }
        }
        self.poller
            .add(self.wake_fd, WAKE_TOKEN, Mode::Level(Interest::READABLE))?;
        Ok(())
    }

    /// Sees to it that the registration of `fd` serves one user more.
    fn arm(&mut self, fd: RawFd, owner: u64, interest: Interest, level: bool) -> io::Result<()> {
        if fd < 0 {
            return Err(Errno::BADF.into());
        }
        if interest.is_empty() {
            return Err(Errno::INVAL.into());
        }
        let edge_triggered = self.poller.edge_triggered();
        let slot = self.table.get(fd).copied().unwrap_or(Slot::EMPTY);
        let is_new_owner = owner != 0 && owner != slot.owner;
        let is_successor = is_new_owner && slot.owner != 0;
        let new_owner = if owner == 0 { slot.owner } else { owner };
        let target = slot.target_with(new_owner, interest, level, edge_triggered);
        let mode = target.expect("somebody wants something");

        // Without an owner, or with a new one, the registration may be that of an earlier file.
        let must_verify = owner == 0 || is_new_owner;
        match slot.state {
            State::Registered(present) if !must_verify && covers(present, mode) => return Ok(()),
            State::AlwaysReady if !must_verify => {
                self.list_always_ready(fd);
                return Ok(());
            }
            State::Registered(_) if !is_successor => match self.modify(fd, mode) {
                Ok(()) => {
                    self.table.slot(fd).owner = new_owner;
                    return Ok(());
                }
                Err(error) if is_not_registered(&error) => {
                    self.unstate(fd);
                    if owner == 0 {
                        self.disown(fd);
                    }
                }
                Err(error) => {
                    if Errno::from_io_error(&error) == Some(Errno::BADF) {
                        self.abandon(fd);
                    }
                    return Err(error);
                }
            },
            State::Registered(_) => {
                self.unstate(fd);
                self.disown(fd);
            }
            State::Unregistered | State::AlwaysReady => {
                if is_successor {
                    self.disown(fd);
                }
            }
        }

        // Who is left decides, now that a lost owner's waits are not among them any more.
        let slot = self.table.get(fd).copied().unwrap_or(Slot::EMPTY);
        let new_owner = if owner == 0 { slot.owner } else { owner };
        let target = slot.target_with(new_owner, interest, level, edge_triggered);
        let mode = target.expect("somebody wants something");
        match self.add(fd, mode) {
            Ok(()) => {
                self.table.slot(fd).owner = new_owner;
                Ok(())
            }
            Err(error) => {
                // Without a registration nothing would ever fire the users that are left.
                self.abandon(fd);
                Err(error)
            }
        }
    }

    /// Brings the registration of `fd` in line after users have left. An edge-triggered backend
    /// keeps a level interest that is too wide, because the same waits tend to come back, until a
    /// report that nobody wants shows its price (`narrow`).
    fn settle(&mut self, fd: RawFd, narrow: bool) {
        let edge_triggered = self.poller.edge_triggered();
        let slot = self.table.slot(fd);
        let State::Registered(present) = slot.state else {
            if slot.state == State::AlwaysReady && slot.owner == 0 && !slot.has_users() {
                slot.state = State::Unregistered;
            }
            return;
        };
        if present == Mode::Edge {
            return;
        }
        let Some(mode) = slot.target(edge_triggered) else {
            self.deregister(fd);
            return;
        };
        let may_stay = if edge_triggered && !narrow {
            covers(present, mode)
        } else {
            present == mode
        };
        if may_stay {
            return;
        }
        match self.modify(fd, mode) {
            Ok(()) => {}
            Err(error) if is_not_registered(&error) => {
                self.unstate(fd);
                self.disown(fd);
                let replaced = match self.table.slot(fd).target(edge_triggered) {
                    Some(mode) => self.add(fd, mode),
                    None => Ok(()),
                };
                if replaced.is_err() {
                    self.abandon(fd);
                }
            }
            Err(_) => self.abandon(fd),
        }
    }

    fn modify(&mut self, fd: RawFd, mode: Mode) -> io::Result<()> {
        let slot = self.table.slot(fd);
        self.poller.modify(fd, slot.token(fd), mode)?;
        slot.state = State::Registered(mode);
        Ok(())
    }

    /// Registers a descriptor that has no registration known to us.
    fn add(&mut self, fd: RawFd, mode: Mode) -> io::Result<()> {
        let token = self.table.get(fd).unwrap_or(&Slot::EMPTY).token(fd);
        let added = self.poller.add(fd, token, mode)?;
        let slot = self.table.grow_to(fd);
        match added {
            Added::Pollable => {
                slot.state = State::Registered(mode);
                self.registered += 1;
            }
            Added::AlwaysReady => {
                slot.state = State::AlwaysReady;
                self.list_always_ready(fd);
            }
        }
        Ok(())
    }

    /// Ends the registration of `fd`, if it has one.
    fn deregister(&mut self, fd: RawFd) {
        if self.table.slot(fd).is_registered() {
            // If this fails the file was closed, and its registration has either gone with it or
            // is out of reach; its reports would be met by the stamp.
            let _ = self.poller.delete(fd);
            self.unstate(fd);
        }
    }

    /// Regards `fd` as not registered; reports of its registration so far are outdated.
    fn unstate(&mut self, fd: RawFd) {
        let slot = self.table.slot(fd);
        slot.state = State::Unregistered;
        slot.stamp = slot.stamp.wrapping_add(1);
        self.registered -= 1;
    }

    /// Orphans the waits of the slot's owner, who has lost the number, and clears the owner.
    fn disown(&mut self, fd: RawFd) {
        let slot = self.table.slot(fd);
        slot.owner = 0;
        let mut next = slot.waits.first();
        while let Some(index) = next {
            next = self.waits.after(index);
            if self.waits.at(index).owner != 0 {
                self.orphan_wait(index);
            }
        }
    }

    /// Ends all use of `fd`: orphans its waits, deactivates its watches, deregisters it.
    fn abandon(&mut self, fd: RawFd) {
        if self.table.get(fd).is_none() {
            return;
        }
        self.deregister(fd);
        let slot = self.table.slot(fd);
        slot.state = State::Unregistered;
        slot.owner = 0;
        let (mut next_wait, mut next_watch) = (slot.waits.first(), slot.watches.first());
        while let Some(index) = next_wait {
            next_wait = self.waits.after(index);
            self.orphan_wait(index);
        }
        while let Some(index) = next_watch {
            next_watch = self.watches.after(index);
            let slot = self.table.slot(fd);
            self.watches.unlink(&mut slot.watches, index);
            let watch = self.watches.at_mut(index);
            slot.watch_left(watch.interest);
            watch.fd = DETACHED;
            self.detached_watches += 1;
            self.orphans.push(Orphan::Watch(self.watches.handle(index)));
        }
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
        }) || self
            .always_ready
            .iter()
            .any(|&fd| self.is_always_ready_with_users(fd))
    }

    fn is_always_ready_with_users(&self, fd: RawFd) -> bool {
        self.table
            .get(fd)
            .is_some_and(|slot| slot.state == State::AlwaysReady && slot.has_users())
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

    /// Gets rid of registrations that are out of reach. A rebuild costs a system call for each
    /// descriptor with users, so it waits until there have been reports in proportion; a
    /// level-triggered registration makes them in quick succession.
    fn rebuild_if_stale(&mut self) -> io::Result<()> {
        const REGISTERED_PER_REPORT: usize = 8;
        if self.stale_reports * REGISTERED_PER_REPORT <= self.registered {
            return Ok(());
        }
        match self.rebuild() {
            // No descriptor is left for a new poller. The old one still works, if busily.
            Err(error) if is_out_of_descriptors(&error) => Ok(()),
            result => result,
        }
    }
}

/// Whether a registration in mode `present` reports all that one in mode `wanted` would.
#[inline]
fn covers(present: Mode, wanted: Mode) -> bool {
    match (present, wanted) {
        (Mode::Level(present), Mode::Level(wanted)) => present.contains(wanted),
        _ => present == wanted,
    }
}

fn is_not_registered(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::NOENT)
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE)
    )
}
