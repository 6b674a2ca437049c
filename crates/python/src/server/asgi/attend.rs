//! What the greenlet of a connection does for a request: it starts the task, reads for it, and ends
//! the request.

use super::super::connection::HttpConnection;
use super::super::wire::Received;
use super::exchange::{Exchange, GivenUp, Stage};
use super::stand_in;
use super::websocket::{self, Socket, State};
use crate::aio::entering::start_task;
use crate::greenlet::exceptions::is_greenlet_exit;
use crate::hub::wait::Wait;
use pyo3::exceptions::{
    PyException, PyKeyboardInterrupt, PyOSError, PySystemExit, PyTimeoutError, PyTypeError,
};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// So much of a body is received for one message, at most.
const PIECE: usize = 64 * 1024;
/// While the application waits for the client to go, so much of what the client sends is received.
const MAX_AHEAD: usize = 64 * 1024;

/// Handles a request. Returns whether the connection goes on.
///
/// # Errors
///
/// What is thrown into the greenlet, and what of the application's ends a greenlet.
#[inline(never)]
pub fn handle(
    connection: &Bound<'_, HttpConnection>,
    exchange: Bound<'_, Exchange>,
) -> PyResult<bool> {
    let py = connection.py();
    let this = connection.get();
    this.set_deferring(true);
    let mut attended = begin(&exchange);
    if exchange.get().reading.get() {
        attended = attended.and(stand_in::end(&exchange));
    }
    let attended = attended.and_then(|()| attend(&exchange));
    let abandoned = match &attended {
        Ok(()) => Ok(()),
        Err(error) => abandon(&exchange, error),
    };
    let flushed = this.wait_flushed(py);
    this.set_deferring(false);
    this.take_interrupted();
    let left = leave(&exchange);
    let goes_on = exchange.get().goes_on.get();
    drop(exchange);
    attended.and(flushed).and(abandoned).and(left)?;
    let may_go_on = this.end(py)?;
    if goes_on && may_go_on {
        return Ok(true);
    }
    if this.has_more() {
        this.linger(py)?;
    }
    Ok(false)
}

/// Calls the application, and lets its coroutine begin.
fn begin(slf: &Bound<'_, Exchange>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    let application = this.application.get();
    let event_loop = application.event_loop.bind(py);
    if let Some(seconds) = this.connection.get().core.get().request_timeout {
        let expire = slf.getattr(intern!(py, "_expire"))?;
        let timer = event_loop.call_method1(intern!(py, "call_later"), (seconds, expire))?;
        this.timer.replace(Some(timer.unbind()));
    }
    let receive = slf.getattr(intern!(py, "receive"))?;
    let send = slf.getattr(intern!(py, "send"))?;
    this.beginning.set(true);
    let called = application.application.bind(py).call1((this.scope.bind(py), receive, send));
    // A WebSocket is read from while its application is busy, be it in a blocking call.
    let at_once = this.socket.is_none();
    let started = called
        .and_then(as_coroutine)
        .and_then(|coroutine| start_task(event_loop, &application.hooks, coroutine, at_once));
    this.beginning.set(false);
    let task = match started {
        Ok(task) => task,
        Err(error) => {
            let ends = !error.is_instance_of::<PyException>(py);
            let copy = error.clone_ref(py);
            settle(slf, Err(error))?;
            return if ends { Err(copy) } else { Ok(()) };
        }
    };
    if task.call_method0(intern!(py, "done"))?.is_truthy()? {
        return match settle_by(slf, &task)? {
            // It was thrown into this greenlet.
            Some(error) if is_greenlet_exit(error.value(py).as_ptr()) => Err(error),
            _ => Ok(()),
        };
    }
    let settled = slf.getattr(intern!(py, "_settled"))?;
    task.call_method1(intern!(py, "add_done_callback"), (settled,))?;
    this.task.replace(Some(task.unbind()));
    // The time was over before there was a task.
    if this.given_up.get().is_some() { cancel(slf) } else { Ok(()) }
}

/// What an application has returned, as a coroutine.
fn as_coroutine(made: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: a live object.
    if unsafe { ffi::PyCoro_CheckExact(made.as_ptr()) != 0 } {
        return Ok(made);
    }
    if !made.hasattr(intern!(made.py(), "__await__"))? {
        let kind = made.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "the application returned what cannot be awaited, of type {kind}: is it an ASGI \
             application?"
        )));
    }
    made.py().import("greenloop.asyncio._bridges")?.getattr("as_coroutine")?.call1((made,))
}

/// Waits until the request is over, and reads while the application waits for the client.
fn attend(slf: &Bound<'_, Exchange>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    while !this.is_over() {
        if wants_to_read(this) {
            read(slf)?;
        } else {
            let wait = Wait::begin(py, slf.as_ptr())?;
            wait.park(Some(&this.waiter), None).into_result()?;
        }
    }
    Ok(())
}

