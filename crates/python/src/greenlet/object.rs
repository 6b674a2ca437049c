//! The memory of a greenlet object.

use super::asyncio;
use super::thread::Thread;
use crate::pystate::{self, PyState, Shift};
use greenloop_stack::{Coroutine, Hooks, Message, Overflow};
use pyo3::ffi;
use std::cell::Cell;
use std::mem::offset_of;
use std::ptr;

/// How far a greenlet has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// `run` has not been called.
    Unstarted,
    /// Running, or suspended in the middle.
    Active,
    /// Returned, raised, or given up.
    Dead,
}

/// What goes from one greenlet to the next with a switch. All pointers are owned references.
///
/// A tag and one pointer: it travels in registers. (With two pointers it went through memory, and
/// the stalls of stores followed by wider loads cost a third of a switch.)
#[derive(Debug)]
pub enum Payload {
    /// The result of the target's `switch()`.
    Value(*mut ffi::PyObject),
    /// An exception instance to raise in the target.
    Throw(*mut ffi::PyObject),
    /// Positional arguments: a tuple, or null for none.
    Args(*mut ffi::PyObject),
    /// A pair: a tuple of positional arguments and a dict of keyword arguments.
    Keywords(*mut ffi::PyObject),
}

impl Payload {
    /// `None` as a value.
    #[inline]
    pub fn none() -> Self {
        // SAFETY: None lives forever; the reference is counted where the version counts it.
        unsafe {
            let none = ffi::Py_None();
            ffi::Py_INCREF(none);
            Self::Value(none)
        }
    }

    /// No arguments at all.
    #[inline]
    pub const fn no_args() -> Self {
        Self::Args(std::ptr::null_mut())
    }

    #[inline]
    pub fn is_throw(&self) -> bool {
        matches!(self, Self::Throw(_))
    }

    /// As `discard`, in the middle of a switch: nothing is run now.
    pub fn leave_over(self, thread: &Thread) {
        let (Self::Value(object)
        | Self::Throw(object)
        | Self::Args(object)
        | Self::Keywords(object)) = self;
        if !object.is_null() {
            thread.leave_over(object);
        }
    }

    /// Drops the reference without delivering it.
    #[inline]
    pub fn discard(self) {
        let (Self::Value(object)
        | Self::Throw(object)
        | Self::Args(object)
        | Self::Keywords(object)) = self;
        // SAFETY: an owned reference or null.
        unsafe { ffi::Py_XDECREF(object) };
    }
}

/// Where a finished greenlet goes on: whom to switch to (an owned reference), and with what.
pub type Next = (*mut PyGreenlet, Payload);

/// What a greenlet does on its own stack, from its first switch to its end.
pub type Body = unsafe fn(greenlet: &PyGreenlet, first: Payload) -> Next;

/// A greenlet. Subtypes (`Greenlet`, `Hub`) have their own fields behind it.
///
/// Everything that changes is a `Cell`: the object is reached from several stacks, and no borrow
/// may be alive across a switch. Touched only with the GIL held.
#[repr(C)]
pub struct PyGreenlet {
    ob_base: ffi::PyObject,
    pub weakrefs: *mut ffi::PyObject,
    pub dict: Cell<*mut ffi::PyObject>,
    /// The callable given to the constructor or set as attribute; owned, null if there is none.
    pub run: Cell<*mut ffi::PyObject>,
    /// Owned; null for a main greenlet only.
    pub parent: Cell<*mut PyGreenlet>,
    /// The thread it belongs to; owned (a count of the `Arc`). Null until initialised.
    pub thread: Cell<*const Thread>,
    pub body: Cell<Body>,
    pub status: Cell<Status>,
    /// What it keeps of asyncio while suspended.
    pub asyncio: asyncio::Slot,
    /// The greenlet in whose name it runs code, as `run_forever` was called there: which thread the
    /// code is in for `threading`, and whose `local`s it sees. Owned; null for its own.
    pub acts_for: Cell<*mut PyGreenlet>,
    /// What kind of waiting it is in, see `hub::wait`.
    pub wait: crate::hub::wait::WaitState,
    pub co: Coroutine,
    pub py: PyState,
}

impl PyGreenlet {
    pub const WEAKREFS_OFFSET: usize = offset_of!(PyGreenlet, weakrefs);
    pub const DICT_OFFSET: usize = offset_of!(PyGreenlet, dict);

    /// Fills the fields of a freshly allocated (zeroed) object.
    ///
    /// # Safety
    ///
    /// `this` was just allocated with room for a `PyGreenlet` and has its object header.
    pub unsafe fn init(this: *mut Self, body: Body) {
        // SAFETY: writes to fields of the fresh object; none of them needs dropping before.
        unsafe {
            (&raw mut (*this).weakrefs).write(ptr::null_mut());
            (&raw mut (*this).dict).write(Cell::new(ptr::null_mut()));
            (&raw mut (*this).run).write(Cell::new(ptr::null_mut()));
            (&raw mut (*this).parent).write(Cell::new(ptr::null_mut()));
            (&raw mut (*this).thread).write(Cell::new(ptr::null()));
            (&raw mut (*this).body).write(Cell::new(body));
            (&raw mut (*this).status).write(Cell::new(Status::Unstarted));
            (&raw mut (*this).asyncio).write(asyncio::Slot::new());
            (&raw mut (*this).acts_for).write(Cell::new(ptr::null_mut()));
            (&raw mut (*this).wait).write(crate::hub::wait::WaitState::new());
            (&raw mut (*this).co).write(Coroutine::new());
            (&raw mut (*this).py).write(PyState::new());
        }
    }

