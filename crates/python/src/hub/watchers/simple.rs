//! Watchers with no more to them than when they call back.

use super::{Kind, Watcher};
use crate::hub::callback::Callback;
use crate::hub::loop_object::Loop;
use crate::hub::phases::Phase;
use crate::hub::queue::Entry;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::cell::Cell;

/// Calls back after a signal. Python's own handler, if there is one, runs too.
#[pyclass(frozen, extends = Watcher, name = "signal", module = "greenloop._core")]
pub struct Signal;

impl Signal {
    pub fn make(
        owner: &Bound<'_, Loop>,
        signum: i32,
        keep: bool,
        priority: Option<i32>,
    ) -> PyResult<PyClassInitializer<Self>> {
        if !(1..=64).contains(&signum) {
            return Err(PyValueError::new_err(format!("illegal signal number: {signum}")));
        }
        let watcher = Watcher::new(owner, Kind::Signal { signum }, keep, priority);
        Ok(PyClassInitializer::from(watcher).add_subclass(Self))
    }
}

#[pymethods]
impl Signal {
    #[new]
    #[pyo3(signature = (r#loop, signum, r#ref = true, priority = None))]
    fn py_new(
        r#loop: &Bound<'_, Loop>,
        signum: i32,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<PyClassInitializer<Self>> {
        Self::make(r#loop, signum, r#ref, priority)
    }
}

/// A watcher of a phase of the loop's rounds.
macro_rules! phase_watcher {
    ($(#[doc = $doc:literal])+ $class:ident = $name:literal in $phase:expr) => {
        $(#[doc = $doc])+
        #[pyclass(frozen, extends = Watcher, name = $name, module = "greenloop._core")]
        pub struct $class;

        impl $class {
            pub fn make(
                owner: &Bound<'_, Loop>,
                keep: bool,
                priority: Option<i32>,
            ) -> PyClassInitializer<Self> {
                let watcher = Watcher::new(owner, Kind::Phase($phase), keep, priority);
                PyClassInitializer::from(watcher).add_subclass(Self)
            }
        }

        #[pymethods]
        impl $class {
            #[new]
            #[pyo3(signature = (r#loop, r#ref = true, priority = None))]
            fn py_new(
                r#loop: &Bound<'_, Loop>,
                r#ref: bool,
                priority: Option<i32>,
            ) -> PyClassInitializer<Self> {
                Self::make(r#loop, r#ref, priority)
            }
        }
    };
}

phase_watcher! {
    /// Calls back in every round of the loop, before it looks for events.
    Prepare = "prepare" in Phase::Prepare
}

phase_watcher! {
    /// Calls back in every round of the loop, after it has looked for events.
    Check = "check" in Phase::Check
}

phase_watcher! {
    /// Calls back whenever nothing else is to be done. The loop does not sleep meanwhile.
    Idle = "idle" in Phase::Idle
}

phase_watcher! {
    /// Calls back in a child process that was forked from this one.
    Fork = "fork" in Phase::Fork
}

/// Calls back when `send` is called, from whatever thread.
#[pyclass(frozen, extends = Watcher, name = "async_", module = "greenloop._core")]
pub struct Async;

impl Async {
    pub fn make(
        owner: &Bound<'_, Loop>,
        keep: bool,
        priority: Option<i32>,
    ) -> PyClassInitializer<Self> {
        let watcher = Watcher::new(owner, Kind::Async { sent: Cell::new(false) }, keep, priority);
        PyClassInitializer::from(watcher).add_subclass(Self)
    }

    fn sent<'a>(slf: &'a Bound<'_, Self>) -> PyResult<&'a Cell<bool>> {
        match &slf.cast::<Watcher>()?.get().kind {
            Kind::Async { sent } => Ok(sent),
            _ => unreachable!("an async watcher"),
        }
    }
}

#[pymethods]
impl Async {
    #[new]
    #[pyo3(signature = (r#loop, r#ref = true, priority = None))]
    fn py_new(
        r#loop: &Bound<'_, Loop>,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyClassInitializer<Self> {
        Self::make(r#loop, r#ref, priority)
    }

    /// Wakes the loop, which calls back once, however often this was called before.
    fn send(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.cast::<Watcher>()?.get();
        if !this.is_active() || Self::sent(slf)?.replace(true) {
            return Ok(());
        }
        let call = slf.getattr("_call_back")?.unbind();
        let callback = Callback::object(py, call, PyTuple::empty(py).unbind())?;
        this.event_loop().inbox().push(Entry::Call { callback: callback.into_ptr() });
        Ok(())
    }

    /// As `send`; the argument is for use as a callback.
    fn send_ignoring_arg(slf: &Bound<'_, Self>, _ignored: Bound<'_, PyAny>) -> PyResult<()> {
        Self::send(slf)
    }

    /// What `send` has the loop call.
    fn _call_back(slf: &Bound<'_, Self>) -> PyResult<()> {
        let watcher = slf.cast::<Watcher>()?;
        if Self::sent(slf)?.replace(false) && watcher.get().is_active() {
            Watcher::call_back(watcher, super::events::ASYNC);
        }
        Ok(())
    }
}
