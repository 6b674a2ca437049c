//! `Semaphore` and `BoundedSemaphore`.

use super::links::Links;
use super::permits::Permits;
use super::{Given, Truth, class_name, limited};
use crate::hub::wait::{Reason, WaitList};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyTuple};
use pyo3::{PyTraverseError, PyTypeInfo, PyVisit};
use std::cell::Cell;

/// A number of permits that greenlets and threads take and give back.
///
/// value: how many permits there are to begin with.
/// hub: taken for compatibility and not used; everybody waits in the hub of their own thread.
///
/// Whoever has waited longest gets the permit that is given back, and nobody else can take it
/// meanwhile. Raises ValueError if *value* is negative. (As gevent.lock.Semaphore.)
#[pyclass(frozen, subclass, weakref, module = "greenloop.lock")]
pub struct Semaphore {
    permits: Permits,
    /// Those who wait for a permit to be free without taking it.
    watchers: WaitList,
    links: Links,
    /// Whether there are links that were added while nobody waited: it is their turn first.
    links_first: Cell<bool>,
    /// The most permits there may be.
    limit: Cell<i64>,
}

// SAFETY: touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for Semaphore {}

impl Semaphore {
    fn fresh() -> Self {
        Self {
            permits: Permits::new(1),
            watchers: WaitList::new(),
            links: Links::new(),
            links_first: Cell::new(false),
            limit: Cell::new(i64::MAX),
        }
    }

    fn set_up(&self, value: &Given<'_>) -> PyResult<i64> {
        let value = match value {
            Given::Yes(value) => count_argument(value)?,
            Given::No => 1,
        };
        if value < 0 {
            return Err(PyValueError::new_err("semaphore initial value must be >= 0"));
        }
        self.permits.set_free(value);
        Ok(value)
    }

    /// Tells those who wait for a free permit, if there is one.
    fn tell(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.permits.free() > 0 {
            this.watchers.wake_all();
            this.notify_links(slf)?;
        }
        Ok(())
    }

    fn notify_links(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        self.links_first.set(false);
        self.links.notify_homes(slf)
    }

    /// Whether this is no subclass that could have its own acquire and release.
    fn is_plain(slf: &Bound<'_, Self>) -> bool {
        let py = slf.py();
        let kind = slf.get_type_ptr();
        kind == Self::type_object_raw(py) || kind == BoundedSemaphore::type_object_raw(py)
    }
}

/// A number of permits as an argument: an integer, or a float, of which the whole part counts.
fn count_argument(value: &Bound<'_, PyAny>) -> PyResult<i64> {
    if value.is_instance_of::<PyFloat>() {
        return value.call_method0("__trunc__")?.extract();
    }
    value.extract().map_err(|error: PyErr| {
        if error.is_instance_of::<PyTypeError>(value.py()) {
            PyTypeError::new_err("an integer is required")
        } else {
            error
        }
    })
}

