//! A request and its answer: what an application has `receive` and `send` of.

use super::super::connection::HttpConnection;
use super::super::outbox;
use super::super::response::StartResponse;
use super::application::AsgiApplication;
use super::call::Call;
use super::message;
use super::websocket::Socket;
use super::{attend, http, stand_in, websocket};
use crate::hub::wait::WaitList;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pyo3::{PyTraverseError, PyVisit};
use std::cell::{Cell, RefCell};
use std::time::Instant;

/// How far the answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing was said.
    Silent,
    /// `http.response.start` was.
    Started,
    /// All of the body was sent, and trailers are to come.
    Trailers,
    /// There is nothing left to be sent.
    Complete,
}

/// Why an application is not waited for any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// The request's time was over.
    Late,
    /// The connection's greenlet was killed.
    Killed,
}

/// A request to an ASGI application. (Made by the server; applications have its methods.)
#[pyclass(frozen, name = "AsgiExchange", module = "greenloop._core")]
pub struct Exchange {
    pub application: Py<AsgiApplication>,
    pub connection: Py<HttpConnection>,
    pub response: Py<StartResponse>,
    pub scope: Py<PyDict>,
    /// The peer's.
    pub address: Py<PyAny>,
    /// The request line, if requests are logged.
    pub line: Option<String>,
    pub begun: Instant,
    /// Of the request, among the connection's.
    number: u64,
    pub stage: Cell<Stage>,
    /// Whether the response has trailers, and what they are so far.
    pub trailers: RefCell<Option<Vec<u8>>>,
    /// Whether the connection can go on.
    pub goes_on: Cell<bool>,
    /// The application was given all of the body.
    body_ended: Cell<bool>,
    /// What the connection's greenlet has read of it.
    pub received: Cell<Vec<u8>>,
    /// The client has.
    pub gone: Cell<bool>,
    /// The application is not waited for any more, and why.
    pub given_up: Cell<Option<GivenUp>>,
    /// The application has asked for a message that was not there: also if it has cancelled that.
    pub asked: Cell<bool>,
    /// The first step of the task is under way, in the connection's greenlet.
    pub beginning: Cell<bool>,
    /// The application is done.
    pub done: Cell<bool>,
    /// It was told that it is over.
    pub counted: Cell<bool>,
    /// A greenlet receives what the client sends: the connection's, or one that stands in for it.
    pub reading: Cell<bool>,
    /// There is one that does, or is about to look whether it has to.
    pub has_stand_in: Cell<bool>,
    /// The connection's greenlet, when it waits for anything else.
    pub waiter: WaitList,
    /// asyncio's futures of those who wait for messages.
    futures: RefCell<Vec<Py<PyAny>>>,
    pub task: RefCell<Option<Py<PyAny>>>,
    /// Of the loop: ends the request when its time is over.
    pub timer: RefCell<Option<Py<PyAny>>>,
    /// The client asks for a WebSocket.
    pub socket: Option<Socket>,
}

// SAFETY: used and dropped with the GIL held only.
unsafe impl Send for Exchange {}
// SAFETY: the cells are touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for Exchange {}

impl Exchange {
    #[allow(clippy::too_many_arguments, reason = "the parts of a request")]
    pub fn new(
        application: &Bound<'_, AsgiApplication>,
        connection: &Bound<'_, HttpConnection>,
        response: Bound<'_, StartResponse>,
        scope: Bound<'_, PyDict>,
        address: &Bound<'_, PyAny>,
        line: Option<String>,
        socket: Option<Socket>,
    ) -> Self {
        application.get().note_begin();
        Self {
            application: application.clone().unbind(),
            connection: connection.clone().unbind(),
            response: response.unbind(),
            scope: scope.unbind(),
            address: address.clone().unbind(),
            line,
            begun: Instant::now(),
            number: connection.get().request(),
            stage: Cell::new(Stage::Silent),
            trailers: RefCell::new(None),
            goes_on: Cell::new(false),
            body_ended: Cell::new(false),
            received: Cell::default(),
            gone: Cell::new(false),
            given_up: Cell::new(None),
            asked: Cell::new(false),
            beginning: Cell::new(false),
            done: Cell::new(false),
            counted: Cell::new(false),
            reading: Cell::new(false),
            has_stand_in: Cell::new(false),
            waiter: WaitList::new(),
            futures: RefCell::default(),
            task: RefCell::new(None),
            timer: RefCell::new(None),
            socket,
        }
    }

