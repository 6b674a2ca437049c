//! `settrace`: a function that is told of every switch.

use super::object::{Payload, PyGreenlet};
use super::thread::Thread;
use crate::errors::take_raised;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ptr;

/// Tells the trace function of a switch that just arrived at `here`. What it raises is raised in
/// the greenlet that was switched to, and tracing ends, as in the greenlet package.
///
/// # Safety
///
/// Called in the arriving half of a switch, with a trace function set.
#[cold]
pub unsafe fn call(
    thread: &Thread,
    origin: *mut PyGreenlet,
    here: &PyGreenlet,
    payload: Payload,
) -> Payload {
    let event = if matches!(payload, Payload::Throw(_)) { c"throw" } else { c"switch" };
    // SAFETY: the trace function is owned for the time of the call; the greenlets are alive.
    let result = unsafe {
        let trace = thread.trace.get();
        ffi::Py_INCREF(trace);
        let result = ffi::PyObject_CallFunction(
            trace,
            c"s(OO)".as_ptr(),
            event.as_ptr(),
            origin.cast::<ffi::PyObject>(),
            here.as_ptr(),
        );
        ffi::Py_DECREF(trace);
        result
    };
    if result.is_null() {
        let error = take_raised();
        // SAFETY: an owned reference or null.
        unsafe { ffi::Py_XDECREF(thread.trace.replace(ptr::null_mut())) };
        payload.discard();
        return Payload::Throw(error);
    }
    // SAFETY: an owned reference.
    unsafe { ffi::Py_DECREF(result) };
    payload
}

/// settrace(callback)
/// --
///
/// Sets a function to be called as `callback(event, (origin, target))` after every switch in this
/// thread, with event `"switch"` or `"throw"`; `None` ends tracing.
///
/// Returns the function set before, or `None`. What the function raises is raised in the target,
/// and tracing ends. (As greenlet.settrace.)
#[pyfunction]
pub fn settrace(py: Python<'_>, callback: Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let thread = Thread::get(py)?;
    let new = if callback.is_none() { ptr::null_mut() } else { callback.into_ptr() };
    let old = thread.trace.replace(new);
    if old.is_null() {
        return Ok(py.None());
    }
    // SAFETY: the record's owned reference is handed on.
    Ok(unsafe { Bound::from_owned_ptr(py, old) }.unbind())
}

/// gettrace()
/// --
///
/// The function set by `settrace`, or `None`.
#[pyfunction]
pub fn gettrace(py: Python<'_>) -> PyResult<Py<PyAny>> {
    let trace = Thread::get(py)?.trace.get();
    if trace.is_null() {
        return Ok(py.None());
    }
    // SAFETY: owned by the record.
    Ok(unsafe { Bound::from_borrowed_ptr(py, trace) }.unbind())
}
