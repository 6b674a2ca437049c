//! A queue as its attributes are.

use super::family::{Family, HOOKS, Kind, Order, exact};
use super::parts::PARTS;
use crate::sync::lock::Lock;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyInt, PyList, PyString};
use pyo3::{ffi, intern};
use std::ptr;

/// A queue that a method was called of: an instance of exactly one of the classes, with the standard's
/// hooks.
pub struct Target<'py> {
    pub family: &'static Family,
    pub kind: &'static Kind,
    pub attributes: Bound<'py, PyDict>,
}

/// The attributes of an object whose class keeps them in a dict.
pub fn attributes_of<'py>(object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyDict>> {
    let py = object.py();
    // SAFETY: a live object; a new reference or null with an error.
    unsafe {
        let dict = ffi::PyObject_GenericGetDict(object.as_ptr(), ptr::null_mut());
        match Bound::from_owned_ptr_or_err(py, dict) {
            Ok(dict) => dict.cast_into_exact().ok(),
            Err(_) => None,
        }
    }
}

#[inline]
pub fn item<'py>(
    dict: &Bound<'py, PyDict>,
    name: &Bound<'py, PyString>,
) -> Option<Bound<'py, PyAny>> {
    // SAFETY: a dict and a string; the result is borrowed from the dict, or null. No Python code runs
    // as attribute names are strings, or it is a program's own fault.
    unsafe {
        let found = ffi::PyDict_GetItemWithError(dict.as_ptr(), name.as_ptr());
        if found.is_null() {
            ffi::PyErr_Clear();
            return None;
        }
        Some(Bound::from_borrowed_ptr(dict.py(), found))
    }
}

/// Two attributes of an object that other threads may look at.
#[inline]
fn parts_of<'py>(
    object: &Bound<'py, PyAny>,
    one: &Bound<'py, PyString>,
    other: &Bound<'py, PyString>,
) -> Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    #[cfg(Py_3_12)]
    {
        let attributes = attributes_of(object)?;
        Some((item(&attributes, one)?, item(&attributes, other)?))
    }
    // Before, the first look at an object's dict makes it, which may collect garbage and so run other
    // threads: two that look at once made two, which shared what each freed. (A queue has its dict
    // before it is shared: `init` looks at it.)
    #[cfg(not(Py_3_12))]
    Some((object.getattr(one).ok()?, object.getattr(other).ok()?))
}

impl<'py> Target<'py> {
    #[inline]
    pub fn new(queue: &Bound<'py, PyAny>) -> PyResult<Option<Self>> {
        let py = queue.py();
        let Some((family, kind)) = exact(queue.get_type_ptr()) else { return Ok(None) };
        if !kind.is_plain(py)? {
            return Ok(None);
        }
        let Some(attributes) = attributes_of(queue) else { return Ok(None) };
        let target = Self { family, kind, attributes };
        Ok(target.has_no_hooks_of_its_own().then_some(target))
    }

    /// Whether the instance has no attribute that stands for a method.
    #[inline]
    pub fn has_no_hooks_of_its_own(&self) -> bool {
        let (size, plain) = (self.attributes.len(), self.family.attributes);
        size == plain
            || size == plain + PARTS.len()
            || HOOKS.iter().all(|name| {
                let name = PyString::intern(self.attributes.py(), name);
                item(&self.attributes, &name).is_none()
            })
    }

    #[inline]
    pub fn get(&self, name: &Bound<'py, PyString>) -> Option<Bound<'py, PyAny>> {
        item(&self.attributes, name)
    }

    pub fn set(&self, name: &Bound<'py, PyString>, value: &Bound<'py, PyAny>) -> PyResult<()> {
        self.attributes.set_item(name, value)
    }

    /// The object with the items, if it is of the standard kind.
    #[inline]
    pub fn items(&self) -> Option<Bound<'py, PyAny>> {
        let py = self.attributes.py();
        let items = self.get(intern!(py, "queue"))?;
        let fits = match self.kind.order {
            Order::FirstInFirstOut => items.get_type().is(&self.family.deque),
            _ => items.is_exact_instance_of::<PyList>(),
        };
        fits.then_some(items)
    }

    /// Whether the queue has not been shut down.
    #[inline]
    pub fn is_open(&self) -> bool {
        let py = self.attributes.py();
        !self.family.has_shutdown
            || self
                .get(intern!(py, "is_shutdown"))
                .is_some_and(|value| value.is(&*PyBool::new(py, false)))
    }

