//! The contract between the reactor and the kernel interface it polls with.
//!
//! A [`Poller`] maps descriptors to (token, mode) registrations and reports (token, readiness)
//! pairs. It knows nothing of waiters, owners or payloads; [`crate::descriptors`] decides what is
//! registered and how. A backend is one file that implements the trait.
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
//!   ready at the time of an `add` or `modify`. A backend that cannot do this says so in
//!   [`edge_triggered`]; it then gets exact level interests, changed before every wait that needs
//!   it, so [`modify`] must be cheap there (no system call).
//! * **Tokens** come back as given. A report that was already under way when its registration was
//!   replaced or deleted may still arrive with the old token.
//! * **wait** makes exactly one system call, sleeps no longer than the timeout rounded up to the
//!   clock's resolution, and never returns before the timeout for rounding's sake. It appends to
//!   `events`. A signal that ends it is the error `Interrupted`.
//! * Every descriptor a backend opens is close-on-exec.
//!
//! [`add`]: Poller::add
//! [`modify`]: Poller::modify
//! [`edge_triggered`]: Poller::edge_triggered

#[cfg(test)]
pub(crate) mod counting;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod epoll;
mod poll;

use std::io;
use std::os::fd::RawFd;

use crate::types::{Backend, Interest, Ready};

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
    fn name(&self) -> &'static str;

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

/// The poller in use: an enum, for static dispatch on the hot paths.
pub(crate) enum AnyPoller {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Epoll(epoll::Epoll),
    Poll(poll::Poll),
    #[cfg(test)]
    Counting(counting::Counting),
}

impl AnyPoller {
    pub(crate) fn new(backend: Backend) -> io::Result<AnyPoller> {
        match backend {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Backend::Auto | Backend::Epoll => Ok(AnyPoller::Epoll(epoll::Epoll::new()?)),
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            Backend::Epoll => {
                Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no epoll"))
            }
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            Backend::Auto => Ok(AnyPoller::Poll(poll::Poll::new())),
            Backend::Poll => Ok(AnyPoller::Poll(poll::Poll::new())),
        }
    }
}

macro_rules! dispatch {
    ($self:ident, $poller:ident => $call:expr) => {
        match $self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            AnyPoller::Epoll($poller) => $call,
            AnyPoller::Poll($poller) => $call,
            #[cfg(test)]
            AnyPoller::Counting($poller) => $call,
        }
    };
}

impl Poller for AnyPoller {
    fn name(&self) -> &'static str {
        dispatch!(self, poller => poller.name())
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
