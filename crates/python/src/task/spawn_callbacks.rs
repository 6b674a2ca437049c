//! Functions that are told of every greenlet that is started (`Greenlet.add_spawn_callback`).

use pyo3::ffi;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

static CALLBACKS: Mutex<Vec<Py<PyAny>>> = Mutex::new(Vec::new());
static ANY: AtomicBool = AtomicBool::new(false);

/// Whether there are any: one load, for every greenlet that is started.
#[inline]
pub fn any() -> bool {
    ANY.load(Ordering::Relaxed)
}

fn copies(py: Python<'_>) -> Vec<Py<PyAny>> {
    let callbacks = CALLBACKS.lock().unwrap_or_else(PoisonError::into_inner);
    callbacks.iter().map(|callback| callback.clone_ref(py)).collect()
}

/// Calls all with a greenlet. What they raise is reported, and does not stop the start.
#[cold]
pub fn call(py: Python<'_>, greenlet: *mut ffi::PyObject) {
    // SAFETY: a live object.
    let greenlet = unsafe { Bound::from_borrowed_ptr(py, greenlet) };
    for callback in copies(py) {
        if let Err(error) = callback.bind(py).call1((&greenlet,)) {
            error.write_unraisable(py, Some(callback.bind(py)));
        }
    }
}

/// add_spawn_callback(callback)
/// --
///
/// Has `callback(greenlet)` called for every Greenlet that is started from now on, in all threads.
#[pyfunction]
pub fn add_spawn_callback(callback: Bound<'_, PyAny>) {
    let mut callbacks = CALLBACKS.lock().unwrap_or_else(PoisonError::into_inner);
    callbacks.push(callback.unbind());
    ANY.store(true, Ordering::Relaxed);
}

/// remove_spawn_callback(callback)
/// --
///
/// Takes add_spawn_callback() back. Nothing happens if there is no such callback.
#[pyfunction]
pub fn remove_spawn_callback(callback: Bound<'_, PyAny>) -> PyResult<()> {
    let py = callback.py();
    for candidate in copies(py) {
        if !candidate.bind(py).eq(&callback)? {
            continue;
        }
        let mut callbacks = CALLBACKS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = callbacks.iter().position(|known| known.is(&candidate)) {
            let removed = callbacks.remove(index);
            ANY.store(!callbacks.is_empty(), Ordering::Relaxed);
            drop(callbacks);
            drop(removed);
        }
        break;
    }
    Ok(())
}
