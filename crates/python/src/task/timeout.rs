//! `Timeout`.
//!
//! Programs start many and cancel nearly all: they are made, started and cancelled without running
//! Python code, and the object itself is what the reactor's timer refers to.

use crate::greenlet::methods::instance_from;
use crate::greenlet::object::{PyGreenlet, Status};
use crate::greenlet::thread::Thread;
use crate::hub::callback::Callback;
use crate::hub::event_loop::EventLoop;
use crate::hub::queue::Entry;
use crate::hub::{HubObject, Source};
use crate::time::deadline_after;
use greenloop_reactor::TimerKey;
use pyo3::exceptions::{PyAssertionError, PyBaseException, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyTypeInfo, PyVisit};
use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::ptr;

type Object = *mut ffi::PyObject;

/// Raises an exception in the greenlet that starts it, when a number of seconds is over.
///
/// ::
///
///     with Timeout(5):
///         ...  # Timeout is raised here after 5 seconds
///
///     timeout = Timeout(5)
///     timeout.start()
///     try:
///         ...
///     except Timeout as error:
///         if error is not timeout:
///             raise  # somebody else's
///     finally:
///         timeout.close()
///
/// It is raised where the greenlet waits: code that does not wait is not interrupted. It derives
/// from BaseException, so that ``except Exception`` does not take it for an error.
///
/// seconds: the time in seconds; 0 and less is over at once, None is never over.
/// exception: what to raise. None: the Timeout itself. A string: the Timeout itself, and the
///     string is part of its text. An exception or exception class: that. False: the Timeout
///     itself, which a ``with`` statement then keeps to itself.
/// ref: whether the time that has still to pass keeps the loop running.
/// priority: taken for compatibility and not used: time-outs happen in the order of their time.
///
/// Raises TypeError if *seconds* is no number, ValueError if it is not a number ("nan").
/// (As gevent.Timeout.)
#[pyclass(frozen, subclass, weakref, extends = PyBaseException, module = "greenloop.timeout")]
#[derive(Default)]
pub struct Timeout {
    /// None: never over.
    seconds: RefCell<Option<Py<PyAny>>>,
    exception: RefCell<Option<Py<PyAny>>>,
    unreferenced: Cell<bool>,
    closed: Cell<bool>,
    /// The greenlet, while the exception is still to be raised.
    target: RefCell<Option<Py<PyAny>>>,
    /// The exception, if it is not the `Timeout` itself.
    error: RefCell<Option<Py<PyAny>>>,
    /// Whether the exception has to be made of `exception` yet.
    to_be_made: Cell<bool>,
    key: Cell<Option<TimerKey>>,
    /// The address of the loop that has the timer.
    event_loop: Cell<usize>,
    /// Whether the time is over and the throw waits for its turn.
    due: Cell<bool>,
    /// How many shields the greenlet was in at the start.
    level: Cell<u16>,
}

// SAFETY: the cells are touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for Timeout {}

fn none_to_no(value: &Bound<'_, PyAny>) -> Option<Py<PyAny>> {
    (!value.is_none()).then(|| value.clone().unbind())
}

fn or_none(py: Python<'_>, value: &RefCell<Option<Py<PyAny>>>) -> Py<PyAny> {
    value.borrow().as_ref().map_or_else(|| py.None(), |value| value.clone_ref(py))
}

fn put(py: Python<'_>, place: &RefCell<Option<Py<PyAny>>>, value: Option<Py<PyAny>>) {
    release(py, place.replace(value));
}

/// Drops a reference. (Without the proof that the GIL is held, pyo3 would look for it.)
#[inline]
fn release<T>(py: Python<'_>, object: Option<Py<T>>) {
    drop(object.map(|object| object.into_bound(py)));
}

impl Timeout {
    // --- for the hub

    /// The greenlet and the exception, if it has not been cancelled: owned references. It is over
    /// then.
    pub fn take_target(slf: &Bound<'_, Self>) -> Option<(*mut PyGreenlet, Object)> {
        let this = slf.get();
        if !this.due.replace(false) {
            return None;
        }
        let greenlet = this.target.take()?;
        let error = this.error.take().unwrap_or_else(|| slf.clone().into_any().unbind());
        Some((greenlet.into_ptr().cast(), error.into_ptr()))
    }

    /// The greenlet, if it is in a shield that this was started outside of, and how many it was in
    /// then. Alive as long as this is not cancelled.
    pub fn shielded_target(&self) -> Option<(*mut PyGreenlet, u16)> {
        let target = self.target.borrow();
        let greenlet = target.as_ref()?.as_ptr().cast::<PyGreenlet>();
        // SAFETY: a greenlet, held by `target`.
        let level = unsafe { (*greenlet).wait.level() };
        (level > self.level.get()).then(|| (greenlet, self.level.get()))
    }

