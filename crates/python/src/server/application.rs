//! Serving a connection: the application is called for each request, and its result sent.

use super::asgi::{self, AsgiApplication, Exchange};
use super::connection::{HttpConnection, Next, RequestError};
use super::core::HttpCore;
use super::environ;
use super::file::FileWrapper;
use super::response::StartResponse;
use super::start_response::body_bytes;
use super::websocket::WebSocket;
use crate::greenlet::exceptions::is_greenlet_exit;
use greenloop_http1::{Head, Refusal, Request, Version, write_error};
use greenloop_websocket::Handshake;
use pyo3::exceptions::{PyException, PyOSError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use std::time::Instant;

/// What a request is known by when it is over.
struct Record {
    begin: Instant,
    line: String,
}

/// A request, ready to be handled.
enum Pending<'py> {
    Wsgi(WsgiRequest<'py>),
    Asgi(Bound<'py, Exchange>),
}

/// A request for a WSGI application.
struct WsgiRequest<'py> {
    application: Bound<'py, PyAny>,
    environ: Bound<'py, PyDict>,
    request: Request,
    websocket: Option<Handshake>,
    record: Option<Record>,
}

/// Serves a connection until it is over. `address` is the peer's.
pub fn serve<'py>(
    core: &Bound<'py, HttpCore>,
    connection: &Bound<'py, HttpConnection>,
    address: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let py = core.py();
    let this = connection.get();
    loop {
        let refusal = match this.next_head(py)? {
            Next::Head(span) => match answer(core, connection, address, span)? {
                After::GoesOn => continue,
                After::Over => return Ok(()),
                After::Refused(refusal) => RequestError::Refused(refusal),
            },
            Next::Closed | Next::TimedOut(false) => return Ok(()),
            Next::TimedOut(true) => RequestError::TimedOut,
            Next::Refused(refusal) => RequestError::Refused(refusal),
        };
        return refuse(core.get(), connection, address, refusal);
    }
}

/// What follows a request.
enum After {
    GoesOn,
    Over,
    /// There was no such request.
    Refused(Refusal),
}

// What follows is kept out of `serve`, whose frame is part of what an idle connection takes: that of
// a parser's headers alone is 1 KiB.
#[inline(never)]
fn answer<'py>(
    core: &Bound<'py, HttpCore>,
    connection: &Bound<'py, HttpConnection>,
    address: &Bound<'py, PyAny>,
    span: greenloop_http1::HeadSpan,
) -> PyResult<After> {
    let pending = match begin(core, connection, address, span)? {
        Ok(pending) => pending,
        Err(refusal) => return Ok(After::Refused(refusal)),
    };
    core.get().count_request();
    let goes_on = match pending {
        Pending::Wsgi(request) => handle(core, connection, address, request)?,
        Pending::Asgi(exchange) => asgi::handle(connection, exchange)?,
    };
    Ok(if goes_on { After::GoesOn } else { After::Over })
}

fn begin<'py>(
    core: &Bound<'py, HttpCore>,
    connection: &Bound<'py, HttpConnection>,
    address: &Bound<'py, PyAny>,
    span: greenloop_http1::HeadSpan,
) -> PyResult<Result<Pending<'py>, Refusal>> {
    let py = core.py();
    let settings = core.get();
    let this = connection.get();
    // Before the head is looked at: this may call what may do anything.
    let environ = if settings.is_all_asgi() { None } else { Some(settings.base_environ(py)?) };
    this.begin(span, |head| {
        let target = settings.target(py, head.target.path);
        if let Ok(application) = target.application.cast_exact::<AsgiApplication>() {
            let exchange = begin_asgi(connection, address, application, head)?;
            return Ok(Pending::Asgi(exchange));
        }
        let request = asked(head);
        let record = settings
            .log
            .is_some()
            .then(|| Record { begin: Instant::now(), line: request_line(head) });
        let environ = environ.map_or_else(|| settings.base_environ(py), Ok)?;
        let websocket = environ::fill(&environ, connection, settings, head)?;
        if !target.prefix.is_empty() {
            environ::mount(&environ, &target.prefix)?;
        }
        let application = target.application;
        Ok(Pending::Wsgi(WsgiRequest { application, environ, request, websocket, record }))
    })
}

