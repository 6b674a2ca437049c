//! `RLock`: a lock that its owner can take again.

use super::lock::{deadline_argument, take_permit, try_harder};
use super::permits::Permits;
use super::{Truth, class_name, limited, turn};
use crate::greenlet::object::PyGreenlet;
use crate::greenlet::thread::Thread;
use crate::hub::HubObject;
use crate::hub::wait::{Reason, Thrown};
use crate::task::timeout::Timeout;
use pyo3::exceptions::{PyOverflowError, PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};
use std::cell::Cell;
use std::ptr;

/// A lock that the greenlet that has it can take again. It is free when it has been released as
/// often.
///
/// hub: taken for compatibility and not used.
///
/// The main greenlet of a thread stands for code of the thread that knows nothing of greenlets.
/// Whoever has waited longest gets the lock when it is free.
#[pyclass(frozen, subclass, weakref, module = "greenloop.lock")]
pub struct RLock {
    permits: Permits,
    /// The greenlet that has the lock; owned, null if nobody has. Also null from the release to
    /// the moment when a greenlet that was handed the lock runs.
    owner: Cell<*mut ffi::PyObject>,
    /// How often the owner has taken it.
    count: Cell<usize>,
    /// Whether it gives way, see `turn`.
    gives_way: bool,
}

// SAFETY: as for `Sync`.
unsafe impl Send for RLock {}
// SAFETY: touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for RLock {}

impl Drop for RLock {
    fn drop(&mut self) {
        self.disown();
    }
}

fn current(py: Python<'_>) -> PyResult<*mut ffi::PyObject> {
    Ok(Thread::get(py)?.current().as_ptr())
}

impl RLock {
    fn fresh(gives_way: bool) -> Self {
        Self {
            permits: Permits::new(1),
            owner: Cell::new(ptr::null_mut()),
            count: Cell::new(0),
            gives_way,
        }
    }

    /// Makes the running greenlet, which has the permit, the owner.
    fn own(&self, here: *mut ffi::PyObject, count: usize) {
        // SAFETY: the running greenlet is alive.
        unsafe { ffi::Py_INCREF(here) };
        debug_assert!(self.owner.get().is_null());
        self.owner.set(here);
        self.count.set(count);
    }

    fn disown(&self) {
        let owner = self.owner.replace(ptr::null_mut());
        // SAFETY: an owned reference or null.
        unsafe { ffi::Py_XDECREF(owner) };
    }

    /// Takes the lock once more if the running greenlet has it already.
    #[inline]
    fn again(&self, here: *mut ffi::PyObject) -> PyResult<bool> {
        if self.owner.get() != here {
            return Ok(false);
        }
        let count = self.count.get().checked_add(1);
        self.count
            .set(count.ok_or_else(|| PyOverflowError::new_err("internal lock count overflowed"))?);
        Ok(true)
    }

    /// Checks that the running greenlet has the lock.
    fn check_owned(&self, py: Python<'_>) -> PyResult<()> {
        if self.owner.get() == current(py)? {
            return Ok(());
        }
        Err(PyRuntimeError::new_err("cannot release un-acquired lock"))
    }

    /// What `get_ident` returns in the owner; 0 if there is none.
    fn owner_ident(&self) -> u64 {
        let owner = self.owner.get().cast::<PyGreenlet>();
        // SAFETY: owned, and a greenlet; its record lives as long as it.
        unsafe {
            match owner.as_ref().map(|owner| owner.thread.get().as_ref()) {
                Some(Some(thread)) if ptr::eq(thread.main(), owner) => thread.ident(),
                _ => owner as u64,
            }
        }
    }

    fn free(&self) {
        self.count.set(0);
        let owner = self.owner.replace(ptr::null_mut());
        self.permits.give();
        // SAFETY: an owned reference.
        unsafe { ffi::Py_XDECREF(owner) };
    }

