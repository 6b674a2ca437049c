//! Bytes that the system has not taken yet.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::VecDeque;
use std::os::fd::RawFd;

/// How many pieces one system call is given at most. The limit is 1024 (`IOV_MAX`); more than these
/// are not taken at once anyway.
const PIECES: usize = 64;

/// What is to be sent, in pieces as they were written.
#[derive(Default)]
pub struct Outgoing {
    pieces: VecDeque<Py<PyBytes>>,
    /// How much of the first piece has been sent.
    sent: usize,
    size: usize,
}

impl Outgoing {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Bytes that are to be sent.
    #[inline]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Adds bytes, of which `sent` have been sent already, which they can be if there are no others.
    pub fn push(&mut self, py: Python<'_>, bytes: Py<PyBytes>, sent: usize) {
        let len = bytes.as_bytes(py).len();
        debug_assert!(sent == 0 || self.pieces.is_empty());
        if sent < len {
            if self.pieces.is_empty() {
                self.sent = sent;
            }
            self.size += len - sent;
            self.pieces.push_back(bytes);
        }
    }

    /// Takes everything out, to be dropped where Python code may run.
    #[must_use]
    pub fn take(&mut self) -> VecDeque<Py<PyBytes>> {
        self.size = 0;
        self.sent = 0;
        std::mem::take(&mut self.pieces)
    }

    /// Sends as much as the system takes by one call: the pieces that are done with, to be dropped
    /// where Python code may run, or the error's number.
    pub fn send(&mut self, py: Python<'_>, fd: RawFd) -> Result<Vec<Py<PyBytes>>, i32> {
        let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; PIECES];
        let mut count = 0;
        for (vector, piece) in vectors.iter_mut().zip(&self.pieces) {
            let skipped = if count == 0 { self.sent } else { 0 };
            let bytes = &piece.as_bytes(py)[skipped..];
            *vector =
                libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            count += 1;
        }
        let mut taken = send_vectors(fd, &mut vectors[..count])?;
        self.size -= taken;
        let mut done = Vec::new();
        while let Some(first) = self.pieces.front() {
            let left = first.as_bytes(py).len() - self.sent;
            if taken < left {
                self.sent += taken;
                break;
            }
            taken -= left;
            self.sent = 0;
            done.extend(self.pieces.pop_front());
        }
        Ok(done)
    }
}

/// Sends bytes, without waiting: how many the system took, or the error's number.
#[inline]
pub fn send(fd: RawFd, start: *const u8, len: usize) -> Result<usize, i32> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the caller holds the memory.
    let sent = unsafe { libc::send(fd, start.cast(), len, flags) };
    usize::try_from(sent).map_err(|_| crate::net::errors::errno())
}

fn send_vectors(fd: RawFd, vectors: &mut [libc::iovec]) -> Result<usize, i32> {
    // SAFETY: zeroed is a valid message; the vectors describe memory that is held.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = vectors.as_mut_ptr();
        message.msg_iovlen = vectors.len() as _;
        libc::sendmsg(fd, &raw const message, libc::MSG_NOSIGNAL)
    };
    usize::try_from(sent).map_err(|_| crate::net::errors::errno())
}

/// Whether a call is to be made again once the descriptor is ready.
#[inline]
pub fn is_later(errno: i32) -> bool {
    matches!(errno, libc::EAGAIN | libc::EINTR)
}

/// The bytes of an object that is `bytes`, or a copy of what else has bytes.
pub fn to_bytes(object: &Bound<'_, PyAny>, start: *const u8, len: usize) -> PyResult<Py<PyBytes>> {
    if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        return Ok(bytes.clone().unbind());
    }
    // SAFETY: the caller holds the memory.
    unsafe {
        let copy = ffi::PyBytes_FromStringAndSize(start.cast(), len as ffi::Py_ssize_t);
        Ok(Bound::from_owned_ptr_or_err(object.py(), copy)?.cast_into_unchecked().unbind())
    }
}