/// Whether something is to be received for the application.
pub fn wants_to_read(this: &Exchange) -> bool {
    if let Some(socket) = &this.socket
        && socket.state.get() == State::Open
    {
        return socket.has_room();
    }
    if this.gone.get() || this.connection.get().is_broken() || !this.asked.get() {
        return false;
    }
    let is_watching = this.socket.is_some() || this.has_body_ended();
    let received = this.connection.get().with_buffer(|buffer| (buffer.len(), 0));
    !is_watching || received < MAX_AHEAD
}

/// Receives something.
///
/// # Errors
///
/// What is thrown into the greenlet.
pub fn read(slf: &Bound<'_, Exchange>) -> PyResult<()> {
    let this = slf.get();
    this.reading.set(true);
    let outcome = match &this.socket {
        Some(socket) if socket.state.get() == State::Open => websocket::receive(slf, socket),
        None if !this.has_body_ended() => read_body(slf),
        _ => watch(slf),
    };
    this.reading.set(false);
    this.connection.get().take_interrupted();
    outcome
}

fn read_body(slf: &Bound<'_, Exchange>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    let connection = this.connection.get();
    let mut data = this.received.take();
    let outcome = connection.read_body(py, &mut data, PIECE);
    this.received.set(data);
    match outcome {
        Ok(_) => {}
        Err(error) if error.is_instance_of::<PyOSError>(py) => {
            if connection.take_interrupted() {
                return Ok(());
            }
            this.gone.set(true);
        }
        Err(error) => return Err(error),
    }
    this.tell(py)
}

/// Waits for the client to go. What it sends is for later.
fn watch(slf: &Bound<'_, Exchange>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    let connection = this.connection.get();
    let mut buffer = connection.take_buffer();
    let received = connection.wire.receive(py, &mut buffer, None);
    connection.buffer.set(buffer);
    match received {
        Ok(Received::Data(_) | Received::TimedOut) => return Ok(()),
        Ok(Received::End) => {}
        Err(error) if error.is_instance_of::<PyOSError>(py) => {
            if connection.take_interrupted() {
                return Ok(());
            }
            connection.set_broken();
        }
        Err(error) => return Err(error),
    }
    this.gone.set(true);
    this.tell(py)
}

/// The task is done. Returns what it has failed with.
pub fn settle_by(slf: &Bound<'_, Exchange>, task: &Bound<'_, PyAny>) -> PyResult<Option<PyErr>> {
    let outcome = task.call_method0(intern!(slf.py(), "result"));
    let error = outcome.as_ref().err().map(|error| error.clone_ref(slf.py()));
    settle(slf, outcome.map(drop))?;
    Ok(error)
}

/// The application is done: what it has not sent is.
fn settle(slf: &Bound<'_, Exchange>, outcome: PyResult<()>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    if this.done.replace(true) {
        return Ok(());
    }
    let task = this.task.take();
    drop(task);
    this.end_timer(py)?;
    let told = match outcome {
        Ok(()) => end(slf),
        Err(error) => failed(slf, error),
    };
    let over = note_over(slf);
    this.poke(py);
    this.tell(py)?;
    told.and(over)
}

/// The application has returned.
fn end(slf: &Bound<'_, Exchange>) -> PyResult<()> {
    let this = slf.get();
    if this.is_complete() || this.given_up.get().is_some() || !this.is_current() {
        return Ok(());
    }
    let connection = this.connection.get();
    if let Some(error) = connection.body_error.get() {
        // It was told that nothing follows: the client is told why.
        return fail(slf, error.status(), error.text());
    }
    let is_broken = connection.is_broken() || this.gone.get();
    let mistake = match &this.socket {
        Some(socket) if !websocket::is_unanswered(socket) => return Ok(()),
        _ if is_broken => return Ok(()),
        Some(_) => "the WebSocket was neither accepted nor denied",
        None if this.response.get().has_begun() => "the response is not complete",
        None => "there is no response",
    };
    let core = connection.core.get();
    core.on_mistake.bind(slf.py()).call1((&this.scope, mistake))?;
    fail(slf, 500, "Internal Server Error")
}

/// Answers in place of the application, if nothing was sent.
fn fail(slf: &Bound<'_, Exchange>, status: u16, text: &str) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    let answered = this.response.get().fail(py, status, text);
    if this.socket.as_ref().is_none_or(|socket| socket.state.get() != State::Open) {
        this.stage.set(Stage::Complete);
    }
    this.goes_on.set(false);
    match answered {
        Err(_) if this.connection.get().is_broken() => Ok(()),
        other => other,
    }
}

fn cancelled_error(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "asyncio", "CancelledError")
}

