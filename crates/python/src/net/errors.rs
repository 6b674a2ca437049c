//! Errors that socket operations end with.

use crate::errors::os_error;
use pyo3::exceptions::PyTimeoutError;
use pyo3::ffi;
use pyo3::prelude::*;

/// The number of the system call's error.
#[inline]
pub fn errno() -> i32 {
    // SAFETY: always valid for the calling thread.
    unsafe { *libc::__errno_location() }
}

/// The error of the system call that failed last.
#[cold]
pub fn last_error(py: Python<'_>) -> PyErr {
    os_error(py, errno())
}

/// The socket's timeout is over.
#[cold]
pub fn timed_out() -> PyErr {
    PyTimeoutError::new_err("timed out")
}

/// The descriptor was closed by another greenlet while this one waited for it.
#[cold]
pub fn closed_elsewhere(py: Python<'_>) -> PyErr {
    // Looked up every time: see `exceptions`.
    let class = py.import("greenloop.socket").and_then(|module| module.getattr("cancel_wait_ex"));
    match class.and_then(|class| class.call0()) {
        Ok(instance) => PyErr::from_value(instance),
        Err(error) => error,
    }
}

/// Runs signal handlers after a system call was interrupted.
#[cold]
pub fn check_signals(py: Python<'_>) -> PyResult<()> {
    py.check_signals()
}

/// The exception that a C function has set.
#[cold]
pub fn raised(py: Python<'_>) -> PyErr {
    PyErr::fetch(py)
}

/// A result for the interpreter: the object, or null with the exception set.
#[inline]
pub fn give(py: Python<'_>, result: PyResult<*mut ffi::PyObject>) -> *mut ffi::PyObject {
    match result {
        Ok(object) => object,
        Err(error) => set(py, error),
    }
}

/// Sets an exception; returns null.
#[cold]
#[inline(never)]
fn set(py: Python<'_>, error: PyErr) -> *mut ffi::PyObject {
    error.restore(py);
    std::ptr::null_mut()
}
