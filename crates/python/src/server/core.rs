//! What all connections of a server share: settings, the application, and who is connected.

use super::asgi::AsgiApplication;
use super::connection::HttpConnection;
use super::environ::decoded_path;
use greenloop_http1::{DateCache, Limits, write_error};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use pyo3::{PyTraverseError, PyVisit};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// How many names of headers are kept with what they are called in the environment.
const MAX_NAMES: usize = 512;

/// What headers are called in environments; `None` for those that must not be there.
type Names = HashMap<Box<[u8]>, Option<Py<PyString>>>;

/// An application that is mounted at a path.
struct Mount {
    /// Without a slash at its end.
    prefix: String,
    application: Py<PyAny>,
}

/// Which application a request is for.
pub struct Target<'py> {
    pub application: Bound<'py, PyAny>,
    /// Where it is mounted; empty for the application of all else.
    pub prefix: String,
}

/// HttpCore(application, environ, *, ...)
/// --
///
/// The part of a WSGI server that is the same for all its connections.
///
/// application: the WSGI application, or an AsgiApplication. mounts: pairs of a path, without a slash
/// at its end, and the application for what is below it, the first that fits. environ: what is in the environment of every request, a dict
/// that is copied, or a callable that returns a new one. on_error: called with the environment and
/// the exception when an application fails. on_mistake: called with the environment and a text when
/// what it has sent is not what it should be. log: called after each
/// request with the peer's address (a tuple, or whatever it is), the request line (None for one that
/// was refused), the status, the length of the body, and the seconds it took; None for nobody.
/// on_refusal: called with the peer's address and what is wrong for each request that is refused.
///
/// Times are in seconds, None for no limit: `header_timeout` from the first byte of a request to the
/// end of its head, and from the connection's beginning to that; `keep_alive_timeout` between
/// requests; `body_timeout` and `write_timeout` for each wait in which the peer sends or takes
/// nothing; `request_timeout` for the application.
/// Sizes are in bytes, see `greenloop_http1::Limits`. `max_requests` of a connection: 0 for any
/// number. `max_message`: the most bytes of a message of a WebSocket. `websocket_compression`: whether
/// they may be compressed. `websocket_ping`: after so many seconds in which nothing came, a client is
/// sent a ping; after as many more it is gone. `server`: the value of the header Server; empty for none.
#[pyclass(frozen, module = "greenloop._core")]
pub struct HttpCore {
    application: RefCell<Py<PyAny>>,
    mounts: Vec<Mount>,
    /// Whether no environment is ever needed.
    all_asgi: Cell<bool>,
    environ: Py<PyAny>,
    pub on_error: Py<PyAny>,
    pub on_mistake: Py<PyAny>,
    pub on_refusal: Option<Py<PyAny>>,
    pub log: Option<Py<PyAny>>,
    pub limits: Limits,
    pub header_timeout: Option<f64>,
    pub keep_alive_timeout: Option<f64>,
    pub body_timeout: Option<f64>,
    pub write_timeout: Option<f64>,
    pub request_timeout: Option<f64>,
    pub max_requests: u64,
    pub max_message: usize,
    pub websocket_compression: bool,
    pub websocket_ping: Option<f64>,
    pub server: Vec<u8>,
    /// No request is begun any more.
    draining: Cell<bool>,
    on_leave: RefCell<Option<Py<PyAny>>>,
    names: RefCell<Names>,
    date: RefCell<DateCache>,
    /// Those that are open; what is empty is reused.
    connections: RefCell<Vec<Option<Py<HttpConnection>>>>,
    free: RefCell<Vec<usize>>,
    requests: Cell<u64>,
    /// The server's address as the last connection had it, for ASGI.
    last_server: RefCell<Option<Py<PyAny>>>,
}

// SAFETY: used and dropped with the GIL held only.
unsafe impl Send for HttpCore {}
// SAFETY: the cells are touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for HttpCore {}

