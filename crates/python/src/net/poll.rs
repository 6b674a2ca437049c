//! Waiting for descriptors by number: `wait_read` and its like, `select`, `poll`.

use super::errors::{check_signals, closed_elsewhere, errno, last_error};
use crate::hub::wait::{Reason, Wait};
use crate::hub::{Source, reactor_error};
use crate::time::deadline_after;
use greenloop_reactor::Interest;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Bits of `events` in `_wait_fd`.
const READ: i32 = 1;
const WRITE: i32 = 2;

/// Events that the reactor waits for itself.
const PLAIN: i16 = libc::POLLIN | libc::POLLOUT;

/// _wait_fd(fd, events, timeout=None)
/// --
///
/// Waits until a descriptor is ready: `events` is 1 for reading, 2 for writing, 3 for either.
/// True if it is, False after `timeout` seconds.
///
/// Raises OSError for a descriptor that is not open, or is closed by greenloop meanwhile.
#[pyfunction]
#[pyo3(signature = (fd, events, timeout = None))]
fn _wait_fd(py: Python<'_>, fd: RawFd, events: i32, timeout: Option<f64>) -> PyResult<bool> {
    let interest = match events {
        READ => Interest::READABLE,
        WRITE => Interest::WRITABLE,
        3 => Interest::READABLE | Interest::WRITABLE,
        other => return Err(PyValueError::new_err(format!("illegal events mask: {other}"))),
    };
    let deadline = timeout.map(deadline_after);
    let wait = Wait::begin(py, std::ptr::null_mut())?;
    match wait.park_on_fd(py, fd, 0, interest, deadline).into_result()? {
        Reason::Notified => Ok(true),
        Reason::TimedOut => Ok(false),
        Reason::Closed => Err(closed_elsewhere(py)),
    }
}

/// _poll(entries, timeout=None)
/// --
///
/// As poll(2), but blocks the running greenlet only. `entries` is a list of `(fd, events)`,
/// `timeout` is in seconds, None for no limit. Returns the `(fd, events)` that are ready.
#[pyfunction]
#[pyo3(signature = (entries, timeout = None))]
fn _poll(
    py: Python<'_>,
    entries: Vec<(RawFd, u16)>,
    timeout: Option<f64>,
) -> PyResult<Vec<(RawFd, u16)>> {
    let mut entries: Vec<_> = entries
        .into_iter()
        .map(|(fd, events)| libc::pollfd { fd, events: events.cast_signed(), revents: 0 })
        .collect();
    let mut deadline = None;
    let mut over = timeout == Some(0.0);
    loop {
        let ready = look(py, &mut entries)?;
        if over || !ready.is_empty() {
            return Ok(ready);
        }
        if deadline.is_none() {
            deadline = timeout.map(deadline_after);
        }
        over = wait_for_any(py, &entries, deadline)? == Reason::TimedOut;
    }
}

/// Asks the system once.
fn look(py: Python<'_>, entries: &mut [libc::pollfd]) -> PyResult<Vec<(RawFd, u16)>> {
    // SAFETY: so many valid entries; does not wait.
    while unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, 0) } < 0 {
        match errno() {
            libc::EINTR => check_signals(py)?,
            _ => return Err(last_error(py)),
        }
    }
    Ok(entries
        .iter()
        .filter(|entry| entry.revents != 0)
        .map(|entry| (entry.fd, entry.revents.cast_unsigned()))
        .collect())
}

/// Parks until one of the entries may be ready.
fn wait_for_any(
    py: Python<'_>,
    entries: &[libc::pollfd],
    deadline: Option<u64>,
) -> PyResult<Reason> {
    let is_plain = |entry: &libc::pollfd| entry.events & PLAIN != 0 && entry.events & !PLAIN == 0;
    match entries {
        [] => Wait::begin(py, std::ptr::null_mut())?.park(None, deadline).into_result(),
        [only] if is_plain(only) => {
            let wait = Wait::begin(py, std::ptr::null_mut())?;
            wait.park_on_fd(py, only.fd, 0, interest(only.events), deadline).into_result()
        }
        _ if entries.iter().all(is_plain) => wait_on_each(py, plain_parts(entries), deadline),
        // Urgent data, half-closed connections, errors alone: the reactor has no names for
        // them, a descriptor that stands for all of them has.
        _ => {
            let all = gather(py, entries)?;
            // It forgets a descriptor that is closed; the reactor tells.
            let waits = std::iter::once((all.as_raw_fd(), Interest::READABLE));
            wait_on_each(py, waits.chain(plain_parts(entries)), deadline)
        }
    }
}

fn interest(events: i16) -> Interest {
    match events & PLAIN {
        libc::POLLIN => Interest::READABLE,
        libc::POLLOUT => Interest::WRITABLE,
        _ => Interest::READABLE | Interest::WRITABLE,
    }
}

/// What the reactor can wait for.
fn plain_parts(entries: &[libc::pollfd]) -> impl Iterator<Item = (RawFd, Interest)> {
    entries
        .iter()
        .filter(|entry| entry.events & PLAIN != 0)
        .map(|entry| (entry.fd, interest(entry.events)))
}

fn wait_on_each(
    py: Python<'_>,
    waits: impl Iterator<Item = (RawFd, Interest)>,
    deadline: Option<u64>,
) -> PyResult<Reason> {
    let wait = Wait::begin(py, std::ptr::null_mut())?;
    let hub = wait.hub();
    let mut keys = Vec::new();
    let mut failed = None;
    for (fd, interest) in waits {
        let source = Source::Wait(wait.ticket());
        let registered = hub.reactor(|reactor| reactor.wait_fd(fd, 0, interest, source));
        match registered {
            Ok(key) => keys.push(key),
            Err(error) => {
                // Ends the wait, which has begun, at the next turn.
                wait.ticket().wake(Reason::Notified);
                failed = Some(reactor_error(py, &error));
                break;
            }
        }
    }
    let woken = wait.park(None, deadline);
    for key in keys {
        drop(hub.reactor(|reactor| reactor.wait_cancel(key)));
    }
    match failed {
        Some(error) if woken.error.is_none() => Err(error),
        _ => woken.into_result(),
    }
}

/// An epoll descriptor that is readable when one of the entries is ready.
fn gather(py: Python<'_>, entries: &[libc::pollfd]) -> PyResult<OwnedFd> {
    // SAFETY: a new descriptor, or -1.
    let all = unsafe {
        match libc::epoll_create1(libc::EPOLL_CLOEXEC) {
            -1 => return Err(last_error(py)),
            fd => OwnedFd::from_raw_fd(fd),
        }
    };
    for entry in entries {
        // The bits mean the same for both calls.
        let events = u32::from(entry.events.cast_unsigned());
        let mut event = libc::epoll_event { events, u64: 0 };
        // SAFETY: valid descriptors and a valid event.
        let status = unsafe {
            libc::epoll_ctl(all.as_raw_fd(), libc::EPOLL_CTL_ADD, entry.fd, &raw mut event)
        };
        if status != 0 {
            return Err(last_error(py));
        }
    }
    Ok(all)
}

/// _forget_fd(fd)
/// --
///
/// Ends all waits of this thread for a descriptor that is about to be closed.
#[pyfunction]
fn _forget_fd(py: Python<'_>, fd: RawFd) {
    super::state::forget(py, fd);
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    for function in [
        wrap_pyfunction!(_wait_fd, module)?,
        wrap_pyfunction!(_poll, module)?,
        wrap_pyfunction!(_forget_fd, module)?,
    ] {
        module.add_function(function)?;
    }
    Ok(())
}
