//! Bytes in and out of a connection.

use crate::errors::os_error;
use crate::net::attach::plain_state;
use crate::net::errors::{check_signals, errno, timed_out};
use crate::net::receive::{SCRATCH, scratch};
use crate::net::state::{Parked, SocketState};
use crate::net::wait::{Direction, Operation};
use greenloop_reactor::monotonic_ns;
use pyo3::exceptions::{PyBlockingIOError, PyTimeoutError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, PyVisit};
use std::os::fd::RawFd;
use std::{ptr, slice};

/// How many pieces go to the system in one call.
const MAX_PIECES: usize = 16;

/// What came of waiting for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    Data(usize),
    /// The peer sends no more.
    End,
    TimedOut,
}

/// A socket that a server reads from and writes to.
pub struct Wire {
    socket: Py<PyAny>,
    /// That of a plain socket. Others, of TLS or of classes of a program's own, are used by their
    /// methods.
    state: Option<Py<SocketState>>,
    /// What is read from in place of the socket.
    rfile: Option<Py<PyAny>>,
}

impl Wire {
    pub fn new(socket: &Bound<'_, PyAny>, rfile: Option<Py<PyAny>>) -> Self {
        let state = plain_state(socket).map(Bound::unbind);
        Self { socket: socket.clone().unbind(), state, rfile }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.socket)?;
        visit.call(&self.state)?;
        visit.call(&self.rfile)
    }

    pub fn socket<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.socket.bind(py)
    }

    pub fn state<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, SocketState>> {
        self.state.as_ref().map(|state| state.bind(py))
    }

    /// Appends what comes in to `out`, waiting up to the deadline (nanoseconds of the monotonic
    /// clock) for something to come. Nothing is allocated before.
    pub fn receive(
        &self,
        py: Python<'_>,
        out: &mut Vec<u8>,
        deadline: Option<u64>,
    ) -> PyResult<Received> {
        let (Some(state), None) = (self.state(py), &self.rfile) else {
            return self.receive_by_method(py, out, SCRATCH, deadline);
        };
        let memory = scratch();
        // SAFETY: the thread's memory; what is in it is used before anybody else runs.
        let received = unsafe { self.receive_at(py, state, memory, SCRATCH, deadline)? };
        if let Received::Data(length) = received {
            // SAFETY: so many bytes were received there.
            out.extend_from_slice(unsafe { slice::from_raw_parts(memory, length) });
        }
        Ok(received)
    }

    /// As `receive`, for `most` bytes at most, which are not copied on the way.
    pub fn receive_up_to(
        &self,
        py: Python<'_>,
        out: &mut Vec<u8>,
        most: usize,
        deadline: Option<u64>,
    ) -> PyResult<Received> {
        let (Some(state), None) = (self.state(py), &self.rfile) else {
            return self.receive_by_method(py, out, most, deadline);
        };
        out.reserve(most);
        let start = out.spare_capacity_mut().as_mut_ptr().cast();
        // SAFETY: memory reserved for so many bytes, in a vector that is borrowed for the call; of
        // it so many are counted in as were written.
        unsafe {
            let received = self.receive_at(py, state, start, most, deadline)?;
            if let Received::Data(length) = received {
                out.set_len(out.len() + length);
            }
            Ok(received)
        }
    }

    /// # Safety
    ///
    /// `start` gives memory for `len` bytes that may be written. Its contents are lost if the
    /// greenlet waits.
    unsafe fn receive_at(
        &self,
        py: Python<'_>,
        state: &Bound<'_, SocketState>,
        start: *mut u8,
        len: usize,
        deadline: Option<u64>,
    ) -> PyResult<Received> {
        // What the last read has emptied is waited for at once.
        let mut is_empty = state.get().is_exhausted(py);
        loop {
            if !is_empty {
                // SAFETY: as the caller guarantees.
                let length = unsafe { libc::recv(state.get().fd(), start.cast(), len, 0) };
                match usize::try_from(length) {
                    Ok(0) => return Ok(Received::End),
                    Ok(length) => {
                        if length < len {
                            state.get().note_short_read(py);
                        }
                        return Ok(Received::Data(length));
                    }
                    Err(_) => match errno() {
                        libc::EINTR => {
                            check_signals(py)?;
                            continue;
                        }
                        libc::EAGAIN => {}
                        number => return Err(os_error(py, number)),
                    },
                }
            }
            is_empty = false;
            let (socket, read) = (self.socket.bind(py), Direction::Read);
            match SocketState::park_in(state, socket, read.place(), read, deadline)? {
                Parked::Ready => {}
                Parked::TimedOut => return Ok(Received::TimedOut),
            }
        }
    }

    fn receive_by_method(
        &self,
        py: Python<'_>,
        out: &mut Vec<u8>,
        most: usize,
        deadline: Option<u64>,
    ) -> PyResult<Received> {
        let socket = self.socket.bind(py);
        self.set_timeout(py, deadline.map(seconds_until))?;
        let data = match self.rfile.as_ref().map(|rfile| rfile.bind(py)) {
            None => socket.call_method1("recv", (most,)),
            Some(rfile) if rfile.hasattr("read1")? => rfile.call_method1("read1", (most,)),
            // It would wait for all that is asked for.
            Some(rfile) => rfile.call_method1("read", (1,)),
        };
        match data {
            Ok(data) => {
                let data = data.cast::<PyBytes>()?.as_bytes();
                out.extend_from_slice(data);
                Ok(if data.is_empty() { Received::End } else { Received::Data(data.len()) })
            }
            Err(error) if error.is_instance_of::<PyTimeoutError>(py) => Ok(Received::TimedOut),
            Err(error) => Err(error),
        }
    }

    fn set_timeout(&self, py: Python<'_>, seconds: Option<f64>) -> PyResult<()> {
        self.socket.bind(py).call_method1("settimeout", (seconds,))?;
        Ok(())
    }

    /// Sends all of some pieces, in as few packets as they fit in. `timeout` (seconds) is for each
    /// wait in which the peer takes nothing.
    ///
    /// # Errors
    ///
    /// OSError; TimeoutError; whatever is thrown into the greenlet.
    pub fn send(&self, py: Python<'_>, pieces: &[&[u8]], timeout: Option<f64>) -> PyResult<()> {
        let Some(state) = self.state(py) else {
            return self.send_by_method(py, pieces, timeout);
        };
        let socket = self.socket.bind(py);
        let mut position = Position::default();
        while let Some((vectors, count)) = position.vectors(pieces) {
            let mut operation = Operation::new(socket, state, Direction::Write, 0);
            operation.limit(timeout);
            let sent = operation.run(|fd| send_vectors(fd, &vectors[..count]))?;
            position.advance(pieces, sent);
        }
        Ok(())
    }

    /// Sends what can be sent without waiting. Returns how many bytes that was.
    ///
    /// # Errors
    ///
    /// OSError.
    pub fn try_send(&self, py: Python<'_>, pieces: &[&[u8]]) -> PyResult<usize> {
        let Some(state) = self.state(py) else { return self.try_send_by_method(py, pieces) };
        let mut position = Position::default();
        let mut total = 0;
        while let Some((vectors, count)) = position.vectors(pieces) {
            let sent = send_vectors(state.get().fd(), &vectors[..count]);
            match usize::try_from(sent) {
                Ok(sent) => {
                    position.advance(pieces, sent);
                    total += sent;
                }
                Err(_) => match errno() {
                    libc::EINTR => check_signals(py)?,
                    libc::EAGAIN => break,
                    number => return Err(os_error(py, number)),
                },
            }
        }
        Ok(total)
    }

    fn try_send_by_method(&self, py: Python<'_>, pieces: &[&[u8]]) -> PyResult<usize> {
        // Others who wait on the socket have taken note of its timeout.
        self.set_timeout(py, Some(0.0))?;
        let data = PyBytes::new(py, &pieces.concat());
        match self.socket.bind(py).call_method1("send", (data,)) {
            Ok(sent) => sent.extract(),
            Err(error) if is_want(py, &error)? => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn send_by_method(
        &self,
        py: Python<'_>,
        pieces: &[&[u8]],
        timeout: Option<f64>,
    ) -> PyResult<()> {
        self.set_timeout(py, timeout)?;
        let data = match pieces {
            [piece] => PyBytes::new(py, piece),
            pieces => PyBytes::new(py, &pieces.concat()),
        };
        self.socket.bind(py).call_method1("sendall", (data,))?;
        Ok(())
    }

    /// Waits until the socket takes data, for calls that are tried elsewhere.
    pub fn wait_writable(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let Some(state) = self.state(py) else { return Err(timed_out()) };
        let mut operation = Operation::new(self.socket.bind(py), state, Direction::Write, 0);
        operation.limit(timeout);
        Ok(operation.wait_unless_ready()?)
    }
}

/// Whether an error says only that a call would have to wait.
fn is_want(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    if error.is_instance_of::<PyBlockingIOError>(py) {
        return Ok(true);
    }
    let ssl = py.import("ssl")?;
    Ok(error.is_instance(py, &ssl.getattr("SSLWantWriteError")?)
        || error.is_instance(py, &ssl.getattr("SSLWantReadError")?))
}

fn seconds_until(deadline: u64) -> f64 {
    // 0 would mean not to wait, and to fail otherwise than by a timeout.
    deadline.saturating_sub(monotonic_ns()).max(1) as f64 / 1e9
}

/// How much of some pieces has been sent.
#[derive(Default)]
struct Position {
    piece: usize,
    offset: usize,
}

impl Position {
    /// What is to be sent next; `None` if all is.
    fn vectors(&mut self, pieces: &[&[u8]]) -> Option<([libc::iovec; MAX_PIECES], usize)> {
        const NOTHING: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        self.skip_finished(pieces);
        let mut vectors = [NOTHING; MAX_PIECES];
        let mut count = 0;
        let mut offset = self.offset;
        for piece in pieces[self.piece..].iter().take(MAX_PIECES) {
            let rest = &piece[offset..];
            offset = 0;
            vectors[count] =
                libc::iovec { iov_base: rest.as_ptr().cast_mut().cast(), iov_len: rest.len() };
            count += 1;
        }
        (count > 0).then_some((vectors, count))
    }

    fn advance(&mut self, pieces: &[&[u8]], sent: usize) {
        self.offset += sent;
        self.skip_finished(pieces);
    }

    fn skip_finished(&mut self, pieces: &[&[u8]]) {
        while let Some(piece) = pieces.get(self.piece)
            && self.offset >= piece.len()
        {
            self.offset -= piece.len();
            self.piece += 1;
        }
    }
}

fn send_vectors(fd: RawFd, vectors: &[libc::iovec]) -> isize {
    if let [only] = vectors {
        // SAFETY: the piece is borrowed by the caller.
        return unsafe { libc::send(fd, only.iov_base, only.iov_len, libc::MSG_NOSIGNAL) };
    }
    // SAFETY: plain data, of which zero is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_ptr().cast_mut();
    message.msg_iovlen = vectors.len() as _;
    // SAFETY: the pieces are borrowed by the caller.
    unsafe { libc::sendmsg(fd, &raw const message, libc::MSG_NOSIGNAL) }
}
