//! Futures that the core makes for coroutines to wait for.
//!
//! A task knows how to wait for futures of asyncio's C class, and for nothing else as quickly. To make one
//! takes about as long as to wake a task up, so those that nobody has kept are used again: a call
//! of `__init__` makes them as good as new.

use super::event_loop::AsyncioLoop;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{IntoPyDict, PyDict, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};
use std::cell::{Cell, RefCell};
use std::ptr;

/// How many are kept for each loop. One that was given back is referred to as long as the step lasts that it
/// has led to, so two are enough where one coroutine is woken after the other.
const KEPT: usize = 8;

/// What a loop has of them.
#[derive(Default)]
pub struct Futures {
    spare: RefCell<Vec<Py<PyAny>>>,
    /// What `__init__` is called with.
    arguments: RefCell<Option<Py<PyDict>>>,
    /// Whether the loop's futures are those of its own `create_future`; None if not known yet.
    are_ours: Cell<Option<bool>>,
}

/// A new future that the running coroutine is about to wait for: to be given to its task.
///
/// # Errors
///
/// What a `create_future` of the program's raises.
#[inline]
pub fn make<'py>(event_loop: &Bound<'py, AsyncioLoop>) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let spare = event_loop.get().futures.take();
    let again = spare.map(|future| begin_again(event_loop, future.into_bound(py)));
    let future = match again {
        Some(Ok(future)) => future,
        Some(Err(_)) => {
            // From CPython 3.15 on futures are initialised once: none is kept any more.
            event_loop.get().futures.are_ours.set(Some(false));
            event_loop.call_method0(intern!(py, "create_future"))?
        }
        None => event_loop.call_method0(intern!(py, "create_future"))?,
    };
    future.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
    Ok(future)
}

fn begin_again<'py>(
    event_loop: &Bound<'py, AsyncioLoop>,
    future: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let place = &event_loop.get().futures.arguments;
    let arguments = place.borrow().as_ref().map(|arguments| arguments.clone_ref(py));
    let arguments = match arguments {
        Some(arguments) => arguments,
        None => {
            let arguments = [(intern!(py, "loop"), event_loop)].into_py_dict(py)?.unbind();
            *place.borrow_mut() = Some(arguments.clone_ref(py));
            arguments
        }
    };
    // SAFETY: a future of the C class, which has this slot; a tuple and a dict.
    let status = unsafe {
        let init = (*ffi::Py_TYPE(future.as_ptr())).tp_init;
        init.map(|init| init(future.as_ptr(), PyTuple::empty(py).as_ptr(), arguments.as_ptr()))
    };
    match status {
        Some(0) => Ok(future),
        Some(_) => Err(PyErr::fetch(py)),
        None => Err(PyRuntimeError::new_err("futures cannot be initialised")),
    }
}

/// Gives a future back that is done and that nobody waits for any more.
#[inline]
pub fn give_back(event_loop: &Bound<'_, AsyncioLoop>, future: Bound<'_, PyAny>) {
    if !are_ours(event_loop) || !is_plain(&future) {
        return;
    }
    let mut spare = event_loop.get().futures.spare.borrow_mut();
    let oldest = (spare.len() == KEPT).then(|| spare.remove(0));
    spare.push(future.unbind());
    drop(spare);
    drop(oldest);
}

/// Whether a future is an instance of the C class.
#[inline]
fn is_plain(future: &Bound<'_, PyAny>) -> bool {
    static CLASS: PyOnceLock<Option<Py<PyType>>> = PyOnceLock::new();
    let py = future.py();
    let class = CLASS.get_or_init(py, || {
        let class = py.import("_asyncio").and_then(|module| module.getattr("Future")).ok()?;
        class.cast_into::<PyType>().ok().map(Bound::unbind)
    });
    class.as_ref().is_some_and(|class| future.get_type().is(class))
}

/// Whether the loop's class has no `create_future` of its own.
#[inline]
fn are_ours(event_loop: &Bound<'_, AsyncioLoop>) -> bool {
    let place = &event_loop.get().futures.are_ours;
    place.get().unwrap_or_else(|| {
        let name = intern!(event_loop.py(), "create_future");
        let own = event_loop.py().get_type::<AsyncioLoop>().getattr(name);
        let found = event_loop.get_type().getattr(name);
        let are_ours = matches!((own, found), (Ok(own), Ok(found)) if own.is(&found));
        place.set(Some(are_ours));
        are_ours
    })
}

/// Has whoever waits for a future go on. False if it was done already: it was cancelled.
#[inline]
pub fn complete(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    static INVALID: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static SET_RESULT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = future.py();
    let outcome = if is_plain(future) {
        // What it would be found to be.
        let set_result = SET_RESULT.get_or_try_init(py, || {
            future.get_type().getattr(intern!(py, "set_result")).map(Bound::unbind)
        })?;
        let arguments = [future.as_ptr(), py.None().into_ptr()];
        // SAFETY: a method of the class, an instance and an argument.
        unsafe {
            let set_result = set_result.as_ptr();
            let result =
                ffi::PyObject_Vectorcall(set_result, arguments.as_ptr(), 2, ptr::null_mut());
            ffi::Py_DECREF(arguments[1]);
            Bound::from_owned_ptr_or_err(py, result)
        }
    } else {
        future.call_method1(intern!(py, "set_result"), (py.None(),))
    };
    match outcome {
        Ok(_) => Ok(true),
        Err(error) => {
            let invalid = INVALID.import(py, "asyncio", "InvalidStateError")?;
            if error.is_instance(py, invalid) { Ok(false) } else { Err(error) }
        }
    }
}

impl Futures {
    /// One that nobody else refers to.
    #[inline]
    fn take(&self) -> Option<Py<PyAny>> {
        let mut spare = self.spare.borrow_mut();
        // SAFETY: live objects.
        let is_free = |future: &Py<PyAny>| unsafe { ffi::Py_REFCNT(future.as_ptr()) } == 1;
        let index = spare.iter().rposition(is_free)?;
        Some(spare.swap_remove(index))
    }

    /// Lets go of all.
    pub fn clear(&self) {
        let (spare, arguments) = (self.spare.take(), self.arguments.take());
        drop((spare, arguments));
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(spare) = self.spare.try_borrow() {
            for future in &*spare {
                visit.call(future)?;
            }
        }
        if let Ok(arguments) = self.arguments.try_borrow() {
            visit.call(&*arguments)?;
        }
        Ok(())
    }
}
