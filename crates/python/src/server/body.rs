//! Reading the body of a request from its connection.

use super::connection::{HttpConnection, RequestError};
use super::wire::Received;
use crate::exceptions;
use crate::hub::sleep::give_way;
use crate::time::deadline_after;
use greenloop_http1::{BodyDecoder, CONTINUE, Refusal};
use pyo3::exceptions::{PyConnectionResetError, PyOSError, PyTimeoutError};
use pyo3::prelude::*;
use std::cell::Cell;

/// As much of a body that nobody has read is received so that the connection can go on, and for so
/// many seconds: a client that sends slowly is rather cut off.
const MAX_DRAINED: u64 = 64 * 1024;
const DRAIN_SECONDS: f64 = 1.0;
/// Data of a body that is at least so long is received where it is wanted.
const DIRECT: usize = 4096;
/// As much is received at once, and before others get their turn.
const AT_ONCE: usize = 1 << 20;

/// Marks that a greenlet reads, until it is dropped.
struct Reading<'a>(&'a Cell<bool>);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// What is to be read, and how.
struct Wanted {
    /// So much is of use at once.
    most: usize,
    /// None: the body's own timeout for each wait.
    deadline: Option<u64>,
}

impl HttpConnection {
    /// Appends more of the body to `out`: at least a byte, or nothing at its end. It can be more
    /// than `most`, which says how much is of use at once.
    ///
    /// # Errors
    ///
    /// InvalidClientInput for framing that is malformed; ConnectionResetError if the client does not
    /// send all of it; TimeoutError if it pauses for too long; ConcurrentObjectUseError.
    pub fn read_body(&self, py: Python<'_>, out: &mut Vec<u8>, most: usize) -> PyResult<usize> {
        if self.is_reading.replace(true) {
            let message = "This request's body is already being read by another greenlet";
            return Err(exceptions::concurrent_use(py, message));
        }
        let _reading = Reading(&self.is_reading);
        self.tell_to_go_on(py)?;
        self.read_on(py, out, &Wanted { most, deadline: None })
    }

    /// Tells a client that waits for it to send the body. In the middle of a response it would be taken
    /// for a part of that.
    pub fn tell_to_go_on(&self, py: Python<'_>) -> PyResult<()> {
        if self.must_continue.replace(false) && !self.is_responding() {
            self.send(py, &[CONTINUE])?;
        }
        Ok(())
    }

    /// Appends what was received of the body and not read; receives nothing.
    ///
    /// # Errors
    ///
    /// What is wrong with the body.
    pub fn take_received_body(&self, out: &mut Vec<u8>) -> Result<(), RequestError> {
        if let Some(error) = self.body_error.get() {
            return Err(error);
        }
        loop {
            let Some(mut decoder) = self.decoder.take() else { return Ok(()) };
            let decoded = self.decode(&mut decoder, out);
            self.put_back(decoder);
            match decoded {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(refusal) => {
                    let error = RequestError::Refused(refusal);
                    self.body_error.set(Some(error));
                    return Err(error);
                }
            }
        }
    }

    /// Appends the next piece of what was received; returns its length.
    fn decode(&self, decoder: &mut BodyDecoder, out: &mut Vec<u8>) -> Result<usize, Refusal> {
        self.with_buffer(|buffer| match decoder.decode(buffer) {
            Ok(decoded) => {
                out.extend_from_slice(decoded.data);
                (Ok(decoded.data.len()), decoded.consumed)
            }
            Err(refusal) => (Err(refusal), 0),
        })
    }

    fn read_on(&self, py: Python<'_>, out: &mut Vec<u8>, wanted: &Wanted) -> PyResult<usize> {
        if let Some(error) = self.body_error.get() {
            return Err(body_error(py, error));
        }
        loop {
            let Some(mut decoder) = self.decoder.take() else { return Ok(0) };
            let decoded = self.decode(&mut decoder, out);
            let contiguous = decoder.contiguous();
            let is_finished = decoder.is_finished();
            self.put_back(decoder);
            match decoded {
                Ok(0) if is_finished => return Ok(0),
                Ok(0) => {}
                Ok(length) => return Ok(length),
                Err(refusal) => return Err(self.fail_body(py, RequestError::Refused(refusal))),
            }
            if let Some(length) = self.receive_body(py, out, contiguous, wanted)? {
                return Ok(length);
            }
        }
    }

