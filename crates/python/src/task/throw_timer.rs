//! The clock of a `Timeout`.

use crate::greenlet::object::PyGreenlet;
use crate::greenlet::thread::Thread;
use crate::hub::event_loop::EventLoop;
use crate::hub::methods::greenlet_argument;
use crate::hub::queue::Entry;
use crate::hub::{HubObject, Source};
use crate::time::deadline_after;
use greenloop_reactor::TimerKey;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::cell::{Cell, RefCell};

/// Throws an exception into a greenlet after a time, unless it is stopped before.
///
/// Stopping works up to the very throw: also after the time is over, while the throw waits for
/// its turn.
#[pyclass(frozen, module = "greenloop._core")]
#[derive(Default)]
pub struct ThrowTimer {
    key: Cell<Option<TimerKey>>,
    /// The address of the loop that has the timer.
    event_loop: Cell<usize>,
    /// Whether the time is over and the throw waits for its turn.
    due: Cell<bool>,
    target: RefCell<Option<(Py<PyAny>, Py<PyAny>)>>,
}

// SAFETY: the cells are touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for ThrowTimer {}

impl ThrowTimer {
    /// The greenlet and the exception, if the timer has not been stopped: owned references. The
    /// timer is over then.
    pub fn take_target(&self) -> Option<(*mut PyGreenlet, *mut ffi::PyObject)> {
        if !self.due.replace(false) {
            return None;
        }
        let (greenlet, error) = self.target.borrow_mut().take()?;
        Some((greenlet.into_ptr().cast(), error.into_ptr()))
    }

    /// Called when the time is over.
    pub fn expired(slf: Py<Self>, key: TimerKey, hub: &EventLoop) {
        // It may have been stopped, and started again, by something that fired with it.
        if slf.get().key.get() != Some(key) {
            return;
        }
        slf.get().key.set(None);
        slf.get().due.set(true);
        hub.push_local(Entry::Timeout { timer: slf.into_ptr() });
    }
}

#[pymethods]
impl ThrowTimer {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Throws `error` into `greenlet` (of this thread) in `seconds`.
    ///
    /// RuntimeError is raised if the timer runs already.
    fn start<'py>(
        slf: &Bound<'py, Self>,
        seconds: f64,
        greenlet: Bound<'py, PyAny>,
        error: Bound<'py, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        greenlet_argument(&greenlet)?;
        if this.pending() {
            return Err(PyRuntimeError::new_err("the timer is running"));
        }
        let hub = HubObject::get(py)?;
        let old = this.target.borrow_mut().replace((greenlet.unbind(), error.unbind()));
        drop(old);
        let source = Source::Throw(slf.clone().unbind());
        let key = hub.reactor(|reactor| reactor.timer_add(deadline_after(seconds), source));
        this.key.set(Some(key));
        this.event_loop.set(std::ptr::from_ref::<EventLoop>(hub).addr());
        this.due.set(false);
        Ok(())
    }

    /// Takes the throw back, if it has not happened.
    fn stop(&self) {
        let target = self.target.borrow_mut().take();
        self.due.set(false);
        // Keys mean something to the reactor that gave them only. Left there, the timer finds
        // nothing to do.
        if let Some(key) = self.key.take()
            && let Some(thread) = Thread::try_get()
            // SAFETY: owned by the thread's record.
            && let Some(hub) = unsafe { thread.hub.get().as_ref() }
            && std::ptr::from_ref::<EventLoop>(hub).addr() == self.event_loop.get()
        {
            let source = hub.reactor(|reactor| reactor.timer_remove(key));
            drop(source);
        }
        drop(target);
    }

    /// Whether the exception is still to be thrown.
    #[getter]
    fn pending(&self) -> bool {
        self.target.borrow().is_some()
    }
}
