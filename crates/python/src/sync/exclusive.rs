//! `Exclusive`: a method that greenlets call one after the other.

use super::rlock::RLock;
use crate::hub::shield::Shield;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

/// Exclusive(lock, method, is_shielded=False)
/// --
///
/// Calls a method while it holds a lock. Its attributes are the method's.
///
/// lock: an RLock.
/// is_shielded: whether kills and timeouts are held back meanwhile, see `shield`.
#[pyclass(frozen, module = "greenloop._core")]
pub struct Exclusive {
    lock: Py<RLock>,
    method: Py<PyAny>,
    shield: Option<Py<Shield>>,
}

#[pymethods]
impl Exclusive {
    #[new]
    #[pyo3(signature = (lock, method, is_shielded = false))]
    fn new(
        py: Python<'_>,
        lock: Py<RLock>,
        method: Py<PyAny>,
        is_shielded: bool,
    ) -> PyResult<Self> {
        let shield = is_shielded.then(|| Py::new(py, Shield::new())).transpose()?;
        Ok(Self { lock, method, shield })
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let lock = this.lock.bind(py);
        RLock::acquire_until(lock, true, None)?;
        let method = this.method.bind(py);
        let result = match &this.shield {
            None => method.call(args, kwargs),
            Some(shield) => Shield::around(shield.bind(py), || method.call(args, kwargs)),
        };
        lock.get().release(py)?;
        result
    }

    fn __getattr__<'py>(slf: &Bound<'py, Self>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        slf.get().method.bind(slf.py()).getattr(name)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.method.bind(py).repr()?.to_string())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.lock)?;
        visit.call(&self.method)?;
        visit.call(&self.shield)
    }
}
