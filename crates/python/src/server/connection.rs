//! A connection: requests one after the other, and what of them is not used yet.
//!
//! Bodies are read in `body`, the end of a connection is in `closing`.

use super::core::HttpCore;
use super::outbox::Outbox;
use super::websocket::WebSocket;
use super::wire::{Received, Wire};
use crate::exceptions;
use crate::greenlet::thread::Thread;
use crate::time::deadline_after;
use greenloop_http1::{BodyDecoder, Head, HeadScanner, HeadSpan, Refusal};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use std::cell::{Cell, OnceCell, RefCell};
use std::ffi::c_int;

/// A connection that was made before its server began to drain has a request coming, most likely:
/// it is waited for, for so many seconds.
const FIRST_REQUEST_SECONDS: f64 = 1.0;

/// How many bytes the kernel takes of a response beyond those that are on their way to the client.
///
/// By default it takes megabytes of them for each connection, which is memory that slow clients can
/// have a server use up. It also sends what it has taken whenever the client acknowledges something,
/// in the time of whoever runs then: with 128 KiB, 64 clients on the same machine get 1.8 times as
/// many files of 1 MiB.
const MOST_UNSENT: c_int = 128 << 10;

/// What comes next on a connection.
pub enum Next {
    Head(HeadSpan),
    /// The peer has gone, or the server is about to stop.
    Closed,
    /// Nothing came for too long; or, true, not all of a request.
    TimedOut(bool),
    Refused(Refusal),
}

/// What is wrong with a request, or its body, though the connection could be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    Refused(Refusal),
    TimedOut,
}

impl RequestError {
    pub fn status(self) -> u16 {
        match self {
            Self::Refused(refusal) => refusal.status(),
            Self::TimedOut => 408,
        }
    }

    pub fn text(self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.text(),
            Self::TimedOut => "the request did not come in time",
        }
    }
}

/// A connection of a server. (Made by HttpCore.)
#[pyclass(frozen, module = "greenloop._core")]
pub struct HttpConnection {
    pub core: Py<HttpCore>,
    pub wire: Wire,
    /// The peer's.
    address: Py<PyAny>,
    /// Of the peer, as environments have it, once there was one.
    port: OnceCell<Py<PyString>>,
    index: Cell<Option<usize>>,
    /// The greenlet that serves it: compared, never used.
    server: *const (),
    /// What was received and not used, from `position` on. Taken out while it is looked at, and in
    /// place whenever the greenlet waits.
    pub(super) buffer: Cell<Vec<u8>>,
    pub(super) position: Cell<usize>,
    /// Of the request's body, while there is one.
    pub(super) decoder: Cell<Option<BodyDecoder>>,
    /// The client waits for `100 Continue`.
    pub(super) must_continue: Cell<bool>,
    /// A greenlet sends.
    is_sending: Cell<bool>,
    /// A greenlet reads the body.
    pub(super) is_reading: Cell<bool>,
    /// What came in of bodies since others had their turn.
    pub(super) since_turn: Cell<usize>,
    pub(super) body_error: Cell<Option<RequestError>>,
    /// The number of the request that is handled; 0 between requests.
    request: Cell<u64>,
    served: Cell<u64>,
    idle: Cell<bool>,
    /// Nothing can be sent or received any more.
    broken: Cell<bool>,
    /// A response has begun that has not come to its end.
    responding: Cell<bool>,
    /// The connection speaks another protocol.
    upgraded: Cell<bool>,
    /// The other protocol, if it is that.
    websocket: RefCell<Option<Py<WebSocket>>>,
    /// Somebody has asked for the socket itself.
    taken: Cell<bool>,
    pub(super) outbox: Outbox,
    /// A wait for what the peer sends was ended by us.
    interrupted: Cell<bool>,
    /// The addresses of both ends, as ASGI has them, once they were asked for.
    pub(super) ends: OnceCell<Ends>,
}

/// The addresses of a connection's ends, as ASGI has them.
pub struct Ends {
    pub client: Py<PyAny>,
    pub server: Py<PyAny>,
}

// SAFETY: used and dropped with the GIL held only.
unsafe impl Send for HttpConnection {}
// SAFETY: the cells are touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for HttpConnection {}

