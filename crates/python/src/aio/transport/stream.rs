//! The transport's object, and what is not called for every message.

use super::flow::Limits;
use super::outgoing::Outgoing;
use super::read::Receiver;
use super::reader::ReaderState;
use super::streams;
use crate::aio::calls::watch_for;
use crate::aio::event_loop::AsyncioLoop;
use crate::aio::handle::flag;
use pyo3::call::PyCallArgs;
use pyo3::exceptions::{PyNotImplementedError, PyRuntimeError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{IntoPyDict, PyDict, PyString, PyType};
use pyo3::{PyTraverseError, PyVisit};
use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;

/// _core.StreamTransport(loop, sock, protocol, waiter=None, extra=None, server=None)
/// --
///
/// A transport of a connected stream socket: what the loop's connections and servers have.
#[pyclass(frozen, weakref, name = "StreamTransport", module = "greenloop._core")]
pub struct StreamTransport {
    /// These are None once the connection is lost.
    pub(super) event_loop: RefCell<Option<Py<PyAny>>>,
    pub(super) socket: RefCell<Option<Py<PyAny>>>,
    pub(super) protocol: RefCell<Option<Py<PyAny>>>,
    server: RefCell<Option<Py<PyAny>>>,
    /// What the protocol is called in: the context that was asked for, or a copy of the one that the
    /// connection was made in.
    pub(super) context: Py<PyAny>,
    extra: Py<PyDict>,
    pub(super) fd: Cell<RawFd>,
    pub(super) receiver: Cell<Receiver>,
    /// That of asyncio's streams, if the protocol is theirs.
    pub(super) reader: RefCell<Option<Py<ReaderState>>>,
    /// The last read brought much.
    pub(super) reads_much: Cell<bool>,
    pub(super) outgoing: RefCell<Outgoing>,
    pub(super) limits: Cell<Limits>,
    /// The protocol was told to stop writing.
    pub(super) protocol_paused: Cell<bool>,
    pub(super) paused: Cell<bool>,
    /// The other side has ended what it sends, and the protocol keeps the connection.
    pub(super) at_end: Cell<bool>,
    pub(super) closing: Cell<bool>,
    /// `connection_lost` is about to be called, or has been.
    pub(super) lost: Cell<bool>,
    /// Writes since then.
    pub(super) vain_writes: Cell<u32>,
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

/// A function of `greenloop.asyncio._transports`.
pub(super) fn helper<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    MODULE
        .get_or_try_init(py, || py.import("greenloop.asyncio._transports").map(Bound::unbind))?
        .bind(py)
        .getattr(name)
}

fn get(py: Python<'_>, cell: &RefCell<Option<Py<PyAny>>>) -> Option<Py<PyAny>> {
    cell.borrow().as_ref().map(|object| object.clone_ref(py))
}

fn copy_context(py: Python<'_>) -> PyResult<Py<PyAny>> {
    // SAFETY: a new reference or null.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()).map(Bound::unbind) }
}

impl StreamTransport {
    /// The loop.
    ///
    /// # Errors
    ///
    /// RuntimeError once the connection is lost.
    pub(super) fn event_loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match get(py, &self.event_loop) {
            Some(event_loop) => Ok(event_loop.into_bound(py)),
            None => Err(PyRuntimeError::new_err("the transport is closed")),
        }
    }

    #[inline]
    pub(super) fn protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.protocol.borrow().as_ref().map(|protocol| protocol.bind(py).clone())
    }

    fn is_debugging(&self, py: Python<'_>) -> PyResult<bool> {
        self.event_loop(py)?.call_method0(intern!(py, "get_debug"))?.is_truthy()
    }

    /// In debug mode: logs what happens.
    pub(super) fn log(slf: This<'_, '_>, message: &str) -> PyResult<()> {
        let py = slf.py();
        if slf.get().event_loop.borrow().is_some() && slf.get().is_debugging(py)? {
            helper(py, "log")?.call1((slf, message))?;
        }
        Ok(())
    }

    fn start_reading(slf: This<'_, '_>) -> PyResult<()> {
        let this = slf.get();
        if this.closing.get() || this.paused.get() || this.at_end.get() {
            return Ok(());
        }
        Self::watch(slf, 0)
    }

    /// Has the loop tell when the descriptor is ready.
    fn watch(slf: This<'_, '_>, flags: u16) -> PyResult<()> {
        let this = slf.get();
        let event_loop = this.event_loop(slf.py())?.cast_into::<AsyncioLoop>()?;
        // It has not been closed: the loop is kept as long as the descriptor.
        let fd = this.fd.get() as usize;
        watch_for(&event_loop, slf.as_any(), &this.context, fd, flags)
    }

    pub(super) fn stop_reading(&self, py: Python<'_>) -> PyResult<()> {
        self.event_loop(py)?.call_method1(intern!(py, "_remove_reader"), (self.fd.get(),)).map(drop)
    }

    pub(super) fn start_writing(slf: This<'_, '_>) -> PyResult<()> {
        Self::watch(slf, flag::WRITER)
    }

    /// Calls a method of the loop's that takes a callback, which is to be called in the transport's
    /// context.
    fn call_in_context<'py>(
        &self,
        py: Python<'py>,
        method: &Bound<'py, PyString>,
        arguments: impl PyCallArgs<'py>,
    ) -> PyResult<()> {
        let context = [(intern!(py, "context"), &self.context)].into_py_dict(py)?;
        self.event_loop(py)?.call_method(method, arguments, Some(&context)).map(drop)
    }

    pub(super) fn stop_writing(&self, py: Python<'_>) -> PyResult<()> {
        self.event_loop(py)?.call_method1(intern!(py, "_remove_writer"), (self.fd.get(),)).map(drop)
    }

    /// Ends the connection because of an error, which is told to the exception handler unless the
    /// system or the other side can cause it.
    ///
    /// # Errors
    ///
    /// SystemExit and KeyboardInterrupt, which are not for protocols.
    #[cold]
    pub(super) fn fail(slf: This<'_, '_>, error: PyErr, message: &str) -> PyResult<()> {
        let py = slf.py();
        if is_final(py, &error) {
            return Err(error);
        }
        if slf.get().event_loop.borrow().is_some() {
            helper(py, "failed")?.call1((slf, error.value(py), message))?;
        }
        Self::force_close(slf, Some(error))
    }

    /// Closes without sending what waits.
    pub(super) fn force_close(slf: This<'_, '_>, error: Option<PyErr>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.lost.get() {
            return Ok(());
        }
        let unsent = this.outgoing.borrow_mut().take();
        if !unsent.is_empty() {
            this.stop_writing(py)?;
        }
        drop(unsent);
        if !this.closing.replace(true) {
            this.stop_reading(py)?;
        }
        Self::lose(slf, error)
    }

    /// Has the protocol told that the connection is lost.
    fn lose(slf: This<'_, '_>, error: Option<PyErr>) -> PyResult<()> {
        let py = slf.py();
        slf.get().lost.set(true);
        let callback = slf.getattr(intern!(py, "_call_connection_lost"))?;
        let error = error.map(|error| error.into_value(py));
        slf.get().call_in_context(py, intern!(py, "call_soon"), (callback, error))
    }

    /// Tells the protocol, and closes the socket.
    pub(super) fn connection_lost(
        slf: This<'_, '_>,
        error: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.lost.set(true);
        let (protocol, reader) = (this.protocol.take(), this.reader.take());
        drop(reader);
        let told = match &protocol {
            Some(protocol) => {
                protocol.call_method1(py, intern!(py, "connection_lost"), (error,)).map(drop)
            }
            None => Ok(()),
        };
        let closed = Self::let_go(slf);
        let waiter = this.empty_waiter.borrow().as_ref().map(|waiter| waiter.clone_ref(py));
        if let Some(waiter) = waiter {
            helper(py, "abandon")?.call1((waiter,))?;
        }
        told.and(closed)
    }

    /// Closes the socket, and tells the server.
    fn let_go(slf: This<'_, '_>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (socket, server) = (this.socket.take(), this.server.take());
        this.fd.set(-1);
        let closed = match socket {
            Some(socket) => socket.call_method0(py, intern!(py, "close")).map(drop),
            None => Ok(()),
        };
        drop(this.event_loop.take());
        if let Some(server) = server {
            helper(py, "detach")?.call1((server, slf))?;
        }
        closed
    }

    /// What a subprocess or another thread cannot have cut off: see the calls.
    pub(super) fn shut_down_sending(&self, py: Python<'_>) -> PyResult<()> {
        let socket = get(py, &self.socket);
        match socket {
            Some(socket) => {
                socket.call_method1(py, intern!(py, "shutdown"), (libc::SHUT_WR,)).map(drop)
            }
            None => Ok(()),
        }
    }
}

