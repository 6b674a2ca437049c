//! `recv`, `recv_into`, `recvfrom`, `recvfrom_into` and `accept`.

use super::address::Address;
use super::arguments::{Buffer, Call, int, size};
use super::delegate;
use super::errors::{check_signals, errno, last_error, raised};
use super::state::SocketState;
use super::wait::{Direction, Operation, is_ready};
use crate::hub::wait::Thrown;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::cell::UnsafeCell;
use std::ffi::c_int;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;

unsafe extern "C" {
    /// Exported by CPython (`Include/cpython/bytesobject.h`), not named by pyo3.
    fn _PyBytes_Resize(bytes: *mut Object, size: ffi::Py_ssize_t) -> c_int;
}

type Object = *mut ffi::PyObject;
type Socket<'a, 'py> = &'a Bound<'py, PyAny>;
type State<'a, 'py> = &'a Bound<'py, SocketState>;

/// Reads up to this size go through memory of the thread, so that what is received is
/// allocated in its real size, and nothing is held while waiting.
pub const SCRATCH: usize = 64 * 1024;

/// From this size on the copy out of the scratch memory costs more than to allocate for the size
/// asked for and to give back what was too much.
pub const MUCH: usize = 16 * 1024;

thread_local! {
    static MEMORY: UnsafeCell<Vec<u8>> = const { UnsafeCell::new(Vec::new()) };
}

/// The thread's scratch memory. What is in it is lost when the greenlet waits.
pub fn scratch() -> *mut u8 {
    MEMORY.with(|memory| {
        // SAFETY: no reference outlives this block; the vector never changes again.
        unsafe {
            let memory = &mut *memory.get();
            if memory.is_empty() {
                memory.resize(SCRATCH, 0);
            }
            memory.as_mut_ptr()
        }
    })
}

/// recv(2).
///
/// # Safety
///
/// `start` points to `len` bytes that may be written.
#[inline]
unsafe fn receive(fd: RawFd, start: *mut u8, len: usize, flags: c_int) -> isize {
    // SAFETY: as the caller guarantees.
    unsafe { libc::recv(fd, start.cast(), len, flags) }
}

/// Receives bytes; with `MSG_WAITALL` on a blocking socket until all have come.
///
/// # Safety
///
/// `start` gives memory of `len` bytes that may be written, and keeps what was received if the
/// greenlet waits in between, unless nothing was.
unsafe fn fill(
    operation: &mut Operation<'_, '_>,
    start: *mut u8,
    len: usize,
    flags: c_int,
) -> Result<usize, Thrown> {
    // SAFETY: as the caller guarantees.
    let received =
        operation.run_after_exhaustion(|fd| unsafe { receive(fd, start, len, flags) })?;
    note_read(operation, received, len, flags);
    if !waits_for_all(operation, flags) {
        return Ok(received);
    }
    // SAFETY: as the caller guarantees.
    unsafe { fill_rest(operation, start, len, flags, received) }
}

/// Goes on receiving after the first `received` of `len` bytes.
///
/// # Safety
///
/// As for `fill`.
#[cold]
#[inline(never)]
unsafe fn fill_rest(
    operation: &mut Operation<'_, '_>,
    start: *mut u8,
    len: usize,
    flags: c_int,
    mut received: usize,
) -> Result<usize, Thrown> {
    while received > 0 && received < len {
        // SAFETY: within the memory.
        let more = operation
            .run(|fd| unsafe { receive(fd, start.add(received), len - received, flags) })?;
        if more == 0 {
            break;
        }
        received += more;
    }
    Ok(received)
}

/// Notes what a read tells of the next one.
#[inline]
fn note_read(operation: &Operation<'_, '_>, received: usize, len: usize, flags: c_int) {
    let state = operation.state.get();
    if flags == 0 && 0 < received && received < len {
        state.note_short_read(operation.py);
    }
    state.set_reads_much(received >= MUCH);
}

