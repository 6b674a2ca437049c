//! The small value types of the public interface.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};
use std::str::FromStr;

use crate::arena::Handle;
use crate::sys::Backend;

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The error of parsing a [`Backend`] from a name it does not have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseBackendError {
    name: String,
}

impl fmt::Display for ParseBackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown backend {:?}: expected {:?}", self.name, Backend::Auto.name())?;
        Backend::SUPPORTED.iter().try_for_each(|backend| write!(f, ", {:?}", backend.name()))
    }
}

impl std::error::Error for ParseBackendError {}

impl FromStr for Backend {
    type Err = ParseBackendError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        [Backend::Auto]
            .iter()
            .chain(Backend::SUPPORTED)
            .find(|backend| backend.name() == name)
            .copied()
            .ok_or_else(|| ParseBackendError { name: name.to_owned() })
    }
}

const READ: u8 = 1;
const WRITE: u8 = 2;
const ERROR: u8 = 4;
const HANGUP: u8 = 8;
const INVALID: u8 = 16;
const UNUSUAL: u8 = 32;

/// A set of directions to wait for.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Default)]
pub struct Interest(u8);

impl Interest {
    /// Data to read, a connection to accept, or end of file.
    pub const READABLE: Interest = Interest(READ);
    /// Room to write, or a connection attempt that has ended.
    pub const WRITABLE: Interest = Interest(WRITE);

    pub(crate) const EMPTY: Interest = Interest(0);
    pub(crate) const BOTH: Interest = Interest(READ | WRITE);

    /// Whether every direction of `other` is in `self`.
    #[inline]
    pub const fn contains(self, other: Interest) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is no direction at all in it.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[inline]
    pub(crate) const fn without(self, other: Interest) -> Interest {
        Interest(self.0 & !other.0)
    }

    #[inline]
    pub(crate) const fn and(self, other: Interest) -> Interest {
        Interest(self.0 & other.0)
    }
}

impl BitOr for Interest {
    type Output = Interest;

    #[inline]
    fn bitor(self, other: Interest) -> Interest {
        Interest(self.0 | other.0)
    }
}

impl BitOrAssign for Interest {
    #[inline]
    fn bitor_assign(&mut self, other: Interest) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_flags(f, self.0, &[(READ, "READABLE"), (WRITE, "WRITABLE")])
    }
}

/// What a descriptor was found ready for.
///
/// The directions are limited to those that were asked for. An error or a hang-up makes both
/// directions ready before that limit is applied, so that whoever waits is woken and meets the
/// condition in its own system call.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Default)]
pub struct Ready(u8);

impl Ready {
    pub(crate) const BOTH: Ready = Ready(READ | WRITE);
    /// What a wait gets whose descriptor is gone.
    pub(crate) const GONE: Ready = Ready(READ | WRITE | ERROR);
    /// The other side has finished sending, or urgent data has come. Never shown to callers.
    pub(crate) const UNUSUAL: Ready = Ready(UNUSUAL);
    /// poll(2) found that the number is no open descriptor. Never shown to callers.
    pub(crate) const CLOSED: Ready = Ready(READ | WRITE | ERROR | INVALID);

    #[inline]
    pub(crate) const fn new(readable: bool, writable: bool, error: bool, hangup: bool) -> Ready {
        let mut bits = 0;
        if readable {
            bits |= READ;
        }
        if writable {
            bits |= WRITE;
        }
        if error {
            bits |= ERROR | READ | WRITE;
        }
        if hangup {
            bits |= HANGUP | READ | WRITE;
        }
        Ready(bits)
    }

    /// Reading will not block.
    #[inline]
    pub const fn readable(self) -> bool {
        self.0 & READ != 0
    }

    /// Writing will not block.
    #[inline]
    pub const fn writable(self) -> bool {
        self.0 & WRITE != 0
    }

    /// The descriptor has a pending error, or is gone: closed, forgotten, or its number reused.
    #[inline]
    pub const fn error(self) -> bool {
        self.0 & ERROR != 0
    }

    /// The other side has closed both directions.
    #[inline]
    pub const fn hangup(self) -> bool {
        self.0 & HANGUP != 0
    }

    #[inline]
    pub(crate) const fn and(self, other: Ready) -> Ready {
        Ready(self.0 | other.0)
    }

    /// Whether something else than bytes may be found by reading, once these are used up or
    /// between them: the end, an error, urgent data.
    #[inline]
    pub(crate) const fn is_unusual(self) -> bool {
        self.0 & (UNUSUAL | ERROR | HANGUP) != 0
    }

    #[inline]
    pub(crate) const fn closed(self) -> bool {
        self.0 & INVALID != 0
    }

    #[inline]
    pub(crate) const fn interest(self) -> Interest {
        Interest(self.0 & (READ | WRITE))
    }

