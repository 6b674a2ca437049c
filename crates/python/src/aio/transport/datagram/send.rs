//! What is to be sent.

use super::super::common::{Transport, check_bytes, get};
use super::super::outgoing::{is_later, send};
use super::receive::is_in_vain;
use super::{DatagramTransport, This};
use crate::aio::methods::{given, methods};
use crate::errors::os_error;
use crate::net::address::Address;
use crate::net::arguments::Buffer;
use crate::net::errors::errno;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyType};
use pyo3::{PyTraverseError, PyVisit};
use std::collections::VecDeque;
use std::ffi::{c_char, c_int};

type Object = *mut ffi::PyObject;

unsafe extern "C" {
    fn PySys_Audit(event: *const c_char, format: *const c_char, ...) -> c_int;
}

/// Whether datagrams without any bytes are sent: otherwise asyncio takes them for nothing to do.
const SENDS_EMPTY: bool = cfg!(Py_3_13);

/// What a datagram that waits counts for beside its bytes, so that empty ones are not for nothing.
const HEADER: u64 = if SENDS_EMPTY { 8 } else { 0 };

methods! {
    METHODS:
    c"sendto" (data, addr; 1) = sendto, c"sendto($self, data, addr=None)
--

Sends a datagram. If the system does not take it at once it is sent later, in order; see
`set_write_buffer_limits`. The protocol's `error_received` is told of errors of the system.

data: bytes, a bytearray or a memoryview; it may be changed afterwards. TypeError is raised for
anything else.
addr: where to. None, or that address, if the endpoint was made for one; ValueError is raised
otherwise.";
}

/// Puts the methods on the class.
pub fn attach(class: &Bound<'_, PyType>) -> PyResult<()> {
    METHODS.attach(class)
}

fn sendto(slf: &Bound<'_, PyAny>, [data, addr]: [Object; 2]) -> PyResult<Py<PyAny>> {
    let py = slf.py();
    let address = (!addr.is_null()).then(|| given(py, &addr)).filter(|address| !address.is_none());
    // SAFETY: a method of the class of transports.
    DatagramTransport::send_to(unsafe { slf.cast_unchecked() }, given(py, &data), address)?;
    Ok(py.None())
}

/// Datagrams that the system has not taken yet.
#[derive(Default)]
pub struct Unsent {
    datagrams: VecDeque<(Py<PyBytes>, Option<Py<PyAny>>)>,
    size: u64,
}

impl Unsent {
    /// What they count for.
    #[inline]
    pub fn size(&self) -> u64 {
        self.size
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.datagrams.iter().try_for_each(|(_, address)| visit.call(address))
    }

    fn push(&mut self, py: Python<'_>, data: Py<PyBytes>, address: Option<Py<PyAny>>) {
        self.size += Self::weight(py, &data);
        self.datagrams.push_back((data, address));
    }

    fn first<'py>(
        &self,
        py: Python<'py>,
    ) -> Option<(Bound<'py, PyBytes>, Option<Bound<'py, PyAny>>)> {
        self.datagrams.front().map(|(data, address)| {
            (data.bind(py).clone(), address.as_ref().map(|address| address.bind(py).clone()))
        })
    }

    /// Takes the first one out, if it is still this one. To be dropped where Python code may run.
    fn pop(&mut self, data: &Bound<'_, PyBytes>) -> Option<(Py<PyBytes>, Option<Py<PyAny>>)> {
        if !self.datagrams.front().is_some_and(|(first, _)| first.is(data)) {
            return None;
        }
        self.size -= Self::weight(data.py(), data.as_unbound());
        self.datagrams.pop_front()
    }

    fn weight(py: Python<'_>, data: &Py<PyBytes>) -> u64 {
        data.as_bytes(py).len() as u64 + HEADER
    }
}