/// Whether the kernel would have waited for the full length on a blocking descriptor.
fn waits_for_all(operation: &Operation<'_, '_>, flags: c_int) -> bool {
    flags & (libc::MSG_WAITALL | libc::MSG_PEEK | libc::MSG_DONTWAIT) == libc::MSG_WAITALL
        && operation.state.get().is_blocking()
        && is_stream(operation.state.get().fd())
}

#[cold]
fn is_stream(fd: RawFd) -> bool {
    let mut kind: c_int = 0;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: an int and its size.
    let status = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_TYPE, (&raw mut kind).cast(), &raw mut len)
    };
    status == 0 && kind == libc::SOCK_STREAM
}

/// Makes bytes of up to `len` received by `fill`.
pub fn receive_bytes(
    py: Python<'_>,
    len: usize,
    keeps: bool,
    mut fill: impl FnMut(*mut u8) -> Result<usize, Thrown>,
) -> PyResult<Object> {
    if len <= SCRATCH && !keeps {
        let memory = scratch();
        let received = fill(memory)?;
        // SAFETY: so many bytes were received there.
        let bytes = unsafe { ffi::PyBytes_FromStringAndSize(memory.cast(), received as isize) };
        return if bytes.is_null() { Err(raised(py)) } else { Ok(bytes) };
    }
    let bytes = NewBytes::allocate(py, len)?;
    let received = fill(bytes.start())?;
    bytes.cut(py, received)
}

/// Bytes that nobody else knows of yet.
struct NewBytes(Object);

impl NewBytes {
    fn allocate(py: Python<'_>, len: usize) -> PyResult<Self> {
        // SAFETY: makes bytes, which are not initialised.
        let bytes = unsafe { ffi::PyBytes_FromStringAndSize(ptr::null(), len as isize) };
        if bytes.is_null() { Err(raised(py)) } else { Ok(Self(bytes)) }
    }

    fn start(&self) -> *mut u8 {
        // SAFETY: bytes.
        unsafe { ffi::PyBytes_AsString(self.0).cast() }
    }

    /// The first `len` of them, which have been written. They stay where they are.
    fn cut(self, py: Python<'_>, len: usize) -> PyResult<Object> {
        let mut bytes = self.0;
        std::mem::forget(self);
        // SAFETY: an owned reference, the only one; null and dropped after an error.
        unsafe {
            if len < ffi::PyBytes_Size(bytes) as usize
                && _PyBytes_Resize(&raw mut bytes, len as isize) != 0
            {
                return Err(raised(py));
            }
        }
        Ok(bytes)
    }
}

impl Drop for NewBytes {
    fn drop(&mut self) {
        // SAFETY: an owned reference; the GIL is held where bytes are received.
        unsafe { ffi::Py_DECREF(self.0) };
    }
}

/// Receives bytes to where they stay. Nothing is held while waiting.
fn receive_in_place(
    operation: &mut Operation<'_, '_>,
    len: usize,
    flags: c_int,
) -> PyResult<Object> {
    let py = operation.py;
    let mut would_block = operation.is_exhausted();
    loop {
        if would_block {
            operation.wait()?;
        }
        let bytes = NewBytes::allocate(py, len)?;
        let start = bytes.start();
        // SAFETY: memory for `len` bytes.
        let received = operation.attempt(&mut |fd| unsafe { receive(fd, start, len, flags) })?;
        if let Some(received) = received {
            note_read(operation, received, len, flags);
            return bytes.cut(py, received);
        }
        would_block = true;
    }
}

/// A size that must not be negative.
fn length(py: Python<'_>, object: Object, function: &str) -> PyResult<usize> {
    usize::try_from(size(py, object, 0)?)
        .map_err(|_| PyValueError::new_err(format!("negative buffersize in {function}")))
}

