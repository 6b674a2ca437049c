//! `Waiter`: hands one value or exception from one greenlet to another.

use crate::exceptions;
use crate::greenlet::methods::instance_from;
use crate::hub::HubObject;
use crate::hub::wait::{Reason, Wait, WaitList};
use pyo3::exceptions::{PyAssertionError, PyAttributeError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::cell::RefCell;

enum Outcome {
    Value(Py<PyAny>),
    Error(Py<PyAny>),
}

/// Waiter(hub=None)
/// --
///
/// What the event loop's callbacks wake a greenlet with: `get` waits until `switch` or `throw` has
/// been called, in any order, and gives what they were given. (As gevent.hub.Waiter.)
#[pyclass(frozen, subclass, weakref, module = "greenloop._core")]
pub struct Waiter {
    outcome: RefCell<Option<Outcome>>,
    waiting: WaitList,
    hub: Option<Py<PyAny>>,
}

// SAFETY: touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for Waiter {}

impl Waiter {
    fn set(&self, outcome: Outcome) {
        let old = self.outcome.borrow_mut().replace(outcome);
        drop(old);
        if crate::sync::in_hub() {
            // It goes on before what is ready, as if the hub switched to it here.
            self.waiting.wake_next();
        } else {
            self.waiting.wake_all();
        }
    }

    fn take_error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match &*self.outcome.borrow() {
            Some(Outcome::Error(error)) => Some(error.clone_ref(py)),
            _ => None,
        }
    }
}

#[pymethods]
impl Waiter {
    #[new]
    #[pyo3(signature = (hub = None))]
    fn new(hub: Option<Bound<'_, PyAny>>) -> Self {
        let hub = hub.filter(|hub| !hub.is_none()).map(Bound::unbind);
        Self { outcome: RefCell::new(None), waiting: WaitList::new(), hub }
    }

    /// The hub that was given, or that of the calling thread. Whoever waits does so in their own.
    #[getter]
    fn hub(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if let Some(hub) = &self.hub {
            return Ok(hub.clone_ref(py));
        }
        let hub = HubObject::get(py)?;
        // SAFETY: a hub is alive as long as it is its thread's.
        Ok(unsafe { Bound::from_borrowed_ptr(py, hub.as_ptr()).unbind() })
    }

    /// The greenlet that waits in `get`; None if there is none.
    #[getter]
    fn greenlet(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.waiting.first(py).map(Bound::unbind)
    }

    /// Waits for the value and returns it, or raises the exception.
    fn get<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        while !this.ready() {
            if !this.waiting.is_empty() {
                return Err(exceptions::concurrent_use(
                    py,
                    "This Waiter is already used by another greenlet",
                ));
            }
            let wait = Wait::begin(py, slf.as_ptr())?;
            let reason = wait.park(Some(&this.waiting), None).into_result()?;
            debug_assert_ne!(reason, Reason::TimedOut);
        }
        match &*this.outcome.borrow() {
            Some(Outcome::Value(value)) => Ok(value.bind(py).clone()),
            Some(Outcome::Error(error)) => Err(PyErr::from_value(error.bind(py).clone())),
            None => Err(PyAssertionError::new_err("the Waiter was cleared while it was read")),
        }
    }

    /// Gives the value.
    #[pyo3(signature = (value = None))]
    fn switch(&self, py: Python<'_>, value: Option<Py<PyAny>>) {
        self.set(Outcome::Value(value.unwrap_or_else(|| py.None())));
    }

    /// Gives all arguments, as a tuple.
    #[pyo3(signature = (*args))]
    fn switch_args(&self, args: Bound<'_, PyTuple>) {
        self.set(Outcome::Value(args.into_any().unbind()));
    }

    /// Gives an exception: arguments as for greenlet.throw.
    #[pyo3(signature = (*args))]
    fn throw(&self, args: Bound<'_, PyTuple>) -> PyResult<()> {
        let py = args.py();
        let none = py.None().into_bound(py);
        let part = |index: usize| args.get_item(index).unwrap_or_else(|_| none.clone());
        let kind = if args.is_empty() {
            crate::greenlet::exceptions::greenlet_exit(py).clone()
        } else {
            part(0)
        };
        self.set(Outcome::Error(instance_from(&kind, &part(1), &part(2))?.unbind()));
        Ok(())
    }

    /// Forgets what was given.
    fn clear(&self) {
        let old = self.outcome.borrow_mut().take();
        drop(old);
    }

    /// Whether something has been given.
    fn ready(&self) -> bool {
        self.outcome.borrow().is_some()
    }

    /// Whether a value has been given.
    fn successful(&self) -> bool {
        matches!(&*self.outcome.borrow(), Some(Outcome::Value(_)))
    }

    /// The value that was given; None after an exception. AttributeError before either.
    #[getter]
    fn value(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match &*self.outcome.borrow() {
            Some(Outcome::Value(value)) => Ok(value.clone_ref(py)),
            Some(Outcome::Error(_)) => Ok(py.None()),
            None => Err(PyAttributeError::new_err("the Waiter has no value yet")),
        }
    }

    /// Type, instance and traceback of the exception that was given, or None.
    #[getter]
    fn exc_info(&self, py: Python<'_>) -> Option<(Py<PyAny>, Py<PyAny>, Py<PyAny>)> {
        let error = self.take_error(py)?;
        let bound = error.bind(py);
        let kind = bound.get_type().into_any().unbind();
        let traceback = bound.getattr("__traceback__").map_or_else(|_| py.None(), Bound::unbind);
        Some((kind, error.clone_ref(py), traceback))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let this = slf.get();
        // A repr runs Python code: no borrow is alive meanwhile.
        let given = match &*this.outcome.borrow() {
            Some(Outcome::Value(value)) => Some((" value=", value.clone_ref(slf.py()))),
            Some(Outcome::Error(error)) => Some((" exc_info=", error.clone_ref(slf.py()))),
            None => None,
        };
        let state = match given {
            Some((label, object)) => format!("{label}{}", object.bind(slf.py()).repr()?),
            None => String::new(),
        };
        let greenlet = match this.greenlet(slf.py()) {
            Some(greenlet) => greenlet.bind(slf.py()).repr()?.to_string(),
            None => "None".to_owned(),
        };
        Ok(format!("<{} greenlet={greenlet}{state}>", slf.get_type().name()?))
    }
}
