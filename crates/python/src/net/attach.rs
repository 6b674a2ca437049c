//! Puts the methods written in Rust on the Python classes `greenloop.socket.socket` and
//! `greenloop.ssl.SSLSocket`.
//!
//! They are method descriptors, like those of the C class it derives from: the interpreter calls
//! them without bound methods and argument tuples. Each finds the socket's state in the instance
//! slot `_state`, whose offset is learnt here.

use super::arguments::Call;
use super::errors::{give, raised};
use super::state::SocketState;
use super::{delegate, receive, send, tls};
use crate::errors::os_error;
use crate::greenlet::methods::{MethodTable, fast_keywords, vectorcall};
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicIsize, AtomicPtr, Ordering};

type Object = *mut ffi::PyObject;

/// The offset of `_state` in instances; 0 until the class is known.
static STATE_OFFSET: AtomicIsize = AtomicIsize::new(0);
/// `greenloop.socket.socket`.
static SOCKET_CLASS: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(ptr::null_mut());

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

/// The state of a socket that is of the socket class itself: whatever it does is done here. `None`
/// for TLS, and for classes that programs derive.
pub fn plain_state<'py>(socket: &Bound<'py, PyAny>) -> Option<Bound<'py, SocketState>> {
    if socket.get_type_ptr() != SOCKET_CLASS.load(Ordering::Relaxed) {
        return None;
    }
    state(socket).ok()
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
    match object {
        // SAFETY: its type has been looked at.
        Some(object) if object.is_exact_instance_of::<SocketState>() => unsafe {
            Ok(object.cast_into_unchecked())
        },
        _ => Err(not_initialised(socket.py())),
    }
}

#[cold]
#[inline(never)]
fn not_initialised(py: Python<'_>) -> PyErr {
    os_error(py, libc::EBADF)
}

macro_rules! methods {
    ($table:ident: $($name:literal = $body:path, $doc:literal;)*) => {
        static $table: MethodTable<{ [$($name),*].len() }> = MethodTable::new([$(
            fast_keywords(
                $name,
                vectorcall!(|this, values, count, names| {
                    // SAFETY: passed on from the interpreter.
                    unsafe { enter(this, values, count, names, $body) }
                }),
                $doc,
            )
        ),*]);
    };
}

methods! {
    METHODS:
    c"recv" = receive::recv, c"recv(bufsize, flags=0)
--

Receives up to `bufsize` bytes. Empty bytes mean that the other side has finished.";
    c"recv_into" = receive::recv_into, c"recv_into(buffer, nbytes=0, flags=0)
--

Receives up to `nbytes` bytes into a buffer, up to its size if that is 0. Returns how many.";
    c"recvfrom" = receive::recvfrom, c"recvfrom(bufsize, flags=0)
--

Receives up to `bufsize` bytes; returns them and the sender's address.";
    c"recvfrom_into" = receive::recvfrom_into,
        c"recvfrom_into(buffer, nbytes=0, flags=0)
--

Receives into a buffer; returns how many bytes and the sender's address.";
    c"_accept" = receive::accept, c"_accept()
--

Accepts a connection: returns its descriptor, which is non-blocking, and the peer's address.";
    c"send" = send::send, c"send(data, flags=0, timeout=<the socket's>)
--

Sends bytes; returns how many were sent, which can be fewer than given. `timeout` is in seconds,
None for no limit.";
    c"sendall" = send::sendall, c"sendall(data, flags=0)
--

Sends all bytes. The socket's timeout is for the whole of it. After an error it is unknown how
much was sent.";
    c"sendto" = delegate::sendto, c"sendto(data, [flags,] address)
--

Sends bytes to an address; returns how many. Host names are looked up cooperatively.";
    c"sendmsg" = delegate::sendmsg,
        c"sendmsg(buffers, ancdata=(), flags=0, address=None)
--

Sends buffers and ancillary data as one message; returns how many bytes were sent.";
    c"sendmsg_afalg" = delegate::sendmsg_afalg,
        c"sendmsg_afalg([buffers,] *, op, iv=None, assoclen=0, flags=0)
--

Sends buffers to an AF_ALG socket, with the operation as ancillary data.";
    c"recvmsg" = delegate::recvmsg, c"recvmsg(bufsize, ancbufsize=0, flags=0)
--

Receives bytes and ancillary data: `(data, ancdata, msg_flags, address)`.";
    c"recvmsg_into" = delegate::recvmsg_into,
        c"recvmsg_into(buffers, ancbufsize=0, flags=0)
--

Receives into several buffers: `(nbytes, ancdata, msg_flags, address)`.";
}

