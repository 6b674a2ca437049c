//! Sending a question and waiting for the answer.

use crate::hub::wait::{Reason, Wait};
use crate::net::state::forget;
use greenloop_dns::exchange::{Exchange, Try};
use greenloop_dns::message::Failure;
use greenloop_reactor::{Interest, monotonic_ns};
use pyo3::prelude::*;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
    sockopt,
};
use std::os::fd::{AsRawFd, OwnedFd};

/// More than answers to datagrams are, as a rule. What is cut off is no answer.
const DATAGRAM: usize = 4096;

/// How a try ended.
enum End {
    /// The exchange has an answer, or goes on otherwise.
    Answered,
    /// It brought nothing.
    Lost(Failure),
    /// An exception was thrown into the greenlet.
    Thrown(PyErr),
}

impl From<Errno> for End {
    fn from(error: Errno) -> Self {
        match error {
            Errno::TIMEDOUT => Self::Lost(Failure::Timeout),
            _ => Self::Lost(Failure::Unreachable),
        }
    }
}

/// Sends the message of a try, and hands what comes back to the exchange.
///
/// # Errors
///
/// What is thrown into the greenlet meanwhile.
pub fn make(py: Python<'_>, attempt: &Try, exchange: &mut Exchange) -> PyResult<()> {
    let ended = match Connection::new(attempt) {
        Err(error) => error.into(),
        Ok(connection) => {
            let ended = if attempt.tcp {
                connection.over_tcp(py, &attempt.message, exchange)
            } else {
                connection.over_udp(py, &attempt.message, exchange)
            };
            ended.unwrap_or_else(|end| end)
        }
    };
    match ended {
        End::Answered => Ok(()),
        End::Lost(failure) => {
            exchange.lost(failure);
            Ok(())
        }
        End::Thrown(error) => Err(error),
    }
}

/// A socket of its own for each try. So its port is another one each time, chosen by the kernel at
/// random, and as it is connected only the server's messages arrive.
struct Connection {
    fd: OwnedFd,
    deadline: u64,
}

impl Connection {
    fn new(attempt: &Try) -> Result<Self, Errno> {
        let family =
            if attempt.server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let kind = if attempt.tcp { SocketType::STREAM } else { SocketType::DGRAM };
        let fd = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
        match connect(&fd, &attempt.server) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let deadline = monotonic_ns().saturating_add(attempt.patience);
        Ok(Self { fd, deadline })
    }

    fn over_udp(
        &self,
        py: Python<'_>,
        message: &[u8],
        exchange: &mut Exchange,
    ) -> Result<End, End> {
        send(&self.fd, message, SendFlags::NOSIGNAL)?;
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let size = self.when_ready(py, Interest::READABLE, || {
                recv(&self.fd, &mut buffer[..], RecvFlags::empty()).map(|(size, _)| size)
            })?;
            // Others may be late, or not from the server at all.
            if exchange.received(&buffer[..size]) {
                return Ok(End::Answered);
            }
        }
    }

    fn over_tcp(
        &self,
        py: Python<'_>,
        message: &[u8],
        exchange: &mut Exchange,
    ) -> Result<End, End> {
        let size = (message.len() as u16).to_be_bytes();
        let framed = [&size[..], message].concat();
        let mut sent = 0;
        while sent < framed.len() {
            sent += self.when_ready(py, Interest::WRITABLE, || {
                sockopt::socket_error(&self.fd)??;
                match send(&self.fd, &framed[sent..], SendFlags::NOSIGNAL) {
                    // The connection is not made yet.
                    Err(Errno::NOTCONN) => Err(Errno::AGAIN),
                    other => other,
                }
            })?;
        }
        let mut size = [0; 2];
        self.fill(py, &mut size)?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(size))];
        self.fill(py, &mut answer)?;
        Ok(if exchange.received(&answer) { End::Answered } else { End::Lost(Failure::Server) })
    }

    fn fill(&self, py: Python<'_>, buffer: &mut [u8]) -> Result<(), End> {
        let mut filled = 0;
        while filled < buffer.len() {
            let size = self.when_ready(py, Interest::READABLE, || {
                recv(&self.fd, &mut buffer[filled..], RecvFlags::empty()).map(|(size, _)| size)
            })?;
            if size == 0 {
                return Err(End::Lost(Failure::Server));
            }
            filled += size;
        }
        Ok(())
    }

    /// Makes a system call until it does not have to wait any more.
    fn when_ready(
        &self,
        py: Python<'_>,
        interest: Interest,
        mut call: impl FnMut() -> Result<usize, Errno>,
    ) -> Result<usize, End> {
        loop {
            match call() {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(py, interest)?,
                other => return Ok(other?),
            }
        }
    }

    fn wait(&self, py: Python<'_>, interest: Interest) -> Result<(), End> {
        let reason = Wait::begin(py, std::ptr::null_mut())
            .and_then(|wait| {
                let fd = self.fd.as_raw_fd();
                wait.park_on_fd(py, fd, 0, interest, Some(self.deadline)).into_result()
            })
            .map_err(End::Thrown)?;
        match reason {
            Reason::Notified => Ok(()),
            Reason::TimedOut => Err(End::Lost(Failure::Timeout)),
            // The next system call says what is wrong.
            Reason::Closed => Ok(()),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: queries run with the GIL held.
        forget(unsafe { Python::assume_attached() }, self.fd.as_raw_fd());
    }
}
