//! What the greenlet package tells of its own workings, under the names that programs and its
//! tests read.

use super::thread;
#[cfg(any(cpython = "3.11", cpython = "3.12"))]
use crate::pystate;
use pyo3::ffi;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

static CLEANUP_ENABLED: AtomicBool = AtomicBool::new(true);

/// get_total_main_greenlets()
/// --
///
/// The number of main greenlets that exist: one for each thread that uses greenlets, and those of
/// ended threads that something still refers to.
#[pyfunction]
fn get_total_main_greenlets() -> usize {
    thread::main_greenlets()
}

/// get_pending_cleanup_count()
/// --
///
/// The number of ended threads that are still to be cleaned up after: always 0, as threads do it
/// themselves when they end. (As the greenlet package's function.)
#[pyfunction]
fn get_pending_cleanup_count() -> usize {
    0
}

/// enable_optional_cleanup(enabled)
/// --
///
/// Whether get_clocks_used_doing_optional_cleanup() counts. The greenlet package can search for
/// greenlets that leaked from ended threads, at a cost that programs may not want to pay; greenloop
/// has nothing to search for.
#[pyfunction]
fn enable_optional_cleanup(enabled: &Bound<'_, PyAny>) -> PyResult<()> {
    CLEANUP_ENABLED.store(enabled.is_truthy()?, Ordering::Relaxed);
    Ok(())
}

/// get_clocks_used_doing_optional_cleanup()
/// --
///
/// Processor time, in units of 1/CLOCKS_PER_SEC seconds, that went into searching for leaked
/// greenlets: 0 here, see enable_optional_cleanup(). None if that was disabled.
#[pyfunction]
fn get_clocks_used_doing_optional_cleanup() -> Option<usize> {
    CLEANUP_ENABLED.load(Ordering::Relaxed).then_some(0)
}

/// set_thread_local(key, value)
/// --
///
/// Puts a value into the interpreter's dictionary for the calling thread, which is cleared when
/// the thread ends.
#[pyfunction]
#[pyo3(signature = (key, value, /))]
fn set_thread_local(key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: the GIL is held; the dictionary is borrowed from the thread's state.
    let set = unsafe {
        let dict = ffi::PyThreadState_GetDict();
        dict.is_null() || ffi::PyDict_SetItem(dict, key.as_ptr(), value.as_ptr()) != 0
    };
    if set { Err(PyErr::fetch(key.py())) } else { Ok(()) }
}

/// get_tstate_trash_delete_nesting()
/// --
///
/// How deep the calling thread is in nested deallocations that the interpreter counts.
#[cfg(any(cpython = "3.11", cpython = "3.12"))]
#[pyfunction]
fn get_tstate_trash_delete_nesting(_py: Python<'_>) -> std::ffi::c_int {
    // SAFETY: the GIL is held: it is the running thread's state.
    unsafe { pystate::trash_nesting(pystate::ThreadState::new(ffi::PyThreadState_Get())) }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // POSIX has it so.
    module.add("CLOCKS_PER_SEC", 1_000_000)?;
    module.add_function(wrap_pyfunction!(get_total_main_greenlets, module)?)?;
    module.add_function(wrap_pyfunction!(get_pending_cleanup_count, module)?)?;
    module.add_function(wrap_pyfunction!(enable_optional_cleanup, module)?)?;
    module.add_function(wrap_pyfunction!(get_clocks_used_doing_optional_cleanup, module)?)?;
    module.add_function(wrap_pyfunction!(set_thread_local, module)?)?;
    #[cfg(any(cpython = "3.11", cpython = "3.12"))]
    module.add_function(wrap_pyfunction!(get_tstate_trash_delete_nesting, module)?)?;
    Ok(())
}
