//! Puts the methods written in Rust on the Python class `greenloop.socket.socket`.
//!
//! They are method descriptors, like those of the C class it derives from: the interpreter calls
//! them without bound methods and argument tuples. Each finds the socket's state in the instance
//! slot `_state`, whose offset is learnt here.

use super::arguments::Call;
use super::errors::{give, raised};
use super::state::SocketState;
use super::{delegate, receive, send};
use crate::errors::os_error;
use crate::greenlet::methods::{MethodTable, fast_keywords};
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::CStr;
use std::sync::atomic::{AtomicIsize, Ordering};

type Object = *mut ffi::PyObject;

/// The offset of `_state` in instances; 0 until the class is known.
static STATE_OFFSET: AtomicIsize = AtomicIsize::new(0);

/// Runs a method.
///
/// # Safety
///
/// Called by the interpreter for an instance of the class, by the vectorcall convention.
#[inline]
unsafe fn enter(
    this: Object,
    values: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
    body: fn(&Bound<'_, PyAny>, &Bound<'_, SocketState>, Call) -> PyResult<Object>,
) -> Object {
    // SAFETY: methods are called with the GIL held; a live object.
    let (py, socket) = unsafe {
        let py = Python::assume_attached();
        (py, Bound::from_borrowed_ptr(py, this))
    };
    let call = Call { values, count: count as usize, names };
    let result = state(&socket).and_then(|state| body(&socket, &state, call));
    give(py, result)
}

/// A socket's state. Held for the call: the slot may be emptied while the greenlet waits.
#[inline]
fn state<'py>(socket: &Bound<'py, PyAny>) -> PyResult<Bound<'py, SocketState>> {
    // SAFETY: the offset of a slot of the class, which the interpreter checked `socket` to be an
    // instance of. Slots hold owned references or null.
    let object = unsafe {
        let slot = socket.as_ptr().byte_offset(STATE_OFFSET.load(Ordering::Relaxed));
        Bound::from_borrowed_ptr_or_opt(socket.py(), *slot.cast::<Object>())
    };
    match object.map(Bound::cast_into_exact::<SocketState>) {
        Some(Ok(state)) => Ok(state),
        // Not initialised.
        Some(Err(_)) | None => Err(os_error(socket.py(), libc::EBADF)),
    }
}

macro_rules! methods {
    ($($function:ident = $name:literal, $body:path, $doc:literal;)*) => {
        $(
            unsafe extern "C" fn $function(
                this: Object,
                values: *const Object,
                count: ffi::Py_ssize_t,
                names: Object,
            ) -> Object {
                // SAFETY: passed on from the interpreter.
                unsafe { enter(this, values, count, names, $body) }
            }
        )*

        static METHODS: MethodTable<{ [$($name),*].len() }> =
            MethodTable::new([$(fast_keywords($name, $function, $doc)),*]);
    };
}

methods! {
    recv = c"recv", receive::recv, c"recv(bufsize, flags=0)
--

Receives up to `bufsize` bytes. Empty bytes mean that the other side has finished.";
    recv_into = c"recv_into", receive::recv_into, c"recv_into(buffer, nbytes=0, flags=0)
--

Receives up to `nbytes` bytes into a buffer, up to its size if that is 0. Returns how many.";
    recvfrom = c"recvfrom", receive::recvfrom, c"recvfrom(bufsize, flags=0)
--

Receives up to `bufsize` bytes; returns them and the sender's address.";
    recvfrom_into = c"recvfrom_into", receive::recvfrom_into,
        c"recvfrom_into(buffer, nbytes=0, flags=0)
--

Receives into a buffer; returns how many bytes and the sender's address.";
    accept = c"_accept", receive::accept, c"_accept()
--

Accepts a connection: returns its descriptor, which is non-blocking, and the peer's address.";
    send = c"send", send::send, c"send(data, flags=0, timeout=<the socket's>)
--

Sends bytes; returns how many were sent, which can be fewer than given. `timeout` is in seconds,
None for no limit.";
    sendall = c"sendall", send::sendall, c"sendall(data, flags=0)
--

Sends all bytes. The socket's timeout is for the whole of it. After an error it is unknown how
much was sent.";
    sendto = c"sendto", delegate::sendto, c"sendto(data, [flags,] address)
--

Sends bytes to an address; returns how many. Host names are looked up cooperatively.";
    sendmsg = c"sendmsg", delegate::sendmsg,
        c"sendmsg(buffers, ancdata=(), flags=0, address=None)
--

Sends buffers and ancillary data as one message; returns how many bytes were sent.";
    recvmsg = c"recvmsg", delegate::recvmsg, c"recvmsg(bufsize, ancbufsize=0, flags=0)
--

Receives bytes and ancillary data: `(data, ancdata, msg_flags, address)`.";
    recvmsg_into = c"recvmsg_into", delegate::recvmsg_into,
        c"recvmsg_into(buffers, ancbufsize=0, flags=0)
--

Receives into several buffers: `(nbytes, ancdata, msg_flags, address)`.";
}

/// Puts the methods on the socket class, which has a slot `_state`.
#[pyfunction]
fn _attach_socket_methods(class: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = class.py();
    let slot = class.getattr("__dict__")?.get_item("_state")?;
    // SAFETY: the type is checked before the descriptor is looked into; methods are attached to
    // a heap type, and the table is static.
    unsafe {
        if ffi::PyType_Check(class.as_ptr()) == 0
            || ffi::Py_TYPE(slot.as_ptr()) != &raw mut ffi::PyMemberDescr_Type
        {
            return Err(PyTypeError::new_err("expected a class with a slot '_state'"));
        }
        let member = &*slot.as_ptr().cast::<ffi::PyMemberDescrObject>();
        STATE_OFFSET.store((*member.d_member).offset, Ordering::Relaxed);
        let table = (&raw const METHODS).cast::<ffi::PyMethodDef>().cast_mut();
        for index in 0..size_of_val(&METHODS) / size_of::<ffi::PyMethodDef>() {
            let definition = table.add(index);
            let method = ffi::PyDescr_NewMethod(class.as_ptr().cast(), definition);
            if method.is_null() {
                return Err(raised(py));
            }
            let name = CStr::from_ptr((*definition).ml_name);
            let status = ffi::PyObject_SetAttrString(class.as_ptr(), name.as_ptr(), method);
            ffi::Py_DECREF(method);
            if status != 0 {
                return Err(raised(py));
            }
        }
    }
    Ok(())
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(_attach_socket_methods, module)?)
}
