//! What transports of all kinds have: the descriptor, the protocol and its context, flow control,
//! and how they end.

use super::flow::Limits;
use crate::aio::calls::watch_for;
use crate::aio::event_loop::AsyncioLoop;
use crate::aio::handle::flag;
use pyo3::call::PyCallArgs;
use pyo3::exceptions::{
    PyKeyboardInterrupt, PyNotImplementedError, PyRuntimeError, PySystemExit, PyTypeError,
};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::sync::PyOnceLock;
use pyo3::types::{IntoPyDict, PyByteArray, PyBytes, PyDict, PyMemoryView, PyString};
use pyo3::{PyClass, PyTraverseError, PyVisit};
use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::os::fd::RawFd;

/// Touched with the GIL held only, and cells are never borrowed while Python code runs.
pub struct Common {
    /// These are None once the connection is lost.
    pub event_loop: RefCell<Option<Py<PyAny>>>,
    pub socket: RefCell<Option<Py<PyAny>>>,
    pub protocol: RefCell<Option<Py<PyAny>>>,
    /// What the protocol is called in: the context that was asked for, or a copy of the one that
    /// the transport was made in.
    pub context: Py<PyAny>,
    pub extra: Py<PyDict>,
    pub fd: Cell<RawFd>,
    pub limits: Cell<Limits>,
    /// The protocol was told to stop writing.
    pub protocol_paused: Cell<bool>,
    pub paused: Cell<bool>,
    pub closing: Cell<bool>,
    /// `connection_lost` is about to be called, or has been.
    pub lost: Cell<bool>,
    /// Writes since then.
    pub vain_writes: Cell<u32>,
}

impl Common {
    pub fn new(
        event_loop: Py<PyAny>,
        socket: Bound<'_, PyAny>,
        protocol: Py<PyAny>,
        extra: Option<Bound<'_, PyDict>>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let py = socket.py();
        Ok(Self {
            event_loop: RefCell::new(Some(event_loop)),
            fd: Cell::new(socket.call_method0(intern!(py, "fileno"))?.extract()?),
            socket: RefCell::new(Some(socket.unbind())),
            protocol: RefCell::new(Some(protocol)),
            context: context.map_or_else(|| copy_context(py), Ok)?,
            extra: extra.unwrap_or_else(|| PyDict::new(py)).unbind(),
            limits: Cell::new(Limits::default()),
            protocol_paused: Cell::new(false),
            paused: Cell::new(false),
            closing: Cell::new(false),
            lost: Cell::new(false),
            vain_writes: Cell::new(0),
        })
    }

    /// The loop.
    ///
    /// # Errors
    ///
    /// RuntimeError once the connection is lost.
    pub fn event_loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match get(py, &self.event_loop) {
            Some(event_loop) => Ok(event_loop.into_bound(py)),
            None => Err(PyRuntimeError::new_err("the transport is closed")),
        }
    }

    #[inline]
    pub fn protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.protocol.borrow().as_ref().map(|protocol| protocol.bind(py).clone())
    }

    fn is_debugging(&self, py: Python<'_>) -> PyResult<bool> {
        self.event_loop(py)?.call_method0(intern!(py, "get_debug"))?.is_truthy()
    }

    pub fn stop_reading(&self, py: Python<'_>) -> PyResult<()> {
        self.event_loop(py)?.call_method1(intern!(py, "_remove_reader"), (self.fd.get(),)).map(drop)
    }

    pub fn stop_writing(&self, py: Python<'_>) -> PyResult<()> {
        self.event_loop(py)?.call_method1(intern!(py, "_remove_writer"), (self.fd.get(),)).map(drop)
    }

    /// Calls a method of the loop's that takes a callback, which is to be called in the transport's
    /// context.
    pub fn call_in_context<'py>(
        &self,
        py: Python<'py>,
        method: &Bound<'py, PyString>,
        arguments: impl PyCallArgs<'py>,
    ) -> PyResult<()> {
        let context = [(intern!(py, "context"), &self.context)].into_py_dict(py)?;
        self.event_loop(py)?.call_method(method, arguments, Some(&context)).map(drop)
    }

    /// The connection is lost: a program that goes on writing for long is told so in the log.
    #[cold]
    pub fn count_vain_write(&self, py: Python<'_>) -> PyResult<()> {
        let writes = self.vain_writes.get() + 1;
        self.vain_writes.set(writes);
        helper(py, "written_in_vain")?.call1((writes,)).map(drop)
    }

    /// Something that is known of the connection, by its name.
    pub fn extra_info<'py>(
        &self,
        name: Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.extra.bind(name.py()).get_item(name)?.or(default))
    }

    /// A transport is dropped: closes the socket, and warns, unless that is closed.
    ///
    /// kind: the transport's class.
    pub fn leave(&self, kind: &str, server: &RefCell<Option<Py<PyAny>>>) {
        if self.socket.borrow().is_none() {
            return;
        }
        Python::attach(|py| {
            let (socket, server) = (self.socket.take(), server.take());
            let outcome = crate::errors::with_raised_saved(|| {
                helper(py, "unclosed")
                    .and_then(|unclosed| unclosed.call1((kind, self.fd.get(), socket, server)))
                    .map(drop)
            });
            if let Err(error) = outcome {
                error.write_unraisable(py, None);
            }
        });
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.extra)?;
        visit.call(&self.context)?;
        for cell in [&self.event_loop, &self.socket, &self.protocol] {
            if let Ok(object) = cell.try_borrow() {
                visit.call(&*object)?;
            }
        }
        Ok(())
    }
}

