//! `greenloop._core`: greenlets, hub, primitives and cooperative sockets for CPython.

mod aio;
mod dns;
mod errors;
mod exceptions;
mod forced_unwind;
mod fork;
mod greenlet;
mod hub;
mod net;
mod pystate;
mod server;
mod sync;
mod task;
mod threadpool;
mod time;

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// Threads, classes and the records of greenlets are the process': they belong to one interpreter.
const MAIN_INTERPRETER: i64 = 0;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    pystate::check_interpreter().map_err(PyImportError::new_err)?;
    // SAFETY: the GIL is held, so there is an interpreter.
    if unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) } != MAIN_INTERPRETER {
        // As CPython says it of its own accord in interpreters with a GIL of their own.
        return Err(PyImportError::new_err(
            "module greenloop._core does not support loading in subinterpreters",
        ));
    }
    forced_unwind::install();
    static FIRST: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let py = module.py();
    if let Some(first) = FIRST.get(py) {
        return adopt(module, first.bind(py));
    }
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    greenlet::register(module)?;
    hub::register(module)?;
    sync::register(module)?;
    task::register(module)?;
    threadpool::register(module)?;
    net::register(module)?;
    dns::register(module)?;
    server::register(module)?;
    aio::register(module)?;
    FIRST.get_or_init(py, || module.clone().unbind());
    Ok(())
}

/// Imported anew, after somebody has removed it from `sys.modules`: it has the same classes, since
/// there are hubs and greenlets of them.
fn adopt(module: &Bound<'_, PyModule>, first: &Bound<'_, PyModule>) -> PyResult<()> {
    let dict = module.dict();
    for (name, value) in first.dict() {
        if !dict.contains(&name)? {
            dict.set_item(name, value)?;
        }
    }
    Ok(())
}
