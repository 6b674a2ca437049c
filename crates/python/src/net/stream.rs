//! Reading and writing pipes, and whatever else has a descriptor, whether or not it is non-blocking.
//!
//! `O_NONBLOCK` belongs to the open file, which other processes may have too: a child whose standard
//! input is made non-blocking by its parent fails. So it is left as it is, and the system is asked for
//! a single call that does not wait (`RWF_NOWAIT`). Files that have no such calls are asked first
//! whether they are ready; then reading does not wait, nor does writing as much as a page, which is
//! what a pipe has room for when it says so.

use super::errors::{check_signals, errno, last_error};
use super::wait::{Direction, is_ready};
use crate::hub::wait::{Reason, Wait};
use crate::net::errors::closed_elsewhere;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::os::fd::RawFd;

/// As much as a pipe takes that is ready for writing.
const PAGE: usize = 4096;

/// Bytes to read or write.
#[derive(Clone, Copy)]
struct Span {
    start: *mut u8,
    len: usize,
}

/// _read_stream(fd, size)
/// --
///
/// Waits until a descriptor has something to read; returns up to `size` bytes of it, none at the end.
#[pyfunction]
fn _read_stream<'py>(py: Python<'py>, fd: RawFd, size: usize) -> PyResult<Bound<'py, PyBytes>> {
    loop {
        if let Some(bytes) = read_bytes(py, fd, size)? {
            return Ok(bytes);
        }
        wait(py, fd, Direction::Read)?;
    }
}

/// Reads what there is. Out of line, so that a greenlet that waits has no memory for it on its stack.
#[inline(never)]
fn read_bytes(py: Python<'_>, fd: RawFd, size: usize) -> PyResult<Option<Bound<'_, PyBytes>>> {
    if size <= PAGE {
        let mut bytes = [0_u8; PAGE];
        let span = Span { start: bytes.as_mut_ptr(), len: size };
        // SAFETY: memory of this length.
        let count = unsafe { transfer(py, fd, Direction::Read, span)? };
        return Ok(count.map(|count| PyBytes::new(py, &bytes[..count])));
    }
    let mut bytes = Vec::<u8>::with_capacity(size);
    let span = Span { start: bytes.as_mut_ptr(), len: size };
    // SAFETY: memory of this length, of which so much is initialized then.
    unsafe {
        let count = transfer(py, fd, Direction::Read, span)?;
        bytes.set_len(count.unwrap_or(0));
        Ok(count.map(|_| PyBytes::new(py, &bytes)))
    }
}

/// _read_stream_into(fd, buffer)
/// --
///
/// As `_read_stream`, into a buffer. Returns the number of bytes.
#[pyfunction]
fn _read_stream_into(py: Python<'_>, fd: RawFd, buffer: PyBuffer<u8>) -> PyResult<usize> {
    if buffer.readonly() || !buffer.is_c_contiguous() {
        return Err(PyValueError::new_err("a writable contiguous buffer is needed"));
    }
    let span = Span { start: buffer.buf_ptr().cast(), len: buffer.len_bytes() };
    // SAFETY: the buffer is held.
    unsafe { transfer_waiting(py, fd, Direction::Read, span) }
}

/// _write_stream(fd, data)
/// --
///
/// Waits until a descriptor can be written to, and writes some of the data. Returns how many bytes.
#[pyfunction]
fn _write_stream(py: Python<'_>, fd: RawFd, data: PyBuffer<u8>) -> PyResult<usize> {
    if !data.is_c_contiguous() {
        return Err(PyValueError::new_err("a contiguous buffer is needed"));
    }
    let span = Span { start: data.buf_ptr().cast(), len: data.len_bytes() };
    // SAFETY: the buffer is held; it is only read.
    unsafe { transfer_waiting(py, fd, Direction::Write, span) }
}

/// # Safety
///
/// The memory may be read, for a read also written, and stays while this waits.
unsafe fn transfer_waiting(
    py: Python<'_>,
    fd: RawFd,
    direction: Direction,
    span: Span,
) -> PyResult<usize> {
    loop {
        // SAFETY: as the caller guarantees.
        if let Some(count) = unsafe { transfer(py, fd, direction, span)? } {
            return Ok(count);
        }
        wait(py, fd, direction)?;
    }
}

/// Reads or writes as much as is possible without waiting; `None` if that is nothing.
///
/// # Safety
///
/// The memory may be read, for a read also written.
unsafe fn transfer(
    py: Python<'_>,
    fd: RawFd,
    direction: Direction,
    span: Span,
) -> PyResult<Option<usize>> {
    loop {
        // SAFETY: as the caller guarantees.
        let mut result = unsafe { at_once(fd, direction, span) };
        if result < 0 && !is_refusal(errno()) {
            if !is_ready(fd, direction) {
                return Ok(None);
            }
            // SAFETY: as the caller guarantees.
            result = unsafe { when_ready(py, fd, direction, span) };
        }
        if result >= 0 {
            return Ok(Some(result.unsigned_abs()));
        }
        match errno() {
            libc::EINTR => check_signals(py)?,
            // Somebody else was faster.
            number if !is_refusal(number) => return Ok(None),
            _ => return Err(last_error(py)),
        }
    }
}

/// Whether the error says something else than that the call would wait, or cannot be made like this.
fn is_refusal(number: i32) -> bool {
    !matches!(number, libc::EAGAIN | libc::EOPNOTSUPP | libc::ENOSYS)
}

unsafe fn at_once(fd: RawFd, direction: Direction, span: Span) -> isize {
    let entry = libc::iovec { iov_base: span.start.cast(), iov_len: span.len };
    // -1: at the file's position.
    // SAFETY: one valid entry, for memory as the caller guarantees.
    unsafe {
        match direction {
            Direction::Read => libc::preadv2(fd, &raw const entry, 1, -1, libc::RWF_NOWAIT),
            Direction::Write => libc::pwritev2(fd, &raw const entry, 1, -1, libc::RWF_NOWAIT),
        }
    }
}

unsafe fn when_ready(py: Python<'_>, fd: RawFd, direction: Direction, span: Span) -> isize {
    let start = span.start.expose_provenance();
    // Disks are always ready, and take their time.
    let (result, number) = py.detach(|| {
        let start = std::ptr::with_exposed_provenance_mut::<libc::c_void>(start);
        // SAFETY: memory as the caller guarantees.
        let result = unsafe {
            match direction {
                Direction::Read => libc::read(fd, start, span.len),
                Direction::Write => libc::write(fd, start, span.len.min(PAGE)),
            }
        };
        (result, errno())
    });
    // Taking the GIL may have changed it.
    // SAFETY: always valid for the calling thread.
    unsafe { *libc::__errno_location() = number };
    result
}

fn wait(py: Python<'_>, fd: RawFd, direction: Direction) -> PyResult<()> {
    let wait = Wait::begin(py, std::ptr::null_mut())?;
    match wait.park_on_fd(py, fd, 0, direction.interest(), None).into_result()? {
        Reason::Closed => Err(closed_elsewhere(py)),
        Reason::Notified | Reason::TimedOut => Ok(()),
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(_read_stream, module)?)?;
    module.add_function(wrap_pyfunction!(_read_stream_into, module)?)?;
    module.add_function(wrap_pyfunction!(_write_stream, module)?)
}
