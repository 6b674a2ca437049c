//! The contract between the reactor and the kernel interface it polls with.
//!
//! A [`Poller`] maps descriptors to (token, mode) registrations and reports (token, readiness)
//! pairs. It knows nothing of waiters, owners, payloads, timers or signals; [`crate::descriptors`]
//! decides what is registered and how.
//!
//! # To add a backend
//!
//! Write one file with a type that implements [`Poller`] and has `fn open() -> io::Result<Self>`,
//! declare it as a module, and give it a line in the table of backends below, at the place where
//! [`Backend::Auto`] shall try it. `open` fails with `Unsupported` or the kernel's ENOSYS, EPERM,
//! EACCES or EINVAL where the system lacks the interface: the next line of the table is tried then.
//! Nothing else names backends: the tests, the names that programs choose by, and what Python shows
//! are made of the table. `tests/` runs every scenario on every line of it (`each_backend`), and
//! `tests/model.rs` compares it with a model; a backend that passes is done.
//!
//! How the interfaces that are not here would fit: kqueue(2) is edge-triggered (`EV_CLEAR` on both
//! filters; adding a filter reports what is ready already), its identities are the number's, gone
//! when it is closed, so `modify` re-adds and `ENOENT` of a deletion is `NotFound`. io_uring keeps
//! a multishot `POLL_ADD` per registration with the token as its user data, which is edge-triggered
//! in the sense below; submissions of `add` and `modify` may wait for the `io_uring_enter` of
//! [`wait`], and a completion without `IORING_CQE_F_MORE` is followed by a new submission.
//!
//! # The contract
//!
//!
//! What a backend promises:
//!
//! * **Identity.** A registration belongs to the *open file* that had the descriptor number when
//!   it was made. If the kernel can tell that the number now means another file, [`modify`]
//!   reports `NotFound`; [`add`] replaces any registration the number has. A backend that goes by
//!   number alone (poll) never reports `NotFound` and simply follows the number.
//! * **Level mode** reports a direction in every wait for as long as it is ready. An error or a
//!   hang-up is reported whatever the interest. With an empty interest nothing is reported.
//! * **Edge mode** reports both directions, each time one becomes ready, *and* reports what is
//!   ready at the time of an `add` or `modify`. It also reports, each time together with all that
//!   is ready then, that the other side has finished sending and that urgent data has come
//!   ([`Ready::UNUSUAL`](crate::types::Ready::UNUSUAL)). A backend that cannot do this says so in
//!   [`edge_triggered`]; it then gets exact level interests, changed before every wait that needs
//!   it, so [`modify`] must be cheap there (no system call).
//! * **Tokens** come back as given. A report that was already under way when its registration was
//!   replaced or deleted may still arrive with the old token.
//! * **wait** makes exactly one system call, sleeps no longer than the timeout rounded up to the
//!   clock's resolution, and never returns before the timeout for rounding's sake. It appends to
//!   `events`. A signal that ends it is the error `Interrupted`.
//! * Every descriptor a backend opens is close-on-exec. [`fd`] is the one, if there is one, that
//!   other loops can wait on in this one's place: readable while `wait` would report something.
//! * **After a fork** the child calls [`reset`], which must not touch what it shares with the
//!   parent: registrations are left where they are, and new kernel objects made.
//!
//! [`wait`]: Poller::wait
//! [`reset`]: Poller::reset
//! [`fd`]: Poller::fd
//! [`add`]: Poller::add
//! [`modify`]: Poller::modify
//! [`edge_triggered`]: Poller::edge_triggered

#[cfg(test)]
pub(crate) mod counting;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod epoll;
mod poll;
pub(crate) mod wall_clock;

use std::io;
use std::os::fd::RawFd;

use rustix::io::Errno;

use crate::types::{Interest, Ready};

/// How a descriptor is registered.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Both directions, edge-triggered.
    Edge,
    /// The given directions, level-triggered.
    Level(Interest),
}

/// What became of a new registration.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Added {
    /// It will be reported when ready.
    Pollable,
    /// The file (a regular file, a directory) cannot be polled because it is always ready; it has
    /// not been registered.
    AlwaysReady,
}

/// One report of a wait.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Event {
    pub(crate) token: u64,
    pub(crate) ready: Ready,
}

/// See the module's documentation for the contract.
pub(crate) trait Poller {
    /// As in the table of backends.
    fn name(&self) -> &'static str;

    /// The descriptor by which this poller can be waited on itself, if it has one.
    fn fd(&self) -> Option<RawFd> {
        None
    }

    /// Whether [`Mode::Edge`] may be used.
    fn edge_triggered(&self) -> bool;

    /// Registers a descriptor, or replaces the registration its file has. `EBADF` if it is not
    /// open.
    fn add(&mut self, fd: RawFd, token: u64, mode: Mode) -> io::Result<Added>;

    /// Changes a registration. `NotFound` if the file that has the number now has none, `EBADF`
    /// if the number is not open; the earlier registration is out of reach then.
    fn modify(&mut self, fd: RawFd, token: u64, mode: Mode) -> io::Result<()>;

    /// Ends a registration. An error means that it is out of reach or had gone already.
    fn delete(&mut self, fd: RawFd) -> io::Result<()>;

