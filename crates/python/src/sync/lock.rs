//! `Lock`: what `_thread.allocate_lock` gives, for greenlets.

use super::links::Links;
use super::permits::Permits;
use super::{Truth, turn};
use crate::hub::HubObject;
use crate::hub::wait::WaitList;
use crate::time::deadline_after;
use pyo3::exceptions::{PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use std::cell::OnceCell;

/// The longest time that `_thread.lock` can wait, in seconds (`_thread.TIMEOUT_MAX`).
const TIMEOUT_MAX: f64 = i64::MAX as f64 / 1e9;

/// The deadline that the `timeout` of `_thread` locks asks for.
///
/// # Errors
///
/// As those locks: ValueError for negative times other than -1 (no limit), not a number, and if
/// waiting was not asked for; OverflowError for times too long.
pub fn deadline_argument(blocking: bool, timeout: f64) -> PyResult<Option<u64>> {
    if timeout.is_nan() {
        return Err(PyValueError::new_err("Invalid value NaN (not a number)"));
    }
    if timeout == -1.0 {
        return Ok(None);
    }
    if !blocking {
        return Err(PyValueError::new_err("can't specify a timeout for a non-blocking call"));
    }
    if timeout < 0.0 {
        return Err(PyValueError::new_err("timeout value must be a non-negative number"));
    }
    if timeout >= TIMEOUT_MAX {
        return Err(PyOverflowError::new_err("timeout value is too large"));
    }
    Ok(Some(deadline_after(timeout)))
}

/// Waits for the one permit of a lock.
pub fn take_permit(
    slf: &Bound<'_, PyAny>,
    permits: &Permits,
    blocking: bool,
    deadline: Option<u64>,
) -> PyResult<bool> {
    if permits.try_take() {
        return Ok(true);
    }
    if !blocking {
        return Ok(false);
    }
    let py = slf.py();
    // Making the hub may run other threads.
    HubObject::get(py)?;
    if permits.try_take() {
        return Ok(true);
    }
    let woken = permits.park(py, slf.as_ptr(), deadline)?;
    let notified = woken.notified();
    woken.into_result()?;
    Ok(notified)
}

/// Takes the one permit of a lock, which somebody else has, if it is given back by those who run when
/// this greenlet has tried to take it for too long.
pub fn try_harder(slf: &Bound<'_, PyAny>, permits: &Permits) -> PyResult<bool> {
    Ok(turn::after_one_of_many(slf.py(), slf.as_ptr() as usize)? && permits.try_take())
}

/// A lock for greenlets and threads, with the methods of `threading.Lock`.
///
/// Whoever has waited longest gets it when it is released. Anybody may release it. Taking it lets
/// others run if the running greenlet has gone on for longer than its loop's switch interval.
///
/// No class can be derived from it, as none can be from `_thread.lock`.
#[pyclass(frozen, weakref, name = "lock", module = "_thread")]
pub struct Lock {
    permits: Permits,
    /// Those who wait for it to be free without taking it; made when there is one. (A program has
    /// many locks.)
    watched: OnceCell<Box<Watched>>,
}

struct Watched {
    watchers: WaitList,
    links: Links,
}

// SAFETY: touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for Lock {}

impl Lock {
    /// Takes the lock. Whoever gets it as it is passed on, and is killed before, gives it back.
    fn take(slf: &Bound<'_, Self>, blocking: bool, deadline: Option<u64>) -> PyResult<bool> {
        let permits = &slf.get().permits;
        if blocking {
            turn::before_taking(slf.py())?;
        }
        let taken = take_permit(slf, permits, blocking, deadline);
        match taken {
            Ok(false) if !blocking => try_harder(slf, permits),
            Ok(_) => taken,
            Err(_) => {
                Self::tell(slf)?;
                taken
            }
        }
    }

    /// Takes the lock if nobody has it.
    #[inline]
    pub fn try_take(&self) -> bool {
        self.permits.try_take()
    }

    #[inline]
    pub fn is_free(&self) -> bool {
        self.permits.free() > 0
    }

    /// Releases the lock, which somebody has.
    #[inline]
    pub fn give(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().permits.give();
        Self::tell(slf)
    }

    fn watched(&self) -> &Watched {
        self.watched
            .get_or_init(|| Box::new(Watched { watchers: WaitList::new(), links: Links::new() }))
    }

    /// Tells those who wait for the lock to be free, if it is.
    fn tell(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let Some(watched) = this.watched.get() else { return Ok(()) };
        if this.permits.free() > 0 {
            watched.watchers.wake_all();
            watched.links.notify_homes(slf)?;
        }
        Ok(())
    }
}

#[pymethods]
impl Lock {
    #[new]
    fn __new__() -> Self {
        Self { permits: Permits::new(1), watched: OnceCell::new() }
    }

    /// Takes the lock.
    ///
    /// blocking: false to wait for nothing.
    /// timeout: seconds to wait at most; -1 for no limit.
    ///
    /// Returns whether the lock was taken. Raises ValueError for a *timeout* that is negative or
    /// given without *blocking*, OverflowError for one above `threading.TIMEOUT_MAX`.
    #[pyo3(
        signature = (blocking = Truth(true), timeout = -1.0),
        text_signature = "($self, blocking=True, timeout=-1)"
    )]
    fn acquire(slf: &Bound<'_, Self>, blocking: Truth, timeout: f64) -> PyResult<bool> {
        let deadline = deadline_argument(blocking.0, timeout)?;
        Self::take(slf, blocking.0, deadline)
    }

    /// As `acquire`.
    #[pyo3(
        signature = (blocking = Truth(true), timeout = -1.0),
        text_signature = "($self, blocking=True, timeout=-1)"
    )]
    fn acquire_lock(slf: &Bound<'_, Self>, blocking: Truth, timeout: f64) -> PyResult<bool> {
        Self::acquire(slf, blocking, timeout)
    }

    /// Releases the lock. Does not switch. Raises RuntimeError if it is not locked.
    fn release(slf: &Bound<'_, Self>) -> PyResult<()> {
        if !slf.get().permits.is_held() {
            return Err(PyRuntimeError::new_err("release unlocked lock"));
        }
        Self::give(slf)
    }

    /// As `release`.
    fn release_lock(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::release(slf)
    }

    /// Whether somebody has the lock. Not while it is handed to somebody who waited and has not
    /// run since: whoever released it finds it unlocked, as threading relies on.
    fn locked(&self) -> bool {
        self.permits.is_held()
    }

    /// As `locked`.
    fn locked_lock(&self) -> bool {
        self.locked()
    }

    /// Waits until the lock is free, and does not take it.
    ///
    /// timeout: seconds to wait at most; None for no limit.
    ///
    /// Returns 1, or 0 if the time was over first, or somebody else was faster.
    #[pyo3(signature = (timeout = None))]
    fn wait<'py>(slf: &Bound<'py, Self>, timeout: Option<Bound<'py, PyAny>>) -> PyResult<i64> {
        let this = slf.get();
        this.permits.await_free(slf, &this.watched().watchers, timeout)
    }

    /// Whether the lock is free.
    fn ready(&self) -> bool {
        self.permits.free() > 0
    }

    /// 1 if the lock is free, otherwise 0.
    #[getter]
    fn counter(&self) -> i64 {
        self.permits.free().max(0)
    }

    /// Has the hub of this thread call `callback(self)` once the lock is free.
    ///
    /// TypeError is raised for something that cannot be called.
    fn rawlink<'py>(slf: &Bound<'py, Self>, callback: Bound<'py, PyAny>) -> PyResult<()> {
        slf.get().watched().links.add_here(callback)?;
        Self::tell(slf)
    }

    /// Takes `rawlink` back, if the call has not been made yet.
    fn unlink(&self, callback: Bound<'_, PyAny>) -> PyResult<()> {
        match self.watched.get() {
            Some(watched) => watched.links.remove(&callback).map(drop),
            None => Ok(()),
        }
    }

    /// None: it belongs to no hub, and may be used in every thread.
    #[getter]
    fn hub(&self) -> Option<bool> {
        None
    }

    /// How many wait, by `acquire`, `wait` or `rawlink`.
    fn linkcount(&self) -> usize {
        let watched = self.watched.get();
        let watching = watched.map_or(0, |watched| watched.watchers.len() + watched.links.len());
        self.permits.waiting() + watching
    }

    fn __enter__(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Self::take(slf, true, None)
    }

    #[pyo3(signature = (_kind = None, _value = None, _traceback = None))]
    fn __exit__(
        slf: &Bound<'_, Self>,
        _kind: Option<&Bound<'_, PyAny>>,
        _value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        Self::release(slf)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.watched.get().map_or(Ok(()), |watched| watched.links.visit(&visit))
    }

    fn __clear__(&self) {
        if let Some(watched) = self.watched.get() {
            drop(watched.links.take());
        }
    }

    /// In a child process after `fork`: unlocks it, as whoever has it may be gone with its thread.
    fn _at_fork_reinit(&self) {
        self.permits.reinit_one();
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let this = slf.get();
        let state = if this.locked() { "locked" } else { "unlocked" };
        Ok(format!(
            "<{state} {} object at {:#x}>",
            slf.get_type().fully_qualified_name()?,
            slf.as_ptr() as usize,
        ))
    }
}