/// What of a request decides how it is answered.
fn asked(head: &Head<'_>) -> Request {
    Request { version: head.version, is_head: head.method == "HEAD", keep_alive: head.keep_alive }
}

/// The first line of a request, for logs.
fn request_line(head: &Head<'_>) -> String {
    let minor = if head.version == Version::Http11 { 1 } else { 0 };
    format!("{} {} HTTP/1.{minor}", head.method, head.target.raw)
}

fn begin_asgi<'py>(
    connection: &Bound<'py, HttpConnection>,
    address: &Bound<'py, PyAny>,
    application: &Bound<'py, AsgiApplication>,
    head: &Head<'_>,
) -> PyResult<Bound<'py, Exchange>> {
    let py = connection.py();
    let request = asked(head);
    let handshake = if head.wants_upgrade() { environ::handshake(head) } else { None };
    let scope = asgi::scope(application.get(), connection, address, head, handshake.as_ref())?;
    let line = application.get().on_over.is_some().then(|| request_line(head));
    let response = Bound::new(py, StartResponse::new(connection, request))?;
    let socket = match handshake {
        Some(handshake) => {
            let websocket = WebSocket::new(py, &response, request, handshake);
            Some(asgi::Socket::new(Bound::new(py, websocket)?))
        }
        None => None,
    };
    let exchange = Exchange::new(application, connection, response, scope, address, line, socket);
    Bound::new(py, exchange)
}

#[inline(never)]
fn refuse(
    settings: &HttpCore,
    connection: &Bound<'_, HttpConnection>,
    address: &Bound<'_, PyAny>,
    refusal: RequestError,
) -> PyResult<()> {
    let py = connection.py();
    let (status, text) = (refusal.status(), refusal.text());
    if let Some(on_refusal) = &settings.on_refusal {
        on_refusal.bind(py).call1((address, text))?;
    }
    if let Some(log) = &settings.log {
        log.bind(py).call1((address, None::<&str>, status, text.len() + 1, 0.0))?;
    }
    connection.get().answer_and_linger(py, |out, date| write_error(out, status, text, date))
}

/// Handles a request. Returns whether the connection goes on.
fn handle<'py>(
    core: &Bound<'py, HttpCore>,
    connection: &Bound<'py, HttpConnection>,
    address: &Bound<'py, PyAny>,
    pending: WsgiRequest<'py>,
) -> PyResult<bool> {
    let py = core.py();
    let settings = core.get();
    let WsgiRequest { application, environ, request, websocket, record } = pending;
    let response = Bound::new(py, StartResponse::new(connection, request))?;
    if let Some(handshake) = websocket {
        WebSocket::offer(&environ, &response, request, handshake)?;
    }
    let deadline = match settings.request_timeout {
        Some(seconds) => {
            let class = py.import("greenloop.timeout")?.getattr("Timeout")?;
            let deadline = class.call_method1("start_new", (seconds,))?;
            response.get().set_deadline(deadline.clone().unbind());
            Some(deadline)
        }
        None => None,
    };
    let outcome = run(settings, &application, &environ, &response);
    if let Some(deadline) = &deadline {
        deadline.call_method0("close")?;
    }
    let goes_on = match outcome {
        Ok(goes_on) => Ok(goes_on),
        Err(error) => {
            let is_late = deadline.is_some_and(|deadline| error.value(py).is(&deadline));
            failed(settings, connection, &environ, &response, error, is_late).map(|()| false)
        }
    };
    if let (Some(log), Some(record)) = (&settings.log, record) {
        let (status, length) = response.get().outcome();
        let seconds = record.begin.elapsed().as_secs_f64();
        let arguments = (address, record.line, status, length, seconds);
        if let Err(error) = log.bind(py).call1(arguments) {
            settings.on_error.bind(py).call1((&environ, error.value(py)))?;
        }
    }
    let goes_on = goes_on?;
    drop((environ, response));
    let may_go_on = connection.get().end(py)?;
    if goes_on && may_go_on {
        return Ok(true);
    }
    if connection.get().has_more() {
        connection.get().linger(py)?;
    }
    Ok(false)
}

