//! The scope of a request.

use super::super::connection::{Ends, HttpConnection};
use super::super::environ::{decoded_path, method};
use super::application::AsgiApplication;
use greenloop_http1::{Head, Version};
use greenloop_websocket::Handshake;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

/// Makes the scope of a request. `handshake`: of one that asks for a WebSocket. `address`: the peer's.
pub fn make<'py>(
    application: &AsgiApplication,
    connection: &Bound<'py, HttpConnection>,
    address: &Bound<'py, PyAny>,
    head: &Head<'_>,
    handshake: Option<&Handshake>,
) -> PyResult<Bound<'py, PyDict>> {
    let py = connection.py();
    let (template, extensions) = match handshake {
        None => (&application.http, &application.http_extensions),
        Some(_) => (&application.websocket, &application.websocket_extensions),
    };
    let scope = template.bind(py).copy()?;
    scope.set_item(intern!(py, "asgi"), application.asgi.bind(py).copy()?)?;
    scope.set_item(intern!(py, "extensions"), extensions.bind(py).copy()?)?;
    if head.version == Version::Http10 {
        scope.set_item(intern!(py, "http_version"), intern!(py, "1.0"))?;
    }
    set_ends(&scope, connection, address)?;
    match handshake {
        None if head.method == "GET" => {}
        None => scope.set_item(intern!(py, "method"), method(py, head.method))?,
        Some(handshake) => {
            let subprotocols = PyList::new(py, &handshake.protocols)?;
            scope.set_item(intern!(py, "subprotocols"), subprotocols)?;
        }
    }
    set_path(&scope, application, head.target.path)?;
    let query = head.target.query.unwrap_or_default();
    scope.set_item(intern!(py, "query_string"), PyBytes::new(py, query.as_bytes()))?;
    scope.set_item(intern!(py, "headers"), headers(py, application, head)?)?;
    if let Some(state) = &application.state {
        scope.set_item(intern!(py, "state"), state.bind(py).copy()?)?;
    }
    Ok(scope)
}

fn set_ends<'py>(
    scope: &Bound<'py, PyDict>,
    connection: &Bound<'py, HttpConnection>,
    address: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let py = scope.py();
    let this = connection.get();
    let ends = match this.ends.get() {
        Some(ends) => ends,
        None => {
            let ends = Ends::of(this.core.get(), this.wire.socket(py), address)?;
            this.ends.get_or_init(|| ends)
        }
    };
    scope.set_item(intern!(py, "client"), &ends.client)?;
    scope.set_item(intern!(py, "server"), &ends.server)
}

fn set_path(scope: &Bound<'_, PyDict>, application: &AsgiApplication, asked: &str) -> PyResult<()> {
    let py = scope.py();
    let path = path(py, asked)?;
    let (name, raw_name) = (intern!(py, "path"), intern!(py, "raw_path"));
    // `*` is no path: there is nothing to put in front of it.
    if application.path_prefix.is_empty() || !asked.starts_with('/') {
        scope.set_item(name, path)?;
        return scope.set_item(raw_name, PyBytes::new(py, asked.as_bytes()));
    }
    scope.set_item(name, PyString::new(py, &application.path_prefix).add(path)?)?;
    let raw = [&application.raw_path_prefix[..], asked.as_bytes()].concat();
    scope.set_item(raw_name, PyBytes::new(py, &raw))
}

/// A path with its `%41`s decoded, as text. What is not UTF-8 is replaced.
fn path<'py>(py: Python<'py>, path: &str) -> PyResult<Bound<'py, PyString>> {
    if path == "/" {
        return Ok(intern!(py, "/").clone());
    }
    let decoded = decoded_path(path);
    // SAFETY: a valid slice and a C string; a new reference or null.
    unsafe {
        let text = ffi::PyUnicode_DecodeUTF8(
            decoded.as_ptr().cast(),
            decoded.len() as ffi::Py_ssize_t,
            c"replace".as_ptr(),
        );
        Ok(Bound::from_owned_ptr_or_err(py, text)?.cast_into_unchecked())
    }
}

/// The headers as pairs of bytes, the names in lower case.
fn headers<'py>(
    py: Python<'py>,
    application: &AsgiApplication,
    head: &Head<'_>,
) -> PyResult<Bound<'py, PyList>> {
    let headers = PyList::empty(py);
    let authority = head.target.authority;
    if let Some(authority) = authority {
        // What the target says overrules the header.
        headers.append((application.name(py, "host"), PyBytes::new(py, authority.as_bytes())))?;
    }
    for header in &head.headers {
        if authority.is_some() && header.name.eq_ignore_ascii_case("host") {
            continue;
        }
        let name = application.name(py, header.name);
        let value = PyBytes::new(py, header.value);
        headers.append(PyTuple::new(py, [name, value])?)?;
    }
    Ok(headers)
}
