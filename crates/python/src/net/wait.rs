//! Trying a system call, and waiting when it would block.

use super::errors::{check_signals, errno};
use super::state::{Place, SocketState};
use crate::errors::os_error;
use crate::hub::wait::Thrown;
use crate::time::deadline_after;
use greenloop_reactor::{Interest, monotonic_ns};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::os::fd::RawFd;

/// What a system call on a socket waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Read,
    Write,
}

impl Direction {
    #[inline]
    pub fn interest(self) -> Interest {
        match self {
            Self::Read => Interest::READABLE,
            Self::Write => Interest::WRITABLE,
        }
    }

    /// Where whoever waits for this alone does so.
    #[inline]
    pub fn place(self) -> Place {
        match self {
            Self::Read => Place::Reader,
            Self::Write => Place::Writer,
        }
    }

    /// 1 for reading, 2 for writing.
    pub fn from_bits(bits: i32) -> PyResult<Self> {
        match bits {
            1 => Ok(Self::Read),
            2 => Ok(Self::Write),
            other => Err(PyValueError::new_err(format!("expected 1 or 2, not {other}"))),
        }
    }

    fn poll_bits(self) -> i16 {
        match self {
            Self::Read => libc::POLLIN,
            Self::Write => libc::POLLOUT,
        }
    }
}

/// Whether a descriptor is ready now, or so wrong that a system call will say so.
pub fn is_ready(fd: RawFd, direction: Direction) -> bool {
    if fd < 0 {
        return true;
    }
    let mut entry = libc::pollfd { fd, events: direction.poll_bits(), revents: 0 };
    // SAFETY: one valid entry; does not wait.
    unsafe { libc::poll(&raw mut entry, 1, 0) != 0 }
}

/// When an operation times out. The clock is read when the operation first has to wait.
pub struct Deadline {
    seconds: Option<f64>,
    at: Option<u64>,
}

impl Deadline {
    #[inline]
    pub fn new(seconds: Option<f64>) -> Self {
        Self { seconds, at: None }
    }

    /// Nanoseconds of the monotonic clock; `None` for never.
    pub fn get(&mut self) -> Option<u64> {
        let seconds = self.seconds?;
        Some(*self.at.get_or_insert_with(|| deadline_after(seconds)))
    }
}

/// One call of a method on a socket.
pub struct Operation<'a, 'py> {
    pub py: Python<'py>,
    pub socket: &'a Bound<'py, PyAny>,
    pub state: &'a Bound<'py, SocketState>,
    direction: Direction,
    deadline: Deadline,
    /// The socket does not wait, or the call says not to (`MSG_DONTWAIT`).
    no_wait: bool,
}

impl<'a, 'py> Operation<'a, 'py> {
    #[inline]
    pub fn new(
        socket: &'a Bound<'py, PyAny>,
        state: &'a Bound<'py, SocketState>,
        direction: Direction,
        flags: i32,
    ) -> Self {
        Self {
            py: socket.py(),
            socket,
            state,
            direction,
            deadline: Deadline::new(state.get().timeout()),
            no_wait: flags & libc::MSG_DONTWAIT != 0 || state.get().is_nonblocking(),
        }
    }

    /// Uses a timeout (seconds) of its own in place of the socket's.
    pub fn limit(&mut self, seconds: Option<f64>) {
        self.no_wait = seconds == Some(0.0);
        self.deadline = Deadline::new(seconds);
    }

    /// Whether the deadline, once set by a wait, has passed.
    pub fn is_over(&self) -> bool {
        self.deadline.at.is_some_and(|at| monotonic_ns() >= at)
    }

    /// Makes a system call until it succeeds, waiting whenever it would block. `call` returns
    /// what the system call does: a negative number for an error in `errno`.
    ///
    /// # Errors
    ///
    /// The system call's OSError; TimeoutError; whatever is thrown into the waiting greenlet.
    #[inline]
    pub fn run(&mut self, call: impl FnMut(RawFd) -> isize) -> Result<usize, Thrown> {
        self.run_from(false, call)
    }

    /// As `run`, for a read: waits first if the last one has shown that another would be in vain.
    #[inline]
    pub fn run_after_exhaustion(
        &mut self,
        call: impl FnMut(RawFd) -> isize,
    ) -> Result<usize, Thrown> {
        self.run_from(self.is_exhausted(), call)
    }

    #[inline]
    fn run_from(
        &mut self,
        mut would_block: bool,
        mut call: impl FnMut(RawFd) -> isize,
    ) -> Result<usize, Thrown> {
        loop {
            if would_block {
                self.wait()?;
            }
            if let Some(result) = self.attempt(&mut call)? {
                return Ok(result);
            }
            would_block = true;
        }
    }

    /// Makes a system call; `None` if the greenlet has to `wait` for it to succeed.
    ///
    /// # Errors
    ///
    /// The system call's OSError, also for want of readiness if the call does not wait.
    #[inline]
    pub fn attempt(
        &mut self,
        call: &mut impl FnMut(RawFd) -> isize,
    ) -> Result<Option<usize>, Thrown> {
        loop {
            let result = call(self.state.get().fd());
            if result >= 0 {
                return Ok(Some(result as usize));
            }
            if errno() == libc::EAGAIN && self.may_wait() {
                return Ok(None);
            }
            interrupted(self.py)?;
        }
    }

    /// Before a read: whether the last one has shown that it would be in vain, and has to `wait`.
    #[inline]
    pub fn is_exhausted(&self) -> bool {
        self.state.get().is_exhausted(self.py) && self.may_wait()
    }

    /// Whether the call waits at all.
    #[inline]
    pub fn may_wait(&self) -> bool {
        !self.no_wait
    }

    /// Waits after `EAGAIN`.
    #[inline]
    pub fn wait(&mut self) -> Result<(), Thrown> {
        let deadline = self.deadline.get();
        SocketState::park(self.state, self.socket, self.direction, deadline)
    }

    /// Waits after something failed that ran Python code.
    pub fn wait_unless_ready(&mut self) -> Result<(), Thrown> {
        let deadline = self.deadline.get();
        SocketState::park_unless_ready(self.state, self.socket, self.direction, deadline)
    }
}

/// After a system call has failed: runs signal handlers if that is because of a signal.
///
/// # Errors
///
/// What a handler raises; the OSError of any other failure.
#[cold]
#[inline(never)]
fn interrupted(py: Python<'_>) -> Result<(), Thrown> {
    match errno() {
        libc::EINTR => Ok(check_signals(py)?),
        number => Err(os_error(py, number).into()),
    }
}