    /// Whether the connection is still at this request.
    pub fn is_current(&self) -> bool {
        self.connection.get().request() == self.number
    }

    /// Whether the greenlet has nothing to attend to any more: the application may still be at
    /// something.
    pub fn is_over(&self) -> bool {
        self.done.get()
            || self.given_up.get().is_some()
            || self.is_complete()
            || self.socket.as_ref().is_some_and(Socket::is_over)
    }

    pub fn is_complete(&self) -> bool {
        self.stage.get() == Stage::Complete
    }

    /// Whether the application was given all of the body.
    pub fn has_body_ended(&self) -> bool {
        self.body_ended.get()
    }

    /// Has the connection's greenlet look again.
    pub fn poke(&self, py: Python<'_>) {
        if !self.reading.get() {
            self.waiter.wake_one();
        } else if self.is_over() {
            self.connection.get().interrupt(py);
        }
    }

    /// There may be a message: whoever waits for one looks.
    pub fn tell(&self, py: Python<'_>) -> PyResult<()> {
        self.asked.set(false);
        for future in self.futures.take() {
            outbox::complete(future.bind(py))?;
        }
        Ok(())
    }

    /// The next message, if there is one.
    pub fn next_message(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        let this = slf.get();
        let message = match &this.socket {
            Some(socket) => websocket::next_message(slf, socket)?,
            None => this.next_of_http(slf.py())?,
        };
        Ok(message.map(|message| message.into_any().unbind()))
    }

    fn next_of_http<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        if !self.body_ended.get() && self.is_current() {
            let connection = self.connection.get();
            // Also one that has sent the body meanwhile, as with WSGI.
            match connection.tell_to_go_on(py) {
                Err(error) if !connection.is_broken() => return Err(error),
                _ => {}
            }
            let mut data = self.received.take();
            let outcome = connection.take_received_body(&mut data);
            let ended = outcome.is_ok() && connection.is_body_read();
            if ended || !data.is_empty() {
                self.body_ended.set(ended);
                return message::request(py, &data, !ended).map(Some);
            }
            if outcome.is_err() {
                self.gone.set(true);
            }
        }
        let is_over = self.gone.get() || self.is_complete() || self.given_up.get().is_some();
        if is_over || !self.is_current() || self.connection.get().is_broken() {
            return message::plain(py, intern!(py, "http.disconnect")).map(Some);
        }
        Ok(None)
    }

    /// A future that is completed when there may be a message.
    pub fn tell_of_message<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let this = slf.get();
        let future = this.future(slf.py())?;
        this.note_future(&future)?;
        this.asked.set(true);
        if this.beginning.get() {
            stand_in::begin(slf)?;
        } else if !this.reading.get() {
            this.waiter.wake_one();
        }
        Ok(future)
    }

    /// Keeps a future to be completed. Those that were cancelled are dropped as the list grows: some
    /// applications look again and again whether the client has gone, for as long as they answer.
    fn note_future(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = future.py();
        let is_full = {
            let futures = self.futures.borrow();
            futures.len() == futures.capacity()
        };
        if is_full {
            let mut waiting = Vec::new();
            for one in self.futures.take() {
                if !one.bind(py).call_method0(intern!(py, "done"))?.is_truthy()? {
                    waiting.push(one);
                }
            }
            // Room for as many as there are: the next look is far enough away.
            waiting.reserve(waiting.len().max(4));
            let mut futures = self.futures.borrow_mut();
            waiting.append(&mut futures);
            *futures = waiting;
        }
        self.futures.borrow_mut().push(future.clone().unbind());
        Ok(())
    }

    /// A future that is completed when what was sent is on its way; `None` if it is.
    ///
    /// # Errors
    ///
    /// OSError if it never will be.
    pub fn tell_when_flushed<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let this = slf.get();
        let connection = this.connection.get();
        if connection.is_broken() {
            return Err(outbox::gone());
        }
        if !connection.is_flushing() {
            return Ok(None);
        }
        let future = this.future(slf.py())?;
        connection.tell_when_flushed(future.clone().unbind());
        Ok(Some(future))
    }

    fn future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let event_loop = &self.application.get().event_loop;
        event_loop.bind(py).call_method0(intern!(py, "create_future"))
    }

    /// Sends a message.
    fn take_message(slf: &Bound<'_, Self>, message: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Some(kind) = message::text(message, intern!(py, "type"))? else {
            return Err(PyRuntimeError::new_err("a message has to have a 'type'"));
        };
        let kind = kind.to_str()?;
        if this.given_up.get().is_some()
            || (!this.is_complete() && this.connection.get().is_broken())
        {
            return Err(outbox::gone());
        }
        match &this.socket {
            Some(socket) => websocket::send(slf, socket, kind, message),
            None => http::send(slf, kind, message),
        }
    }

    /// Ends the timer of the request.
    pub fn end_timer(&self, py: Python<'_>) -> PyResult<()> {
        let timer = self.timer.take();
        if let Some(timer) = timer {
            timer.call_method0(py, intern!(py, "cancel"))?;
        }
        Ok(())
    }
}

