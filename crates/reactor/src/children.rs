//! Child processes: whose ends, stops and continuations are reported.
//!
//! A child that is watched for its end has a pidfd, a descriptor that becomes readable then: it
//! needs no signal, races with nobody's handler, and works for a child that has ended already. The
//! fallback is SIGCHLD, after which waitpid(2) is asked about each child: where the kernel has no
//! pidfds or gives none (also for a number that is no process yet), for stops and continuations,
//! which no pidfd tells, and for "any child", which has no number.
//!
//! Only children that are watched are waited for, so that nobody else's status is taken, unless any
//! child is watched.

use std::collections::HashMap;
use std::io;

use rustix::process::{Pid, WaitOptions, WaitStatus, waitpid};
use slab::Slab;

use crate::arena::{Handle, Serials};
use crate::descriptors::Descriptors;
use crate::signals::Signals;
use crate::types::{ChildKey, Fired, WatchKey};

/// How the reactor learns of a child, and where the payload is.
enum Source<T> {
    #[cfg(target_os = "linux")]
    Pidfd {
        watch: WatchKey,
        /// Open as long as it is watched.
        fd: std::os::fd::OwnedFd,
    },
    Signal(T),
    /// Its end has been reported, or it is the child of the process that this one was forked from.
    Over(T),
}

struct Child<T> {
    handle: Handle,
    /// 0 for any.
    pid: i32,
    trace: bool,
    source: Option<Source<T>>,
}

impl<T> Child<T> {
    fn source(&self) -> &Source<T> {
        self.source.as_ref().expect("taken for a moment only")
    }

    fn is_signalled(&self) -> bool {
        matches!(self.source(), Source::Signal(_))
    }

    fn concerns(&self, pid: i32) -> bool {
        (self.pid == pid || self.pid == 0) && !matches!(self.source(), Source::Over(_))
    }
}

pub(crate) struct Children<T> {
    children: Slab<Child<T>>,
    by_watch: HashMap<WatchKey, u32>,
    serials: Serials,
    /// Children in `Source::Signal`.
    signalled: usize,
    /// A child may have changed its state before SIGCHLD was handled.
    unchecked: bool,
    /// The handler of SIGCHLD is wanted whether or not there are children.
    installed: bool,
    /// Pidfds are not asked for: the tests' way to the fallback.
    signals_only: bool,
}

