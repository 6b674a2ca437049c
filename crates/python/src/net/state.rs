//! What greenloop keeps for each socket.

use super::errors::closed_elsewhere;
use super::wait::{self, Deadline, Direction};
use crate::exceptions;
use crate::greenlet::thread::Thread;
use crate::hub::wait::{Reason, Ticket, Wait};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use std::cell::Cell;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

/// Names open sockets for the reactors: never given twice, never 0.
static NEXT_OWNER: AtomicU64 = AtomicU64::new(1);

/// The greenlet that waits for one direction of a socket.
struct Waiting {
    ticket: Ticket,
    /// Borrowed from the ticket.
    greenlet: *mut ffi::PyObject,
}

/// What greenloop keeps for a socket: its timeout, who waits on it. In the slot `_state` of
/// `greenloop.socket.socket`.
#[pyclass(frozen, name = "SocketState", module = "greenloop._core")]
pub struct SocketState {
    /// -1 once the socket is closed or detached.
    fd: Cell<RawFd>,
    family: i32,
    owner: u64,
    /// Seconds; negative for none.
    timeout: Cell<f64>,
    reader: Cell<Option<Waiting>>,
    writer: Cell<Option<Waiting>>,
    /// Whether a reactor may know the descriptor.
    has_waited: Cell<bool>,
    /// Whether a cooperative socket goes on with the descriptor when this one is detached.
    passes_on: Cell<bool>,
}

// SAFETY: used and dropped with the GIL held only.
unsafe impl Send for SocketState {}
// SAFETY: the cells are touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for SocketState {}

const NO_TIMEOUT: f64 = -1.0;

impl SocketState {
    /// The descriptor, -1 once closed.
    #[inline]
    pub fn fd(&self) -> RawFd {
        self.fd.get()
    }

    #[inline]
    pub fn family(&self) -> i32 {
        self.family
    }

    /// Whether calls never wait (timeout 0).
    #[inline]
    pub fn is_nonblocking(&self) -> bool {
        self.timeout.get() == 0.0
    }

    /// Seconds that a call may wait; `None` for as long as it takes.
    #[inline]
    pub fn timeout(&self) -> Option<f64> {
        let seconds = self.timeout.get();
        (seconds >= 0.0).then_some(seconds)
    }

    /// Whether calls wait for as long as it takes.
    #[inline]
    pub fn is_blocking(&self) -> bool {
        self.timeout.get() < 0.0
    }

    fn slot(&self, direction: Direction) -> &Cell<Option<Waiting>> {
        match direction {
            Direction::Read => &self.reader,
            Direction::Write => &self.writer,
        }
    }

    /// Parks the running greenlet until the socket is ready. The caller has tried the system call
    /// and got `EAGAIN`, with no poll of the loop in between.
    pub fn park(
        slf: &Bound<'_, Self>,
        socket: &Bound<'_, PyAny>,
        direction: Direction,
        deadline: Option<u64>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let slot = this.slot(direction);
        if let Some(other) = slot.take() {
            let error = concurrent_use(&other, py);
            slot.set(Some(other));
            return Err(error);
        }
        let thread = Thread::get(py)?;
        let wait = Wait::begin(py, socket.as_ptr())?;
        let here = thread.current().as_ptr();
        slot.set(Some(Waiting { ticket: wait.ticket(), greenlet: here }));
        this.has_waited.set(true);
        let fd = this.fd.get();
        let woken = wait.park_on_fd(py, fd, this.owner, direction.interest(), deadline);
        // Unless the wait was cancelled, and another greenlet waits in this one's place already.
        if let Some(waiting) = slot.take()
            && waiting.greenlet != here
        {
            slot.set(Some(waiting));
        }
        match woken.into_result()? {
            Reason::TimedOut => Err(super::errors::timed_out()),
            Reason::Notified if this.fd.get() == fd => Ok(()),
            Reason::Notified | Reason::Closed => Err(closed_elsewhere(py)),
        }
    }

    /// As `park`, for callers that ran Python code since the system call: looks whether the
    /// socket has become ready in between.
    pub fn park_unless_ready(
        slf: &Bound<'_, Self>,
        socket: &Bound<'_, PyAny>,
        direction: Direction,
        deadline: Option<u64>,
    ) -> PyResult<()> {
        if wait::is_ready(slf.get().fd(), direction) {
            return Ok(());
        }
        Self::park(slf, socket, direction, deadline)
    }

    fn cancel(&self, direction: Direction) {
        if let Some(waiting) = self.slot(direction).take() {
            waiting.ticket.wake(Reason::Closed);
        }
    }

    /// Ends all use of the descriptor, which is about to be closed or given away.
    fn let_go(&self, py: Python<'_>) {
        let fd = self.fd.replace(-1);
        self.cancel(Direction::Read);
        self.cancel(Direction::Write);
        if fd >= 0 && self.has_waited.get() {
            forget(py, fd);
        }
    }
}

