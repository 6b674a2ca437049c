//! `wsgi.input`: the body of a request as a file.

use super::connection::HttpConnection;
use super::file_body::FileBody;
use super::reader::ConnectionReader;
use greenloop_http1::{BodyLength, Head};
use pyo3::exceptions::{PyStopIteration, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use pyo3::{PyTraverseError, PyVisit};
use std::cell::Cell;

/// As much is asked for when a line, or everything, is wanted.
const AT_ONCE: usize = 64 * 1024;
/// Memory for as much is had before it came in.
const MAX_RESERVED: usize = 1 << 20;

/// Where a body comes from.
enum Source {
    /// A request of a connection, by its number.
    Connection(Py<HttpConnection>, u64),
    /// Any file: no more is read of it than belongs to the body.
    File(FileBody),
}

/// Input(rfile, content_length, socket=None, chunked_input=False)
/// --
///
/// The body of a request as a file: bytes are received when they are asked for, and the client that
/// waits for it is told to go on (`100 Continue`) when something is. It ends where the body does.
///
/// A program that makes one itself gives a file to read from, the length (None or 0 for no body),
/// and whether the body comes in chunks instead.
///
/// Reading raises ConnectionResetError if the client has gone, TimeoutError if it pauses for too
/// long, InvalidClientInput for chunks that are malformed (all of them OSErrors),
/// ConcurrentObjectUseError if another greenlet reads, and ValueError when the request is over.
///
/// After a change of protocol ("101 Switching Protocols") it gives what the client sends.
#[pyclass(frozen, module = "greenloop._core")]
pub struct Input {
    source: Source,
    is_chunked: bool,
    /// The length that was announced.
    length: Option<u64>,
    /// What was received and not read, from `position` on. In place whenever the greenlet waits.
    pending: Cell<Vec<u8>>,
    position: Cell<usize>,
    /// How much was read.
    read_count: Cell<u64>,
}

// SAFETY: used and dropped with the GIL held only.
unsafe impl Send for Input {}
// SAFETY: the cells are touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for Input {}

impl Input {
    pub fn new(connection: &Bound<'_, HttpConnection>, head: &Head<'_>) -> Self {
        let length = match head.body {
            BodyLength::Fixed(length) if head.has_length => Some(length),
            _ => None,
        };
        let source = Source::Connection(connection.clone().unbind(), connection.get().request());
        Self::of(source, head.body == BodyLength::Chunked, length)
    }

    fn of(source: Source, is_chunked: bool, length: Option<u64>) -> Self {
        Self {
            source,
            is_chunked,
            length,
            pending: Cell::default(),
            position: Cell::new(0),
            read_count: Cell::new(0),
        }
    }

    /// Takes out what is pending, runs `look` on it, and drops from it as much as that says.
    fn with_pending<R>(&self, look: impl FnOnce(&[u8]) -> (R, usize)) -> R {
        let mut pending = self.pending.take();
        let position = self.position.get();
        let (outcome, used) = look(&pending[position..]);
        self.read_count.set(self.read_count.get() + used as u64);
        if position + used == pending.len() {
            pending.clear();
            self.position.set(0);
        } else {
            self.position.set(position + used);
        }
        self.pending.set(pending);
        outcome
    }

    fn pending_len(&self) -> usize {
        self.with_pending(|pending| (pending.len(), 0))
    }

    /// Receives more of the body; false at its end.
    fn fill(&self, py: Python<'_>, most: usize) -> PyResult<bool> {
        let mut more = Vec::new();
        match &self.source {
            Source::File(file) => file.read(py, &mut more, most)?,
            Source::Connection(connection, request) => {
                let connection = connection.get();
                if connection.request() != *request {
                    return Err(PyValueError::new_err("the request is over"));
                }
                if connection.is_upgraded() {
                    connection.receive_any(py, &mut more)?
                } else {
                    connection.read_body(py, &mut more, most)?
                }
            }
        };
        if more.is_empty() {
            return Ok(false);
        }
        let mut pending = self.pending.take();
        if pending.is_empty() {
            pending = more;
        } else {
            pending.extend_from_slice(&more);
        }
        self.pending.set(pending);
        Ok(true)
    }

    /// Reads up to `size` bytes; all, if `None`.
    fn read_up_to<'py>(
        &self,
        py: Python<'py>,
        size: Option<usize>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        if size == Some(0) {
            return Ok(PyBytes::new(py, b""));
        }
        let wanted = size.unwrap_or(usize::MAX);
        // All of a body of known length at once: it is received where it stays.
        let read = self.read_count.get();
        let left = self.length.map_or(AT_ONCE as u64, |length| length.saturating_sub(read));
        let reserved = usize::try_from(left).unwrap_or(MAX_RESERVED).min(wanted).min(MAX_RESERVED);
        while self.pending_len() < wanted {
            let missing = wanted - self.pending_len();
            if !self.fill(py, missing.min(reserved.max(AT_ONCE)))? {
                break;
            }
        }
        Ok(self.with_pending(|pending| {
            let length = pending.len().min(wanted);
            (PyBytes::new(py, &pending[..length]), length)
        }))
    }

    fn read_line<'py>(
        &self,
        py: Python<'py>,
        size: Option<usize>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let most = size.unwrap_or(usize::MAX);
        let mut searched = 0;
        loop {
            let found = self.with_pending(|pending| {
                let new = &pending[searched.min(pending.len())..];
                let end = new.iter().position(|&byte| byte == b'\n');
                (end.map(|end| searched + end + 1), 0)
            });
            searched = self.pending_len();
            let is_enough = found.is_some() || searched >= most;
            if is_enough || !self.fill(py, AT_ONCE)? {
                let end = found.unwrap_or(searched).min(most);
                return Ok(self.with_pending(|pending| (PyBytes::new(py, &pending[..end]), end)));
            }
        }
    }
}

