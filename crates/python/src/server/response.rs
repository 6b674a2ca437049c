//! Sending a response: its head, and a body as that says.
//!
//! What applications and handlers call is in `start_response`.

use super::connection::HttpConnection;
use super::file::{self, FileWrapper};
use super::start_response::{bad, body_bytes};
use greenloop_http1::{Delivery, LAST_CHUNK, Request, ResponseHead, Version, chunk_size, reason};
use pyo3::exceptions::{PyAssertionError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use std::cell::RefCell;

/// Bodies up to this size are copied behind their heads: cheaper than two pieces.
const COPIED: usize = 4096;

/// What is known of a response.
pub(super) struct Progress {
    pub request: Request,
    /// Given by the application, not yet sent.
    pub head: Option<ResponseHead>,
    /// How the body goes, once the head has been sent.
    pub delivery: Option<Delivery>,
    pub status: u16,
    /// Of a body of known length.
    left: u64,
    /// How much of the body was sent.
    sent: u64,
    goes_on: bool,
    /// The application has given more than it has announced.
    is_over: bool,
    /// No header Date is added.
    pub without_date: bool,
}

/// The callable that an application is given: `start_response(status, headers, exc_info=None)`.
///
/// status: "200 OK". headers: a list of pairs. exc_info: that of the error because of which the
/// headers are given again, before anything was sent. Returns the function `write`.
///
/// An informational status, "103 Early Hints", is sent at once; the real one follows.
///
/// Raises TypeError and ValueError for what cannot be sent, AssertionError if it is called again
/// without `exc_info`, and the error itself if the response has begun already.
#[pyclass(frozen, module = "greenloop._core")]
pub struct StartResponse {
    pub(super) connection: Py<HttpConnection>,
    number: u64,
    pub(super) progress: RefCell<Progress>,
    /// The `Timeout` of the request.
    deadline: RefCell<Option<Py<PyAny>>>,
}

// SAFETY: used and dropped with the GIL held only.
unsafe impl Send for StartResponse {}
// SAFETY: the cell is borrowed with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for StartResponse {}

impl StartResponse {
    pub fn new(connection: &Bound<'_, HttpConnection>, request: Request) -> Self {
        Self {
            connection: connection.clone().unbind(),
            number: connection.get().request(),
            progress: RefCell::new(Progress {
                request,
                head: None,
                delivery: None,
                status: 0,
                left: 0,
                sent: 0,
                goes_on: false,
                is_over: false,
                without_date: false,
            }),
            deadline: RefCell::new(None),
        }
    }

    pub fn connection(&self) -> &HttpConnection {
        self.connection.get()
    }

    /// What of the request decides how it is answered.
    pub fn request(&self) -> Request {
        self.progress.borrow().request
    }

    pub(super) fn check_number(&self) -> PyResult<()> {
        if self.connection.get().request() == self.number {
            Ok(())
        } else {
            Err(PyValueError::new_err("the request is over"))
        }
    }

    /// Ends the head: it is to be sent now, in front of whatever comes first. `None` if it has been.
    fn take_head(&self, length: Option<u64>) -> PyResult<Option<Vec<u8>>> {
        self.check_number()?;
        let mut progress = self.progress.borrow_mut();
        if progress.delivery.is_some() {
            return Ok(None);
        }
        let Some(mut head) = progress.head.take() else {
            return Err(PyAssertionError::new_err(
                "the application has not called start_response()",
            ));
        };
        let connection = self.connection.get();
        if !connection.may_have_more() || !connection.can_go_on() {
            head.close();
        }
        let core = connection.core.get();
        let server = (!core.server.is_empty()).then_some(&core.server[..]);
        let has_date = !progress.without_date;
        let (out, delivery, goes_on) =
            core.with_date(|date| head.finish(length, has_date.then_some(date), server));
        if delivery == Delivery::Upgraded {
            connection.set_upgraded();
        } else {
            connection.set_responding(true);
        }
        progress.delivery = Some(delivery);
        progress.goes_on = goes_on;
        if let Delivery::Length(length) = delivery {
            progress.left = length;
        }
        Ok(Some(out))
    }

    /// How much of a piece may be sent.
    fn take(&self, length: usize) -> (Delivery, usize) {
        let mut progress = self.progress.borrow_mut();
        let delivery = progress.delivery.unwrap_or(Delivery::NoBody);
        let length = match delivery {
            Delivery::NoBody => 0,
            Delivery::Length(_) => {
                let taken = usize::try_from(progress.left).unwrap_or(usize::MAX).min(length);
                progress.is_over |= taken < length;
                progress.left -= taken as u64;
                taken
            }
            _ => length,
        };
        progress.sent += length as u64;
        (delivery, length)
    }

    /// The error of an application that gives a body where there is none.
    fn check_has_body(&self) -> PyResult<()> {
        let progress = self.progress.borrow();
        if matches!(progress.status, 204 | 304) && !progress.request.is_head {
            let text = format!("The {} response must have no body", progress.status);
            return Err(PyAssertionError::new_err(text));
        }
        Ok(())
    }

    /// Sends a piece of the body, with the head in front if that has not been sent. `total` is the
    /// length of the body, if this piece is all of it.
    pub fn send_piece(&self, py: Python<'_>, data: &[u8], total: Option<u64>) -> PyResult<()> {
        if data.is_empty() {
            // Nothing is sent before there is something of the body.
            return Ok(());
        }
        self.check_has_body()?;
        let head = self.take_head(total)?;
        let (delivery, length) = self.take(data.len());
        let data = &data[..length];
        let mut front = head.unwrap_or_default();
        let connection = self.connection.get();
        if delivery == Delivery::Chunked {
            chunk_size(&mut front, length);
            return connection.send(py, &[&front, data, b"\r\n"]);
        }
        if front.is_empty() {
            return if data.is_empty() { Ok(()) } else { connection.send(py, &[data]) };
        }
        if data.len() <= COPIED {
            front.extend_from_slice(data);
            return connection.send(py, &[&front]);
        }
        connection.send(py, &[&front, data])
    }

    /// Sends the last piece of a body, or an empty one: with the head in front if that has not been
    /// sent, and with what tells of the end behind it. `trailers`: headers that follow, each with its
    /// line's end.
    pub fn send_last(&self, py: Python<'_>, data: &[u8], trailers: &[u8]) -> PyResult<()> {
        if !data.is_empty() {
            self.check_has_body()?;
        }
        let total = (!self.has_begun() && trailers.is_empty()).then_some(data.len() as u64);
        let mut front = self.take_head(total)?.unwrap_or_default();
        let (delivery, length) = self.take(data.len());
        let data = &data[..length];
        let mut back: &[u8] = b"";
        let ended;
        if delivery == Delivery::Chunked {
            if length > 0 {
                chunk_size(&mut front, length);
                back = b"\r\n0\r\n\r\n";
            } else {
                back = LAST_CHUNK;
            }
            if !trailers.is_empty() {
                ended = [&back[..back.len() - 2], trailers, b"\r\n"].concat();
                back = &ended;
            }
        }
        let connection = self.connection.get();
        if data.len() <= COPIED {
            front.extend_from_slice(data);
            front.extend_from_slice(back);
            return if front.is_empty() { Ok(()) } else { connection.send(py, &[&front]) };
        }
        connection.send(py, &[&front, data, back])
    }

    /// Sets the head of a response that ends HTTP on the connection.
    pub fn begin_upgrade(&self, py: Python<'_>, head: ResponseHead) -> PyResult<()> {
        self.check_number()?;
        if self.has_begun() {
            return Err(PyValueError::new_err("the request was answered before"));
        }
        self.set_head(head);
        // It is for answering.
        let deadline = self.deadline.take();
        if let Some(deadline) = deadline {
            deadline.call_method0(py, intern!(py, "close"))?;
        }
        Ok(())
    }

    /// Notes the `Timeout` that runs until the request is answered.
    pub fn set_deadline(&self, deadline: Py<PyAny>) {
        let before = self.deadline.replace(Some(deadline));
        debug_assert!(before.is_none());
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.connection)?;
        visit.call(&*self.deadline.borrow())
    }

    /// Sends the head, if that has not been sent.
    pub fn send_head(&self, py: Python<'_>, total: Option<u64>) -> PyResult<()> {
        match self.take_head(total)? {
            Some(head) => self.connection.get().send(py, &[&head]),
            None => Ok(()),
        }
    }

    /// Sends all pieces of a body: its length is known before anything is sent.
    pub fn send_all(&self, py: Python<'_>, items: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut pieces = Vec::with_capacity(1);
        for item in items.try_iter()? {
            pieces.push(body_bytes(&item?)?);
        }
        let total: usize = pieces.iter().map(|piece| piece.as_bytes().len()).sum();
        let total_if_first = (!self.has_begun()).then_some(total as u64);
        if pieces.len() > 1 && total <= COPIED && !self.has_begun() {
            let data: Vec<u8> = pieces.iter().flat_map(|piece| piece.as_bytes()).copied().collect();
            return self.send_piece(py, &data, total_if_first);
        }
        for piece in pieces {
            // Only the first sends the head, so the total is meant for it.
            self.send_piece(py, piece.as_bytes(), total_if_first)?;
        }
        Ok(())
    }

    /// Has the system send a file. False if it cannot.
    pub fn send_file(&self, py: Python<'_>, wrapper: &FileWrapper) -> PyResult<bool> {
        let connection = self.connection.get();
        // A TLS socket encrypts, and a body in chunks has more than the file.
        if connection.wire.state(py).is_none() || self.has_begun() {
            return Ok(false);
        }
        let Some(part) = wrapper.part(py) else { return Ok(false) };
        if part.length == 0 {
            return Ok(true);
        }
        self.check_has_body()?;
        let Some(length) = self.send_head_for(py, part.length)? else { return Ok(false) };
        let sent = file::send(py, connection, &part, length)?;
        self.missing(length - sent);
        Ok(true)
    }

    /// Sends the head of a body that is to be sent by other means. Returns how much of `length`
    /// bytes may be; `None` if this body cannot go so.
    pub fn send_head_for(&self, py: Python<'_>, length: u64) -> PyResult<Option<u64>> {
        let Some(head) = self.take_head(Some(length))? else { return Ok(None) };
        self.connection.get().send(py, &[&head])?;
        let wanted = usize::try_from(length).unwrap_or(usize::MAX);
        let (_, taken) = self.take(wanted);
        // A file that is longer than what was announced is cut, as is meant.
        self.progress.borrow_mut().is_over = false;
        Ok(Some(taken as u64))
    }

    /// Takes back bytes that were counted as sent, and were not.
    fn missing(&self, length: u64) {
        let mut progress = self.progress.borrow_mut();
        progress.left += length;
        progress.sent -= length;
    }

    /// Whether the head has been sent.
    pub fn has_begun(&self) -> bool {
        self.progress.borrow().delivery.is_some()
    }

    /// Whether more was given than the head has announced.
    pub fn is_too_long(&self) -> bool {
        self.progress.borrow().is_over
    }

    /// Whether start_response was called.
    pub fn has_head(&self) -> bool {
        let progress = self.progress.borrow();
        progress.delivery.is_some() || progress.head.is_some()
    }

    /// Whether what the application gives is of no use any more.
    pub fn is_without_body(&self) -> bool {
        self.progress.borrow().delivery == Some(Delivery::NoBody)
    }

    /// Ends the body. Returns whether the connection can go on, and what the application has done
    /// wrong. `is_known` says whether a body of which nothing was sent is known to be empty: it is
    /// not if it came from an iterator, whose length would have been told otherwise as well.
    pub fn end(&self, py: Python<'_>, is_known: bool) -> PyResult<(bool, Option<&'static str>)> {
        let connection = self.connection.get();
        let mut out = Vec::new();
        if !self.has_begun() {
            if connection.is_taken() && !self.has_head() {
                // Whoever has the socket has answered.
                return Ok((false, None));
            }
            if !self.has_head() {
                self.fail(py, 500, reason(500))?;
                return Ok((false, Some("start_response() was not called")));
            }
            let is_old = self.progress.borrow().request.version == Version::Http10;
            out = self.take_head((is_known || is_old).then_some(0))?.unwrap_or_default();
        }
        if self.progress.borrow().delivery == Some(Delivery::Chunked) {
            out.extend_from_slice(LAST_CHUNK);
        }
        if !out.is_empty() {
            connection.send(py, &[&out])?;
        }
        Ok(self.conclude())
    }

    /// All of a response was sent. Returns what `end` does.
    pub fn conclude(&self) -> (bool, Option<&'static str>) {
        let connection = self.connection.get();
        let (delivery, left, goes_on, is_over) = {
            let progress = self.progress.borrow();
            (progress.delivery, progress.left, progress.goes_on, progress.is_over)
        };
        if is_over {
            connection.set_responding(false);
            return (false, Some("the body is longer than its Content-Length"));
        }
        if left > 0 {
            return (false, Some("the body is shorter than its Content-Length"));
        }
        connection.set_responding(false);
        let is_http = delivery != Some(Delivery::Upgraded);
        (goes_on && is_http, None)
    }

    /// Answers with an error in place of what the application has not sent. Nothing, if the response
    /// has begun.
    pub fn fail(&self, py: Python<'_>, status: u16, text: &str) -> PyResult<()> {
        let request = {
            let progress = self.progress.borrow_mut();
            if progress.delivery.is_some() || self.connection.get().is_taken() {
                self.connection.get().note_failure();
                return Ok(());
            }
            Request { keep_alive: false, ..progress.request }
        };
        let line = format!("{status} {}", reason(status));
        let unexpected = |error| bad(error, intern!(py, "status"), "status", line.as_bytes());
        let mut head = ResponseHead::new(Vec::new(), request, line.as_bytes())
            .and_then(|mut head| {
                head.header(b"Content-Type", b"text/plain; charset=utf-8")?;
                Ok(head)
            })
            .map_err(unexpected)?;
        head.close();
        let before = {
            let mut progress = self.progress.borrow_mut();
            progress.status = head.status();
            progress.head.replace(head)
        };
        drop(before);
        self.send_piece(py, text.as_bytes(), Some(text.len() as u64))?;
        self.connection.get().set_responding(false);
        Ok(())
    }

    /// Status and length of the body, as they were sent.
    pub fn outcome(&self) -> (u16, u64) {
        let progress = self.progress.borrow();
        (progress.status, progress.sent)
    }
}
