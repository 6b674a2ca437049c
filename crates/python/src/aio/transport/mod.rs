//! Transports of stream sockets: asyncio's, made in one piece with the system calls.
//!
//! * `stream`: the object, and what programs call that is not called for every message
//! * `read`: from the descriptor to the protocol
//! * `write`: what is to be sent, and flow control
//! * `streams`: what asyncio's streams do for every message; `reader`: what their readers have;
//!   `reading`: who waits for more
//! * `tls`: the same for TLS
//! * `outgoing`: bytes that wait for the system to take them
//! * `flow`: how much may wait
//!
//! A transport is called by its loop when its descriptor is ready, by handles that have it in place of a
//! callback, and the context that protocols are called in. The descriptor
//! is registered for reading once, for as long as it is read; for writing only while something
//! waits to be sent. What is not done for every message (logging, the exception handler, closing) is
//! in `greenloop.asyncio._transports`.

mod flow;
mod outgoing;
mod read;
mod reader;
mod reading;
mod stream;
mod streams;
mod tls;
mod write;

use super::handle::{HandleObject, flag};
pub use outgoing::{is_later, send};
use pyo3::ffi;
use pyo3::prelude::*;
use std::ptr;
use stream::StreamTransport;

/// Whether a transport does without calling the program when its descriptor is ready for what the handle
/// waits for: with streams all there is to do is to wake a task.
///
/// # Safety
///
/// A transport.
#[inline]
pub unsafe fn calls_no_program(transport: *mut ffi::PyObject, handle: &HandleObject) -> bool {
    // SAFETY: as the caller guarantees; the GIL is held.
    let transport = unsafe { Bound::ref_from_ptr(Python::assume_attached(), &transport) };
    // SAFETY: the same.
    let transport = unsafe { transport.cast_unchecked::<StreamTransport>() }.get();
    !handle.has(flag::WRITER) && transport.reader.borrow().is_some()
}

/// Tells a transport that its descriptor is ready for what the handle waits for: a new reference, or null
/// with an exception set.
///
/// # Safety
///
/// A transport, which the caller holds.
#[inline]
pub unsafe fn ready(transport: *mut ffi::PyObject, handle: &HandleObject) -> *mut ffi::PyObject {
    // SAFETY: as the caller guarantees; the GIL is held.
    let (py, transport) = unsafe {
        let py = Python::assume_attached();
        (py, Bound::ref_from_ptr(py, &transport).cast_unchecked::<StreamTransport>())
    };
    let outcome = if handle.has(flag::WRITER) {
        StreamTransport::write_ready(transport)
    } else {
        StreamTransport::read_ready(transport)
    };
    match outcome {
        Ok(()) => py.None().into_ptr(),
        Err(error) => {
            error.restore(py);
            ptr::null_mut()
        }
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<stream::StreamTransport>()?;
    streams::register(module)?;
    module.add_function(wrap_pyfunction!(tls::_attach_tls, module)?)?;
    module.add_function(wrap_pyfunction!(write::_call_in_context, module)?)?;
    write::attach(module.getattr("StreamTransport")?.cast()?)
}