impl<T> Children<T> {
    pub(crate) fn new() -> Self {
        Children {
            children: Slab::new(),
            by_watch: HashMap::new(),
            serials: Serials::new(),
            signalled: 0,
            unchecked: false,
            installed: false,
            signals_only: false,
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    /// Children that are not counted among the watches.
    pub(crate) fn count_beside_watches(&self) -> usize {
        self.children.len() - self.by_watch.len()
    }

    pub(crate) fn use_signals_only(&mut self) {
        self.signals_only = true;
    }

    /// Whether the next poll must not wait.
    #[inline]
    pub(crate) fn must_look(&self) -> bool {
        self.unchecked
    }

    pub(crate) fn install(&mut self, signals: &mut Signals<T>) -> io::Result<()> {
        signals.hold_sigchld()?;
        self.installed = true;
        Ok(())
    }

    pub(crate) fn uninstall(&mut self, signals: &mut Signals<T>) {
        self.installed = false;
        self.release_if_unneeded(signals);
    }

    fn release_if_unneeded(&self, signals: &mut Signals<T>) {
        if self.signalled == 0 && !self.installed {
            signals.release_sigchld();
        }
    }

    pub(crate) fn add(
        &mut self,
        descriptors: &mut Descriptors<T>,
        signals: &mut Signals<T>,
        pid: i32,
        trace: bool,
        data: T,
    ) -> io::Result<ChildKey> {
        let serial = self.serials.next();
        let entry = self.children.vacant_entry();
        let index = u32::try_from(entry.key()).expect("fewer than 2^32 children");
        let source = match self.open(descriptors, pid, trace, data) {
            Ok(source) => source,
            Err(data) => {
                signals.hold_sigchld()?;
                self.signalled += 1;
                self.unchecked = true;
                Source::Signal(data)
            }
        };
        #[cfg(target_os = "linux")]
        if let Source::Pidfd { watch, .. } = &source {
            self.by_watch.insert(*watch, index);
        }
        let handle = Handle { serial, index };
        let inserted = self.children.insert(Child { handle, pid, trace, source: Some(source) });
        debug_assert_eq!(inserted, index as usize);
        Ok(ChildKey(handle))
    }

    /// Watches a child by a pidfd; gives the payload back if that cannot be.
    #[cfg(target_os = "linux")]
    fn open(
        &self,
        descriptors: &mut Descriptors<T>,
        pid: i32,
        trace: bool,
        data: T,
    ) -> Result<Source<T>, T> {
        use std::os::fd::AsRawFd;

        use rustix::process::{PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

        use crate::types::Interest;

        let Some(child) = process(pid).filter(|_| !trace && !self.signals_only) else {
            return Err(data);
        };
        let Ok(fd) = pidfd_open(child, PidfdFlags::empty()) else {
            return Err(data);
        };
        // Other processes than children have pidfds too, but no end that concerns us.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if waitid(WaitId::Pid(child), look).is_err() {
            return Err(data);
        }
        match descriptors.watch_or_return(fd.as_raw_fd(), Interest::READABLE, data) {
            Ok(watch) => Ok(Source::Pidfd { watch, fd }),
            Err((_, data)) => Err(data),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn open(&self, _: &mut Descriptors<T>, _: i32, _: bool, data: T) -> Result<Source<T>, T> {
        Err(data)
    }

    fn index(&self, ChildKey(handle): ChildKey) -> Option<usize> {
        let index = handle.index as usize;
        self.children.get(index).filter(|child| child.handle == handle).map(|_| index)
    }

    pub(crate) fn remove(
        &mut self,
        descriptors: &mut Descriptors<T>,
        signals: &mut Signals<T>,
        key: ChildKey,
    ) -> Option<T> {
        let index = self.index(key)?;
        let source = self.children.remove(index).source.expect("taken for a moment only");
        let data = self.take_data(descriptors, source);
        self.release_if_unneeded(signals);
        Some(data)
    }

    /// The payload of a source, which is over then.
    fn take_data(&mut self, descriptors: &mut Descriptors<T>, source: Source<T>) -> T {
        match source {
            #[cfg(target_os = "linux")]
            Source::Pidfd { watch, fd } => {
                self.by_watch.remove(&watch);
                let data = descriptors.unwatch(watch).expect("watched as long as the child is");
                drop(fd);
                data
            }
            Source::Signal(data) => {
                self.signalled -= 1;
                data
            }
            Source::Over(data) => data,
        }
    }

    pub(crate) fn data<'a>(
        &'a self,
        descriptors: &'a Descriptors<T>,
        key: ChildKey,
    ) -> Option<&'a T> {
        match self.children[self.index(key)?].source() {
            #[cfg(target_os = "linux")]
            Source::Pidfd { watch, .. } => descriptors.watch_data(*watch),
            Source::Signal(data) | Source::Over(data) => {
                let _ = descriptors;
                Some(data)
            }
        }
    }

    /// Turns what a poll found into reports of children.
    pub(crate) fn collect(
        &mut self,
        descriptors: &mut Descriptors<T>,
        signals: &mut Signals<T>,
        sigchld: bool,
        fired: &mut Vec<Fired<T>>,
    ) {
        let mut readable = Vec::new();
        fired.retain(|one| match one {
            Fired::Watch { key, .. } => match self.by_watch.get(key) {
                Some(&index) => {
                    readable.push(self.children[index as usize].pid);
                    false
                }
                None => true,
            },
            _ => true,
        });
        for pid in readable {
            match wait_for(pid, false) {
                Waited::Status(pid, status) => self.report(descriptors, pid, Some(status), fired),
                // Somebody has waited for it before us; nothing is to be done if that was for a
                // watcher of the same child, in this very loop.
                Waited::NoChild => self.report(descriptors, pid, None, fired),
                Waited::Nothing => {}
            }
        }
        if (sigchld || self.unchecked) && self.signalled > 0 {
            self.unchecked = false;
            self.look_at_signalled(descriptors, fired);
        }
        self.unchecked = false;
        self.release_if_unneeded(signals);
    }

    /// Asks about the children of which no pidfd tells.
    fn look_at_signalled(&mut self, descriptors: &mut Descriptors<T>, fired: &mut Vec<Fired<T>>) {
        let signalled =
            || self.children.iter().map(|(_, child)| child).filter(|child| child.is_signalled());
        let trace = signalled().any(|child| child.trace);
        let mut pids: Vec<i32> = if signalled().any(|child| child.pid == 0) {
            vec![0]
        } else {
            signalled().map(|child| child.pid).collect()
        };
        pids.sort_unstable();
        pids.dedup();
        for pid in pids {
            while let Waited::Status(pid, status) = wait_for(pid, trace) {
                self.report(descriptors, pid, Some(status), fired);
            }
        }
    }

    /// Reports a state to whom it concerns.
    fn report(
        &mut self,
        descriptors: &mut Descriptors<T>,
        pid: i32,
        status: Option<WaitStatus>,
        fired: &mut Vec<Fired<T>>,
    ) {
        let has_ended = status.is_none_or(|status| status.exited() || status.signaled());
        let concerned: Vec<usize> = self
            .children
            .iter()
            .filter(|(_, child)| {
                child.concerns(pid)
                    && (has_ended || child.trace)
                    // What is not known is told to those only whose child it was.
                    && (status.is_some() || child.pid == pid)
            })
            .map(|(index, _)| index)
            .collect();
        for index in concerned {
            let child = &self.children[index];
            let status = status.map(|status| status.as_raw());
            fired.push(Fired::Child { key: ChildKey(child.handle), pid, status });
            // The number may be given to another child from now on.
            if has_ended && child.pid != 0 {
                self.end(descriptors, index);
            }
        }
    }

    fn end(&mut self, descriptors: &mut Descriptors<T>, index: usize) {
        let source = self.children[index].source.take().expect("taken for a moment only");
        let data = self.take_data(descriptors, source);
        self.children[index].source = Some(Source::Over(data));
    }

    /// In a forked child: all these are children of the parent, and will not be reported here.
    pub(crate) fn forked(&mut self, descriptors: &mut Descriptors<T>, signals: &mut Signals<T>) {
        let ended: Vec<usize> = self
            .children
            .iter()
            .filter(|(_, child)| child.pid != 0)
            .map(|(index, _)| index)
            .collect();
        for index in ended {
            self.end(descriptors, index);
        }
        self.release_if_unneeded(signals);
    }

    /// Removes everything. Payloads that watches have are left to them.
    pub(crate) fn drain(&mut self, out: &mut Vec<T>) {
        self.by_watch.clear();
        self.signalled = 0;
        self.installed = false;
        self.unchecked = false;
        for child in self.children.drain() {
            match child.source.expect("taken for a moment only") {
                #[cfg(target_os = "linux")]
                Source::Pidfd { .. } => {}
                Source::Signal(data) | Source::Over(data) => out.push(data),
            }
        }
    }
}

/// The one process that a number means: the negative mean groups.
fn process(pid: i32) -> Option<Pid> {
    if pid > 0 { Pid::from_raw(pid) } else { None }
}

/// What waitpid says.
enum Waited {
    Status(i32, WaitStatus),
    /// Nothing has happened.
    Nothing,
    NoChild,
}

/// Asks about one child, or any (0), without waiting.
fn wait_for(pid: i32, trace: bool) -> Waited {
    let mut options = WaitOptions::NOHANG;
    if trace {
        options |= WaitOptions::UNTRACED | WaitOptions::CONTINUED;
    }
    let pid = match pid {
        0 => None,
        pid => match process(pid) {
            Some(pid) => Some(pid),
            None => return Waited::NoChild,
        },
    };
    match waitpid(pid, options) {
        Ok(Some((pid, status))) => Waited::Status(pid.as_raw_nonzero().get(), status),
        Ok(None) => Waited::Nothing,
        Err(_) => Waited::NoChild,
    }
}
