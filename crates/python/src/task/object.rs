//! The memory of a `Greenlet` object.

use super::origin::{Origin, Stack};
use crate::greenlet::attributes::has_ended;
use crate::greenlet::object::PyGreenlet;
use crate::hub::wait::WaitList;
use crate::sync::links::Links;
use greenloop_reactor::TimerKey;
use pyo3::ffi;
use std::cell::Cell;
use std::ptr;
use std::rc::Rc;

/// How far a `Greenlet` has come, beyond its status as a raw greenlet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// `start` has not been called.
    Created,
    /// Waits for its turn, or for its time.
    Scheduled,
    /// Its function has been called.
    Running,
    /// Has a result.
    Ready,
}

/// A greenlet with a function, a result, and others that wait for it. All object pointers are
/// owned references or null.
#[repr(C)]
pub struct TaskObject {
    pub base: PyGreenlet,
    pub func: Cell<*mut ffi::PyObject>,
    /// A tuple; null for none.
    pub args: Cell<*mut ffi::PyObject>,
    /// A dict; null for none.
    pub kwargs: Cell<*mut ffi::PyObject>,
    /// What the function returned, or the `GreenletExit` that ended it.
    pub value: Cell<*mut ffi::PyObject>,
    /// The exception that ended it.
    pub error: Cell<*mut ffi::PyObject>,
    /// The function and its arguments as a text, once that was asked for.
    pub described: Cell<*mut ffi::PyObject>,
    /// The name, once it was asked for or set.
    pub name: Cell<*mut ffi::PyObject>,
    pub origin: Origin,
    /// The lines that it was made from.
    pub stack: Cell<Option<Rc<Stack>>>,
    pub waiters: WaitList,
    pub links: Links,
    /// Of `start_later`.
    pub start_timer: Cell<Option<TimerKey>>,
    /// Where its end comes among all ends; set with the result.
    pub ended: Cell<u64>,
    /// `minimal_ident` plus one; 0 while nobody has asked.
    pub ident: Cell<u32>,
    pub stage: Cell<Stage>,
}

impl TaskObject {
    /// Fills the fields behind the raw greenlet's.
    ///
    /// # Safety
    ///
    /// `this` was just allocated with room for a `TaskObject`.
    pub unsafe fn init(this: *mut Self) {
        // SAFETY: writes to fields of the fresh object; none of them needs dropping before.
        unsafe {
            for field in [
                &raw mut (*this).func,
                &raw mut (*this).args,
                &raw mut (*this).kwargs,
                &raw mut (*this).value,
                &raw mut (*this).error,
                &raw mut (*this).described,
                &raw mut (*this).name,
            ] {
                field.write(Cell::new(ptr::null_mut()));
            }
            (&raw mut (*this).origin).write(Origin::new());
            (&raw mut (*this).stack).write(Cell::new(None));
            (&raw mut (*this).waiters).write(WaitList::new());
            (&raw mut (*this).links).write(Links::new());
            (&raw mut (*this).start_timer).write(Cell::new(None));
            (&raw mut (*this).ended).write(Cell::new(0));
            (&raw mut (*this).ident).write(Cell::new(0));
            (&raw mut (*this).stage).write(Cell::new(Stage::Created));
        }
    }

    #[inline]
    pub fn as_ptr(&self) -> *mut ffi::PyObject {
        self.base.as_ptr()
    }

    /// Whether it has a result.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.stage.get() == Stage::Ready
    }

    /// Whether it has been started and has no result yet.
    pub fn is_alive(&self) -> bool {
        matches!(self.stage.get(), Stage::Scheduled | Stage::Running)
    }

    /// Whether there is nothing to wait for: it has a result, or its thread has ended and it never
    /// will.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.is_ready() || has_ended(&self.base)
    }

    /// Drops the function and its arguments: a finished greenlet keeps nothing alive.
    pub fn drop_call(&self) {
        // SAFETY: owned references or null, each cleared before it is dropped.
        unsafe {
            ffi::Py_XDECREF(self.func.replace(ptr::null_mut()));
            ffi::Py_XDECREF(self.args.replace(ptr::null_mut()));
            ffi::Py_XDECREF(self.kwargs.replace(ptr::null_mut()));
        }
    }
}