pub fn recv(socket: Socket<'_, '_>, state: State<'_, '_>, call: Call) -> PyResult<Object> {
    let py = socket.py();
    // SAFETY: called by the vectorcall convention.
    let [len, flags] = unsafe { call.sort("recv", ["bufsize", "flags"], 1)? };
    let len = length(py, len, "recv")?;
    let flags = int(py, flags, 0)?;
    let mut operation = Operation::new(socket, state, Direction::Read, flags);
    let keeps = waits_for_all(&operation, flags);
    if !keeps && (len > SCRATCH || (len >= MUCH && state.get().reads_much())) {
        return receive_in_place(&mut operation, len, flags);
    }
    receive_bytes(py, len, keeps, |start| {
        // SAFETY: memory for `len` bytes, which is the caller's own if it has to keep them.
        unsafe { fill(&mut operation, start, len, flags) }
    })
}

/// The part of a buffer to receive into.
fn part(
    py: Python<'_>,
    buffer: &Buffer,
    size: Object,
    function: &str,
    too_big: &'static str,
) -> PyResult<usize> {
    match length(py, size, function)? {
        0 => Ok(buffer.len()),
        len if len <= buffer.len() => Ok(len),
        _ => Err(PyValueError::new_err(too_big)),
    }
}

pub fn recv_into(socket: Socket<'_, '_>, state: State<'_, '_>, call: Call) -> PyResult<Object> {
    let py = socket.py();
    // SAFETY: called by the vectorcall convention.
    let [buffer, size, flags] =
        unsafe { call.sort("recv_into", ["buffer", "nbytes", "flags"], 1)? };
    let flags = int(py, flags, 0)?;
    let buffer = Buffer::writable(py, buffer, "recv_into")?;
    let len = part(py, &buffer, size, "recv_into", "buffer too small for requested bytes")?;
    let mut operation = Operation::new(socket, state, Direction::Read, flags);
    // SAFETY: the buffer is held, and has at least `len` bytes.
    let received = unsafe { fill(&mut operation, buffer.start(), len, flags)? };
    // SAFETY: makes an int.
    Ok(unsafe { ffi::PyLong_FromSize_t(received) })
}

/// recvfrom(2).
///
/// # Safety
///
/// As for `receive`.
#[inline]
unsafe fn receive_from(
    fd: RawFd,
    start: *mut u8,
    len: usize,
    flags: c_int,
    address: &mut Address,
) -> isize {
    let sender = address.as_mut_ptr();
    // SAFETY: as the caller guarantees; the address has the room that `len` says.
    unsafe { libc::recvfrom(fd, start.cast(), len, flags, sender, &raw mut address.len) }
}

/// A tuple of an object, whose reference it takes, and an address.
fn with_address(py: Python<'_>, object: Object, address: &Address) -> PyResult<Object> {
    // SAFETY: an owned reference.
    let object = unsafe { Bound::from_owned_ptr(py, object) };
    // SAFETY: a new reference.
    let address = unsafe { Bound::from_owned_ptr(py, address.to_python(py)?) };
    Ok((object, address).into_pyobject(py)?.into_ptr())
}

pub fn recvfrom(socket: Socket<'_, '_>, state: State<'_, '_>, call: Call) -> PyResult<Object> {
    let py = socket.py();
    if !Address::knows(state.get().family()) {
        return delegate::recvfrom(socket, state, call);
    }
    // SAFETY: called by the vectorcall convention.
    let [len, flags] = unsafe { call.sort("recvfrom", ["bufsize", "flags"], 1)? };
    let len = length(py, len, "recvfrom")?;
    let flags = int(py, flags, 0)?;
    let mut operation = Operation::new(socket, state, Direction::Read, flags);
    let mut address = Address::new();
    let bytes = receive_bytes(py, len, false, |start| {
        // SAFETY: memory for `len` bytes.
        operation.run(|fd| unsafe { receive_from(fd, start, len, flags, &mut address) })
    })?;
    with_address(py, bytes, &address)
}

