//! From the descriptor to the protocol.

use super::super::common::Transport;
use super::super::outgoing::is_later;
use super::{DatagramTransport, This};
use crate::aio::receiving::{MOST, receive_from};
use crate::errors::os_error;
use crate::net::address::Address;
use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError, PyOSError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;

/// How many datagrams are received before others run.
const AT_ONCE: usize = 32;

/// A datagram and its sender's address.
type Datagram<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

impl DatagramTransport {
    /// The descriptor is ready to be read.
    pub fn read_ready(slf: This<'_, '_>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        for _ in 0..AT_ONCE {
            if this.lost.get() || this.closing.get() || this.paused.get() {
                break;
            }
            let received =
                if this.by_methods { this.receive_by_method(py) } else { this.receive(py) };
            let (data, sender) = match received {
                Ok(Some(datagram)) => datagram,
                Ok(None) => break,
                // What comes after it is reported again: errors may be all there is.
                Err(error) if error.is_instance_of::<PyOSError>(py) => {
                    return Self::error_received(slf, &error);
                }
                Err(error) => {
                    return Self::fail(slf, error, "Fatal read error on datagram transport");
                }
            };
            let Some(protocol) = this.protocol(py) else { break };
            let arguments = [protocol.as_ptr(), data.as_ptr(), sender.as_ptr()];
            // SAFETY: three objects; a new reference or null.
            let result = unsafe {
                Bound::from_owned_ptr_or_err(
                    py,
                    ffi::PyObject_VectorcallMethod(
                        intern!(py, "datagram_received").as_ptr(),
                        arguments.as_ptr(),
                        3 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                        std::ptr::null_mut(),
                    ),
                )
            };
            result?;
        }
        Ok(())
    }

    /// Receives a datagram. None if there is none.
    #[inline]
    fn receive<'py>(&self, py: Python<'py>) -> PyResult<Option<Datagram<'py>>> {
        let mut sender = Address::new();
        match receive_from(py, self.fd.get(), &mut sender) {
            Ok(data) => Ok(Some((data.into_any(), self.sender_of(py, sender)?))),
            Err(errno) if is_later(errno) => Ok(None),
            Err(errno) => Err(os_error(py, errno)),
        }
    }

    /// An address as the protocol gets it: the same object, if it is the last one's.
    #[inline]
    fn sender_of<'py>(&self, py: Python<'py>, address: Address) -> PyResult<Bound<'py, PyAny>> {
        if let Some((last, object)) = &*self.sender.borrow()
            && last.is(&address)
        {
            return Ok(object.bind(py).clone());
        }
        // SAFETY: a new reference.
        let object = unsafe { Bound::from_owned_ptr(py, address.to_python(py)?) };
        let before = self.sender.replace(Some((address, object.clone().unbind())));
        drop(before);
        Ok(object)
    }

    /// Receives a datagram by the socket's method: see `by_methods`.
    #[cold]
    fn receive_by_method<'py>(&self, py: Python<'py>) -> PyResult<Option<Datagram<'py>>> {
        let socket = self.socket.borrow().as_ref().map(|socket| socket.clone_ref(py));
        let Some(socket) = socket else { return Ok(None) };
        match socket.bind(py).call_method1(intern!(py, "recvfrom"), (MOST,)) {
            Ok(datagram) => datagram.extract().map(Some),
            Err(error) if is_in_vain(py, &error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Whether a socket's method has found out that it would have to wait.
pub fn is_in_vain(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyBlockingIOError>(py) || error.is_instance_of::<PyInterruptedError>(py)
}
