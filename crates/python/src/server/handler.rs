//! What handlers that are written in Python are made of: the connection and its requests, as
//! objects.

use super::connection::{HttpConnection, Next};
use super::environ::{self, latin1};
use super::reader::ConnectionReader;
use super::response::StartResponse;
use super::websocket::WebSocket;
use crate::exceptions;
use greenloop_http1::{BodyLength, Head, Refusal, Request};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};
use pyo3::{PyTraverseError, PyVisit};

/// A request, as a handler sees it.
#[pyclass(frozen, get_all, module = "greenloop._core")]
pub struct RequestHead {
    /// GET
    method: Py<PyString>,
    /// What is asked for, as it was sent.
    target: Py<PyString>,
    /// HTTP/1.1
    version: Py<PyString>,
    /// Pairs of name and value, in order.
    headers: Py<PyList>,
    /// What an environment says of the request.
    environ: Py<PyDict>,
    /// The length of the body; None if there is none, or it is not told.
    content_length: Option<u64>,
    /// Whether the body comes in chunks.
    is_chunked: bool,
    /// Whether the client wants to go on with the connection, and the server can.
    keep_alive: bool,
    /// Whether the client speaks of another protocol.
    wants_upgrade: bool,
    /// How it is to be answered.
    response: Py<StartResponse>,
}

#[pymethods]
impl RequestHead {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.headers)?;
        visit.call(&self.environ)?;
        visit.call(&self.response)
    }
}

impl RequestHead {
    fn new(connection: &Bound<'_, HttpConnection>, head: &Head<'_>) -> PyResult<Self> {
        let py = connection.py();
        let this = connection.get();
        let keep_alive = head.keep_alive && this.may_have_more();
        let request = Request { version: head.version, is_head: head.method == "HEAD", keep_alive };
        let headers = PyList::empty(py);
        for header in &head.headers {
            headers.append((latin1(py, header.name.as_bytes())?, latin1(py, header.value)?))?;
        }
        let environ = PyDict::new(py);
        let websocket = environ::fill(&environ, connection, this.core.get(), head)?;
        let response = Bound::new(py, StartResponse::new(connection, request))?;
        if let Some(handshake) = websocket {
            WebSocket::offer(&environ, &response, request, handshake)?;
        }
        Ok(Self {
            method: PyString::new(py, head.method).unbind(),
            target: latin1(py, head.target.raw.as_bytes())?.unbind(),
            version: environ::protocol(py, head.version).clone().unbind(),
            headers: headers.unbind(),
            environ: environ.unbind(),
            content_length: match head.body {
                BodyLength::Fixed(length) if head.has_length => Some(length),
                _ => None,
            },
            is_chunked: head.body == BodyLength::Chunked,
            keep_alive,
            wants_upgrade: head.wants_upgrade(),
            response: response.unbind(),
        })
    }
}

fn refused(py: Python<'_>, refusal: Refusal) -> PyErr {
    exceptions::invalid_client_request(py, refusal.status(), refusal.text())
}

#[pymethods]
impl HttpConnection {
    /// Waits for a request, and returns its first line, which counts as read; None if there is none
    /// any more.
    ///
    /// Raises InvalidClientRequest, also if not all of the head comes in time.
    fn read_request_line<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        match self.next_head(py)? {
            Next::Head(span) => Ok(Some(self.with_buffer(|buffer| {
                let line = &buffer[span.start..span.end];
                let end = line.iter().position(|&byte| byte == b'\n').map_or(0, |end| end + 1);
                (PyBytes::new(py, &line[..end]), span.start + end)
            }))),
            Next::Closed | Next::TimedOut(false) => Ok(None),
            Next::TimedOut(true) => {
                Err(exceptions::invalid_client_request(py, 408, "the request did not come in time"))
            }
            Next::Refused(refusal) => Err(refused(py, refusal)),
        }
    }

    /// Reads the rest of a head. None if the peer has gone.
    ///
    /// line: the first line of it, which was read.
    ///
    /// Raises InvalidClientRequest.
    fn read_request<'py>(
        slf: &Bound<'py, Self>,
        line: &[u8],
    ) -> PyResult<Option<Bound<'py, RequestHead>>> {
        let py = slf.py();
        let this = slf.get();
        this.unread(line);
        let span = match this.next_head(py)? {
            Next::Head(span) => span,
            Next::Closed | Next::TimedOut(false) => return Ok(None),
            Next::TimedOut(true) => {
                let text = "the request did not come in time";
                return Err(exceptions::invalid_client_request(py, 408, text));
            }
            Next::Refused(refusal) => return Err(refused(py, refusal)),
        };
        match this.begin(span, |head| RequestHead::new(slf, head))? {
            Ok(head) => {
                this.core.get().count_request();
                Ok(Some(Bound::new(py, head)?))
            }
            Err(refusal) => Err(refused(py, refusal)),
        }
    }

    /// Ends a request: receives what nobody has read of its body. Returns whether the connection
    /// can go on.
    #[pyo3(name = "end_request")]
    fn end_by_handler(&self, py: Python<'_>) -> PyResult<bool> {
        self.end(py)
    }

    /// Sends bytes.
    #[pyo3(name = "send")]
    fn send_by_handler(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        self.send(py, &[data])
    }

    /// The status and text of the error to answer with, if a body is malformed or late.
    #[getter]
    fn body_error(&self) -> Option<(u16, &'static str)> {
        self.body_error.get().map(|error| (error.status(), error.text()))
    }

    /// Whether nothing can be sent or received any more.
    #[getter(is_broken)]
    fn get_broken(&self) -> bool {
        self.is_broken()
    }

    /// Whether it speaks another protocol.
    #[getter(is_upgraded)]
    fn get_upgraded(&self) -> bool {
        self.is_upgraded()
    }

    /// Whether somebody has asked for the socket.
    #[getter(is_taken)]
    fn get_taken(&self) -> bool {
        self.is_taken()
    }

    /// What it receives, as a file.
    #[getter]
    fn reader(slf: Bound<'_, Self>) -> ConnectionReader {
        ConnectionReader::new(slf.unbind())
    }

    /// Ends the connection as far as the server is concerned. The socket is left to be closed by
    /// the caller.
    ///
    /// linger: wait a little for what the peer still sends, so that it sees what it was sent.
    #[pyo3(signature = (linger = false))]
    fn close(&self, py: Python<'_>, linger: bool) -> PyResult<()> {
        let lingered = if linger { self.linger(py) } else { self.say_goodbye(py) };
        self.end_request();
        let left = self.leave(py);
        lingered.and(left)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.traverse(&visit)
    }
}
