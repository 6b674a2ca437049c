//! `Event`.

use super::links::Links;
use super::{class_name, in_hub, limited};
use crate::hub::wait::{Reason, Wait, WaitList, Woken};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use std::cell::Cell;

/// A flag that greenlets and threads wait for.
///
/// May be set, cleared and waited for from any thread. Those who wait are woken in the order they
/// came. (As gevent.event.Event.)
#[pyclass(frozen, subclass, weakref, module = "greenloop.event")]
pub struct Event {
    flag: Cell<bool>,
    /// Those who have been woken and have not run since.
    woken: Cell<usize>,
    waiters: WaitList,
    links: Links,
}

// SAFETY: touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for Event {}

impl Event {
    /// One that is set.
    pub fn new_set() -> Self {
        let event = Self::fresh();
        event.flag.set(true);
        event
    }

    fn fresh() -> Self {
        Self {
            flag: Cell::new(false),
            woken: Cell::new(0),
            waiters: WaitList::new(),
            links: Links::new(),
        }
    }

    /// Parks until the flag is set; or, if it is, until those who were woken by that have run. (Who
    /// comes later goes on later.)
    #[inline]
    pub fn park(&self, wait: Wait<'_>, deadline: Option<u64>) -> Woken {
        if self.flag.get() {
            wait.ticket().wake(Reason::Notified);
            return wait.park(None, None);
        }
        let woken = wait.park(Some(&self.waiters), deadline);
        if woken.notified() {
            self.woken.set(self.woken.get() - 1);
        }
        woken
    }

    /// Whether a wait is over before it begins.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.flag.get() && (self.woken.get() == 0 || in_hub())
    }
}

#[pymethods]
impl Event {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "()")]
    fn __new__(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::fresh()
    }

    fn __init__(_slf: &Bound<'_, Self>) {}

    /// Sets the flag and makes everybody who waits for it ready. Does not switch.
    pub fn set(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.flag.set(true);
        while this.waiters.wake_one() {
            this.woken.set(this.woken.get() + 1);
        }
        this.links.notify_homes(slf)
    }

    /// Resets the flag. Those who have been woken stay so.
    pub fn clear(&self) {
        self.flag.set(false);
    }

    /// Whether the flag is set.
    pub fn is_set(&self) -> bool {
        self.flag.get()
    }

    /// As `is_set`.
    #[pyo3(name = "isSet")]
    fn is_set_alias(&self) -> bool {
        self.flag.get()
    }

    /// As `is_set`.
    fn ready(&self) -> bool {
        self.flag.get()
    }

    /// Waits until the flag is set.
    ///
    /// timeout: seconds to wait at most; None for no limit.
    ///
    /// Returns True; False if the time was over first. A flag that was set and cleared again
    /// while the greenlet waited counts as set.
    #[pyo3(signature = (timeout = None))]
    fn wait<'py>(slf: &Bound<'py, Self>, timeout: Option<Bound<'py, PyAny>>) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        if this.is_open() {
            return Ok(true);
        }
        limited(py, timeout, |limit| {
            if this.is_open() {
                return Ok(true);
            }
            let woken = this.park(Wait::begin(py, slf.as_ptr())?, limit.deadline());
            Ok(limit.judge(woken)? == Reason::Notified)
        })
    }

    /// Has the hub of this thread call `callback(self)` once the flag is set.
    ///
    /// TypeError is raised for something that cannot be called.
    fn rawlink<'py>(slf: &Bound<'py, Self>, callback: Bound<'py, PyAny>) -> PyResult<()> {
        let this = slf.get();
        this.links.add_here(callback)?;
        if this.flag.get() {
            this.links.notify_homes(slf)?;
        }
        Ok(())
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

    /// How many wait, by `wait` or `rawlink`.
    fn linkcount(&self) -> usize {
        self.waiters.len() + self.links.len()
    }

    /// In a child process after `fork`: nothing to be done, greenlets of other threads are gone.
    fn _at_fork_reinit(&self) {}

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let this = slf.get();
        Ok(format!(
            "<{} at {:#x} {} _links[{}]>",
            class_name(slf)?,
            slf.as_ptr() as usize,
            if this.flag.get() { "set" } else { "clear" },
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
