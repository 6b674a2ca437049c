//! `shield`: holds back what others raise in a greenlet.
//!
//! A greenlet counts the shields that it is in, which is its *level*. What is to be raised in it
//! has a level too: 0 for a kill, for a `Timeout` the level of its greenlet when it was started.
//! As long as the greenlet's level is higher, the exception is kept with the greenlet's thread; it
//! is raised when the shield ends that held it back. So a `Timeout` works inside of the shield that
//! it was started in.
//!
//! Only what comes uninvited is held back. The outcome of the very operation that a greenlet waits
//! for (its own time limit, the error of a descriptor that was closed) ends the wait as ever, and so
//! do LoopExit and KeyboardInterrupt.
//!
//! Where nobody uses shields, this is one comparison for each exception that is thrown.

use super::HubObject;
use super::methods::greenlet_argument;
use super::queue::Entry;
use crate::greenlet::object::{PyGreenlet, Status};
use crate::greenlet::thread::Thread;
use crate::task::timeout::Timeout;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use std::cell::{Cell, RefCell};
use std::ptr;

/// Something held back: what the ready queue had for the greenlet.
struct HeldEntry {
    /// Told apart by its address; the entry has a reference as long as it means anything.
    greenlet: *const PyGreenlet,
    level: u16,
    entry: Entry,
}

/// What is held back in one thread, in the order in which it came.
pub struct Held {
    entries: RefCell<Vec<HeldEntry>>,
}

impl Held {
    pub const fn new() -> Self {
        Self { entries: RefCell::new(Vec::new()) }
    }

    /// Keeps an entry until the greenlet comes down to `level`.
    #[cold]
    pub fn keep(&self, thread: &Thread, greenlet: &PyGreenlet, level: u16, entry: Entry) {
        let mut entries = self.entries.borrow_mut();
        // Of greenlets that ended inside of a shield: nobody asks for it any more.
        for index in (0..entries.len()).rev() {
            if entries[index].entry.is_for_the_dead() {
                entries.remove(index).entry.leave_over(thread);
            }
        }
        entries.push(HeldEntry { greenlet, level, entry });
    }

    /// Takes the first entry out that `greenlet` is not shielded from at `level`.
    fn take(&self, greenlet: &PyGreenlet, level: u16) -> Option<Entry> {
        let mut entries = self.entries.borrow_mut();
        let fits = |held: &HeldEntry| ptr::eq(held.greenlet, greenlet) && held.level >= level;
        let place = entries.iter().position(fits)?;
        Some(entries.remove(place).entry)
    }

    /// Drops everything: the thread ends.
    pub fn clear(&self) {
        for held in self.entries.take() {
            held.entry.discard();
        }
    }
}

/// Takes what has been held back from the running greenlet, now that it is at `level`: the first
/// exception is returned, the others are thrown when it waits.
fn release(thread: &Thread, hub: &HubObject, here: &PyGreenlet, level: u16) -> Option<PyErr> {
    let mut first = None;
    while let Some(entry) = thread.held.take(here, level) {
        if first.is_some() {
            hub.push(thread, entry);
            continue;
        }
        first = match entry {
            Entry::Kill { greenlet, error } => {
                // SAFETY: owned references; the GIL is held.
                unsafe {
                    let error = Bound::from_owned_ptr(Python::assume_attached(), error);
                    ffi::Py_DECREF(greenlet.cast());
                    Some(PyErr::from_value(error))
                }
            }
            Entry::Timeout { timer } => timer_error(timer),
            other => {
                debug_assert!(false, "only exceptions are held back");
                hub.push(thread, other);
                None
            }
        };
    }
    first
}

/// The exception of a timer, unless it has been stopped; takes the reference.
fn timer_error(timer: *mut ffi::PyObject) -> Option<PyErr> {
    // SAFETY: an owned `Timeout`, and owned references from it; the GIL is held.
    unsafe {
        let timer = Bound::from_owned_ptr(Python::assume_attached(), timer);
        let timer = timer.cast::<Timeout>().expect("a Timeout entry holds a Timeout");
        let (greenlet, error) = Timeout::take_target(timer)?;
        ffi::Py_DECREF(greenlet.cast());
        Some(PyErr::from_value(Bound::from_owned_ptr(timer.py(), error)))
    }
}

/// Keeps an exception that is thrown by a direct switch, if its target is shielded from it. True if
/// so; the reference is taken then.
///
/// A greenlet that waits for no object but for whoever switches to it gets the exception at once: it
/// is the answer that it waits for.
pub fn hold_throw(thread: &Thread, greenlet: &PyGreenlet, error: *mut ffi::PyObject) -> bool {
    let wait = &greenlet.wait;
    if wait.level() == 0 || !wait.is_waiting() || greenlet.is_running() {
        return false;
    }
    // SAFETY: a live greenlet; the entry owns the references.
    unsafe { ffi::Py_INCREF(greenlet.as_ptr()) };
    let entry = Entry::Kill { greenlet: greenlet.as_greenlet(), error };
    thread.held.keep(thread, greenlet, 0, entry);
    true
}

/// A greenlet that waits for its own end, because it kills itself, is not shielded meanwhile: the
/// wait would never end.
pub struct Bared<'a> {
    greenlet: &'a PyGreenlet,
    level: u16,
}