fn is_asgi(py: Python<'_>, application: &Py<PyAny>) -> bool {
    application.bind(py).is_exact_instance_of::<AsgiApplication>()
}

fn check_timeout(name: &str, seconds: Option<f64>) -> PyResult<Option<f64>> {
    match seconds {
        Some(seconds) if seconds.is_nan() || seconds <= 0.0 => {
            Err(PyValueError::new_err(format!("{name} must be positive, or None for no limit")))
        }
        seconds => Ok(seconds),
    }
}

// Not part of the frames below which an idle connection waits.
#[inline(never)]
fn close_after(socket: &Bound<'_, PyAny>, outcome: PyResult<()>) -> PyResult<()> {
    let py = socket.py();
    let closed = socket.call_method0(intern!(py, "close"));
    match (outcome, closed) {
        (Ok(()), closed) => closed.map(drop),
        (Err(error), Ok(_)) => Err(error),
        // As in a `finally`: both are told of.
        (Err(error), Err(later)) => {
            later.set_context(py, Some(error));
            Err(later)
        }
    }
}

#[pymethods]
impl HttpCore {
    #[new]
    #[pyo3(signature = (
        application, environ, *, on_error, on_mistake, on_refusal = None, log = None, server = "", header_timeout = None,
        keep_alive_timeout = None, body_timeout = None, write_timeout = None,
        request_timeout = None, max_requests = 0, max_request_line = 8192, max_header = 8192,
        max_head = 65536, max_headers = 100, max_body = None, max_message = 16 << 20,
        websocket_compression = true, websocket_ping = None, mounts = Vec::new(),
    ))]
    #[allow(clippy::too_many_arguments, reason = "settings by keyword")]
    fn new(
        py: Python<'_>,
        application: Py<PyAny>,
        environ: Py<PyAny>,
        on_error: Py<PyAny>,
        on_mistake: Py<PyAny>,
        on_refusal: Option<Py<PyAny>>,
        log: Option<Py<PyAny>>,
        server: &str,
        header_timeout: Option<f64>,
        keep_alive_timeout: Option<f64>,
        body_timeout: Option<f64>,
        write_timeout: Option<f64>,
        request_timeout: Option<f64>,
        max_requests: u64,
        max_request_line: usize,
        max_header: usize,
        max_head: usize,
        max_headers: usize,
        max_body: Option<u64>,
        max_message: usize,
        websocket_compression: bool,
        websocket_ping: Option<f64>,
        mounts: Vec<(String, Py<PyAny>)>,
    ) -> PyResult<Self> {
        let mounts: Vec<Mount> =
            mounts.into_iter().map(|(prefix, application)| Mount { prefix, application }).collect();
        if server.bytes().any(|byte| !(b' '..0x7f).contains(&byte)) {
            return Err(PyValueError::new_err("server must be ASCII without control characters"));
        }
        let all_asgi =
            is_asgi(py, &application) && mounts.iter().all(|mount| is_asgi(py, &mount.application));
        Ok(Self {
            application: RefCell::new(application),
            mounts,
            all_asgi: Cell::new(all_asgi),
            environ,
            on_error,
            on_mistake,
            on_refusal,
            log,
            limits: Limits {
                request_line: max_request_line,
                header: max_header,
                head: max_head,
                headers: max_headers,
                body: max_body.unwrap_or(u64::MAX),
                ..Limits::default()
            },
            header_timeout: check_timeout("header_timeout", header_timeout)?,
            keep_alive_timeout: check_timeout("keep_alive_timeout", keep_alive_timeout)?,
            body_timeout: check_timeout("body_timeout", body_timeout)?,
            write_timeout: check_timeout("write_timeout", write_timeout)?,
            request_timeout: check_timeout("request_timeout", request_timeout)?,
            max_requests,
            max_message,
            websocket_compression,
            websocket_ping: check_timeout("websocket_ping", websocket_ping)?,
            server: server.as_bytes().to_vec(),
            draining: Cell::new(false),
            on_leave: RefCell::new(None),
            names: RefCell::default(),
            date: RefCell::default(),
            connections: RefCell::default(),
            free: RefCell::default(),
            requests: Cell::new(0),
            last_server: RefCell::new(None),
        })
    }

    /// Serves a connection until it is over. The socket is left to be closed by the caller.
    ///
    /// socket: of the connection. address: of the peer.
    fn serve(
        slf: &Bound<'_, Self>,
        socket: &Bound<'_, PyAny>,
        address: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let connection = HttpConnection::open(slf, socket, address, None)?;
        let outcome = super::application::serve(slf, &connection, address);
        connection.get().finish(slf.py(), outcome)
    }

    /// As `serve`, and closes the socket: a handler of a server without a frame of Python's, which
    /// an idle connection would take memory for.
    fn serve_and_close(
        slf: &Bound<'_, Self>,
        socket: &Bound<'_, PyAny>,
        address: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let outcome = Self::serve(slf, socket, address);
        close_after(socket, outcome)
    }

    /// A connection to be served by somebody else, who calls its `close` in the end.
    ///
    /// rfile: a file to read from in place of the socket.
    #[pyo3(signature = (socket, address, rfile = None))]
    fn open<'py>(
        slf: &Bound<'py, Self>,
        socket: &Bound<'py, PyAny>,
        address: &Bound<'py, PyAny>,
        rfile: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, HttpConnection>> {
        HttpConnection::open(slf, socket, address, rfile)
    }

    #[getter(application)]
    fn get_application(&self, py: Python<'_>) -> Py<PyAny> {
        self.application(py).unbind()
    }

    #[setter(application)]
    fn set_application(&self, py: Python<'_>, application: Py<PyAny>) {
        self.all_asgi.set(self.all_asgi.get() && is_asgi(py, &application));
        // What was there before is dropped after the borrow.
        let before = self.application.replace(application);
        drop(before);
    }

    /// Ends connections between requests, and the others after the request they are at.
    ///
    /// on_leave: called whenever a connection is over from now on.
    #[pyo3(signature = (on_leave = None))]
    fn drain(slf: &Bound<'_, Self>, on_leave: Option<Py<PyAny>>) {
        let this = slf.get();
        this.draining.set(true);
        // What was there before is dropped after the borrow.
        let before = this.on_leave.replace(on_leave);
        drop(before);
        let idle: Vec<_> = this
            .connections
            .borrow()
            .iter()
            .flatten()
            .filter(|connection| connection.get().is_idle())
            .map(|connection| connection.clone_ref(slf.py()))
            .collect();
        for connection in idle {
            connection.get().hang_up(slf.py());
        }
    }

    /// A whole response that tells of an error: its bytes. The connection has to be closed after it.
    fn error_response<'py>(&self, py: Python<'py>, status: u16, text: &str) -> Bound<'py, PyBytes> {
        let mut out = Vec::new();
        self.with_date(|date| write_error(&mut out, status, text, date));
        PyBytes::new(py, &out)
    }

    /// Whether the greenlet that runs serves one of the connections.
    fn is_serving(&self, py: Python<'_>) -> PyResult<bool> {
        for connection in self.connections.borrow().iter().flatten() {
            if connection.get().is_own(py)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&*self.application.borrow())?;
        for mount in &self.mounts {
            visit.call(&mount.application)?;
        }
        visit.call(&self.environ)?;
        visit.call(&self.on_error)?;
        visit.call(&self.on_mistake)?;
        visit.call(&self.on_refusal)?;
        visit.call(&self.log)?;
        visit.call(&*self.on_leave.borrow())?;
        for connection in self.connections.borrow().iter().flatten() {
            visit.call(connection)?;
        }
        Ok(())
    }

    /// How many connections are open.
    #[getter]
    fn connection_count(&self) -> usize {
        self.connections.borrow().iter().flatten().count()
    }

    /// How many requests were begun.
    #[getter]
    fn request_count(&self) -> u64 {
        self.requests.get()
    }
}

