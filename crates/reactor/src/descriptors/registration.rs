//! Which registration a descriptor has in the poller, and how it is kept true.
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
//! [`forget`]: Descriptors::forget

use std::io;
use std::os::fd::RawFd;

use rustix::io::Errno;

use super::{CLOCK_TOKEN, DETACHED, Descriptors, Orphan, WAKE_TOKEN};
use crate::fdtable::{Slot, State};
use crate::sys::{Added, Mode, Poller};
use crate::types::Interest;

impl<T> Descriptors<T> {
    /// Sees to it that the registration of `fd` serves one user more.
    pub(super) fn arm(
        &mut self,
        fd: RawFd,
        owner: u64,
        interest: Interest,
        level: bool,
    ) -> io::Result<()> {
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
                    self.table.slot(fd).own(new_owner);
                    return Ok(());
                }
                Err(error) if is_not_registered(&error) => {
                    self.mark_unregistered(fd);
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
                self.mark_unregistered(fd);
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
                self.table.slot(fd).own(new_owner);
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
    pub(super) fn settle(&mut self, fd: RawFd, narrow: bool) {
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
        let may_stay =
            if edge_triggered && !narrow { covers(present, mode) } else { present == mode };
        if may_stay {
            return;
        }
        match self.modify(fd, mode) {
            Ok(()) => {}
            Err(error) if is_not_registered(&error) => {
                self.mark_unregistered(fd);
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
    pub(super) fn deregister(&mut self, fd: RawFd) {
        if self.table.slot(fd).is_registered() {
            // If this fails the file was closed, and its registration has either gone with it or
            // is out of reach; its reports would be met by the stamp.
            let _ = self.poller.delete(fd);
            self.mark_unregistered(fd);
        }
    }

    /// Regards `fd` as not registered; reports of its registration so far are outdated.
    fn mark_unregistered(&mut self, fd: RawFd) {
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
    pub(super) fn abandon(&mut self, fd: RawFd) {
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
        self.poller.add(self.wake_fd, WAKE_TOKEN, Mode::Level(Interest::READABLE))?;
        if let Some(fd) = self.clock_fd {
            self.poller.add(fd, CLOCK_TOKEN, Mode::Level(Interest::READABLE))?;
        }
        Ok(())
    }

    /// Gets rid of registrations that are out of reach. A rebuild costs a system call for each
    /// descriptor with users, so it waits until there have been reports in proportion; a
    /// level-triggered registration makes them in quick succession.
    pub(super) fn rebuild_if_stale(&mut self) -> io::Result<()> {
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
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}
