//! An ASGI application, and what the scopes of its requests have in common.

use super::super::connection::Ends;
use super::super::core::HttpCore;
use crate::aio::entering::GeneratorHooks;
use crate::aio::event_loop::AsyncioLoop;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PySet, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// How many names of headers are kept, and how long they are at most: what clients send often.
const MAX_NAMES: usize = 512;
const MAX_NAME: usize = 64;

/// The version of the specification of HTTP and WebSocket messages that is kept to.
const SPEC_VERSION: &str = "2.4";

/// AsgiApplication(application, event_loop, *, scheme="http", root_path="", path_prefix="",
///     raw_path_prefix=b"", state=None, on_over=None)
/// --
///
/// An ASGI application that a server is to serve, in place of a WSGI application.
///
/// application: `application(scope, receive, send)` returns a coroutine. event_loop: the loop that its
/// tasks are run by, which runs in the server's thread. scheme: "http" or "https". root_path: where
/// the application is mounted, for clients. path_prefix: what of that is not in requests, as text and,
/// in raw_path_prefix, as it would be there. state: of the lifespan; each request gets a copy.
/// on_over: called after each request with the scope, the peer's address, the request line, the status,
/// the length of the body, and the seconds it took.
#[pyclass(frozen, module = "greenloop._core")]
pub struct AsgiApplication {
    pub application: Py<PyAny>,
    pub event_loop: Py<AsyncioLoop>,
    pub hooks: GeneratorHooks,
    pub on_over: Option<Py<PyAny>>,
    /// All keys of scopes, with the values that are always the same.
    pub http: Py<PyDict>,
    pub websocket: Py<PyDict>,
    pub asgi: Py<PyDict>,
    pub http_extensions: Py<PyDict>,
    pub websocket_extensions: Py<PyDict>,
    pub state: Option<Py<PyDict>>,
    /// What is in front of paths, for clients: decoded, and not.
    pub path_prefix: String,
    pub raw_path_prefix: Vec<u8>,
    names: RefCell<HashMap<Box<[u8]>, Py<PyBytes>>>,
    /// Tasks that go on after their responses.
    lingering: Py<PySet>,
    in_progress: Cell<usize>,
}

// SAFETY: used and dropped with the GIL held only.
unsafe impl Send for AsgiApplication {}
// SAFETY: the cells are touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for AsgiApplication {}

