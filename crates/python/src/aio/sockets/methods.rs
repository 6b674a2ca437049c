//! The methods, and whose sockets they are for.

use super::call::SocketCall;
use super::operation::Operation;
use crate::aio::awaitable;
use crate::aio::event_loop::AsyncioLoop;
use crate::aio::methods::methods;
use crate::net::arguments::size;
use crate::net::attach::plain_state;
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyMemoryView, PyTuple, PyType};
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

type Object = *mut ffi::PyObject;

/// Whether a socket's methods are those of the standard class, or ours, which do the same.
#[inline]
fn is_plain(socket: &Bound<'_, PyAny>) -> bool {
    /// A class that was found to be.
    static PLAIN: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(ptr::null_mut());
    let kind = socket.get_type_ptr();
    if kind == PLAIN.load(Ordering::Relaxed) || plain_state(socket).is_some() {
        return true;
    }
    let is_plain = inherits_all(&socket.get_type()).unwrap_or(false);
    if is_plain {
        // It is kept, so that no other class can come to be where it is.
        static KEPT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        if KEPT.set(socket.py(), socket.get_type().unbind()).is_ok() {
            PLAIN.store(kind, Ordering::Relaxed);
        }
    }
    is_plain
}

#[cold]
fn inherits_all(class: &Bound<'_, PyType>) -> PyResult<bool> {
    static STANDARD: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let standard = STANDARD.import(class.py(), "_socket", "socket")?;
    if !class.is_subclass(standard)? {
        return Ok(false);
    }
    for name in ["recv", "recv_into", "recvfrom", "recvfrom_into", "send", "sendto", "fileno"] {
        if !class.getattr(name)?.is(&standard.getattr(name)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a method returns: a call of ours, or the standard loop's coroutine.
fn begin<'py>(
    event_loop: &Bound<'py, PyAny>,
    socket: Object,
    name: &str,
    arguments: &[Object],
    operation: impl FnOnce(Python<'py>) -> PyResult<Operation>,
) -> PyResult<Py<PyAny>> {
    static STANDARD: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = event_loop.py();
    // SAFETY: a live object.
    let socket = unsafe { Bound::from_borrowed_ptr(py, socket) };
    if !is_plain(&socket) {
        let class = STANDARD.import(py, "greenloop.asyncio._private", "StandardLoop")?;
        let mut all = vec![event_loop.clone(), socket];
        // SAFETY: live objects, or null where they were not given.
        all.extend(
            arguments
                .iter()
                .filter_map(|object| unsafe { Bound::from_borrowed_ptr_or_opt(py, *object) }),
        );
        let all = PyTuple::new(py, all)?;
        return Ok(class.call_method1(name, all)?.unbind());
    }
    let event_loop = event_loop.cast::<AsyncioLoop>()?.clone().unbind();
    awaitable::make(py, SocketCall::new(event_loop, socket.unbind(), operation(py)?))
}

/// A size that must not be negative.
fn length(py: Python<'_>, object: Object, function: &str) -> PyResult<usize> {
    usize::try_from(size(py, object, 0)?)
        .map_err(|_| PyValueError::new_err(format!("negative buffersize in {function}")))
}

fn object(py: Python<'_>, object: Object) -> Py<PyAny> {
    // SAFETY: a live object.
    unsafe { Bound::from_borrowed_ptr(py, object).unbind() }
}

methods! {
    METHODS:
    c"sock_recv" (sock, n; 2) = sock_recv, c"sock_recv($self, sock, n)
--

Receives up to `n` bytes. Empty bytes mean that the other side has finished.";

    c"sock_recv_into" (sock, buf; 2) = sock_recv_into, c"sock_recv_into($self, sock, buf)
--

Receives into a buffer. Returns how many bytes.";

    c"sock_recvfrom" (sock, bufsize; 2) = sock_recvfrom, c"sock_recvfrom($self, sock, bufsize)
--

Receives a datagram of up to `bufsize` bytes. Returns it and the sender's address.";

    c"sock_recvfrom_into" (sock, buf, nbytes; 2) = sock_recvfrom_into,
    c"sock_recvfrom_into($self, sock, buf, nbytes=0)
--

Receives a datagram of up to `nbytes` bytes into a buffer, up to its size if that is 0. Returns how many
bytes, and the sender's address.";

    c"sock_sendall" (sock, data; 2) = sock_sendall, c"sock_sendall($self, sock, data)
--

Sends all of some bytes. How many were sent is not known after an error.";

    c"sock_sendto" (sock, data, address; 3) = sock_sendto, c"sock_sendto($self, sock, data, address)
--

Sends a datagram to an address. Returns how many bytes were sent.";
}

/// Puts the methods on the class.
pub fn attach(class: &Bound<'_, PyType>) -> PyResult<()> {
    METHODS.attach(class)
}

fn sock_recv(event_loop: &Bound<'_, PyAny>, [sock, n]: [Object; 2]) -> PyResult<Py<PyAny>> {
    begin(event_loop, sock, "sock_recv", &[n], |py| {
        Ok(Operation::Receive { most: length(py, n, "recv")? })
    })
}

fn sock_recv_into(event_loop: &Bound<'_, PyAny>, [sock, buf]: [Object; 2]) -> PyResult<Py<PyAny>> {
    begin(event_loop, sock, "sock_recv_into", &[buf], |py| {
        Ok(Operation::ReceiveInto { buffer: object(py, buf) })
    })
}

fn sock_recvfrom(
    event_loop: &Bound<'_, PyAny>,
    [sock, bufsize]: [Object; 2],
) -> PyResult<Py<PyAny>> {
    begin(event_loop, sock, "sock_recvfrom", &[bufsize], |py| {
        Ok(Operation::ReceiveFrom { most: length(py, bufsize, "recvfrom")? })
    })
}

fn sock_recvfrom_into(
    event_loop: &Bound<'_, PyAny>,
    [sock, buf, nbytes]: [Object; 3],
) -> PyResult<Py<PyAny>> {
    begin(event_loop, sock, "sock_recvfrom_into", &[buf, nbytes], |py| {
        let most = length(py, nbytes, "recvfrom_into")?;
        Ok(Operation::ReceiveFromInto { buffer: object(py, buf), most })
    })
}

fn sock_sendall(event_loop: &Bound<'_, PyAny>, [sock, data]: [Object; 2]) -> PyResult<Py<PyAny>> {
    begin(event_loop, sock, "sock_sendall", &[data], |py| {
        let data = steady(object(py, data).into_bound(py))?;
        Ok(Operation::SendAll { data, sent: Cell::new(0) })
    })
}

fn sock_sendto(
    event_loop: &Bound<'_, PyAny>,
    [sock, data, address]: [Object; 3],
) -> PyResult<Py<PyAny>> {
    begin(event_loop, sock, "sock_sendto", &[data, address], |py| {
        Ok(Operation::SendTo { data: object(py, data), address: object(py, address) })
    })
}

/// Bytes whose memory stays where it is.
fn steady(data: Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    if data.is_exact_instance_of::<PyBytes>() {
        return Ok(data.unbind());
    }
    Ok(PyMemoryView::from(&data)?.into_any().unbind())
}
