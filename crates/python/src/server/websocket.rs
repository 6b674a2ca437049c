//! A WebSocket, as an application has it: `environ["wsgi.websocket"]`.
//!
//! The response with status 101 is a response like any other; from then on the connection's bytes
//! go through `greenloop_websocket`.

use super::connection::HttpConnection;
use super::response::StartResponse;
use super::start_response::bad;
use super::wire::Received;
use crate::exceptions;
use crate::net::errors::timed_out;
use crate::sync::permits::Permits;
use crate::time::deadline_after;
use greenloop_http1::{Request, ResponseHead};
use greenloop_websocket::{
    Agreed, Close, Decoder, Encoder, Event, Failure, Handshake, Kind, Windows, negotiate,
};
use pyo3::exceptions::{PyOSError, PyStopIteration, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyMemoryView, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit, intern};
use std::cell::{Cell, RefCell};

/// Shorter messages are sent as they are: compressed they would hardly be shorter.
const COMPRESSED_FROM: usize = 64;

/// How long a peer has to answer a close frame (seconds).
const CLOSE_SECONDS: f64 = 2.0;

/// What is told of a connection that ended without a close frame.
const NO_STATUS: u16 = 1005;
const ABNORMAL: u16 = 1006;

const NORMAL: u16 = 1000;
const GOING_AWAY: u16 = 1001;
const INTERNAL_ERROR: u16 = 1011;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The client asks for it; nothing was answered.
    Offered,
    Open,
    /// A close frame was sent.
    Closing,
    Closed,
}

/// A WebSocket that a client asks for: `environ["wsgi.websocket"]`. (Made by the server.)
///
/// The request is answered with 101 by `accept`, or with the first call of `receive`, `send`, `ping`
/// or `close`. An application that does none of these may answer as it likes. One that has accepted
/// need not call `start_response`; what it returns is not sent. When it returns, the WebSocket is closed.
///
/// Pings are answered while `receive` waits. One greenlet at a time may receive; any number may send.
#[pyclass(frozen, module = "greenloop._core")]
pub struct WebSocket {
    connection: Py<HttpConnection>,
    response: Py<StartResponse>,
    request: Request,
    handshake: Handshake,
    state: Cell<State>,
    protocol: RefCell<Option<String>>,
    decoder: RefCell<Decoder>,
    encoder: RefCell<Encoder>,
    /// Held by whoever sends.
    turn: Permits,
    is_receiving: Cell<bool>,
    close_code: Cell<Option<u16>>,
    close_reason: RefCell<String>,
    /// The application has failed.
    failed: Cell<bool>,
}

// SAFETY: used and dropped with the GIL held only.
unsafe impl Send for WebSocket {}
// SAFETY: the cells are touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for WebSocket {}

/// The headers by which a client knows what was agreed on: it would not accept a second one.
const HANDSHAKE: &[&[u8]] = &[
    b"connection",
    b"upgrade",
    b"sec-websocket-accept",
    b"sec-websocket-extensions",
    b"sec-websocket-protocol",
];

/// A message, or what ends the wait for one.
pub enum Heard {
    Message(Event),
    Closed,
    TimedOut,
}

impl WebSocket {
    /// Puts what a client asks for, with a request that is answered by `response`, in its environment.
    pub fn offer(
        environ: &Bound<'_, PyDict>,
        response: &Bound<'_, StartResponse>,
        request: Request,
        handshake: Handshake,
    ) -> PyResult<()> {
        let py = environ.py();
        let this = Self::new(py, response, request, handshake);
        environ.set_item(intern!(py, "wsgi.websocket"), Bound::new(py, this)?)
    }

    /// What a client asks for with a request that is answered by `response`.
    pub fn new(
        py: Python<'_>,
        response: &Bound<'_, StartResponse>,
        request: Request,
        handshake: Handshake,
    ) -> Self {
        Self {
            connection: response.get().connection.clone_ref(py),
            response: response.clone().unbind(),
            request,
            handshake,
            state: Cell::new(State::Offered),
            protocol: RefCell::new(None),
            decoder: RefCell::new(Decoder::new(0, None)),
            encoder: RefCell::new(Encoder::new(None, COMPRESSED_FROM)),
            turn: Permits::new(1),
            is_receiving: Cell::new(false),
            close_code: Cell::new(None),
            close_reason: RefCell::default(),
            failed: Cell::new(false),
        }
    }

