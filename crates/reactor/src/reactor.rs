//! The reactor: descriptors, timers, signals and wake-ups behind one poll.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::children::Children;
use crate::descriptors::Descriptors;
use crate::periodic::PeriodicTimers;
use crate::signals::Signals;
use crate::sys::{AnyPoller, Backend};
use crate::timers::Timers;
use crate::types::{
    ChildKey, Fired, Interest, PeriodicKey, Polled, SignalKey, TimerKey, WaitKey, WatchKey,
};
use crate::waker::Waker;

/// The time on `CLOCK_MONOTONIC`, in nanoseconds. Deadlines of timers are on this clock.
#[inline]
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// An event loop's lower half: finds out what is ready, due or has arrived, and hands back the
/// payload `T` that its owner left with it. Used by one thread; other threads reach it through
/// its [`Waker`].
///
/// The [crate's documentation](crate) says how its parts fit together.
pub struct Reactor<T> {
    descriptors: Descriptors<T>,
    timers: Timers<T>,
    signals: Signals<T>,
    children: Children<T>,
    periodics: PeriodicTimers<T>,
    waker: Waker,
    now: u64,
}

impl<T> Reactor<T> {
    /// Makes a reactor with nothing registered. Opens three descriptors with epoll, two with
    /// poll, all close-on-exec; fails if the process may not open them, or with `Unsupported` if
    /// the system does not have the backend.
    pub fn new(backend: Backend) -> io::Result<Self> {
        let waker = Waker::new()?;
        Ok(Reactor {
            descriptors: Descriptors::new(AnyPoller::new(backend)?, waker.reader_fd())?,
            timers: Timers::new(),
            signals: Signals::new(waker.clone()),
            children: Children::new(),
            periodics: PeriodicTimers::new(),
            waker,
            now: monotonic_ns(),
        })
    }