    /// The greenlet: alive as long as this is not cancelled, which none is from then on.
    pub fn target(&self) -> Option<*mut PyGreenlet> {
        self.target.borrow().as_ref().map(|greenlet| greenlet.as_ptr().cast())
    }

    /// Whether it throws into this greenlet.
    pub fn is_for(&self, greenlet: *mut ffi::PyObject) -> bool {
        self.target.borrow().as_ref().is_some_and(|target| target.as_ptr() == greenlet)
    }

    /// Whether it has not been cancelled, and its greenlet has not ended.
    pub fn has_living_target(&self) -> bool {
        self.target.borrow().as_ref().is_some_and(|greenlet| {
            // SAFETY: as in `shielded_target`.
            unsafe { (*greenlet.as_ptr().cast::<PyGreenlet>()).status.get() != Status::Dead }
        })
    }

    /// Called when the time is over.
    pub fn expired(slf: &Bound<'_, Self>, key: TimerKey, hub: &EventLoop) {
        let this = slf.get();
        // It may have been cancelled, and started again, by something that fired with it.
        if this.key.get() != Some(key) {
            return;
        }
        this.key.set(None);
        if this.to_be_made.get() {
            // Making it can run any code, which is for the hub's callbacks.
            let py = slf.py();
            let call = slf.getattr("_expire").and_then(|method| {
                Callback::object(py, method.unbind(), PyTuple::empty(py).unbind())
            });
            match call {
                Ok(call) => hub.push_local(Entry::Call { callback: call.into_ptr() }),
                Err(error) => error.write_unraisable(py, Some(slf)),
            }
            return;
        }
        this.due.set(true);
        hub.push_local(Entry::Timeout { timer: slf.clone().into_ptr() });
    }

    // --- for the methods

    fn is_pending(&self) -> bool {
        self.target.borrow().is_some()
    }

    fn set_up(
        &self,
        seconds: &Bound<'_, PyAny>,
        exception: &Bound<'_, PyAny>,
        unreferenced: bool,
    ) -> PyResult<()> {
        check_seconds(seconds)?;
        let py = seconds.py();
        put(py, &self.seconds, none_to_no(seconds));
        put(py, &self.exception, none_to_no(exception));
        self.unreferenced.set(unreferenced);
        Ok(())
    }

    fn begin(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        if this.is_pending() {
            return Err(PyAssertionError::new_err(format!(
                "{} is already started; to restart it, cancel it first",
                slf.repr()?
            )));
        }
        if this.closed.get() {
            return Err(PyAssertionError::new_err(format!(
                "{} is closed; make a new one",
                slf.repr()?
            )));
        }
        let seconds = match &*this.seconds.borrow() {
            Some(seconds) => seconds.bind(py).clone(),
            None => return Ok(()),
        };
        let delay = number_of(&seconds)?;
        let error = this.chosen_error(py);
        let thread = Thread::get(py)?;
        let hub = HubObject::of(py, thread)?;
        let here = thread.current();
        this.to_be_made.set(matches!(error, Chosen::Made));
        put(py, &this.error, if let Chosen::Instance(error) = error { Some(error) } else { None });
        // SAFETY: the running greenlet.
        let target = unsafe { Bound::from_borrowed_ptr(py, here.as_ptr()) };
        put(py, &this.target, Some(target.unbind()));
        this.level.set(here.wait.level());
        this.due.set(false);
        let timeout = slf.clone().unbind();
        let source = if this.unreferenced.get() {
            hub.change_unreferenced(true);
            Source::ThrowUnreferenced(timeout)
        } else {
            Source::Throw(timeout)
        };
        let key = hub.reactor(|reactor| reactor.timer_add(deadline_after(delay), source));
        this.key.set(Some(key));
        this.event_loop.set(ptr::from_ref::<EventLoop>(hub).addr());
        Ok(())
    }

    fn chosen_error(&self, py: Python<'_>) -> Chosen {
        let Some(exception) = &*self.exception.borrow() else { return Chosen::Itself };
        let exception = exception.bind(py);
        if exception.is_instance_of::<PyString>() || is_false(exception) {
            Chosen::Itself
        } else if exception.is_instance_of::<PyBaseException>() {
            Chosen::Instance(exception.clone().unbind())
        } else {
            Chosen::Made
        }
    }