/// Whether an exception ends the loop's run, whoever raised it.
pub(super) fn is_final(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<pyo3::exceptions::PySystemExit>(py)
        || error.is_instance_of::<pyo3::exceptions::PyKeyboardInterrupt>(py)
}

#[pymethods]
impl StreamTransport {
    #[new]
    #[pyo3(signature = (event_loop, sock, protocol, extra = None, server = None, context = None))]
    fn new(
        py: Python<'_>,
        event_loop: Py<PyAny>,
        sock: Bound<'_, PyAny>,
        protocol: &Bound<'_, PyAny>,
        extra: Option<Bound<'_, PyDict>>,
        server: Option<Py<PyAny>>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        Ok(Self {
            event_loop: RefCell::new(Some(event_loop)),
            fd: Cell::new(sock.call_method0(intern!(py, "fileno"))?.extract()?),
            socket: RefCell::new(Some(sock.unbind())),
            receiver: Cell::new(Receiver::of(protocol)?),
            reader: RefCell::new(streams::adopted_reader(protocol)?),
            protocol: RefCell::new(Some(protocol.clone().unbind())),
            server: RefCell::new(server),
            context: context.map_or_else(|| copy_context(py), Ok)?,
            extra: extra.unwrap_or_else(|| PyDict::new(py)).unbind(),
            reads_much: Cell::new(false),
            outgoing: RefCell::default(),
            limits: Cell::new(Limits::default()),
            protocol_paused: Cell::new(false),
            paused: Cell::new(false),
            at_end: Cell::new(false),
            closing: Cell::new(false),
            lost: Cell::new(false),
            vain_writes: Cell::new(0),
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
        let py = slf.py();
        let this = slf.get();
        let Some(protocol) = this.protocol(py) else { return Ok(()) };
        let made = protocol.getattr(intern!(py, "connection_made"))?;
        this.call_in_context(py, intern!(py, "call_soon"), (made, slf))?;
        let begin = slf.getattr(intern!(py, "_begin"))?;
        this.call_in_context(py, intern!(py, "call_soon"), (begin,))
    }

    fn _begin(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().lost.get() { Ok(()) } else { Self::start_reading(slf) }
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
        Ok(self.extra.bind(name.py()).get_item(name)?.or(default))
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
        let this = slf.get();
        if this.closing.get() || this.paused.replace(true) {
            return Ok(());
        }
        this.stop_reading(slf.py())?;
        Self::log(slf, "pauses reading")
    }

    /// Has data received again.
    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.closing.get() || !this.paused.replace(false) {
            return Ok(());
        }
        Self::start_reading(slf)?;
        Self::log(slf, "resumes reading")
    }

    /// Closes the connection once everything that was written has been sent. The protocol's
    /// `connection_lost` is called then, with None.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.closing.replace(true) {
            return Ok(());
        }
        this.stop_reading(slf.py())?;
        if this.outgoing.borrow().is_empty() { Self::lose(slf, None) } else { Ok(()) }
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
        Err(PyNotImplementedError::new_err("transports cannot be copied or pickled"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.extra)?;
        visit.call(&self.context)?;
        for cell in
            [&self.event_loop, &self.socket, &self.protocol, &self.server, &self.empty_waiter]
        {
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
        if self.socket.borrow().is_none() {
            return;
        }
        Python::attach(|py| {
            let (socket, server) = (self.socket.take(), self.server.take());
            let outcome = crate::errors::with_raised_saved(|| {
                helper(py, "unclosed")
                    .and_then(|unclosed| unclosed.call1((self.fd.get(), socket, server)))
                    .map(drop)
            });
            if let Err(error) = outcome {
                error.write_unraisable(py, None);
            }
        });
    }
}
