//! `throw` of objects that are awaited.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// The error of a call of `throw`.
pub fn thrown(
    kind: Bound<'_, PyAny>,
    value: Option<Bound<'_, PyAny>>,
    traceback: Option<Bound<'_, PyAny>>,
) -> PyErr {
    let error = match (kind.cast::<PyType>(), value) {
        (Ok(_), Some(value)) if value.is_instance(&kind).unwrap_or(false) => Ok(value),
        (Ok(class), Some(value)) if !value.is_none() => class.call1((value,)),
        (Ok(class), _) => class.call0(),
        (Err(_), _) => Ok(kind),
    };
    match error {
        Ok(error) => {
            let py = error.py();
            if let Some(traceback) = traceback
                && let Err(error) = error.setattr(intern!(py, "__traceback__"), traceback)
            {
                return error;
            }
            PyErr::from_value(error)
        }
        Err(error) => error,
    }
}
