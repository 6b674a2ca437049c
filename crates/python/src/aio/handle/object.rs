//! A handle's memory, and what the loop does with it.

use crate::aio::event_loop::AsyncioLoop;
use crate::aio::transport;
use greenloop_reactor::TimerKey;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::cell::{Cell, UnsafeCell};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

type Object = *mut ffi::PyObject;

pub(super) static HANDLE: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(ptr::null_mut());
pub(super) static TIMER_HANDLE: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(ptr::null_mut());

/// How many freed handles are kept to be used again.
const KEPT: usize = 1024;

/// Bits of `HandleObject::flags`.
pub mod flag {
    pub const CANCELLED: u16 = 1;
    /// In the loop's ready queue.
    pub const QUEUED: u16 = 2;
    /// Its callback has been called and not returned.
    pub const RUNNING: u16 = 4;
    /// A `TimerHandle`.
    pub const TIMER: u16 = 8;
    /// Called again and again: of a reader, writer or signal.
    pub const PERSISTENT: u16 = 16;
    /// Its descriptor is not looked at: the callback has not returned, or the loop does not run.
    pub const SET_ASIDE: u16 = 32;
    /// Its context is entered somewhere else, so it could not be called.
    pub const HELD: u16 = 64;
    /// Called when its descriptor can be written to; else when it can be read from.
    pub const WRITER: u16 = 128;
    /// In place of a callback it has a transport, which is told without a call of Python's.
    pub const TRANSPORT: u16 = 256;
    /// The transport is one of datagrams; else of a stream.
    pub const DATAGRAMS: u16 = 512;
}

/// A handle's memory. Pointers are owned references or null.
#[repr(C)]
pub struct HandleObject {
    ob_base: ffi::PyObject,
    pub(super) weakrefs: Object,
    pub event_loop: Cell<Object>,
    pub callback: Cell<Object>,
    /// The argument if there is exactly one; null if there is none; else a tuple of them.
    pub(super) argument: Cell<Object>,
    /// Null for that of whoever calls: of what enters a context itself.
    pub(super) context: Cell<Object>,
    /// In debug mode: where it was made; and what it looked like before it was cancelled.
    pub(super) source: Cell<Object>,
    pub(super) text: Cell<Object>,
    pub when: Cell<f64>,
    pub timer: Cell<Option<TimerKey>>,
    /// The neighbours in the loop's list of timers: not owned.
    pub next_timer: Cell<*const HandleObject>,
    pub previous_timer: Cell<*const HandleObject>,
    /// Of a reader or writer.
    pub fd: Cell<i32>,
    /// Whether `argument` is a tuple of arguments.
    several: Cell<bool>,
    pub flags: Cell<u16>,
}

/// Freed handles. Touched with the GIL held, for moments in which nothing else runs.
struct Freed(UnsafeCell<Vec<*mut HandleObject>>);

// SAFETY: see above.
unsafe impl Sync for Freed {}

static FREED: Freed = Freed(UnsafeCell::new(Vec::new()));

/// An owned reference to a handle.
#[repr(transparent)]
pub struct HandleRef(ptr::NonNull<HandleObject>);

// SAFETY: made, used and dropped with the GIL held.
unsafe impl Send for HandleRef {}

impl HandleRef {
    /// # Safety
    ///
    /// An owned reference to a handle, which is given to this.
    pub unsafe fn from_owned(handle: *mut HandleObject) -> Self {
        // SAFETY: as the caller guarantees.
        Self(unsafe { ptr::NonNull::new_unchecked(handle) })
    }

    pub fn into_ptr(self) -> Object {
        let handle = self.0.as_ptr();
        std::mem::forget(self);
        handle.cast()
    }

    pub fn as_ptr(&self) -> Object {
        self.0.as_ptr().cast()
    }
}

impl Clone for HandleRef {
    fn clone(&self) -> Self {
        // SAFETY: a live object; the GIL is held.
        unsafe { ffi::Py_INCREF(self.as_ptr()) };
        Self(self.0)
    }
}

impl Drop for HandleRef {
    fn drop(&mut self) {
        // SAFETY: an owned reference; the GIL is held.
        unsafe { ffi::Py_DECREF(self.as_ptr()) };
    }
}

impl std::ops::Deref for HandleRef {
    type Target = HandleObject;

    #[inline]
    fn deref(&self) -> &HandleObject {
        // SAFETY: owned.
        unsafe { self.0.as_ref() }
    }
}