impl HttpConnection {
    // Not part of the frames below which an idle connection waits.
    #[inline(never)]
    pub fn open<'py>(
        core: &Bound<'py, HttpCore>,
        socket: &Bound<'py, PyAny>,
        address: &Bound<'py, PyAny>,
        rfile: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = core.py();
        let wire = Wire::new(socket, rfile);
        if let Some(state) = wire.state(py)
            && matches!(state.get().family(), libc::AF_INET | libc::AF_INET6)
        {
            set_options(state.get().fd());
        }
        let connection = Bound::new(
            py,
            Self {
                core: core.clone().unbind(),
                wire,
                address: address.clone().unbind(),
                port: OnceCell::new(),
                index: Cell::new(None),
                server: current_greenlet(py)?,
                buffer: Cell::default(),
                position: Cell::new(0),
                decoder: Cell::new(None),
                must_continue: Cell::new(false),
                is_sending: Cell::new(false),
                is_reading: Cell::new(false),
                since_turn: Cell::new(0),
                body_error: Cell::new(None),
                request: Cell::new(0),
                served: Cell::new(0),
                idle: Cell::new(false),
                broken: Cell::new(false),
                responding: Cell::new(false),
                upgraded: Cell::new(false),
                websocket: RefCell::new(None),
                taken: Cell::new(false),
                outbox: Outbox::new(),
                interrupted: Cell::new(false),
                ends: OnceCell::new(),
            },
        )?;
        let index = core.get().enter(connection.clone().unbind());
        connection.get().index.set(Some(index));
        Ok(connection)
    }

    /// Host and port of the peer, as environments have them. A Unix-domain socket has neither.
    pub fn peer<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyString>, Option<Bound<'py, PyString>>)> {
        let address = match self.address.bind(py).cast::<PyTuple>() {
            Ok(address) if address.len() >= 2 => address,
            _ => return Ok((PyString::new(py, ""), None)),
        };
        let port = match self.port.get() {
            Some(port) => port,
            None => {
                let port = address.get_item(1)?.str()?.unbind();
                self.port.get_or_init(|| port)
            }
        };
        Ok((address.get_item(0)?.str()?, Some(port.bind(py).clone())))
    }

    /// Ends a connection that was served, with whatever outcome.
    #[inline(never)]
    pub fn finish(&self, py: Python<'_>, outcome: PyResult<()>) -> PyResult<()> {
        let outcome = outcome.and_then(|()| self.say_goodbye(py));
        let left = self.leave(py);
        outcome.and(left)
    }

    /// The connection is over, as far as the server is concerned.
    pub fn leave(&self, py: Python<'_>) -> PyResult<()> {
        // If that was not finished, it is over with the connection.
        drop(self.websocket.take());
        match self.index.take() {
            Some(index) => self.core.get().leave(py, index),
            None => Ok(()),
        }
    }

    pub fn is_closed(&self) -> bool {
        self.index.get().is_none()
    }

    pub fn is_idle(&self) -> bool {
        self.idle.get()
    }

    /// Notes whether its greenlet waits for another request.
    pub fn set_idle(&self, idle: bool) {
        self.idle.set(idle);
    }

    /// Whether it is served by the greenlet that runs.
    pub fn is_own(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.server == current_greenlet(py)?)
    }

    /// How many requests were begun.
    pub fn served(&self) -> u64 {
        self.served.get()
    }

    pub fn is_broken(&self) -> bool {
        self.broken.get()
    }

    pub fn set_broken(&self) {
        self.broken.set(true);
    }

    /// Whether a response has begun that has not come to its end.
    pub fn is_responding(&self) -> bool {
        self.responding.get()
    }

    pub fn set_responding(&self, responding: bool) {
        self.responding.set(responding);
    }

    pub fn is_upgraded(&self) -> bool {
        self.upgraded.get()
    }

    pub fn set_upgraded(&self) {
        self.upgraded.set(true);
    }

    pub fn set_websocket(&self, websocket: &Bound<'_, WebSocket>) {
        debug_assert!(self.websocket.borrow().is_none());
        self.websocket.borrow_mut().replace(websocket.clone().unbind());
    }

    /// Ends the WebSocket, if there is one.
    pub(super) fn finish_websocket(&self, py: Python<'_>) -> PyResult<()> {
        // Taken out first: nothing else refers to it then.
        let websocket = self.websocket.take();
        websocket.map_or(Ok(()), |websocket| WebSocket::finish(websocket.bind(py)))
    }

    /// The application has failed after it had begun to answer.
    pub fn note_failure(&self) {
        if let Some(websocket) = &*self.websocket.borrow() {
            websocket.get().note_failure();
        }
    }

    pub fn is_taken(&self) -> bool {
        self.taken.get()
    }

    /// The socket, for whoever goes on with it by himself.
    pub fn take_socket<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.taken.set(true);
        self.wire.socket(py).clone()
    }

    /// The number of the request that is handled.
    pub fn request(&self) -> u64 {
        self.request.get()
    }

    pub fn end_request(&self) {
        self.request.set(0);
    }

    /// When the wait for a request, or for the rest of its head, is over.
    pub(super) fn head_deadline(&self, has_begun: bool) -> Option<u64> {
        let core = self.core.get();
        let seconds = if has_begun || self.served.get() == 0 {
            core.header_timeout
        } else {
            core.keep_alive_timeout
        };
        seconds.map(deadline_after)
    }

    /// Waits for the head of a request.
    pub fn next_head(&self, py: Python<'_>) -> PyResult<Next> {
        let core = self.core.get();
        let mut scanner = HeadScanner::new();
        let mut deadline = None;
        let mut last_chance = None;
        let mut has_begun = false;
        loop {
            let mut buffer = self.take_buffer();
            if !buffer.is_empty() {
                match scanner.find_end(&buffer, &core.limits) {
                    Ok(Some(span)) => {
                        self.buffer.set(buffer);
                        return Ok(Next::Head(span));
                    }
                    Ok(None) => {}
                    Err(refusal) => {
                        self.buffer.set(buffer);
                        return Ok(Next::Refused(refusal));
                    }
                }
            }
            if !has_begun && scanner.has_begun() {
                has_begun = true;
                deadline = None;
            }
            let mut at = *deadline.get_or_insert_with(|| self.head_deadline(has_begun));
            let is_last = !has_begun && core.is_draining();
            if is_last {
                // A request that is there already is answered.
                let seconds = if self.served.get() == 0 { FIRST_REQUEST_SECONDS } else { 0.0 };
                let last = *last_chance.get_or_insert_with(|| deadline_after(seconds));
                at = Some(at.map_or(last, |at| at.min(last)));
            }
            self.idle.set(!has_begun);
            let received = self.wire.receive(py, &mut buffer, at);
            self.idle.set(false);
            self.buffer.set(buffer);
            match received {
                Ok(Received::Data(_)) => {}
                Ok(Received::End) => return Ok(Next::Closed),
                Ok(Received::TimedOut) if is_last => return Ok(Next::Closed),
                Ok(Received::TimedOut) => return Ok(Next::TimedOut(has_begun)),
                Err(error) => {
                    if self.failed_to_receive(py, error, is_last || has_begun)? {
                        return Ok(Next::Closed);
                    }
                }
            }
        }
    }

    /// Whether the connection is over, after an error in waiting for a head. Errors that are not
    /// the socket's go on.
    #[inline(never)]
    fn failed_to_receive(&self, py: Python<'_>, error: PyErr, is_over: bool) -> PyResult<bool> {
        if !error.is_instance_of::<PyOSError>(py) {
            return Err(error);
        }
        // It may be `hang_up` that has ended the wait.
        let is_over = is_over || !self.core.get().is_draining();
        if is_over {
            self.broken.set(true);
        }
        Ok(is_over)
    }

    /// Takes out what was received and not used, moved to the front.
    pub(super) fn take_buffer(&self) -> Vec<u8> {
        let mut buffer = self.buffer.take();
        let used = self.position.take();
        if used >= buffer.len() {
            // An idle connection keeps no memory.
            return Vec::new();
        }
        buffer.drain(..used);
        buffer
    }

    /// Calls with what was received and not used, and takes as much of it out as that says.
    pub(super) fn with_buffer<R>(&self, look: impl FnOnce(&[u8]) -> (R, usize)) -> R {
        let buffer = self.buffer.take();
        let position = self.position.get();
        let (outcome, used) = look(&buffer[position..]);
        self.position.set(position + used);
        self.buffer.set(buffer);
        outcome
    }

    /// Puts bytes back in front of what was received and not used.
    pub(super) fn unread(&self, bytes: &[u8]) {
        let mut buffer = self.take_buffer();
        buffer.splice(..0, bytes.iter().copied());
        self.buffer.set(buffer);
    }

    /// Looks at the head that was found, and begins to read the body.
    pub fn begin<R>(
        &self,
        span: HeadSpan,
        look: impl FnOnce(&Head<'_>) -> PyResult<R>,
    ) -> PyResult<Result<R, Refusal>> {
        let core = self.core.get();
        let buffer = self.buffer.take();
        let outcome = match Head::parse(&buffer, span, &core.limits) {
            Ok(head) => {
                self.served.set(self.served.get() + 1);
                self.request.set(self.served.get());
                self.must_continue.set(head.expects_continue);
                let decoder = BodyDecoder::new(head.body, &core.limits);
                self.decoder.set((!decoder.is_finished()).then_some(decoder));
                look(&head).map(Ok)
            }
            Err(refusal) => Ok(Err(refusal)),
        };
        self.position.set(span.end);
        self.buffer.set(buffer);
        outcome
    }

    /// Whether a request may be followed by another one.
    pub fn may_have_more(&self) -> bool {
        let core = self.core.get();
        !core.is_draining() && (core.max_requests == 0 || self.served.get() < core.max_requests)
    }

    /// This object, as long as the connection is not over.
    pub(super) fn myself(&self, py: Python<'_>) -> Option<Py<Self>> {
        self.core.get().connection(py, self.index.get()?)
    }

    /// Ends the wait for what the peer sends, of which nothing is lost: it fails with an OSError.
    pub fn interrupt(&self, py: Python<'_>) {
        self.interrupted.set(true);
        self.hang_up(py);
    }

    /// Whether a wait was ended by `interrupt`.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.get()
    }

    /// Whether a wait was ended by `interrupt` since this was asked last.
    pub fn take_interrupted(&self) -> bool {
        self.interrupted.replace(false)
    }

    /// Sends all of some pieces. While a coroutine answers, what cannot be sent at once is left to
    /// another greenlet.
    pub fn send(&self, py: Python<'_>, pieces: &[&[u8]]) -> PyResult<()> {
        if self.outbox.defers() {
            return self.post(py, pieces);
        }
        if self.is_sending.replace(true) {
            let message = "This connection is already being written to by another greenlet";
            return Err(exceptions::concurrent_use(py, message));
        }
        let sent = self.wire.send(py, pieces, self.core.get().write_timeout);
        self.is_sending.set(false);
        if sent.is_err() {
            // Whatever it was, not all has been sent: nothing else can follow.
            self.broken.set(true);
        }
        sent
    }

    /// Notes whether the connection can still be used.
    pub fn note<T>(&self, py: Python<'_>, outcome: PyResult<T>) -> PyResult<T> {
        if let Err(error) = &outcome
            && error.is_instance_of::<PyOSError>(py)
            && !self.interrupted.get()
        {
            self.broken.set(true);
        }
        outcome
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.core)?;
        visit.call(&self.address)?;
        visit.call(&*self.websocket.borrow())?;
        if let Some(ends) = self.ends.get() {
            visit.call(&ends.client)?;
            visit.call(&ends.server)?;
        }
        self.outbox.traverse(visit)?;
        self.wire.traverse(visit)
    }
}

/// Which greenlet runs, for comparing.
fn current_greenlet(py: Python<'_>) -> PyResult<*const ()> {
    Ok(std::ptr::from_ref(Thread::get(py)?.current()).cast())
}

/// Small responses do not wait for the acknowledgement of what was sent before (TCP_NODELAY), and
/// of large ones only a little is handed to the kernel before it can be sent (TCP_NOTSENT_LOWAT).
fn set_options(fd: c_int) {
    for (option, value) in [(libc::TCP_NODELAY, 1), (libc::TCP_NOTSENT_LOWAT, MOST_UNSENT)] {
        let size = size_of::<c_int>() as libc::socklen_t;
        // SAFETY: an int and its size. A failure leaves the connection slower, not wrong.
        unsafe {
            libc::setsockopt(fd, libc::IPPROTO_TCP, option, (&raw const value).cast(), size);
        }
    }
}
