//! Which `contextvars.Context` a new greenlet runs in.
//!
//! An empty one, unless the one who spawns it says otherwise: by the keyword `context`, or by the
//! setting that has it run in a copy of the spawner's.

use crate::greenlet::object::{PyGreenlet, Status};
use pyo3::ffi;
use pyo3::prelude::*;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

type Object = *mut ffi::PyObject;

/// Whether greenlets run in a copy of the spawner's context.
static INHERIT: AtomicBool = AtomicBool::new(false);

/// Takes the keyword `context` out of a call's keywords (owned or null), and has the greenlet run in
/// that context. Returns what is left of the keywords: owned, or null for none.
///
/// Only a `Context` means this; any other value is for the function, as ever.
///
/// # Safety
///
/// A dict that nobody else has, or null; the GIL is held.
pub unsafe fn from_keywords(greenlet: &PyGreenlet, keywords: Object) -> Object {
    if keywords.is_null() || greenlet.status.get() != Status::Unstarted {
        return keywords;
    }
    // SAFETY: as the caller guarantees; each reference is counted where it is kept.
    unsafe {
        let name = pyo3::intern!(Python::assume_attached(), "context").as_ptr();
        let context = ffi::PyDict_GetItem(keywords, name);
        if context.is_null() || ffi::PyContext_CheckExact(context) == 0 {
            return keywords;
        }
        ffi::Py_INCREF(context);
        ffi::PyDict_DelItem(keywords, name);
        ffi::Py_XDECREF(greenlet.py.replace_context(context));
        if ffi::PyDict_Size(keywords) > 0 {
            return keywords;
        }
        ffi::Py_DECREF(keywords);
        ptr::null_mut()
    }
}

/// Gives a greenlet that is being started a copy of the running one's context, if that is the
/// setting and it has none.
///
/// # Errors
///
/// MemoryError.
#[inline]
pub fn inherit(py: Python<'_>, greenlet: &PyGreenlet) -> PyResult<()> {
    if INHERIT.load(Ordering::Relaxed) { inherit_now(py, greenlet) } else { Ok(()) }
}

#[cold]
fn inherit_now(py: Python<'_>, greenlet: &PyGreenlet) -> PyResult<()> {
    if !greenlet.py.context().is_null() {
        return Ok(());
    }
    // SAFETY: a new reference or null; the greenlet has not started.
    unsafe {
        let copy = Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent())?;
        ffi::Py_XDECREF(greenlet.py.replace_context(copy.into_ptr()));
    }
    Ok(())
}

/// _inherit_contexts(inherit)
/// --
///
/// Whether greenlets that are spawned from now on run in a copy of their spawner's context.
#[pyfunction]
pub fn _inherit_contexts(inherit: bool) {
    INHERIT.store(inherit, Ordering::Relaxed);
}
