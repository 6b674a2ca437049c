//! The exceptions of queues: those of the standard library.

use pyo3::prelude::*;

/// Classes are looked up every time: see `exceptions`.
fn raise(py: Python<'_>, module: &str, name: &str) -> PyErr {
    let class = py.import(module).and_then(|module| module.getattr(name));
    match class.and_then(|class| class.call0()) {
        Ok(error) => PyErr::from_value(error),
        Err(failure) => failure,
    }
}

pub fn empty(py: Python<'_>) -> PyErr {
    raise(py, "queue", "Empty")
}

pub fn full(py: Python<'_>) -> PyErr {
    raise(py, "queue", "Full")
}

/// `ShutDown`, which the standard library has from 3.13 on, and `greenloop.queue` otherwise.
pub fn shut_down(py: Python<'_>) -> PyErr {
    raise(py, "greenloop.queue", "ShutDown")
}
