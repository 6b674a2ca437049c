//! `Event.wait` without a wrapper.
//!
//! What a waiting function has on its stack is part of every greenlet that waits. pyo3's wrapper
//! takes 670 bytes, half of what is kept for a greenlet that waits for an event; thousands that
//! wait for one are what events are for. So the call without a time limit is a method of its own,
//! and everything else goes on to the method that pyo3 made.

use super::event::Event;
use crate::greenlet::methods::{MethodTable, fast_keywords};
use crate::hub::wait::{Thrown, Wait};
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

type Object = *mut ffi::PyObject;

const DOC: &CStr = c"wait($self, /, timeout=None)
--

Waits until the flag is set.

timeout: seconds to wait at most; None for no limit.

Returns True; False if the time was over first. A flag that was set and cleared again while the
greenlet waited counts as set.";

static METHODS: MethodTable<1> = MethodTable::new([fast_keywords(c"wait", wait, DOC)]);

/// The method that takes a time limit; owned, set once.
static LIMITED: AtomicPtr<ffi::PyObject> = AtomicPtr::new(ptr::null_mut());

unsafe extern "C" fn wait(
    this: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object {
    // SAFETY: the interpreter passes an Event and arguments by the vectorcall convention. It holds
    // the object for the time of the call.
    unsafe {
        if count != 0 || !names.is_null() {
            return wait_limited(this, args, count, names);
        }
        let py = Python::assume_attached();
        let object = Bound::from_borrowed_ptr(py, this);
        let event = object.cast_unchecked::<Event>().get();
        if !event.is_open() {
            let Some(wait) = begin(py, this) else { return ptr::null_mut() };
            if let Some(error) = event.park(wait, None).error {
                return fail(error);
            }
        }
        let result = ffi::Py_True();
        ffi::Py_INCREF(result);
        result
    }
}

#[inline(never)]
fn begin<'a>(py: Python<'_>, on: Object) -> Option<Wait<'a>> {
    Wait::begin(py, on).map_err(|error| error.restore(py)).ok()
}

#[cold]
#[inline(never)]
fn fail(error: Thrown) -> Object {
    // SAFETY: the GIL is held wherever a wait ends.
    error.into_err().restore(unsafe { Python::assume_attached() });
    ptr::null_mut()
}

/// # Safety
///
/// The vectorcall convention.
#[inline(never)]
unsafe fn wait_limited(
    this: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object {
    // SAFETY: as the caller guarantees: `count` objects and one for each name. They are borrowed
    // for the call, behind the object itself.
    unsafe {
        let named = if names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(names) };
        let mut all = vec![this];
        all.extend_from_slice(std::slice::from_raw_parts(args, (count + named) as usize));
        let method = LIMITED.load(Ordering::Relaxed);
        ffi::PyObject_Vectorcall(method, all.as_ptr(), (count + 1) as usize, names)
    }
}

/// Puts the method into the class, in front of the one that pyo3 made.
pub fn attach(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<Event>();
    let limited = class.getattr("wait")?;
    METHODS.attach(&class)?;
    LIMITED.store(limited.into_ptr(), Ordering::Relaxed);
    Ok(())
}