impl HandleObject {
    /// A new handle; null with an exception set if there is no memory.
    ///
    /// # Safety
    ///
    /// `event_loop` is an `AsyncioLoop`, `arguments` points to `count` objects, `context` is null
    /// or a context, whose reference is given to the handle.
    #[inline]
    pub unsafe fn make(
        event_loop: Object,
        callback: Object,
        arguments: *const Object,
        count: usize,
        context: Object,
        flags: u16,
    ) -> *mut Self {
        let kind = if flags & flag::TIMER != 0 { &TIMER_HANDLE } else { &HANDLE };
        let kind = kind.load(Ordering::Relaxed);
        // SAFETY: the GIL is held; memory that was a handle, or is allocated for one. All fields are
        // written before the collector is told of it.
        unsafe {
            let (argument, several) = match count {
                0 => (ptr::null_mut(), false),
                1 => {
                    ffi::Py_INCREF(*arguments);
                    (*arguments, false)
                }
                _ => {
                    let tuple = ffi::PyTuple_New(count as ffi::Py_ssize_t);
                    if tuple.is_null() {
                        ffi::Py_XDECREF(context);
                        return ptr::null_mut();
                    }
                    for index in 0..count {
                        let object = *arguments.add(index);
                        ffi::Py_INCREF(object);
                        ffi::PyTuple_SET_ITEM(tuple, index as ffi::Py_ssize_t, object);
                    }
                    (tuple, true)
                }
            };
            let this = match (*FREED.0.get()).pop() {
                Some(freed) => {
                    ffi::PyObject_Init(freed.cast(), kind);
                    freed
                }
                None => Self::allocate(kind),
            };
            if this.is_null() {
                ffi::Py_XDECREF(context);
                ffi::Py_XDECREF(argument);
                return this;
            }
            ffi::Py_INCREF(event_loop);
            ffi::Py_INCREF(callback);
            (&raw mut (*this).weakrefs).write(ptr::null_mut());
            (&raw mut (*this).event_loop).write(Cell::new(event_loop));
            (&raw mut (*this).callback).write(Cell::new(callback));
            (&raw mut (*this).argument).write(Cell::new(argument));
            (&raw mut (*this).context).write(Cell::new(context));
            (&raw mut (*this).source).write(Cell::new(ptr::null_mut()));
            (&raw mut (*this).text).write(Cell::new(ptr::null_mut()));
            (&raw mut (*this).when).write(Cell::new(0.0));
            (&raw mut (*this).timer).write(Cell::new(None));
            (&raw mut (*this).next_timer).write(Cell::new(ptr::null()));
            (&raw mut (*this).previous_timer).write(Cell::new(ptr::null()));
            (&raw mut (*this).fd).write(Cell::new(-1));
            (&raw mut (*this).several).write(Cell::new(several));
            (&raw mut (*this).flags).write(Cell::new(flags));
            ffi::PyObject_GC_Track(this.cast());
            this
        }
    }

    #[cold]
    unsafe fn allocate(kind: *mut ffi::PyTypeObject) -> *mut Self {
        // SAFETY: a type of `class`, of objects that the collector knows.
        unsafe {
            let this = ffi::PyType_GenericAlloc(kind, 0);
            if !this.is_null() {
                ffi::PyObject_GC_UnTrack(this.cast());
            }
            this.cast()
        }
    }

    /// Takes the memory of a handle back, whose references have been dropped: for the next one, which has
    /// the same size.
    ///
    /// # Safety
    ///
    /// Nobody refers to the handle any more, and the collector does not know it.
    pub(super) unsafe fn free(this: *mut Self) {
        // SAFETY: as the caller guarantees; the GIL is held.
        unsafe {
            let freed = &mut *FREED.0.get();
            if freed.len() < KEPT {
                freed.push(this);
            } else {
                ffi::PyObject_GC_Del(this.cast());
            }
        }
    }

    #[inline]
    pub fn has(&self, flag: u16) -> bool {
        self.flags.get() & flag != 0
    }

    #[inline]
    pub fn set(&self, flag: u16) {
        self.flags.set(self.flags.get() | flag);
    }

    #[inline]
    pub fn clear_flag(&self, flag: u16) {
        self.flags.set(self.flags.get() & !flag);
    }

