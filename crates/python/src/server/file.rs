//! `wsgi.file_wrapper`: files as the result of an application.

use super::connection::HttpConnection;
use crate::errors::os_error;
use crate::hub::sleep::give_way;
use crate::net::errors::{check_signals, errno};
use pyo3::exceptions::{PyStopIteration, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, PyVisit};
use std::os::fd::RawFd;

/// As much is sent before others get their turn.
const AT_ONCE: usize = 1 << 20;

/// FileWrapper(filelike, blksize=8192)
/// --
///
/// A file to be sent, from where it stands. What `filelike.read(blksize)` returns, if it is not
/// returned to the server; a file of the system's is sent by that (sendfile) if it is.
#[pyclass(frozen, module = "greenloop._core")]
pub struct FileWrapper {
    #[pyo3(get)]
    filelike: Py<PyAny>,
    #[pyo3(get)]
    blksize: usize,
}

/// What of which file is to be sent.
pub struct Part {
    fd: RawFd,
    offset: libc::off_t,
    /// Up to the end of the file.
    pub length: u64,
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (filelike, blksize = 8192))]
    pub fn new(filelike: Py<PyAny>, blksize: usize) -> PyResult<Self> {
        if blksize == 0 {
            return Err(PyValueError::new_err("blksize must be positive"));
        }
        Ok(Self { filelike, blksize })
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let data = self.filelike.bind(py).call_method1("read", (self.blksize,))?;
        if data.is_truthy()? { Ok(data) } else { Err(PyStopIteration::new_err(())) }
    }

    /// How many bytes of a file of the system's are left; None if it is none.
    #[getter]
    fn length(&self, py: Python<'_>) -> Option<u64> {
        self.part(py).map(|part| part.length)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.filelike)
    }

    /// Closes the file, if it can be closed.
    pub fn close(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(close) = self.filelike.bind(py).getattr_opt("close")? {
            close.call0()?;
        }
        Ok(())
    }
}

impl FileWrapper {
    /// What the system can send by itself; `None` if it is not a regular file.
    pub fn part(&self, py: Python<'_>) -> Option<Part> {
        let filelike = plain_file(self.filelike.bind(py)).ok()??;
        let fd: RawFd = filelike.call_method0("fileno").ok()?.extract().ok()?;
        let offset: libc::off_t = filelike.call_method0("tell").ok()?.extract().ok()?;
        // SAFETY: plain data, of which zero is a value, written by the system.
        let status = unsafe {
            let mut status: libc::stat = std::mem::zeroed();
            (libc::fstat(fd, &raw mut status) == 0).then_some(status)?
        };
        if status.st_mode & libc::S_IFMT != libc::S_IFREG {
            return None;
        }
        let length = u64::try_from(status.st_size.saturating_sub(offset)).unwrap_or(0);
        Some(Part { fd, offset, length })
    }
}

/// A file whose contents are those of its descriptor: not, say, that of gzip, which has one too.
fn plain_file<'py>(filelike: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = filelike.py();
    let io = py.import("_io")?;
    let mut file = filelike.clone();
    if file.get_type().fully_qualified_name()? == "tempfile._TemporaryFileWrapper" {
        file = file.getattr("file")?;
    }
    let may_be_written = file.is_exact_instance(&io.getattr("BufferedRandom")?);
    if may_be_written {
        file.call_method0("flush")?;
    }
    let is_buffered = may_be_written || file.is_exact_instance(&io.getattr("BufferedReader")?);
    let raw = if is_buffered { file.getattr("raw")? } else { file.clone() };
    Ok(raw.is_exact_instance(&io.getattr("FileIO")?).then_some(file))
}

/// Sends `length` bytes of a file, by whichever means the connection allows. Returns how many it was
/// before the file ended.
pub fn send_all(
    py: Python<'_>,
    connection: &HttpConnection,
    wrapper: &Bound<'_, FileWrapper>,
    length: u64,
) -> PyResult<u64> {
    if connection.wire.state(py).is_some()
        && let Some(part) = wrapper.get().part(py)
    {
        return send(py, connection, &part, length);
    }
    let timeout = connection.core.get().write_timeout;
    let mut left = length;
    while left > 0 {
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(wrapper.get().blksize);
        let data = wrapper.get().filelike.bind(py).call_method1("read", (size,))?;
        let data = data.cast::<PyBytes>()?.as_bytes();
        if data.is_empty() {
            break;
        }
        connection.wire.send(py, &[data], timeout)?;
        left -= data.len() as u64;
    }
    Ok(length - left)
}

/// Sends `length` bytes of a file. Returns how many it was before the file ended.
pub fn send(
    py: Python<'_>,
    connection: &HttpConnection,
    part: &Part,
    length: u64,
) -> PyResult<u64> {
    let Some(state) = connection.wire.state(py) else { return Ok(0) };
    let mut offset = part.offset;
    let mut left = length;
    let mut since_turn = 0;
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(AT_ONCE).min(AT_ONCE);
        // SAFETY: two descriptors and an offset of our own.
        let sent = unsafe { libc::sendfile(state.get().fd(), part.fd, &raw mut offset, count) };
        match usize::try_from(sent) {
            Ok(0) => break,
            Ok(sent) => {
                left -= sent as u64;
                since_turn += sent;
                if since_turn >= AT_ONCE {
                    since_turn = 0;
                    give_way(py)?;
                }
            }
            Err(_) => match errno() {
                libc::EINTR => check_signals(py)?,
                libc::EAGAIN => {
                    let timeout = connection.core.get().write_timeout;
                    connection.note(py, connection.wire.wait_writable(py, timeout))?;
                }
                number => return connection.note(py, Err(os_error(py, number))),
            },
        }
    }
    Ok(length - left)
}
