//! What greenloop keeps for each socket.

use super::errors::closed_elsewhere;
use super::wait::{self, Deadline, Direction};
use crate::exceptions;
use crate::greenlet::thread::Thread;
use crate::hub::HubObject;
use crate::hub::wait::{HeldHub, Reason, Thrown, Ticket, Wait, Woken};
use pyo3::exceptions::{PyBaseException, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use std::cell::Cell;
use std::ffi::c_int;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

/// Names open sockets for the reactors: never given twice, never `NO_OWNER`.
static NEXT_OWNER: AtomicU64 = AtomicU64::new(1);

/// The greenlet that waits for one direction of a socket.
struct Waiting {
    ticket: Ticket,
    direction: Direction,
}

/// Who waits: at most one greenlet at a time in each place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Reader,
    Writer,
    /// For TLS, which may have to send in order to receive, and the other way round, while another
    /// greenlet waits as the reader or the writer.
    Aside,
}

/// A wait that does not keep the loop running, as long as this is alive.
struct Uncounted(HeldHub);

impl Uncounted {
    fn new(hub: HeldHub) -> Self {
        hub.change_unreferenced(true);
        Self(hub)
    }
}

impl Drop for Uncounted {
    fn drop(&mut self) {
        self.0.change_unreferenced(false);
    }
}

/// How a wait ended that nothing went wrong with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parked {
    Ready,
    TimedOut,
}

/// What greenloop keeps for a socket: its timeout, who waits on it. In the slot `_state` of
/// `greenloop.socket.socket`. Files have one too (see `file`): `is_shared` is for descriptors that
/// others may use as well.
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
    aside: Cell<Option<Waiting>>,
    /// TLS: the last read had to wait, so the next one is likely to.
    pub expects_wait: Cell<bool>,
    /// TLS: a greenlet waits in the middle of a write. What others write must not come between.
    pub is_writing: Cell<bool>,
    /// Whether a reactor may know the descriptor.
    has_waited: Cell<bool>,
    /// Whether a short read may mean that nothing is left; `None` if not known yet.
    is_tcp: Cell<Option<bool>>,
    /// The last read was short.
    was_short: Cell<bool>,
    /// The last read brought so much that copying it is to be avoided.
    reads_much: Cell<bool>,
    /// Whether a cooperative socket goes on with the descriptor when this one is detached.
    passes_on: Cell<bool>,
    /// Whether waits for the socket keep the loop running.
    keeps_running: Cell<bool>,
    /// What is to be raised in greenlets whose waits were cancelled and that have not run since.
    /// None unless a program cancels waits with errors of its own.
    cancelled: Cell<Option<Box<Cancelled>>>,
}

/// An error for a greenlet whose wait was cancelled, and those for others.
struct Cancelled {
    /// Not owned: only compared. The greenlet is alive, having been woken.
    greenlet: *mut ffi::PyObject,
    error: Py<PyAny>,
    next: Option<Box<Cancelled>>,
}

// SAFETY: used and dropped with the GIL held only.
unsafe impl Send for SocketState {}
// SAFETY: the cells are touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for SocketState {}

const NO_TIMEOUT: f64 = -1.0;

/// In place of a name: others may wait on the descriptor too, so each wait is registered by itself.
const NO_OWNER: u64 = 0;

impl SocketState {
    /// The descriptor, -1 once closed.
    #[inline]
    pub fn fd(&self) -> RawFd {
        self.fd.get()
    }

