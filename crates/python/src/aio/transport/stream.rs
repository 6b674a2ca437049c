//! The transport's object, and what is not called for every message.

use super::common::{Common, Transport, get, helper, not_copied};
use super::flow::Limits;
use super::outgoing::Outgoing;
use super::read::Receiver;
use super::reader::ReaderState;
use super::streams;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use pyo3::{PyTraverseError, PyVisit};
use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::os::fd::RawFd;

/// _core.StreamTransport(loop, sock, protocol, waiter=None, extra=None, server=None)
/// --
///
/// A transport of a connected stream socket: what the loop's connections and servers have.
#[pyclass(frozen, weakref, name = "StreamTransport", module = "greenloop._core")]
pub struct StreamTransport {
    common: Common,
    server: RefCell<Option<Py<PyAny>>>,
    pub(super) receiver: Cell<Receiver>,
    /// That of asyncio's streams, if the protocol is theirs.
    pub(super) reader: RefCell<Option<Py<ReaderState>>>,
    /// The last read brought much.
    pub(super) reads_much: Cell<bool>,
    pub(super) outgoing: RefCell<Outgoing>,
    /// The other side has ended what it sends, and the protocol keeps the connection.
    pub(super) at_end: Cell<bool>,
    /// `write_eof` was called.
    pub(super) eof: Cell<bool>,
    /// Done when everything has been sent: of `sendfile`.
    pub(super) empty_waiter: RefCell<Option<Py<PyAny>>>,
}

// SAFETY: touched with the GIL held only, and cells are never borrowed while Python code runs.
unsafe impl Send for StreamTransport {}
// SAFETY: as above.
unsafe impl Sync for StreamTransport {}

pub(super) type This<'a, 'py> = &'a Bound<'py, StreamTransport>;

impl Deref for StreamTransport {
    type Target = Common;

    #[inline]
    fn deref(&self) -> &Common {
        &self.common
    }
}

impl Transport for StreamTransport {
    const FLAGS: u16 = 0;

    #[inline]
    fn unsent_size(&self) -> u64 {
        self.outgoing.borrow().size() as u64
    }

    #[inline]
    fn has_sent_all(&self) -> bool {
        self.outgoing.borrow().is_empty()
    }

    fn forget_unsent(&self) {
        let unsent = self.outgoing.borrow_mut().take();
        drop(unsent);
    }

    fn may_receive(&self) -> bool {
        !self.at_end.get()
    }

    fn ended(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (reader, server) = (this.reader.take(), this.server.take());
        drop(reader);
        let detached = match server {
            Some(server) => helper(py, "detach")?.call1((server, slf)).map(drop),
            None => Ok(()),
        };
        if let Some(waiter) = get(py, &this.empty_waiter) {
            helper(py, "abandon")?.call1((waiter,))?;
        }
        detached
    }
}

impl StreamTransport {
    /// What a subprocess or another thread cannot have cut off: see the calls.
    pub(super) fn shut_down_sending(&self, py: Python<'_>) -> PyResult<()> {
        match get(py, &self.socket) {
            Some(socket) => {
                socket.call_method1(py, intern!(py, "shutdown"), (libc::SHUT_WR,)).map(drop)
            }
            None => Ok(()),
        }
    }
}

#[pymethods]
impl StreamTransport {
    #[new]
    #[pyo3(signature = (event_loop, sock, protocol, extra = None, server = None, context = None))]
    fn new(
        event_loop: Py<PyAny>,
        sock: Bound<'_, PyAny>,
        protocol: &Bound<'_, PyAny>,
        extra: Option<Bound<'_, PyDict>>,
        server: Option<Py<PyAny>>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        Ok(Self {
            common: Common::new(event_loop, sock, protocol.clone().unbind(), extra, context)?,
            server: RefCell::new(server),
            receiver: Cell::new(Receiver::of(protocol)?),
            reader: RefCell::new(streams::adopted_reader(protocol)?),
            reads_much: Cell::new(false),
            outgoing: RefCell::default(),
            at_end: Cell::new(false),
            eof: Cell::new(false),
            empty_waiter: RefCell::new(None),
        })
    }

