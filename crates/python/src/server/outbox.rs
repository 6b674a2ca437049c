//! Sending that does not wait: for coroutines, which are told when to go on by asyncio's futures.
//!
//! While a coroutine answers a request, what the system does not take at once is left to a greenlet
//! that sends it, in order. Whoever sends goes on, and has to see to it that not more and more is left
//! there: a coroutine waits until nothing is.

use super::connection::HttpConnection;
use super::file::{self, FileWrapper};
use crate::hub::HubObject;
use crate::hub::queue::Entry;
use crate::hub::wait::{Wait, WaitList};
use crate::task::functions::new_raw;
use pyo3::exceptions::{PyBrokenPipeError, PyOSError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use std::cell::{Cell, OnceCell, RefCell};

/// What a connection has left to be sent.
pub(super) struct Outbox {
    /// Whether sending leaves what cannot be sent at once.
    defers: Cell<bool>,
    /// A greenlet sends what is left.
    is_flushing: Cell<bool>,
    /// Most connections never have any of this.
    rest: OnceCell<Box<Rest>>,
}

#[derive(Default)]
struct Rest {
    data: Cell<Vec<u8>>,
    /// A file that follows, and how much of it.
    file: RefCell<Option<(Py<FileWrapper>, u64)>>,
    /// asyncio's futures of those who wait until nothing is left.
    futures: RefCell<Vec<Py<PyAny>>>,
    /// Greenlets that do.
    waiters: WaitList,
}

impl Outbox {
    pub const fn new() -> Self {
        Self { defers: Cell::new(false), is_flushing: Cell::new(false), rest: OnceCell::new() }
    }

    fn rest(&self) -> &Rest {
        self.rest.get_or_init(Box::default)
    }

    pub fn defers(&self) -> bool {
        self.defers.get()
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(rest) = self.rest.get()
            && let Ok(futures) = rest.futures.try_borrow()
        {
            for future in &*futures {
                visit.call(future)?;
            }
        }
        Ok(())
    }

    fn push(&self, pieces: &[&[u8]], mut skipped: usize) {
        let mut left = self.rest().data.take();
        for piece in pieces {
            let start = skipped.min(piece.len());
            skipped -= start;
            left.extend_from_slice(&piece[start..]);
        }
        self.rest().data.set(left);
    }
}

impl HttpConnection {
    /// Sets whether sending leaves what cannot be sent at once to another greenlet.
    pub fn set_deferring(&self, defers: bool) {
        self.outbox.defers.set(defers);
    }

    /// Whether something is left to be sent.
    pub fn is_flushing(&self) -> bool {
        self.outbox.is_flushing.get()
    }

    /// Has a future of asyncio's completed when nothing is left to be sent.
    pub fn tell_when_flushed(&self, future: Py<PyAny>) {
        self.outbox.rest().futures.borrow_mut().push(future);
    }

    /// Waits until nothing is left to be sent, or nothing can be any more.
    ///
    /// # Errors
    ///
    /// What is thrown into the greenlet.
    pub fn wait_flushed(&self, py: Python<'_>) -> PyResult<()> {
        while self.is_flushing() {
            let wait = Wait::begin(py, std::ptr::null_mut())?;
            wait.park(Some(&self.outbox.rest().waiters), None).into_result()?;
        }
        Ok(())
    }

    /// Sends what the system takes at once, and leaves the rest.
    ///
    /// # Errors
    ///
    /// OSError.
    pub(super) fn post(&self, py: Python<'_>, pieces: &[&[u8]]) -> PyResult<()> {
        if self.is_broken() {
            return Err(gone());
        }
        if self.is_flushing() {
            self.outbox.push(pieces, 0);
            return Ok(());
        }
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        let sent = self.wire.try_send(py, pieces).inspect_err(|_| self.set_broken())?;
        if sent < total {
            self.outbox.push(pieces, sent);
            self.start_flushing(py)?;
        }
        Ok(())
    }

    /// Has so many bytes of a file sent, after what is left.
    ///
    /// # Errors
    ///
    /// OSError.
    pub(super) fn post_file(
        &self,
        file: Py<FileWrapper>,
        py: Python<'_>,
        length: u64,
    ) -> PyResult<()> {
        self.outbox.rest().file.replace(Some((file, length)));
        if self.is_flushing() { Ok(()) } else { self.start_flushing(py) }
    }

    fn send_left(&self, py: Python<'_>) -> PyResult<()> {
        let timeout = self.core.get().write_timeout;
        loop {
            let left = self.outbox.rest().data.take();
            if !left.is_empty() {
                self.wire.send(py, &[&left], timeout)?;
                continue;
            }
            let Some((wrapper, length)) = self.outbox.rest().file.take() else { return Ok(()) };
            let sent = file::send_all(py, self, wrapper.bind(py), length);
            wrapper.get().close(py)?;
            if sent? < length {
                // It was cut while it was sent: what follows would be taken for the rest.
                return Err(gone());
            }
        }
    }

    #[cold]
    fn start_flushing(&self, py: Python<'_>) -> PyResult<()> {
        let Some(connection) = self.myself(py) else {
            self.set_broken();
            return Err(gone());
        };
        let flusher = Bound::new(py, Flusher { connection })?.into_any();
        let greenlet = new_raw(flusher)?;
        self.outbox.is_flushing.set(true);
        let entry = Entry::Start { greenlet: greenlet.into_ptr().cast() };
        HubObject::get(py)?.push_local(entry);
        Ok(())
    }
}

/// The error of sending to a client that is not there any more.
pub(super) fn gone() -> PyErr {
    PyBrokenPipeError::new_err("the client has closed the connection")
}

/// What the greenlet calls that sends what is left.
#[pyclass(frozen, name = "_Flusher", module = "greenloop._core")]
struct Flusher {
    connection: Py<HttpConnection>,
}

#[pymethods]
impl Flusher {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let connection = self.connection.get();
        let outbox = &connection.outbox;
        let outcome = connection.send_left(py);
        if outcome.is_err() {
            connection.set_broken();
            drop(outbox.rest().data.take());
            drop(outbox.rest().file.take());
        }
        outbox.is_flushing.set(false);
        outbox.rest().waiters.wake_all();
        for future in outbox.rest().futures.take() {
            complete(future.bind(py))?;
        }
        match outcome {
            // Those who wait see that the connection is broken.
            Err(error) if error.is_instance_of::<PyOSError>(py) => Ok(()),
            other => other,
        }
    }
}

/// Completes a future of asyncio's, unless it is done.
pub(super) fn complete(future: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    let event_loop = future.call_method0(intern!(py, "get_loop"))?;
    let is_over = future.call_method0(intern!(py, "done"))?.is_truthy()?
        || event_loop.call_method0(intern!(py, "is_closed"))?.is_truthy()?;
    if !is_over {
        future.call_method1(intern!(py, "set_result"), (py.None(),))?;
    }
    Ok(())
}
