//! The raw greenlet: the greenlet package's API on stacks of our own.

pub mod asyncio;
pub mod attributes;
pub mod call;
mod capi;
mod coverage;
mod cxx;
pub mod exceptions;
mod inspect;
pub mod methods;
pub mod object;
pub mod overflow;
pub mod stacks;
pub mod switch;
pub mod thread;
pub mod trace;
pub mod types;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// _getacting()
/// --
///
/// The greenlet in whose name code runs here. That is the running one, except in callbacks of an
/// asyncio loop: there it is the one that has called `run_forever`.
#[pyfunction]
fn _getacting(py: Python<'_>) -> PyResult<Py<PyAny>> {
    if types::interpreter_is_finalizing() {
        return Err(PyRuntimeError::new_err("greenlet is being finalized"));
    }
    let acting = thread::Thread::get(py)?.current().acting();
    // SAFETY: owned by the running greenlet, or that itself.
    Ok(unsafe { Bound::from_borrowed_ptr(py, acting.cast()) }.unbind())
}

/// getcurrent()
/// --
///
/// The greenlet that runs in this thread. Raises RuntimeError in finalizers that run while the
/// interpreter goes down. (As greenlet.getcurrent.)
#[pyfunction]
fn getcurrent(py: Python<'_>) -> PyResult<Py<PyAny>> {
    if types::interpreter_is_finalizing() {
        return Err(PyRuntimeError::new_err("greenlet is being finalized"));
    }
    let thread = thread::Thread::get(py)?;
    thread.bury_orphans();
    let current = thread.current();
    // SAFETY: the running greenlet is alive.
    Ok(unsafe { Bound::from_borrowed_ptr(py, current.as_ptr()) }.unbind())
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    stacks::register(module)?;
    exceptions::register(module)?;
    inspect::register(module)?;
    types::register(module)?;
    capi::register(module)?;
    module.add_function(wrap_pyfunction!(getcurrent, module)?)?;
    module.add_function(wrap_pyfunction!(_getacting, module)?)?;
    module.add_function(wrap_pyfunction!(trace::settrace, module)?)?;
    module.add_function(wrap_pyfunction!(trace::gettrace, module)?)?;
    Ok(())
}