    /// What `isinstance` finds: transports are documented as instances of `asyncio.Transport`, and
    /// asyncio itself looks for the class of those with flow control. Instances of these have slots
    /// that ours have no use for.
    #[getter(__class__)]
    fn get_class<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyType>> {
        static TRANSPORT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        TRANSPORT.import(py, "asyncio.transports", "_FlowControlMixin").cloned()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(helper(slf.py(), "describe")?.call1((slf,))?.unbind())
    }

    /// Has the protocol told that the connection is made, then reads, unless it has paused or closed
    /// meanwhile.
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

    /// Returns something that is known of the connection: `"socket"`, `"sockname"`, `"peername"`;
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
    fn _server(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        get(py, &self.server)
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

    /// Whether `loop.start_tls` may use it.
    #[getter]
    fn _start_tls_compatible(&self) -> bool {
        true
    }

    /// What `loop.sendfile` may do with it.
    #[getter]
    fn _sendfile_compatible<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        helper(py, "SENDFILE_MODE")
    }

    /// The protocol.
    fn get_protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        get(py, &self.protocol)
    }

    /// Has another protocol called from now on.
    fn set_protocol(&self, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        helper(protocol.py(), "adopt_tls")?.call1((&protocol, &self.context))?;
        let (receiver, reader) = (Receiver::of(&protocol)?, streams::adopted_reader(&protocol)?);
        self.receiver.set(receiver);
        let reader = self.reader.replace(reader);
        let before = self.protocol.replace(Some(protocol.unbind()));
        drop((before, reader));
        Ok(())
    }

    /// Whether it is closed, or about to be.
    fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Whether data is received.
    fn is_reading(&self) -> bool {
        !self.closing.get() && !self.paused.get()
    }

    /// Has no data received until `resume_reading` is called.
    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::pause(slf)
    }

    /// Has data received again.
    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::resume(slf)
    }

    /// Closes the connection once everything that was written has been sent. The protocol's
    /// `connection_lost` is called then, with None.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::finish(slf)
    }

    /// Closes the connection at once; what has not been sent is lost.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::force_close(slf, None)
    }

    /// Whether `write_eof` can be called: always.
    fn can_write_eof(&self) -> bool {
        true
    }

    /// Ends what is sent, once all of it has been; data is still received.
    fn write_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.closing.get() || this.eof.replace(true) || !this.outgoing.borrow().is_empty() {
            return Ok(());
        }
        this.shut_down_sending(slf.py())
    }

    /// Bytes that wait to be sent.
    fn get_write_buffer_size(&self) -> usize {
        self.outgoing.borrow().size()
    }

    /// The low and the high mark of `set_write_buffer_limits`.
    fn get_write_buffer_limits(&self) -> (u64, u64) {
        let Limits { low, high } = self.limits.get();
        (low, high)
    }

    /// Sets how many bytes may wait to be sent. With more than `high` the protocol's `pause_writing`
    /// is called, with at most `low` then its `resume_writing`. 64 KiB and a quarter of it are usual.
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

    /// A future that is done when everything has been sent; nothing may be written until
    /// `_reset_empty_waiter`.
    fn _make_empty_waiter(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let this = slf.get();
        if this.empty_waiter.borrow().is_some() {
            return Err(PyRuntimeError::new_err("Empty waiter is already set"));
        }
        let waiter = this.event_loop(py)?.call_method0(intern!(py, "create_future"))?;
        if this.outgoing.borrow().is_empty() {
            waiter.call_method1(intern!(py, "set_result"), (py.None(),))?;
        }
        *this.empty_waiter.borrow_mut() = Some(waiter.clone().unbind());
        Ok(waiter.unbind())
    }

    fn _reset_empty_waiter(&self) {
        let waiter = self.empty_waiter.take();
        drop(waiter);
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(not_copied())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.common.traverse(&visit)?;
        for cell in [&self.server, &self.empty_waiter] {
            if let Ok(object) = cell.try_borrow() {
                visit.call(&*object)?;
            }
        }
        if let Ok(reader) = self.reader.try_borrow() {
            visit.call(&*reader)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        for cell in [&self.protocol, &self.empty_waiter] {
            let object = cell.take();
            drop(object);
        }
    }
}

impl Drop for StreamTransport {
    fn drop(&mut self) {
        self.common.leave("StreamTransport", &self.server);
    }
}
