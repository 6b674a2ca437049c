//! What messages are made of.

use pyo3::exceptions::{PyKeyError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use super::super::start_response::body_bytes;

/// A field of a message; `None` if it is not there, or None.
pub fn field<'py>(
    message: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let value = match message.cast::<PyDict>() {
        Ok(message) => message.get_item(name)?,
        Err(_) => match message.get_item(name) {
            Ok(value) => Some(value),
            Err(error) if error.is_instance_of::<PyKeyError>(message.py()) => None,
            Err(error) => return Err(error),
        },
    };
    Ok(value.filter(|value| !value.is_none()))
}

/// Whether a field is true; false if it is not there.
pub fn flag<'py>(message: &Bound<'py, PyAny>, name: &Bound<'py, PyString>) -> PyResult<bool> {
    match field(message, name)? {
        Some(value) => value.is_truthy(),
        None => Ok(false),
    }
}

/// The bytes of a field; `None` if it is not there.
pub fn bytes<'py>(
    message: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let Some(value) = field(message, name)? else { return Ok(None) };
    if let Ok(value) = value.cast::<PyBytes>() {
        return Ok(Some(value.clone()));
    }
    match body_bytes(&value) {
        Ok(value) => Ok(Some(value)),
        Err(_) => Err(wrong_type(name, "bytes", &value)),
    }
}

/// The text of a field; `None` if it is not there.
pub fn text<'py>(
    message: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyString>>> {
    let Some(value) = field(message, name)? else { return Ok(None) };
    match value.cast_into::<PyString>() {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(wrong_type(name, "str", &error.into_inner())),
    }
}

#[cold]
pub fn wrong_type(name: &Bound<'_, PyString>, expected: &str, given: &Bound<'_, PyAny>) -> PyErr {
    let kind = given.get_type().name().map_or_else(|_| String::from("?"), |name| name.to_string());
    PyTypeError::new_err(format!("{name:?} of a message must be {expected}, not {kind}"))
}

/// A message of which nothing but the type is said.
pub fn plain<'py>(py: Python<'py>, kind: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyDict>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), kind)?;
    Ok(message)
}

/// A piece of a request's body.
pub fn request<'py>(py: Python<'py>, body: &[u8], more: bool) -> PyResult<Bound<'py, PyDict>> {
    let message = plain(py, intern!(py, "http.request"))?;
    message.set_item(intern!(py, "body"), PyBytes::new(py, body))?;
    message.set_item(intern!(py, "more_body"), more)?;
    Ok(message)
}
