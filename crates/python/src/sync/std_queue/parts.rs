//! The lock of a queue and its conditions, made when they are first looked at.

use super::target::{attributes_of, item};
use crate::net::errors::raised;
use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pyo3::{ffi, intern};

/// What is made when it is first looked at.
pub const PARTS: [&str; 4] = ["mutex", "not_empty", "not_full", "all_tasks_done"];

/// A part of a queue that is made, with the others, when it is first looked at.
#[pyclass(frozen, name = "_QueuePart")]
pub struct Part {
    pub name: Py<PyString>,
    pub make: Py<PyAny>,
}

#[pymethods]
impl Part {
    /// Called for instances that do not have the attribute.
    fn __get__<'py>(
        &self,
        queue: &Bound<'py, PyAny>,
        _owner: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = queue.py();
        let name = self.name.bind(py);
        if queue.is_none() {
            return Err(no_attribute("type object 'Queue'", name));
        }
        let attributes = attributes_of(queue)
            .filter(|attributes| item(attributes, intern!(py, "unfinished_tasks")).is_some());
        let part = match attributes {
            None => None, // it has not been initialised
            Some(attributes) => {
                let parts = self.make.bind(py).call0()?.cast_into::<PyDict>()?;
                // All at once, and only what is missing: another thread may have made them meanwhile.
                // SAFETY: two dicts.
                if unsafe { ffi::PyDict_Merge(attributes.as_ptr(), parts.as_ptr(), 0) } < 0 {
                    return Err(raised(py));
                }
                item(&attributes, name)
            }
        };
        let class = queue.get_type().name()?;
        part.ok_or_else(|| no_attribute(&format!("'{class}' object"), name))
    }
}

fn no_attribute(owner: &str, name: &Bound<'_, PyString>) -> PyErr {
    PyAttributeError::new_err(format!("{owner} has no attribute '{name}'"))
}