    /// The number that reactors know the socket by; 0 for none.
    #[inline]
    pub fn owner(&self) -> u64 {
        self.owner
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

    fn slot(&self, place: Place) -> &Cell<Option<Waiting>> {
        match place {
            Place::Reader => &self.reader,
            Place::Writer => &self.writer,
            Place::Aside => &self.aside,
        }
    }

    /// Parks the running greenlet until the socket is ready. The caller has tried the system call
    /// and got `EAGAIN`, with no poll of the loop in between.
    #[inline]
    pub fn park(
        slf: &Bound<'_, Self>,
        socket: &Bound<'_, PyAny>,
        direction: Direction,
        deadline: Option<u64>,
    ) -> Result<(), Thrown> {
        match Self::park_in(slf, socket, direction.place(), direction, deadline)? {
            Parked::Ready => Ok(()),
            Parked::TimedOut => Err(super::errors::timed_out().into()),
        }
    }

    /// As `park`, in a place of the caller's choice; leaves it to the caller what to say of a
    /// timeout.
    ///
    /// What this has on its stack is part of every parked greenlet, so all that is not needed
    /// meanwhile is done out of line.
    #[inline(never)]
    pub fn park_in(
        slf: &Bound<'_, Self>,
        socket: &Bound<'_, PyAny>,
        place: Place,
        direction: Direction,
        deadline: Option<u64>,
    ) -> Result<Parked, Thrown> {
        let py = slf.py();
        let this = slf.get();
        let wait = this.move_in(socket, place, direction)?;
        let (fd, here) = (this.fd.get(), wait.greenlet());
        // Counted down when this is left.
        let _uncounted = (!this.keeps_running.get()).then(|| Uncounted::new(wait.hub()));
        let woken = wait.park_on_fd(py, fd, this.owner, direction.interest(), deadline);
        this.move_out(py, place, here, fd, woken)
    }

    /// Begins a wait in a place.
    #[inline(never)]
    fn move_in<'a>(
        &self,
        socket: &Bound<'a, PyAny>,
        place: Place,
        direction: Direction,
    ) -> Result<Wait<'a>, Thrown> {
        let py = socket.py();
        self.check_free(py, place)?;
        let wait = Wait::begin(py, socket.as_ptr())?;
        self.slot(place).set(Some(Waiting { ticket: wait.ticket(), direction }));
        self.has_waited.set(true);
        Ok(wait)
    }

    /// Cleans up after a wait of the greenlet `here` for `fd` in a place.
    #[inline(never)]
    fn move_out(
        &self,
        py: Python<'_>,
        place: Place,
        here: *mut ffi::PyObject,
        fd: RawFd,
        woken: Woken,
    ) -> Result<Parked, Thrown> {
        let slot = self.slot(place);
        // Unless the wait was cancelled, and another greenlet waits in this one's place already.
        if let Some(waiting) = slot.take()
            && waiting.ticket.greenlet() != here
        {
            slot.set(Some(waiting));
        }
        let error = self.take_error(here);
        match woken.into_reason()? {
            Reason::TimedOut => Ok(Parked::TimedOut),
            Reason::Notified if self.fd.get() == fd => Ok(Parked::Ready),
            Reason::Notified | Reason::Closed => Err(match error {
                Some(error) => PyErr::from_value(error.into_bound(py)).into(),
                None => closed_elsewhere(py).into(),
            }),
        }
    }

    /// The error that a greenlet's wait was cancelled with, if any.
    #[inline]
    fn take_error(&self, greenlet: *mut ffi::PyObject) -> Option<Py<PyAny>> {
        let first = self.cancelled.take()?;
        let mut error = None;
        let mut next = Some(first);
        while let Some(mut entry) = next {
            next = entry.next.take();
            if entry.greenlet == greenlet {
                error = Some(entry.error);
            } else {
                entry.next = self.cancelled.take();
                self.cancelled.set(Some(entry));
            }
        }
        error
    }

    /// Notes that a read got some bytes, but fewer than it asked for. See `is_exhausted`.
    #[inline]
    pub fn note_short_read(&self, py: Python<'_>) {
        // What was never waited for is not registered, and cannot be found exhausted.
        if self.has_waited.get() && self.is_tcp() {
            self.was_short.set(true);
            if let Some(hub) = hub(py) {
                hub.reactor(|reactor| reactor.note_exhausted(self.fd.get(), self.owner));
            }
        }
    }

    /// Whether the last read has found the stream empty, and nothing can have come since then that
    /// a wait would miss: another read would be in vain.
    #[inline]
    pub fn is_exhausted(&self, py: Python<'_>) -> bool {
        self.was_short.replace(false)
            && hub(py).is_some_and(|hub| {
                hub.reactor(|reactor| reactor.is_exhausted(self.fd.get(), self.owner))
            })
    }

    /// Whether the last read brought much.
    #[inline]
    pub fn reads_much(&self) -> bool {
        self.reads_much.get()
    }

    #[inline]
    pub fn set_reads_much(&self, much: bool) {
        self.reads_much.set(much);
    }

    /// Whether reads end only where nothing is left. Not so for messages, nor for Unix sockets,
    /// where reads end at ancillary data too.
    #[inline]
    fn is_tcp(&self) -> bool {
        self.is_tcp.get().unwrap_or_else(|| {
            let protocol = socket_option(self.fd.get(), libc::SO_PROTOCOL);
            let is_tcp = protocol == Some(libc::IPPROTO_TCP);
            self.is_tcp.set(Some(is_tcp));
            is_tcp
        })
    }

    /// As `park`, for callers that ran Python code since the system call: looks whether the
    /// socket has become ready in between.
    pub fn park_unless_ready(
        slf: &Bound<'_, Self>,
        socket: &Bound<'_, PyAny>,
        direction: Direction,
        deadline: Option<u64>,
    ) -> Result<(), Thrown> {
        if wait::is_ready(slf.get().fd(), direction) {
            return Ok(());
        }
        Self::park(slf, socket, direction, deadline)
    }

    /// Raises ConcurrentObjectUseError if a greenlet waits in a place.
    pub fn check_free(&self, py: Python<'_>, place: Place) -> PyResult<()> {
        let slot = self.slot(place);
        match slot.take() {
            None => Ok(()),
            Some(other) => {
                let error = concurrent_use(&other, py);
                slot.set(Some(other));
                Err(error)
            }
        }
    }

    /// Those who wait for a direction: they are on their own now.
    fn take_waiting(&self, direction: Direction) -> impl Iterator<Item = Waiting> {
        [direction.place(), Place::Aside].into_iter().filter_map(move |place| {
            let slot = self.slot(place);
            let waiting = slot.take()?;
            if waiting.direction == direction {
                return Some(waiting);
            }
            slot.set(Some(waiting));
            None
        })
    }

    fn cancel(&self, direction: Direction) {
        for waiting in self.take_waiting(direction) {
            waiting.ticket.wake(Reason::Closed);
        }
    }

    /// Ends all use of the descriptor, which is about to be closed or given away.
    fn let_go(&self, py: Python<'_>) {
        let fd = self.fd.replace(-1);
        self.cancel(Direction::Read);
        self.cancel(Direction::Write);
        // Somebody may select or poll it, even if the socket itself has never waited.
        if fd >= 0 {
            forget(py, fd);
        }
    }
}

