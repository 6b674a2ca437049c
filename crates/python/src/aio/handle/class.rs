//! The classes of handles.

use super::object::{HANDLE, HandleObject, HandleRef, TIMER_HANDLE, flag, is_handle};
use crate::aio::runner;
use crate::greenlet::attributes::{END, GetSetTable, attribute};
use crate::greenlet::methods::MethodTable;
use crate::greenlet::types::{ClassSpec, make_class, slot};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::ffi::{CStr, c_int, c_void};
use std::mem::offset_of;
use std::ptr;
use std::sync::atomic::Ordering;

type Object = *mut ffi::PyObject;

unsafe fn handle<'a>(this: Object) -> &'a HandleObject {
    // SAFETY: the interpreter has checked that it is a handle.
    unsafe { &*this.cast() }
}

fn attached<'py>() -> Python<'py> {
    // SAFETY: slots are called with the GIL held.
    unsafe { Python::assume_attached() }
}

fn give(result: PyResult<Bound<'_, PyAny>>) -> Object {
    match result {
        Ok(object) => object.into_ptr(),
        Err(error) => {
            error.restore(attached());
            ptr::null_mut()
        }
    }
}

fn none() -> Object {
    attached().None().into_ptr()
}

fn owned_or_none(object: Object) -> Object {
    if object.is_null() {
        return none();
    }
    // SAFETY: a live object.
    unsafe { ffi::Py_INCREF(object) };
    object
}

fn boolean(value: bool) -> Object {
    // SAFETY: makes a bool.
    unsafe { ffi::PyBool_FromLong(value.into()) }
}

unsafe extern "C" fn cancel(this: Object, _: Object) -> Object {
    // SAFETY: see `handle`.
    give(
        unsafe { handle(this) }
            .cancel(attached())
            .map(|()| attached().None().into_bound(attached())),
    )
}

unsafe extern "C" fn cancelled(this: Object, _: Object) -> Object {
    // SAFETY: see `handle`.
    boolean(unsafe { handle(this) }.has(flag::CANCELLED))
}

unsafe extern "C" fn get_context_method(this: Object, _: Object) -> Object {
    // SAFETY: see `handle`.
    owned_or_none(unsafe { handle(this) }.context.get())
}

unsafe extern "C" fn run(this: Object, _: Object) -> Object {
    // SAFETY: see `handle`; a reference for the call.
    unsafe {
        ffi::Py_INCREF(this);
        let handle = HandleRef::from_owned(this.cast());
        give(runner::run(attached(), &handle).map(|()| attached().None().into_bound(attached())))
    }
}

unsafe extern "C" fn when(this: Object, _: Object) -> Object {
    // SAFETY: see `handle`; makes a float.
    unsafe { ffi::PyFloat_FromDouble(handle(this).when.get()) }
}

unsafe extern "C" fn get_callback(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `handle`.
    owned_or_none(unsafe { handle(this) }.callback.get())
}

unsafe extern "C" fn get_args(this: Object, _: *mut c_void) -> Object {
    let py = attached();
    // SAFETY: see `handle`.
    let arguments = unsafe { handle(this) }.arguments(py);
    give(arguments.map(|args| args.unwrap_or_else(|| py.None().into_bound(py))))
}

unsafe extern "C" fn get_cancelled(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `handle`.
    boolean(unsafe { handle(this) }.has(flag::CANCELLED))
}

unsafe extern "C" fn get_context(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `handle`.
    owned_or_none(unsafe { handle(this) }.context.get())
}

unsafe extern "C" fn get_loop(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `handle`.
    owned_or_none(unsafe { handle(this) }.event_loop.get())
}

unsafe extern "C" fn get_source(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `handle`.
    owned_or_none(unsafe { handle(this) }.source.get())
}

unsafe extern "C" fn get_text(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `handle`.
    owned_or_none(unsafe { handle(this) }.text.get())
}

unsafe extern "C" fn get_when(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `handle`; makes a float.
    unsafe { ffi::PyFloat_FromDouble(handle(this).when.get()) }
}

unsafe extern "C" fn get_scheduled(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `handle`.
    boolean(unsafe { handle(this) }.timer.get().is_some())
}

unsafe extern "C" fn get_class(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `handle`.
    let timer = unsafe { handle(this) }.has(flag::TIMER);
    give(standard_class(attached(), timer))
}