/// A class of transports. What is declared without a body is where they differ.
pub trait Transport: PyClass<Frozen = True> + Deref<Target = Common> + Sync {
    /// What its handles have beside the flags of all transports' handles.
    const FLAGS: u16;

    /// Bytes that wait to be sent, as flow control counts them.
    fn unsent_size(&self) -> u64;

    /// Whether nothing waits to be sent. What waits may count for nothing.
    fn has_sent_all(&self) -> bool;

    /// Throws away what waits to be sent.
    fn forget_unsent(&self);

    /// Whether there may be something to receive.
    fn may_receive(&self) -> bool;

    /// The protocol was told that the connection is lost, and the socket is closed.
    fn ended(slf: &Bound<'_, Self>) -> PyResult<()>;

    /// In debug mode: logs what happens.
    fn log(slf: &Bound<'_, Self>, message: &str) -> PyResult<()> {
        let py = slf.py();
        if slf.get().event_loop.borrow().is_some() && slf.get().is_debugging(py)? {
            helper(py, "log")?.call1((slf.as_any(), message))?;
        }
        Ok(())
    }

    fn start_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.closing.get() || this.paused.get() || !this.may_receive() {
            return Ok(());
        }
        Self::watch(slf, 0)
    }

    fn start_writing(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::watch(slf, flag::WRITER)
    }

    /// Has the loop tell when the descriptor is ready.
    fn watch(slf: &Bound<'_, Self>, flags: u16) -> PyResult<()> {
        let this = slf.get();
        let event_loop = this.event_loop(slf.py())?.cast_into::<AsyncioLoop>()?;
        // It has not been closed: the loop is kept as long as the descriptor.
        let fd = this.fd.get() as usize;
        watch_for(&event_loop, slf.as_any(), &this.context, fd, Self::FLAGS | flags)
    }

    /// Has the protocol told that the connection is made, then `_begin` called.
    fn start(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Some(protocol) = this.protocol(py) else { return Ok(()) };
        let made = protocol.getattr(intern!(py, "connection_made"))?;
        this.call_in_context(py, intern!(py, "call_soon"), (made, slf.as_any()))?;
        let begin = slf.as_any().getattr(intern!(py, "_begin"))?;
        this.call_in_context(py, intern!(py, "call_soon"), (begin,))
    }

    /// Reads, unless the protocol has paused or closed when it was told of the connection.
    fn begin(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().lost.get() { Ok(()) } else { Self::start_reading(slf) }
    }

    fn pause(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.closing.get() || this.paused.replace(true) {
            return Ok(());
        }
        this.stop_reading(slf.py())?;
        Self::log(slf, "pauses reading")
    }

    fn resume(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.closing.get() || !this.paused.replace(false) {
            return Ok(());
        }
        Self::start_reading(slf)?;
        Self::log(slf, "resumes reading")
    }

    /// Closes once everything has been sent.
    fn finish(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.closing.replace(true) {
            return Ok(());
        }
        this.stop_reading(slf.py())?;
        if this.has_sent_all() { Self::lose(slf, None) } else { Ok(()) }
    }

    /// Ends the connection because of an error, which is told to the exception handler unless the
    /// system or the other side can cause it.
    ///
    /// # Errors
    ///
    /// SystemExit and KeyboardInterrupt, which are not for protocols.
    #[cold]
    fn fail(slf: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()> {
        let py = slf.py();
        if is_final(py, &error) {
            return Err(error);
        }
        if slf.get().event_loop.borrow().is_some() {
            helper(py, "failed")?.call1((slf.as_any(), error.value(py), message))?;
        }
        Self::force_close(slf, Some(error))
    }

    /// Closes without sending what waits.
    fn force_close(slf: &Bound<'_, Self>, error: Option<PyErr>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.lost.get() {
            return Ok(());
        }
        if !this.has_sent_all() {
            this.stop_writing(py)?;
            this.forget_unsent();
        }
        if !this.closing.replace(true) {
            this.stop_reading(py)?;
        }
        Self::lose(slf, error)
    }

