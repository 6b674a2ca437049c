//! The messages of a WebSocket.

use super::super::outbox;
use super::super::websocket::{Heard, WebSocket};
use super::exchange::{Exchange, Stage, out_of_order};
use super::http;
use super::message::{bytes, field, plain, text};
use greenloop_websocket::{Event, Kind};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// So many messages, and bytes of them, are received before the application takes one. It is read
/// ahead at all so that pings are answered, and the end is noticed, while the application is busy.
const MAX_MESSAGES: usize = 32;
const MAX_BYTES: usize = 64 * 1024;

/// How far a WebSocket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The application was not told of it.
    New,
    /// It is to accept it or not.
    Offered,
    Open,
    /// It answers by a response of HTTP.
    Denying,
    /// Closed by the application, or denied.
    Closed,
    /// The client has closed it, or gone.
    Lost,
}

/// What an exchange has of a WebSocket.
pub struct Socket {
    pub websocket: Py<WebSocket>,
    pub state: Cell<State>,
    /// What was received and not taken.
    messages: RefCell<VecDeque<Event>>,
    waiting_bytes: Cell<usize>,
}

impl Socket {
    pub fn new(websocket: Bound<'_, WebSocket>) -> Self {
        Self {
            websocket: websocket.unbind(),
            state: Cell::new(State::New),
            messages: RefCell::default(),
            waiting_bytes: Cell::new(0),
        }
    }

    /// Whether more is to be received ahead of the application.
    pub fn has_room(&self) -> bool {
        self.messages.borrow().len() < MAX_MESSAGES && self.waiting_bytes.get() < MAX_BYTES
    }

    /// Whether no messages will come, nor go. One who has closed waits for the connection to end.
    pub fn is_over(&self) -> bool {
        matches!(self.state.get(), State::Closed | State::Lost)
    }

    fn push(&self, event: Event) {
        self.waiting_bytes.set(self.waiting_bytes.get() + size(&event));
        self.messages.borrow_mut().push_back(event);
    }

    fn pop(&self) -> Option<Event> {
        let event = self.messages.borrow_mut().pop_front()?;
        self.waiting_bytes.set(self.waiting_bytes.get() - size(&event));
        Some(event)
    }
}

fn size(event: &Event) -> usize {
    match event {
        Event::Text(text) => text.len(),
        Event::Binary(data) => data.len(),
        _ => 0,
    }
}

/// The next message for the application, if there is one.
pub fn next_message<'py>(
    slf: &Bound<'py, Exchange>,
    socket: &Socket,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let py = slf.py();
    let this = slf.get();
    if socket.state.get() == State::New {
        socket.state.set(State::Offered);
        return plain(py, intern!(py, "websocket.connect")).map(Some);
    }
    let had_room = socket.has_room();
    if let Some(event) = socket.pop() {
        if !had_room {
            this.poke(py);
        }
        let message = plain(py, intern!(py, "websocket.receive"))?;
        match event {
            Event::Text(content) => message.set_item(intern!(py, "text"), content)?,
            Event::Binary(content) => {
                message.set_item(intern!(py, "bytes"), PyBytes::new(py, &content))?;
            }
            _ => {}
        }
        return Ok(Some(message));
    }
    let is_over = socket.is_over()
        || this.gone.get()
        || this.given_up.get().is_some()
        || this.is_complete()
        || !this.is_current();
    if !is_over {
        return Ok(None);
    }
    let (code, reason) = socket.websocket.get().closed_with();
    let message = plain(py, intern!(py, "websocket.disconnect"))?;
    message.set_item(intern!(py, "code"), code)?;
    message.set_item(intern!(py, "reason"), reason)?;
    Ok(Some(message))
}

/// Receives from the client, ahead of the application.
///
/// # Errors
///
/// What is thrown into the greenlet.
pub fn receive(slf: &Bound<'_, Exchange>, socket: &Socket) -> PyResult<()> {
    let py = slf.py();
    let websocket = socket.websocket.bind(py);
    match WebSocket::hear_alone(websocket, None) {
        Ok(Heard::Message(event)) => socket.push(event),
        // It was interrupted.
        Ok(Heard::TimedOut) => return Ok(()),
        Ok(Heard::Closed) => lose(socket),
        // The client breaks the protocol, and was told.
        Err(error) if error.is_instance_of::<PyOSError>(py) => lose(socket),
        Err(error) => return Err(error),
    }
    slf.get().tell(py)
}