/// `asyncio.TimerHandle` or `asyncio.Handle`.
fn standard_class(py: Python<'_>, timer: bool) -> PyResult<Bound<'_, PyAny>> {
    static CLASSES: PyOnceLock<[Py<PyAny>; 2]> = PyOnceLock::new();
    let classes = CLASSES.get_or_try_init(py, || {
        let events = py.import("asyncio.events")?;
        Ok::<_, PyErr>([
            events.getattr("Handle")?.unbind(),
            events.getattr("TimerHandle")?.unbind(),
        ])
    })?;
    Ok(classes[usize::from(timer)].bind(py).clone())
}

unsafe extern "C" fn repr(this: Object) -> Object {
    let py = attached();
    // SAFETY: see `handle`.
    let object = unsafe { Bound::from_borrowed_ptr(py, this) };
    give(
        py.import("greenloop.asyncio._handles")
            .and_then(|module| module.getattr("describe")?.call1((object,))),
    )
}

unsafe extern "C" fn compare(this: Object, other: Object, operation: c_int) -> Object {
    // SAFETY: see `handle`; the other is looked at as one if it is one.
    unsafe {
        if !is_handle(other) || !handle(other).has(flag::TIMER) {
            ffi::Py_INCREF(ffi::Py_NotImplemented());
            return ffi::Py_NotImplemented();
        }
        let (one, two) = (handle(this), handle(other));
        let equal = || {
            ptr::eq(one, two)
                || (one.when.get() == two.when.get()
                    && one.callback.get() == two.callback.get()
                    && one.argument.get() == two.argument.get()
                    && one.has(flag::CANCELLED) == two.has(flag::CANCELLED))
        };
        boolean(match operation {
            ffi::Py_LT => one.when.get() < two.when.get(),
            ffi::Py_LE => one.when.get() < two.when.get() || equal(),
            ffi::Py_GT => one.when.get() > two.when.get(),
            ffi::Py_GE => one.when.get() > two.when.get() || equal(),
            ffi::Py_EQ => equal(),
            _ => !equal(),
        })
    }
}

unsafe extern "C" fn hash(this: Object) -> ffi::Py_hash_t {
    // SAFETY: see `handle`; a float is hashable.
    unsafe {
        let when = ffi::PyFloat_FromDouble(handle(this).when.get());
        if when.is_null() {
            return -1;
        }
        let hash = ffi::PyObject_Hash(when);
        ffi::Py_DECREF(when);
        hash
    }
}

unsafe extern "C" fn traverse(this: Object, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: a handle; its references are valid or null.
    unsafe {
        let handle = handle(this);
        for object in [
            ffi::Py_TYPE(this).cast(),
            handle.event_loop.get(),
            handle.callback.get(),
            handle.argument.get(),
            handle.context.get(),
            handle.source.get(),
        ] {
            if !object.is_null() {
                let status = visit(object, arg);
                if status != 0 {
                    return status;
                }
            }
        }
    }
    0
}

unsafe extern "C" fn clear(this: Object) -> c_int {
    // The loop is kept: `cancel` needs it, and it drops what refers back to the handle.
    // SAFETY: a handle.
    unsafe { handle(this) }.release();
    0
}

unsafe extern "C" fn dealloc(this: Object) {
    // SAFETY: the last reference is gone; the references are dropped once.
    unsafe {
        ffi::PyObject_GC_UnTrack(this.cast());
        let handle = &*this.cast::<HandleObject>();
        if !handle.weakrefs.is_null() {
            ffi::PyObject_ClearWeakRefs(this);
        }
        handle.release();
        ffi::Py_XDECREF(handle.context.get());
        ffi::Py_XDECREF(handle.source.get());
        ffi::Py_XDECREF(handle.text.get());
        let event_loop = handle.event_loop.get();
        let kind = ffi::Py_TYPE(this);
        HandleObject::free(this.cast());
        ffi::Py_DECREF(kind.cast());
        ffi::Py_XDECREF(event_loop);
    }
}

const fn no_arguments(
    name: &'static CStr,
    method: ffi::PyCFunction,
    doc: &'static CStr,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: method },
        ml_flags: ffi::METH_NOARGS,
        ml_doc: doc.as_ptr(),
    }
}

static METHODS: MethodTable<5> = MethodTable::new([
    no_arguments(
        c"cancel",
        cancel,
        c"cancel($self, /)\n--\n\nTakes the call back, if it has not been made.",
    ),
    no_arguments(
        c"cancelled",
        cancelled,
        c"cancelled($self, /)\n--\n\nWhether `cancel` was called.",
    ),
    no_arguments(
        c"get_context",
        get_context_method,
        c"get_context($self, /)\n--\n\nThe context of the call.",
    ),
    no_arguments(c"_run", run, c"_run($self, /)\n--\n\nMakes the call now."),
    ffi::PyMethodDef::zeroed(),
]);

