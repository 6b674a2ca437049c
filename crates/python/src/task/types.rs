//! The type object `Greenlet`: making, starting and freeing.

use super::attributes::GETSET;
use super::body;
use super::context;
use super::descriptors;
use super::object::{Stage, TaskObject};
use super::origin;
use super::spawn_callbacks;
use crate::greenlet::methods::{MethodTable, keywords};
use crate::greenlet::thread::Thread;
use crate::greenlet::types::{self, ClassSpec, slot};
use crate::hub::HubObject;
use crate::hub::queue::Entry;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

type Object = *mut ffi::PyObject;

static TASK_TYPE: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(ptr::null_mut());

fn task_type() -> *mut ffi::PyTypeObject {
    TASK_TYPE.load(Ordering::Relaxed)
}

/// Whether an object is a `Greenlet` itself, not of a subclass.
#[inline]
pub fn is_exact(object: Object) -> bool {
    // SAFETY: a valid object.
    unsafe { ffi::Py_TYPE(object) == task_type() }
}

/// Whether an object is a `Greenlet`.
#[inline]
pub fn is_task(object: Object) -> bool {
    // SAFETY: valid objects and types.
    unsafe { ffi::PyObject_TypeCheck(object, task_type()) != 0 }
}

const DOC: &CStr = c"Greenlet(run=None, *args, **kwargs)
--

A greenlet that calls run(*args, **kwargs) when the hub gets to it, after start(). A subclass may
define _run() instead of giving a function.

A contextvars.Context given as the keyword argument context is what it runs in; it is not passed
on. Otherwise it runs in an empty one, or a copy of the spawner's if config.inherit_context is set.

TypeError is raised for something that cannot be called. (As gevent.Greenlet.)";

const SPAWN_DOC: &CStr = c"spawn(function, *args, **kwargs)
--

Makes a Greenlet that calls function(*args, **kwargs), and starts it. A contextvars.Context given as
the keyword argument context is what it runs in, and not passed on.";

static METHODS: MethodTable<2> = MethodTable::new([
    ffi::PyMethodDef {
        ml_name: c"spawn".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: spawn },
        ml_flags: ffi::METH_CLASS | ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: SPAWN_DOC.as_ptr(),
    },
    ffi::PyMethodDef::zeroed(),
]);

fn attached<'py>() -> Python<'py> {
    // SAFETY: slots are called with the GIL held.
    unsafe { Python::assume_attached() }
}

/// Allocates a task whose parent is the hub. A new reference, or null with an exception set.
///
/// # Safety
///
/// `kind` is the task type or a subtype.
unsafe fn allocate(kind: *mut ffi::PyTypeObject) -> *mut TaskObject {
    let py = attached();
    // SAFETY: a fresh object; owned references.
    unsafe {
        let this = types::allocate(kind, body::body).cast::<TaskObject>();
        if this.is_null() {
            return this;
        }
        TaskObject::init(this);
        let task = &*this;
        let thread = &*task.base.thread.get();
        let hub = match HubObject::of(py, thread) {
            Ok(hub) => hub,
            Err(error) => {
                error.restore(py);
                ffi::Py_DECREF(this.cast());
                return ptr::null_mut();
            }
        };
        ffi::Py_INCREF(hub.as_ptr());
        let spawner = task.base.parent.replace(hub.greenlet().as_greenlet());
        let mut noted = task.origin.note(&*spawner);
        ffi::Py_DECREF(spawner.cast());
        if noted && origin::is_tracking() {
            match origin::limit_of(py, kind) {
                Ok(limit) => task.stack.set(origin::stack(thread, limit)),
                Err(error) => {
                    error.restore(py);
                    noted = false;
                }
            }
        }
        if !noted {
            ffi::Py_DECREF(this.cast());
            return ptr::null_mut();
        }
        this
    }
}

unsafe extern "C" fn new(kind: *mut ffi::PyTypeObject, _args: Object, _kwargs: Object) -> Object {
    // SAFETY: called for the task type and its subtypes.
    unsafe {
        let task = allocate(kind);
        types::look_for_switch_out(task.cast(), task_type());
        task.cast()
    }
}

