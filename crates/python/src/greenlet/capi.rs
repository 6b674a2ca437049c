//! The greenlet package's C interface: a table of pointers in a capsule.
//!
//! Extensions reach it by `PyCapsule_Import("greenlet._C_API", 0)`, which `PyGreenlet_Import()` of
//! `greenlet.h` stands for. What a place in the table means and the types of the functions are
//! compiled into extensions: neither can change. Ours is `python/greenloop/include/greenlet/greenlet.h`.

use super::attributes;
use super::exceptions;
use super::methods;
use super::object::{Payload, PyGreenlet, Status};
use super::switch;
use super::types;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

type Object = *mut ffi::PyObject;

const SIZE: usize = 12;

/// The table: pointers, as C sees it.
#[repr(transparent)]
struct Table([AtomicPtr<c_void>; SIZE]);

static TABLE: Table = Table([const { AtomicPtr::new(ptr::null_mut()) }; SIZE]);

/// The name that extensions ask for, and one that means greenloop whatever `greenlet` means.
const GREENLET_CAPSULE: &CStr = c"greenlet._C_API";
const GREENLOOP_CAPSULE: &CStr = c"greenloop._C_API";

/// Fills the table and puts the capsules into the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    // The class and the exceptions live as long as the process.
    let entries: [*mut c_void; SIZE] = [
        types::greenlet_type().cast(),
        exceptions::greenlet_error(py).as_ptr().cast(),
        exceptions::greenlet_exit(py).as_ptr().cast(),
        new as *mut c_void,
        get_current as *mut c_void,
        throw as *mut c_void,
        switch_to as *mut c_void,
        set_parent as *mut c_void,
        is_main as *mut c_void,
        is_started as *mut c_void,
        is_active as *mut c_void,
        get_parent as *mut c_void,
    ];
    for (place, entry) in TABLE.0.iter().zip(entries) {
        place.store(entry, Ordering::Relaxed);
    }
    module.add("_C_API", capsule(py, GREENLET_CAPSULE)?)?;
    module.add("_GREENLOOP_C_API", capsule(py, GREENLOOP_CAPSULE)?)
}

fn capsule<'py>(py: Python<'py>, name: &'static CStr) -> PyResult<Bound<'py, PyAny>> {
    let table = ptr::from_ref(&TABLE).cast_mut().cast::<c_void>();
    // SAFETY: the table and the name are static.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyCapsule_New(table, name.as_ptr(), None)) }
}

fn attached<'py>() -> Python<'py> {
    // SAFETY: extensions call with the GIL held.
    unsafe { Python::assume_attached() }
}

/// The greenlet an extension passed; None with TypeError set for NULL or another object.
///
/// # Safety
///
/// A valid object or null, which outlives the use of the result.
unsafe fn checked<'a>(object: Object) -> Option<&'a PyGreenlet> {
    if object.is_null() || !types::is_greenlet(object) {
        // SAFETY: the GIL is held.
        unsafe { ffi::PyErr_BadArgument() };
        return None;
    }
    // SAFETY: checked; as the caller guarantees.
    Some(unsafe { &*object.cast() })
}

// The functions that can run Python code are "C-unwind", see `call`.

/// `PyGreenlet *PyGreenlet_New(PyObject *run, PyGreenlet *parent)`
unsafe extern "C-unwind" fn new(run: Object, parent: Object) -> Object {
    // SAFETY: valid objects or null.
    unsafe { types::construct(types::greenlet_type(), run, parent) }
}

/// `PyGreenlet *PyGreenlet_GetCurrent(void)`
unsafe extern "C-unwind" fn get_current() -> Object {
    let py = attached();
    match super::getcurrent(py) {
        Ok(current) => current.into_ptr(),
        Err(error) => {
            error.restore(py);
            ptr::null_mut()
        }
    }
}

/// `PyObject *PyGreenlet_Throw(PyGreenlet *self, PyObject *typ, PyObject *val, PyObject *tb)`
unsafe extern "C-unwind" fn throw(this: Object, kind: Object, value: Object, tb: Object) -> Object {
    // SAFETY: valid objects or null, held by the caller.
    unsafe {
        let Some(greenlet) = checked(this) else {
            return ptr::null_mut();
        };
        if kind.is_null() {
            ffi::PyErr_BadArgument();
            return ptr::null_mut();
        }
        methods::throw_into(greenlet, kind, none_for_null(value), none_for_null(tb))
    }
}

fn none_for_null(object: Object) -> Object {
    // SAFETY: None lives forever.
    if object.is_null() { unsafe { ffi::Py_None() } } else { object }
}