#[pymethods]
impl Semaphore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(value=1, hub=None)")]
    fn __new__(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::fresh()
    }

    #[pyo3(signature = (value = Given::No, hub = None))]
    fn __init__<'py>(
        slf: &Bound<'py, Self>,
        value: Given<'py>,
        hub: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        drop(hub);
        slf.get().set_up(&value).map(drop)
    }

    /// Takes a permit.
    ///
    /// blocking: false to wait for nothing.
    /// timeout: seconds to wait at most; None for no limit.
    ///
    /// Returns whether there was one.
    #[pyo3(
        signature = (blocking = Truth(true), timeout = None),
        text_signature = "($self, blocking=True, timeout=None)"
    )]
    pub fn acquire<'py>(
        slf: &Bound<'py, Self>,
        blocking: Truth,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<bool> {
        let this = slf.get();
        if this.permits.try_take() {
            return Ok(true);
        }
        if !blocking.0 {
            return Ok(false);
        }
        let py = slf.py();
        limited(py, timeout, |limit| {
            if this.permits.try_take() {
                return Ok(true);
            }
            let woken = this.permits.park(py, slf.as_ptr(), limit.deadline())?;
            if woken.error.is_some() {
                Self::tell(slf)?;
            }
            Ok(limit.judge(woken)? == Reason::Notified)
        })
    }

    /// Gives a permit back, or adds one. Does not switch.
    ///
    /// Returns how many are free then. BoundedSemaphore raises ValueError if that would be more
    /// than there were at the beginning.
    pub fn release(slf: &Bound<'_, Self>) -> PyResult<i64> {
        let this = slf.get();
        if this.permits.free() >= this.limit.get() {
            return Err(PyValueError::new_err("Semaphore released too many times"));
        }
        if this.links_first.get() {
            this.notify_links(slf)?;
        }
        this.permits.give();
        Self::tell(slf)?;
        Ok(this.permits.free())
    }

    /// Waits until a permit is free, and does not take it.
    ///
    /// timeout: seconds to wait at most; None for no limit.
    ///
    /// Returns how many are free: 0 if the time was over first, or somebody else was faster.
    #[pyo3(signature = (timeout = None))]
    fn wait<'py>(slf: &Bound<'py, Self>, timeout: Option<Bound<'py, PyAny>>) -> PyResult<i64> {
        let this = slf.get();
        this.permits.await_free(slf, &this.watchers, timeout)
    }

    /// Whether no permit is free.
    fn locked(&self) -> bool {
        self.permits.free() <= 0
    }

    /// Whether a permit is free.
    fn ready(&self) -> bool {
        self.permits.free() > 0
    }

    /// How many permits are free. Setting it changes how many there are: those who wait get theirs
    /// at once.
    #[getter]
    fn counter(&self) -> i64 {
        self.permits.free()
    }

    #[setter]
    fn set_counter<'py>(slf: &Bound<'py, Self>, value: Bound<'py, PyAny>) -> PyResult<()> {
        slf.get().permits.set_free(count_argument(&value)?);
        Self::tell(slf)
    }

    /// Has the hub of this thread call `callback(self)` once a permit is free; or when one is given
    /// back, if nobody waits for one so far.
    ///
    /// TypeError is raised for something that cannot be called.
    fn rawlink<'py>(slf: &Bound<'py, Self>, callback: Bound<'py, PyAny>) -> PyResult<()> {
        let this = slf.get();
        this.links.add_here(callback)?;
        if this.permits.waiting() == 0 {
            this.links_first.set(true);
        }
        Self::tell(slf)
    }

    /// Takes `rawlink` back, if the call has not been made yet.
    fn unlink(&self, callback: Bound<'_, PyAny>) -> PyResult<()> {
        self.links.remove(&callback).map(drop)
    }

    /// None: it belongs to no hub, and may be used in every thread.
    #[getter]
    fn hub(&self) -> Option<bool> {
        None
    }

    /// How many wait, by `acquire`, `wait` or `rawlink`.
    fn linkcount(&self) -> usize {
        self.permits.waiting() + self.watchers.len() + self.links.len()
    }

    fn __enter__(slf: &Bound<'_, Self>) -> PyResult<()> {
        if Self::is_plain(slf) {
            return Self::acquire(slf, Truth(true), None).map(drop);
        }
        slf.call_method0("acquire").map(drop)
    }

    #[pyo3(signature = (_kind = None, _value = None, _traceback = None))]
    fn __exit__(
        slf: &Bound<'_, Self>,
        _kind: Option<&Bound<'_, PyAny>>,
        _value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        if Self::is_plain(slf) {
            return Self::release(slf).map(drop);
        }
        slf.call_method0("release").map(drop)
    }

    /// In a child process after `fork`: nothing to be done, greenlets of other threads are gone.
    fn _at_fork_reinit(&self) {}

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let this = slf.get();
        Ok(format!(
            "<{} at {:#x} counter={} _links[{}]>",
            class_name(slf)?,
            slf.as_ptr() as usize,
            this.permits.free(),
            this.linkcount(),
        ))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.links.visit(&visit)
    }

    fn __clear__(&self) {
        drop(self.links.take());
    }
}

/// A semaphore that cannot be given more permits than it had to begin with.
///
/// value: how many permits there are.
/// hub: taken for compatibility and not used.
///
/// Raises ValueError if *value* is negative. (As gevent.lock.BoundedSemaphore.)
#[pyclass(frozen, subclass, extends = Semaphore, module = "greenloop.lock")]
pub struct BoundedSemaphore;

#[pymethods]
impl BoundedSemaphore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(value=1, hub=None)")]
    fn __new__(
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyClassInitializer<Self> {
        let base = Semaphore::fresh();
        base.limit.set(1);
        PyClassInitializer::from(base).add_subclass(Self)
    }

    #[pyo3(signature = (value = Given::No, hub = None))]
    fn __init__<'py>(
        slf: &Bound<'py, Self>,
        value: Given<'py>,
        hub: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        drop(hub);
        let base = slf.as_super().get();
        base.limit.set(base.set_up(&value)?);
        Ok(())
    }

    /// The most permits there may be.
    #[getter]
    fn _initial_value(slf: &Bound<'_, Self>) -> i64 {
        slf.as_super().get().limit.get()
    }

    /// In a child process after `fork`: all permits are free again, as those who had taken them
    /// may be gone with their threads.
    fn _at_fork_reinit(slf: &Bound<'_, Self>) -> PyResult<()> {
        let base = slf.as_super();
        base.get().permits.set_free(base.get().limit.get());
        Semaphore::tell(base)
    }
}