/// Calls the application, and sends what it returns.
fn run<'py>(
    settings: &HttpCore,
    application: &Bound<'py, PyAny>,
    environ: &Bound<'py, PyDict>,
    response: &Bound<'py, StartResponse>,
) -> PyResult<bool> {
    let py = environ.py();
    let result = application.call1((environ, response))?;
    let this = response.get();
    // Without a method `close` to call in the end.
    if result.is_exact_instance_of::<PyList>() || result.is_exact_instance_of::<PyTuple>() {
        this.send_all(py, &result)?;
        return end(settings, environ, this, true);
    }
    let sent =
        send_result(&result, this).and_then(|is_known| end(settings, environ, this, is_known));
    // Also after an error, and before that is told: it may hold a transaction open.
    match result.getattr_opt("close")? {
        Some(close) => {
            let closed = close.call0();
            let goes_on = sent?;
            closed?;
            Ok(goes_on)
        }
        None => sent,
    }
}

fn end(
    settings: &HttpCore,
    environ: &Bound<'_, PyDict>,
    response: &StartResponse,
    is_known: bool,
) -> PyResult<bool> {
    let py = environ.py();
    let (goes_on, mistake) = response.end(py, is_known)?;
    if let Some(mistake) = mistake {
        settings.on_mistake.bind(py).call1((environ, mistake))?;
    }
    Ok(goes_on)
}

/// Sends a result. Returns whether its length was known before.
fn send_result(result: &Bound<'_, PyAny>, response: &StartResponse) -> PyResult<bool> {
    let py = result.py();
    if let Ok(wrapper) = result.cast::<FileWrapper>()
        && response.send_file(py, wrapper.get())?
    {
        return Ok(true);
    }
    // An object of one piece can tell the length of all.
    let length = result.len().ok();
    for piece in result.try_iter()? {
        let data = body_bytes(&piece?)?;
        let data = data.as_bytes();
        let total = (length == Some(1) && !response.has_begun()).then_some(data.len() as u64);
        response.send_piece(py, data, total)?;
        if response.is_without_body() {
            break;
        }
    }
    Ok(length.is_some())
}

/// An application has failed, or was made to.
fn failed(
    settings: &HttpCore,
    connection: &Bound<'_, HttpConnection>,
    environ: &Bound<'_, PyDict>,
    response: &Bound<'_, StartResponse>,
    error: PyErr,
    is_late: bool,
) -> PyResult<()> {
    let py = environ.py();
    let this = connection.get();
    let response = response.get();
    let is_timeout =
        error.get_type(py).is_subclass(&py.import("greenloop.timeout")?.getattr("Timeout")?)?;
    let is_of_application = error.is_instance_of::<PyException>(py) || is_timeout;
    let is_of_client = error.is_instance_of::<PyOSError>(py)
        && (this.is_broken() || this.body_error.get().is_some());
    if is_of_application && !is_of_client {
        settings.on_error.bind(py).call1((environ, error.value(py)))?;
    }
    let answer = match this.body_error.get() {
        Some(error) if is_of_client => response.fail(py, error.status(), error.text()),
        _ if this.is_broken() => Ok(()),
        _ if is_late => response.fail(py, 503, "the request took too long"),
        // The greenlet is killed: as the server stops, most likely.
        _ if is_greenlet_exit(error.value(py).as_ptr()) => {
            response.fail(py, 503, "the server is about to stop")
        }
        _ => response.fail(py, 500, "Internal Server Error"),
    };
    match answer {
        Err(_) if this.is_broken() => {}
        other => other?,
    }
    // Errors that end a greenlet, or the program, do.
    if is_of_application { Ok(()) } else { Err(error) }
}
