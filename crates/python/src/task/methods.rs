//! Methods of `Greenlet` that are not called for every greenlet.
//!
//! Written as functions, which `descriptors` puts into the class: argument parsing and errors are
//! pyo3's, while the class itself needs a layout that pyo3 does not make.

use super::attributes::format_call;
use super::body::{failed, notify_links};
use super::object::{Stage, TaskObject};
use super::types::{is_task, start as start_task};
use super::{context, spawn_callbacks};
use crate::errors::take_raised;
use crate::greenlet::exceptions::greenlet_exit;
use crate::greenlet::methods::{instance_from, thread_for};
use crate::greenlet::object::{Payload, Status};
use crate::greenlet::switch;
use crate::greenlet::thread::Thread;
use crate::hub::callback::Callback;
use crate::hub::queue::Entry;
use crate::hub::shield;
use crate::hub::wait::{Reason, Wait};
use crate::hub::{HubObject, Source};
use crate::time::{Limit, deadline_after};
use greenloop_reactor::TimerKey;
use pyo3::exceptions::{PyAssertionError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyString, PyTuple};

/// The task behind `self`.
pub fn task_of<'a>(object: &'a Bound<'_, PyAny>) -> PyResult<&'a TaskObject> {
    if !is_task(object.as_ptr()) {
        return Err(PyTypeError::new_err(format!(
            "expected a Greenlet, not {}",
            object.get_type().name()?
        )));
    }
    // SAFETY: checked just now; held by `object`.
    Ok(unsafe { &*object.as_ptr().cast::<TaskObject>() })
}

/// Has the greenlet run when the hub gets to it. Starting it twice does nothing.
#[pyfunction]
#[pyo3(text_signature = "(self, /)")]
pub fn start(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let task = task_of(slf)?;
    if task.stage.get() != Stage::Created || task.base.status.get() != Status::Unstarted {
        return Ok(());
    }
    require_function(slf, task)?;
    start_task(task)
}

fn require_function(slf: &Bound<'_, PyAny>, task: &TaskObject) -> PyResult<()> {
    if task.func.get().is_null() && !slf.getattr("_run")?.is_callable() {
        return Err(PyTypeError::new_err("The run argument or self._run must be callable"));
    }
    Ok(())
}

/// Has the greenlet run in `seconds`.
#[pyfunction]
#[pyo3(text_signature = "(self, seconds, /)")]
pub fn start_later(slf: &Bound<'_, PyAny>, seconds: f64) -> PyResult<()> {
    let py = slf.py();
    let task = task_of(slf)?;
    if task.stage.get() != Stage::Created || task.base.status.get() != Status::Unstarted {
        return Ok(());
    }
    require_function(slf, task)?;
    let thread = thread_for(py, &task.base)?;
    let hub = HubObject::of(py, thread)?;
    context::inherit(py, &task.base)?;
    let source = Source::Start(slf.clone().unbind());
    let key = hub.reactor(|reactor| reactor.timer_add(deadline_after(seconds), source));
    task.start_timer.set(Some(key));
    task.stage.set(Stage::Scheduled);
    if spawn_callbacks::any() {
        spawn_callbacks::call(py, slf.as_ptr());
    }
    Ok(())
}

/// Waits until the task has a result. False when the time is over.
pub fn wait_for(py: Python<'_>, task: &TaskObject, limit: &mut Limit<'_>) -> PyResult<bool> {
    let _bared = if task.base.wait.level() > 0 && task.base.is_running() {
        Some(shield::Bared::begin(py, &task.base)?)
    } else {
        None
    };
    while !task.is_over() {
        let wait = Wait::begin(py, task.as_ptr())?;
        let reason = limit.judge(wait.park(Some(&task.waiters), limit.deadline()))?;
        if reason == Reason::TimedOut {
            return Ok(task.is_ready());
        }
    }
    Ok(true)
}

/// Waits until the greenlet has ended, `timeout` seconds at most. Returns None in any case.
#[pyfunction]
#[pyo3(text_signature = "(self, /, timeout=None)")]
#[pyo3(signature = (slf, timeout = None))]
pub fn join(slf: &Bound<'_, PyAny>, timeout: Option<Bound<'_, PyAny>>) -> PyResult<()> {
    let task = task_of(slf)?;
    if task.is_over() {
        return Ok(());
    }
    let mut limit = Limit::start(slf.py(), timeout)?;
    let outcome = wait_for(slf.py(), task, &mut limit);
    limit.end(slf.py())?;
    outcome.map(drop)
}

/// The result of the greenlet: returns what its function returned, raises what it raised. Waits
/// for it, `timeout` seconds at most, and raises Timeout after that; at once if `block` is false.
#[pyfunction]
#[pyo3(text_signature = "(self, /, block=True, timeout=None)")]
#[pyo3(signature = (slf, block = true, timeout = None))]
pub fn get<'py>(
    slf: &Bound<'py, PyAny>,
    block: bool,
    timeout: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = slf.py();
    let task = task_of(slf)?;
    if !task.is_over() {
        if !block {
            return Err(crate::time::timeout_error(py, None));
        }
        if task.base.is_running() {
            return Err(PyAssertionError::new_err("a greenlet cannot wait for its own result"));
        }
        let mut limit = Limit::start(py, timeout)?;
        let outcome = wait_for(py, task, &mut limit);
        let expired = limit.error(py);
        limit.end(py)?;
        if !outcome? {
            return Err(expired);
        }
    }
    result_of(py, task)
}

