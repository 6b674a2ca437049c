//! The system calls.

use super::call::SocketCall;
use super::known::Known;
use crate::aio::receiving::{MOST, is_much, receive, receive_at, receive_from_at};
use crate::aio::transport::{is_later, send};
use crate::errors::os_error;
use crate::net::address::Address;
use crate::net::arguments::Buffer;
use crate::net::receive::receive_bytes;
use greenloop_reactor::Interest;
use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use std::cell::Cell;
use std::os::fd::RawFd;
use std::ptr;

type Object = *mut ffi::PyObject;

/// What is called on a socket.
pub enum Operation {
    Receive {
        most: usize,
    },
    ReceiveInto {
        buffer: Py<PyAny>,
    },
    ReceiveFrom {
        most: usize,
    },
    /// With 0 as much as the buffer takes.
    ReceiveFromInto {
        buffer: Py<PyAny>,
        most: usize,
    },
    SendAll {
        data: Py<PyAny>,
        sent: Cell<usize>,
    },
    SendTo {
        data: Py<PyAny>,
        address: Py<PyAny>,
    },
}

impl Operation {
    pub fn interest(&self) -> Interest {
        match self {
            Self::SendAll { .. } | Self::SendTo { .. } => Interest::WRITABLE,
            _ => Interest::READABLE,
        }
    }

    pub fn objects(&self) -> [Object; 2] {
        match self {
            Self::Receive { .. } | Self::ReceiveFrom { .. } => [ptr::null_mut(); 2],
            Self::ReceiveInto { buffer } | Self::ReceiveFromInto { buffer, .. } => {
                [buffer.as_ptr(), ptr::null_mut()]
            }
            Self::SendAll { data, .. } => [data.as_ptr(), ptr::null_mut()],
            Self::SendTo { data, address } => [data.as_ptr(), address.as_ptr()],
        }
    }
}

/// A system call until it is not interrupted: what it returns, None if it would block.
///
/// # Errors
///
/// OSError.
#[inline]
fn attempt<T>(
    py: Python<'_>,
    mut call: impl FnMut() -> PyResult<Result<T, i32>>,
) -> PyResult<Option<T>> {
    loop {
        match call()? {
            Ok(result) => return Ok(Some(result)),
            Err(libc::EINTR) => {}
            Err(errno) if is_later(errno) => return Ok(None),
            Err(errno) => return Err(os_error(py, errno)),
        }
    }
}

impl SocketCall {
    pub(super) fn fd(&self, py: Python<'_>) -> PyResult<RawFd> {
        self.socket.bind(py).call_method0(intern!(py, "fileno"))?.extract()
    }

    /// Makes the call: what it returns, None if it has to wait.
    #[inline]
    pub(super) fn call(&self, py: Python<'_>, fd: RawFd, known: Known) -> PyResult<Option<Object>> {
        match &self.operation {
            Operation::Receive { most } => self.receive(py, fd, known, *most),
            Operation::ReceiveInto { buffer } => {
                let buffer = Buffer::writable(py, buffer.as_ptr(), "recv_into")?;
                let (start, len) = (buffer.start(), buffer.len());
                // SAFETY: memory that the buffer holds.
                let call = || unsafe { receive_at(fd, start, len) };
                let received = attempt(py, || Ok(call()))?;
                self.note_read(py, fd, known, received, len);
                // SAFETY: makes an int.
                Ok(received.map(|received| unsafe { ffi::PyLong_FromSize_t(received) }))
            }
            Operation::ReceiveFrom { most } => self.receive_from(py, fd, known, *most),
            Operation::ReceiveFromInto { buffer, most } => {
                self.receive_from_into(py, fd, known, buffer, *most)
            }
            Operation::SendAll { data, sent } => {
                let buffer = Buffer::readable(py, data.as_ptr())?;
                while sent.get() < buffer.len() {
                    // SAFETY: within the memory that the buffer holds.
                    let start = unsafe { buffer.start().cast_const().add(sent.get()) };
                    let left = buffer.len() - sent.get();
                    match attempt(py, || Ok(send(fd, start, left)))? {
                        Some(count) => sent.set(sent.get() + count),
                        None => return Ok(None),
                    }
                }
                Ok(Some(py.None().into_ptr()))
            }
            Operation::SendTo { data, address } => {
                self.by_method(py, intern!(py, "sendto"), (data, address))
            }
        }
    }