impl<'a> Bared<'a> {
    /// Lets go of the running greenlet's shields. An exception that one of them held back is
    /// returned, to be raised.
    pub fn begin(py: Python<'_>, greenlet: &'a PyGreenlet) -> PyResult<Self> {
        let thread = Thread::get(py)?;
        if let Some(error) = release(thread, HubObject::of(py, thread)?, greenlet, 0) {
            return Err(error);
        }
        Ok(Self { greenlet, level: greenlet.wait.set_level(0) })
    }
}

impl Drop for Bared<'_> {
    fn drop(&mut self) {
        self.greenlet.wait.set_level(self.level);
    }
}

/// Shield()
/// --
///
/// The base class of `greenloop.shield`, which says what it means.
#[pyclass(frozen, subclass, module = "greenloop._core")]
pub struct Shield {
    /// The greenlet that is in it. Weak: the shield lies on the greenlet's stack, where the garbage
    /// collector does not see it.
    greenlet: RefCell<Option<Py<PyWeakrefReference>>>,
    /// How often it is.
    entered: Cell<u16>,
}

// SAFETY: touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for Shield {}

#[pymethods]
impl Shield {
    #[new]
    pub fn new() -> Self {
        Self { greenlet: RefCell::new(None), entered: Cell::new(0) }
    }

    /// Shields the current greenlet.
    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        let this = slf.get();
        let py = slf.py();
        let here = Thread::get(py)?.current();
        match this.owner(py) {
            Some(owner) if owner.as_ptr() != here.as_ptr() => {
                return Err(PyRuntimeError::new_err("this shield is used by another greenlet"));
            }
            Some(_) => {}
            None => {
                // SAFETY: the running greenlet.
                let here = unsafe { Bound::from_borrowed_ptr(py, here.as_ptr()) };
                let weak = PyWeakrefReference::new(&here)?.unbind();
                drop(this.greenlet.borrow_mut().replace(weak));
                this.entered.set(0);
            }
        }
        let level = here.wait.level();
        if level == u16::MAX {
            return Err(PyRuntimeError::new_err("too many shields within each other"));
        }
        here.wait.set_level(level + 1);
        this.entered.set(this.entered.get() + 1);
        Ok(slf.clone())
    }

    /// Ends it, and raises what was held back.
    fn __exit__<'py>(
        &self,
        kind: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
        traceback: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        let _ = (kind, traceback);
        let py = value.py();
        let Some(entered) = self.entered.get().checked_sub(1) else {
            return Err(PyRuntimeError::new_err("this shield has not been entered"));
        };
        let owner = self.owner(py);
        self.entered.set(entered);
        let Some(owner) = owner else {
            // The end of a generator that the greenlet began: its shields are gone with it.
            return Ok(());
        };
        // SAFETY: a greenlet, held by `owner`.
        let greenlet = unsafe { &*owner.as_ptr().cast::<PyGreenlet>() };
        let level = greenlet.wait.level().saturating_sub(1);
        greenlet.wait.set_level(level);
        let Err(error) = Self::deliver(py, greenlet, level) else { return Ok(()) };
        // What was raised in the block shows as what was being handled.
        let thrown = error.value(py);
        if !value.is_none() && !value.is(thrown) && thrown.getattr("__context__")?.is_none() {
            thrown.setattr("__context__", value)?;
        }
        Err(error)
    }
}

impl Shield {
    /// Runs a block in which the current greenlet is shielded.
    pub fn around<'py, T>(
        slf: &Bound<'py, Self>,
        block: impl FnOnce() -> PyResult<T>,
    ) -> PyResult<T> {
        let py = slf.py();
        Self::__enter__(slf)?;
        let result = block();
        let none = py.None();
        let none = none.bind(py);
        match &result {
            Ok(_) => slf.get().__exit__(none, none, none)?,
            Err(error) => slf.get().__exit__(none, error.value(py).as_any(), none)?,
        }
        result
    }

    /// The greenlet that is in it, if there is one.
    fn owner<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        if self.entered.get() == 0 {
            return None;
        }
        self.greenlet.borrow().as_ref()?.bind(py).upgrade()
    }

    fn deliver(py: Python<'_>, greenlet: &PyGreenlet, level: u16) -> PyResult<()> {
        let thread = Thread::get(py)?;
        if ptr::eq(thread.current().as_ptr(), greenlet.as_ptr()) {
            if thread.held.entries.borrow().is_empty() {
                return Ok(());
            }
            let error = release(thread, HubObject::of(py, thread)?, greenlet, level);
            return error.map_or(Ok(()), Err);
        }
        // Left by somebody else, who finishes a generator that the greenlet began: thrown when the
        // hub gets to it.
        // SAFETY: a greenlet keeps its thread's record alive, which owns the hub while it is set.
        unsafe {
            let thread = &*greenlet.thread.get();
            while let Some(entry) = thread.held.take(greenlet, level) {
                match thread.hub.get().as_ref() {
                    Some(hub) if greenlet.status.get() != Status::Dead => hub.push(thread, entry),
                    _ => entry.discard(),
                }
            }
        }
        Ok(())
    }
}

/// _shield_level(greenlet)
/// --
///
/// How many shields a greenlet is in.
#[pyfunction]
fn _shield_level(greenlet: &Bound<'_, PyAny>) -> PyResult<u16> {
    let greenlet = greenlet_argument(greenlet)?;
    // SAFETY: a live greenlet.
    Ok(unsafe { (*greenlet).wait.level() })
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(_shield_level, module)?)?;
    module.add_class::<Shield>()
}
