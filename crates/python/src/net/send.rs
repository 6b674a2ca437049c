//! `send` and `sendall`.

use super::arguments::{Buffer, Call, int};
use super::errors::timed_out;
use super::state::SocketState;
use super::wait::{Direction, Operation};
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;

type Object = *mut ffi::PyObject;
type Socket<'a, 'py> = &'a Bound<'py, PyAny>;
type State<'a, 'py> = &'a Bound<'py, SocketState>;

pub fn send(socket: Socket<'_, '_>, state: State<'_, '_>, call: Call) -> PyResult<Object> {
    let py = socket.py();
    // SAFETY: called by the vectorcall convention.
    let [data, flags, timeout] = unsafe { call.sort("send", ["data", "flags", "timeout"], 1)? };
    let flags = int(py, flags, 0)?;
    let buffer = Buffer::readable(py, data)?;
    let mut operation = Operation::new(socket, state, Direction::Write, flags);
    if !timeout.is_null() {
        // SAFETY: a valid object.
        let timeout = unsafe { Bound::from_borrowed_ptr(py, timeout) };
        operation.limit(check_seconds(timeout.extract()?)?);
    }
    // SAFETY: the buffer is held.
    let sent = operation
        .run(|fd| unsafe { libc::send(fd, buffer.start().cast(), buffer.len(), flags) })?;
    // SAFETY: makes an int.
    Ok(unsafe { ffi::PyLong_FromSize_t(sent) })
}

pub fn sendall(socket: Socket<'_, '_>, state: State<'_, '_>, call: Call) -> PyResult<Object> {
    let py = socket.py();
    // SAFETY: called by the vectorcall convention.
    let [data, flags] = unsafe { call.sort("sendall", ["data", "flags"], 1)? };
    let flags = int(py, flags, 0)?;
    let buffer = Buffer::readable(py, data)?;
    let mut operation = Operation::new(socket, state, Direction::Write, flags);
    let mut sent = 0;
    loop {
        // SAFETY: the buffer is held, and `sent` is at most its length.
        sent += operation.run(|fd| unsafe {
            libc::send(fd, buffer.start().add(sent).cast(), buffer.len() - sent, flags)
        })?;
        if sent >= buffer.len() {
            return Ok(py.None().into_ptr());
        }
        // A reader as fast as we are never lets a call block.
        if operation.is_over() {
            return Err(timed_out());
        }
    }
}

/// Checks seconds given for one call.
pub fn check_seconds(seconds: Option<f64>) -> PyResult<Option<f64>> {
    match seconds {
        Some(seconds) if seconds.is_nan() || seconds < 0.0 => {
            Err(PyValueError::new_err("Timeout value out of range"))
        }
        seconds => Ok(seconds),
    }
}
