//! The wall clock: its time, and word of its being set.
//!
//! On Linux a timerfd tells both that a moment has come and that somebody has set the clock. Where
//! there is none, waits for a moment on the wall clock are cut into short ones, and the clock is
//! compared with the monotonic one after each.

use std::io;
use std::os::fd::RawFd;

use rustix::time::{ClockId, clock_gettime};

use crate::monotonic_ns;

/// How long a wait may be without a descriptor that tells (ns).
const LONGEST_WAIT: u64 = 500_000_000;

/// What the clocks may drift apart between two looks without the wall clock having been set (ns).
const DRIFT: i64 = 50_000_000;

/// The wall clock's time: nanoseconds since the epoch.
pub(crate) fn now() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec as i64 * 1_000_000_000 + now.tv_nsec as i64
}

pub(crate) struct WallClock {
    #[cfg(target_os = "linux")]
    fd: Option<std::os::fd::OwnedFd>,
    /// The wall clock's lead over the monotonic one, when it was last looked at.
    lead: i64,
}

impl WallClock {
    /// Uses the kernel's notification if it has one.
    pub(crate) fn open() -> WallClock {
        #[cfg(target_os = "linux")]
        {
            use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let fd = timerfd_create(TimerfdClockId::Realtime, flags).ok();
            WallClock { fd, lead: lead() }
        }
        #[cfg(not(target_os = "linux"))]
        WallClock::without_notification()
    }

    #[cfg(any(test, not(target_os = "linux")))]
    pub(crate) fn without_notification() -> WallClock {
        WallClock {
            #[cfg(target_os = "linux")]
            fd: None,
            lead: lead(),
        }
    }

    /// The descriptor that becomes readable at the moment set, or when the clock is set.
    pub(crate) fn fd(&self) -> Option<RawFd> {
        #[cfg(target_os = "linux")]
        return self.fd.as_ref().map(std::os::fd::AsRawFd::as_raw_fd);
        #[cfg(not(target_os = "linux"))]
        None
    }

    /// Sets the moment (ns since the epoch) at which the descriptor becomes readable.
    pub(crate) fn set(&self, moment: i64) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if let Some(fd) = &self.fd {
            use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
            // Zero would stop the timer.
            let moment = moment.max(1);
            let value =
                Timespec { tv_sec: moment / 1_000_000_000, tv_nsec: moment % 1_000_000_000 };
            let never = Timespec { tv_sec: 0, tv_nsec: 0 };
            timerfd_settime(
                fd,
                TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET,
                &Itimerspec { it_interval: never, it_value: value },
            )?;
        }
        let _ = moment;
        Ok(())
    }

    /// How long a poll may wait for `moment`, at the time `now`: None if the descriptor will tell.
    pub(crate) fn longest_wait(&self, moment: i64, now: i64) -> Option<u64> {
        if self.fd().is_some() {
            return None;
        }
        Some(u64::try_from(moment.saturating_sub(now)).unwrap_or(0).min(LONGEST_WAIT))
    }

    /// Whether the clock has been set since this was last asked. `readable` says whether the
    /// descriptor was reported.
    pub(crate) fn was_set(&mut self, readable: bool) -> bool {
        #[cfg(target_os = "linux")]
        if let Some(fd) = &self.fd {
            use rustix::io::{Errno, read, retry_on_intr};
            let mut count = [0; 8];
            return readable && retry_on_intr(|| read(fd, &mut count)) == Err(Errno::CANCELED);
        }
        let _ = readable;
        let lead = lead();
        (lead - std::mem::replace(&mut self.lead, lead)).abs() > DRIFT
    }
}

fn lead() -> i64 {
    now() - monotonic_ns() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_nobody_sets_is_not_taken_for_set() {
        let mut with = WallClock::open();
        with.set(now() + 3_600_000_000_000).unwrap();
        assert!(!with.was_set(false) && !with.was_set(true));
        let mut without = WallClock::without_notification();
        assert!(!without.was_set(false) && !without.was_set(false));
        without.lead -= 2 * DRIFT;
        assert!(without.was_set(false), "it has been set, by as much");
        assert!(!without.was_set(false));
    }

    #[test]
    fn without_notification_waits_are_short() {
        let without = WallClock::without_notification();
        assert_eq!(without.longest_wait(1_000, 400), Some(600));
        assert_eq!(without.longest_wait(400, 1_000), Some(0));
        assert_eq!(without.longest_wait(i64::MAX, i64::MIN), Some(LONGEST_WAIT));
        #[cfg(target_os = "linux")]
        assert_eq!(WallClock::open().longest_wait(1_000, 400), None);
    }
}
