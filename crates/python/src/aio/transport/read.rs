//! From the descriptor to the protocol.

use super::common::Transport;
use super::outgoing::is_later;
use super::reader::ReaderState;
use super::stream::{StreamTransport, This};
use super::streams::{feed, reader_of};
use super::tls;
use crate::aio::receiving::{MOST, is_much, receive, receive_at};
use crate::errors::os_error;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyType};

const NOT_TAKEN: &str = "Fatal error: protocol.data_received() call failed.";

/// What a protocol is given received data by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// `data_received`
    Data,
    /// `get_buffer` and `buffer_updated`
    Buffered,
    /// `tls::receive`
    Tls,
}

impl Receiver {
    /// A protocol need not be derived from one of asyncio's classes: it has memory of its own if it
    /// has a method to ask for that.
    pub fn of(protocol: &Bound<'_, PyAny>) -> PyResult<Self> {
        static PROTOCOL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let py = protocol.py();
        if tls::is_tls(protocol) {
            return Ok(Self::Tls);
        }
        if protocol.is_instance(PROTOCOL.import(py, "asyncio", "Protocol")?)? {
            return Ok(Self::Data);
        }
        let buffered = protocol.hasattr(intern!(py, "get_buffer"))?;
        Ok(if buffered { Self::Buffered } else { Self::Data })
    }
}

impl StreamTransport {
    /// The descriptor is ready to be read.
    pub(super) fn read_ready(slf: This<'_, '_>) -> PyResult<()> {
        let this = slf.get();
        if this.lost.get() || this.closing.get() || this.paused.get() {
            return Ok(());
        }
        let Some(protocol) = this.protocol(slf.py()) else { return Ok(()) };
        match this.receiver.get() {
            Receiver::Data | Receiver::Tls => Self::receive_data(slf, &protocol),
            Receiver::Buffered => Self::receive_buffered(slf, &protocol),
        }
    }

    fn receive_data(slf: This<'_, '_>, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let reader = this.reader.borrow().as_ref().map(|reader| reader.bind(py).clone());
        // A reader that takes what comes as it is gets no more than it asks for.
        let most = reader.as_ref().and_then(|reader| reader.get().asked_for(py)).unwrap_or(MOST);
        let outcome = receive(py, this.fd.get(), most, this.reads_much.get())?;
        let data = match outcome {
            Ok(data) => data,
            Err(errno) => return Self::read_failed(slf, errno),
        };
        let received = data.as_bytes().len();
        if received == 0 {
            return Self::end_received(slf, protocol);
        }
        this.reads_much.set(is_much(received));
        if let Some(reader) = reader {
            let given = match reader.get().hand_over(data) {
                Ok(None) => return Ok(()),
                Ok(Some(data)) => Self::feed(protocol, reader.get(), &data),
                Err(error) => Err(error),
            };
            return given.or_else(|error| Self::fail(slf, error, NOT_TAKEN));
        }
        if this.receiver.get() == Receiver::Tls {
            return tls::receive(protocol, &data)
                .or_else(|error| Self::fail(slf, error, NOT_TAKEN));
        }
        let arguments = [protocol.as_ptr(), data.as_ptr()];
        // SAFETY: two objects; a new reference or null.
        let result = unsafe {
            Bound::from_owned_ptr_or_err(
                py,
                ffi::PyObject_VectorcallMethod(
                    intern!(py, "data_received").as_ptr(),
                    arguments.as_ptr(),
                    2 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                    std::ptr::null_mut(),
                ),
            )
        };
        match result {
            Ok(_) => Ok(()),
            Err(error) => Self::fail(slf, error, NOT_TAKEN),
        }
    }

    /// Gives bytes to the reader of streams, if it is still there.
    fn feed(
        protocol: &Bound<'_, PyAny>,
        state: &ReaderState,
        data: &Bound<'_, PyBytes>,
    ) -> PyResult<()> {
        match reader_of(protocol)? {
            Some(reader) => feed(&reader, state, data),
            None => Ok(()),
        }
    }

    fn receive_buffered(slf: This<'_, '_>, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let fd = slf.get().fd.get();
        let outcome = match buffer_of(protocol) {
            // SAFETY: memory that may be written, held by the buffer.
            Ok(buffer) => unsafe { receive_at(fd, buffer.buf_ptr().cast(), buffer.len_bytes()) },
            Err(error) => {
                let message = "Fatal error: protocol.get_buffer() call failed.";
                return Self::fail(slf, error, message);
            }
        };
        match outcome {
            Err(errno) => Self::read_failed(slf, errno),
            Ok(0) => Self::end_received(slf, protocol),
            Ok(received) => {
                match protocol.call_method1(intern!(py, "buffer_updated"), (received,)) {
                    Ok(_) => Ok(()),
                    Err(error) => {
                        let message = "Fatal error: protocol.buffer_updated() call failed.";
                        Self::fail(slf, error, message)
                    }
                }
            }
        }
    }

    #[cold]
    fn read_failed(slf: This<'_, '_>, errno: i32) -> PyResult<()> {
        if is_later(errno) {
            return Ok(());
        }
        Self::fail(slf, os_error(slf.py(), errno), "Fatal read error on socket transport")
    }

    /// The other side has ended what it sends.
    fn end_received(slf: This<'_, '_>, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        Self::log(slf, "received EOF")?;
        let keeps_open = protocol
            .call_method0(intern!(py, "eof_received"))
            .and_then(|keeps_open| keeps_open.is_truthy());
        match keeps_open {
            Err(error) => {
                Self::fail(slf, error, "Fatal error: protocol.eof_received() call failed.")
            }
            Ok(false) => slf.call_method0(intern!(py, "close")).map(drop),
            Ok(true) => {
                this.at_end.set(true);
                if this.closing.get() { Ok(()) } else { this.stop_reading(py) }
            }
        }
    }
}

/// The memory that a protocol has for what is received.
fn buffer_of(protocol: &Bound<'_, PyAny>) -> PyResult<PyBuffer<u8>> {
    let py = protocol.py();
    let object = protocol.call_method1(intern!(py, "get_buffer"), (-1,))?;
    let buffer = PyBuffer::<u8>::get(&object)?;
    if buffer.len_bytes() == 0 {
        return Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer"));
    }
    if buffer.readonly() || !buffer.is_c_contiguous() {
        return Err(pyo3::exceptions::PyBufferError::new_err(
            "get_buffer() returned memory that cannot be written",
        ));
    }
    Ok(buffer)
}
