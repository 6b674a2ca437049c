//! recv(2) and recvfrom(2) for transports and for the loop's calls on sockets.

use crate::net::address::Address;
use crate::net::errors::errno;
use crate::net::receive::{MUCH, SCRATCH, receive_bytes};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::cell::UnsafeCell;
use std::hint::black_box;
use std::os::fd::RawFd;
use std::sync::Once;

/// The most that one call takes.
pub const MOST: usize = 256 * 1024;

thread_local! {
    static MEMORY: UnsafeCell<Vec<u8>> = const { UnsafeCell::new(Vec::new()) };
}

/// Whether a read that brought so many bytes lets the next one expect as many that it pays to have
/// them received where they stay. What is larger than 64 KiB is copied all the same: the C library
/// would get memory of that size from the system each time, page by page.
#[inline]
pub fn is_much(received: usize) -> bool {
    (MUCH..=SCRATCH).contains(&received)
}

/// Receives up to `most` bytes, without waiting, or the error's number. For none there is nothing to wait
/// for, though the system would.
///
/// `expects_much`: what `is_much` said of the last read.
#[inline]
pub fn receive(
    py: Python<'_>,
    fd: RawFd,
    most: usize,
    expects_much: bool,
) -> PyResult<Result<Bound<'_, PyBytes>, i32>> {
    if most == 0 {
        return Ok(Ok(PyBytes::new(py, b"")));
    }
    let most = most.min(MOST);
    if expects_much && most >= MUCH {
        return receive_much(py, fd, most);
    }
    with_memory(|memory| {
        // SAFETY: so much memory.
        match unsafe { receive_at(fd, memory.as_mut_ptr(), most) } {
            Ok(received) => Ok(Ok(PyBytes::new(py, &memory[..received]))),
            Err(errno) => Ok(Err(errno)),
        }
    })
}

/// As `receive`: up to 64 KiB to where they stay, and what comes in excess of that to other memory,
/// from where it is copied with the rest.
fn receive_much(
    py: Python<'_>,
    fd: RawFd,
    most: usize,
) -> PyResult<Result<Bound<'_, PyBytes>, i32>> {
    keep_freed_memory();
    let staying = most.min(SCRATCH);
    with_memory(|memory| {
        let mut outcome = Ok(0);
        let bytes = receive_bytes(py, staying, true, |start| {
            let mut parts = [(start, staying), (memory.as_mut_ptr(), most - staying)]
                .map(|(start, len)| libc::iovec { iov_base: start.cast(), iov_len: len });
            // SAFETY: both are memory that may be written.
            outcome = unsafe { receive_parts(fd, &mut parts) };
            Ok(outcome.unwrap_or(0).min(staying))
        })?;
        // SAFETY: an owned reference to bytes.
        let bytes = unsafe { Bound::from_owned_ptr(py, bytes).cast_into_unchecked::<PyBytes>() };
        match outcome {
            Ok(received) if received > staying => {
                let (first, excess) = (bytes.as_bytes(), &memory[..received - staying]);
                let whole = PyBytes::new_with(py, received, |whole| {
                    let (head, tail) = whole.split_at_mut(staying);
                    head.copy_from_slice(first);
                    tail.copy_from_slice(excess);
                    Ok(())
                })?;
                Ok(Ok(whole))
            }
            outcome => Ok(outcome.map(|_| bytes)),
        }
    })
}

/// Calls a function, which runs no Python code, with the thread's `MOST` bytes of memory.
#[inline]
fn with_memory<R>(function: impl FnOnce(&mut [u8]) -> R) -> R {
    MEMORY.with(|memory| {
        // SAFETY: nothing else uses the memory meanwhile: no Python code runs.
        let memory = unsafe { &mut *memory.get() };
        if memory.is_empty() {
            memory.resize(MOST, 0);
        }
        function(memory)
    })
}

/// Has the C library keep the memory of messages that were freed. Otherwise glibc gives the end of the heap
/// back to the system as soon as 128 KiB of it are free, and gets it again for the next message, page by
/// page, which takes as long as to copy it. It stops doing that when it sees that larger blocks come and
/// go: here is one. A program that has freed any of this size has had the same effect.
fn keep_freed_memory() {
    const BLOCK: usize = 1 << 20;
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: allocated, or null, and freed.
        unsafe { libc::free(black_box(libc::malloc(BLOCK))) };
    });
}

/// Receives into memory; see `receive`.
///
/// # Safety
///
/// `start` points to `len` bytes that may be written.
#[inline]
pub unsafe fn receive_at(fd: RawFd, start: *mut u8, len: usize) -> Result<usize, i32> {
    if len == 0 {
        return Ok(0);
    }
    // SAFETY: as the caller guarantees.
    let received = unsafe { libc::recv(fd, start.cast(), len, libc::MSG_DONTWAIT) };
    usize::try_from(received).map_err(|_| errno())
}

/// Receives a datagram of up to `MOST` bytes, without waiting, or the error's number. Its sender's
/// address goes to `sender`.
#[inline]
pub fn receive_from<'py>(
    py: Python<'py>,
    fd: RawFd,
    sender: &mut Address,
) -> Result<Bound<'py, PyBytes>, i32> {
    with_memory(|memory| {
        // SAFETY: so much memory.
        let received = unsafe { receive_from_at(fd, memory.as_mut_ptr(), MOST, sender) }?;
        Ok(PyBytes::new(py, &memory[..received]))
    })
}

/// Receives a datagram into memory; see `receive_from`.
///
/// # Safety
///
/// `start` points to `len` bytes that may be written.
#[inline]
pub unsafe fn receive_from_at(
    fd: RawFd,
    start: *mut u8,
    len: usize,
    sender: &mut Address,
) -> Result<usize, i32> {
    let address = sender.as_mut_ptr();
    // SAFETY: as the caller guarantees; the address has the room that its length says.
    let received = unsafe {
        libc::recvfrom(fd, start.cast(), len, libc::MSG_DONTWAIT, address, &raw mut sender.len)
    };
    usize::try_from(received).map_err(|_| errno())
}

/// Receives into several pieces of memory, one after the other; see `receive`.
///
/// # Safety
///
/// The parts are memory that may be written.
unsafe fn receive_parts(fd: RawFd, parts: &mut [libc::iovec]) -> Result<usize, i32> {
    // SAFETY: zeroed is a valid message; the parts are as the caller guarantees.
    let received = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = parts.as_mut_ptr();
        message.msg_iovlen = parts.len() as _;
        libc::recvmsg(fd, &raw mut message, libc::MSG_DONTWAIT)
    };
    usize::try_from(received).map_err(|_| errno())
}