/// The value of a finished task, or its exception.
pub fn result_of<'py>(py: Python<'py>, task: &TaskObject) -> PyResult<Bound<'py, PyAny>> {
    let error = task.error.get();
    // SAFETY: owned by the task.
    unsafe {
        if !error.is_null() {
            return Err(PyErr::from_value(Bound::from_borrowed_ptr(py, error)));
        }
        Ok(Bound::from_borrowed_ptr_or_opt(py, task.value.get())
            .unwrap_or_else(|| py.None().into_bound(py)))
    }
}

/// Ends a task that has not begun to run: takes it from the queue and gives it a result.
fn end_before_start(py: Python<'_>, task: &TaskObject, error: Bound<'_, PyAny>) -> PyResult<()> {
    if let Some(key) = task.start_timer.take() {
        forget_start(py, task, key)?;
    }
    task.base.status.set(Status::Dead);
    failed(task, error.into_ptr());
    Ok(())
}

/// Removes the timer of `start_later`, which is in the hub of the task's thread.
fn forget_start(py: Python<'_>, task: &TaskObject, key: TimerKey) -> PyResult<()> {
    // SAFETY: a task has a thread; its hub, if there is one, is alive.
    let (thread, hub) = unsafe {
        let thread: &Thread = &*task.base.thread.get();
        (thread, thread.hub.get().as_ref())
    };
    let Some(hub) = hub else { return Ok(()) };
    if thread.is_calling() {
        drop(hub.reactor(|reactor| reactor.timer_remove(key)));
    } else if !thread.has_ended() {
        let function = PyCFunction::new_closure(py, None, None, move |args, _| {
            let hub = HubObject::get(args.py())?;
            drop(hub.reactor(|reactor| reactor.timer_remove(key)));
            Ok::<_, PyErr>(())
        })?;
        let args = PyTuple::empty(py).unbind();
        let callback = Callback::object(py, function.into_any().unbind(), args)?;
        hub.inbox().push(Entry::Call { callback: callback.into_ptr() });
    }
    Ok(())
}

/// Has an exception thrown into a task, or ends it if it has not begun. True if the caller may
/// have to wait for its end.
pub fn kill_soon(slf: &Bound<'_, PyAny>, exception: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = slf.py();
    let task = task_of(slf)?;
    if task.is_over() {
        return Ok(false);
    }
    let none = py.None().into_bound(py);
    let error = match instance_from(exception, &none, &none) {
        Ok(error) => error,
        Err(error) if task.base.status.get() == Status::Unstarted => {
            // It must not run any more.
            error.into_value(py).into_bound(py).into_any()
        }
        Err(error) => {
            // As a mistake of the caller would show if the throw were made by the hub: reported.
            crate::exceptions::handle_error(py, HubObject::get(py)?, Some(slf), error);
            return Ok(false);
        }
    };
    if task.base.status.get() == Status::Unstarted {
        end_before_start(py, task, error)?;
        return Ok(false);
    }
    // SAFETY: a task has a thread; the entry owns its references.
    unsafe {
        let thread: &Thread = &*task.base.thread.get();
        let hub = match thread.hub.get().as_ref() {
            Some(hub) => hub,
            None => HubObject::of(py, thread)?,
        };
        let greenlet = slf.clone().into_ptr().cast();
        hub.push(thread, Entry::Kill { greenlet, error: error.into_ptr() });
    }
    Ok(true)
}

/// Raises `exception` in the greenlet. Waits until it has ended, `timeout` seconds at most, unless
/// `block` is false: then it happens when the hub gets to it. A greenlet that has not begun to run
/// never will.
#[pyfunction]
#[pyo3(text_signature = "(self, /, exception=None, block=True, timeout=None)")]
#[pyo3(signature = (slf, exception = None, block = true, timeout = None))]
pub fn kill(
    slf: &Bound<'_, PyAny>,
    exception: Option<Bound<'_, PyAny>>,
    block: bool,
    timeout: Option<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let py = slf.py();
    let exception = exception.unwrap_or_else(|| greenlet_exit(py).clone());
    if kill_soon(slf, &exception)? && block {
        // Subclasses may have their own.
        slf.call_method1("join", (timeout,))?;
    }
    Ok(())
}