    /// The loop.
    #[inline]
    pub fn event_loop<'py>(&self, py: Python<'py>) -> Bound<'py, AsyncioLoop> {
        // SAFETY: a live loop, which the handle refers to until it is freed.
        unsafe {
            Bound::from_borrowed_ptr(py, self.event_loop.get()).cast_into_unchecked::<AsyncioLoop>()
        }
    }

    /// Makes the call in the handle's context: a new reference, null with an exception set.
    ///
    /// # Safety
    ///
    /// The caller owns a reference to the handle, which has not been cancelled.
    #[inline]
    pub unsafe fn call(&self) -> Object {
        // SAFETY: the handle's references, held for the call: the callback may cancel it.
        unsafe {
            let (callback, argument) = (self.callback.get(), self.argument.get());
            let is_transport = self.has(flag::TRANSPORT);
            let context = if is_transport && transport::calls_no_program(callback, self) {
                ptr::null_mut()
            } else {
                self.context.get()
            };
            ffi::Py_INCREF(callback);
            ffi::Py_XINCREF(argument);
            ffi::Py_XINCREF(context);
            let result = if !context.is_null() && ffi::PyContext_Enter(context) != 0 {
                self.set(flag::HELD);
                ptr::null_mut()
            } else {
                let result = if is_transport {
                    transport::ready(callback, self)
                } else if argument.is_null() {
                    ffi::PyObject_CallNoArgs(callback)
                } else if self.several.get() {
                    ffi::PyObject_Call(callback, argument, ptr::null_mut())
                } else {
                    ffi::PyObject_CallOneArg(callback, argument)
                };
                if context.is_null() { result } else { leave_context(context, result) }
            };
            ffi::Py_XDECREF(context);
            ffi::Py_XDECREF(argument);
            ffi::Py_DECREF(callback);
            result
        }
    }

    /// Drops what the call was to be made with.
    #[inline]
    pub fn release(&self) {
        let (callback, argument) =
            (self.callback.replace(ptr::null_mut()), self.argument.replace(ptr::null_mut()));
        // SAFETY: owned references or null.
        unsafe {
            ffi::Py_XDECREF(callback);
            ffi::Py_XDECREF(argument);
        }
    }

    pub(super) fn arguments<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if self.callback.get().is_null() {
            return Ok(None);
        }
        // SAFETY: an object of the handle's or null.
        let argument = unsafe { Bound::from_borrowed_ptr_or_opt(py, self.argument.get()) };
        Ok(Some(match argument {
            Some(tuple) if self.several.get() => tuple,
            one => PyTuple::new(py, one)?.into_any(),
        }))
    }

    /// Cancels the call.
    ///
    /// # Errors
    ///
    /// What describing the callback raises, in debug mode.
    pub fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        if self.has(flag::CANCELLED) {
            return Ok(());
        }
        let event_loop = self.event_loop(py);
        if event_loop.get().debug() {
            // SAFETY: a live object.
            let this =
                unsafe { Bound::from_borrowed_ptr(py, ptr::from_ref(self).cast_mut().cast()) };
            let text = this.repr()?;
            // SAFETY: an owned reference or null.
            unsafe { ffi::Py_XDECREF(self.text.replace(text.into_ptr())) };
        }
        self.set(flag::CANCELLED);
        if self.timer.get().is_some() {
            event_loop.get().timer_cancelled(self);
        }
        self.release();
        Ok(())
    }

    /// Keeps where it was made.
    pub fn set_source(&self, source: Bound<'_, PyAny>) {
        // SAFETY: an owned reference or null.
        unsafe { ffi::Py_XDECREF(self.source.replace(source.into_ptr())) };
    }
}

/// Leaves the context that a callback ran in. The callback's result, or null if there is an
/// exception.
#[inline]
unsafe fn leave_context(context: Object, result: Object) -> Object {
    // SAFETY: a context; the exception that is set is put aside where leaving would meet it.
    unsafe {
        if !result.is_null() {
            if ffi::PyContext_Exit(context) != 0 {
                ffi::Py_DECREF(result);
                return ptr::null_mut();
            }
            return result;
        }
        crate::errors::with_raised_saved(|| {
            if ffi::PyContext_Exit(context) != 0 {
                ffi::PyErr_Clear();
            }
        });
        result
    }
}

/// Whether an object is one of our handles.
pub fn is_handle(object: Object) -> bool {
    // SAFETY: a valid object and type.
    unsafe { ffi::PyObject_TypeCheck(object, HANDLE.load(Ordering::Relaxed)) != 0 }
}