/// Whether an error is an OSError, or was raised because of one: frameworks have their own for clients
/// that have gone.
fn comes_from_connection(error: &Bound<'_, PyAny>) -> PyResult<bool> {
    /// So far is looked: exceptions can be made to go in circles.
    const MAX_DEPTH: usize = 16;
    let py = error.py();
    let mut next = error.clone();
    for _ in 0..MAX_DEPTH {
        if next.is_instance_of::<PyOSError>() {
            return Ok(true);
        }
        let cause = next.getattr(intern!(py, "__cause__"))?;
        next = if cause.is_none() { next.getattr(intern!(py, "__context__"))? } else { cause };
    }
    Ok(false)
}

/// The application has failed, or was made to.
fn failed(slf: &Bound<'_, Exchange>, error: PyErr) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    let connection = this.connection.get();
    let core = connection.core.get();
    let is_current = this.is_current();
    let is_cancelled = error.is_instance(py, cancelled_error(py)?);
    let is_exit = is_greenlet_exit(error.value(py).as_ptr());
    // These are raised besides, where they end the program.
    let is_final =
        error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py);
    let is_lost = this.gone.get()
        || is_current && connection.is_broken()
        || this.socket.as_ref().is_some_and(Socket::is_over);
    let is_of_client = is_lost && comes_from_connection(error.value(py).as_any())?;
    let given_up = this.given_up.get();
    if given_up == Some(GivenUp::Late) && is_cancelled {
        let seconds = core.request_timeout.unwrap_or_default();
        let late = PyTimeoutError::new_err(format!("the request took more than {seconds} seconds"));
        late.set_cause(py, Some(error));
        core.on_error.bind(py).call1((&this.scope, late.value(py)))?;
    } else if !is_of_client
        && !is_exit
        && !is_final
        && !(is_cancelled && (given_up.is_some() || this.is_complete()))
    {
        core.on_error.bind(py).call1((&this.scope, error.value(py)))?;
    }
    if !is_current || this.is_complete() || this.given_up.get().is_some() {
        return Ok(());
    }
    match connection.body_error.get() {
        Some(error) => fail(slf, error.status(), error.text()),
        _ if connection.is_broken() => Ok(()),
        _ if is_exit || is_cancelled && core.is_draining() => {
            fail(slf, 503, "the server is about to stop")
        }
        _ => fail(slf, 500, "Internal Server Error"),
    }
}

/// The time of the request is over.
pub fn expire(slf: &Bound<'_, Exchange>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    if this.done.get() || this.is_complete() {
        return Ok(());
    }
    fail(slf, 503, "the request took too long")?;
    this.given_up.set(Some(GivenUp::Late));
    note_over(slf)?;
    if this.beginning.get() {
        // The greenlet waits in a blocking call of the application's: the client need not.
        this.connection.get().end_sending(py);
    }
    cancel(slf)?;
    this.poke(py);
    this.tell(py)
}

fn cancel(slf: &Bound<'_, Exchange>) -> PyResult<()> {
    let task = slf.get().task.borrow().as_ref().map(|task| task.clone_ref(slf.py()));
    match task {
        Some(task) => task.call_method0(slf.py(), intern!(slf.py(), "cancel")).map(drop),
        None => Ok(()),
    }
}

/// Something was thrown into the greenlet: the application is not waited for.
fn abandon(slf: &Bound<'_, Exchange>, error: &PyErr) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    if this.done.get() {
        return Ok(());
    }
    if is_greenlet_exit(error.value(py).as_ptr()) && !this.is_complete() {
        fail(slf, 503, "the server is about to stop")?;
    }
    this.given_up.set(Some(GivenUp::Killed));
    cancel(slf)
}

/// The greenlet has nothing more to do with the request.
fn leave(slf: &Bound<'_, Exchange>) -> PyResult<()> {
    let this = slf.get();
    let task = this.task.borrow().as_ref().map(|task| task.clone_ref(slf.py()));
    if let Some(task) = task {
        this.application.get().note_lingering(task.bind(slf.py()))?;
    }
    note_over(slf)
}

/// Tells that the request is over, once.
fn note_over(slf: &Bound<'_, Exchange>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    if this.counted.replace(true) {
        return Ok(());
    }
    let application = this.application.get();
    application.note_end();
    let Some(on_over) = &application.on_over else { return Ok(()) };
    let (status, length) = this.response.get().outcome();
    let seconds = this.begun.elapsed().as_secs_f64();
    let arguments = (&this.scope, &this.address, this.line.as_deref(), status, length, seconds);
    if let Err(error) = on_over.bind(py).call1(arguments) {
        let core = this.connection.get().core.get();
        core.on_error.bind(py).call1((&this.scope, error.value(py)))?;
    }
    Ok(())
}
