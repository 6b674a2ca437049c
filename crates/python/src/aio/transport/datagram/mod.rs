//! The transport of datagram sockets, and what is not called for every datagram.

mod receive;
mod send;

use super::common::{Common, Transport, get, not_copied};
use super::flow::Limits;
use crate::aio::handle::flag;
use crate::net::address::Address;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use pyo3::{PyTraverseError, PyVisit};
use send::Unsent;
use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::ops::Deref;
use std::os::fd::RawFd;

/// _core.DatagramTransport(loop, sock, protocol, address=None, extra=None, context=None,
///     by_methods=False)
/// --
///
/// A transport of a datagram socket: what `create_datagram_endpoint` makes.
#[pyclass(frozen, weakref, name = "DatagramTransport", module = "greenloop._core")]
pub struct DatagramTransport {
    common: Common,
    /// The only address that may be sent to, if the endpoint was made for one.
    address: Option<Py<PyAny>>,
    /// The socket has a peer, to which everything goes.
    connected: bool,
    family: c_int,
    /// The socket's own methods are called for each datagram: its class has others than the system
    /// calls, or its addresses are not known here.
    by_methods: bool,
    /// The last sender, and its address as the protocol got it.
    sender: RefCell<Option<(Address, Py<PyAny>)>>,
    unsent: RefCell<Unsent>,
    /// The descriptor is registered for writing.
    writing: Cell<bool>,
}

// SAFETY: touched with the GIL held only, and cells are never borrowed while Python code runs.
unsafe impl Send for DatagramTransport {}
// SAFETY: as above.
unsafe impl Sync for DatagramTransport {}

type This<'a, 'py> = &'a Bound<'py, DatagramTransport>;

impl Deref for DatagramTransport {
    type Target = Common;

    #[inline]
    fn deref(&self) -> &Common {
        &self.common
    }
}

impl Transport for DatagramTransport {
    const FLAGS: u16 = flag::DATAGRAMS;

    #[inline]
    fn unsent_size(&self) -> u64 {
        self.unsent.borrow().size()
    }

    /// As long as the descriptor is registered for writing, what ends that is still to be called.
    #[inline]
    fn has_sent_all(&self) -> bool {
        !self.writing.get() && self.unsent.borrow().is_empty()
    }

    fn forget_unsent(&self) {
        self.writing.set(false);
        let unsent = self.unsent.take();
        drop(unsent);
    }

    fn may_receive(&self) -> bool {
        true
    }

    fn ended(slf: &Bound<'_, Self>) -> PyResult<()> {
        let sender = slf.get().sender.take();
        drop(sender);
        Ok(())
    }
}

impl DatagramTransport {
    /// Has the protocol called, with an OSError.
    #[cold]
    fn error_received(slf: This<'_, '_>, error: &PyErr) -> PyResult<()> {
        let py = slf.py();
        let Some(protocol) = slf.get().protocol(py) else { return Ok(()) };
        super::common::in_context(py, &slf.get().context, || {
            protocol.call_method1(intern!(py, "error_received"), (error.value(py),)).map(drop)
        })
    }
}