    /// The part of this that a waiter for `interest` asked for.
    #[inline]
    pub(crate) const fn limited_to(self, interest: Interest) -> Ready {
        Ready(self.0 & (interest.0 | ERROR | HANGUP))
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_flags(
            f,
            self.0,
            &[(READ, "READABLE"), (WRITE, "WRITABLE"), (ERROR, "ERROR"), (HANGUP, "HANGUP")],
        )
    }
}

fn write_flags(f: &mut fmt::Formatter<'_>, bits: u8, names: &[(u8, &str)]) -> fmt::Result {
    let mut first = true;
    for (bit, name) in names {
        if bits & bit != 0 {
            if !first {
                f.write_str(" | ")?;
            }
            f.write_str(name)?;
            first = false;
        }
    }
    if first {
        f.write_str("(none)")?;
    }
    Ok(())
}

/// Names a timer. Harmless once the timer has expired or was removed: no key is ever given twice.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct TimerKey(pub(crate) Handle);

/// Names a one-shot wait. Harmless once the wait has fired or was cancelled.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct WaitKey(pub(crate) Handle);

/// Names a watch. Harmless once the watch was taken back.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct WatchKey(pub(crate) Handle);

/// Names a signal registration. Harmless once the registration was removed.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct SignalKey(pub(crate) Handle);

/// Names a periodic timer. Harmless once it was removed.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct PeriodicKey(pub(crate) Handle);

/// Names a watched child process. Harmless once it was removed.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct ChildKey(pub(crate) Handle);

/// One thing that [`Reactor::poll`](crate::Reactor::poll) found.
#[derive(Debug)]
pub enum Fired<T> {
    /// A one-shot wait has ended; its key is no longer valid.
    Wait {
        /// The key `wait_fd` gave.
        key: WaitKey,
        /// What the descriptor is ready for.
        ready: Ready,
        /// The payload given to `wait_fd`.
        data: T,
    },
    /// A watch's descriptor is ready. The watch stays, unless `ready` says that the descriptor
    /// was forgotten or closed, after which it never fires again.
    Watch {
        /// The key `watch` gave.
        key: WatchKey,
        /// What the descriptor is ready for.
        ready: Ready,
    },
    /// A timer has expired; its key is no longer valid.
    Timer {
        /// The key `timer_add` gave.
        key: TimerKey,
        /// The payload given to `timer_add`.
        data: T,
    },
    /// A signal has arrived, once or more often. The registration stays.
    Signal {
        /// The key `signal_add` gave.
        key: SignalKey,
        /// The signal's number.
        signum: i32,
    },
    /// A periodic timer's moment has come. The timer stays, and one with an interval is set for its
    /// next moment.
    Periodic {
        /// The key `periodic_add` gave.
        key: PeriodicKey,
    },
    /// A child process has changed its state. The registration stays, and reports nothing more once
    /// the child has ended.
    Child {
        /// The key `child_add` gave.
        key: ChildKey,
        /// The child's process ID.
        pid: i32,
        /// What waitpid(2) said of it. None if the child has ended and somebody else has waited for
        /// it, which leaves nothing to be known.
        status: Option<i32>,
    },
    /// Someone called [`Waker::wake`](crate::Waker::wake), wrote to its descriptor, or a signal
    /// arrived. Reported at most once per poll.
    Woken,
}

/// How a poll went.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Polled {
    /// A signal handler ran on this thread while it was waiting, which ended the wait.
    pub interrupted: bool,
    /// Somebody's signal handler has written to [`Waker::raw_fd`](crate::Waker::raw_fd).
    pub signalled: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backend_names_round_trip() {
        assert!(Backend::SUPPORTED.contains(&Backend::Poll));
        for &backend in [Backend::Auto].iter().chain(Backend::SUPPORTED) {
            assert_eq!(backend.to_string().parse::<Backend>(), Ok(backend));
        }
        let error = "devpoll".parse::<Backend>().unwrap_err();
        assert!(error.to_string().contains("\"devpoll\": expected \"auto\""));
    }

    #[test]
    fn interest_is_a_set() {
        let both = Interest::READABLE | Interest::WRITABLE;
        assert!(both.contains(Interest::READABLE));
        assert!(both.contains(both));
        assert!(!Interest::READABLE.contains(both));
        assert!(both.without(both).is_empty());
        assert_eq!(format!("{both:?}"), "READABLE | WRITABLE");
    }

    #[test]
    fn errors_and_hangups_make_both_directions_ready() {
        for ready in [
            Ready::new(false, false, true, false),
            Ready::new(false, false, false, true),
            Ready::GONE,
            Ready::CLOSED,
        ] {
            assert!(ready.readable() && ready.writable());
        }
        let limited = Ready::new(false, false, true, true).limited_to(Interest::READABLE);
        assert!(limited.readable() && !limited.writable());
        assert!(limited.error() && limited.hangup());
        assert!(!Ready::CLOSED.limited_to(Interest::BOTH).closed());
    }
}