/// Raises an exception in the greenlet at once, as greenlet.throw does. One that has not begun to
/// run ends with it.
#[pyfunction]
#[pyo3(text_signature = "(self, /, *args)")]
#[pyo3(signature = (slf, *args))]
pub fn throw<'py>(
    slf: &Bound<'py, PyAny>,
    args: Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = slf.py();
    let task = task_of(slf)?;
    let none = py.None().into_bound(py);
    let part = |index: usize| args.get_item(index).unwrap_or_else(|_| none.clone());
    if args.len() > 3 {
        return Err(PyTypeError::new_err("throw() takes at most 3 arguments"));
    }
    let kind = if args.is_empty() { greenlet_exit(py).clone() } else { part(0) };
    let error = instance_from(&kind, &part(1), &part(2))?;
    let thread = thread_for(py, &task.base)?;
    if task.base.status.get() == Status::Unstarted {
        end_before_start(py, task, error)?;
        return Ok(none);
    }
    // SAFETY: the calling thread's record; the result is a new reference or null.
    unsafe {
        let error = error.into_ptr();
        if shield::hold_throw(thread, &task.base, error) {
            return Ok(none);
        }
        let payload = Payload::Throw(error);
        let result = switch::switch(thread, task.base.as_greenlet(), payload);
        if result.is_null() {
            return Err(PyErr::from_value(Bound::from_owned_ptr(py, take_raised())));
        }
        Ok(Bound::from_owned_ptr(py, result))
    }
}

/// Whether the greenlet has ended.
#[pyfunction]
#[pyo3(text_signature = "(self, /)")]
pub fn ready(slf: &Bound<'_, PyAny>) -> PyResult<bool> {
    let task = task_of(slf)?;
    Ok(task.is_ready() || crate::greenlet::attributes::has_ended(&task.base))
}

/// Whether the greenlet has ended without an error. Being killed by GreenletExit is none.
#[pyfunction]
#[pyo3(text_signature = "(self, /)")]
pub fn successful(slf: &Bound<'_, PyAny>) -> PyResult<bool> {
    let task = task_of(slf)?;
    Ok(task.is_ready() && task.error.get().is_null())
}

/// Has the hub call `callback(self)` when the greenlet has ended; soon, if it has already. The
/// callback must not wait.
#[pyfunction]
#[pyo3(text_signature = "(self, callback, /)")]
pub fn rawlink(slf: &Bound<'_, PyAny>, callback: Bound<'_, PyAny>) -> PyResult<()> {
    let task = task_of(slf)?;
    task.links.add(callback)?;
    if task.is_ready() {
        notify_links(task);
    }
    Ok(())
}

/// Takes a callback back that was given to rawlink() or link(). Nothing happens if there is none.
#[pyfunction]
#[pyo3(text_signature = "(self, callback, /)")]
pub fn unlink(slf: &Bound<'_, PyAny>, callback: Bound<'_, PyAny>) -> PyResult<()> {
    task_of(slf)?.links.remove(&callback).map(drop)
}

/// Takes all callbacks back.
#[pyfunction]
#[pyo3(text_signature = "(self, /)")]
pub fn unlink_all(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    drop(task_of(slf)?.links.take());
    Ok(())
}

/// Whether callbacks or greenlets wait for the end of this one, or have not been told of it yet.
#[pyfunction]
#[pyo3(text_signature = "(self, /)")]
pub fn has_links(slf: &Bound<'_, PyAny>) -> PyResult<bool> {
    let task = task_of(slf)?;
    Ok(task.links.len() + task.waiters.len() != 0)
}

/// The function and its arguments, as messages show them. Kept when asked for before the end.
#[pyfunction]
#[pyo3(text_signature = "(self, /)")]
pub fn _formatinfo<'py>(slf: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = slf.py();
    let task = task_of(slf)?;
    let known = task.described.get();
    if !known.is_null() {
        // SAFETY: owned by the task.
        return Ok(unsafe { Bound::from_borrowed_ptr(py, known) });
    }
    let text = PyString::new(py, &format_call(slf)?).into_any();
    if !task.is_ready() {
        // It is to be known when the function and its arguments have been dropped.
        let old = task.described.replace(text.clone().into_ptr());
        // SAFETY: an owned reference or null: describing may have run any code.
        unsafe { ffi::Py_XDECREF(old) };
    }
    Ok(text)
}

/// The greenlet itself.
#[pyfunction]
#[pyo3(text_signature = "(self, /)")]
pub fn __enter__<'py>(slf: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    task_of(slf)?;
    Ok(slf.clone())
}

/// Waits for the end of the greenlet. If the block raised, or the wait does, the greenlet is ended
/// by the same exception first.
#[pyfunction]
#[pyo3(text_signature = "(self, typ, value, traceback, /)")]
pub fn __exit__(
    slf: &Bound<'_, PyAny>,
    typ: Bound<'_, PyAny>,
    value: Bound<'_, PyAny>,
    traceback: Bound<'_, PyAny>,
) -> PyResult<()> {
    drop(traceback);
    // Through the methods, which subclasses may replace.
    if typ.is_none() {
        return slf.call_method0("join").map(drop).map_err(|error| {
            let given = error.value(slf.py()).clone();
            slf.call_method1("kill", (given,)).err().unwrap_or(error)
        });
    }
    let exception = if value.is_none() { typ } else { value };
    slf.call_method1("kill", (exception,)).map(drop)
}
