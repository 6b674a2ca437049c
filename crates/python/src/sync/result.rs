//! `AsyncResult`.

use super::links::Links;
use super::{Truth, class_name, limited};
use crate::greenlet::methods::instance_from;
use crate::hub::wait::{Reason, Wait, WaitList};
use crate::time::timeout_error;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use std::cell::RefCell;
use std::fmt::Write as _;

enum Outcome {
    Value(Py<PyAny>),
    /// The exception instance and the traceback it is raised with.
    Error(Py<PyAny>, Option<Py<PyAny>>),
}

/// A value or an exception that is set once and that greenlets and threads wait for.
///
/// Can be given to `Greenlet.link`: it takes over what the greenlet returns or raises. Setting it
/// again replaces what was set. (As gevent.event.AsyncResult.)
#[pyclass(frozen, subclass, weakref, module = "greenloop.event")]
pub struct AsyncResult {
    outcome: RefCell<Option<Outcome>>,
    waiters: WaitList,
    links: Links,
}

// SAFETY: touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for AsyncResult {}

impl AsyncResult {
    fn settle(slf: &Bound<'_, Self>, outcome: Outcome) -> PyResult<()> {
        let this = slf.get();
        let old = this.outcome.borrow_mut().replace(outcome);
        this.waiters.wake_all();
        let notified = this.links.notify_homes(slf);
        drop(old);
        notified
    }

    /// What `get` gives, if there is something.
    fn take_up<'py>(&self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let outcome = self.outcome.borrow();
        match outcome.as_ref()? {
            Outcome::Value(value) => Some(Ok(value.bind(py).clone())),
            Outcome::Error(error, traceback) => {
                let error = error.bind(py).clone();
                let traceback = traceback.as_ref().map(|traceback| traceback.bind(py).clone());
                drop(outcome);
                Some(Err(raised_with(error, traceback)))
            }
        }
    }

    /// Waits until there is something, `timeout` at most. True if there is.
    fn await_outcome<'py>(
        slf: &Bound<'py, Self>,
        timeout: Option<Bound<'py, PyAny>>,
        on_timeout: impl FnOnce(&crate::time::Limit<'py>) -> PyResult<()>,
    ) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        limited(py, timeout, |limit| {
            if this.ready() {
                return Ok(true);
            }
            let woken = Wait::begin(py, slf.as_ptr())?.park(Some(&this.waiters), limit.deadline());
            if limit.judge(woken)? == Reason::Notified {
                return Ok(true);
            }
            on_timeout(limit)?;
            Ok(false)
        })
    }

    fn error_part<R>(&self, f: impl FnOnce(&Py<PyAny>, Option<&Py<PyAny>>) -> R) -> Option<R> {
        match &*self.outcome.borrow() {
            Some(Outcome::Error(error, traceback)) => Some(f(error, traceback.as_ref())),
            _ => None,
        }
    }
}

/// The exception to raise, its traceback as it was when it was set: raising an instance again and
/// again would make it longer each time.
fn raised_with<'py>(error: Bound<'py, PyAny>, traceback: Option<Bound<'py, PyAny>>) -> PyErr {
    let py = error.py();
    let traceback = traceback.unwrap_or_else(|| py.None().into_bound(py));
    // SAFETY: an exception instance, and a traceback or None.
    if unsafe { ffi::PyException_SetTraceback(error.as_ptr(), traceback.as_ptr()) } != 0 {
        return PyErr::fetch(py);
    }
    PyErr::from_value(error)
}

