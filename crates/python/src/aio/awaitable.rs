//! What the core gives coroutines to await: objects that pass for coroutines.
//!
//! One is made for nearly every message, so they are written by hand: memory of freed ones is used again,
//! and a value is returned without an exception being made for it. What they wait for is in
//! [`Awaited`]; tasks get to see plain futures.

use super::throwing::thrown;
use crate::errors::raise;
use crate::greenlet::types::{ClassSpec, make_class, slot};
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::cell::UnsafeCell;
use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

type Object = *mut ffi::PyObject;

/// How many freed objects of a class are kept to be used again.
const KEPT: usize = 256;

/// A step of what is awaited. Both are owned references.
pub enum Step {
    /// The future to wait for.
    Wait(Object),
    /// The value that it ends with.
    End(Object),
}

/// What is in such an object.
pub trait Awaited: Sized {
    const NAME: &'static CStr;
    const DOC: &'static CStr;

    fn class() -> &'static Class;

    /// Goes on: when it is first awaited, and when the future of the last step is done. `this` stays
    /// where it is until it is dropped.
    fn step(&self, py: Python<'_>) -> PyResult<Step>;

    /// Whether there was a step.
    fn has_begun(&self) -> bool;

    /// Ends without a value.
    fn abandon(&self, py: Python<'_>) -> PyResult<()>;

    /// Shows the collector what it refers to.
    fn traverse(&self, visit: &mut dyn FnMut(Object) -> c_int) -> c_int;
}

/// The class of such objects.
pub struct Class {
    kind: AtomicPtr<ffi::PyTypeObject>,
    /// Memory of freed ones. Touched with the GIL held, for moments in which nothing else runs.
    freed: UnsafeCell<Vec<Object>>,
}

// SAFETY: see above.
unsafe impl Sync for Class {}

impl Class {
    pub const fn new() -> Self {
        Self { kind: AtomicPtr::new(ptr::null_mut()), freed: UnsafeCell::new(Vec::new()) }
    }
}

/// An object's memory.
#[repr(C)]
struct Memory<T> {
    ob_base: ffi::PyObject,
    inner: T,
}

/// Makes an object.
#[inline]
pub fn make<T: Awaited>(py: Python<'_>, inner: T) -> PyResult<Py<PyAny>> {
    let class = T::class();
    let kind = class.kind.load(Ordering::Relaxed);
    // SAFETY: the GIL is held; memory that was such an object, or is allocated for one. It is written
    // before the collector is told of it.
    unsafe {
        let this = match (*class.freed.get()).pop() {
            Some(freed) => {
                ffi::PyObject_Init(freed, kind);
                freed
            }
            None => allocate(kind),
        };
        if this.is_null() {
            return Err(PyErr::fetch(py));
        }
        (&raw mut (*this.cast::<Memory<T>>()).inner).write(inner);
        ffi::PyObject_GC_Track(this.cast());
        Ok(Bound::from_owned_ptr(py, this).unbind())
    }
}

#[cold]
unsafe fn allocate(kind: *mut ffi::PyTypeObject) -> Object {
    // SAFETY: a type made below, of objects that the collector knows.
    unsafe {
        let this = ffi::PyType_GenericAlloc(kind, 0);
        if !this.is_null() {
            ffi::PyObject_GC_UnTrack(this.cast());
        }
        this
    }
}

/// The StopIteration of the last value. The interpreter takes the value out of it and forgets it, and
/// making an exception takes longer than most reads.
struct Last(UnsafeCell<Object>);

// SAFETY: touched with the GIL held, for moments in which nothing else runs.
unsafe impl Sync for Last {}

static LAST: Last = Last(UnsafeCell::new(ptr::null_mut()));

/// Ends an iteration with a value, whose reference it takes: raises StopIteration, returns null.
unsafe fn end_with(value: Object) -> Object {
    // SAFETY: the GIL is held and no exception is set; the last exception is one that nobody else has.
    unsafe {
        let last = LAST.0.get();
        let mut stop = *last;
        if !is_as_new(stop) {
            stop = ffi::PyObject_CallNoArgs(ffi::PyExc_StopIteration);
            if stop.is_null() {
                ffi::Py_DECREF(value);
                return ptr::null_mut();
            }
            let before = std::mem::replace(&mut *last, stop);
            ffi::Py_XDECREF(before);
        }
        let fields = stop.cast::<ffi::PyStopIterationObject>();
        let before = std::mem::replace(&mut (*fields).value, value);
        ffi::Py_INCREF(stop);
        ffi::Py_XDECREF(before);
        raise(stop);
        ptr::null_mut()
    }
}

/// Whether nobody else has the exception, and nothing is left in it of who has had it.
#[inline]
unsafe fn is_as_new(stop: Object) -> bool {
    // SAFETY: null or a StopIteration.
    unsafe {
        let fields = stop.cast::<ffi::PyStopIterationObject>();
        !stop.is_null()
            && ffi::Py_REFCNT(stop) == 1
            && (*fields).dict.is_null()
            && (*fields).notes.is_null()
            && (*fields).traceback.is_null()
            && (*fields).context.is_null()
            && (*fields).cause.is_null()
    }
}

/// Lets go of the last value that something has ended with.
#[inline]
pub fn forget_last_value() {
    // SAFETY: the GIL is held; null or a StopIteration, which may have a value.
    unsafe {
        let stop = *LAST.0.get();
        if !stop.is_null() {
            let fields = stop.cast::<ffi::PyStopIterationObject>();
            let before = std::mem::replace(&mut (*fields).value, ptr::null_mut());
            ffi::Py_XDECREF(before);
        }
    }
}

fn attached<'py>() -> Python<'py> {
    // SAFETY: slots and methods are called with the GIL held.
    unsafe { Python::assume_attached() }
}

unsafe fn inner<'a, T: Awaited>(this: Object) -> &'a T {
    // SAFETY: the interpreter has checked that it is an object of the class.
    unsafe { &(*this.cast::<Memory<T>>()).inner }
}

fn raised(error: PyErr) -> Object {
    error.restore(attached());
    ptr::null_mut()
}

/// `__await__` and `__iter__`.
unsafe extern "C" fn itself(this: Object) -> Object {
    // SAFETY: a live object.
    unsafe { ffi::Py_INCREF(this) };
    this
}

unsafe extern "C" fn next<T: Awaited>(this: Object) -> Object {
    // SAFETY: see `inner`.
    match unsafe { inner::<T>(this) }.step(attached()) {
        Ok(Step::Wait(future)) => future,
        // No exception stands for None.
        // SAFETY: an owned reference, of which there are others.
        Ok(Step::End(value)) if unsafe { value == ffi::Py_None() } => unsafe {
            ffi::Py_DECREF(value);
            ptr::null_mut()
        },
        // SAFETY: an owned reference.
        Ok(Step::End(value)) => unsafe { end_with(value) },
        Err(error) => raised(error),
    }
}

/// What is sent means nothing, as the result of a future does; but it may not come first.
unsafe fn sent<T: Awaited>(this: Object, value: Object) -> PyResult<Step> {
    // SAFETY: see `inner`.
    let (this, is_value) = unsafe { (inner::<T>(this), value != ffi::Py_None()) };
    if is_value && !this.has_begun() {
        let message = "can't send non-None value to a just-started coroutine";
        return Err(PyTypeError::new_err(message));
    }
    this.step(attached())
}

unsafe extern "C" fn am_send<T: Awaited>(
    this: Object,
    value: Object,
    result: *mut Object,
) -> ffi::PySendResult {
    // SAFETY: see `inner`.
    let (object, status) = match unsafe { sent::<T>(this, value) } {
        Ok(Step::Wait(future)) => (future, ffi::PySendResult::PYGEN_NEXT),
        Ok(Step::End(value)) => (value, ffi::PySendResult::PYGEN_RETURN),
        Err(error) => (raised(error), ffi::PySendResult::PYGEN_ERROR),
    };
    // SAFETY: the caller's place for it.
    unsafe { *result = object };
    status
}

unsafe extern "C" fn send_method<T: Awaited>(this: Object, value: Object) -> Object {
    // SAFETY: see `inner`; an owned reference.
    match unsafe { sent::<T>(this, value) } {
        Ok(Step::Wait(future)) => future,
        // SAFETY: an owned reference.
        Ok(Step::End(value)) => unsafe { end_with(value) },
        Err(error) => raised(error),
    }
}

unsafe extern "C" fn throw_method<T: Awaited>(this: Object, arguments: Object) -> Object {
    let py = attached();
    let (mut kind, mut value, mut traceback) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    // SAFETY: a tuple and places for three objects, which the tuple holds; see `inner`.
    unsafe {
        if ffi::PyArg_ParseTuple(
            arguments,
            c"O|OO:throw".as_ptr(),
            &raw mut kind,
            &raw mut value,
            &raw mut traceback,
        ) == 0
        {
            return ptr::null_mut();
        }
        if let Err(error) = inner::<T>(this).abandon(py) {
            return raised(error);
        }
        raised(thrown(
            Bound::from_borrowed_ptr(py, kind),
            Bound::from_borrowed_ptr_or_opt(py, value),
            Bound::from_borrowed_ptr_or_opt(py, traceback),
        ))
    }
}

unsafe extern "C" fn close_method<T: Awaited>(this: Object, _: Object) -> Object {
    // SAFETY: see `inner`.
    match unsafe { inner::<T>(this) }.abandon(attached()) {
        Ok(()) => attached().None().into_ptr(),
        Err(error) => raised(error),
    }
}

unsafe extern "C" fn traverse<T: Awaited>(
    this: Object,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: the collector's function and what it is to be given; see `inner`.
    unsafe {
        let mut show = |object: Object| if object.is_null() { 0 } else { visit(object, arg) };
        let status = show(ffi::Py_TYPE(this).cast());
        if status != 0 { status } else { inner::<T>(this).traverse(&mut show) }
    }
}

unsafe extern "C" fn dealloc<T: Awaited>(this: Object) {
    // SAFETY: the last reference is gone; what is in it is dropped once. The memory is kept for the
    // next one, which has the same size.
    unsafe {
        ffi::PyObject_GC_UnTrack(this.cast());
        let memory = this.cast::<Memory<T>>();
        crate::errors::with_raised_saved(|| {
            if let Err(error) = (*memory).inner.abandon(attached()) {
                error.write_unraisable(attached(), None);
            }
            ptr::drop_in_place(&raw mut (*memory).inner);
        });
        let kind = ffi::Py_TYPE(this);
        let freed = &mut *T::class().freed.get();
        if freed.len() < KEPT {
            freed.push(this);
        } else {
            ffi::PyObject_GC_Del(this.cast());
        }
        ffi::Py_DECREF(kind.cast());
    }
}

/// Makes the class of a kind of objects, and adds it to the module.
pub fn register<T: Awaited>(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let method = |name: &'static CStr, function: ffi::PyCFunction, flags, doc: &'static CStr| {
        ffi::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunction: function },
            ml_flags: flags,
            ml_doc: doc.as_ptr(),
        }
    };
    // As long as the class: for good.
    let methods = Box::leak(Box::new([
        method(
            c"send",
            send_method::<T>,
            ffi::METH_O,
            c"send($self, value, /)\n--\n\nGoes on until the next future.",
        ),
        method(
            c"throw",
            throw_method::<T>,
            ffi::METH_VARARGS,
            c"throw($self, typ, val=None, tb=None, /)\n--\n\nEnds by an exception.",
        ),
        method(
            c"close",
            close_method::<T>,
            ffi::METH_NOARGS,
            c"close($self, /)\n--\n\nEnds without a value.",
        ),
        ffi::PyMethodDef::zeroed(),
    ]));
    let mut slots = vec![
        slot(ffi::Py_tp_dealloc, dealloc::<T> as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse::<T> as *mut c_void),
        slot(ffi::Py_tp_iter, itself as *mut c_void),
        slot(ffi::Py_tp_iternext, next::<T> as *mut c_void),
        slot(ffi::Py_am_await, itself as *mut c_void),
        slot(ffi::Py_am_send, am_send::<T> as *mut c_void),
        slot(ffi::Py_tp_methods, methods.as_mut_ptr().cast()),
        slot(ffi::Py_tp_doc, T::DOC.as_ptr().cast_mut().cast()),
    ];
    let class = make_class(
        module.py(),
        ClassSpec {
            name: T::NAME,
            size: size_of::<Memory<T>>(),
            flags: ffi::Py_TPFLAGS_DEFAULT
                | ffi::Py_TPFLAGS_HAVE_GC
                | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION,
            base: ptr::null_mut(),
            slots: &mut slots,
        },
    )?;
    T::class().kind.store(class.as_ptr().cast(), Ordering::Relaxed);
    module.add(class.getattr("__name__")?.cast::<pyo3::types::PyString>()?, class)
}
