//! What the methods return: a call that waits until its descriptor is ready.

use super::known::{Known, Waiting, hold, release};
use super::operation::Operation;
use crate::aio::awaitable::{Awaited, Class, Step, forget_last_value};
use crate::aio::event_loop::AsyncioLoop;
use crate::aio::futures;
use crate::errors::os_error;
use crate::hub::{Source, reactor_error};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_int};
use std::os::fd::RawFd;
use std::ptr;

type Object = *mut ffi::PyObject;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New,
    Waiting,
    Over,
}

/// What one of the methods returns, to be awaited.
pub struct SocketCall {
    pub(super) event_loop: Py<AsyncioLoop>,
    pub(super) socket: Py<PyAny>,
    pub(super) operation: Operation,
    stage: Cell<Stage>,
    future: RefCell<Option<Py<PyAny>>>,
    /// Which of the loop's waits it is.
    place: Cell<usize>,
    is_held: Cell<bool>,
}

impl SocketCall {
    pub fn new(event_loop: Py<AsyncioLoop>, socket: Py<PyAny>, operation: Operation) -> Self {
        Self {
            event_loop,
            socket,
            operation,
            stage: Cell::new(Stage::New),
            future: RefCell::new(None),
            place: Cell::new(usize::MAX),
            is_held: Cell::new(false),
        }
    }

    /// Has the coroutine wait.
    #[inline]
    fn wait(&self, py: Python<'_>, fd: RawFd, known: Known) -> PyResult<Step> {
        let event_loop = self.event_loop.bind(py);
        let this = event_loop.get();
        AsyncioLoop::check_no_transport(event_loop, fd)?;
        let Some(hub_loop) = AsyncioLoop::local(event_loop)? else {
            return Err(PyRuntimeError::new_err("the loop runs in another thread"));
        };
        forget_last_value();
        let future = futures::make(event_loop)?;
        let socket = self.socket.bind(py);
        if !known.is_cooperative && !self.is_held.get() {
            self.is_held.set(hold(socket)?);
        }
        let held = self.is_held.get().then(|| socket.clone().unbind());
        let waiting = Waiting { future: future.clone().unbind(), key: None, held };
        let index = this.sockets.waiting.borrow_mut().insert(waiting);
        let source = Source::AsyncioWait {
            event_loop: event_loop.clone().unbind(),
            index,
            binding: this.binding.get(),
        };
        let interest = self.operation.interest();
        let key = hub_loop
            .reactor(|reactor| reactor.wait_fd(fd, known.owner, interest, source))
            .map_err(|error| {
                let waiting = this.sockets.waiting.borrow_mut().try_remove(index);
                drop(waiting);
                reactor_error(py, &error)
            })?;
        this.sockets.waiting.borrow_mut()[index].key = Some(key);
        this.count(hub_loop, true);
        self.place.set(index);
        *self.future.borrow_mut() = Some(future.clone().unbind());
        self.stage.set(Stage::Waiting);
        Ok(Step::Wait(future.into_ptr()))
    }

    #[inline]
    fn advance(&self, py: Python<'_>) -> PyResult<Step> {
        let is_first = match self.stage.replace(Stage::Over) {
            Stage::Over => {
                return Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine"));
            }
            Stage::Waiting => {
                if let Some(future) = self.future.take() {
                    let future = future.into_bound(py);
                    if let Err(error) = future.call_method0(intern!(py, "result")) {
                        self.leave(py, &future);
                        return Err(error);
                    }
                    futures::give_back(self.event_loop.bind(py), future);
                }
                false
            }
            Stage::New => {
                if self.event_loop.bind(py).get().debug() {
                    check_not_blocking(self.socket.bind(py))?;
                }
                true
            }
        };
        let fd = self.fd(py)?;
        if fd < 0 {
            return Err(os_error(py, libc::EBADF));
        }
        let known = self.event_loop.bind(py).get().sockets.know(self.socket.bind(py), fd)?;
        let is_in_vain = is_first && self.is_exhausted(py, fd, known);
        match if is_in_vain { None } else { self.call(py, fd, known)? } {
            Some(result) => Ok(Step::End(result)),
            None => self.wait(py, fd, known),
        }
    }

    /// Lets go of the socket. A loop that is closed has done so.
    #[inline]
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_held.replace(false) && self.event_loop.bind(py).get().check_open().is_ok() {
            return release(self.socket.bind(py));
        }
        Ok(())
    }

    /// Takes the wait back, if it is still that of its future.
    fn leave(&self, py: Python<'_>, future: &Bound<'_, PyAny>) {
        let this = self.event_loop.bind(py).get();
        let mut waiting = this.sockets.waiting.borrow_mut();
        let index = self.place.get();
        if waiting.get(index).is_some_and(|waiting| waiting.future.is(future)) {
            let one = waiting.remove(index);
            drop(waiting);
            this.stop_waiting(one.key);
        }
    }
}

/// In debug mode.
#[cold]
fn check_not_blocking(socket: &Bound<'_, PyAny>) -> PyResult<()> {
    let timeout = socket.call_method0(intern!(socket.py(), "gettimeout"))?;
    if timeout.extract::<f64>().is_ok_and(|timeout| timeout == 0.0) {
        return Ok(());
    }
    Err(PyValueError::new_err("the socket must be non-blocking"))
}

static CLASS: Class = Class::new();

impl Awaited for SocketCall {
    const NAME: &'static CStr = c"greenloop._core._SocketCall";
    const DOC: &'static CStr = c"A call on a socket by a method of the loop, to be awaited once.";

    fn class() -> &'static Class {
        &CLASS
    }

    #[inline]
    fn step(&self, py: Python<'_>) -> PyResult<Step> {
        let outcome = self.advance(py);
        if matches!(outcome, Ok(Step::Wait(_))) {
            return outcome;
        }
        let released = self.release(py);
        let step = outcome?;
        released.map(|()| step)
    }

    fn has_begun(&self) -> bool {
        self.stage.get() != Stage::New
    }

    fn abandon(&self, py: Python<'_>) -> PyResult<()> {
        self.stage.set(Stage::Over);
        if let Some(future) = self.future.take() {
            self.leave(py, future.bind(py));
        }
        self.release(py)
    }

    fn traverse(&self, visit: &mut dyn FnMut(Object) -> c_int) -> c_int {
        let future = self
            .future
            .try_borrow()
            .map_or(ptr::null_mut(), |future| future.as_ref().map_or(ptr::null_mut(), Py::as_ptr));
        [self.event_loop.as_ptr(), self.socket.as_ptr(), future]
            .into_iter()
            .chain(self.operation.objects())
            .map(visit)
            .find(|status| *status != 0)
            .unwrap_or(0)
    }
}
