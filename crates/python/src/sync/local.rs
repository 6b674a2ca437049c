//! `local`: attributes that each greenlet has its own of.
//!
//! The attributes are in one dict per local and greenlet. The local has the dicts, by the
//! greenlet's address. A weak reference to the greenlet takes the dict out when the greenlet is
//! freed, before its address can be used again.

use crate::greenlet::object::{PyGreenlet, Status};
use crate::greenlet::thread::Thread;
use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ptr;
use std::rc::{Rc, Weak};

unsafe extern "C" {
    /// Exported by CPython (`Include/internal/pycore_object.h`): attribute access as usual, with a
    /// given dict in the place of the object's own.
    fn _PyObject_GenericGetAttrWithDict(
        object: *mut ffi::PyObject,
        name: *mut ffi::PyObject,
        dict: *mut ffi::PyObject,
        suppress: i32,
    ) -> *mut ffi::PyObject;
    /// As above. `value` is null to delete.
    fn _PyObject_GenericSetAttrWithDict(
        object: *mut ffi::PyObject,
        name: *mut ffi::PyObject,
        value: *mut ffi::PyObject,
        dict: *mut ffi::PyObject,
    ) -> i32;
}

/// Spreads addresses.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are addresses");
    }

    fn write_usize(&mut self, address: usize) {
        // Fibonacci hashing: the high bits count, the table uses low ones too.
        self.0 = (address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
    }
}

/// A greenlet's attributes.
struct Slot {
    dict: Py<PyDict>,
    /// A weak reference to it.
    greenlet: Py<PyAny>,
}

/// The dicts of one local.
#[derive(Default)]
struct Table {
    slots: RefCell<HashMap<usize, Slot, BuildHasherDefault<AddressHasher>>>,
    /// The greenlet that was here last, and its dict: borrowed from `slots`.
    last: Cell<(usize, *mut ffi::PyObject)>,
    /// How many slots there may be before those of finished greenlets are looked for.
    sweep_at: Cell<usize>,
}

const FIRST_SWEEP: usize = 64;

impl Table {
    /// The dict of a greenlet: borrowed, null if there is none.
    #[inline]
    fn find(&self, key: usize) -> *mut ffi::PyObject {
        let (last, dict) = self.last.get();
        if last == key {
            return dict;
        }
        let dict = self.slots.borrow().get(&key).map_or(ptr::null_mut(), |slot| slot.dict.as_ptr());
        if !dict.is_null() {
            self.last.set((key, dict));
        }
        dict
    }

    fn insert(&self, key: usize, slot: Slot) {
        self.last.set((0, ptr::null_mut()));
        let old = self.slots.borrow_mut().insert(key, slot);
        drop(old);
    }

    fn remove(&self, key: usize) {
        self.last.set((0, ptr::null_mut()));
        let slot = self.slots.borrow_mut().remove(&key);
        // Runs Python code, maybe.
        drop(slot);
    }

    /// Drops the dicts of greenlets that are finished but still referred to. Done when the number
    /// of dicts has doubled, so that it costs little for each.
    fn sweep(&self) {
        let count = self.slots.borrow().len();
        if count < self.sweep_at.get().max(FIRST_SWEEP) {
            return;
        }
        self.last.set((0, ptr::null_mut()));
        let mut finished = Vec::new();
        let mut slots = self.slots.borrow_mut();
        let keys: Vec<usize> = slots
            .keys()
            .copied()
            // SAFETY: greenlets leave the table before they are freed.
            .filter(|key| unsafe { (*(*key as *const PyGreenlet)).status.get() } == Status::Dead)
            .collect();
        for key in keys {
            finished.extend(slots.remove(&key));
        }
        self.sweep_at.set(2 * slots.len());
        drop(slots);
        drop(finished);
    }
}

/// Takes a greenlet's dict out of a local when the greenlet is freed.
#[pyclass(frozen, name = "_LocalCleanup", module = "greenloop._core")]
struct Cleanup {
    table: Weak<Table>,
    key: usize,
}

// SAFETY: as for `Sync`.
unsafe impl Send for Cleanup {}
// SAFETY: touched with the GIL held.
unsafe impl Sync for Cleanup {}

#[pymethods]
impl Cleanup {
    fn __call__(&self, reference: &Bound<'_, PyAny>) {
        if let Some(table) = self.table.upgrade() {
            let ours =
                table.slots.borrow().get(&self.key).is_some_and(|slot| slot.greenlet.is(reference));
            if ours {
                table.remove(self.key);
            }
        }
    }
}

