//! Switches under coverage.py's measurement.
//!
//! With `concurrency = greenlet` or `gevent`, its tracer keeps a stack of the measured files for each
//! greenlet. It looks up which greenlet runs when a Python function is called or returns, not when a
//! line is run, so after a switch it notes lines with the greenlet it saw last, or not at all if that
//! one has ended. With gevent it comes off well mostly, because the functions that switch there are
//! Python functions, whose returns it sees. Here they are none: one is called in its stead.

use super::object::Payload;
use super::thread::Thread;
use crate::pystate::trace_object;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use std::ffi::CStr;

/// Makes coverage's tracer, if that is what the thread is traced by, notice that another greenlet
/// runs. Other trace functions are not bothered.
///
/// # Safety
///
/// Called in the arriving half of a switch.
pub unsafe fn arrived(thread: &Thread, payload: Payload) -> Payload {
    // SAFETY: the GIL is held, and the thread is the running one. A type's name is a string that
    // lives as long as there are objects of it.
    let (py, name) = unsafe {
        let tracer = trace_object(thread.state());
        if tracer.is_null() {
            return payload;
        }
        (Python::assume_attached(), CStr::from_ptr((*ffi::Py_TYPE(tracer)).tp_name))
    };
    if name != c"coverage.CTracer" {
        return payload;
    }
    match call_something(py) {
        Ok(()) => payload,
        Err(error) => {
            // What a tracer raises is raised in what it traces.
            payload.leave_over(thread);
            Payload::Throw(error.into_value(py).into_ptr())
        }
    }
}

/// Calls a Python function that does nothing.
fn call_something(py: Python<'_>) -> PyResult<()> {
    static NOTHING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let nothing = NOTHING.get_or_try_init(py, || {
        let globals = PyDict::new(py);
        py.eval(c"lambda: None", Some(&globals), None).map(Bound::unbind)
    })?;
    nothing.call0(py).map(drop)
}