    fn receive(
        &self,
        py: Python<'_>,
        fd: RawFd,
        known: Known,
        most: usize,
    ) -> PyResult<Option<Object>> {
        let sockets = &self.event_loop.bind(py).get().sockets;
        let much = sockets.reads_much(fd, None);
        let Some(received) = attempt(py, || receive(py, fd, most, much))? else {
            return Ok(None);
        };
        let size = received.as_bytes().len();
        self.note_read(py, fd, known, Some(size), most.min(MOST));
        sockets.reads_much(fd, Some(is_much(size)));
        Ok(Some(received.into_any().into_ptr()))
    }

    fn receive_from(
        &self,
        py: Python<'_>,
        fd: RawFd,
        known: Known,
        most: usize,
    ) -> PyResult<Option<Object>> {
        if !Address::knows(known.domain) {
            return self.by_method(py, intern!(py, "recvfrom"), (most,));
        }
        let mut address = Address::new();
        let mut received = Ok(None);
        let bytes = receive_bytes(py, most, false, |start| {
            // SAFETY: so much memory.
            let mut call = || unsafe { receive_from_at(fd, start, most, &mut address) };
            received = attempt(py, || Ok(call()));
            Ok(received.as_ref().map_or(0, |received| received.unwrap_or(0)))
        })?;
        // SAFETY: an owned reference.
        let bytes = unsafe { Bound::from_owned_ptr(py, bytes) };
        match received? {
            None => Ok(None),
            Some(_) => with_address(py, bytes, &address).map(Some),
        }
    }

    fn receive_from_into(
        &self,
        py: Python<'_>,
        fd: RawFd,
        known: Known,
        buffer: &Py<PyAny>,
        most: usize,
    ) -> PyResult<Option<Object>> {
        if !Address::knows(known.domain) {
            return self.by_method(py, intern!(py, "recvfrom_into"), (buffer, most));
        }
        let buffer = Buffer::writable(py, buffer.as_ptr(), "recvfrom_into")?;
        let len = if most == 0 { buffer.len() } else { most };
        if len > buffer.len() {
            let message = "nbytes is greater than the length of the buffer";
            return Err(PyValueError::new_err(message));
        }
        let mut address = Address::new();
        // SAFETY: memory that the buffer holds.
        let mut call = || unsafe { receive_from_at(fd, buffer.start(), len, &mut address) };
        let received = attempt(py, || Ok(call()))?;
        match received {
            None => Ok(None),
            Some(received) => {
                let received = received.into_pyobject(py)?.into_any();
                with_address(py, received, &address).map(Some)
            }
        }
    }

    /// Calls a method of the socket.
    fn by_method<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, pyo3::types::PyString>,
        arguments: impl pyo3::call::PyCallArgs<'py>,
    ) -> PyResult<Option<Object>> {
        match self.socket.bind(py).call_method1(name, arguments) {
            Ok(result) => Ok(Some(result.into_ptr())),
            Err(error)
                if error.is_instance_of::<PyBlockingIOError>(py)
                    || error.is_instance_of::<PyInterruptedError>(py) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Notes what a read tells of the next one.
    #[inline]
    fn note_read(
        &self,
        py: Python<'_>,
        fd: RawFd,
        known: Known,
        received: Option<usize>,
        len: usize,
    ) {
        if known.is_tcp
            && received.is_some_and(|received| 0 < received && received < len)
            && let Some(hub_loop) = self.event_loop.bind(py).get().hub_loop()
            && hub_loop.is_local()
        {
            hub_loop.reactor(|reactor| reactor.note_exhausted(fd, known.owner));
        }
    }

    /// Whether a read would be in vain, as the last one has shown. One of no bytes never is.
    #[inline]
    pub(super) fn is_exhausted(&self, py: Python<'_>, fd: RawFd, known: Known) -> bool {
        known.is_tcp
            && matches!(self.operation, Operation::Receive { most: 1.. })
            && self.event_loop.bind(py).get().hub_loop().is_some_and(|hub_loop| {
                hub_loop.is_local()
                    && hub_loop.reactor(|reactor| reactor.is_exhausted(fd, known.owner))
            })
    }
}

/// A tuple of something and an address.
fn with_address(py: Python<'_>, object: Bound<'_, PyAny>, address: &Address) -> PyResult<Object> {
    // SAFETY: a new reference.
    let address = unsafe { Bound::from_owned_ptr(py, address.to_python(py)?) };
    Ok((object, address).into_pyobject(py)?.into_ptr())
}