    /// Waits until something is ready or `timeout` nanoseconds are over; forever if `None`.
    fn wait(&mut self, timeout: Option<u64>, events: &mut Vec<Event>) -> io::Result<()>;

    /// Starts anew with nothing registered, on kernel objects shared with no other process. On
    /// an error everything is as before.
    fn reset(&mut self) -> io::Result<()>;
}

/// Makes of the table of backends what the reactor and its users need: the public [`Backend`], the
/// enum of pollers (for static dispatch on the hot paths), and the order of preference.
macro_rules! backends {
    ($($(#[doc = $doc:literal])* $(#[cfg($when:meta)])? $name:ident = $text:literal in $poller:ty;)+) => {
        /// Which kernel interface a [`Reactor`](crate::Reactor) polls with.
        #[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
        pub enum Backend {
            /// The first of [`Backend::SUPPORTED`] that works.
            #[default]
            Auto,
            $($(#[doc = $doc])* $(#[cfg($when)])? $name,)+
        }

        impl Backend {
            /// What this platform has, the best first.
            pub const SUPPORTED: &[Backend] = &[$($(#[cfg($when)])? Backend::$name,)+];

            /// The name: `"auto"`, or that of [`Reactor::backend`](crate::Reactor::backend).
            pub const fn name(self) -> &'static str {
                match self {
                    Backend::Auto => "auto",
                    $($(#[cfg($when)])? Backend::$name => $text,)+
                }
            }
        }

        /// The poller in use.
        pub(crate) enum AnyPoller {
            $($(#[cfg($when)])? $name($poller),)+
            #[cfg(test)]
            Counting(counting::Counting),
        }

        impl AnyPoller {
            pub(crate) fn new(backend: Backend) -> io::Result<AnyPoller> {
                match backend {
                    Backend::Auto => AnyPoller::first_of(Backend::SUPPORTED),
                    $($(#[cfg($when)])?
                    Backend::$name => Ok(AnyPoller::$name(<$poller>::open()?)),)+
                }
            }
        }

        macro_rules! dispatch {
            ($self:ident, $one:ident => $call:expr) => {
                match $self {
                    $($(#[cfg($when)])? AnyPoller::$name($one) => $call,)+
                    #[cfg(test)]
                    AnyPoller::Counting($one) => $call,
                }
            };
        }
    };
}

// The table of backends, in the order in which `Backend::Auto` tries them.
backends! {
    /// epoll(7).
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Epoll = "epoll" in epoll::Epoll;
    /// poll(2), on any Unix.
    Poll = "poll" in poll::Poll;
}

impl AnyPoller {
    /// A kernel that lacks an interface, or a filter that refuses it, leaves the next one. Want of
    /// descriptors or memory is an error whatever the interface.
    fn first_of(backends: &[Backend]) -> io::Result<AnyPoller> {
        let mut outcome = Err(io::ErrorKind::Unsupported.into());
        for &backend in backends {
            outcome = AnyPoller::new(backend);
            match &outcome {
                Err(error) if is_missing(error) => {}
                _ => break,
            }
        }
        outcome
    }
}

/// Whether the system does not have, or does not allow, what was asked for.
fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
        || matches!(
            Errno::from_io_error(error),
            Some(Errno::NOSYS | Errno::PERM | Errno::ACCESS | Errno::INVAL)
        )
}

impl Poller for AnyPoller {
    fn name(&self) -> &'static str {
        dispatch!(self, poller => poller.name())
    }

    fn fd(&self) -> Option<RawFd> {
        dispatch!(self, poller => poller.fd())
    }

    #[inline]
    fn edge_triggered(&self) -> bool {
        dispatch!(self, poller => poller.edge_triggered())
    }

    fn add(&mut self, fd: RawFd, token: u64, mode: Mode) -> io::Result<Added> {
        dispatch!(self, poller => poller.add(fd, token, mode))
    }

    fn modify(&mut self, fd: RawFd, token: u64, mode: Mode) -> io::Result<()> {
        dispatch!(self, poller => poller.modify(fd, token, mode))
    }

    fn delete(&mut self, fd: RawFd) -> io::Result<()> {
        dispatch!(self, poller => poller.delete(fd))
    }

    #[inline]
    fn wait(&mut self, timeout: Option<u64>, events: &mut Vec<Event>) -> io::Result<()> {
        dispatch!(self, poller => poller.wait(timeout, events))
    }

    fn reset(&mut self) -> io::Result<()> {
        dispatch!(self, poller => poller.reset())
    }
}

/// Borrows a descriptor that the reactor's caller answers for.
///
/// # Safety
///
/// The result must only be passed to a system call that reports a closed descriptor as an error,
/// and not be kept longer than the poller is told about the descriptor.
pub(crate) unsafe fn borrow<'fd>(fd: RawFd) -> std::os::fd::BorrowedFd<'fd> {
    debug_assert!(fd >= 0);
    // SAFETY: `fd` is not -1: negative numbers are refused where descriptors enter the reactor.
    // Whether it is still open is for the kernel to say, as the caller promises; no memory hangs
    // on it.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Nanoseconds as a timespec. The longest timeout, 584 years, fits.
fn timespec(nanos: u64) -> rustix::event::Timespec {
    rustix::event::Timespec {
        tv_sec: (nanos / NANOS_PER_SECOND) as _,
        tv_nsec: (nanos % NANOS_PER_SECOND) as _,
    }
}