/// A size as files take it: negative or None for no limit.
fn size_of(size: Option<isize>) -> Option<usize> {
    usize::try_from(size?).ok()
}

#[pymethods]
impl Input {
    #[new]
    #[pyo3(signature = (rfile, content_length, socket = None, chunked_input = false))]
    fn make(
        rfile: Py<PyAny>,
        content_length: Option<u64>,
        socket: Option<Py<PyAny>>,
        chunked_input: bool,
    ) -> Self {
        // Nothing is sent from here: whoever has made the file may have a `100 Continue` sent.
        drop(socket);
        let file = FileBody::new(rfile, content_length.unwrap_or(0), chunked_input);
        Self::of(Source::File(file), chunked_input, content_length)
    }

    /// Reads up to `size` bytes: fewer only at the end of the body. All that is left if it is
    /// negative or None.
    #[pyo3(signature = (size = None, /))]
    fn read<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        self.read_up_to(py, size_of(size))
    }

    /// Reads a line with its end; up to `size` bytes of it, if that is not negative or None.
    #[pyo3(signature = (size = None, /))]
    fn readline<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        self.read_line(py, size_of(size))
    }

    /// Reads the lines that are left; if `hint` is positive, no more after that many bytes.
    #[pyo3(signature = (hint = None, /))]
    fn readlines<'py>(&self, py: Python<'py>, hint: Option<isize>) -> PyResult<Bound<'py, PyList>> {
        let limit = size_of(hint).filter(|&limit| limit > 0);
        let lines = PyList::empty(py);
        let mut total = 0;
        loop {
            let line = self.read_line(py, None)?;
            let length = line.as_bytes().len();
            if length == 0 {
                return Ok(lines);
            }
            lines.append(line)?;
            total += length;
            if limit.is_some_and(|limit| total >= limit) {
                return Ok(lines);
            }
        }
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let line = self.read_line(py, None)?;
        if line.as_bytes().is_empty() { Err(PyStopIteration::new_err(())) } else { Ok(line) }
    }

    /// What the connection receives, without the framing of bodies: see ConnectionReader. Or the
    /// file that this was made of.
    #[getter]
    fn rfile<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match &self.source {
            Source::File(file) => Ok(file.rfile(py).clone()),
            Source::Connection(connection, _) => {
                let reader = ConnectionReader::new(connection.clone_ref(py));
                Ok(Bound::new(py, reader)?.into_any())
            }
        }
    }

    /// How many bytes were read.
    #[getter(position)]
    fn get_position(&self) -> u64 {
        self.read_count.get()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.source {
            Source::File(file) => file.traverse(&visit),
            Source::Connection(connection, _) => visit.call(connection),
        }
    }

    /// Whether the body comes in chunks, so that its length is not known before.
    #[getter]
    fn chunked_input(&self) -> bool {
        self.is_chunked
    }

    /// The length that was announced; None if there is none.
    #[getter]
    fn content_length(&self) -> Option<u64> {
        self.length
    }
}