unsafe extern "C" fn init(this: Object, args: Object, kwargs: Object) -> c_int {
    // SAFETY: the interpreter passes a task, a tuple, and a dict or null; owned references.
    unsafe {
        let task = &*this.cast::<TaskObject>();
        let count = ffi::PyTuple_GET_SIZE(args);
        let mut run = if count > 0 { ffi::PyTuple_GET_ITEM(args, 0) } else { ptr::null_mut() };
        let rest = if count > 1 { ffi::PyTuple_GetSlice(args, 1, count) } else { ptr::null_mut() };
        let keywords = if kwargs.is_null() || ffi::PyDict_Size(kwargs) == 0 {
            ptr::null_mut()
        } else {
            ffi::PyDict_Copy(kwargs)
        };
        if run.is_null() && !keywords.is_null() {
            run = ffi::PyDict_GetItemString(keywords, c"run".as_ptr());
            if !run.is_null() {
                ffi::Py_INCREF(run);
                ffi::PyDict_DelItemString(keywords, c"run".as_ptr());
                ffi::Py_DECREF(run);
            }
        }
        if !run.is_null() && run != ffi::Py_None() {
            if !check_callable(run) {
                ffi::Py_XDECREF(rest);
                ffi::Py_XDECREF(keywords);
                return -1;
            }
            ffi::Py_INCREF(run);
            ffi::Py_XDECREF(task.func.replace(run));
        }
        ffi::Py_XDECREF(task.args.replace(rest));
        let keywords = context::from_keywords(&task.base, keywords);
        ffi::Py_XDECREF(task.kwargs.replace(keywords));
    }
    0
}

fn check_callable(run: Object) -> bool {
    // SAFETY: a valid object.
    if unsafe { ffi::PyCallable_Check(run) } != 0 {
        return true;
    }
    PyTypeError::new_err("The run argument or self._run must be callable").restore(attached());
    false
}

