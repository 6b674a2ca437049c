//! `Lock`: what `_thread.allocate_lock` gives, for greenlets.

use super::permits::Permits;
use super::{Truth, class_name};
use crate::hub::HubObject;
use crate::time::deadline_after;
use pyo3::exceptions::{PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

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

/// A lock for greenlets and threads, with the methods of `threading.Lock`.
///
/// Whoever has waited longest gets it when it is released. Anybody may release it.
#[pyclass(frozen, subclass, weakref, module = "greenloop.lock")]
pub struct Lock {
    permits: Permits,
}

#[pymethods]
impl Lock {
    #[new]
    fn __new__() -> Self {
        Self { permits: Permits::new(1) }
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
        take_permit(slf, &slf.get().permits, blocking.0, deadline)
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
    fn release(&self) -> PyResult<()> {
        if !self.permits.is_held() {
            return Err(PyRuntimeError::new_err("release unlocked lock"));
        }
        self.permits.give();
        Ok(())
    }

    /// As `release`.
    fn release_lock(&self) -> PyResult<()> {
        self.release()
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

    fn __enter__(slf: &Bound<'_, Self>) -> PyResult<bool> {
        take_permit(slf, &slf.get().permits, true, None)
    }

    #[pyo3(signature = (_kind = None, _value = None, _traceback = None))]
    fn __exit__(
        &self,
        _kind: Option<&Bound<'_, PyAny>>,
        _value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.release()
    }

    /// In a child process after `fork`: unlocks it, as whoever has it may be gone with its thread.
    fn _at_fork_reinit(&self) {
        self.permits.reinit_one();
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let this = slf.get();
        let state = if this.locked() { "locked" } else { "unlocked" };
        Ok(format!(
            "<{state} {} object at {:#x} waiters={}>",
            class_name(slf)?,
            slf.as_ptr() as usize,
            this.permits.waiting(),
        ))
    }
}
