//! The exceptions of queues: those of the standard library.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

fn raise(py: Python<'_>, cell: &'static PyOnceLock<Py<PyAny>>, module: &str, name: &str) -> PyErr {
    let class =
        cell.get_or_try_init(py, || Ok::<_, PyErr>(py.import(module)?.getattr(name)?.unbind()));
    match class.and_then(|class| class.bind(py).call0()) {
        Ok(error) => PyErr::from_value(error),
        Err(failure) => failure,
    }
}

pub fn empty(py: Python<'_>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    raise(py, &CLASS, "queue", "Empty")
}

pub fn full(py: Python<'_>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    raise(py, &CLASS, "queue", "Full")
}

/// `ShutDown`, which the standard library has from 3.13 on, and `greenloop.queue` otherwise.
pub fn shut_down(py: Python<'_>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    raise(py, &CLASS, "greenloop.queue", "ShutDown")
}