    fn stop(&self, py: Python<'_>) {
        let target = self.target.take();
        let error = self.error.take();
        self.due.set(false);
        // Keys mean something to the reactor that gave them only. Left there, the timer finds
        // nothing to do.
        if let Some(key) = self.key.take()
            && let Some(thread) = Thread::try_get()
            // SAFETY: owned by the thread's record.
            && let Some(hub) = unsafe { thread.hub.get().as_ref() }
            && ptr::from_ref::<EventLoop>(hub).addr() == self.event_loop.get()
        {
            let source = hub.reactor(|reactor| reactor.timer_remove(key));
            match source {
                Some(Source::Throw(timeout)) => release(py, Some(timeout)),
                Some(Source::ThrowUnreferenced(timeout)) => {
                    hub.change_unreferenced(false);
                    release(py, Some(timeout));
                }
                other => drop(other),
            }
        }
        release(py, target);
        release(py, error);
    }

    /// Whether it is of this class, and no subclass that may have its own methods.
    fn is_exact(slf: &Bound<'_, Self>) -> bool {
        slf.get_type_ptr() == Self::type_object_raw(slf.py())
    }

    fn begin_any(slf: &Bound<'_, Self>) -> PyResult<()> {
        if Self::is_exact(slf) {
            return Self::begin(slf);
        }
        slf.call_method0("start").map(drop)
    }
}

/// What is raised.
enum Chosen {
    Itself,
    Instance(Py<PyAny>),
    /// Made of a class when the time is over.
    Made,
}

fn is_false(value: &Bound<'_, PyAny>) -> bool {
    value.cast::<PyBool>().is_ok_and(|value| !value.is_true())
}

/// The seconds as the clock counts them.
///
/// # Errors
///
/// TypeError for what is no number, OverflowError for an integer that is too large.
#[inline]
fn number_of(seconds: &Bound<'_, PyAny>) -> PyResult<f64> {
    // SAFETY: a valid object; an integer is not made a float object on the way.
    let number = unsafe {
        if seconds.is_exact_instance_of::<PyInt>() {
            ffi::PyLong_AsDouble(seconds.as_ptr())
        } else {
            ffi::PyFloat_AsDouble(seconds.as_ptr())
        }
    };
    if number == -1.0
        && let Some(error) = PyErr::take(seconds.py())
    {
        return Err(error);
    }
    Ok(number)
}

/// # Errors
///
/// TypeError for what cannot be compared with a number, ValueError for what is not a number.
#[inline]
fn check_seconds(seconds: &Bound<'_, PyAny>) -> PyResult<()> {
    if seconds.is_none() || seconds.is_exact_instance_of::<PyInt>() {
        return Ok(());
    }
    let is_nan = match seconds.cast_exact::<PyFloat>() {
        Ok(seconds) => seconds.value().is_nan(),
        Err(_) => !seconds.ge(0)? && seconds.ne(seconds)?,
    };
    if is_nan {
        return Err(PyValueError::new_err("seconds must not be nan"));
    }
    Ok(())
}