    #[inline]
    pub fn as_ptr(&self) -> *mut ffi::PyObject {
        ptr::from_ref(self).cast_mut().cast()
    }

    #[inline]
    pub fn as_greenlet(&self) -> *mut PyGreenlet {
        ptr::from_ref(self).cast_mut()
    }

    /// The greenlet in whose name this one runs code: itself, with few exceptions.
    #[inline]
    pub fn acting(&self) -> *mut PyGreenlet {
        let other = self.acts_for.get();
        if other.is_null() { self.as_greenlet() } else { other }
    }

    /// Whether this is a thread's main greenlet.
    #[inline]
    pub fn is_main(&self) -> bool {
        let thread = self.thread.get();
        // SAFETY: a greenlet keeps its thread's record alive.
        !thread.is_null() && ptr::eq(unsafe { (*thread).main() }, self)
    }

    /// Whether this is a greenlet of the greenlet package's kind, as opposed to tasks and hubs.
    #[inline]
    pub fn is_raw(&self) -> bool {
        ptr::fn_addr_eq(self.body.get(), super::switch::run_body as Body)
    }

    /// Whether this greenlet is the one that runs in its thread.
    #[inline]
    pub fn is_running(&self) -> bool {
        let thread = self.thread.get();
        // SAFETY: a greenlet keeps its thread's record alive.
        !thread.is_null() && ptr::eq(unsafe { (*thread).current.get() }, self)
    }

    /// Started, not finished, and not running now.
    #[inline]
    pub fn is_suspended(&self) -> bool {
        self.status.get() == Status::Active && !self.is_running()
    }

    /// The parent; None for a main greenlet, or if the collector has cleared it. Borrowed: not to be
    /// used after anything was run that can change it.
    #[inline]
    fn parent(&self) -> Option<&PyGreenlet> {
        // SAFETY: parents are owned by their children.
        unsafe { self.parent.get().as_ref() }
    }

    /// The end of the chain of parents: a main greenlet, or one whose parent the collector has
    /// cleared. The search ends at `stop`, too.
    pub fn oldest_ancestor(&self, stop: &PyGreenlet) -> &PyGreenlet {
        let mut ancestor = self;
        while !ptr::eq(ancestor, stop)
            && let Some(parent) = ancestor.parent()
        {
            ancestor = parent;
        }
        ancestor
    }

    /// The thread that this greenlet belongs to: where it started, or where the nearest ancestor
    /// did that has.
    #[inline]
    pub fn thread_by_descent(&self) -> *const Thread {
        let mut ancestor = self;
        while ancestor.status.get() == Status::Unstarted
            && let Some(parent) = ancestor.parent()
        {
            ancestor = parent;
        }
        ancestor.thread.get()
    }

    /// Where this suspended greenlet's stack lies.
    pub fn shift(&self) -> Shift {
        if self.co.is_evicted() {
            let low = self.co.sp() as usize;
            Shift { low, high: low + self.co.copied_bytes(), by: self.co.copy_shift() }
        } else {
            Shift::NONE
        }
    }

    /// The frame object of the innermost frame while suspended: a new reference, or null.
    pub fn suspended_frame(&self) -> *mut ffi::PyObject {
        debug_assert!(self.is_suspended());
        // SAFETY: suspended; the thread state only lends its current-frame field for a moment, and
        // any thread's will do.
        unsafe {
            let ts = pystate::ThreadState::new(ffi::PyThreadState_Get());
            pystate::frame_object(&self.py, ts, self.shift())
        }
    }

    /// The greenlet that contains this coroutine.
    ///
    /// # Safety
    ///
    /// `co` is the `co` field of a greenlet.
    #[inline]
    unsafe fn of_coroutine(co: &Coroutine) -> &PyGreenlet {
        // SAFETY: as the caller guarantees; the container is at least as valid as the field.
        unsafe { &*ptr::from_ref(co).byte_sub(offset_of!(PyGreenlet, co)).cast::<PyGreenlet>() }
    }
}

/// Lets the interpreter's frames follow when a greenlet's stack is moved.
pub struct FrameHooks;

impl Hooks for FrameHooks {
    unsafe fn used_end(co: &Coroutine) -> *mut u8 {
        // SAFETY: arenas here hold the coroutines of greenlets only.
        unsafe { PyGreenlet::of_coroutine(co).py.data_end() }
    }

    unsafe fn moved_out(co: &Coroutine, low: *mut u8, high: *mut u8, by: isize) {
        let shift = Shift { low: low as usize, high: high as usize, by };
        // SAFETY: as above; the arena calls this at the right moment.
        unsafe { pystate::moved_out(&PyGreenlet::of_coroutine(co).py, shift) }
    }

    unsafe fn moved_in(co: &Coroutine, low: *mut u8, high: *mut u8, by: isize) {
        let shift = Shift { low: low as usize, high: high as usize, by };
        // SAFETY: as above; the arena calls this at the right moment.
        unsafe { pystate::moved_in(&PyGreenlet::of_coroutine(co).py, shift) }
    }

    unsafe fn overflowed(overflow: &Overflow<'_>, message: &mut Message) {
        // SAFETY: as above; called in the thread whose greenlet it is.
        unsafe {
            let greenlet = overflow.coroutine.map(|co| PyGreenlet::of_coroutine(co));
            super::overflow::describe(overflow, greenlet, message);
        }
    }
}