/// `PyObject *PyGreenlet_Switch(PyGreenlet *self, PyObject *args, PyObject *kwargs)`
unsafe extern "C-unwind" fn switch_to(this: Object, args: Object, kwargs: Object) -> Object {
    // SAFETY: valid objects or null, held by the caller.
    unsafe {
        let Some(greenlet) = checked(this) else {
            return ptr::null_mut();
        };
        let thread = methods::prepare(greenlet);
        if thread.is_null() {
            return ptr::null_mut();
        }
        match payload(greenlet, args, kwargs) {
            Ok(payload) => switch::switch(&*thread, greenlet.as_greenlet(), payload),
            Err(error) => {
                error.restore(attached());
                ptr::null_mut()
            }
        }
    }
}

/// What the arguments of `PyGreenlet_Switch` bring: `args` may be null, and `kwargs` is left out
/// unless it is a dict.
///
/// # Safety
///
/// Valid objects or null.
unsafe fn payload(greenlet: &PyGreenlet, args: Object, kwargs: Object) -> PyResult<Payload> {
    // SAFETY: as the caller guarantees; new references are taken.
    unsafe {
        if !args.is_null() && ffi::PyTuple_Check(args) == 0 {
            // The greenlet package hands it to one that has started as it is. It is no argument
            // list, though.
            if greenlet.status.get() == Status::Unstarted {
                return Err(PyTypeError::new_err("argument list must be a tuple"));
            }
            ffi::Py_INCREF(args);
            return Ok(Payload::Value(args));
        }
        if kwargs.is_null() || ffi::PyDict_Check(kwargs) == 0 || ffi::PyDict_Size(kwargs) == 0 {
            ffi::Py_XINCREF(args);
            return Ok(Payload::Args(args));
        }
        let pair = ffi::PyTuple_New(2);
        if pair.is_null() {
            return Err(PyErr::fetch(attached()));
        }
        let args = if args.is_null() {
            ffi::PyTuple_New(0)
        } else {
            ffi::Py_INCREF(args);
            args
        };
        ffi::Py_INCREF(kwargs);
        ffi::PyTuple_SET_ITEM(pair, 0, args);
        ffi::PyTuple_SET_ITEM(pair, 1, kwargs);
        Ok(Payload::Keywords(pair))
    }
}

/// `int PyGreenlet_SetParent(PyGreenlet *self, PyGreenlet *parent)`
unsafe extern "C-unwind" fn set_parent(this: Object, parent: Object) -> c_int {
    // SAFETY: valid objects or null; `set_parent` checks the parent.
    unsafe {
        match checked(this) {
            Some(_) => attributes::set_parent(this, parent, ptr::null_mut()),
            None => -1,
        }
    }
}

/// `PyGreenlet *PyGreenlet_GetParent(PyGreenlet *self)`: null without an exception for a main
/// greenlet.
unsafe extern "C-unwind" fn get_parent(this: Object) -> Object {
    // SAFETY: valid objects or null.
    unsafe {
        let parent = checked(this).map_or(ptr::null_mut(), |greenlet| greenlet.parent.get());
        ffi::Py_XINCREF(parent.cast());
        parent.cast()
    }
}

/// A predicate's answer in C: -1 with an exception set if it is no greenlet.
///
/// # Safety
///
/// A valid object or null.
unsafe fn answer(this: Object, question: impl FnOnce(&PyGreenlet) -> bool) -> c_int {
    // SAFETY: as the caller guarantees.
    unsafe { checked(this) }.map_or(-1, |greenlet| c_int::from(question(greenlet)))
}

/// `int PyGreenlet_MAIN(PyGreenlet *self)`
unsafe extern "C-unwind" fn is_main(this: Object) -> c_int {
    // SAFETY: a valid object or null.
    unsafe { answer(this, PyGreenlet::is_main) }
}

/// `int PyGreenlet_STARTED(PyGreenlet *self)`: ended ones count as started.
unsafe extern "C-unwind" fn is_started(this: Object) -> c_int {
    // SAFETY: a valid object or null.
    unsafe { answer(this, |greenlet| greenlet.status.get() != Status::Unstarted) }
}

/// `int PyGreenlet_ACTIVE(PyGreenlet *self)`
unsafe extern "C-unwind" fn is_active(this: Object) -> c_int {
    // SAFETY: a valid object or null.
    unsafe {
        answer(this, |greenlet| {
            greenlet.status.get() == Status::Active && !attributes::has_ended(greenlet)
        })
    }
}
