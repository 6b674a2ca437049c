//! Raised exceptions as plain object pointers, for code that carries them across switches.

use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ptr;

/// Takes the exception that is set: an owned, normalised instance with its traceback.
///
/// An exception must be set.
#[inline(never)]
pub fn take_raised() -> *mut ffi::PyObject {
    #[cfg(cpython = "3.11")]
    // SAFETY: the three references are owned; after normalisation the value is an instance.
    unsafe {
        let (mut kind, mut value, mut traceback) =
            (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        ffi::PyErr_Fetch(&raw mut kind, &raw mut value, &raw mut traceback);
        ffi::PyErr_NormalizeException(&raw mut kind, &raw mut value, &raw mut traceback);
        if !traceback.is_null() {
            ffi::PyException_SetTraceback(value, traceback);
        }
        ffi::Py_XDECREF(kind);
        ffi::Py_XDECREF(traceback);
        value
    }
    #[cfg(not(cpython = "3.11"))]
    // SAFETY: the GIL is held.
    unsafe {
        ffi::PyErr_GetRaisedException()
    }
}

/// Sets an exception instance as raised; takes the reference.
#[inline(never)]
pub fn raise(error: *mut ffi::PyObject) {
    #[cfg(cpython = "3.11")]
    // SAFETY: `error` is an owned exception instance; PyErr_Restore takes three references.
    unsafe {
        let kind = ffi::Py_TYPE(error).cast::<ffi::PyObject>();
        ffi::Py_INCREF(kind);
        ffi::PyErr_Restore(kind, error, ffi::PyException_GetTraceback(error));
    }
    #[cfg(not(cpython = "3.11"))]
    // SAFETY: `error` is an owned exception instance.
    unsafe {
        ffi::PyErr_SetRaisedException(error);
    }
}

/// Sets a `MemoryError` with a message.
pub fn set_memory_error(message: &str) {
    // SAFETY: the GIL is held wherever Python objects are handled.
    let py = unsafe { Python::assume_attached() };
    PyMemoryError::new_err(message.to_owned()).restore(py);
}

/// Runs `f` with the exception that may be set put aside.
pub fn with_raised_saved<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: the GIL is held.
    let saved =
        if unsafe { ffi::PyErr_Occurred() }.is_null() { ptr::null_mut() } else { take_raised() };
    let result = f();
    if !saved.is_null() {
        raise(saved);
    }
    result
}

/// The OSError (of the subclass that belongs to the number) for an error number.
#[cold]
pub fn os_error(py: Python<'_>, number: i32) -> PyErr {
    // SAFETY: sets the thread's errno, which PyErr_SetFromErrno reads; the GIL is held.
    unsafe {
        *libc::__errno_location() = number;
        ffi::PyErr_SetFromErrno(ffi::PyExc_OSError);
    }
    PyErr::fetch(py)
}
