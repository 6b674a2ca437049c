//! Primitives that greenlets and threads wait on.
//!
//! All of them work alike. State is in cells that are touched with the GIL held, and no borrow is
//! alive where Python code can run or a switch can happen. What does not have to wait neither
//! switches nor makes a hub. A wake-up brings what was waited for: a permit, a claim on an item.
//! A greenlet that is woken and then killed before it runs gives that back.

pub mod channel;
pub mod event;
pub mod exclusive;
pub mod lean;
pub mod links;
pub mod local;
pub mod lock;
pub mod permits;
pub mod queue;
pub mod result;
pub mod rlock;
pub mod semaphore;
pub mod std_queue;
pub mod turn;

use crate::greenlet::thread::Thread;
use crate::hub::HubObject;
use crate::time::Limit;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyFloat;
use pyo3::{Borrowed, ffi};
use std::ptr;

/// An argument taken by its truth value.
pub struct Truth(pub bool);

impl<'py> FromPyObject<'_, 'py> for Truth {
    type Error = PyErr;

    #[inline]
    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        object.is_truthy().map(Self)
    }
}

/// An optional argument for which None means something else than not giving it.
pub enum Given<'py> {
    No,
    Yes(Bound<'py, PyAny>),
}

impl<'py> FromPyObject<'_, 'py> for Given<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self::Yes(object.to_owned()))
    }
}

/// Runs `wait` with the limit that a `timeout` argument sets. The thread has a hub by then, so
/// what `wait` checks stays true until it parks.
#[inline(always)]
pub fn limited<'py, R>(
    py: Python<'py>,
    timeout: Option<Bound<'py, PyAny>>,
    wait: impl FnOnce(&Limit<'py>) -> PyResult<R>,
) -> PyResult<R> {
    match timeout {
        Some(timeout) if !timeout.is_none() => limited_by(py, timeout, wait),
        _ => {
            HubObject::get(py)?;
            wait(&Limit::Never)
        }
    }
}

/// Out of line: a greenlet that waits without a limit does not have this on its stack.
#[inline(never)]
fn limited_by<'py, R>(
    py: Python<'py>,
    timeout: Bound<'py, PyAny>,
    wait: impl FnOnce(&Limit<'py>) -> PyResult<R>,
) -> PyResult<R> {
    refuse_nan(&timeout)?;
    let limit = Limit::start(py, Some(timeout))?;
    let result = HubObject::get(py).and_then(|_| wait(&limit));
    let ended = limit.end(py);
    let value = result?;
    ended.map(|()| value)
}

/// # Errors
///
/// ValueError for a number of seconds that is not a number.
fn refuse_nan(timeout: &Bound<'_, PyAny>) -> PyResult<()> {
    match timeout.cast::<PyFloat>() {
        Ok(seconds) if seconds.value().is_nan() => {
            Err(PyValueError::new_err("Invalid value NaN (not a number)"))
        }
        _ => Ok(()),
    }
}

/// Whether the hub itself asks, which cannot wait.
pub fn in_hub() -> bool {
    Thread::try_get().is_some_and(|thread| {
        ptr::eq(thread.current().as_ptr(), thread.hub.get().cast::<ffi::PyObject>())
    })
}

/// The hub of the calling thread.
fn hub_here(py: Python<'_>) -> PyResult<Py<PyAny>> {
    let hub = HubObject::get(py)?;
    // SAFETY: a hub is alive as long as it is its thread's.
    Ok(unsafe { Bound::from_borrowed_ptr(py, hub.as_ptr()).unbind() })
}

/// The name that the text form of an object begins with.
fn class_name(object: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(object.get_type().name()?.to_string())
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<event::Event>()?;
    lean::attach(module.py())?;
    module.add_class::<result::AsyncResult>()?;
    module.add_class::<semaphore::Semaphore>()?;
    module.add_class::<semaphore::BoundedSemaphore>()?;
    module.add("Lock", module.py().get_type::<lock::Lock>())?;
    module.add_class::<rlock::RLock>()?;
    module.add_class::<exclusive::Exclusive>()?;
    module.add("ThreadRLock", module.py().get_type::<rlock::ThreadRLock>())?;
    module.add_class::<queue::SimpleQueue>()?;
    module.add_class::<queue::Queue>()?;
    module.add_class::<queue::LifoQueue>()?;
    module.add_class::<queue::PriorityQueue>()?;
    std_queue::register(module)?;
    module.add_class::<channel::Channel>()?;
    module.add("local", module.py().get_type::<local::Local>())?;
    turn::register(module)
}