fn lose(socket: &Socket) {
    if socket.state.get() == State::Open {
        socket.state.set(State::Lost);
    }
}

/// Sends a message of the application's.
pub fn send(
    slf: &Bound<'_, Exchange>,
    socket: &Socket,
    kind: &str,
    message: &Bound<'_, PyAny>,
) -> PyResult<()> {
    match (kind, socket.state.get()) {
        ("websocket.accept", State::New | State::Offered) => accept(slf, socket, message),
        ("websocket.send", State::Open | State::Lost) => data(slf, socket, message),
        ("websocket.close", State::Open | State::Lost) => close(slf, socket, message),
        ("websocket.close", State::New | State::Offered) => {
            socket.state.set(State::Closed);
            slf.get().end_timer(slf.py())?;
            http::refuse(slf, 403)
        }
        ("websocket.http.response.start", State::New | State::Offered) => {
            http::start(slf, message)?;
            socket.state.set(State::Denying);
            Ok(())
        }
        ("websocket.http.response.body", State::Denying)
            if slf.get().stage.get() == Stage::Started =>
        {
            http::body(slf, message)
        }
        ("websocket.accept", State::Open) => Err(out_of_order(kind, "a second time")),
        ("websocket.send", State::New | State::Offered) => {
            Err(out_of_order(kind, "before 'websocket.accept'"))
        }
        ("websocket.http.response.body", State::New | State::Offered) => {
            Err(out_of_order(kind, "before 'websocket.http.response.start'"))
        }
        ("websocket.http.response.start" | "websocket.http.response.body", State::Open) => {
            Err(out_of_order(kind, "after 'websocket.accept'"))
        }
        (
            "websocket.accept"
            | "websocket.send"
            | "websocket.close"
            | "websocket.http.response.start"
            | "websocket.http.response.body",
            State::Closed | State::Denying | State::Lost,
        ) => Err(out_of_order(kind, "after the WebSocket was closed or denied")),
        _ => Err(PyRuntimeError::new_err(format!("{kind:?} is no message of a WebSocket"))),
    }
}

fn accept(slf: &Bound<'_, Exchange>, socket: &Socket, message: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    if this.gone.get() {
        return Err(outbox::gone());
    }
    let protocol = match text(message, intern!(py, "subprotocol"))? {
        Some(protocol) => Some(protocol.to_str()?.to_owned()),
        None => None,
    };
    let headers = field(message, intern!(py, "headers"))?;
    WebSocket::answer(socket.websocket.bind(py), protocol, |head| match &headers {
        Some(headers) => http::add_headers(head, headers),
        None => Ok(()),
    })?;
    socket.state.set(State::Open);
    // It is for answering.
    this.end_timer(py)?;
    this.poke(py);
    Ok(())
}

fn data(slf: &Bound<'_, Exchange>, socket: &Socket, message: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let content = text(message, intern!(py, "text"))?;
    let binary = bytes(message, intern!(py, "bytes"))?;
    let (data, kind) = match (content, binary) {
        // UnicodeEncodeError for a lone surrogate.
        (Some(content), None) => (content.encode_utf8()?, Kind::Text),
        (None, Some(binary)) => (binary, Kind::Binary),
        _ => {
            let text = "'websocket.send' has to have either 'text' or 'bytes'";
            return Err(PyValueError::new_err(text));
        }
    };
    let sent = WebSocket::send_data(socket.websocket.bind(py), &data, kind);
    if sent.is_err() && slf.get().connection.get().is_broken() {
        lose(socket);
        slf.get().poke(py);
        slf.get().tell(py)?;
    }
    sent
}

fn close(slf: &Bound<'_, Exchange>, socket: &Socket, message: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let code = match field(message, intern!(py, "code"))? {
        Some(code) => code.extract::<u16>().map_err(|_| {
            PyValueError::new_err("the 'code' of 'websocket.close' is an int from 1000 to 4999")
        })?,
        None => 1000,
    };
    let reason = text(message, intern!(py, "reason"))?;
    let reason = reason.unwrap_or_else(|| PyString::new(py, ""));
    WebSocket::begin_close(socket.websocket.bind(py), code, reason.to_str()?)?;
    socket.state.set(State::Closed);
    slf.get().poke(py);
    slf.get().tell(py)
}

/// The application is done without having accepted or denied it.
pub fn is_unanswered(socket: &Socket) -> bool {
    matches!(socket.state.get(), State::New | State::Offered | State::Denying)
}