static TIMER_METHODS: MethodTable<2> = MethodTable::new([
    no_arguments(
        c"when",
        when,
        c"when($self, /)\n--\n\nThe loop's time, in seconds, that it is due at.",
    ),
    ffi::PyMethodDef::zeroed(),
]);

static GETSET: GetSetTable<9> = GetSetTable::new([
    attribute(c"__class__", get_class, None, c"The class of asyncio that this stands for."),
    attribute(c"_callback", get_callback, None, c"The function, None once it is done."),
    attribute(c"_args", get_args, None, c"Its arguments, None once it is done."),
    attribute(c"_cancelled", get_cancelled, None, c"Whether it was cancelled."),
    attribute(c"_context", get_context, None, c"The context of the call."),
    attribute(c"_loop", get_loop, None, c"The loop."),
    attribute(c"_source_traceback", get_source, None, c"Where it was made, in debug mode."),
    attribute(c"_repr", get_text, None, c"What it looked like before it was cancelled."),
    END,
]);

static TIMER_GETSET: GetSetTable<3> = GetSetTable::new([
    attribute(c"_when", get_when, None, c"The loop's time that it is due at."),
    attribute(c"_scheduled", get_scheduled, None, c"Whether it is to come."),
    END,
]);

static MEMBERS: Members = Members([
    ffi::PyMemberDef {
        name: c"__weaklistoffset__".as_ptr(),
        type_code: ffi::Py_T_PYSSIZET,
        offset: offset_of!(HandleObject, weakrefs) as ffi::Py_ssize_t,
        flags: ffi::Py_READONLY,
        doc: ptr::null(),
    },
    // SAFETY: a member that is all zero ends the table.
    unsafe { std::mem::zeroed() },
]);

struct Members([ffi::PyMemberDef; 2]);

// SAFETY: never written; the pointers in it are to static strings.
unsafe impl Sync for Members {}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let flags =
        ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_HAVE_GC | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION;
    let common = || {
        vec![
            slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
            slot(ffi::Py_tp_traverse, traverse as *mut c_void),
            slot(ffi::Py_tp_clear, clear as *mut c_void),
            slot(ffi::Py_tp_repr, repr as *mut c_void),
        ]
    };
    let table = |table: *const c_void| table.cast_mut();
    let mut slots = common();
    slots.extend([
        slot(ffi::Py_tp_methods, table((&raw const METHODS).cast())),
        slot(ffi::Py_tp_getset, table((&raw const GETSET).cast())),
        slot(ffi::Py_tp_members, table(MEMBERS.0.as_ptr().cast())),
        slot(
            ffi::Py_tp_doc,
            table(c"A callback that a loop is to call; see asyncio.Handle.".as_ptr().cast()),
        ),
    ]);
    let class = make_class(
        py,
        ClassSpec {
            name: c"greenloop._core.Handle",
            size: size_of::<HandleObject>(),
            flags: flags | ffi::Py_TPFLAGS_BASETYPE,
            base: ptr::null_mut(),
            slots: &mut slots,
        },
    )?;
    HANDLE.store(class.as_ptr().cast(), Ordering::Relaxed);
    let mut slots = common();
    slots.extend([
        slot(ffi::Py_tp_methods, table((&raw const TIMER_METHODS).cast())),
        slot(ffi::Py_tp_getset, table((&raw const TIMER_GETSET).cast())),
        slot(ffi::Py_tp_richcompare, compare as *mut c_void),
        slot(ffi::Py_tp_hash, hash as *mut c_void),
        slot(
            ffi::Py_tp_doc,
            table(c"A callback for a given time; see asyncio.TimerHandle.".as_ptr().cast()),
        ),
    ]);
    let timer_class = make_class(
        py,
        ClassSpec {
            name: c"greenloop._core.TimerHandle",
            size: size_of::<HandleObject>(),
            flags,
            base: class.as_ptr().cast(),
            slots: &mut slots,
        },
    )?;
    TIMER_HANDLE.store(timer_class.as_ptr().cast(), Ordering::Relaxed);
    module.add("Handle", class)?;
    module.add("TimerHandle", timer_class)
}