    /// Answers the request with 101, and the headers that `add` adds.
    pub fn answer(
        slf: &Bound<'_, Self>,
        protocol: Option<String>,
        add: impl FnOnce(&mut ResponseHead) -> PyResult<()>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if let Some(protocol) = &protocol
            && !this.handshake.protocols.contains(protocol)
        {
            let message = format!("the client does not offer the subprotocol {protocol:?}");
            return Err(PyValueError::new_err(message));
        }
        let connection = this.connection.get();
        let core = connection.core.get();
        let agreed = core
            .websocket_compression
            .then(|| negotiate(&this.handshake.extensions, Windows::default()))
            .flatten();
        let mut head = this.head(py, protocol.as_deref(), agreed)?;
        head.reserve(HANDSHAKE);
        add(&mut head)?;
        if this.state.get() != State::Offered {
            return Err(PyValueError::new_err("the WebSocket was accepted before"));
        }
        let response = this.response.get();
        response.begin_upgrade(py, head)?;
        this.state.set(State::Open);
        this.decoder.replace(Decoder::new(core.max_message, agreed));
        this.encoder.replace(Encoder::new(agreed, COMPRESSED_FROM));
        this.protocol.replace(protocol);
        connection.set_websocket(slf);
        if let Err(error) = response.send_head(py, None) {
            this.close_as(State::Closed, ABNORMAL, "");
            return Err(error);
        }
        Ok(())
    }

    fn head(
        &self,
        py: Python<'_>,
        protocol: Option<&str>,
        agreed: Option<Agreed>,
    ) -> PyResult<ResponseHead> {
        let name = intern!(py, "headers");
        let wrong = |error| bad(error, name, "header value", b"");
        let status = b"101 Switching Protocols";
        let mut head =
            ResponseHead::new(Vec::with_capacity(256), self.request, status).map_err(wrong)?;
        head.header(b"Upgrade", b"websocket").map_err(wrong)?;
        head.header(b"Connection", b"Upgrade").map_err(wrong)?;
        head.header(b"Sec-WebSocket-Accept", self.handshake.accept.as_bytes()).map_err(wrong)?;
        if let Some(protocol) = protocol {
            head.header(b"Sec-WebSocket-Protocol", protocol.as_bytes()).map_err(wrong)?;
        }
        if let Some(agreed) = agreed {
            let value = agreed.header();
            head.header(b"Sec-WebSocket-Extensions", value.as_bytes()).map_err(wrong)?;
        }
        Ok(head)
    }

    /// Accepts it unless that was done.
    fn begin(slf: &Bound<'_, Self>) -> PyResult<()> {
        match slf.get().state.get() {
            State::Offered => Self::answer(slf, None, |_| Ok(())),
            _ => Ok(()),
        }
    }

    fn close_as(&self, state: State, code: u16, reason: &str) {
        self.state.set(state);
        if self.close_code.get().is_none() {
            self.close_code.set(Some(code));
            reason.clone_into(&mut self.close_reason.borrow_mut());
        }
    }

    fn closed_error(&self, py: Python<'_>) -> PyErr {
        let code = self.close_code.get().unwrap_or(ABNORMAL);
        let reason = self.close_reason.borrow();
        let message = if reason.is_empty() {
            format!("the WebSocket is closed ({code})")
        } else {
            format!("the WebSocket is closed ({code}: {reason})")
        };
        exceptions::websocket_error(py, &message, code)
    }

    /// Writes something and sends it. Others who send have their turns before and after.
    fn transmit<R>(
        slf: &Bound<'_, Self>,
        write: impl FnOnce(&Self, &mut Encoder, &mut Vec<u8>) -> PyResult<R>,
    ) -> PyResult<R> {
        let py = slf.py();
        let this = slf.get();
        if !this.turn.try_take() {
            this.turn.park(py, slf.as_ptr(), None)?.into_result()?;
        }
        let mut out = Vec::new();
        let sent = write(this, &mut this.encoder.borrow_mut(), &mut out).and_then(|written| {
            if !out.is_empty() {
                this.connection.get().send(py, &[&out])?;
            }
            Ok(written)
        });
        this.turn.give();
        if sent.is_err() && this.connection.get().is_broken() {
            this.close_as(State::Closed, ABNORMAL, "");
        }
        sent
    }

    /// Sends a close frame, unless one was sent.
    pub fn send_close(slf: &Bound<'_, Self>, said: Option<&Close>) -> PyResult<()> {
        Self::transmit(slf, |this, _, out| {
            if this.state.get() != State::Open {
                return Ok(());
            }
            if !Encoder::close(said, out) {
                return Err(PyValueError::new_err(
                    "a code to close with is 1000 to 1003, 1007 to 1014 or 3000 to 4999, and a \
                     reason has up to 123 bytes",
                ));
            }
            this.state.set(State::Closing);
            Ok(())
        })
    }

