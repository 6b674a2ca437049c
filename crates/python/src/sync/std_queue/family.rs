//! The classes of `queue` modules whose methods have been replaced.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The methods that subclasses and programs may replace to keep the items in their own way.
pub const HOOKS: [&str; 4] = ["_init", "_qsize", "_put", "_get"];

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    FirstInFirstOut,
    LastInFirstOut,
    SmallestFirst,
}

/// One of the three classes.
pub struct Kind {
    pub class: Py<PyType>,
    pub order: Order,
    pub hooks: [Py<PyAny>; HOOKS.len()],
    /// The version of the class for which the hooks were seen to be there; 0 for none.
    pub version: Cell<u32>,
}

/// The classes of a `queue` module, and what they use.
pub struct Family {
    pub kinds: [Kind; 3],
    /// The standard methods.
    pub standard: [Py<PyAny>; super::NAMES.len()],
    /// The module's names: exceptions are those it has when they are raised.
    pub names: Py<PyDict>,
    pub condition: Py<PyType>,
    pub deque: Py<PyType>,
    pub deque_append: Py<PyAny>,
    pub deque_popleft: Py<PyAny>,
    pub list_pop: Py<PyAny>,
    pub heappush: Py<PyAny>,
    pub heappop: Py<PyAny>,
    /// How many attributes an instance has before its parts are made.
    pub attributes: usize,
    pub has_shutdown: bool,
    /// That of a module that was imported before.
    pub next: *const Self,
}

/// The family that was added last. Families stay for ever: `queue` is imported once, by tests a few
/// times.
pub static FAMILIES: AtomicPtr<Family> = AtomicPtr::new(ptr::null_mut());

pub fn families() -> impl Iterator<Item = &'static Family> {
    let mut next = FAMILIES.load(Ordering::Acquire).cast_const();
    std::iter::from_fn(move || {
        // SAFETY: null, or a family, which is never freed.
        let family = unsafe { next.as_ref() }?;
        next = family.next;
        Some(family)
    })
}

/// The family and the kind of an instance of exactly one of the classes.
#[inline]
pub fn exact(class: *mut ffi::PyTypeObject) -> Option<(&'static Family, &'static Kind)> {
    families().find_map(|family| {
        let kind = family.kinds.iter().find(|kind| ptr::eq(kind.class.as_ptr().cast(), class))?;
        Some((family, kind))
    })
}

impl Kind {
    /// Whether the class has the hooks that it had when it was patched.
    #[inline]
    pub fn is_plain(&self, py: Python<'_>) -> PyResult<bool> {
        // SAFETY: a type, whose version changes whenever an attribute of it or of a base is set.
        let version = unsafe { (*self.class.as_ptr().cast::<ffi::PyTypeObject>()).tp_version_tag };
        Ok((version != 0 && version == self.version.get()) || self.look_at_hooks(py)?)
    }

    #[cold]
    #[inline(never)]
    pub fn look_at_hooks(&self, py: Python<'_>) -> PyResult<bool> {
        let class = self.class.bind(py);
        for (name, hook) in HOOKS.iter().zip(&self.hooks) {
            if !class.getattr(*name)?.is(hook) {
                return Ok(false);
            }
        }
        // SAFETY: as above. Looking attributes up has given the class a version.
        self.version.set(unsafe { (*class.as_type_ptr()).tp_version_tag });
        Ok(true)
    }
}