#[pymethods]
impl Timeout {
    #[new]
    #[pyo3(
        signature = (*_args, **_kwargs),
        text_signature = "(seconds=None, exception=None, ref=True, priority=-1)"
    )]
    fn __new__(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    #[pyo3(signature = (seconds = None, exception = None, r#ref = true, priority = None))]
    fn __init__<'py>(
        slf: &Bound<'py, Self>,
        seconds: Option<Bound<'py, PyAny>>,
        exception: Option<Bound<'py, PyAny>>,
        r#ref: bool,
        priority: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        drop(priority);
        let none = slf.py().None().into_bound(slf.py());
        let (seconds, exception) = (seconds.as_ref(), exception.as_ref());
        slf.get().set_up(seconds.unwrap_or(&none), exception.unwrap_or(&none), !r#ref)
    }

    /// The time in seconds; None is never over.
    #[getter]
    fn seconds(&self, py: Python<'_>) -> Py<PyAny> {
        or_none(py, &self.seconds)
    }

    #[setter]
    fn set_seconds(&self, value: &Bound<'_, PyAny>) {
        put(value.py(), &self.seconds, none_to_no(value));
    }

    /// What is raised, as it was given.
    #[getter]
    fn exception(&self, py: Python<'_>) -> Py<PyAny> {
        or_none(py, &self.exception)
    }

    #[setter]
    fn set_exception(&self, value: &Bound<'_, PyAny>) {
        put(value.py(), &self.exception, none_to_no(value));
    }

    /// Whether the exception is still to be raised.
    #[getter]
    fn pending(&self) -> bool {
        self.is_pending()
    }

    /// Begin to count.
    ///
    /// Raises AssertionError if it has been started and is not over, or if it has been closed.
    fn start(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::begin(slf)
    }

    /// Do not raise the exception, if that has not happened. It may be started again.
    fn cancel(&self, py: Python<'_>) {
        self.stop(py);
    }

    /// Do not raise the exception, and never be started again.
    fn close(&self, py: Python<'_>) {
        self.closed.set(true);
        self.stop(py);
    }

    /// Makes the exception of the class it was given, and has it raised. Called by the hub, which
    /// reports what cannot be raised.
    fn _expire(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        if !this.is_pending() {
            return Ok(());
        }
        let exception = this.exception(py).into_bound(py);
        let none = py.None().into_bound(py);
        match instance_from(&exception, &none, &none) {
            Ok(error) => put(py, &this.error, Some(error.unbind())),
            Err(error) => {
                put(py, &this.target, None);
                return Err(error);
            }
        }
        this.due.set(true);
        HubObject::get(py)?.push_local(Entry::Timeout { timer: slf.clone().into_ptr() });
        Ok(())
    }

    /// Make a Timeout and start it.
    ///
    /// timeout: seconds, or a Timeout, which is started unless it is pending, and returned.
    /// exception, ref: as for Timeout; not used if *timeout* is a Timeout.
    #[classmethod]
    #[pyo3(signature = (timeout = None, exception = None, r#ref = true))]
    fn start_new<'py>(
        class: &Bound<'py, PyType>,
        timeout: Option<Bound<'py, PyAny>>,
        exception: Option<Bound<'py, PyAny>>,
        r#ref: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(given) = &timeout
            && let Ok(given) = given.cast::<Self>()
        {
            if !given.getattr("pending")?.is_truthy()? {
                Self::begin_any(given)?;
            }
            return Ok(given.clone().into_any());
        }
        let new = if r#ref {
            class.call1((timeout, exception))?
        } else {
            let keywords = PyDict::new(class.py());
            keywords.set_item("ref", false)?;
            class.call((timeout, exception), Some(&keywords))?
        };
        Self::begin_any(new.cast::<Self>()?)?;
        Ok(new)
    }

    /// Like start_new, but make nothing if *timeout* is None.
    #[classmethod]
    #[pyo3(signature = (timeout = None, exception = None, r#ref = true))]
    fn _start_new_or_dummy<'py>(
        class: &Bound<'py, PyType>,
        timeout: Option<Bound<'py, PyAny>>,
        exception: Option<Bound<'py, PyAny>>,
        r#ref: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        if timeout.is_none() {
            return class.getattr("_never");
        }
        Self::start_new(class, timeout, exception, r#ref)
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        if !slf.get().is_pending() {
            Self::begin_any(slf)?;
        }
        Ok(slf.clone())
    }

    fn __exit__<'py>(
        slf: &Bound<'py, Self>,
        kind: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
        traceback: &Bound<'py, PyAny>,
    ) -> PyResult<bool> {
        let _ = (kind, traceback);
        let (py, this) = (slf.py(), slf.get());
        if Self::is_exact(slf) {
            this.close(py);
        } else {
            slf.call_method0("close")?;
        }
        Ok(value.is(slf) && this.exception.borrow().as_ref().is_some_and(|e| is_false(e.bind(py))))
    }

    /// Timeouts stand where numbers of seconds can: programs compare them.
    fn __lt__<'py>(&self, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = other.py();
        let seconds = self.seconds(py);
        let seconds = seconds.bind(py);
        if seconds.is_none() {
            return Ok(py.NotImplemented().into_bound(py));
        }
        let less = match other.cast::<Self>() {
            Ok(other) => {
                let other = other.get().seconds(py);
                other.is_none(py) || seconds.lt(other.bind(py))?
            }
            Err(_) => seconds.lt(other)?,
        };
        Ok(PyBool::new(py, less).to_owned().into_any())
    }

    /// Say how long, and what for: '1 second', '2 seconds (silent)', '3 seconds: text'.
    fn __str__(&self, py: Python<'_>) -> PyResult<String> {
        let seconds = self.seconds(py);
        let seconds = seconds.bind(py);
        if seconds.is_none() {
            return Ok(String::new());
        }
        let plural = if seconds.eq(1)? { "" } else { "s" };
        let exception = self.exception(py);
        let exception = exception.bind(py);
        let reason = if exception.is_none() {
            String::new()
        } else if is_false(exception) {
            " (silent)".to_owned()
        } else {
            format!(": {}", exception.str()?)
        };
        Ok(format!("{} second{plural}{reason}", seconds.str()?))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (py, this) = (slf.py(), slf.get());
        let exception = this.exception(py);
        let exception = if exception.is_none(py) {
            String::new()
        } else {
            format!(" exception={}", exception.bind(py).repr()?)
        };
        Ok(format!(
            "<{} at {:#x} seconds={}{}{exception}>",
            slf.get_type().name()?,
            slf.as_ptr() as usize,
            this.seconds(py).bind(py).str()?,
            if this.is_pending() { " pending" } else { "" },
        ))
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyType>, Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let py = slf.py();
        let state = match slf.getattr("__dict__")?.cast::<PyDict>() {
            Ok(dict) => dict.copy()?,
            Err(_) => PyDict::new(py),
        };
        state.set_item("seconds", slf.get().seconds(py))?;
        state.set_item("exception", slf.get().exception(py))?;
        Ok((slf.get_type(), PyTuple::empty(py), state))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for place in [&self.exception, &self.error, &self.target] {
            if let Some(object) = &*place.borrow() {
                visit.call(object)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self, py: Python<'_>) {
        put(py, &self.exception, None);
        put(py, &self.error, None);
        put(py, &self.target, None);
    }
}

const PARAMETERS: [&CStr; 4] = [c"seconds", c"exception", c"ref", c"priority"];

/// Makes one without the detours of `__new__` and `__init__`; for the class itself, not for
/// subclasses.
unsafe extern "C" fn make(
    _class: Object,
    args: *const Object,
    count: usize,
    names: Object,
) -> Object {
    // SAFETY: the vectorcall convention: `count` objects and one for each name. They are borrowed
    // for the call.
    unsafe {
        let py = Python::assume_attached();
        let mut given = [ffi::Py_None(), ffi::Py_None(), ffi::Py_True(), ffi::Py_None()];
        let count = ffi::PyVectorcall_NARGS(count) as usize;
        let result = if count > given.len() {
            Err(PyTypeError::new_err(format!("Timeout() takes at most 4 arguments, not {count}")))
        } else {
            for (index, place) in given.iter_mut().enumerate().take(count) {
                *place = *args.add(index);
            }
            if names.is_null() { Ok(()) } else { keywords(args, count, names, &mut given) }
        };
        let made = result.and_then(|()| {
            let [seconds, exception, referenced, _] = given;
            let unreferenced = !Bound::from_borrowed_ptr(py, referenced).is_truthy()?;
            let timeout = Bound::new(py, Timeout::default())?;
            let seconds = Bound::from_borrowed_ptr(py, seconds);
            let exception = Bound::from_borrowed_ptr(py, exception);
            timeout.get().set_up(&seconds, &exception, unreferenced)?;
            Ok(timeout)
        });
        match made {
            Ok(timeout) => timeout.into_ptr(),
            Err(error) => {
                error.restore(py);
                ptr::null_mut()
            }
        }
    }
}

/// Reads keyword arguments.
///
/// # Safety
///
/// The vectorcall convention, with `count` positional arguments.
unsafe fn keywords(
    args: *const Object,
    count: usize,
    names: Object,
    given: &mut [Object; 4],
) -> PyResult<()> {
    // SAFETY: as the caller guarantees; borrowed objects.
    unsafe {
        for index in 0..ffi::PyTuple_GET_SIZE(names) {
            let name = ffi::PyTuple_GET_ITEM(names, index);
            let is_named = |parameter: &&CStr| {
                ffi::PyUnicode_CompareWithASCIIString(name, parameter.as_ptr()) == 0
            };
            let Some(place) = PARAMETERS.iter().position(is_named) else {
                let name = Bound::from_borrowed_ptr(Python::assume_attached(), name);
                return Err(PyTypeError::new_err(format!(
                    "Timeout() got an unexpected keyword argument {}",
                    name.repr()?
                )));
            };
            if place < count {
                return Err(PyTypeError::new_err(format!(
                    "Timeout() got multiple values for argument {:?}",
                    PARAMETERS[place]
                )));
            }
            given[place] = *args.add(count + index as usize);
        }
    }
    Ok(())
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let class = module.py().get_type::<Timeout>();
    // SAFETY: a class that was made just now, and that nobody has called yet. Subclasses do not
    // inherit the field.
    unsafe { (*class.as_ptr().cast::<ffi::PyTypeObject>()).tp_vectorcall = Some(make) };
    module.add("Timeout", &class)?;
    let never = class.call0()?;
    class.setattr("_never", never)
}
