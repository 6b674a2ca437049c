//! Transports of sockets: asyncio's, made in one piece with the system calls.
//!
//! * `common`: what all have: the protocol, its context, flow control, and how they end
//! * `stream`: the object of stream sockets, and what programs call that is not called for every
//!   message
//! * `read`: from the descriptor to the protocol
//! * `write`: what is to be sent
//! * `streams`: what asyncio's streams do for every message; `reader`: what their readers have;
//!   `reading`: who waits for more
//! * `tls`: the same for TLS
//! * `outgoing`: bytes that wait for the system to take them
//! * `flow`: how much may wait
//! * `datagram`: the object of datagram sockets; `datagram/receive`, `datagram/send`: the two
//!   directions
//!
//! A transport is called by its loop when its descriptor is ready, by handles that have it in place of a
//! callback, and the context that protocols are called in. The descriptor
//! is registered for reading once, for as long as it is read; for writing only while something
//! waits to be sent. What is not done for every message (logging, the exception handler, closing) is
//! in `greenloop.asyncio._transports`.

mod common;
mod datagram;
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
use datagram::DatagramTransport;
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
    if handle.has(flag::WRITER | flag::DATAGRAMS) {
        return false;
    }
    // SAFETY: as the caller guarantees; the GIL is held.
    let transport = unsafe { Bound::ref_from_ptr(Python::assume_attached(), &transport) };
    // SAFETY: the same; the handle's flags say of what class it is.
    let transport = unsafe { transport.cast_unchecked::<StreamTransport>() }.get();
    transport.reader.borrow().is_some()
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
        (py, Bound::ref_from_ptr(py, &transport))
    };
    let writer = handle.has(flag::WRITER);
    let outcome = if handle.has(flag::DATAGRAMS) {
        // SAFETY: a transport, of this class.
        let transport = unsafe { transport.cast_unchecked::<DatagramTransport>() };
        if writer {
            DatagramTransport::write_ready(transport)
        } else {
            DatagramTransport::read_ready(transport)
        }
    } else {
        // SAFETY: as above.
        let transport = unsafe { transport.cast_unchecked::<StreamTransport>() };
        if writer {
            StreamTransport::write_ready(transport)
        } else {
            StreamTransport::read_ready(transport)
        }
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
    module.add_class::<StreamTransport>()?;
    datagram::register(module)?;
    streams::register(module)?;
    module.add_function(wrap_pyfunction!(tls::_attach_tls, module)?)?;
    module.add_function(wrap_pyfunction!(common::_call_in_context, module)?)?;
    write::attach(module.getattr("StreamTransport")?.cast()?)
}
