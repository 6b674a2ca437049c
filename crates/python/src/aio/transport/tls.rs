//! TLS, as far as something is done for every message.
//!
//! The handshake, closing and what else there is are asyncio's `SSLProtocol`. Over our transports it is of a
//! subclass (`greenloop.asyncio._tls`); bytes that were received come to [`receive`] then, not into a buffer
//! of its own, and those to be sent to `write` of the application's transport. Both work on the
//! attributes of the standard class, and leave to its methods whatever is not the usual case.
//!
//! The standard methods read until the TLS layer says by an exception that there is no more, and ask for
//! 256 KiB each time. Making the exception takes longer than to decrypt a small message. Here its
//! buffers are asked first whether anything is left.

use super::write::write_to;
use crate::aio::methods::{given, methods};
use crate::net::arguments::Buffer;
use pyo3::exceptions::{PyException, PyTypeError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyMemoryView, PySlice, PyType};

type Object = *mut ffi::PyObject;

/// The most that a record carries.
const RECORD: usize = 16 * 1024;

methods! {
    METHODS:
    c"write" (data; 1) = write, c"write($self, data)
--

Encrypts bytes and sends them; see `write` of the transport below.";
}

/// The class of protocols whose transports come to `receive`.
static PROTOCOL: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// Puts `write` on the class of the application's transports; notes that of the protocols.
#[pyfunction]
pub fn _attach_tls(transport: &Bound<'_, PyType>, protocol: &Bound<'_, PyType>) -> PyResult<()> {
    let _ = PROTOCOL.set(protocol.py(), protocol.clone().unbind());
    METHODS.attach(transport)
}

/// Whether a protocol is one of those.
pub fn is_tls(protocol: &Bound<'_, PyAny>) -> bool {
    PROTOCOL.get(protocol.py()).is_some_and(|class| protocol.get_type().is(class))
}

/// Whether the handshake is over, and closing has not begun.
#[inline]
fn is_wrapped(protocol: &Bound<'_, PyAny>) -> PyResult<bool> {
    static WRAPPED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = protocol.py();
    let wrapped = WRAPPED.get_or_try_init(py, || {
        let states = py.import("asyncio.sslproto")?.getattr("SSLProtocolState")?;
        states.getattr("WRAPPED").map(Bound::unbind)
    })?;
    Ok(protocol.getattr(intern!(py, "_state"))?.is(wrapped))
}

/// The TLS layer itself, below `ssl.SSLObject`.
#[inline]
fn layer<'py>(protocol: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = protocol.py();
    protocol.getattr(intern!(py, "_sslobj"))?.getattr(intern!(py, "_sslobj"))
}

/// Whether an error says that the TLS layer has to have more first.
fn is_again(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    static WANT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static CALL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    Ok(error.is_instance(py, WANT.import(py, "ssl", "SSLWantReadError")?)
        || error.is_instance(py, CALL.import(py, "ssl", "SSLSyscallError")?))
}

/// Ends the connection because of an error, as the standard class does.
#[cold]
fn fail(protocol: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
    let py = protocol.py();
    if !error.is_instance_of::<PyException>(py) {
        return Err(error);
    }
    let message = "Fatal error on SSL protocol";
    protocol.call_method1(intern!(py, "_fatal_error"), (error.value(py), message)).map(drop)
}

/// How many bytes wait in a memory BIO.
#[inline]
fn pending(bio: &Bound<'_, PyAny>) -> PyResult<usize> {
    bio.getattr(intern!(bio.py(), "pending"))?.extract()
}

/// Bytes were received.
///
/// # Errors
///
/// What is no fault of the connection's: KeyboardInterrupt and SystemExit.
pub fn receive(protocol: &Bound<'_, PyAny>, data: &Bound<'_, PyBytes>) -> PyResult<()> {
    let py = protocol.py();
    let incoming = protocol.getattr(intern!(py, "_incoming"))?;
    incoming.call_method1(intern!(py, "write"), (data,))?;
    let is_usual = is_wrapped(protocol)?
        && !protocol.getattr(intern!(py, "_app_reading_paused"))?.is_truthy()?
        && !protocol.getattr(intern!(py, "_app_protocol_is_buffer"))?.is_truthy()?;
    if !is_usual {
        // It looks what there is to do.
        return protocol.call_method1(intern!(py, "buffer_updated"), (0,)).map(drop);
    }
    read(protocol, &incoming, data.as_bytes().len()).or_else(|error| fail(protocol, error))
}