    /// Sends a close frame to a peer that may be gone.
    fn try_send_close(slf: &Bound<'_, Self>, said: Option<&Close>) -> PyResult<()> {
        match Self::send_close(slf, said) {
            Err(error) if error.is_instance_of::<PyOSError>(slf.py()) => Ok(()),
            other => other,
        }
    }

    /// Decodes what was received.
    fn decode(&self) -> Result<Option<Event>, Failure> {
        let mut decoder = self.decoder.borrow_mut();
        self.connection.get().with_buffer(|left| {
            let mut input = left;
            let decoded = decoder.decode(&mut input);
            (decoded, left.len() - input.len())
        })
    }

    /// Waits for a message.
    fn hear(slf: &Bound<'_, Self>, deadline: Option<u64>) -> PyResult<Heard> {
        let py = slf.py();
        let this = slf.get();
        let connection = this.connection.get();
        let core = connection.core.get();
        let quiet = |core: &super::core::HttpCore| core.websocket_ping.map(deadline_after);
        let mut ping_at = quiet(core);
        let mut has_pinged = false;
        loop {
            match this.decode() {
                Ok(Some(Event::Ping(payload))) => {
                    let answered = Self::transmit(slf, |this, _, out| {
                        // Nothing follows a close frame.
                        Ok(this.state.get() != State::Open || Encoder::pong(&payload, out))
                    });
                    match answered {
                        Err(error) if error.is_instance_of::<PyOSError>(py) => {
                            return Ok(Heard::Closed);
                        }
                        answered => answered?,
                    };
                    // One who sends pings and takes no answers is not listened to.
                    connection.wait_flushed(py)?;
                    continue;
                }
                Ok(Some(Event::Pong(_))) => continue,
                Ok(Some(Event::Close(said))) => {
                    let said = said.as_ref();
                    let answer = said.map(|said| Close { code: said.code, reason: String::new() });
                    Self::try_send_close(slf, answer.as_ref())?;
                    let code = said.map_or(NO_STATUS, |said| said.code);
                    this.close_as(State::Closed, code, said.map_or("", |said| &said.reason));
                    return Ok(Heard::Closed);
                }
                Ok(Some(message)) => return Ok(Heard::Message(message)),
                Ok(None) => {}
                Err(failure) => {
                    let reason = failure.reason.to_owned();
                    Self::try_send_close(slf, Some(&Close { code: failure.code, reason }))?;
                    this.close_as(State::Closed, failure.code, failure.reason);
                    return Err(exceptions::websocket_error(py, failure.reason, failure.code));
                }
            }
            if this.state.get() == State::Closed {
                return Ok(Heard::Closed);
            }
            if core.is_draining() && this.state.get() == State::Open {
                let reason = String::from("the server is about to stop");
                Self::try_send_close(slf, Some(&Close { code: GOING_AWAY, reason }))?;
                this.close_as(State::Closing, GOING_AWAY, "the server is about to stop");
                return Ok(Heard::Closed);
            }
            let at = match (deadline, ping_at) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
            if connection.take_interrupted() {
                return Ok(Heard::TimedOut);
            }
            let mut buffer = connection.take_buffer();
            // So that a server which stops ends the wait.
            connection.set_idle(this.state.get() == State::Open);
            let received = connection.wire.receive(py, &mut buffer, at);
            connection.set_idle(false);
            connection.buffer.set(buffer);
            match received {
                Ok(Received::Data(_)) => {
                    has_pinged = false;
                    ping_at = quiet(core);
                }
                Ok(Received::TimedOut) if at == deadline && deadline.is_some() => {
                    return Ok(Heard::TimedOut);
                }
                Ok(Received::TimedOut) if !has_pinged => {
                    has_pinged = true;
                    ping_at = quiet(core);
                    Self::transmit(slf, |this, _, out| {
                        Ok(this.state.get() != State::Open || Encoder::ping(b"", out))
                    })?;
                }
                Ok(Received::TimedOut) => {
                    let reason = String::from("no answer to a ping");
                    Self::try_send_close(slf, Some(&Close { code: INTERNAL_ERROR, reason }))?;
                    this.close_as(State::Closed, ABNORMAL, "no answer to a ping");
                    return Ok(Heard::Closed);
                }
                Ok(Received::End) => {
                    this.close_as(State::Closed, ABNORMAL, "");
                    return Ok(Heard::Closed);
                }
                Err(error) if error.is_instance_of::<PyOSError>(py) => {
                    // It may be `hang_up` that has ended the wait.
                    if connection.take_interrupted() {
                        return Ok(Heard::TimedOut);
                    }
                    if !core.is_draining() {
                        connection.set_broken();
                        this.close_as(State::Closed, ABNORMAL, "");
                        return Ok(Heard::Closed);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// As `hear`, unless another greenlet does.
    pub fn hear_alone(slf: &Bound<'_, Self>, deadline: Option<u64>) -> PyResult<Heard> {
        let this = slf.get();
        if this.is_receiving.replace(true) {
            let message = "This WebSocket is already being received from by another greenlet";
            return Err(exceptions::concurrent_use(slf.py(), message));
        }
        let heard = Self::hear(slf, deadline);
        this.is_receiving.set(false);
        heard
    }

    /// Waits a little for the peer's close frame.
    fn await_close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let deadline = Some(deadline_after(CLOSE_SECONDS));
        while matches!(this.state.get(), State::Closing) && !this.is_receiving.get() {
            match Self::hear_alone(slf, deadline) {
                Ok(Heard::Message(_)) => {}
                Ok(Heard::Closed | Heard::TimedOut) => break,
                // The peer breaks the protocol: there is nothing to wait for.
                Err(error) if error.is_instance_of::<PyOSError>(slf.py()) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub fn note_failure(&self) {
        self.failed.set(true);
    }

    /// The application is done.
    pub fn finish(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.state.get() == State::Open {
            let code = match (this.failed.get(), this.connection.get().core.get().is_draining()) {
                (true, _) => INTERNAL_ERROR,
                (false, true) => GOING_AWAY,
                (false, false) => NORMAL,
            };
            Self::try_send_close(slf, Some(&Close { code, reason: String::new() }))?;
            this.close_as(this.state.get(), code, "");
        }
        Self::await_close(slf)?;
        this.state.set(State::Closed);
        Ok(())
    }
}

impl WebSocket {
    /// Sends a message of a WebSocket that is open.
    pub fn send_data(slf: &Bound<'_, Self>, data: &Bound<'_, PyBytes>, kind: Kind) -> PyResult<()> {
        Self::transmit(slf, |this, encoder, out| {
            if this.state.get() != State::Open {
                return Err(this.closed_error(data.py()));
            }
            encoder.message(kind, data.as_bytes(), out);
            Ok(())
        })
    }

    /// Sends a close frame; the WebSocket is closed as far as its user is concerned.
    pub fn begin_close(slf: &Bound<'_, Self>, code: u16, reason: &str) -> PyResult<()> {
        let this = slf.get();
        Self::try_send_close(slf, Some(&Close { code, reason: reason.to_owned() }))?;
        if this.state.get() == State::Closing {
            this.close_as(State::Closing, code, reason);
        }
        Ok(())
    }

    /// What it was closed with.
    pub fn closed_with(&self) -> (u16, String) {
        (self.close_code.get().unwrap_or(ABNORMAL), self.close_reason.borrow().clone())
    }
}

/// The bytes of a message, and what they are meant as.
fn message<'py>(
    data: &Bound<'py, PyAny>,
    binary: Option<bool>,
) -> PyResult<(Bound<'py, PyBytes>, Kind)> {
    if let Ok(text) = data.cast::<PyString>() {
        let kind = if binary == Some(true) { Kind::Binary } else { Kind::Text };
        // UnicodeEncodeError for a lone surrogate.
        return Ok((text.encode_utf8()?, kind));
    }
    let bytes = if let Ok(bytes) = data.cast::<PyBytes>() {
        bytes.clone()
    } else if let Ok(bytes) = data.cast::<PyByteArray>() {
        PyBytes::new(data.py(), &bytes.to_vec())
    } else if data.cast::<PyMemoryView>().is_ok() {
        data.call_method0("tobytes")?.cast_into()?
    } else {
        let kind = data.get_type().name()?;
        return Err(PyTypeError::new_err(format!("a message is str or bytes, not {kind}")));
    };
    if binary == Some(false) {
        std::str::from_utf8(bytes.as_bytes())
            .map_err(|error| PyValueError::new_err(format!("text that is not UTF-8: {error}")))?;
        return Ok((bytes, Kind::Text));
    }
    Ok((bytes, Kind::Binary))
}

#[pymethods]
impl WebSocket {
    /// Answers the request with 101: from then on there are messages.
    ///
    /// subprotocol: one of `subprotocols`, which the answer names. headers: pairs of name and value
    /// to send besides.
    ///
    /// Raises ValueError for a subprotocol that is not offered, for headers that are the handshake's
    /// own, and if the request was answered before; OSError if the client has gone.
    #[pyo3(signature = (subprotocol = None, headers = None))]
    fn accept(
        slf: &Bound<'_, Self>,
        subprotocol: Option<String>,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        Self::answer(slf, subprotocol, |head| match headers {
            Some(headers) => super::start_response::add_headers(head, headers),
            None => Ok(()),
        })
    }

    /// Waits for a message, and returns it: a str or bytes; None if the WebSocket is closed.
    ///
    /// timeout: seconds to wait, None for any time.
    ///
    /// Raises TimeoutError; WebSocketError when the client breaks the protocol or sends more than
    /// the server allows; ConcurrentObjectUseError if another greenlet receives.
    #[pyo3(signature = (timeout = None))]
    fn receive<'py>(
        slf: &Bound<'py, Self>,
        timeout: Option<f64>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        if timeout.is_some_and(f64::is_nan) {
            return Err(PyValueError::new_err("Invalid value NaN (not a number)"));
        }
        Self::begin(slf)?;
        match Self::hear_alone(slf, timeout.map(deadline_after))? {
            Heard::Message(Event::Text(text)) => Ok(Some(PyString::new(py, &text).into_any())),
            Heard::Message(Event::Binary(data)) => Ok(Some(PyBytes::new(py, &data).into_any())),
            Heard::Message(_) | Heard::Closed => Ok(None),
            Heard::TimedOut => Err(timed_out()),
        }
    }

    /// Sends a message: a str as text, bytes (a bytearray, a memoryview) as binary data.
    ///
    /// binary: send a str as binary data (True), or bytes that are UTF-8 as text (False).
    ///
    /// Raises WebSocketError if the WebSocket is closed, TimeoutError if the client takes nothing
    /// for too long, other OSErrors of the connection.
    #[pyo3(signature = (message, binary = None))]
    fn send(
        slf: &Bound<'_, Self>,
        message: &Bound<'_, PyAny>,
        binary: Option<bool>,
    ) -> PyResult<()> {
        let (data, kind) = self::message(message, binary)?;
        Self::begin(slf)?;
        Self::send_data(slf, &data, kind)
    }

    /// Sends a ping.
    ///
    /// data: up to 125 bytes, which the client sends back. What it answers is not told.
    ///
    /// Raises as `send`; ValueError for more bytes.
    #[pyo3(signature = (data = None))]
    fn ping(slf: &Bound<'_, Self>, data: Option<&[u8]>) -> PyResult<()> {
        Self::begin(slf)?;
        Self::transmit(slf, |this, _, out| {
            if this.state.get() != State::Open {
                return Err(this.closed_error(slf.py()));
            }
            if !Encoder::ping(data.unwrap_or_default(), out) {
                return Err(PyValueError::new_err("a ping has up to 125 bytes"));
            }
            Ok(())
        })
    }

    /// Closes the WebSocket, and waits a little for the client to agree. Messages that come meanwhile
    /// are lost. Does nothing if it is closed.
    ///
    /// code: why; see RFC 6455, 7.4. reason: for people, up to 123 bytes of UTF-8.
    ///
    /// Raises ValueError for a code or a reason that cannot be sent.
    #[pyo3(signature = (code = 1000, reason = ""))]
    fn close(slf: &Bound<'_, Self>, code: u16, reason: &str) -> PyResult<()> {
        Self::begin(slf)?;
        let this = slf.get();
        if this.state.get() == State::Open {
            Self::begin_close(slf, code, reason)?;
        }
        Self::await_close(slf)
    }

    /// Whether nothing can be sent any more.
    #[getter]
    fn closed(&self) -> bool {
        matches!(self.state.get(), State::Closing | State::Closed)
    }

    /// Whether the request was answered with 101.
    #[getter]
    fn accepted(&self) -> bool {
        self.state.get() != State::Offered
    }

    /// Why it was closed; None while it is not. 1005 if the client has not said, 1006 if the
    /// connection has just ended.
    #[getter(close_code)]
    fn get_close_code(&self) -> Option<u16> {
        self.close_code.get()
    }

    /// What was said about that.
    #[getter(close_reason)]
    fn get_close_reason(&self) -> String {
        self.close_reason.borrow().clone()
    }

    /// The subprotocols that the client offers, the one it likes best first.
    #[getter]
    fn subprotocols<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.handshake.protocols)
    }

    /// The one that was accepted, or None.
    #[getter]
    fn subprotocol(&self) -> Option<String> {
        self.protocol.borrow().clone()
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::receive(slf, None)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.connection)?;
        visit.call(&self.response)
    }
}