    pub fn acquire_until(
        slf: &Bound<'_, Self>,
        blocking: bool,
        deadline: Option<u64>,
    ) -> PyResult<bool> {
        let this = slf.get();
        let here = current(slf.py())?;
        if this.again(here)? {
            return Ok(true);
        }
        if blocking && this.gives_way {
            turn::before_taking(slf.py())?;
        }
        let mut taken = take_permit(slf, &this.permits, blocking, deadline)?;
        if !taken && !blocking && this.gives_way {
            taken = try_harder(slf, &this.permits)?;
        }
        if taken {
            this.own(here, 1);
        }
        Ok(taken)
    }
}

impl RLock {
    /// `acquire` with a `Timeout` for a limit.
    #[cold]
    fn acquire_within<'py>(
        slf: &Bound<'py, Self>,
        blocking: bool,
        timeout: &Bound<'py, PyAny>,
    ) -> PyResult<bool> {
        let (py, this) = (slf.py(), slf.get());
        let here = current(py)?;
        if this.again(here)? {
            return Ok(true);
        }
        if !blocking {
            return Self::acquire_until(slf, false, None);
        }
        limited(py, Some(timeout.clone()), |limit| {
            let taken = this.permits.try_take()
                || limit.judge(this.permits.park(py, slf.as_ptr(), limit.deadline())?)?
                    == Reason::Notified;
            if taken {
                this.own(here, 1);
            }
            Ok(taken)
        })
    }
}

/// Whether nothing can wake the waiting greenlet any more.
fn is_loop_exit(py: Python<'_>, error: &PyErr) -> bool {
    py.import("greenloop.exceptions")
        .and_then(|module| module.getattr("LoopExit"))
        .is_ok_and(|class| error.matches(py, class).unwrap_or(false))
}

#[pymethods]
impl RLock {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(hub=None)")]
    fn __new__(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::fresh(false)
    }