#[pymethods]
impl DatagramTransport {
    #[new]
    #[pyo3(signature = (
        event_loop, sock, protocol, address = None, extra = None, context = None,
        by_methods = false,
    ))]
    fn new(
        event_loop: Py<PyAny>,
        sock: Bound<'_, PyAny>,
        protocol: Py<PyAny>,
        address: Option<Bound<'_, PyAny>>,
        extra: Option<Bound<'_, PyDict>>,
        context: Option<Py<PyAny>>,
        by_methods: bool,
    ) -> PyResult<Self> {
        let py = sock.py();
        let peer = match &extra {
            Some(extra) => extra.get_item(intern!(py, "peername"))?,
            None => None,
        };
        let address = match address {
            Some(address) if address.is_truthy()? => Some(address.unbind()),
            _ => None,
        };
        let family = sock.getattr(intern!(py, "family"))?.extract()?;
        Ok(Self {
            address,
            // That of a socket pair has no name, which is not to have none.
            connected: peer.is_some_and(|peer| !peer.is_none()),
            family,
            by_methods: by_methods || !Address::knows(family),
            common: Common::new(event_loop, sock, protocol, extra, context)?,
            sender: RefCell::new(None),
            unsent: RefCell::default(),
            writing: Cell::new(false),
        })
    }

    /// What `isinstance` finds: see `StreamTransport`.
    #[getter(__class__)]
    fn get_class<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyType>> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        CLASS.import(py, "greenloop.asyncio._transports", "DatagramTransport").cloned()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(super::common::helper(slf.py(), "describe")?.call1((slf,))?.unbind())
    }

    /// Has the protocol told that the connection is made, then reads, unless it has paused or
    /// closed meanwhile.
    fn _start(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::start(slf)
    }

    fn _begin(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::begin(slf)
    }

    fn _call_connection_lost(
        slf: &Bound<'_, Self>,
        error: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        Self::connection_lost(slf, error)
    }

    #[pyo3(signature = (exc, message = "Fatal error on transport"))]
    fn _fatal_error(slf: &Bound<'_, Self>, exc: Bound<'_, PyAny>, message: &str) -> PyResult<()> {
        Self::fail(slf, PyErr::from_value(exc), message)
    }

    fn _force_close(slf: &Bound<'_, Self>, exc: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        Self::force_close(slf, exc.map(PyErr::from_value))
    }

    /// Returns something that is known of the socket: `"socket"`, `"sockname"`, `"peername"`;
    /// `default` if it is not known.
    #[pyo3(signature = (name, default = None))]
    fn get_extra_info<'py>(
        &self,
        name: Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.extra_info(name, default)
    }

    #[getter]
    fn _address(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.address.as_ref().map(|address| address.clone_ref(py))
    }

    #[getter]
    fn _extra(&self, py: Python<'_>) -> Py<PyDict> {
        self.extra.clone_ref(py)
    }

    #[getter]
    fn _sock(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        get(py, &self.socket)
    }

    #[getter]
    fn _sock_fd(&self) -> RawFd {
        self.fd.get()
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        get(py, &self.event_loop)
    }

    #[getter]
    fn _protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        get(py, &self.protocol)
    }

    #[getter]
    fn _closing(&self) -> bool {
        self.closing.get()
    }

    #[getter]
    fn _paused(&self) -> bool {
        self.paused.get()
    }

    #[getter]
    fn _protocol_paused(&self) -> bool {
        self.protocol_paused.get()
    }

    /// The protocol.
    fn get_protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        get(py, &self.protocol)
    }

    /// Has another protocol called from now on.
    fn set_protocol(&self, protocol: Py<PyAny>) {
        let before = self.protocol.replace(Some(protocol));
        drop(before);
    }

    /// Whether it is closed, or about to be.
    fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Whether datagrams are received.
    fn is_reading(&self) -> bool {
        !self.closing.get() && !self.paused.get()
    }

    /// Has no datagrams received until `resume_reading` is called.
    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::pause(slf)
    }

    /// Has datagrams received again.
    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::resume(slf)
    }

    /// Closes the socket once everything has been sent. The protocol's `connection_lost` is called
    /// then, with None.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::finish(slf)
    }

    /// Closes the socket at once; what has not been sent is lost.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::force_close(slf, None)
    }

    /// Bytes that wait to be sent. From Python 3.13 on each datagram counts for 8 more.
    fn get_write_buffer_size(&self) -> u64 {
        self.unsent_size()
    }

    /// The low and the high mark of `set_write_buffer_limits`.
    fn get_write_buffer_limits(&self) -> (u64, u64) {
        let Limits { low, high } = self.limits.get();
        (low, high)
    }

    /// Sets how many bytes may wait to be sent. With more than `high` the protocol's
    /// `pause_writing` is called, with at most `low` then its `resume_writing`. 64 KiB and a
    /// quarter of it are usual.
    ///
    /// ValueError is raised unless high >= low >= 0.
    #[pyo3(signature = (high = None, low = None))]
    fn set_write_buffer_limits(
        slf: &Bound<'_, Self>,
        high: Option<i64>,
        low: Option<i64>,
    ) -> PyResult<()> {
        slf.get().limits.set(Limits::new(high, low)?);
        Self::pause_protocol(slf)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(not_copied())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.common.traverse(&visit)?;
        visit.call(&self.address)?;
        // The last sender's address is of text and numbers; those that a program gives may be
        // anything.
        match self.unsent.try_borrow() {
            Ok(unsent) => unsent.traverse(&visit),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        let (protocol, unsent) = (self.protocol.take(), self.unsent.take());
        drop((protocol, unsent));
    }
}

impl Drop for DatagramTransport {
    fn drop(&mut self) {
        self.common.leave("DatagramTransport", &RefCell::new(None));
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<DatagramTransport>()?;
    send::attach(module.getattr("DatagramTransport")?.cast()?)
}
