//! Reading and writing TLS: the methods of `greenloop.ssl.SSLSocket` that programs call all the time.
//!
//! The TLS layer is the interpreter's own, the object in `_sslobj`, which reads and writes the
//! non-blocking descriptor itself. Where it would have to wait it raises SSLWantReadError or
//! SSLWantWriteError: those are met here, and the greenlet is parked. Making such an exception
//! takes longer than all the rest of a small read, so a read that is likely to have to wait asks
//! the system first (`Connection::foresees_wait`).
//!
//! In classes that programs derive, methods that others are made of may be overridden: there
//! `recv` calls `read`, and `sendall` calls `send`, by name, as in the standard class.

use super::arguments::{Buffer, Call, int};
use super::errors::{closed_elsewhere, raised};
use super::state::{Parked, Place, SocketState};
use super::wait::{Deadline, Direction, is_ready};
use super::{receive, send};
use crate::exceptions;
use pyo3::exceptions::{PyTimeoutError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

type Object = *mut ffi::PyObject;
type Socket<'a, 'py> = &'a Bound<'py, PyAny>;
type State<'a, 'py> = &'a Bound<'py, SocketState>;

/// `greenloop.ssl.SSLSocket`: borrowed, it is never freed. Null until the class is known.
static CLASS: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(ptr::null_mut());

/// Notes the class that the methods are put on, whose instances need no look-up of methods by name.
pub fn set_class(class: &Bound<'_, PyAny>) -> PyResult<()> {
    // Later it is too late: they are asked for while an exception is set.
    names(class.py())?;
    CLASS.store(class.clone().into_ptr().cast(), Ordering::Relaxed);
    Ok(())
}

/// Whether the socket's class is not derived from ours.
#[inline]
fn is_exact(socket: Socket<'_, '_>) -> bool {
    // SAFETY: a live object.
    unsafe { ffi::Py_TYPE(socket.as_ptr()) == CLASS.load(Ordering::Relaxed) }
}

/// What of the standard modules is needed here.
struct Names {
    want_read: Py<PyAny>,
    want_write: Py<PyAny>,
    error: Py<PyAny>,
    end_of_stream: Py<PyAny>,
}

fn names(py: Python<'_>) -> PyResult<&'static Names> {
    static NAMES: PyOnceLock<Names> = PyOnceLock::new();
    NAMES.get_or_try_init(py, || {
        let module = py.import("_ssl")?;
        Ok(Names {
            want_read: module.getattr("SSLWantReadError")?.unbind(),
            want_write: module.getattr("SSLWantWriteError")?.unbind(),
            error: module.getattr("SSLError")?.unbind(),
            end_of_stream: module.getattr("SSL_ERROR_EOF")?.unbind(),
        })
    })
}

/// The object of the TLS layer, None if the socket is plain.
#[inline]
fn layer<'py>(socket: Socket<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let layer = socket.getattr(intern!(socket.py(), "_sslobj"))?;
    Ok(if layer.is_none() { None } else { Some(layer) })
}

/// The object of the TLS layer for a method that needs one.
fn layer_for<'py>(socket: Socket<'_, 'py>, verb: &str) -> PyResult<Bound<'py, PyAny>> {
    layer(socket)?
        .ok_or_else(|| PyValueError::new_err(format!("{verb} on closed or unwrapped SSL socket.")))
}

/// Calls a method of an object that takes `args`: a new reference, or null.
#[inline]
fn call_method<const N: usize>(
    object: &Bound<'_, PyAny>,
    name: &Bound<'_, PyString>,
    args: [Object; N],
) -> Object {
    // One entry before the arguments may be used by the callee.
    let mut all = [ptr::null_mut(); 4];
    all[1] = object.as_ptr();
    all[2..2 + N].copy_from_slice(&args);
    // SAFETY: live objects; the vectorcall convention.
    unsafe {
        ffi::PyObject_VectorcallMethod(
            name.as_ptr(),
            all.as_ptr().add(1),
            (N + 1) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
            ptr::null_mut(),
        )
    }
}

/// The same for a method that our caller calls as it is.
fn call_by_name<const N: usize>(
    object: &Bound<'_, PyAny>,
    name: &Bound<'_, PyString>,
    args: [Object; N],
) -> PyResult<Object> {
    let result = call_method(object, name, args);
    if result.is_null() { Err(raised(object.py())) } else { Ok(result) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    /// Handshakes and the like.
    Other,
}

/// One call of a method on a TLS connection.
struct Connection<'a, 'py> {
    socket: Socket<'a, 'py>,
    state: State<'a, 'py>,
    kind: Kind,
    /// What times out, for the message; named by what was waited for if that is not told.
    operation: Option<&'a str>,
    deadline: Deadline,
    may_wait: bool,
    has_waited: bool,
}

impl<'a, 'py> Connection<'a, 'py> {
    fn new(socket: Socket<'a, 'py>, state: State<'a, 'py>, kind: Kind) -> Self {
        let this = state.get();
        Self {
            socket,
            state,
            kind,
            operation: match kind {
                Kind::Read => Some("read"),
                Kind::Write => Some("write"),
                Kind::Other => None,
            },
            deadline: Deadline::new(this.timeout()),
            may_wait: !this.is_nonblocking(),
            has_waited: false,
        }
    }

    /// Calls a function of the TLS layer, null for an exception, until it need not wait.
    fn until_done(&mut self, mut call: impl FnMut() -> Object) -> PyResult<Object> {
        let py = self.socket.py();
        loop {
            let fd = self.state.get().fd();
            if fd < 0 {
                // The layer remembers a number that may be another file's by now.
                return Err(closed_elsewhere(py));
            }
            let result = call();
            if !result.is_null() {
                return Ok(result);
            }
            let Some(direction) = self.wanted()? else { return Err(raised(py)) };
            if !is_ready(fd, direction) {
                self.park(direction)?;
            }
        }
    }

    /// What the TLS layer has to wait for, if that is why it has failed. The exception is gone
    /// then.
    #[cold]
    fn wanted(&self) -> PyResult<Option<Direction>> {
        if !self.may_wait {
            return Ok(None);
        }
        let names = names(self.socket.py())?;
        // SAFETY: an exception is set; classes.
        unsafe {
            let direction = if ffi::PyErr_ExceptionMatches(names.want_read.as_ptr()) != 0 {
                Direction::Read
            } else if ffi::PyErr_ExceptionMatches(names.want_write.as_ptr()) != 0 {
                Direction::Write
            } else {
                return Ok(None);
            };
            ffi::PyErr_Clear();
            Ok(Some(direction))
        }
    }

    /// Parks the greenlet: the descriptor has been seen not to be ready.
    fn park(&mut self, direction: Direction) -> PyResult<()> {
        self.has_waited = true;
        let place = match (self.kind, direction) {
            (Kind::Read, Direction::Read) => Place::Reader,
            (Kind::Write, Direction::Write) => Place::Writer,
            _ => Place::Aside,
        };
        let deadline = self.deadline.get();
        let this = self.state.get();
        if self.kind == Kind::Write {
            this.is_writing.set(true);
        }
        let parked = SocketState::park_in(self.state, self.socket, place, direction, deadline);
        if self.kind == Kind::Write {
            this.is_writing.set(false);
        }
        match parked? {
            Parked::Ready => Ok(()),
            Parked::TimedOut => Err(self.timed_out(direction)),
        }
    }

    #[cold]
    fn timed_out(&self, direction: Direction) -> PyErr {
        let operation = self.operation.unwrap_or(match direction {
            Direction::Read => "read",
            Direction::Write => "write",
        });
        PyTimeoutError::new_err(format!("The {operation} operation timed out"))
    }

    /// Whether a read, were it made now, would find nothing. Looked at only if the last read found
    /// nothing at first: where data comes faster than it is read, the look would be a system call
    /// for nothing.
    fn foresees_wait(
        &self,
        layer: &Bound<'py, PyAny>,
        len: Object,
        buffer: Object,
    ) -> PyResult<bool> {
        if !self.state.get().expects_wait.replace(false) || !self.may_wait {
            return Ok(false);
        }
        if !asks_for_bytes(layer.py(), len, buffer) {
            return Ok(false);
        }
        let pending = call_by_name(layer, intern!(layer.py(), "pending"), [])?;
        // SAFETY: a new reference.
        let pending = unsafe { Bound::from_owned_ptr(layer.py(), pending) };
        Ok(pending.extract::<isize>()? == 0 && !is_ready(self.state.get().fd(), Direction::Read))
    }
}

/// Whether a read could have to wait with these arguments: they are not wrong, and there is room.
fn asks_for_bytes(py: Python<'_>, len: Object, buffer: Object) -> bool {
    // SAFETY: valid objects.
    let len = unsafe {
        if ffi::PyLong_CheckExact(len) == 0 {
            return false;
        }
        ffi::PyLong_AsSsize_t(len)
    };
    let is_right = if buffer.is_null() {
        len > 0
    } else {
        Buffer::writable(py, buffer, "read").is_ok_and(|buffer| buffer.len() > 0)
    };
    if len == -1 && PyErr::occurred(py) {
        // Too big: the layer says so.
        drop(raised(py));
        return false;
    }
    is_right
}

/// Reads up to `len` bytes, into `buffer` unless that is null.
fn read_from(
    socket: Socket<'_, '_>,
    state: State<'_, '_>,
    layer: &Bound<'_, PyAny>,
    len: Object,
    buffer: Object,
) -> PyResult<Object> {
    let py = socket.py();
    let mut connection = Connection::new(socket, state, Kind::Read);
    if connection.foresees_wait(layer, len, buffer)? {
        connection.park(Direction::Read)?;
    }
    let name = intern!(py, "read");
    let result = connection.until_done(|| {
        if buffer.is_null() {
            call_method(layer, name, [len])
        } else {
            call_method(layer, name, [len, buffer])
        }
    });
    match result {
        Ok(object) => {
            // Not at the end of the stream, which is told again whatever the descriptor says.
            // SAFETY: bytes, or an int that tells how many.
            let is_some = unsafe { ffi::PyObject_IsTrue(object) } > 0;
            state.get().expects_wait.set(is_some && connection.has_waited);
            Ok(object)
        }
        Err(error) => end_of_stream(socket, error, buffer),
    }
}

/// What a read returns at an end without farewell, if that is to be taken for an end.
#[cold]
fn end_of_stream(socket: Socket<'_, '_>, error: PyErr, buffer: Object) -> PyResult<Object> {
    let py = socket.py();
    let names = names(py)?;
    let is_end = error.is_instance(py, names.error.bind(py))
        && error
            .value(py)
            .getattr("args")?
            .get_item(0)
            .is_ok_and(|number| number.eq(&names.end_of_stream).unwrap_or(false));
    if !is_end || !socket.getattr("suppress_ragged_eofs")?.is_truthy()? {
        return Err(error);
    }
    if buffer.is_null() {
        Ok(PyBytes::new(py, b"").into_any().into_ptr())
    } else {
        Ok(0_i32.into_pyobject(py)?.into_any().into_ptr())
    }
}

/// Writes once; returns how many bytes, as an int object.
fn write_to(
    socket: Socket<'_, '_>,
    state: State<'_, '_>,
    layer: &Bound<'_, PyAny>,
    data: Object,
) -> PyResult<Object> {
    let py = socket.py();
    let this = state.get();
    if this.is_writing.get() {
        return Err(concurrent_write(py, this));
    }
    let name = intern!(py, "write");
    Connection::new(socket, state, Kind::Write).until_done(|| call_method(layer, name, [data]))
}

/// A greenlet waits in the middle of a write: OpenSSL would take other data for the rest of that.
#[cold]
fn concurrent_write(py: Python<'_>, state: &SocketState) -> PyErr {
    let named =
        state.check_free(py, Place::Writer).and_then(|()| state.check_free(py, Place::Aside));
    named.err().unwrap_or_else(|| {
        exceptions::concurrent_use(py, "Another greenlet is writing to this socket")
    })
}

/// Refuses flags, which mean nothing to TLS.
fn check_flags(socket: Socket<'_, '_>, flags: Object, function: &str) -> PyResult<()> {
    let py = socket.py();
    if int(py, flags, 0)? == 0 {
        return Ok(());
    }
    let class = socket.get_type().repr()?;
    Err(PyValueError::new_err(format!(
        "non-zero flags not allowed in calls to {function}() on {class}"
    )))
}

/// The size that is read if none is given.
fn default_size(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    Ok(1024_i32.into_pyobject(py)?.into_any())
}

/// None counts as not given.
fn unless_none(object: Object) -> Object {
    // SAFETY: compared only.
    if object == unsafe { ffi::Py_None() } { ptr::null_mut() } else { object }
}

pub fn read(socket: Socket<'_, '_>, state: State<'_, '_>, call: Call) -> PyResult<Object> {
    // SAFETY: called by the vectorcall convention.
    let [len, buffer] = unsafe { call.sort("read", ["len", "buffer"], 0)? };
    let layer = layer_for(socket, "Read")?;
    let default = default_size(socket.py())?;
    let len = if len.is_null() { default.as_ptr() } else { len };
    read_from(socket, state, &layer, len, unless_none(buffer))
}

pub fn recv(socket: Socket<'_, '_>, state: State<'_, '_>, call: Call) -> PyResult<Object> {
    let py = socket.py();
    // SAFETY: called by the vectorcall convention.
    let [len, flags] = unsafe { call.sort("recv", ["buflen", "flags"], 0)? };
    let default = default_size(py)?;
    let len = if len.is_null() { default.as_ptr() } else { len };
    let Some(layer) = layer(socket)? else {
        return plain(receive::recv, socket, state, [len, flags]);
    };
    check_flags(socket, flags, "recv")?;
    if !is_exact(socket) {
        return call_by_name(socket, intern!(py, "read"), [len]);
    }
    read_from(socket, state, &layer, len, ptr::null_mut())
}

pub fn recv_into(socket: Socket<'_, '_>, state: State<'_, '_>, call: Call) -> PyResult<Object> {
    let py = socket.py();
    // SAFETY: called by the vectorcall convention.
    let [buffer, size, flags] =
        unsafe { call.sort("recv_into", ["buffer", "nbytes", "flags"], 1)? };
    let measured;
    let mut size = unless_none(size);
    if size.is_null() {
        measured = match room(py, buffer)? {
            0 => default_size(py)?,
            size => size.into_pyobject(py)?.into_any(),
        };
        size = measured.as_ptr();
    }
    let Some(layer) = layer(socket)? else {
        return plain(receive::recv_into, socket, state, [buffer, size, flags]);
    };
    check_flags(socket, flags, "recv_into")?;
    if !is_exact(socket) {
        return call_by_name(socket, intern!(py, "read"), [size, buffer]);
    }
    read_from(socket, state, &layer, size, unless_none(buffer))
}

/// The bytes of a buffer; 0 for None.
fn room(py: Python<'_>, buffer: Object) -> PyResult<isize> {
    if unless_none(buffer).is_null() {
        return Ok(0);
    }
    view_of(py, buffer)?.getattr(intern!(py, "nbytes"))?.extract()
}

pub fn write(socket: Socket<'_, '_>, state: State<'_, '_>, call: Call) -> PyResult<Object> {
    // SAFETY: called by the vectorcall convention.
    let [data] = unsafe { call.sort("write", ["data"], 1)? };
    let layer = layer_for(socket, "Write")?;
    write_to(socket, state, &layer, data)
}

pub fn send(socket: Socket<'_, '_>, state: State<'_, '_>, call: Call) -> PyResult<Object> {
    // SAFETY: called by the vectorcall convention.
    let [data, flags] = unsafe { call.sort("send", ["data", "flags"], 1)? };
    let Some(layer) = layer(socket)? else {
        return plain(send::send, socket, state, [data, flags]);
    };
    check_flags(socket, flags, "send")?;
    write_to(socket, state, &layer, data)
}

pub fn sendall(socket: Socket<'_, '_>, state: State<'_, '_>, call: Call) -> PyResult<Object> {
    let py = socket.py();
    // SAFETY: called by the vectorcall convention.
    let [data, flags] = unsafe { call.sort("sendall", ["data", "flags"], 1)? };
    let Some(layer) = layer(socket)? else {
        return plain(send::sendall, socket, state, [data, flags]);
    };
    check_flags(socket, flags, "sendall")?;
    let write = |data: Object| -> PyResult<isize> {
        // The layer is kept: were it looked for each time, and gone because another greenlet has
        // ended TLS, the rest would be sent in the clear.
        let written = if is_exact(socket) {
            write_to(socket, state, &layer, data)?
        } else {
            call_by_name(socket, intern!(py, "send"), [data])?
        };
        // SAFETY: a new reference.
        unsafe { Bound::from_owned_ptr(py, written) }.extract()
    };

    // Most data is written at once: only the rest needs views.
    let mut sent = 0;
    // SAFETY: a valid object, checked to be bytes.
    unsafe {
        if ffi::PyBytes_CheckExact(data) != 0 {
            let len = ffi::PyBytes_Size(data);
            if len > 0 {
                sent = write(data)?;
            }
            if sent >= len {
                return Ok(py.None().into_ptr());
            }
        }
    }
    let view = view_of(py, data)?.call_method1(intern!(py, "cast"), (intern!(py, "B"),))?;
    let len = view.len()?.cast_signed();
    while sent < len {
        // SAFETY: a memoryview, and bounds within it.
        let rest = unsafe { ffi::PySequence_GetSlice(view.as_ptr(), sent, len) };
        if rest.is_null() {
            return Err(raised(py));
        }
        // SAFETY: a new reference.
        let rest = unsafe { Bound::from_owned_ptr(py, rest) };
        sent += write(rest.as_ptr())?;
    }
    Ok(py.None().into_ptr())
}

/// A memoryview of a buffer.
fn view_of(py: Python<'_>, buffer: Object) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: a valid object.
    let view = unsafe { ffi::PyMemoryView_FromObject(buffer) };
    if view.is_null() {
        return Err(raised(py));
    }
    // SAFETY: a new reference.
    Ok(unsafe { Bound::from_owned_ptr(py, view) })
}

/// Calls the method of plain sockets; trailing arguments that are null were not given.
fn plain<const N: usize>(
    method: fn(Socket<'_, '_>, State<'_, '_>, Call) -> PyResult<Object>,
    socket: Socket<'_, '_>,
    state: State<'_, '_>,
    args: [Object; N],
) -> PyResult<Object> {
    let count = args.iter().position(|object| object.is_null()).unwrap_or(N);
    method(socket, state, Call { values: args.as_ptr(), count, names: ptr::null_mut() })
}

/// `_until_done(function, operation, block)`: calls a function of the TLS layer until it does not
/// have to wait, and returns what it returns.
pub fn until_done(socket: Socket<'_, '_>, state: State<'_, '_>, call: Call) -> PyResult<Object> {
    let py = socket.py();
    // SAFETY: called by the vectorcall convention.
    let [function, operation, block] =
        unsafe { call.sort("_until_done", ["function", "operation", "block"], 1)? };
    let operation = if unless_none(operation).is_null() {
        None
    } else {
        // SAFETY: a valid object, held by the caller.
        Some(unsafe { Bound::from_borrowed_ptr(py, operation) }.extract::<String>()?)
    };
    let mut connection = Connection::new(socket, state, Kind::Other);
    connection.operation = operation.as_deref();
    // SAFETY: a valid object.
    if !block.is_null() && unsafe { Bound::from_borrowed_ptr(py, block) }.is_truthy()? {
        connection.may_wait = true;
        if state.get().is_nonblocking() {
            connection.deadline = Deadline::new(None);
        }
    }
    state.get().expects_wait.set(false);
    // SAFETY: a live object, called without arguments.
    connection.until_done(|| unsafe { ffi::PyObject_CallNoArgs(function) })
}
