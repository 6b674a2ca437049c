//! `sleep`, written by hand: it is the most frequent wait, and what it has on the stack is part of
//! every greenlet that sleeps (pyo3's wrapper takes 330 bytes).

use super::wait::{Reason, Wait, Woken};
use crate::greenlet::methods::fast_keywords;
use crate::time::deadline_after;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::CStr;
use std::ptr;

const DOC: &CStr = c"sleep(seconds=0, ref=True)
--

Lets others run, and goes on after `seconds` at the earliest. With 0 or less: as soon as
everything that is ready now has run. With `ref` false the loop may end meanwhile.

TypeError is raised for what is no number, ValueError for nan. (As gevent.sleep.)";

/// The interpreter keeps a pointer to the definition; it never writes to it.
struct Definition(ffi::PyMethodDef);

// SAFETY: never written; the pointers in it are to static strings and functions.
unsafe impl Sync for Definition {}

static SLEEP: Definition = Definition(fast_keywords(c"sleep", sleep, DOC));

type Object = *mut ffi::PyObject;

unsafe extern "C" fn sleep(
    _module: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object {
    let mut seconds = 0.0;
    let mut keep_running = true;
    // SAFETY: the vectorcall convention.
    unsafe {
        if (count > 0 || !names.is_null())
            && !arguments(args, count, names, &mut seconds, &mut keep_running)
        {
            return ptr::null_mut();
        }
        if !pause(seconds, keep_running) {
            return ptr::null_mut();
        }
        let none = ffi::Py_None();
        ffi::Py_INCREF(none);
        none
    }
}

/// Reads the arguments. False with an exception set if they are wrong.
///
/// # Safety
///
/// The vectorcall convention.
#[inline(never)]
unsafe fn arguments(
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
    seconds: &mut f64,
    keep_running: &mut bool,
) -> bool {
    // SAFETY: as the caller guarantees; borrowed objects.
    unsafe {
        let py = Python::assume_attached();
        let count = count as usize;
        let mut given = [ptr::null_mut::<ffi::PyObject>(); 2];
        let named = if names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(names) as usize };
        if count + named > 2 {
            PyTypeError::new_err("sleep() takes at most 2 arguments").restore(py);
            return false;
        }
        for (index, place) in given.iter_mut().enumerate().take(count) {
            *place = *args.add(index);
        }
        for index in 0..named {
            let name = ffi::PyTuple_GET_ITEM(names, index as ffi::Py_ssize_t);
            let place = if ffi::PyUnicode_CompareWithASCIIString(name, c"seconds".as_ptr()) == 0 {
                0
            } else if ffi::PyUnicode_CompareWithASCIIString(name, c"ref".as_ptr()) == 0 {
                1
            } else {
                PyTypeError::new_err("sleep() takes the keyword arguments seconds and ref only")
                    .restore(py);
                return false;
            };
            if !given[place].is_null() {
                PyTypeError::new_err("sleep() got an argument twice").restore(py);
                return false;
            }
            given[place] = *args.add(count + index);
        }
        if !given[0].is_null() {
            *seconds = ffi::PyFloat_AsDouble(given[0]);
            if *seconds == -1.0 && !ffi::PyErr_Occurred().is_null() {
                return false;
            }
            if seconds.is_nan() {
                PyValueError::new_err("sleep length must not be nan").restore(py);
                return false;
            }
        }
        if !given[1].is_null() {
            let truth = ffi::PyObject_IsTrue(given[1]);
            if truth < 0 {
                return false;
            }
            *keep_running = truth != 0;
        }
        true
    }
}

/// Waits. False with an exception set if the wait ended by one.
#[inline(never)]
pub fn pause(seconds: f64, keep_running: bool) -> bool {
    // SAFETY: the GIL is held.
    let py = unsafe { Python::assume_attached() };
    let wait = match Wait::begin(py, ptr::null_mut()) {
        Ok(wait) => wait,
        Err(error) => return fail(py, error),
    };
    let deadline = if seconds > 0.0 {
        Some(deadline_after(seconds))
    } else {
        wait.ticket().wake(Reason::Notified);
        None
    };
    if !keep_running && deadline.is_some() {
        return pause_unreferenced(wait, deadline);
    }
    done(wait.park(None, deadline))
}

#[inline(never)]
fn pause_unreferenced(wait: Wait<'_>, deadline: Option<u64>) -> bool {
    let hub = wait.hub();
    hub.change_unreferenced(true);
    let woken = wait.park(None, deadline);
    hub.change_unreferenced(false);
    done(woken)
}

/// Lets everybody run who is ready, if the running greenlet may wait here. Returns whether it has
/// waited.
///
/// # Errors
///
/// What it is thrown meanwhile.
pub fn give_way(py: Python<'_>) -> PyResult<bool> {
    // The hub itself may not, nor code that runs in the middle of another wait.
    let Ok(wait) = Wait::begin(py, ptr::null_mut()) else { return Ok(false) };
    wait.ticket().wake(Reason::Notified);
    wait.park(None, None).into_result()?;
    Ok(true)
}

#[inline]
fn done(woken: Woken) -> bool {
    match woken.error {
        None => true,
        // SAFETY: the GIL is held.
        Some(error) => fail(unsafe { Python::assume_attached() }, error.into_err()),
    }
}

#[cold]
#[inline(never)]
fn fail(py: Python<'_>, error: PyErr) -> bool {
    error.restore(py);
    false
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // SAFETY: a static definition; the result is a new reference or null.
    let function = unsafe {
        let definition = (&raw const SLEEP.0).cast_mut();
        let name = module.name()?;
        Bound::from_owned_ptr_or_err(
            module.py(),
            ffi::PyCFunction_NewEx(definition, ptr::null_mut(), name.as_ptr()),
        )?
    };
    module.add("sleep", function)
}