impl HttpCore {
    pub fn application<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.application.borrow().bind(py).clone()
    }

    /// Whether no environment is ever needed.
    pub fn is_all_asgi(&self) -> bool {
        self.all_asgi.get()
    }

    /// Which application a path of a request is for.
    pub fn target<'py>(&self, py: Python<'py>, path: &str) -> Target<'py> {
        if !self.mounts.is_empty() {
            let path = decoded_path(path);
            let mount = self.mounts.iter().find(|mount| {
                path.strip_prefix(mount.prefix.as_bytes())
                    .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
            });
            if let Some(mount) = mount {
                let application = mount.application.bind(py).clone();
                return Target { application, prefix: mount.prefix.clone() };
            }
        }
        Target { application: self.application(py), prefix: String::new() }
    }

    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    pub fn count_request(&self) {
        self.requests.set(self.requests.get() + 1);
    }

    /// What is in the environment of every request, in a new dict.
    pub fn base_environ<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let environ = self.environ.bind(py);
        match environ.cast_exact::<PyDict>() {
            Ok(environ) => environ.copy(),
            Err(_) => Ok(environ.call0()?.cast_into()?),
        }
    }

    /// Notes a connection; returns its place, for `leave`.
    pub fn enter(&self, connection: Py<HttpConnection>) -> usize {
        let mut connections = self.connections.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or(connections.len());
        if index == connections.len() {
            connections.push(Some(connection));
        } else {
            connections[index] = Some(connection);
        }
        index
    }

    /// The connection at a place.
    pub fn connection(&self, py: Python<'_>, index: usize) -> Option<Py<HttpConnection>> {
        let connections = self.connections.borrow();
        connections.get(index)?.as_ref().map(|connection| connection.clone_ref(py))
    }

    /// The object for the server's address that other connections have, if theirs is the same: most
    /// are, and keep one for as long as they are open.
    pub fn same_server<'py>(&self, server: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = server.py();
        let last = self.last_server.borrow().as_ref().map(|last| last.bind(py).clone());
        match last {
            Some(last) if last.eq(server)? => Ok(last),
            _ => {
                let before = self.last_server.replace(Some(server.clone().unbind()));
                drop(before);
                Ok(server.clone())
            }
        }
    }

    /// A connection is over.
    pub fn leave(&self, py: Python<'_>, index: usize) -> PyResult<()> {
        // Dropped after the borrow: that may run Python code.
        let connection = self.connections.borrow_mut()[index].take();
        self.free.borrow_mut().push(index);
        drop(connection);
        let on_leave = self.on_leave.borrow().as_ref().map(|call| call.clone_ref(py));
        if let Some(on_leave) = on_leave {
            on_leave.bind(py).call0()?;
        }
        Ok(())
    }

    /// What a header is called in the environment; `None` for one that must not be there: WSGI
    /// cannot tell `X_Y` from `X-Y`, and what a proxy has set as the latter is trusted.
    pub fn name<'py>(&self, py: Python<'py>, name: &str) -> Option<Bound<'py, PyString>> {
        if let Some(known) = self.names.borrow().get(name.as_bytes()) {
            return known.as_ref().map(|key| key.bind(py).clone());
        }
        let key = (!name.contains('_')).then(|| {
            let upper = name.to_ascii_uppercase().replace('-', "_");
            match &upper[..] {
                "CONTENT_TYPE" | "CONTENT_LENGTH" => PyString::intern(py, &upper),
                _ => PyString::intern(py, &format!("HTTP_{upper}")),
            }
        });
        let mut names = self.names.borrow_mut();
        if names.len() < MAX_NAMES {
            names.insert(name.as_bytes().into(), key.clone().map(Bound::unbind));
        }
        key
    }

    /// Calls with the value of the header Date.
    pub fn with_date<R>(&self, call: impl FnOnce(&[u8]) -> R) -> R {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        call(self.date.borrow_mut().get(now))
    }
}