pub fn recvfrom_into(socket: Socket<'_, '_>, state: State<'_, '_>, call: Call) -> PyResult<Object> {
    let py = socket.py();
    if !Address::knows(state.get().family()) {
        return delegate::recvfrom_into(socket, state, call);
    }
    // SAFETY: called by the vectorcall convention.
    let [buffer, size, flags] =
        unsafe { call.sort("recvfrom_into", ["buffer", "nbytes", "flags"], 1)? };
    let flags = int(py, flags, 0)?;
    let buffer = Buffer::writable(py, buffer, "recvfrom_into")?;
    let too_big = "nbytes is greater than the length of the buffer";
    let len = part(py, &buffer, size, "recvfrom_into", too_big)?;
    let mut operation = Operation::new(socket, state, Direction::Read, flags);
    let mut address = Address::new();
    let start = buffer.start();
    // SAFETY: the buffer is held, and has at least `len` bytes.
    let received =
        operation.run(|fd| unsafe { receive_from(fd, start, len, flags, &mut address) })?;
    // SAFETY: makes an int.
    with_address(py, unsafe { ffi::PyLong_FromSize_t(received) }, &address)
}

pub fn accept(socket: Socket<'_, '_>, state: State<'_, '_>, call: Call) -> PyResult<Object> {
    let py = socket.py();
    if !Address::knows(state.get().family()) {
        return delegate::accept(socket, state, call);
    }
    // SAFETY: called by the vectorcall convention.
    let [] = unsafe { call.sort("_accept", [], 0)? };
    let mut operation = Operation::new(socket, state, Direction::Read, 0);
    let mut address = Address::new();
    let fd = operation.run(|fd| accept_at(fd, &mut address))?;
    accepted(py, fd as RawFd, &address)
}

/// accept4(2), for a non-blocking descriptor that children do not inherit.
fn accept_at(listener: RawFd, address: &mut Address) -> isize {
    let peer = address.as_mut_ptr();
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the address has the room that `len` says.
    unsafe { libc::accept4(listener, peer, &raw mut address.len, flags) as isize }
}

/// The descriptor of a connection and the address of the peer, as a tuple.
fn accepted(py: Python<'_>, fd: RawFd, address: &Address) -> PyResult<Object> {
    // SAFETY: a new descriptor, closed unless it is given away below.
    let connection = unsafe { OwnedFd::from_raw_fd(fd) };
    let number = fd.into_pyobject(py)?.into_ptr();
    let pair = with_address(py, number, address)?;
    std::mem::forget(connection);
    Ok(pair)
}

/// Whether there is something to read, or to accept, right now.
///
/// Before another accept(2) this pays: one that finds nothing has made a socket all the same, and
/// takes several times as long.
#[pyfunction]
pub fn _is_readable(fd: RawFd) -> bool {
    is_ready(fd, Direction::Read)
}

/// Accepts a connection if there is one, without waiting: returns its descriptor, which is
/// non-blocking, and the address of the peer; None if there is none. The address is None for
/// families that only the standard module knows.
///
/// Raises OSError.
#[pyfunction]
pub fn _accept_pending(py: Python<'_>, fd: RawFd, family: i32) -> PyResult<Option<Py<PyAny>>> {
    let is_known = Address::knows(family);
    loop {
        let mut address = Address::new();
        let connection = accept_at(fd, &mut address);
        if connection < 0 {
            match errno() {
                libc::EAGAIN => return Ok(None),
                libc::EINTR => check_signals(py)?,
                // Of the connection, not of the listener: the peer has given it up meanwhile.
                libc::ECONNABORTED
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::ENONET
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH => {}
                _ => return Err(last_error(py)),
            }
            continue;
        }
        let connection = connection as RawFd;
        if !is_known {
            return Ok(Some((connection, py.None()).into_py_any(py)?));
        }
        // SAFETY: a new reference.
        let pair = unsafe { Bound::from_owned_ptr(py, accepted(py, connection, &address)?) };
        return Ok(Some(pair.unbind()));
    }
}
