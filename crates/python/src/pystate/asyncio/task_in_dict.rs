//! CPython 3.11 to 3.13: the tasks that run are in a dict of the module `_asyncio`, by their loops,
//! for all threads.

use super::super::ThreadState;
use super::{Object, Owned};
use crate::errors::take_raised;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::ffi::CStr;
use std::ptr;

/// Whether tasks that run are found by their loops, which have to be alive then.
pub const TASKS_HAVE_LOOPS: bool = true;

/// An attribute of `_asyncio` if that is imported: a new reference, null without an exception set
/// otherwise.
pub fn of_accelerator(name: &CStr) -> Object {
    // SAFETY: the GIL is held; the dict of modules is borrowed, and so is what is in it.
    unsafe {
        let module = ffi::PyDict_GetItemString(ffi::PyImport_GetModuleDict(), c"_asyncio".as_ptr());
        if module.is_null() {
            return module;
        }
        let found = ffi::PyObject_GetAttrString(module, name.as_ptr());
        if found.is_null() {
            ffi::PyErr_Clear();
        }
        found
    }
}

/// The dict: borrowed, null if asyncio is not imported.
fn current_tasks() -> Object {
    static FOUND: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    // SAFETY: the GIL is held.
    let py = unsafe { Python::assume_attached() };
    if FOUND.get(py).is_none() {
        let found = of_accelerator(c"_current_tasks");
        // SAFETY: an owned reference or null.
        let found = unsafe { Bound::from_owned_ptr_or_opt(py, found) };
        match found {
            // SAFETY: a valid object.
            Some(found) if unsafe { ffi::PyDict_Check(found.as_ptr()) } != 0 => {
                // Not lost if another thread was first: both found the same.
                let _ = FOUND.set(py, found.unbind());
            }
            _ => return ptr::null_mut(),
        }
    }
    FOUND.get(py).map_or(ptr::null_mut(), Py::as_ptr)
}

/// The task of the running loop that runs: borrowed, null if there is none. An owned exception
/// if the loop cannot be looked up.
///
/// # Safety
///
/// `running` is the running loop of the running thread.
pub unsafe fn current_task(_ts: ThreadState, running: Object) -> Result<Object, Object> {
    let tasks = current_tasks();
    if tasks.is_null() {
        return Ok(tasks);
    }
    // SAFETY: a dict and a valid object.
    unsafe {
        let task = ffi::PyDict_GetItemWithError(tasks, running);
        if task.is_null() && !ffi::PyErr_Occurred().is_null() {
            return Err(take_raised());
        }
        Ok(task)
    }
}

/// Takes the task that runs out; null if there is none. An owned exception if the loop cannot be
/// looked up.
///
/// # Safety
///
/// As for `current_task`.
pub unsafe fn take_task(ts: ThreadState, running: Object) -> Result<Owned, Object> {
    // SAFETY: passed on; a new reference is taken before the dict drops its own.
    unsafe {
        let task = Owned::new_reference(current_task(ts, running)?);
        if !task.is_null() && ffi::PyDict_DelItem(current_tasks(), running) != 0 {
            return Err(take_raised());
        }
        Ok(task)
    }
}

/// Puts the task that runs back. An owned exception if that fails.
///
/// # Safety
///
/// As for `current_task`; there is none at present.
pub unsafe fn put_task(_ts: ThreadState, running: Object, task: Owned) -> Result<(), Object> {
    // SAFETY: a dict, because the task was taken out of it, and valid objects.
    let status = unsafe { ffi::PyDict_SetItem(current_tasks(), running, task.as_ptr()) };
    if status == 0 { Ok(()) } else { Err(take_raised()) }
}