/// The hub of the calling thread, if it has one.
#[inline]
fn hub(_py: Python<'_>) -> Option<&HubObject> {
    // SAFETY: owned by the thread's record, which lasts as long as the thread is attached.
    Thread::try_get().and_then(|thread| unsafe { thread.hub.get().as_ref() })
}

/// A number that a socket is known by to reactors.
pub fn new_owner() -> u64 {
    NEXT_OWNER.fetch_add(1, Ordering::Relaxed)
}

/// An option of a socket itself that is an int, as `SO_PROTOCOL` is. None if it is no socket.
#[cold]
pub fn socket_option(fd: RawFd, option: c_int) -> Option<c_int> {
    let mut value: c_int = 0;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    let place = (&raw mut value).cast();
    // SAFETY: an int and its size.
    let status = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, option, place, &raw mut len) };
    (status == 0).then_some(value)
}

/// Tells the calling thread's reactor that a descriptor is about to be closed.
pub fn forget(py: Python<'_>, fd: RawFd) {
    if let Some(hub) = hub(py) {
        hub.forget_fd(py, fd);
    }
}

#[cold]
fn concurrent_use(other: &Waiting, py: Python<'_>) -> PyErr {
    // SAFETY: the ticket holds it.
    match unsafe { Bound::from_borrowed_ptr(py, other.ticket.greenlet()) }.repr() {
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
    #[pyo3(signature = (fd, family, timeout, *, is_shared = false))]
    fn new(fd: RawFd, family: i32, timeout: &Bound<'_, PyAny>, is_shared: bool) -> PyResult<Self> {
        let owner = if is_shared { NO_OWNER } else { new_owner() };
        Ok(Self {
            fd: Cell::new(fd),
            family,
            owner,
            timeout: Cell::new(seconds(timeout)?),
            reader: Cell::new(None),
            writer: Cell::new(None),
            aside: Cell::new(None),
            expects_wait: Cell::new(false),
            is_writing: Cell::new(false),
            has_waited: Cell::new(false),
            is_tcp: Cell::new(None),
            was_short: Cell::new(false),
            reads_much: Cell::new(false),
            passes_on: Cell::new(false),
            keeps_running: Cell::new(true),
            cancelled: Cell::new(None),
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

    /// Whether waits that begin from now on keep the loop running.
    #[getter]
    fn get_ref(&self) -> bool {
        self.keeps_running.get()
    }

    #[setter]
    fn set_ref(&self, value: bool) {
        self.keeps_running.set(value);
    }

    /// The greenlet that waits for a direction (1 for reading, 2 for writing), or None.
    fn waiting<'py>(&self, py: Python<'py>, direction: i32) -> PyResult<Option<Bound<'py, PyAny>>> {
        let direction = Direction::from_bits(direction)?;
        for place in [direction.place(), Place::Aside] {
            let slot = self.slot(place);
            let waiting = slot.take();
            let greenlet = waiting.as_ref().filter(|waiting| waiting.direction == direction).map(
                // SAFETY: the ticket holds it.
                |waiting| unsafe { Bound::from_borrowed_ptr(py, waiting.ticket.greenlet()) },
            );
            slot.set(waiting);
            if greenlet.is_some() {
                return Ok(greenlet);
            }
        }
        Ok(None)
    }

    /// Wakes whoever waits for a direction (1 for reading, 2 for writing) with an exception, if
    /// anybody does.
    fn throw(&self, direction: i32, error: Bound<'_, PyBaseException>) -> PyResult<()> {
        for Waiting { ticket, .. } in self.take_waiting(Direction::from_bits(direction)?) {
            let greenlet = ticket.greenlet();
            if ticket.wake(Reason::Closed) {
                let error = error.clone().into_any().unbind();
                let next = self.cancelled.take();
                self.cancelled.set(Some(Box::new(Cancelled { greenlet, error, next })));
            }
        }
        Ok(())
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
        Ok(Self::park_unless_ready(slf, socket, direction, deadline)?)
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
    pub fn cancel_waits(&self, directions: i32) {
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