    /// Has the protocol told that the connection is lost.
    fn lose(slf: &Bound<'_, Self>, error: Option<PyErr>) -> PyResult<()> {
        let py = slf.py();
        slf.get().lost.set(true);
        let callback = slf.as_any().getattr(intern!(py, "_call_connection_lost"))?;
        let error = error.map(|error| error.into_value(py));
        slf.get().call_in_context(py, intern!(py, "call_soon"), (callback, error))
    }

    /// Tells the protocol, and closes the socket.
    fn connection_lost(slf: &Bound<'_, Self>, error: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.lost.set(true);
        let protocol = this.protocol.take();
        let told = match &protocol {
            Some(protocol) => {
                protocol.call_method1(py, intern!(py, "connection_lost"), (error,)).map(drop)
            }
            None => Ok(()),
        };
        let socket = this.socket.take();
        this.fd.set(-1);
        let closed = match socket {
            Some(socket) => socket.call_method0(py, intern!(py, "close")).map(drop),
            None => Ok(()),
        };
        drop(this.event_loop.take());
        let ended = Self::ended(slf);
        told.and(closed).and(ended)
    }

    /// Tells the protocol to stop writing if there is too much.
    #[inline]
    fn pause_protocol(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.unsent_size() <= this.limits.get().high || this.protocol_paused.replace(true) {
            return Ok(());
        }
        Self::tell_protocol(slf, "pause_writing")
    }

    /// Tells the protocol to go on writing if there is little enough.
    #[inline]
    fn resume_protocol(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.unsent_size() > this.limits.get().low || !this.protocol_paused.replace(false) {
            return Ok(());
        }
        Self::tell_protocol(slf, "resume_writing")
    }

    fn tell_protocol(slf: &Bound<'_, Self>, method: &str) -> PyResult<()> {
        let py = slf.py();
        let Some(protocol) = slf.get().protocol(py) else { return Ok(()) };
        match in_context(py, &slf.get().context, || protocol.call_method0(method)) {
            Ok(_) => Ok(()),
            Err(error) if is_final(py, &error) => Err(error),
            Err(error) => {
                let message = format!("protocol.{method}() failed");
                helper(py, "report")?.call1((slf.as_any(), error.value(py), message)).map(drop)
            }
        }
    }
}

/// A function of `greenloop.asyncio._transports`.
pub fn helper<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    MODULE
        .get_or_try_init(py, || py.import("greenloop.asyncio._transports").map(Bound::unbind))?
        .bind(py)
        .getattr(name)
}

pub fn get(py: Python<'_>, cell: &RefCell<Option<Py<PyAny>>>) -> Option<Py<PyAny>> {
    cell.borrow().as_ref().map(|object| object.clone_ref(py))
}

fn copy_context(py: Python<'_>) -> PyResult<Py<PyAny>> {
    // SAFETY: a new reference or null.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()).map(Bound::unbind) }
}

/// Whether an exception ends the loop's run, whoever raised it.
pub fn is_final(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py)
}

/// What copying or pickling a transport raises.
pub fn not_copied() -> PyErr {
    PyNotImplementedError::new_err("transports cannot be copied or pickled")
}

/// # Errors
///
/// TypeError if it is not one of the classes whose objects may be sent.
#[inline]
pub fn check_bytes(data: &Bound<'_, PyAny>) -> PyResult<()> {
    if data.is_instance_of::<PyBytes>()
        || data.is_instance_of::<PyByteArray>()
        || data.is_instance_of::<PyMemoryView>()
    {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!(
        "data argument must be a bytes-like object, not {}",
        data.get_type().name()?.repr()?
    )))
}

/// Calls what belongs to a protocol in the context that its connection was made in, whoever has
/// written. In there it is a plain call.
pub fn in_context<R>(
    py: Python<'_>,
    context: &Py<PyAny>,
    call: impl FnOnce() -> PyResult<R>,
) -> PyResult<R> {
    let context = context.as_ptr();
    // SAFETY: a context; what is entered is left by the same greenlet.
    if unsafe { ffi::PyContext_Enter(context) } != 0 {
        drop(PyErr::take(py));
        return call();
    }
    let result = call();
    // SAFETY: as above.
    if unsafe { ffi::PyContext_Exit(context) } != 0 {
        return Err(PyErr::fetch(py));
    }
    result
}

/// _call_in_context(context, function)
/// --
///
/// Calls `function()` in a context, plainly if that is None or is entered already.
#[pyfunction]
pub fn _call_in_context<'py>(
    context: Option<Py<PyAny>>,
    function: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    match context {
        Some(context) => in_context(function.py(), &context, || function.call0()),
        None => function.call0(),
    }
}