    /// The name of the backend in use: `"epoll"` or `"poll"`.
    pub fn backend(&self) -> &'static str {
        self.descriptors.backend()
    }

    /// The descriptor that is readable while this reactor's poller has something to report, if the
    /// backend has one. Timers do not show there. From now on wake-ups do, also while no poll
    /// waits, which costs the first one after each poll a system call.
    pub fn fd(&self) -> Option<RawFd> {
        let fd = self.descriptors.poller_fd();
        if fd.is_some() {
            self.waker.observe();
        }
        fd
    }

    /// The time of the latest poll or [`update_now`](Self::update_now), as by [`monotonic_ns`].
    #[inline]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Reads the clock anew.
    #[inline]
    pub fn update_now(&mut self) -> u64 {
        self.now = monotonic_ns();
        self.now
    }

    /// Adds a timer that expires at `deadline_ns` on the clock of [`monotonic_ns`]; one in the
    /// past expires at the next poll. Timers expire in the order of their deadlines, those with
    /// equal deadlines in the order in which they were added.
    #[inline]
    pub fn timer_add(&mut self, deadline_ns: u64, data: T) -> TimerKey {
        self.timers.add(deadline_ns, data)
    }

    /// Removes a timer that has not expired, giving back its payload.
    #[inline]
    pub fn timer_remove(&mut self, key: TimerKey) -> Option<T> {
        self.timers.remove(key)
    }

    /// The deadline of a timer that has not expired.
    #[inline]
    pub fn timer_deadline(&self, key: TimerKey) -> Option<u64> {
        self.timers.deadline(key)
    }

    /// The earliest deadline of all timers.
    #[inline]
    pub fn next_deadline(&self) -> Option<u64> {
        self.timers.next_deadline()
    }

    /// Timers that have not expired.
    pub fn timer_count(&self) -> usize {
        self.timers.len()
    }

    /// Takes the first timer whose deadline is `now` or earlier, without a poll.
    #[inline]
    pub fn pop_expired(&mut self, now: u64) -> Option<(TimerKey, T)> {
        self.timers.pop_expired(now)
    }

    /// Waits once for `fd` to be ready for any direction of `interest`; the next poll that finds
    /// it so hands back `data`. Any number of waits may be on one descriptor, and one readiness
    /// fires them all.
    ///
    /// `owner` identifies the open socket object: unique, never reused, not 0. Its caller has
    /// tried the system call and got `EAGAIN`, *with no poll in between*. The registration made
    /// for its first wait is kept, and further waits make no system call. A wait by a different
    /// owner means that the number was closed and reused: the earlier owner's waits fire with
    /// [`Ready::error`](crate::Ready::error) at the next poll.
    ///
    /// With `owner` 0 nothing need have been tried: the wait also fires if `fd` is ready already,
    /// and nothing stays registered afterwards.
    ///
    /// Files that cannot be polled because they never block, regular files for instance, are
    /// ready for whatever is asked.
    ///
    /// Errors are the kernel's: `EBADF` for a number that is not open (its remaining waits and
    /// watches then fire with error readiness), `ENOSPC` or `ENOMEM` for want of resources;
    /// `EINVAL` for an empty interest. `data` is dropped then.
    #[inline]
    pub fn wait_fd(
        &mut self,
        fd: RawFd,
        owner: u64,
        interest: Interest,
        data: T,
    ) -> io::Result<WaitKey> {
        self.descriptors.wait(fd, owner, interest, data)
    }

    /// Notes that `owner` has read from a byte stream that ends where it ends (TCP), and got fewer
    /// bytes than it asked for, though some: it has found the stream empty. Does nothing if `fd` is
    /// not registered for that owner.
    #[inline]
    pub fn note_exhausted(&mut self, fd: RawFd, owner: u64) {
        self.descriptors.note_exhausted(fd, owner);
    }

    /// Whether `owner` may wait to read ([`wait_fd`](Self::wait_fd)) without trying first: nothing
    /// can be there since [`note_exhausted`](Self::note_exhausted) that a later poll would not
    /// report.
    #[inline]
    pub fn is_exhausted(&self, fd: RawFd, owner: u64) -> bool {
        self.descriptors.is_exhausted(fd, owner)
    }

    /// Ends a wait that has not fired, giving back its payload.
    #[inline]
    pub fn wait_cancel(&mut self, key: WaitKey) -> Option<T> {
        self.descriptors.cancel(key)
    }

    /// Whether a one-shot wait on `fd` asks for any direction of `interest`.
    #[inline]
    pub fn has_waiter(&self, fd: RawFd, interest: Interest) -> bool {
        self.descriptors.has_waiter(fd, interest)
    }

    /// Ends all use of `fd`. To be called *before* it is closed: a registration belongs to the
    /// open file, lives on if a duplicate does, and cannot be reached once the number is closed.
    ///
    /// Appends to `fired` every one-shot wait, ended, and every watch, deactivated, with
    /// [`Ready::error`](crate::Ready::error). The watches keep their payloads until they are
    /// taken back with [`unwatch`](Self::unwatch).
    pub fn forget_fd(&mut self, fd: RawFd, fired: &mut Vec<Fired<T>>) {
        self.descriptors.forget(fd, fired);
    }

    /// Watches `fd`: every poll reports it while it is ready for any direction of `interest`.
    /// Any number of watches may be on one descriptor, beside one-shot waits. Errors are those
    /// of [`wait_fd`](Self::wait_fd).
    ///
    /// A watch goes by number: should the number be closed and reused, it follows. It ends with
    /// [`unwatch`](Self::unwatch); [`forget_fd`](Self::forget_fd), or finding the number closed,
    /// deactivates it.
    pub fn watch(&mut self, fd: RawFd, interest: Interest, data: T) -> io::Result<WatchKey> {
        self.descriptors.watch(fd, interest, data)
    }

    /// Ends a watch, giving back its payload.
    pub fn unwatch(&mut self, key: WatchKey) -> Option<T> {
        self.descriptors.unwatch(key)
    }

    /// The payload of a watch, deactivated or not.
    #[inline]
    pub fn watch_data(&self, key: WatchKey) -> Option<&T> {
        self.descriptors.watch_data(key)
    }

    /// Reports the signal `signum` whenever it arrives; several arrivals between two polls are
    /// reported once, to each registration. A handler that was installed before is still run.
    /// When the last registration in the process is removed, what was installed before its first
    /// is put back, unless it has been replaced meanwhile.
    ///
    /// `EINVAL` for numbers that are no signal and for those that cannot or must not be handled
    /// (`SIGKILL`, `SIGSTOP`, `SIGSEGV`, `SIGFPE`, `SIGILL`); `data` is dropped then.
    pub fn signal_add(&mut self, signum: i32, data: T) -> io::Result<SignalKey> {
        self.signals.add(signum, data)
    }

    /// Ends a signal registration, giving back its payload.
    pub fn signal_remove(&mut self, key: SignalKey) -> Option<T> {
        self.signals.remove(key)
    }

    /// The payload of a signal registration.
    pub fn signal_data(&self, key: SignalKey) -> Option<&T> {
        self.signals.data(key)
    }

    /// Reports the end of the child process `pid`, also if it has ended already, and takes its
    /// status from the system.
    ///
    /// `pid` 0 means any child: every child's end is reported, and its status taken, whoever
    /// started it. With `trace` stops and continuations are reported too. A number that is no
    /// child of this process is not reported on.
    ///
    /// Any number of registrations may be for one child: each is told. SIGCHLD is handled while a
    /// child is watched that the kernel has no other way to tell of.
    pub fn child_add(&mut self, pid: i32, trace: bool, data: T) -> io::Result<ChildKey> {
        self.children.add(&mut self.descriptors, &mut self.signals, pid, trace, data)
    }

    /// Ends a child registration, giving back its payload.
    pub fn child_remove(&mut self, key: ChildKey) -> Option<T> {
        self.children.remove(&mut self.descriptors, &mut self.signals, key)
    }

    /// The payload of a child registration.
    pub fn child_data(&self, key: ChildKey) -> Option<&T> {
        self.children.data(&self.descriptors, key)
    }

    /// Has children that are added from now on watched by SIGCHLD alone.
    pub fn child_signals_only(&mut self) {
        self.children.use_signals_only();
    }

    /// Handles SIGCHLD from now on, so that the system keeps the status of children that end, even
    /// if the signal was ignored.
    pub fn sigchld_install(&mut self) -> io::Result<()> {
        self.children.install(&mut self.signals)
    }

    /// Puts back what [`sigchld_install`](Self::sigchld_install) has replaced, unless children
    /// need it.
    pub fn sigchld_reset(&mut self) {
        self.children.uninstall(&mut self.signals);
    }

    /// Adds a timer that is due when the wall clock shows `offset` (nanoseconds since the epoch),
    /// or, with an `interval` that is not 0, at each `offset` + n * `interval`. It follows the
    /// clock when that is set. Missed moments are not made up for: however many have passed, it is
    /// reported once.
    pub fn periodic_add(&mut self, offset: i64, interval: u64, data: T) -> io::Result<PeriodicKey> {
        self.periodics.add(&mut self.descriptors, offset, interval, data)
    }

    /// Removes a periodic timer, giving back its payload.
    pub fn periodic_remove(&mut self, key: PeriodicKey) -> Option<T> {
        self.periodics.remove(key)
    }

    /// The payload of a periodic timer.
    pub fn periodic_data(&self, key: PeriodicKey) -> Option<&T> {
        self.periodics.data(key)
    }

    /// When a periodic timer is due next, in nanoseconds since the epoch. None once it was due and
    /// has no interval.
    pub fn periodic_moment(&self, key: PeriodicKey) -> Option<u64> {
        self.periodics.moment(key)
    }

    /// Whether a signal has arrived that no poll has reported yet.
    pub fn signal_pending(&self) -> bool {
        self.signals.is_pending()
    }

    /// A handle with which any thread or signal handler can wake this reactor's poll.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Polls once: waits until something fires or `timeout` is over, and appends everything that
    /// fired to `fired`: descriptors, signals, wake-ups, then expired timers. `None` waits for as
    /// long as it takes, zero does not wait at all. No wait is longer than until the next timer's
    /// deadline, and the clock is read after it, so a timer is never found early.
    ///
    /// May return with nothing fired before the timeout is over, when readiness was reported that
    /// nobody waits for, and when a signal handler ran, which is not an error.
    ///
    /// After an error nothing that had fired is lost, and what `fired` holds is valid.
    pub fn poll(
        &mut self,
        timeout: Option<Duration>,
        fired: &mut Vec<Fired<T>>,
    ) -> io::Result<Polled> {
        let mut timeout = self.clip_to_next_deadline(timeout);
        if !self.periodics.is_empty()
            && let Some(longest) = self.periodics.prepare()?
        {
            timeout = Some(timeout.map_or(longest, |timeout| timeout.min(longest)));
        }
        if self.children.must_look() || (timeout != Some(0) && !self.waker.fall_asleep()) {
            timeout = Some(0);
        }
        let result = self.descriptors.poll(timeout, fired);
        let byte = result.as_ref().is_ok_and(|outcome| outcome.woken);
        let signalled = byte && self.waker.drain();
        let woken = self.waker.get_up() || byte;
        self.update_now();
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(error) => {
                if woken {
                    // Not reported yet.
                    self.waker.wake();
                }
                return Err(error);
            }
        };
        let mut sigchld = false;
        if woken {
            sigchld = self.signals.report(fired);
        }
        if !self.children.is_empty() {
            let (descriptors, signals) = (&mut self.descriptors, &mut self.signals);
            self.children.collect(descriptors, signals, sigchld, fired);
        }
        if woken {
            fired.push(Fired::Woken);
        }
        if !self.periodics.is_empty() {
            self.periodics.collect(outcome.clock, fired);
        }
        while let Some((key, data)) = self.timers.pop_expired(self.now) {
            fired.push(Fired::Timer { key, data });
        }
        Ok(Polled { interrupted: outcome.interrupted, signalled })
    }

    /// The poller's timeout in nanoseconds.
    fn clip_to_next_deadline(&mut self, timeout: Option<Duration>) -> Option<u64> {
        let timeout = timeout.map(|timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        if timeout == Some(0) {
            return timeout;
        }
        let Some(deadline) = self.timers.next_deadline() else {
            return timeout;
        };
        let left = deadline.saturating_sub(self.update_now());
        Some(timeout.map_or(left, |timeout| timeout.min(left)))
    }

    /// Periodic timers.
    pub fn periodic_count(&self) -> usize {
        self.periodics.len()
    }

    /// Child registrations that [`watch_count`](Self::watch_count) does not count.
    pub fn child_count(&self) -> usize {
        self.children.count_beside_watches()
    }

    /// One-shot waits that have not fired.
    pub fn wait_count(&self) -> usize {
        self.descriptors.wait_count()
    }

    /// Watches that can still fire: all but the deactivated.
    pub fn watch_count(&self) -> usize {
        self.descriptors.watch_count()
    }

    /// Signal registrations.
    pub fn signal_count(&self) -> usize {
        self.signals.len()
    }

    /// To be called in a forked child before anything else is: gives the reactor a poller and a
    /// wake pipe of its own in place of those it shares with the parent, whose registrations it
    /// leaves alone. Waits, watches, timers and signals are kept; so are the wakers and their
    /// descriptor numbers, and a wake-up that was pending. Descriptors that the child cannot
    /// register any more fire with error readiness at the next poll.
    pub fn reinit_after_fork(&mut self) -> io::Result<()> {
        self.waker.reinit_after_fork()?;
        self.descriptors.rebuild()?;
        self.children.forked(&mut self.descriptors, &mut self.signals);
        self.periodics.reinit_after_fork(&mut self.descriptors)
    }

    /// Removes the timers and waits whose payloads are `unwanted`, appending these to `out` in no
    /// particular order. Watches, signals, children and periodic timers stay.
    pub fn remove_if(&mut self, mut unwanted: impl FnMut(&T) -> bool, out: &mut Vec<T>) {
        self.timers.remove_if(&mut unwanted, out);
        self.descriptors.cancel_if(&mut unwanted, out);
    }

    /// Removes everything, appending the payloads to `out` in no particular order.
    pub fn clear(&mut self, out: &mut Vec<T>) {
        self.periodics.drain(&mut self.descriptors, out);
        self.descriptors.clear(out);
        self.children.drain(out);
        out.extend(self.timers.drain());
        out.extend(self.signals.drain());
    }

    /// Removes everything as [`clear`](Self::clear) does, and closes the poller. What remains can
    /// still be woken, and polled to no avail.
    pub fn close(&mut self, out: &mut Vec<T>) {
        self.clear(out);
        if let Ok(poller) = AnyPoller::new(Backend::Poll) {
            // Fails only if somebody has closed the wake pipe behind our back.
            let _ = self.descriptors.replace_poller(poller);
        }
    }

    /// Takes the reactor apart, giving back every payload in no particular order.
    pub fn drain(mut self) -> Vec<T> {
        let mut payloads = Vec::new();
        self.clear(&mut payloads);
        payloads
    }
}