    #[pyo3(signature = (hub = None))]
    fn __init__<'py>(_slf: &Bound<'py, Self>, hub: Option<Bound<'py, PyAny>>) {
        drop(hub);
    }

    /// Takes the lock, once more if the running greenlet has it.
    ///
    /// blocking: false to wait for nothing.
    /// timeout: seconds to wait at most, or a Timeout; -1 or None for no limit.
    ///
    /// Returns whether the lock was taken. Raises ValueError for a *timeout* that is negative or
    /// given without *blocking*, OverflowError for one above `threading.TIMEOUT_MAX`.
    #[pyo3(
        signature = (blocking = Truth(true), timeout = None),
        text_signature = "($self, blocking=True, timeout=-1)"
    )]
    fn acquire<'py>(
        slf: &Bound<'py, Self>,
        blocking: Truth,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<bool> {
        let seconds = match &timeout {
            None => -1.0,
            Some(timeout) if timeout.is_instance_of::<Timeout>() => {
                return Self::acquire_within(slf, blocking.0, timeout);
            }
            Some(timeout) => timeout.extract()?,
        };
        Self::acquire_until(slf, blocking.0, deadline_argument(blocking.0, seconds)?)
    }

    /// Undoes one `acquire`. Does not switch. Raises RuntimeError if the running greenlet does not
    /// have the lock.
    pub fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.check_owned(py)?;
        let count = self.count.get();
        if count > 1 {
            self.count.set(count - 1);
        } else {
            self.free();
        }
        Ok(())
    }

    /// What gevent's lock is made of: the lock itself here.
    #[getter]
    fn _block<'py>(slf: &Bound<'py, Self>) -> Bound<'py, Self> {
        slf.clone()
    }

    /// None: it belongs to no hub, and may be used in every thread.
    #[getter]
    fn hub(&self) -> Option<bool> {
        None
    }

    /// Whether somebody has the lock.
    fn locked(&self) -> bool {
        self.permits.free() <= 0
    }

    fn __enter__(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Self::acquire_until(slf, true, None)
    }

    #[pyo3(signature = (_kind = None, _value = None, _traceback = None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: Option<&Bound<'_, PyAny>>,
        _value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.release(py)
    }

    /// Whether the running greenlet has the lock. (For threading.Condition.)
    fn _is_owned(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.owner.get() == current(py)?)
    }

    /// How often the running greenlet has the lock.
    fn _recursion_count(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(if self._is_owned(py)? { self.count.get() } else { 0 })
    }

    /// Releases the lock, however often it was taken. Returns what `_acquire_restore` wants. (For
    /// threading.Condition.)
    fn _release_save(&self, py: Python<'_>) -> PyResult<(usize, usize)> {
        self.check_owned(py)?;
        let state = (self.count.get(), self.owner.get() as usize);
        self.free();
        Ok(state)
    }

    /// Takes the lock as often as it was taken before `_release_save`. (For threading.Condition.)
    ///
    /// An exception that is thrown in meanwhile (`kill`, `Timeout`) is raised when the lock has
    /// been taken: the statements that it leads out of are going to release it.
    fn _acquire_restore(slf: &Bound<'_, Self>, state: (usize, usize)) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let here = current(py)?;
        HubObject::get(py)?;
        let mut thrown = None;
        while !this.permits.try_take() {
            let woken = this.permits.park(py, slf.as_ptr(), None)?;
            match woken.error.map(Thrown::into_err) {
                None => break,
                Some(error) if is_loop_exit(py, &error) => return Err(error),
                Some(error) => thrown = thrown.or(Some(error)),
            }
        }
        this.own(here, state.0);
        thrown.map_or(Ok(()), Err)
    }

    /// In a child process after `fork`: unlocks it, as whoever has it may be gone with its thread.
    fn _at_fork_reinit(&self) {
        self.count.set(0);
        self.disown();
        self.permits.set_free(1);
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let this = slf.get();
        let owner = this.owner.get();
        let owner = if owner.is_null() {
            "None".to_owned()
        } else {
            // SAFETY: owned by the lock.
            unsafe { Bound::from_borrowed_ptr(slf.py(), owner) }.repr()?.to_string()
        };
        Ok(format!(
            "<{} at {:#x} count={} owner={owner} waiters={}>",
            class_name(slf)?,
            slf.as_ptr() as usize,
            this.count.get(),
            this.permits.waiting(),
        ))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let owner = self.owner.get();
        if owner.is_null() {
            return Ok(());
        }
        // SAFETY: owned by the lock; visited without touching its reference count.
        visit.call(unsafe { &*ptr::from_ref(&owner).cast::<Py<PyAny>>() })
    }

    fn __clear__(&self) {
        self.disown();
    }
}

/// What `_thread.RLock` is for greenlets: a lock that its owner can take again.
///
/// Arguments are ignored, or refused where the interpreter's own class does. Taking it lets others run
/// if the running greenlet has gone on for longer than its loop's switch interval.
#[pyclass(frozen, subclass, extends = RLock, name = "RLock", module = "_thread")]
pub struct ThreadRLock;

#[pymethods]
impl ThreadRLock {
    #[new]
    #[classmethod]
    #[pyo3(signature = (*args, **kwargs), text_signature = "()")]
    fn __new__(
        class: &Bound<'_, PyType>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let py = class.py();
        let given = !args.is_empty() || kwargs.is_some_and(|kwargs| !kwargs.is_empty());
        if given && py.version_info() >= (3, 15) {
            // Derived classes may have arguments of their own.
            let own = class.getattr("__init__")?;
            if own.is(&py.get_type::<Self>().getattr("__init__")?) {
                return Err(PyTypeError::new_err("RLock() takes no arguments"));
            }
        }
        Ok(PyClassInitializer::from(RLock::fresh(true)).add_subclass(Self))
    }

    #[pyo3(signature = (*_args, **_kwargs))]
    fn __init__(&self, _args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) {}

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let base = slf.as_super();
        let this = base.get();
        let state = if this.locked() { "locked" } else { "unlocked" };
        Ok(format!(
            "<{state} {} object owner={} count={} at {:#x}>",
            slf.get_type().fully_qualified_name()?,
            this.owner_ident(),
            this.count.get(),
            slf.as_ptr() as usize,
        ))
    }
}