impl DatagramTransport {
    #[inline]
    fn send_to(
        slf: This<'_, '_>,
        data: &Bound<'_, PyAny>,
        address: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        check_bytes(data)?;
        if !SENDS_EMPTY && data.len()? == 0 {
            return Ok(());
        }
        let only = this.address.as_ref().map(|only| only.bind(py));
        if let (Some(only), Some(address)) = (only, address)
            && !address.is(only)
            && !address.eq(only)?
        {
            let message = format!("Invalid address: must be None or {}", only.str()?);
            return Err(PyValueError::new_err(message));
        }
        let address = only.or(address);
        if this.lost.get() && (only.is_some() || this.socket.borrow().is_none()) {
            return this.count_vain_write(py);
        }
        if this.unsent.borrow().is_empty() {
            match this.transmit(data, address) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => return Self::not_sent(slf, error),
            }
        }
        Self::send_later(slf, data, address)
    }

    /// Keeps a datagram until the system takes it.
    #[cold]
    fn send_later(
        slf: This<'_, '_>,
        data: &Bound<'_, PyAny>,
        address: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.lost.get() {
            // The socket is about to be closed.
            return Ok(());
        }
        // SAFETY: a new reference or null; bytes stay what they are.
        let bytes = unsafe {
            Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromObject(data.as_ptr()))?
                .cast_into_unchecked::<PyBytes>()
        };
        if !this.writing.get() {
            Self::start_writing(slf)?;
            this.writing.set(true);
        }
        let address = address.map(|address| address.clone().unbind());
        this.unsent.borrow_mut().push(py, bytes.unbind(), address);
        Self::pause_protocol(slf)
    }

    /// Sends a datagram. False if the system does not take it now.
    #[inline]
    fn transmit(
        &self,
        data: &Bound<'_, PyAny>,
        address: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let py = data.py();
        if self.by_methods {
            return self.transmit_by_method(data, address);
        }
        let buffer = Buffer::readable(py, data.as_ptr())?;
        let (start, len) = (buffer.start().cast_const(), buffer.len());
        let sent = if self.connected {
            send(self.fd.get(), start, len)
        } else if let Some((address, destination)) =
            address.and_then(|address| Some((address, self.destination(address)?)))
        {
            self.audit(address)?;
            let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
            let (to, to_len) = (destination.as_ptr(), destination.len);
            // SAFETY: the buffer is held, and the address is as long as it says.
            let sent = unsafe { libc::sendto(self.fd.get(), start.cast(), len, flags, to, to_len) };
            usize::try_from(sent).map_err(|_| errno())
        } else {
            drop(buffer);
            return self.transmit_by_method(data, address);
        };
        match sent {
            Ok(_) => Ok(true),
            Err(errno) if is_later(errno) => Ok(false),
            Err(errno) => Err(os_error(py, errno)),
        }
    }

    /// Where to send. None if the address is not one to be understood here.
    #[inline]
    fn destination(&self, address: &Bound<'_, PyAny>) -> Option<Address> {
        // Most are answered.
        if let Some((sender, object)) = &*self.sender.borrow()
            && object.is(address)
        {
            return Some(sender.clone());
        }
        Address::written_out(self.family, address)
    }

    /// Tells those who audit what programs do, as the socket's method does.
    fn audit(&self, address: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = address.py();
        let Some(socket) = get(py, &self.socket) else { return Ok(()) };
        // SAFETY: the format takes two objects.
        let refused = unsafe {
            let (event, format) = (c"socket.sendto".as_ptr(), c"OO".as_ptr());
            PySys_Audit(event, format, socket.as_ptr(), address.as_ptr())
        };
        if refused < 0 { Err(PyErr::fetch(py)) } else { Ok(()) }
    }

    /// Sends by the socket's method, which looks up names of hosts, and knows what is wrong with an
    /// address.
    #[cold]
    fn transmit_by_method(
        &self,
        data: &Bound<'_, PyAny>,
        address: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let py = data.py();
        let Some(socket) = get(py, &self.socket) else { return Ok(true) };
        let outcome = if self.connected {
            socket.call_method1(py, intern!(py, "send"), (data,))
        } else {
            socket.call_method1(py, intern!(py, "sendto"), (data, address))
        };
        match outcome {
            Ok(_) => Ok(true),
            Err(error) if is_in_vain(py, &error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A datagram cannot be sent: the protocol is told of what the system has to say; other errors
    /// are the program's, and end the transport.
    #[cold]
    fn not_sent(slf: This<'_, '_>, error: PyErr) -> PyResult<()> {
        if error.is_instance_of::<PyOSError>(slf.py()) {
            Self::error_received(slf, &error)
        } else {
            Self::fail(slf, error, "Fatal write error on datagram transport")
        }
    }

    /// The descriptor is ready to be written.
    pub fn write_ready(slf: This<'_, '_>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        loop {
            if this.lost.get() {
                return Ok(());
            }
            let first = this.unsent.borrow().first(py);
            let Some((data, address)) = first else { break };
            let sent = this.transmit(data.as_any(), address.as_ref());
            if let Ok(false) = sent {
                break;
            }
            let done = this.unsent.borrow_mut().pop(&data);
            drop(done);
            if let Err(error) = sent {
                // The others are sent next time.
                return Self::not_sent(slf, error);
            }
        }
        // It may send more, or close.
        Self::resume_protocol(slf)?;
        if this.lost.get() || !this.unsent.borrow().is_empty() {
            return Ok(());
        }
        this.writing.set(false);
        this.stop_writing(py)?;
        if this.closing.get() { Self::connection_lost(slf, None) } else { Ok(()) }
    }
}