/// `Greenlet.spawn`, and what `Pool` and others that have a class at hand use.
unsafe extern "C" fn spawn(
    class: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object {
    // SAFETY: the vectorcall convention; owned references.
    unsafe {
        let count = count as usize;
        if class.cast() != task_type() || count == 0 {
            return spawn_subclass(class, args, count, names);
        }
        let this = make(class, args, count, names);
        if this.is_null() {
            return ptr::null_mut();
        }
        if let Err(error) = start(&*this.cast::<TaskObject>()) {
            error.restore(attached());
            ffi::Py_DECREF(this);
            return ptr::null_mut();
        }
        this
    }
}

/// A greenlet of a class, for a function and its arguments, that has not been started. A new
/// reference, or null with an exception set.
///
/// # Safety
///
/// A class, and arguments by the vectorcall convention.
pub unsafe fn make(class: Object, args: *const Object, count: usize, names: Object) -> Object {
    // SAFETY: as the caller guarantees; owned references.
    unsafe {
        if class.cast() != task_type() || count == 0 {
            return ffi::PyObject_Vectorcall(class, args, count, names);
        }
        let func = *args;
        if !check_callable(func) {
            return ptr::null_mut();
        }
        let this = allocate(class.cast());
        if this.is_null() {
            return ptr::null_mut();
        }
        let task = &*this;
        ffi::Py_INCREF(func);
        task.func.set(func);
        if count > 1 {
            task.args.set(tuple_of(args.add(1), count - 1));
        }
        task.kwargs.set(context::from_keywords(&task.base, keywords(args.add(count), names)));
        this.cast()
    }
}

/// # Safety
///
/// `args` holds `count` objects.
unsafe fn tuple_of(args: *const Object, count: usize) -> Object {
    // SAFETY: as the caller guarantees; each item gets a new reference.
    unsafe {
        let tuple = ffi::PyTuple_New(count as ffi::Py_ssize_t);
        for index in 0..count {
            let item = *args.add(index);
            ffi::Py_INCREF(item);
            ffi::PyTuple_SET_ITEM(tuple, index as ffi::Py_ssize_t, item);
        }
        tuple
    }
}

#[cold]
unsafe fn spawn_subclass(
    class: Object,
    args: *const Object,
    count: usize,
    names: Object,
) -> Object {
    // SAFETY: the vectorcall convention; a new reference comes back.
    unsafe {
        let object = ffi::PyObject_Vectorcall(class, args, count, names);
        if object.is_null() {
            return object;
        }
        let started = ffi::PyObject_CallMethodNoArgs(
            object,
            pyo3::types::PyString::intern(attached(), "start").as_ptr(),
        );
        if started.is_null() {
            ffi::Py_DECREF(object);
            return ptr::null_mut();
        }
        ffi::Py_DECREF(started);
        object
    }
}

/// Schedules a task that was just made in this thread.
///
/// # Errors
///
/// InvalidThreadUseError if its thread has no hub (any more).
#[inline]
pub fn start(task: &TaskObject) -> PyResult<()> {
    // SAFETY: a task has a thread, whose hub is alive if it is set; the entry owns a reference.
    unsafe {
        let thread: &Thread = &*task.base.thread.get();
        let hub = match thread.hub.get().as_ref() {
            Some(hub) => hub,
            None => hub_for_start(thread)?,
        };
        context::inherit(attached(), &task.base)?;
        task.stage.set(Stage::Scheduled);
        if spawn_callbacks::any() {
            spawn_callbacks::call(attached(), task.as_ptr());
        }
        ffi::Py_INCREF(task.as_ptr());
        let greenlet = task.base.as_greenlet();
        hub.push(thread, Entry::Start { greenlet });
    }
    Ok(())
}

#[cold]
fn hub_for_start<'a>(thread: &Thread) -> PyResult<&'a HubObject> {
    let py = attached();
    if thread.is_calling() {
        return HubObject::of(py, thread);
    }
    Err(crate::exceptions::invalid_thread_use(py, "the greenlet's thread has no hub"))
}

unsafe extern "C" fn traverse(this: Object, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: the interpreter passes a task; references are valid or null.
    unsafe {
        let task = &*this.cast::<TaskObject>();
        for object in [
            task.func.get(),
            task.args.get(),
            task.kwargs.get(),
            task.value.get(),
            task.error.get(),
        ] {
            if !object.is_null() {
                let status = visit(object, arg);
                if status != 0 {
                    return status;
                }
            }
        }
        let status = task.origin.traverse(visit, arg);
        if status != 0 {
            return status;
        }
        let status = task.links.traverse(visit, arg);
        if status != 0 {
            return status;
        }
        types::traverse(this, visit, arg)
    }
}

unsafe extern "C" fn clear(this: Object) -> c_int {
    // SAFETY: owned references, each cleared before it is dropped.
    unsafe {
        let task = &*this.cast::<TaskObject>();
        task.drop_call();
        ffi::Py_XDECREF(task.value.replace(ptr::null_mut()));
        ffi::Py_XDECREF(task.error.replace(ptr::null_mut()));
        task.origin.clear();
        drop(task.links.take());
        types::clear(this)
    }
}

unsafe extern "C" fn dealloc(this: Object) {
    // SAFETY: the last reference is gone, unless the finalizer brings the object back. Each field
    // is dropped once, before the greenlet is.
    unsafe {
        if !types::finish(this) {
            return;
        }
        ffi::PyObject_GC_UnTrack(this.cast());
        let task = this.cast::<TaskObject>();
        (*task).drop_call();
        ffi::Py_XDECREF((*task).value.replace(ptr::null_mut()));
        ffi::Py_XDECREF((*task).error.replace(ptr::null_mut()));
        super::attributes::release_ident(&*task);
        ffi::Py_XDECREF((*task).described.replace(ptr::null_mut()));
        ffi::Py_XDECREF((*task).name.replace(ptr::null_mut()));
        (*task).origin.clear();
        drop((*task).stack.take());
        ptr::drop_in_place(&raw mut (*task).links);
        types::free(this);
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let mut slots = vec![
        slot(ffi::Py_tp_doc, DOC.as_ptr().cast_mut().cast()),
        slot(ffi::Py_tp_new, new as *mut c_void),
        slot(ffi::Py_tp_init, init as *mut c_void),
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        slot(ffi::Py_tp_clear, clear as *mut c_void),
        slot(ffi::Py_tp_repr, super::attributes::repr as *mut c_void),
        slot(ffi::Py_am_await, super::attributes::iterate_await as *mut c_void),
        slot(ffi::Py_nb_bool, super::attributes::truth as *mut c_void),
        slot(ffi::Py_tp_methods, (&raw const METHODS).cast_mut().cast()),
        slot(ffi::Py_tp_getset, (&raw const GETSET).cast_mut().cast()),
    ];
    let class = types::make_class(
        py,
        ClassSpec {
            name: c"greenloop.Greenlet",
            size: size_of::<TaskObject>(),
            flags: ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_BASETYPE | ffi::Py_TPFLAGS_HAVE_GC,
            base: types::greenlet_type(),
            slots: &mut slots,
        },
    )?;
    TASK_TYPE.store(class.as_ptr().cast(), Ordering::Relaxed);
    class.setattr("spawning_stack_limit", origin::DEFAULT_LIMIT)?;
    descriptors::attach(module, class.cast()?)?;
    module.add("Greenlet", class)
}
