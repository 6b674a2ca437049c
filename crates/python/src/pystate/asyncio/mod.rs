//! Where the interpreter keeps what asyncio knows about a thread: the running loop, the task that
//! runs, the hooks for asynchronous generators and the depth of coroutine origin tracking.
//!
//! The places differ between versions, see the modules below. Each version has a [`Watch`]: a
//! word in memory that differs from the value remembered if asyncio may have set a running loop.
//! A switch compares the two and has nothing else to do with asyncio in a thread that does not
//! use it. Nothing of asyncio is wrapped or replaced for that, so it does not matter whether it
//! is imported before or after greenloop, and who has kept a reference to which of its functions.

#[cfg_attr(not(Py_3_13), path = "running_in_dict.rs")]
#[cfg_attr(Py_3_13, path = "running_in_state.rs")]
mod running;
#[cfg_attr(not(Py_3_14), path = "task_in_dict.rs")]
#[cfg_attr(Py_3_14, path = "task_in_state.rs")]
mod task;

pub use running::{Watch, replace_running_loop, running_loop};
pub use task::{TASKS_HAVE_LOOPS, current_task, put_task, take_task};

use super::{ThreadState, layout};
use pyo3::ffi;
use std::ffi::c_int;
use std::mem;
use std::ptr;

type Object = *mut ffi::PyObject;

/// An owned reference, or null. Dropped with the GIL held only.
pub struct Owned(Object);

impl Owned {
    pub const fn null() -> Self {
        Self(ptr::null_mut())
    }

    /// # Safety
    ///
    /// The reference, if it is not null, is given to this.
    pub unsafe fn from_ptr(object: Object) -> Self {
        Self(object)
    }

    /// # Safety
    ///
    /// A valid object or null.
    pub unsafe fn new_reference(object: Object) -> Self {
        // SAFETY: as the caller guarantees.
        unsafe { ffi::Py_XINCREF(object) };
        Self(object)
    }

    pub fn as_ptr(&self) -> Object {
        self.0
    }

    pub fn is_null(&self) -> bool {
        self.0.is_null()
    }

    /// The reference, which is the caller's from now on.
    pub fn into_ptr(self) -> Object {
        let object = self.0;
        mem::forget(self);
        object
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: an owned reference or null.
        unsafe { ffi::Py_XDECREF(self.0) };
    }
}

/// What an event loop sets for the time it runs, beside itself.
pub struct Hooks {
    pub firstiter: Owned,
    pub finalizer: Owned,
    /// Of `sys.set_coroutine_origin_tracking_depth`.
    origin_depth: c_int,
}

impl Hooks {
    pub const fn none() -> Self {
        Self { firstiter: Owned::null(), finalizer: Owned::null(), origin_depth: 0 }
    }

    /// Those of a loop that is not in debug mode.
    pub const fn new(firstiter: Owned, finalizer: Owned) -> Self {
        Self { firstiter, finalizer, origin_depth: 0 }
    }

    /// Puts these into the thread state and returns what was there.
    ///
    /// # Safety
    ///
    /// `ts` is the running thread's.
    pub unsafe fn exchange(mut self, ts: ThreadState) -> Self {
        // SAFETY: fields of the running thread's state, which owns the references in them.
        unsafe {
            ptr::swap(&raw mut self.firstiter.0, ts.at(layout::TS_ASYNC_GEN_FIRSTITER));
            ptr::swap(&raw mut self.finalizer.0, ts.at(layout::TS_ASYNC_GEN_FINALIZER));
            ptr::swap(&raw mut self.origin_depth, ts.at(layout::TS_COROUTINE_ORIGIN_DEPTH));
        }
        self
    }

    /// A copy of what is in the thread state.
    ///
    /// # Safety
    ///
    /// `ts` is the running thread's.
    pub unsafe fn copy(ts: ThreadState) -> Self {
        // SAFETY: fields of the running thread's state.
        unsafe {
            Self {
                firstiter: Owned::new_reference(*ts.at(layout::TS_ASYNC_GEN_FIRSTITER)),
                finalizer: Owned::new_reference(*ts.at(layout::TS_ASYNC_GEN_FINALIZER)),
                origin_depth: *ts.at(layout::TS_COROUTINE_ORIGIN_DEPTH),
            }
        }
    }
}
