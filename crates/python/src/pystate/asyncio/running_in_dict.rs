//! CPython 3.11 and 3.12: the running loop is in the thread state's dict, with a cache in the
//! module `_asyncio`. Setting it changes the dict, which gets a new version with every change.

use super::super::{ThreadState, layout};
use super::{Object, Owned};
use crate::errors::take_raised;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::cell::Cell;
use std::ffi::{CStr, c_int};
use std::ptr;

/// Compares the version of the thread state's dict with the one at the last look.
pub struct Watch {
    place: Cell<*const u64>,
    seen: Cell<u64>,
}

static NOWHERE: u64 = 0;

impl Watch {
    /// One that never notices anything.
    pub const fn new() -> Self {
        Self { place: Cell::new(&raw const NOWHERE), seen: Cell::new(0) }
    }

    /// Begins to watch the calling thread.
    ///
    /// # Safety
    ///
    /// `ts` is the calling thread's, and its dict has been made. `detach` is called before the
    /// dict is freed.
    pub unsafe fn attach(&self, _ts: ThreadState) {
        // SAFETY: a dict has a version.
        let place =
            unsafe { ffi::PyThreadState_GetDict().cast::<u8>().add(layout::DICT_VERSION).cast() };
        self.place.set(place);
        self.seen.set(0);
    }

    pub fn detach(&self) {
        self.place.set(&raw const NOWHERE);
        self.seen.set(0);
    }

    /// Whether the running loop has to be looked at.
    #[inline(always)]
    pub fn notices(&self) -> bool {
        // SAFETY: a dict of a thread that runs, or a static.
        unsafe { *self.place.get() != self.seen.get() }
    }

    /// Ends a look: with a running loop every switch has to look again, without one only if the
    /// dict changes. No dict that was ever written to has version 0.
    pub fn looked(&self, running: bool) {
        // SAFETY: as above.
        self.seen.set(if running { 0 } else { unsafe { *self.place.get() } });
    }
}

/// Functions of `_asyncio`; owned, kept for good.
struct Accelerator {
    get: Function,
    set: Function,
}

struct Function(Py<PyAny>);

impl Function {
    /// The attribute of `_asyncio`, if it is the C function it should be.
    fn find(py: Python<'_>, name: &CStr, flags: c_int) -> Option<Self> {
        let found = super::task::of_accelerator(name);
        // SAFETY: an owned reference or null; the GIL is held.
        unsafe {
            let found = Bound::from_owned_ptr_or_opt(py, found)?;
            let is_expected = ffi::PyCFunction_Check(found.as_ptr()) != 0
                && ffi::PyCFunction_GetFlags(found.as_ptr()) == flags;
            is_expected.then(|| Self(found.unbind()))
        }
    }

    /// Calls it without the interpreter's check for recursion, which could fail in a greenlet that
    /// is switched to deep in a recursion. A new reference, or null with an exception set.
    fn call(&self, argument: Object) -> Object {
        // SAFETY: a C function that takes one object, or none, which is passed as null.
        unsafe {
            let function = ffi::PyCFunction_GetFunction(self.0.as_ptr());
            function.expect("a C function")(ffi::PyCFunction_GetSelf(self.0.as_ptr()), argument)
        }
    }
}

fn accelerator() -> Option<&'static Accelerator> {
    static FOUND: PyOnceLock<Accelerator> = PyOnceLock::new();
    // SAFETY: the GIL is held.
    let py = unsafe { Python::assume_attached() };
    if FOUND.get(py).is_none() {
        let found = Accelerator {
            get: Function::find(py, c"_get_running_loop", ffi::METH_NOARGS)?,
            set: Function::find(py, c"_set_running_loop", ffi::METH_O)?,
        };
        // Not lost if another thread was first: both found the same.
        let _ = FOUND.set(py, found);
    }
    FOUND.get(py)
}

/// The running loop: borrowed, null if there is none.
///
/// # Safety
///
/// `ts` is the running thread's.
pub unsafe fn running_loop(_ts: ThreadState) -> Object {
    let Some(accelerator) = accelerator() else { return ptr::null_mut() };
    let found = accelerator.get.call(ptr::null_mut());
    // SAFETY: a new reference, or null with an exception set. The dict has another reference.
    unsafe {
        if found.is_null() {
            ffi::PyErr_Clear();
            return found;
        }
        ffi::Py_DECREF(found);
        if found == ffi::Py_None() { ptr::null_mut() } else { found }
    }
}

/// Sets the running loop, or none if it is null, instead of `old`, which is returned. An owned
/// exception if that fails.
///
/// # Safety
///
/// `ts` is the running thread's and `old` its running loop, or null if there is none.
pub unsafe fn replace_running_loop(
    _ts: ThreadState,
    old: Object,
    new: Owned,
) -> Result<Owned, Object> {
    // SAFETY: valid until it is replaced.
    let old = unsafe { Owned::new_reference(old) };
    let Some(accelerator) = accelerator() else { return Ok(old) };
    // SAFETY: None lives forever.
    let argument = if new.is_null() { unsafe { ffi::Py_None() } } else { new.as_ptr() };
    // SAFETY: a new reference, or null with an exception set.
    let done = unsafe { Owned::from_ptr(accelerator.set.call(argument)) };
    if done.is_null() { Err(take_raised()) } else { Ok(old) }
}