    /// A count among the attributes, if it is an ordinary one.
    #[inline]
    pub fn count(&self, name: &Bound<'py, PyString>) -> Option<isize> {
        let value = self.get(name)?;
        if !value.is_exact_instance_of::<PyInt>() {
            return None;
        }
        // SAFETY: an int; -1 with an error if it is too large.
        unsafe {
            let count = ffi::PyLong_AsSsize_t(value.as_ptr());
            if count == -1 {
                ffi::PyErr_Clear();
                return None;
            }
            Some(count)
        }
    }

    /// Adds to the number of unfinished tasks.
    #[inline]
    pub fn add_tasks(&self, difference: isize) -> PyResult<()> {
        let name = intern!(self.attributes.py(), "unfinished_tasks");
        let Some(count) = self.count(name) else { return Ok(()) };
        self.set(name, (count + difference).into_pyobject(self.attributes.py())?.as_any())
    }

    /// Takes the lock under the condition `mine`, to notify those who wait on `other`. None if the
    /// standard method has to see to it.
    #[inline]
    pub fn lock(
        &self,
        mine: &Bound<'py, PyString>,
        other: &Bound<'py, PyString>,
    ) -> Option<Held<'py>> {
        match (self.get(mine), self.get(other)) {
            // Nobody can have the lock or wait before there are these. Comparing items runs code that
            // may make them.
            (None, None) => {
                (self.kind.order != Order::SmallestFirst).then_some(Held { taken: None })
            }
            (Some(mine), Some(other)) => {
                let py = self.attributes.py();
                let (lock, _) = self.look_into(&mine)?;
                let (same, waiters) = self.look_into(&other)?;
                if !lock.is(&same) || !lock.get().try_take() {
                    return None;
                }
                debug_assert!(waiters.get_type().is(self.family.deque.bind(py)));
                Some(Held { taken: Some(Taken { lock, condition: other, waiters }) })
            }
            _ => None,
        }
    }

    /// The lock of a condition, and the deque of those who wait.
    #[inline]
    pub fn look_into(
        &self,
        condition: &Bound<'py, PyAny>,
    ) -> Option<(Bound<'py, Lock>, Bound<'py, PyAny>)> {
        let py = condition.py();
        if !condition.get_type().is(&self.family.condition) {
            return None;
        }
        let (lock, waiters) = (intern!(py, "_lock"), intern!(py, "_waiters"));
        let (lock, waiters) = parts_of(condition, lock, waiters)?;
        let lock = lock.cast_into_exact().ok()?;
        waiters.get_type().is(&self.family.deque).then_some((lock, waiters))
    }

    /// Whether nobody has `mutex`.
    #[inline]
    pub fn is_unlocked(&self) -> bool {
        match self.get(intern!(self.attributes.py(), "mutex")) {
            None => true,
            Some(mutex) => mutex.cast_exact::<Lock>().is_ok_and(|lock| lock.get().is_free()),
        }
    }

    #[cold]
    #[inline(never)]
    pub fn error(&self, name: &str) -> PyErr {
        let py = self.attributes.py();
        let names = self.family.names.bind(py).as_any();
        match names.get_item(name).and_then(|class| class.call0()) {
            Ok(error) => PyErr::from_value(error),
            Err(error) => error,
        }
    }
}

/// The lock of a queue, taken if there is one.
pub struct Held<'py> {
    pub taken: Option<Taken<'py>>,
}

pub struct Taken<'py> {
    pub lock: Bound<'py, Lock>,
    pub condition: Bound<'py, PyAny>,
    pub waiters: Bound<'py, PyAny>,
}

impl<'py> Held<'py> {
    /// Calls a method of the condition, if anybody waits on it.
    #[inline]
    pub fn notify(&self, method: &Bound<'py, PyString>) -> PyResult<()> {
        match &self.taken {
            Some(taken) if taken.waiters.len()? > 0 => {
                taken.condition.call_method0(method).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Releases the lock, and passes on what was done while it was taken.
    #[inline]
    pub fn release<R>(self, result: PyResult<R>) -> PyResult<R> {
        match self.taken {
            None => result,
            Some(taken) => Lock::give(&taken.lock).and(result),
        }
    }
}
