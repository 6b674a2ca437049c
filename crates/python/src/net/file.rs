//! Reading and writing of non-blocking descriptors that are no sockets: pipes, terminals, FIFOs.
//!
//! `greenloop.fileobject` builds files on these functions. They take the state of the descriptor,
//! and the object that stands for it in messages and lists of who waits on what.

use super::arguments::Buffer;
use super::receive::receive_bytes;
use super::state::SocketState;
use super::wait::{Direction, Operation};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// An operation on a file: it waits as long as it takes, whatever the timeout of a socket that it
/// shares the descriptor with.
fn operation<'a, 'py>(
    file: &'a Bound<'py, PyAny>,
    state: &'a Bound<'py, SocketState>,
    direction: Direction,
) -> Operation<'a, 'py> {
    let mut operation = Operation::new(file, state, direction, 0);
    operation.limit(None);
    operation
}

/// Reads up to `size` bytes; empty bytes at the end of the file.
#[pyfunction]
fn _fd_read(
    state: &Bound<'_, SocketState>,
    file: &Bound<'_, PyAny>,
    size: isize,
) -> PyResult<Py<PyAny>> {
    let py = file.py();
    let len = usize::try_from(size)
        .map_err(|_| PyValueError::new_err("the number of bytes to read is negative"))?;
    let mut operation = operation(file, state, Direction::Read);
    let bytes = receive_bytes(py, len, false, |start| {
        // SAFETY: memory for `len` bytes.
        operation.run(|fd| unsafe { libc::read(fd, start.cast(), len) })
    })?;
    // SAFETY: an owned reference.
    Ok(unsafe { Bound::from_owned_ptr(py, bytes) }.unbind())
}

/// Reads into a buffer, up to its size; returns how many bytes, 0 at the end of the file.
#[pyfunction]
fn _fd_readinto(
    state: &Bound<'_, SocketState>,
    file: &Bound<'_, PyAny>,
    buffer: &Bound<'_, PyAny>,
) -> PyResult<usize> {
    let buffer = Buffer::writable(file.py(), buffer.as_ptr(), "readinto")?;
    // SAFETY: the buffer is held.
    Ok(operation(file, state, Direction::Read)
        .run(|fd| unsafe { libc::read(fd, buffer.start().cast(), buffer.len()) })?)
}

/// Writes bytes; returns how many were written, which can be fewer than given.
#[pyfunction]
fn _fd_write(
    state: &Bound<'_, SocketState>,
    file: &Bound<'_, PyAny>,
    data: &Bound<'_, PyAny>,
) -> PyResult<usize> {
    let buffer = Buffer::readable(file.py(), data.as_ptr())?;
    // SAFETY: the buffer is held.
    Ok(operation(file, state, Direction::Write)
        .run(|fd| unsafe { libc::write(fd, buffer.start().cast(), buffer.len()) })?)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(_fd_read, module)?)?;
    module.add_function(wrap_pyfunction!(_fd_readinto, module)?)?;
    module.add_function(wrap_pyfunction!(_fd_write, module)?)
}