#[pymethods]
impl AsgiApplication {
    #[new]
    #[pyo3(signature = (
        application, event_loop, *, scheme = "http", root_path = "", path_prefix = "",
        raw_path_prefix = Vec::new(), state = None, on_over = None
    ))]
    #[allow(clippy::too_many_arguments, reason = "settings by keyword")]
    fn new(
        application: Py<PyAny>,
        event_loop: &Bound<'_, AsyncioLoop>,
        scheme: &str,
        root_path: &str,
        path_prefix: &str,
        raw_path_prefix: Vec<u8>,
        state: Option<Py<PyDict>>,
        on_over: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let py = event_loop.py();
        let asgi = PyDict::new(py);
        asgi.set_item("version", "3.0")?;
        asgi.set_item("spec_version", SPEC_VERSION)?;
        let http_extensions = PyDict::new(py);
        for name in ["http.response.pathsend", "http.response.trailers", "http.response.early_hint"]
        {
            http_extensions.set_item(name, PyDict::new(py))?;
        }
        let websocket_extensions = PyDict::new(py);
        websocket_extensions.set_item("websocket.http.response", PyDict::new(py))?;
        let websocket_scheme = if scheme == "https" { "wss" } else { "ws" };
        let scope = |kind: &str, scheme: &str| -> PyResult<Bound<'_, PyDict>> {
            let scope = PyDict::new(py);
            scope.set_item("type", kind)?;
            // What is None here is set for each request.
            scope.set_item("asgi", py.None())?;
            scope.set_item("http_version", "1.1")?;
            scope.set_item("server", py.None())?;
            scope.set_item("client", py.None())?;
            scope.set_item("scheme", PyString::intern(py, scheme))?;
            if kind == "http" {
                scope.set_item("method", "GET")?;
            }
            scope.set_item("root_path", root_path)?;
            for name in ["path", "raw_path", "query_string", "headers", "extensions"] {
                scope.set_item(PyString::intern(py, name), py.None())?;
            }
            if kind == "websocket" {
                scope.set_item("subprotocols", py.None())?;
            }
            if state.is_some() {
                scope.set_item("state", py.None())?;
            }
            Ok(scope)
        };
        Ok(Self {
            application,
            event_loop: event_loop.clone().unbind(),
            hooks: GeneratorHooks::of(event_loop)?,
            on_over,
            http: scope("http", scheme)?.unbind(),
            websocket: scope("websocket", websocket_scheme)?.unbind(),
            asgi: asgi.unbind(),
            http_extensions: http_extensions.unbind(),
            websocket_extensions: websocket_extensions.unbind(),
            state,
            path_prefix: path_prefix.to_owned(),
            raw_path_prefix,
            names: RefCell::default(),
            lingering: PySet::empty(py)?.unbind(),
            in_progress: Cell::new(0),
        })
    }

    /// Tasks that go on although their requests were answered.
    #[getter]
    fn lingering(&self, py: Python<'_>) -> Py<PySet> {
        self.lingering.clone_ref(py)
    }

    /// How many requests are being handled.
    #[getter]
    fn in_progress(&self) -> usize {
        self.in_progress.get()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.application)?;
        visit.call(&self.event_loop)?;
        self.hooks.traverse(&visit)?;
        visit.call(&self.on_over)?;
        visit.call(&self.state)?;
        visit.call(&self.lingering)?;
        for scope in [&self.http, &self.websocket, &self.asgi] {
            visit.call(scope)?;
        }
        Ok(())
    }
}

impl AsgiApplication {
    pub fn note_begin(&self) {
        self.in_progress.set(self.in_progress.get() + 1);
    }

    pub fn note_end(&self) {
        self.in_progress.set(self.in_progress.get() - 1);
    }

    /// Notes a task that goes on after its response.
    pub fn note_lingering(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let lingering = self.lingering.bind(task.py());
        lingering.add(task)?;
        task.call_method1("add_done_callback", (lingering.getattr("discard")?,))?;
        Ok(())
    }

    /// The name of a header in lower case.
    pub fn name<'py>(&self, py: Python<'py>, name: &str) -> Bound<'py, PyBytes> {
        if let Some(known) = self.names.borrow().get(name.as_bytes()) {
            return known.bind(py).clone();
        }
        let lower = PyBytes::new(py, name.to_ascii_lowercase().as_bytes());
        let mut names = self.names.borrow_mut();
        if names.len() < MAX_NAMES && name.len() <= MAX_NAME {
            names.insert(name.as_bytes().into(), lower.clone().unbind());
        }
        lower
    }
}

impl Ends {
    /// Those of a connection's socket. `address`: of the peer.
    pub fn of(
        core: &HttpCore,
        socket: &Bound<'_, PyAny>,
        address: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let py = socket.py();
        let client = match pair(address)? {
            Some(client) => client,
            None => py.None(),
        };
        let own = socket.call_method0("getsockname")?;
        let server = match pair(&own)? {
            Some(server) => server,
            // The path of a Unix-domain socket.
            None if own.is_instance_of::<PyString>() => {
                (own, py.None()).into_pyobject(py)?.into_any().unbind()
            }
            None => py.None(),
        };
        Ok(Self { client, server: core.same_server(server.bind(py))?.unbind() })
    }
}

/// Host and port of an address that has them.
fn pair(address: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
    match address.cast::<PyTuple>() {
        Ok(address) if address.len() >= 2 => Ok(Some(address.get_slice(0, 2).into_any().unbind())),
        _ => Ok(None),
    }
}
