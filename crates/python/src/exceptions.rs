//! The exception classes of `greenloop.exceptions`, and how errors that nobody catches are told.

use crate::greenlet::object::PyGreenlet;
use crate::hub::HubObject;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// A class of `greenloop.exceptions`, which is plain Python and imports nothing from here.
fn class<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyAny>>,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    cell.get_or_try_init(py, || Ok(py.import("greenloop.exceptions")?.getattr(name)?.unbind()))
        .map(|class| class.bind(py).clone())
}

fn instance<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyAny>>,
    name: &str,
    args: impl pyo3::call::PyCallArgs<'py>,
) -> PyErr {
    match class(py, cell, name).and_then(|class| class.call1(args)) {
        Ok(instance) => PyErr::from_value(instance),
        Err(error) => error,
    }
}

/// The hub was asked to wait.
#[cold]
pub fn blocking_in_hub(py: Python<'_>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let message = "Impossible to call blocking function in the event loop callback";
    instance(py, &CLASS, "BlockingSwitchOutError", (message,))
}

/// A waiting greenlet was switched to by somebody who does not know what it waits for.
#[cold]
pub fn invalid_switch(py: Python<'_>, here: &PyGreenlet) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let message = format!(
        "Invalid switch into greenlet {:p}: it waits, and what it waits for has not happened. Use \
         its kill() or throw(), or the object it waits on",
        here.as_ptr()
    );
    instance(py, &CLASS, "InvalidSwitchError", (message,))
}

/// Nothing can become ready any more.
#[cold]
pub fn loop_exit(py: Python<'_>, message: String, hub: &HubObject) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    // SAFETY: the hub is alive.
    let hub = unsafe { Bound::from_borrowed_ptr(py, hub.as_ptr()) };
    instance(py, &CLASS, "LoopExit", (message, hub))
}

/// Two greenlets use one socket for the same direction.
#[cold]
pub fn concurrent_use(py: Python<'_>, message: &str) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    instance(py, &CLASS, "ConcurrentObjectUseError", (message,))
}

/// An object is used from a thread that it does not belong to.
#[cold]
pub fn invalid_thread_use(py: Python<'_>, message: &str) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    instance(py, &CLASS, "InvalidThreadUseError", (message,))
}

/// Hands an error that left a callback or greenlet to `hub.handle_error(context, type, value,
/// traceback)`.
#[cold]
pub fn handle_error(
    py: Python<'_>,
    hub: &HubObject,
    context: Option<&Bound<'_, PyAny>>,
    error: PyErr,
) {
    // SAFETY: the hub is alive.
    let hub = unsafe { Bound::from_borrowed_ptr(py, hub.as_ptr()) };
    let args = (context, error.get_type(py), error.value(py), error.traceback(py));
    if let Err(failure) = hub.call_method1("handle_error", args) {
        failure.write_unraisable(py, Some(&hub));
    }
}