/// The positional and the keyword arguments of a call.
struct Arguments(Py<PyTuple>, Option<Py<PyDict>>);

impl Arguments {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        Self(self.0.clone_ref(py), self.1.as_ref().map(|kwargs| kwargs.clone_ref(py)))
    }
}

/// An object whose attributes each greenlet has its own of.
///
/// Subclasses may have an `__init__`: it is called in each greenlet that uses the object, with the
/// arguments that the object was made with. Class attributes, properties and `__slots__` are
/// shared by all greenlets. A greenlet's attributes are dropped when the greenlet is freed, or some
/// time after it has ended. (As gevent.local.local.)
#[pyclass(frozen, subclass, weakref, name = "_local", module = "_thread")]
pub struct Local {
    table: Rc<Table>,
    /// What the object was made with, if there is an `__init__` to be called with it.
    arguments: RefCell<Option<Arguments>>,
    /// From `__getattribute__` to `__getattr__`, see there.
    missed: Cell<Option<PyErr>>,
}

// SAFETY: as for `Sync`.
unsafe impl Send for Local {}
// SAFETY: touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for Local {}

impl Local {
    /// The running greenlet's dict: borrowed from the local, so not to be used after code has run
    /// that could end the greenlet. Makes it, and calls `__init__`, on first use.
    #[inline]
    fn dict(slf: &Bound<'_, Self>) -> PyResult<*mut ffi::PyObject> {
        let here = Thread::get(slf.py())?.current().acting().cast();
        let dict = slf.get().table.find(here as usize);
        if !dict.is_null() {
            return Ok(dict);
        }
        Self::begin(slf, here)
    }

    #[cold]
    fn begin(slf: &Bound<'_, Self>, here: *mut ffi::PyObject) -> PyResult<*mut ffi::PyObject> {
        let this = slf.get();
        let dict = this.make_dict(slf.py(), here)?;
        let py = slf.py();
        let arguments = this.arguments.borrow().as_ref().map(|arguments| arguments.clone_ref(py));
        if let Some(Arguments(args, kwargs)) = arguments {
            let kwargs = kwargs.as_ref().map(|kwargs| kwargs.bind(py));
            let init = slf.get_type().getattr("__init__")?;
            let mut all = vec![slf.as_any().clone()];
            all.extend(args.bind(py).iter());
            if let Err(error) = init.call(PyTuple::new(py, all)?, kwargs) {
                this.table.remove(here as usize);
                return Err(error);
            }
        }
        Ok(dict)
    }

    fn make_dict(&self, py: Python<'_>, here: *mut ffi::PyObject) -> PyResult<*mut ffi::PyObject> {
        self.table.sweep();
        let dict = PyDict::new(py);
        let cleanup = Cleanup { table: Rc::downgrade(&self.table), key: here as usize };
        let cleanup = Py::new(py, cleanup)?;
        // SAFETY: the running greenlet and a callable; a new reference or null.
        let reference = unsafe {
            Bound::from_owned_ptr_or_err(py, ffi::PyWeakref_NewRef(here, cleanup.as_ptr()))?
        };
        let pointer = dict.as_ptr();
        let slot = Slot { dict: dict.unbind(), greenlet: reference.unbind() };
        self.table.insert(here as usize, slot);
        Ok(pointer)
    }

    fn set(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyAny>,
        value: *mut ffi::PyObject,
    ) -> PyResult<()> {
        let py = slf.py();
        let is_dict = match name.cast_exact::<PyString>() {
            Ok(name) => is_dict_name(name),
            // Names may be of classes that define what they are equal to.
            Err(_) => name.eq("__dict__")?,
        };
        if is_dict {
            return Err(PyAttributeError::new_err(format!(
                "'{}' object attribute '__dict__' is read-only",
                slf.get_type().name()?
            )));
        }
        let dict = Self::dict(slf)?;
        // SAFETY: valid objects, or null for the value; the dict is held for the call.
        unsafe {
            ffi::Py_INCREF(dict);
            let status = _PyObject_GenericSetAttrWithDict(slf.as_ptr(), name.as_ptr(), value, dict);
            ffi::Py_DECREF(dict);
            if status == 0 { Ok(()) } else { Err(PyErr::fetch(py)) }
        }
    }
}

