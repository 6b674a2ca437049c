//! `greenloop._core`: greenlets, hub, primitives and cooperative sockets for CPython.

mod errors;
mod exceptions;
mod forced_unwind;
mod greenlet;
mod hub;
mod net;
mod pystate;
mod sync;
mod task;
mod threadpool;
mod time;

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    pystate::check_interpreter().map_err(PyImportError::new_err)?;
    forced_unwind::install();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    greenlet::register(module)?;
    hub::register(module)?;
    sync::register(module)?;
    task::register(module)?;
    threadpool::register(module)?;
    net::register(module)?;
    Ok(())
}