    fn put_back(&self, decoder: BodyDecoder) {
        self.decoder.set((!decoder.is_finished()).then_some(decoder));
    }

    fn fail_body(&self, py: Python<'_>, error: RequestError) -> PyErr {
        self.body_error.set(Some(error));
        body_error(py, error)
    }

    /// Whether there is nothing left to read of the request's body.
    pub fn is_body_read(&self) -> bool {
        let decoder = self.decoder.take();
        let is_read = decoder.is_none();
        self.decoder.set(decoder);
        is_read
    }

    /// Whether another request can follow, as far as the body is concerned.
    pub fn can_go_on(&self) -> bool {
        self.body_error.get().is_none() && !self.is_body_withheld()
    }

    /// Whether the client waits to be told to send a body, and has not sent all of it regardless.
    pub fn is_body_withheld(&self) -> bool {
        if !self.must_continue.get() {
            return false;
        }
        let Some(decoder) = self.decoder.take() else { return false };
        let left = decoder.contiguous();
        let is_fixed = left > 0;
        self.decoder.set(Some(decoder));
        let received = self.with_buffer(|buffer| (buffer.len() as u64, 0));
        !(is_fixed && received >= left)
    }

    /// Receives more: into `out`, if nothing but data comes next, or for the decoder (`None`).
    fn receive_body(
        &self,
        py: Python<'_>,
        out: &mut Vec<u8>,
        contiguous: u64,
        wanted: &Wanted,
    ) -> PyResult<Option<usize>> {
        if self.since_turn.get() >= AT_ONCE {
            // A client that sends faster than is read would have this greenlet never wait.
            self.since_turn.set(0);
            give_way(py)?;
            if self.is_interrupted() {
                return Err(PyOSError::new_err("the wait for a body was ended"));
            }
        }
        let of_body = self.core.get().body_timeout;
        let deadline = wanted.deadline.or_else(|| of_body.map(deadline_after));
        let direct = usize::try_from(contiguous).unwrap_or(usize::MAX);
        let direct = direct.min(wanted.most).min(AT_ONCE);
        let received = if direct >= DIRECT {
            self.wire.receive_up_to(py, out, direct, deadline)
        } else {
            let mut buffer = self.take_buffer();
            let received = self.wire.receive(py, &mut buffer, deadline);
            self.buffer.set(buffer);
            received
        };
        match self.note(py, received)? {
            Received::Data(length) => {
                self.since_turn.set(self.since_turn.get() + length);
                if direct < DIRECT {
                    return Ok(None);
                }
                if let Some(mut decoder) = self.decoder.take() {
                    decoder.skip(length as u64);
                    self.put_back(decoder);
                }
                Ok(Some(length))
            }
            Received::End => {
                self.set_broken();
                let text = "the client has closed the connection in the middle of a body";
                Err(PyConnectionResetError::new_err(text))
            }
            Received::TimedOut => Err(self.fail_body(py, RequestError::TimedOut)),
        }
    }

    /// Receives what nobody has read of the body. Returns whether the connection can go on.
    pub(super) fn drain_body(&self, py: Python<'_>) -> PyResult<bool> {
        if self.is_body_read() {
            return Ok(true);
        }
        if self.body_error.get().is_some() || self.is_reading.get() {
            return Ok(false);
        }
        // A client that was not told to go on may send the body or not. Only one that is there
        // already is certain not to be taken for a request.
        if self.is_body_withheld() {
            return Ok(false);
        }
        self.must_continue.set(false);
        self.is_reading.set(true);
        let _reading = Reading(&self.is_reading);
        let deadline = Some(deadline_after(DRAIN_SECONDS));
        let wanted = Wanted { most: DIRECT - 1, deadline };
        let mut drained = 0;
        let mut data = Vec::new();
        while drained < MAX_DRAINED {
            data.clear();
            match self.read_on(py, &mut data, &wanted) {
                Ok(0) => return Ok(true),
                Ok(length) => drained += length as u64,
                Err(_) if self.is_broken() || self.body_error.get().is_some() => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

fn body_error(py: Python<'_>, error: RequestError) -> PyErr {
    match error {
        RequestError::Refused(refusal) => exceptions::invalid_client_input(py, refusal.text()),
        RequestError::TimedOut => PyTimeoutError::new_err(error.text()),
    }
}
