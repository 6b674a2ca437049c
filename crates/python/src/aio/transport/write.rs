//! What is to be sent.

use super::common::{Transport, check_bytes, helper};
use super::outgoing::{is_later, send, to_bytes};
use super::stream::{StreamTransport, This};
use crate::aio::methods::{given, methods};
use crate::errors::os_error;
use crate::net::arguments::Buffer;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyType;

type Object = *mut ffi::PyObject;

const FATAL: &str = "Fatal write error on socket transport";

methods! {
    METHODS:
    c"write" (data; 1) = write, c"write($self, data)
--

Sends bytes. What the system does not take at once is sent later, in order; see
`set_write_buffer_limits`.

data: bytes, a bytearray or a memoryview; it may be changed afterwards. TypeError is raised for
anything else, RuntimeError after `write_eof`.";

    c"writelines" (list_of_data; 1) = write_lines, c"writelines($self, list_of_data)
--

Sends the bytes of several objects, as one call of `write` with all of them would.";
}

/// Puts the methods on the class.
pub fn attach(class: &Bound<'_, PyType>) -> PyResult<()> {
    METHODS.attach(class)
}

fn write(slf: &Bound<'_, PyAny>, [data]: [Object; 1]) -> PyResult<Py<PyAny>> {
    let py = slf.py();
    // SAFETY: a method of the class of transports.
    StreamTransport::write(unsafe { slf.cast_unchecked() }, given(py, &data))?;
    Ok(py.None())
}

fn write_lines(slf: &Bound<'_, PyAny>, [lines]: [Object; 1]) -> PyResult<Py<PyAny>> {
    let py = slf.py();
    // SAFETY: as above.
    StreamTransport::write_lines(unsafe { slf.cast_unchecked() }, given(py, &lines))?;
    Ok(py.None())
}

/// Writes to any transport, to one of ours without a call of Python's.
#[inline]
pub fn write_to(transport: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<()> {
    match transport.cast_exact::<StreamTransport>() {
        Ok(transport) => StreamTransport::write(transport, data),
        Err(_) => transport.call_method1(intern!(transport.py(), "write"), (data,)).map(drop),
    }
}

impl StreamTransport {
    #[inline]
    fn write(slf: This<'_, '_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        check_bytes(data)?;
        let buffer = Buffer::readable(py, data.as_ptr())?;
        this.check_writable("write")?;
        let (start, len) = (buffer.start().cast_const(), buffer.len());
        if len == 0 {
            return Ok(());
        }
        if this.lost.get() {
            return this.count_vain_write(py);
        }
        let mut sent = 0;
        if this.outgoing.borrow().is_empty() {
            match send(this.fd.get(), start, len) {
                Ok(taken) if taken == len => return Ok(()),
                Ok(taken) => sent = taken,
                Err(errno) if is_later(errno) => {}
                Err(errno) => return Self::fail(slf, os_error(py, errno), FATAL),
            }
            Self::start_writing(slf)?;
        }
        // SAFETY: what is left lies behind what was sent.
        let rest = to_bytes(data, unsafe { start.add(sent) }, len - sent)?;
        // A copy has only what is left.
        let sent = if rest.as_ptr() == data.as_ptr() { sent } else { 0 };
        this.outgoing.borrow_mut().push(py, rest, sent);
        Self::pause_protocol(slf)
    }

    fn write_lines(slf: This<'_, '_>, lines: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.check_writable("writelines")?;
        let mut pieces = Vec::new();
        for line in lines.try_iter()? {
            let line = line?;
            check_bytes(&line)?;
            let buffer = Buffer::readable(py, line.as_ptr())?;
            if buffer.len() > 0 {
                pieces.push(to_bytes(&line, buffer.start(), buffer.len())?);
            }
        }
        // Iterating may have run anything.
        this.check_writable("writelines")?;
        if pieces.is_empty() {
            return Ok(());
        }
        if this.lost.get() {
            return this.count_vain_write(py);
        }
        let was_empty = {
            let mut outgoing = this.outgoing.borrow_mut();
            let was_empty = outgoing.is_empty();
            for piece in pieces {
                outgoing.push(py, piece, 0);
            }
            was_empty
        };
        if was_empty {
            let sent = this.outgoing.borrow_mut().send(py, this.fd.get());
            match sent {
                Ok(done) => drop(done),
                Err(errno) if is_later(errno) => {}
                Err(errno) => return Self::fail_unregistered(slf, os_error(py, errno)),
            }
            if this.outgoing.borrow().is_empty() {
                return Ok(());
            }
            Self::start_writing(slf)?;
        }
        Self::pause_protocol(slf)
    }

    /// An error before the descriptor was registered for writing.
    #[cold]
    fn fail_unregistered(slf: This<'_, '_>, error: PyErr) -> PyResult<()> {
        let unsent = slf.get().outgoing.borrow_mut().take();
        drop(unsent);
        Self::fail(slf, error, FATAL)
    }

    #[inline]
    fn check_writable(&self, method: &str) -> PyResult<()> {
        if self.eof.get() {
            let message = format!("Cannot call {method}() after write_eof()");
            return Err(PyRuntimeError::new_err(message));
        }
        if self.empty_waiter.borrow().is_some() {
            return Err(PyRuntimeError::new_err(format!(
                "unable to {method}; sendfile is in progress"
            )));
        }
        Ok(())
    }

    /// The descriptor is ready to be written.
    pub(super) fn write_ready(slf: This<'_, '_>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.lost.get() || this.outgoing.borrow().is_empty() {
            return Ok(());
        }
        let sent = this.outgoing.borrow_mut().send(py, this.fd.get());
        match sent {
            Ok(done) => drop(done),
            Err(errno) if is_later(errno) => return Ok(()),
            Err(errno) => {
                let error = os_error(py, errno);
                let waiter = this.empty_waiter.borrow().as_ref().map(|waiter| waiter.clone_ref(py));
                if let Some(waiter) = waiter {
                    waiter.call_method1(py, intern!(py, "set_exception"), (error.value(py),))?;
                }
                return Self::fail(slf, error, FATAL);
            }
        }
        // It may write more, or close.
        Self::resume_protocol(slf)?;
        if this.lost.get() || !this.outgoing.borrow().is_empty() {
            return Ok(());
        }
        this.stop_writing(py)?;
        let waiter = this.empty_waiter.borrow().as_ref().map(|waiter| waiter.clone_ref(py));
        if let Some(waiter) = waiter {
            helper(py, "settle")?.call1((waiter,))?;
        }
        if this.closing.get() {
            Self::connection_lost(slf, None)
        } else if this.eof.get() {
            this.shut_down_sending(py)
        } else {
            Ok(())
        }
    }
}
