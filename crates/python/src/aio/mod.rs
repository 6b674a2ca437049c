//! asyncio's event loop on the hub: `greenloop.asyncio` builds on it.
//!
//! * `handle`: what `call_soon` and `call_later` return
//! * `event_loop`: the loop's memory, and its state
//! * `calls`: its methods that are called for every callback, future and task
//! * `runner`: the greenlets that run the callbacks, and how one takes over from another
//! * `descriptors`: readers and writers
//! * `awaitable`: objects of the core that coroutines await, and `futures`: what these wait by
//! * `awaiting`: futures of greenlets, for coroutines that await them
//! * `waiting`: greenlets that wait for coroutines
//! * `entering`: first steps of tasks in greenlets that are not runners
//! * `throwing`: what is thrown into what is awaited
//! * `transport`: connections of stream sockets, and datagram endpoints
//! * `sockets`: calls on a program's own sockets
//! * `receiving`: recv(2)
//! * `methods`: how methods are put on classes
//!
//! Transports, servers and what else is not called for every event are the standard library's, or
//! in `python/greenloop/asyncio`.

mod awaitable;
pub mod awaiting;
mod calls;
pub mod descriptors;
pub mod entering;
pub mod event_loop;
mod futures;
pub mod handle;
mod methods;
mod receiving;
pub mod runner;
pub mod sockets;
pub mod throwing;
mod transport;
pub mod waiting;

use crate::greenlet::thread::Thread;
use crate::pystate::asyncio;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// The loop that runs in the running greenlet.
fn running_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    if let Some(thread) = Thread::try_get() {
        // SAFETY: the running thread's state; a borrowed loop, or null.
        let found = unsafe {
            let found = asyncio::running_loop(thread.state());
            Bound::from_borrowed_ptr_or_opt(py, found)
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    // There is none, or asyncio runs without its C module.
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let function = FUNCTION.get_or_try_init(py, || {
        py.import("asyncio")?.getattr("_get_running_loop").map(Bound::unbind)
    })?;
    let running = function.bind(py).call0()?;
    Ok((!running.is_none()).then_some(running))
}

/// The task in whose step this is called, of the running loop.
fn current_task<'py>(running: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = running.py();
    let Some(thread) = Thread::try_get() else { return Ok(None) };
    // SAFETY: the running thread's state and its running loop; a borrowed task, or null, or an
    // exception that is owned.
    unsafe {
        let task = asyncio::current_task(thread.state(), running.as_ptr())
            .map_err(|error| PyErr::from_value(Bound::from_owned_ptr(py, error)))?;
        Ok(Bound::from_borrowed_ptr_or_opt(py, task))
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    handle::register(module)?;
    event_loop::register(module)?;
    awaiting::register(module)?;
    waiting::register(module)?;
    sockets::register(module)?;
    transport::register(module)
}
