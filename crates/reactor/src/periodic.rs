//! Periodic timers: moments on the wall clock.
//!
//! Unlike a timer, which is due after a time whatever happens to the clock on the wall, a periodic
//! timer is due when that clock shows a moment, once or at intervals. When the clock is set, timers
//! with an interval are set anew: one due every full hour is due at the next full hour of the new
//! time, neither an hour after the last one nor many times for hours that were skipped.

use std::io;

use slab::Slab;

use crate::arena::{Handle, Serials};
use crate::descriptors::Descriptors;
use crate::sys::wall_clock::{self, WallClock};
use crate::timers::Timers;
use crate::types::{Fired, PeriodicKey, TimerKey};

struct Periodic<T> {
    handle: Handle,
    /// The next moment's place in the heap; none once a timer without interval was due.
    timer: Option<TimerKey>,
    offset: i64,
    interval: u64,
    data: T,
}

pub(crate) struct PeriodicTimers<T> {
    periodics: Slab<Periodic<T>>,
    /// Deadlines are in nanoseconds since the epoch.
    moments: Timers<u32>,
    serials: Serials,
    /// Opened with the first timer.
    clock: Option<WallClock>,
    /// What the clock's descriptor was set for.
    set_for: Option<u64>,
}

impl<T> PeriodicTimers<T> {
    pub(crate) const fn new() -> Self {
        PeriodicTimers {
            periodics: Slab::new(),
            moments: Timers::new(),
            serials: Serials::new(),
            clock: None,
            set_for: None,
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.periodics.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.periodics.len()
    }

    pub(crate) fn add(
        &mut self,
        descriptors: &mut Descriptors<T>,
        offset: i64,
        interval: u64,
        data: T,
    ) -> io::Result<PeriodicKey> {
        if self.clock.is_none() {
            let clock = WallClock::open();
            if let Some(fd) = clock.fd() {
                descriptors.add_clock(fd)?;
            }
            self.clock = Some(clock);
        }
        let serial = self.serials.next();
        let index = self.periodics.vacant_key();
        let index = u32::try_from(index).expect("fewer than 2^32 timers fit in memory");
        let moment = next_moment(offset, interval, wall_clock::now());
        let timer = Some(self.moments.add(moment, index));
        let handle = Handle { serial, index };
        self.periodics.insert(Periodic { handle, timer, offset, interval, data });
        Ok(PeriodicKey(handle))
    }

    fn get(&self, PeriodicKey(handle): PeriodicKey) -> Option<&Periodic<T>> {
        self.periodics.get(handle.index as usize).filter(|periodic| periodic.handle == handle)
    }

    pub(crate) fn remove(&mut self, key: PeriodicKey) -> Option<T> {
        let timer = self.get(key)?.timer;
        if let Some(timer) = timer {
            self.moments.remove(timer);
        }
        Some(self.periodics.remove(key.0.index as usize).data)
    }

    pub(crate) fn data(&self, key: PeriodicKey) -> Option<&T> {
        self.get(key).map(|periodic| &periodic.data)
    }

    /// The next moment, in nanoseconds since the epoch. None once a timer without interval was due.
    pub(crate) fn moment(&self, key: PeriodicKey) -> Option<u64> {
        self.moments.deadline(self.get(key)?.timer?)
    }

    /// To be called before a poll: how long it may wait, None for any time.
    pub(crate) fn prepare(&mut self) -> io::Result<Option<u64>> {
        let (Some(clock), Some(moment)) = (&self.clock, self.moments.next_deadline()) else {
            return Ok(None);
        };
        if self.set_for != Some(moment) {
            clock.set(as_signed(moment))?;
            self.set_for = Some(moment);
        }
        Ok(clock.longest_wait(as_signed(moment), wall_clock::now()))
    }

    /// To be called after a poll: reports what is due. `readable` says whether the clock's
    /// descriptor was reported.
    pub(crate) fn collect(&mut self, readable: bool, fired: &mut Vec<Fired<T>>) {
        let Some(clock) = &mut self.clock else { return };
        let now = wall_clock::now();
        if clock.was_set(readable) {
            self.set_for = None;
            self.follow(now);
        }
        self.expire(now, fired);
    }

    /// Sets all timers anew after the clock was set to `now`.
    fn follow(&mut self, now: i64) {
        for (index, periodic) in &mut self.periodics {
            if periodic.interval > 0
                && let Some(timer) = periodic.timer
            {
                self.moments.remove(timer);
                let moment = next_moment(periodic.offset, periodic.interval, now);
                periodic.timer = Some(self.moments.add(moment, index as u32));
            }
        }
    }

    fn expire(&mut self, now: i64, fired: &mut Vec<Fired<T>>) {
        let due = u64::try_from(now).unwrap_or(0);
        let earlier = fired.len();
        while let Some((_, index)) = self.moments.pop_expired(due) {
            let periodic = &mut self.periodics[index as usize];
            periodic.timer = None;
            fired.push(Fired::Periodic { key: PeriodicKey(periodic.handle) });
        }
        // Those with an interval are set anew only now, so that each is reported once.
        for one in &fired[earlier..] {
            let Fired::Periodic { key } = one else { continue };
            let index = key.0.index;
            let periodic = &mut self.periodics[index as usize];
            if periodic.interval > 0 {
                let moment = next_moment(periodic.offset, periodic.interval, now);
                periodic.timer = Some(self.moments.add(moment, index));
            }
        }
    }

    /// In a forked child: gives up the descriptor that is shared with the parent. The poller is to
    /// be rebuilt after this.
    pub(crate) fn reinit_after_fork(&mut self, descriptors: &mut Descriptors<T>) -> io::Result<()> {
        if self.clock.is_none() {
            return Ok(());
        }
        descriptors.remove_clock();
        let clock = WallClock::open();
        if let Some(fd) = clock.fd() {
            descriptors.add_clock(fd)?;
        }
        self.clock = Some(clock);
        self.set_for = None;
        Ok(())
    }

    /// Removes everything.
    pub(crate) fn drain(&mut self, descriptors: &mut Descriptors<T>, out: &mut Vec<T>) {
        descriptors.remove_clock();
        self.clock = None;
        self.set_for = None;
        self.moments.drain().for_each(drop);
        out.extend(self.periodics.drain().map(|periodic| periodic.data));
    }
}

fn as_signed(moment: u64) -> i64 {
    i64::try_from(moment).unwrap_or(i64::MAX)
}

/// The moment a timer is due at next: `offset` itself without an interval, else the first of
/// `offset` + n * `interval` after `now`. Moments before the epoch count as the epoch.
fn next_moment(offset: i64, interval: u64, now: i64) -> u64 {
    let (offset, interval, now) = (i128::from(offset), i128::from(interval), i128::from(now));
    let moment = if interval == 0 {
        offset
    } else {
        offset + ((now - offset).div_euclid(interval) + 1) * interval
    };
    u64::try_from(moment.max(0)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{AnyPoller, Backend};
    use crate::waker::Waker;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn the_next_moment_is_the_first_after_now() {
        assert_eq!(next_moment(7, 0, 100), 7, "without an interval it is the offset");
        assert_eq!(next_moment(0, 10, 35), 40);
        assert_eq!(next_moment(0, 10, 40), 50, "after, not at");
        assert_eq!(next_moment(3, 10, 35), 43);
        assert_eq!(next_moment(95, 10, 35), 45, "an offset ahead counts back");
        assert_eq!(next_moment(-3, 10, 35), 37);
        assert_eq!(next_moment(-5, 0, 35), 0);
        assert_eq!(next_moment(i64::MAX, u64::MAX, i64::MAX), u64::MAX);
    }

    /// When the clock is set forward over many moments, or back, each timer is due at the next
    /// moment of the new time.
    #[test]
    fn timers_with_an_interval_follow_a_clock_that_is_set() {
        let waker = Waker::new().unwrap();
        let poller = AnyPoller::new(Backend::Poll).unwrap();
        let mut descriptors = Descriptors::new(poller, waker.reader_fd()).unwrap();
        let mut timers = PeriodicTimers::new();
        let minute = 60 * SECOND as u64;
        let every = timers.add(&mut descriptors, 0, minute, "every").unwrap();
        let far = wall_clock::now() + 400 * SECOND;
        let once = timers.add(&mut descriptors, far, 0, "once").unwrap();
        let mut fired = Vec::new();
        let keys = |fired: &mut Vec<Fired<&str>>| -> Vec<PeriodicKey> {
            fired
                .drain(..)
                .map(|one| match one {
                    Fired::Periodic { key } => key,
                    other => panic!("{other:?}"),
                })
                .collect()
        };

        let first = timers.moment(every).unwrap() as i64;
        assert_eq!(first % minute as i64, 0);
        timers.expire(first - 1, &mut fired);
        assert!(fired.is_empty());
        timers.expire(first, &mut fired);
        assert_eq!(keys(&mut fired), [every]);
        assert_eq!(timers.moment(every), Some(first as u64 + minute));

        let hours_on = first + 7_200 * SECOND + 1;
        timers.follow(hours_on);
        assert_eq!(timers.moment(every), Some((first + 7_260 * SECOND) as u64));
        assert_eq!(timers.moment(once), Some(far as u64), "a moment is a moment");
        timers.expire(hours_on, &mut fired);
        assert_eq!(keys(&mut fired), [once], "it is past now");
        assert_eq!(timers.moment(once), None);

        timers.follow(first - 30 * SECOND);
        assert_eq!(timers.moment(every), Some(first as u64));
        assert_eq!((timers.remove(every), timers.remove(every)), (Some("every"), None));
        assert_eq!(timers.data(once), Some(&"once"));
        assert_eq!(timers.remove(once), Some("once"));
        assert!(timers.is_empty());
    }
}
