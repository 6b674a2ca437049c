//! `recv`, `recv_into`, `recvfrom`, `recvfrom_into` and `accept`.

use super::address::Address;
use super::arguments::{Buffer, Call, int, size};
use super::delegate;
use super::errors::raised;
use super::state::SocketState;
use super::wait::{Direction, Operation};
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
const SCRATCH: usize = 64 * 1024;

thread_local! {
    static MEMORY: UnsafeCell<Vec<u8>> = const { UnsafeCell::new(Vec::new()) };
}

/// The thread's scratch memory. What is in it is lost when the greenlet waits.
fn scratch() -> *mut u8 {
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
) -> PyResult<usize> {
    // SAFETY: as the caller guarantees.
    let mut received = operation.run(|fd| unsafe { receive(fd, start, len, flags) })?;
    if !waits_for_all(operation, flags) {
        return Ok(received);
    }
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
fn receive_bytes(
    py: Python<'_>,
    len: usize,
    keeps: bool,
    mut fill: impl FnMut(*mut u8) -> PyResult<usize>,
) -> PyResult<Object> {
    if len <= SCRATCH && !keeps {
        let memory = scratch();
        let received = fill(memory)?;
        // SAFETY: so many bytes were received there.
        let bytes = unsafe { ffi::PyBytes_FromStringAndSize(memory.cast(), received as isize) };
        return if bytes.is_null() { Err(raised(py)) } else { Ok(bytes) };
    }
    // SAFETY: fresh bytes, which nobody else knows of until they are resized.
    unsafe {
        let mut bytes = ffi::PyBytes_FromStringAndSize(ptr::null(), len as isize);
        if bytes.is_null() {
            return Err(raised(py));
        }
        let received = match fill(ffi::PyBytes_AsString(bytes).cast()) {
            Ok(received) => received,
            Err(error) => {
                ffi::Py_DECREF(bytes);
                return Err(error);
            }
        };
        if received < len && _PyBytes_Resize(&raw mut bytes, received as isize) != 0 {
            return Err(raised(py));
        }
        Ok(bytes)
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
    let fd = operation.run(|fd| {
        let peer = address.as_mut_ptr();
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: the address has the room that `len` says.
        unsafe { libc::accept4(fd, peer, &raw mut address.len, flags) as isize }
    })? as RawFd;
    // SAFETY: a new descriptor, closed unless it is given away below.
    let connection = unsafe { OwnedFd::from_raw_fd(fd) };
    let number = fd.into_pyobject(py)?.into_ptr();
    let pair = with_address(py, number, &address)?;
    std::mem::forget(connection);
    Ok(pair)
}