/// The error of a message that cannot be sent now.
#[cold]
pub fn out_of_order(kind: &str, when: &str) -> PyErr {
    PyRuntimeError::new_err(format!("{kind:?} was sent {when}"))
}

#[pymethods]
impl Exchange {
    /// Returns something to await: the next message.
    fn receive(slf: &Bound<'_, Self>) -> PyResult<Py<Call>> {
        match Self::next_message(slf)? {
            Some(message) => Call::message(slf.py(), message),
            None => Call::receive(slf),
        }
    }

    /// Sends a message; returns something to await before the next one is sent.
    fn send(slf: &Bound<'_, Self>, message: &Bound<'_, PyAny>) -> PyResult<Py<Call>> {
        Self::take_message(slf, message)?;
        if slf.get().connection.get().is_flushing() && slf.get().is_current() {
            return Call::flush(slf);
        }
        Call::done(slf.py())
    }

    /// The task is done.
    fn _settled(slf: &Bound<'_, Self>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        attend::settle_by(slf, task).map(drop)
    }

    /// The time is over.
    fn _expire(slf: &Bound<'_, Self>) -> PyResult<()> {
        attend::expire(slf)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let scope = slf.get().scope.bind(py);
        let part = |name: &Bound<'_, PyString>| -> PyResult<String> {
            Ok(scope.get_item(name)?.map_or_else(String::new, |part| part.to_string()))
        };
        let kind = part(intern!(py, "type"))?;
        Ok(format!("<AsgiExchange {kind} {}>", part(intern!(py, "path"))?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.application)?;
        visit.call(&self.connection)?;
        visit.call(&self.response)?;
        visit.call(&self.scope)?;
        visit.call(&self.address)?;
        if let Some(socket) = &self.socket {
            visit.call(&socket.websocket)?;
        }
        if let Ok(futures) = self.futures.try_borrow() {
            for future in &*futures {
                visit.call(future)?;
            }
        }
        for cell in [&self.task, &self.timer] {
            if let Ok(object) = cell.try_borrow() {
                visit.call(&*object)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        drop((self.futures.take(), self.task.take(), self.timer.take()));
    }
}
