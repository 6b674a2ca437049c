//! First steps of tasks in greenlets that are not the loop's runner.
//!
//! From Python 3.12 on a task can begin where it is made. A greenlet that makes one for somebody else,
//! such as the one of a connection for an application, lets it begin in itself: a coroutine that does not
//! have to wait is done then, and the loop has had nothing to do with it. For the time of the step the
//! loop is the greenlet's running loop, as it is a runner's; if the step waits, the loop goes on.

use super::event_loop::AsyncioLoop;
use super::runner;
use super::waiting::eager_tasks;
use crate::greenlet::thread::Thread;
use crate::pystate::asyncio::{Hooks, Owned, replace_running_loop, running_loop};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;

/// What a loop has the interpreter call for asynchronous generators.
pub struct GeneratorHooks {
    firstiter: Py<PyAny>,
    finalizer: Py<PyAny>,
}

impl GeneratorHooks {
    pub fn of(event_loop: &Bound<'_, AsyncioLoop>) -> PyResult<Self> {
        let hook = |name| event_loop.getattr(name).map(Bound::unbind);
        Ok(Self {
            firstiter: hook("_asyncgen_firstiter_hook")?,
            finalizer: hook("_asyncgen_finalizer_hook")?,
        })
    }

    pub fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.firstiter)?;
        visit.call(&self.finalizer)
    }
}

/// A task for a coroutine, in a copy of the current context. With `at_once` it has begun, here, if
/// that can be: not in debug mode, nor if a program makes tasks of its own, nor before Python 3.12,
/// nor if the loop does not run in this thread.
///
/// # Errors
///
/// SystemExit and KeyboardInterrupt of the first step; what making a task raises.
pub fn start_task<'py>(
    event_loop: &Bound<'py, AsyncioLoop>,
    hooks: &GeneratorHooks,
    coroutine: Bound<'py, PyAny>,
    at_once: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let py = coroutine.py();
    let this = event_loop.get();
    let can_begin = at_once
        && this.running.get()
        && !this.debug()
        && !this.has_factory.get()
        && this._is_local();
    let eager = eager_tasks(py)?.filter(|_| can_begin && !is_in_loop(py));
    let Some(eager) = eager else {
        return event_loop.call_method1(intern!(py, "create_task"), (coroutine,));
    };
    // SAFETY: a new reference or null.
    let context = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent())? };
    Entered::during(event_loop, hooks, || {
        eager.make(event_loop.as_unbound(), coroutine, context.as_unbound())
    })
}

/// Calls a function that may begin a task. If the loop runs in this thread, but in another greenlet,
/// it is the running loop of this one meanwhile: an eager task's coroutine asks for it.
pub fn in_loop<R>(
    event_loop: &Bound<'_, AsyncioLoop>,
    function: impl FnOnce() -> PyResult<R>,
) -> PyResult<R> {
    let this = event_loop.get();
    if !this.running.get() || !this._is_local() || is_in_loop(event_loop.py()) {
        return function();
    }
    Entered::during(event_loop, &GeneratorHooks::of(event_loop)?, function)
}

fn is_in_loop(py: Python<'_>) -> bool {
    // SAFETY: the running thread's state.
    Thread::get(py).map_or(true, |thread| unsafe { !running_loop(thread.state()).is_null() })
}

/// What was in place before a greenlet entered a loop, in which none ran.
struct Entered {
    hooks: Hooks,
}

impl Entered {
    /// Calls a function in the loop.
    fn during<R>(
        event_loop: &Bound<'_, AsyncioLoop>,
        hooks: &GeneratorHooks,
        function: impl FnOnce() -> PyResult<R>,
    ) -> PyResult<R> {
        let entered = Self::begin(event_loop, hooks)?;
        let result = function();
        entered.end(event_loop)?;
        result
    }

    fn begin(event_loop: &Bound<'_, AsyncioLoop>, hooks: &GeneratorHooks) -> PyResult<Self> {
        let py = event_loop.py();
        let ts = Thread::get(py)?.state();
        // SAFETY: the running thread's state, in which no loop runs; live objects.
        let hooks = unsafe {
            replace(py, std::ptr::null_mut(), Owned::new_reference(event_loop.as_ptr()))?;
            Hooks::new(
                Owned::new_reference(hooks.firstiter.as_ptr()),
                Owned::new_reference(hooks.finalizer.as_ptr()),
            )
            .exchange(ts)
        };
        runner::guest_enters(event_loop.get());
        Ok(Self { hooks })
    }

    fn end(self, event_loop: &Bound<'_, AsyncioLoop>) -> PyResult<()> {
        let py = event_loop.py();
        let ts = Thread::get(py)?.state();
        // SAFETY: the running thread's state, and its running loop: none, if the run has ended while
        // the step was waiting.
        unsafe {
            let current = running_loop(ts);
            if !current.is_null() {
                replace(py, current, Owned::null())?;
                drop(self.hooks.exchange(ts));
            }
        }
        runner::guest_leaves(event_loop);
        Ok(())
    }
}

/// # Safety
///
/// As `replace_running_loop`, for the running thread.
unsafe fn replace(py: Python<'_>, old: *mut ffi::PyObject, new: Owned) -> PyResult<()> {
    let ts = Thread::get(py)?.state();
    // SAFETY: passed on from the caller; an error is an owned instance.
    unsafe {
        match replace_running_loop(ts, old, new) {
            Ok(before) => drop(before),
            Err(error) => return Err(PyErr::from_value(Bound::from_owned_ptr(py, error))),
        }
    }
    Ok(())
}