fn is_dict_name(name: &Bound<'_, PyString>) -> bool {
    // SAFETY: a string and a C string.
    unsafe { ffi::PyUnicode_CompareWithASCIIString(name.as_ptr(), c"__dict__".as_ptr()) == 0 }
}

#[pymethods]
impl Local {
    #[new]
    #[classmethod]
    #[pyo3(signature = (*args, **kwargs))]
    fn __new__(
        class: &Bound<'_, PyType>,
        args: Bound<'_, PyTuple>,
        kwargs: Option<Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let py = class.py();
        let object = py.get_type::<PyAny>();
        let has_init = !class.getattr("__init__")?.is(&object.getattr("__init__")?);
        let given = !args.is_empty() || kwargs.as_ref().is_some_and(|kwargs| !kwargs.is_empty());
        if given && !has_init {
            return Err(PyTypeError::new_err("Initialization arguments are not supported"));
        }
        let arguments = has_init.then(|| Arguments(args.unbind(), kwargs.map(Bound::unbind)));
        let local = Self {
            table: Rc::default(),
            arguments: RefCell::new(arguments),
            missed: Cell::new(None),
        };
        // The interpreter calls __init__ for this greenlet.
        local.make_dict(py, Thread::get(py)?.current().acting().cast())?;
        Ok(local)
    }

    fn __getattribute__<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let dict = Self::dict(slf)?;
        // SAFETY: a valid dict; held for the call.
        let dict = unsafe { Bound::from_borrowed_ptr(py, dict) };
        if is_dict_name(name) {
            return Ok(dict);
        }
        // SAFETY: valid objects; a new reference or null.
        let found = unsafe {
            Bound::from_owned_ptr_or_err(
                py,
                _PyObject_GenericGetAttrWithDict(slf.as_ptr(), name.as_ptr(), dict.as_ptr(), 0),
            )
        };
        found.map_err(|error| {
            if !error.is_instance_of::<PyAttributeError>(py) {
                return error;
            }
            slf.get().missed.set(Some(error));
            PyAttributeError::new_err(())
        })
    }

    /// pyo3 calls this after an AttributeError of `__getattribute__`, which it drops, and would make
    /// one of its own otherwise. It is the original that has to be raised: it may be a property's.
    fn __getattr__<'py>(&self, name: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let missed = self.missed.take();
        Err(missed.unwrap_or_else(|| PyAttributeError::new_err(name.unbind())))
    }

    fn __setattr__(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        Self::set(slf, name, value.as_ptr())
    }

    fn __delattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::set(slf, name, ptr::null_mut())
    }

    /// The attributes that a greenlet has, as a dict; None if it has not used the object.
    fn _dict_of<'py>(&self, greenlet: &Bound<'py, PyAny>) -> Option<Bound<'py, PyDict>> {
        let slots = self.table.slots.borrow();
        let slot = slots.get(&(greenlet.as_ptr() as usize))?;
        Some(slot.dict.bind(greenlet.py()).clone())
    }

    /// For copy.copy: an object of the same class, made with the same arguments, in which the
    /// running greenlet has the same attributes and no other has any.
    fn __copy__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        // SAFETY: a valid dict; held from here on.
        let dict = unsafe { Bound::from_borrowed_ptr(py, Self::dict(slf)?) };
        let arguments =
            slf.get().arguments.borrow().as_ref().map(|arguments| arguments.clone_ref(py));
        let class = slf.get_type();
        let copied = match arguments {
            Some(Arguments(args, kwargs)) => {
                class.call(args.bind(py), kwargs.as_ref().map(|kwargs| kwargs.bind(py)))?
            }
            None => class.call0()?,
        };
        let attributes = copied.getattr("__dict__")?;
        let attributes = attributes.cast::<PyDict>()?;
        attributes.clear();
        attributes.update(dict.cast::<PyDict>()?.as_mapping())?;
        Ok(copied)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(Arguments(args, kwargs)) = &*self.arguments.borrow() {
            visit.call(args)?;
            visit.call(kwargs)?;
        }
        // The weak references are not visited: to the collector they are in use then, so it calls
        // them back even for a greenlet that is garbage together with the local.
        self.table.slots.borrow().values().try_for_each(|slot| visit.call(&slot.dict))
    }

    fn __clear__(&self) {
        self.table.last.set((0, ptr::null_mut()));
        let slots = self.table.slots.take();
        let arguments = self.arguments.take();
        drop(slots);
        drop(arguments);
    }
}