#[pymethods]
impl AsyncResult {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "()")]
    fn __new__(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { outcome: RefCell::new(None), waiters: WaitList::new(), links: Links::new() }
    }

    fn __init__(_slf: &Bound<'_, Self>) {}

    /// Sets the value and makes everybody who waits for it ready. Does not switch.
    #[pyo3(signature = (value = None))]
    fn set(slf: &Bound<'_, Self>, value: Option<Py<PyAny>>) -> PyResult<()> {
        let value = value.unwrap_or_else(|| slf.py().None());
        Self::settle(slf, Outcome::Value(value))
    }

    /// As `set`, by the name that concurrent.futures has for it.
    #[pyo3(signature = (value = None))]
    fn set_result(slf: &Bound<'_, Self>, value: Option<Py<PyAny>>) -> PyResult<()> {
        Self::set(slf, value)
    }

    /// Sets an exception and makes everybody who waits ready. Does not switch.
    ///
    /// exception: an exception instance or class.
    /// exc_info: type, instance and traceback; the traceback is used when it is raised, that of
    ///     the instance if there is none.
    ///
    /// TypeError is raised for what is no exception.
    #[pyo3(signature = (exception, exc_info = None))]
    fn set_exception<'py>(
        slf: &Bound<'py, Self>,
        exception: Bound<'py, PyAny>,
        exc_info: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let none = slf.py().None().into_bound(slf.py());
        let error = instance_from(&exception, &none, &none).map_err(|failure| {
            if failure.is_instance_of::<PyTypeError>(slf.py()) {
                PyTypeError::new_err("exception must be an exception instance or class")
            } else {
                failure
            }
        })?;
        let mut traceback = match exc_info {
            Some(info) if info.is_truthy()? => info.get_item(2)?,
            _ => none.clone(),
        };
        // SAFETY: a type check on a valid object.
        if unsafe { ffi::PyTraceBack_Check(traceback.as_ptr()) } == 0 {
            traceback = error.getattr("__traceback__")?;
        }
        let traceback = (!traceback.is_none()).then(|| traceback.unbind());
        Self::settle(slf, Outcome::Error(error.unbind(), traceback))
    }

    /// Takes over what `source` has, for `Greenlet.link` and `rawlink`: its `value` if it was
    /// `successful()`, its `exception` otherwise.
    fn __call__<'py>(slf: &Bound<'py, Self>, source: Bound<'py, PyAny>) -> PyResult<()> {
        if source.call_method0("successful")?.is_truthy()? {
            return Self::set(slf, Some(source.getattr("value")?.unbind()));
        }
        let info = source.getattr_opt("exc_info")?;
        Self::set_exception(slf, source.getattr("exception")?, info)
    }

    /// Waits for the value and returns it, or raises the exception.
    ///
    /// block: false to wait for nothing.
    /// timeout: seconds to wait at most; None for no limit.
    ///
    /// Timeout is raised if there is nothing (yet).
    #[pyo3(
        signature = (block = Truth(true), timeout = None),
        text_signature = "($self, block=True, timeout=None)"
    )]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        block: Truth,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        if let Some(result) = this.take_up(py) {
            return result;
        }
        if !block.0 {
            return Err(timeout_error(py, None));
        }
        Self::await_outcome(slf, timeout, |limit| Err(limit.error(py)))?;
        this.take_up(py).expect("what is set stays set")
    }

    /// As `get(block=False)`.
    fn get_nowait<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::get(slf, Truth(false), None)
    }

    /// As `get(timeout=timeout)`, by the name that concurrent.futures has for it.
    #[pyo3(signature = (timeout = None))]
    fn result<'py>(
        slf: &Bound<'py, Self>,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::get(slf, Truth(true), timeout)
    }

    /// Waits until there is a value or an exception.
    ///
    /// timeout: seconds to wait at most; None for no limit.
    ///
    /// Returns the value; None for an exception, and if the time was over first.
    #[pyo3(signature = (timeout = None))]
    fn wait<'py>(
        slf: &Bound<'py, Self>,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        if !slf.get().ready() {
            Self::await_outcome(slf, timeout, |_| Ok(()))?;
        }
        Ok(slf.get().value(slf.py()))
    }

    /// Whether there is a value or an exception.
    fn ready(&self) -> bool {
        self.outcome.borrow().is_some()
    }

    /// As `ready`, by the name that concurrent.futures has for it.
    fn done(&self) -> bool {
        self.ready()
    }

    /// Whether there is a value.
    fn successful(&self) -> bool {
        matches!(&*self.outcome.borrow(), Some(Outcome::Value(_)))
    }

    /// Does nothing: what is waited for cannot be cancelled from here. Returns False.
    fn cancel(&self) -> bool {
        false
    }

    /// False: see `cancel`.
    fn cancelled(&self) -> bool {
        false
    }

    /// The value; None as long as there is none.
    #[getter]
    fn value(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match &*self.outcome.borrow() {
            Some(Outcome::Value(value)) => Some(value.clone_ref(py)),
            _ => None,
        }
    }

    /// The exception; None if there is none.
    #[getter]
    fn exception(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.error_part(|error, _| error.clone_ref(py))
    }

    /// Type, instance and traceback of the exception; an empty tuple if there is none.
    #[getter]
    fn exc_info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let parts = self.error_part(|error, traceback| {
            (error.clone_ref(py), traceback.map(|traceback| traceback.clone_ref(py)))
        });
        match parts {
            Some((error, traceback)) => {
                (error.bind(py).get_type(), error, traceback).into_pyobject(py)
            }
            None => Ok(PyTuple::empty(py)),
        }
    }

    /// Has the hub of this thread call `callback(self)` once there is a value or an exception.
    ///
    /// TypeError is raised for something that cannot be called.
    fn rawlink<'py>(slf: &Bound<'py, Self>, callback: Bound<'py, PyAny>) -> PyResult<()> {
        let this = slf.get();
        this.links.add_here(callback)?;
        if this.ready() {
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

    /// How many wait, by `get`, `wait` or `rawlink`.
    fn linkcount(&self) -> usize {
        self.waiters.len() + self.links.len()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let this = slf.get();
        let mut text = format!("<{} ", class_name(slf)?);
        if this.ready() {
            let value = this.value(py).unwrap_or_else(|| py.None());
            write!(text, "value={} ", value.bind(py).repr()?).expect("a String");
            if let Some(error) = this.exception(py) {
                write!(text, "exception={} ", error.bind(py).repr()?).expect("a String");
            }
        } else {
            text.push_str("unset ");
        }
        write!(text, " _links[{}]>", this.linkcount()).expect("a String");
        Ok(text)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &*self.outcome.borrow() {
            Some(Outcome::Value(value)) => visit.call(value)?,
            Some(Outcome::Error(error, traceback)) => {
                visit.call(error)?;
                visit.call(traceback)?;
            }
            None => {}
        }
        self.links.visit(&visit)
    }

    fn __clear__(&self) {
        let outcome = self.outcome.borrow_mut().take();
        drop(outcome);
        drop(self.links.take());
    }
}