fn read(protocol: &Bound<'_, PyAny>, incoming: &Bound<'_, PyAny>, received: usize) -> PyResult<()> {
    let py = protocol.py();
    let layer = layer(protocol)?;
    // What is decrypted is not more than what was encrypted. It may be more than what has come just now.
    let most = received.clamp(1024, RECORD);
    let mut first: Option<Bound<'_, PyAny>> = None;
    let mut all: Option<Bound<'_, PyList>> = None;
    let mut is_at_end = false;
    loop {
        let chunk = match layer.call_method1(intern!(py, "read"), (most,)) {
            Ok(chunk) => chunk,
            Err(error) if is_again(py, &error)? => break,
            Err(error) => return Err(error),
        };
        if chunk.cast::<PyBytes>().is_ok_and(|bytes| bytes.as_bytes().is_empty()) {
            is_at_end = true;
            break;
        }
        match (&first, &all) {
            (None, _) => first = Some(chunk),
            (Some(first), None) => all = Some(PyList::new(py, [first, &chunk])?),
            (_, Some(all)) => all.append(chunk)?,
        }
        if pending(incoming)? == 0
            && layer.call_method0(intern!(py, "pending"))?.extract::<usize>()? == 0
        {
            break;
        }
    }
    let data = match all {
        Some(all) => Some(PyBytes::new(py, b"").call_method1(intern!(py, "join"), (all,))?),
        None => first,
    };
    if let Some(data) = data {
        let receiver = protocol.getattr(intern!(py, "_app_protocol"))?;
        receiver.call_method1(intern!(py, "data_received"), (data,))?;
    }
    if is_at_end {
        protocol.call_method0(intern!(py, "_call_eof_received"))?;
        protocol.call_method0(intern!(py, "_start_shutdown"))?;
    }
    if !protocol.getattr(intern!(py, "_write_backlog"))?.is_empty()? {
        protocol.call_method0(intern!(py, "_do_write"))?;
    } else if pending(&protocol.getattr(intern!(py, "_outgoing"))?)? > 0
        || protocol.getattr(intern!(py, "_app_writing_paused"))?.is_truthy()?
    {
        // The TLS layer has something to say itself.
        protocol.call_method0(intern!(py, "_process_outgoing"))?;
    }
    if pending(incoming)? > 0 {
        protocol.call_method0(intern!(py, "_control_ssl_reading"))?;
    }
    Ok(())
}

fn write(transport: &Bound<'_, PyAny>, [data]: [Object; 1]) -> PyResult<Py<PyAny>> {
    let py = transport.py();
    encrypt(transport, given(py, &data))?;
    Ok(py.None())
}

/// What an application writes.
fn encrypt(transport: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    if !(data.is_instance_of::<PyBytes>()
        || data.is_instance_of::<PyByteArray>()
        || data.is_instance_of::<PyMemoryView>())
    {
        return Err(PyTypeError::new_err(format!(
            "data: expecting a bytes-like instance, got {}",
            data.get_type().name()?
        )));
    }
    let size = Buffer::readable(py, data.as_ptr())?.len();
    if size == 0 {
        return Ok(());
    }
    let protocol = transport.getattr(intern!(py, "_ssl_protocol"))?;
    let is_usual = is_wrapped(&protocol)?
        && protocol.getattr(intern!(py, "_write_backlog"))?.is_empty()?
        && !protocol.getattr(intern!(py, "_ssl_writing_paused"))?.is_truthy()?;
    if !is_usual {
        return protocol.call_method1(intern!(py, "_write_appdata"), ((data,),)).map(drop);
    }
    send(&protocol, data, size).or_else(|error| fail(&protocol, error))
}

fn send(protocol: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>, size: usize) -> PyResult<()> {
    let py = protocol.py();
    let layer = layer(protocol)?;
    let mut taken = 0;
    while taken < size {
        // It takes a record's worth at a time.
        let outcome = if taken == 0 {
            layer.call_method1(intern!(py, "write"), (data,))
        } else {
            let rest = PyMemoryView::from(data)?.call_method1(intern!(py, "cast"), ("B",))?;
            let rest = rest.get_item(PySlice::new(py, taken as isize, size as isize, 1))?;
            layer.call_method1(intern!(py, "write"), (rest,))
        };
        match outcome {
            Ok(count) => taken += count.extract::<usize>()?,
            Err(error) if is_again(py, &error)? => break,
            Err(error) => return Err(error),
        }
    }
    if taken < size {
        // It is sent once the other side has sent what the TLS layer waits for.
        let buffer = Buffer::readable(py, data.as_ptr())?;
        // SAFETY: held by the buffer.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.start().cast_const(), size) };
        let rest = PyBytes::new(py, &bytes[taken..]);
        let backlog = protocol.getattr(intern!(py, "_write_backlog"))?;
        backlog.call_method1(intern!(py, "append"), (rest,))?;
        let waiting: usize = protocol.getattr(intern!(py, "_write_buffer_size"))?.extract()?;
        protocol.setattr(intern!(py, "_write_buffer_size"), waiting + size - taken)?;
        return protocol.call_method0(intern!(py, "_process_outgoing")).map(drop);
    }
    let encrypted =
        protocol.getattr(intern!(py, "_outgoing"))?.call_method0(intern!(py, "read"))?;
    let below = protocol.getattr(intern!(py, "_transport"))?;
    write_to(&below, &encrypted)?;
    // Nothing waits now: the application is told if it was told to stop, or wants to be told always.
    if protocol.getattr(intern!(py, "_app_writing_paused"))?.is_truthy()?
        || !protocol.getattr(intern!(py, "_outgoing_high_water"))?.is_truthy()?
    {
        protocol.call_method0(intern!(py, "_control_app_writing"))?;
    }
    Ok(())
}
