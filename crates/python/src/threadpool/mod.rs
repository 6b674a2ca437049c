//! Native worker threads, for calls that block and know nothing of greenlets.

mod job;
mod pool;
pub mod queue;
mod worker;

use pyo3::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Changed with the GIL held only, except in a forked child.
static IDLE: AtomicUsize = AtomicUsize::new(0);

/// Grows in every forked child: pools made before have no threads there.
static GENERATION: AtomicUsize = AtomicUsize::new(0);

/// Worker threads that wait for work: they have a thread state but will not wake anybody.
pub fn idle_workers() -> usize {
    IDLE.load(Ordering::Relaxed)
}

/// How many worker threads of pools have nothing to do.
#[pyfunction]
fn _idle_workers() -> usize {
    idle_workers()
}

/// Runs in a forked child, where the worker threads do not exist.
#[pyfunction]
fn _forget_workers() {
    IDLE.store(0, Ordering::Relaxed);
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    worker::prepare(py)?;
    module.add_class::<pool::WorkerPool>()?;
    module.add_function(wrap_pyfunction!(_idle_workers, module)?)?;
    let hook = wrap_pyfunction!(_forget_workers, module)?;
    let options = pyo3::types::PyDict::new(py);
    options.set_item("after_in_child", hook)?;
    py.import("os")?.call_method("register_at_fork", (), Some(&options))?;
    Ok(())
}
