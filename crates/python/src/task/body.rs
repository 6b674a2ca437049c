//! What a `Greenlet` does on its own stack.

use super::object::{Stage, TaskObject};
use crate::errors::take_raised;
use crate::exceptions;
use crate::greenlet::call;
use crate::greenlet::exceptions::is_greenlet_exit;
use crate::greenlet::object::{Next, Payload, PyGreenlet};
use crate::greenlet::switch::parent_of;
use crate::greenlet::thread::Thread;
use crate::hub::HubObject;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many tasks have ended.
static ENDED: AtomicU64 = AtomicU64::new(0);

/// The `ended` of the task that has ended last.
pub fn ended_count() -> u64 {
    ENDED.load(Ordering::Relaxed)
}

/// Runs the function, keeps the result, tells whoever waits, and goes on with the parent: the
/// hub, which means whatever is ready next.
///
/// # Safety
///
/// Called as a greenlet's body, for a `Greenlet`.
pub unsafe fn body(here: &PyGreenlet, first: Payload) -> Next {
    // SAFETY: only Greenlets have this body.
    let task = unsafe { &*here.as_greenlet().cast::<TaskObject>() };
    task.stage.set(Stage::Running);
    task.start_timer.set(None);
    match first {
        // Thrown by a trace function before anything ran.
        Payload::Throw(error) => failed(task, error),
        first => {
            first.discard();
            let result = call_run(task);
            if result.is_null() {
                failed(task, take_raised());
            } else {
                task.value.set(result);
                finish(task);
            }
        }
    }
    (parent_of(here), Payload::none())
}

/// Calls the function, or, if there is none, the `_run` that a subclass defines. Without either
/// the result is None.
#[inline]
fn call_run(task: &TaskObject) -> *mut ffi::PyObject {
    let func = task.func.get();
    if func.is_null() {
        return call_method(task);
    }
    let (args, kwargs) = (task.args.get(), task.kwargs.get());
    // SAFETY: valid objects or null. They are held for the call: all three are attributes that
    // the function may set.
    unsafe {
        ffi::Py_INCREF(func);
        ffi::Py_XINCREF(args);
        ffi::Py_XINCREF(kwargs);
        let result = call_with(func, args, kwargs);
        ffi::Py_DECREF(func);
        ffi::Py_XDECREF(args);
        ffi::Py_XDECREF(kwargs);
        result
    }
}

#[cold]
#[inline(never)]
fn call_method(task: &TaskObject) -> *mut ffi::PyObject {
    // SAFETY: a valid object and a C string; new references.
    unsafe {
        let method = ffi::PyObject_GetAttrString(task.as_ptr(), c"_run".as_ptr());
        if method.is_null() {
            return ptr::null_mut();
        }
        let (args, kwargs) = (task.args.get(), task.kwargs.get());
        ffi::Py_XINCREF(args);
        ffi::Py_XINCREF(kwargs);
        let result = call_with(method, args, kwargs);
        ffi::Py_DECREF(method);
        ffi::Py_XDECREF(args);
        ffi::Py_XDECREF(kwargs);
        result
    }
}

/// # Safety
///
/// A callable, a tuple or null, a dict or null.
#[inline]
unsafe fn call_with(
    func: *mut ffi::PyObject,
    args: *mut ffi::PyObject,
    kwargs: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as the caller guarantees.
    unsafe {
        if kwargs.is_null() {
            if args.is_null() {
                return call::no_args(func);
            }
            return call::with_args(func, args);
        }
        if !args.is_null() {
            return ffi::PyObject_Call(func, args, kwargs);
        }
        let empty = ffi::PyTuple_New(0);
        let result = ffi::PyObject_Call(func, empty, kwargs);
        ffi::Py_DECREF(empty);
        result
    }
}

/// Ends a task by an exception; takes the reference. `GreenletExit` is a result, anything else is
/// kept and reported.
#[cold]
pub fn failed(task: &TaskObject, error: *mut ffi::PyObject) {
    if is_greenlet_exit(error) {
        task.value.set(error);
        finish(task);
        return;
    }
    // SAFETY: an owned reference, of which the task takes another; the GIL is held.
    let (py, raised) = unsafe {
        let py = Python::assume_attached();
        ffi::Py_INCREF(error);
        task.error.set(error);
        (py, PyErr::from_value(Bound::from_owned_ptr(py, error)))
    };
    end(task);
    // The report names the function and its arguments: it comes before they are dropped. If it is
    // to interrupt the main greenlet it comes before a wait of the main greenlet for this one ends.
    match HubObject::get(py) {
        Ok(hub) => {
            // SAFETY: the task is alive.
            let context = unsafe { Bound::from_borrowed_ptr(py, task.as_ptr()) };
            exceptions::handle_error(py, hub, Some(&context), raised);
        }
        Err(failure) => failure.write_unraisable(py, None),
    }
    tell(task);
    task.drop_call();
}

/// The end of a task that has its value.
fn finish(task: &TaskObject) {
    end(task);
    tell(task);
    task.drop_call();
}

/// Marks the task, which has its result, as ended.
#[inline]
fn end(task: &TaskObject) {
    task.stage.set(Stage::Ready);
    // Not one operation: the GIL is held.
    let ended = ENDED.load(Ordering::Relaxed) + 1;
    ENDED.store(ended, Ordering::Relaxed);
    task.ended.set(ended);
}

/// Makes whoever waits for the task ready.
#[inline]
fn tell(task: &TaskObject) {
    if !task.links.is_empty() {
        notify_links(task);
    }
    task.waiters.wake_all();
}

/// Has the links called by the hub.
#[cold]
pub fn notify_links(task: &TaskObject) {
    // SAFETY: the GIL is held; the task is alive and has a thread.
    unsafe {
        let py = Python::assume_attached();
        let object = Bound::from_borrowed_ptr(py, task.as_ptr());
        let thread = &*task.base.thread.get();
        // Not by somebody else, who kills a greenlet that has not begun.
        let at_once = task.base.is_running();
        let outcome = if thread.is_calling() {
            HubObject::of(py, thread).and_then(|hub| task.links.notify(py, hub, &object, at_once))
        } else {
            Thread::get(py)
                .and_then(|thread| HubObject::of(py, thread))
                .and_then(|hub| task.links.notify(py, hub, &object, at_once))
        };
        if let Err(error) = outcome {
            error.write_unraisable(py, Some(&object));
        }
    }
}