/// Tells the calling thread's reactor that a descriptor is about to be closed.
pub fn forget(py: Python<'_>, fd: RawFd) {
    // SAFETY: owned by the thread's record.
    if let Some(hub) = Thread::try_get().and_then(|thread| unsafe { thread.hub.get().as_ref() }) {
        hub.forget_fd(py, fd);
    }
}

#[cold]
fn concurrent_use(other: &Waiting, py: Python<'_>) -> PyErr {
    // SAFETY: the ticket holds it.
    match unsafe { Bound::from_borrowed_ptr(py, other.greenlet) }.repr() {
        Ok(who) => exceptions::concurrent_use(
            py,
            &format!("This socket is already used by another greenlet: {who}"),
        ),
        Err(error) => error,
    }
}

/// A timeout argument: seconds, or none.
fn seconds(value: &Bound<'_, PyAny>) -> PyResult<f64> {
    if value.is_none() {
        return Ok(NO_TIMEOUT);
    }
    let seconds = value.extract::<f64>().map_err(|error| {
        let py = value.py();
        if error.is_instance_of::<PyTypeError>(py) {
            PyTypeError::new_err("a float is required")
        } else {
            error
        }
    })?;
    if seconds.is_nan() {
        return Err(PyValueError::new_err("Invalid value NaN (not a number)"));
    }
    if seconds < 0.0 {
        return Err(PyValueError::new_err("Timeout value out of range"));
    }
    // No negative zero.
    Ok(seconds + 0.0)
}

#[pymethods]
impl SocketState {
    #[new]
    fn new(fd: RawFd, family: i32, timeout: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self {
            fd: Cell::new(fd),
            family,
            owner: NEXT_OWNER.fetch_add(1, Ordering::Relaxed),
            timeout: Cell::new(seconds(timeout)?),
            reader: Cell::new(None),
            writer: Cell::new(None),
            has_waited: Cell::new(false),
            passes_on: Cell::new(false),
        })
    }

    /// The timeout in seconds, None for none.
    #[pyo3(name = "timeout")]
    #[getter]
    fn get_timeout(&self) -> Option<f64> {
        self.timeout()
    }

    /// Sets the timeout: seconds, or None.
    ///
    /// Raises ValueError if it is negative, TypeError if it is no number.
    #[setter]
    fn set_timeout(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.timeout.set(seconds(value)?);
        Ok(())
    }

    /// Whether a cooperative socket goes on with the descriptor when this one is detached: it has
    /// to stay non-blocking then.
    #[getter]
    fn get_passes_on(&self) -> bool {
        self.passes_on.get()
    }

    #[setter]
    fn set_passes_on(&self, value: bool) {
        self.passes_on.set(value);
    }

    /// When an operation that begins now times out: nanoseconds of the monotonic clock, or None.
    fn deadline(&self) -> Option<u64> {
        Deadline::new(self.timeout()).get()
    }

    /// Waits until the socket is ready: 1 for reading, 2 for writing.
    ///
    /// Raises TimeoutError after the deadline, BlockingIOError if the timeout is 0, OSError if
    /// the socket is closed meanwhile, ConcurrentObjectUseError if another greenlet waits for
    /// the same direction already.
    #[pyo3(signature = (socket, direction, deadline = None))]
    fn wait(
        slf: &Bound<'_, Self>,
        socket: &Bound<'_, PyAny>,
        direction: i32,
        deadline: Option<u64>,
    ) -> PyResult<()> {
        let direction = Direction::from_bits(direction)?;
        if slf.get().is_nonblocking() {
            return Err(crate::errors::os_error(slf.py(), libc::EAGAIN));
        }
        Self::park_unless_ready(slf, socket, direction, deadline)
    }

    /// Waits until the socket is found ready by poll(2); see `wait`.
    #[pyo3(signature = (socket, direction, deadline = None))]
    fn wait_ready(
        slf: &Bound<'_, Self>,
        socket: &Bound<'_, PyAny>,
        direction: i32,
        deadline: Option<u64>,
    ) -> PyResult<()> {
        let direction = Direction::from_bits(direction)?;
        while !wait::is_ready(slf.get().fd(), direction) {
            Self::park(slf, socket, direction, deadline)?;
        }
        Ok(())
    }

    /// Wakes whoever waits for a direction (1 for reading, 2 for writing, 3 for both) with an
    /// OSError.
    fn cancel_waits(&self, directions: i32) {
        if directions & 1 != 0 {
            self.cancel(Direction::Read);
        }
        if directions & 2 != 0 {
            self.cancel(Direction::Write);
        }
    }

    /// Ends all use of the descriptor, which is about to be closed or given away: whoever waits
    /// on it is woken with an OSError.
    fn release(&self, py: Python<'_>) {
        self.let_go(py);
    }
}
