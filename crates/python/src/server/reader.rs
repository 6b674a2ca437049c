//! A connection's bytes as a file, for handlers and for protocols other than HTTP.

use super::connection::HttpConnection;
use super::wire::Received;
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, PyVisit};

/// What a connection receives, as a binary file, without any meaning of HTTP: what the server has
/// received and not used, and then what comes in. (As `rfile` of WSGIHandler.)
///
/// Between requests reading is limited by the server's timeouts for heads, and raises TimeoutError;
/// otherwise not at all. Other errors are those of the socket.
#[pyclass(frozen, module = "greenloop._core")]
pub struct ConnectionReader {
    connection: Py<HttpConnection>,
}

impl HttpConnection {
    /// Appends what was received and not used, or else what comes next, whatever it is; nothing at
    /// the end.
    pub fn receive_any(&self, py: Python<'_>, out: &mut Vec<u8>) -> PyResult<usize> {
        let was_there = self.with_buffer(|left| {
            out.extend_from_slice(left);
            (left.len(), left.len())
        });
        if was_there > 0 {
            return Ok(was_there);
        }
        let received = self.wire.receive(py, out, None);
        match self.note(py, received)? {
            Received::Data(length) => Ok(length),
            Received::End | Received::TimedOut => Ok(0),
        }
    }
}

impl ConnectionReader {
    pub fn new(connection: Py<HttpConnection>) -> Self {
        Self { connection }
    }

    /// Receives more; false at the end.
    fn fill(&self, py: Python<'_>) -> PyResult<bool> {
        let connection = self.connection.get();
        let has_begun = self.available() > 0;
        let is_idle = connection.request() == 0 && !has_begun;
        if is_idle && connection.core.get().is_draining() {
            return Ok(false);
        }
        let deadline = match connection.request() {
            0 => connection.head_deadline(has_begun),
            _ => None,
        };
        let mut buffer = connection.take_buffer();
        connection.set_idle(is_idle);
        let received = connection.wire.receive(py, &mut buffer, deadline);
        connection.set_idle(false);
        connection.buffer.set(buffer);
        match connection.note(py, received)? {
            Received::Data(_) => Ok(true),
            Received::End => Ok(false),
            Received::TimedOut => {
                Err(PyTimeoutError::new_err("timed out in waiting for a request"))
            }
        }
    }

    fn available(&self) -> usize {
        self.connection.get().with_buffer(|left| (left.len(), 0))
    }

    fn take<'py>(&self, py: Python<'py>, length: usize) -> Bound<'py, PyBytes> {
        self.connection.get().with_buffer(|left| {
            let length = length.min(left.len());
            (PyBytes::new(py, &left[..length]), length)
        })
    }
}

#[pymethods]
impl ConnectionReader {
    /// Reads `size` bytes: fewer only if the peer has ended. All until it has, if it is negative or
    /// None.
    #[pyo3(signature = (size = None, /))]
    fn read<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        let wanted = size.and_then(|size| usize::try_from(size).ok()).unwrap_or(usize::MAX);
        while self.available() < wanted && self.fill(py)? {}
        Ok(self.take(py, wanted))
    }

    /// Reads what is there, or what comes next: up to `size` bytes, if that is not negative or None.
    #[pyo3(signature = (size = None, /))]
    fn read1<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        let wanted = size.and_then(|size| usize::try_from(size).ok()).unwrap_or(usize::MAX);
        if wanted > 0 && self.available() == 0 {
            self.fill(py)?;
        }
        Ok(self.take(py, wanted))
    }

    /// Reads a line with its end; up to `size` bytes of it, if that is not negative or None.
    #[pyo3(signature = (size = None, /))]
    fn readline<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        let most = size.and_then(|size| usize::try_from(size).ok()).unwrap_or(usize::MAX);
        let mut searched = 0;
        loop {
            let (end, length) = self.connection.get().with_buffer(|left| {
                let end = left[searched..].iter().position(|&byte| byte == b'\n');
                ((end.map(|end| searched + end + 1), left.len()), 0)
            });
            if end.is_some() || length >= most || !self.fill(py)? {
                return Ok(self.take(py, end.unwrap_or(length).min(most)));
            }
            searched = length;
        }
    }

    /// The reader itself, which has no buffers of its own. (As that of `socket.makefile`.)
    #[getter]
    fn raw(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// The socket. Who asks for it may go on with it by himself: the server then does not expect a
    /// response. It sends nothing then but what the application returns, and closes the socket when
    /// the application is done.
    #[getter]
    fn _sock<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.connection.get().take_socket(py)
    }

    /// Its descriptor.
    fn fileno<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.connection.get().wire.socket(py).call_method0("fileno")
    }

    /// Whether the server has ended the connection.
    #[getter]
    fn closed(&self) -> bool {
        self.connection.get().is_closed()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.connection)
    }
}