methods! {
    TLS_METHODS:
    c"read" = tls::read, c"read(len=1024, buffer=None)
--

Reads up to `len` bytes and returns them, or how many were put into `buffer`. Empty bytes, or 0, mean
that the other side has finished.";
    c"recv" = tls::recv, c"recv(buflen=1024, flags=0)
--

Receives up to `buflen` bytes. Empty bytes mean that the other side has finished. No `flags` are
allowed.";
    c"recv_into" = tls::recv_into, c"recv_into(buffer, nbytes=None, flags=0)
--

Receives up to `nbytes` bytes into a buffer, up to its size if that is None. Returns how many. No
`flags` are allowed.";
    c"write" = tls::write, c"write(data)
--

Sends bytes; returns how many were sent, which can be fewer than given.";
    c"send" = tls::send, c"send(data, flags=0)
--

Sends bytes; returns how many were sent, which can be fewer than given. No `flags` are allowed.";
    c"sendall" = tls::sendall, c"sendall(data, flags=0)
--

Sends all bytes. The timeout is for each part that is encrypted at once. After an error it is unknown
how much was sent. No `flags` are allowed.";
    c"_until_done" = tls::until_done,
        c"_until_done(function, operation=None, block=False)
--

Calls a function of the TLS layer until it does not have to wait; returns its result. `operation` is
what an error calls it when it times out. With `block` it waits even if the timeout is 0.";
}

/// Puts the methods on the socket class, which has a slot `_state`.
#[pyfunction]
fn _attach_socket_methods(class: &Bound<'_, PyAny>) -> PyResult<()> {
    let slot = class.getattr("__dict__")?.get_item("_state")?;
    // SAFETY: the type is checked before the descriptor is looked into.
    unsafe {
        if ffi::Py_TYPE(slot.as_ptr()) != &raw mut ffi::PyMemberDescr_Type {
            return Err(PyTypeError::new_err("expected a class with a slot '_state'"));
        }
        let member = &*slot.as_ptr().cast::<ffi::PyMemberDescrObject>();
        STATE_OFFSET.store((*member.d_member).offset, Ordering::Relaxed);
    }
    // The class lives as long as the module.
    SOCKET_CLASS.store(class.as_ptr().cast(), Ordering::Relaxed);
    attach(class, &METHODS)
}

/// Puts the methods on the class of TLS sockets, which derives from the socket class.
#[pyfunction]
fn _attach_tls_methods(class: &Bound<'_, PyAny>) -> PyResult<()> {
    tls::set_class(class)?;
    attach(class, &TLS_METHODS)
}

/// Methods that the class derived from has in some builds of CPython only.
const NOT_IN_ALL_BUILDS: &[&CStr] = &[c"sendmsg_afalg"];

fn attach<const N: usize>(
    class: &Bound<'_, PyAny>,
    methods: &'static MethodTable<N>,
) -> PyResult<()> {
    let py = class.py();
    // SAFETY: methods are attached to a heap type, and the table is static.
    unsafe {
        if ffi::PyType_Check(class.as_ptr()) == 0 {
            return Err(PyTypeError::new_err("expected a class"));
        }
        let table = ptr::from_ref(methods).cast::<ffi::PyMethodDef>().cast_mut();
        for index in 0..N {
            let definition = table.add(index);
            let name = CStr::from_ptr((*definition).ml_name);
            if NOT_IN_ALL_BUILDS.contains(&name)
                && ffi::PyObject_HasAttrString(class.as_ptr(), name.as_ptr()) == 0
            {
                continue;
            }
            let method = ffi::PyDescr_NewMethod(class.as_ptr().cast(), definition);
            if method.is_null() {
                return Err(raised(py));
            }
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
    module.add_function(wrap_pyfunction!(_attach_socket_methods, module)?)?;
    module.add_function(wrap_pyfunction!(_attach_tls_methods, module)?)
}
