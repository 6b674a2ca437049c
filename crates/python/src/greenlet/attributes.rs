//! Attributes of greenlets.

use super::object::{PyGreenlet, Status};
use super::thread::Thread;
use super::types::{self, is_greenlet};
use crate::pystate;
use pyo3::exceptions::{PyAttributeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;
use std::ffi::{CStr, c_int, c_void};
use std::ptr;

type Object = *mut ffi::PyObject;

/// A table that the interpreter reads and never writes.
#[repr(transparent)]
pub struct GetSetTable<const N: usize>([ffi::PyGetSetDef; N]);

// SAFETY: never written; the pointers in it are to static strings and functions.
unsafe impl<const N: usize> Sync for GetSetTable<N> {}

impl<const N: usize> GetSetTable<N> {
    pub const fn new(entries: [ffi::PyGetSetDef; N]) -> Self {
        Self(entries)
    }

    /// Puts the attributes on a class that exists.
    pub fn attach(&'static self, class: &Bound<'_, PyType>) -> PyResult<()> {
        for entry in &self.0 {
            // SAFETY: a static entry, which is not changed; a class.
            let (name, descriptor) = unsafe {
                let entry = ptr::from_ref(entry).cast_mut();
                let descriptor = ffi::PyDescr_NewGetSet(class.as_ptr().cast(), entry);
                let descriptor = Bound::from_owned_ptr_or_err(class.py(), descriptor)?;
                (CStr::from_ptr((*entry).name), descriptor)
            };
            class.setattr(name.to_str().expect("ASCII"), descriptor)?;
        }
        Ok(())
    }
}

pub const fn attribute(
    name: &'static CStr,
    get: ffi::getter,
    set: Option<ffi::setter>,
    doc: &'static CStr,
) -> ffi::PyGetSetDef {
    ffi::PyGetSetDef {
        name: name.as_ptr(),
        get: Some(get),
        set,
        doc: doc.as_ptr(),
        closure: ptr::null_mut(),
    }
}

pub const END: ffi::PyGetSetDef = ffi::PyGetSetDef {
    name: ptr::null(),
    get: None,
    set: None,
    doc: ptr::null(),
    closure: ptr::null_mut(),
};

pub static GETSET: GetSetTable<9> = GetSetTable::new([
    attribute(c"__dict__", get_dict, Some(set_dict), c"Attributes set on this greenlet."),
    attribute(c"run", get_run, Some(set_run), c"What the first switch calls; gone once started."),
    attribute(
        c"parent",
        get_parent,
        Some(set_parent),
        c"The greenlet that goes on when this one ends; None for a main greenlet.",
    ),
    attribute(
        c"gr_frame",
        get_frame,
        None,
        c"The innermost frame while suspended, None otherwise.",
    ),
    attribute(
        c"gr_context",
        get_context,
        Some(set_context),
        c"The contextvars.Context that this greenlet runs in; None for an empty one.",
    ),
    attribute(c"dead", get_dead, None, c"Whether the greenlet has ended."),
    attribute(
        c"_stack_saved",
        get_stack_saved,
        None,
        c"Bytes of this greenlet's stack that are copied to the heap at present.",
    ),
    attribute(
        c"_greenlet__started",
        get_started,
        None,
        c"Whether the greenlet has been switched to, ended ones included.",
    ),
    END,
]);

/// The greenlet behind `self`.
///
/// # Safety
///
/// The interpreter checked that `this` is a greenlet.
unsafe fn greenlet<'a>(this: Object) -> &'a PyGreenlet {
    // SAFETY: as the caller guarantees.
    unsafe { &*this.cast() }
}

fn attached<'py>() -> Python<'py> {
    // SAFETY: the interpreter calls getters and setters with the GIL held.
    unsafe { Python::assume_attached() }
}

fn new_reference(object: Object) -> Object {
    // SAFETY: a valid object.
    unsafe { ffi::Py_INCREF(object) };
    object
}

fn none() -> Object {
    // SAFETY: None lives forever.
    new_reference(unsafe { ffi::Py_None() })
}

fn truth(value: bool) -> Object {
    // SAFETY: True and False live forever.
    new_reference(unsafe { if value { ffi::Py_True() } else { ffi::Py_False() } })
}

fn fail(error: PyErr) -> c_int {
    error.restore(attached());
    -1
}

unsafe extern "C" fn get_dict(this: Object, closure: *mut c_void) -> Object {
    // SAFETY: the type has a dict offset.
    unsafe { ffi::PyObject_GenericGetDict(this, closure) }
}

unsafe extern "C" fn set_dict(this: Object, value: Object, closure: *mut c_void) -> c_int {
    // SAFETY: the type has a dict offset.
    unsafe { ffi::PyObject_GenericSetDict(this, value, closure) }
}

#[cold]
fn no_run_of_main() -> Object {
    PyAttributeError::new_err("Main greenlets do not have a run attribute.").restore(attached());
    ptr::null_mut()
}

unsafe extern "C" fn get_run(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `greenlet`.
    let greenlet = unsafe { greenlet(this) };
    if greenlet.is_main() {
        return no_run_of_main();
    }
    let run = greenlet.run.get();
    if greenlet.status.get() != Status::Unstarted || run.is_null() {
        PyAttributeError::new_err("run").restore(attached());
        return ptr::null_mut();
    }
    new_reference(run)
}

pub unsafe extern "C" fn set_run(this: Object, value: Object, _: *mut c_void) -> c_int {
    // SAFETY: see `greenlet`.
    let greenlet = unsafe { greenlet(this) };
    if greenlet.is_main() {
        no_run_of_main();
        return -1;
    }
    if greenlet.status.get() != Status::Unstarted {
        return fail(PyAttributeError::new_err(
            "run cannot be set after the start of the greenlet",
        ));
    }
    // SAFETY: a valid object or null; the old reference is dropped after it was replaced.
    unsafe {
        ffi::Py_XINCREF(value);
        ffi::Py_XDECREF(greenlet.run.replace(value));
    }
    0
}

unsafe extern "C" fn get_parent(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `greenlet`.
    let parent = unsafe { greenlet(this) }.parent.get();
    if parent.is_null() { none() } else { new_reference(parent.cast()) }
}

pub unsafe extern "C" fn set_parent(this: Object, value: Object, _: *mut c_void) -> c_int {
    // SAFETY: see `greenlet`.
    let child = unsafe { greenlet(this) };
    if value.is_null() {
        return fail(PyAttributeError::new_err("can't delete attribute"));
    }
    if child.is_main() {
        return fail(PyAttributeError::new_err("cannot set the parent of a main greenlet"));
    }
    if !is_greenlet(value) {
        // SAFETY: a valid object.
        let kind = unsafe { CStr::from_ptr((*ffi::Py_TYPE(value)).tp_name) };
        return fail(PyTypeError::new_err(format!(
            "GreenletChecker: Expected any type of greenlet, not {}",
            kind.to_string_lossy()
        )));
    }
    // SAFETY: checked to be a greenlet.
    let parent = unsafe { greenlet(value) };
    let oldest = parent.oldest_ancestor(child);
    if ptr::eq(oldest, child) {
        return fail(PyValueError::new_err("cyclic parent chain"));
    }
    if !oldest.is_main() {
        return fail(PyValueError::new_err("parent must not be garbage collected"));
    }
    let thread = parent.thread_by_descent();
    if thread != child.thread.get() {
        if child.status.get() != Status::Unstarted {
            return fail(PyValueError::new_err("parent cannot be on a different thread"));
        }
        // One that has not started belongs where its parent does.
        // SAFETY: a greenlet keeps its thread's record alive.
        unsafe { Thread::move_to(child, thread) };
    }
    // SAFETY: as above; the old reference is dropped after it was replaced.
    unsafe {
        ffi::Py_INCREF(value);
        ffi::Py_XDECREF(child.parent.replace(value.cast()).cast());
    }
    0
}

unsafe extern "C" fn get_frame(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `greenlet`.
    let greenlet = unsafe { greenlet(this) };
    if !greenlet.is_suspended() {
        return none();
    }
    let frame = greenlet.suspended_frame();
    if frame.is_null() { none() } else { frame }
}

unsafe extern "C" fn get_context(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `greenlet`.
    let greenlet = unsafe { greenlet(this) };
    let context = if greenlet.is_running() {
        // SAFETY: a running greenlet has a thread.
        let thread = unsafe { &*greenlet.thread.get() };
        if !thread.is_calling() {
            fail(PyValueError::new_err(
                "cannot get context of a greenlet that is running in a different thread",
            ));
            return ptr::null_mut();
        }
        // SAFETY: the calling thread's state.
        unsafe { pystate::running_context(thread.state()) }
    } else {
        greenlet.py.context()
    };
    if context.is_null() { none() } else { new_reference(context) }
}

unsafe extern "C" fn set_context(this: Object, value: Object, _: *mut c_void) -> c_int {
    // SAFETY: see `greenlet`.
    let greenlet = unsafe { greenlet(this) };
    if value.is_null() {
        return fail(PyAttributeError::new_err("can't delete context attribute"));
    }
    // SAFETY: a valid object.
    let context = unsafe {
        if value == ffi::Py_None() {
            ptr::null_mut()
        } else if ffi::PyContext_CheckExact(value) != 0 {
            new_reference(value)
        } else {
            return fail(PyTypeError::new_err(
                "greenlet context must be a contextvars.Context or None",
            ));
        }
    };
    // SAFETY: owned references; the old one is dropped after it was replaced.
    unsafe {
        let old = if greenlet.is_running() {
            let thread = &*greenlet.thread.get();
            if !thread.is_calling() {
                ffi::Py_XDECREF(context);
                return fail(PyValueError::new_err(
                    "cannot set context of a greenlet that is running in a different thread",
                ));
            }
            pystate::replace_running_context(thread.state(), context)
        } else {
            greenlet.py.replace_context(context)
        };
        ffi::Py_XDECREF(old);
    }
    0
}

unsafe extern "C" fn get_dead(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `greenlet`.
    let greenlet = unsafe { greenlet(this) };
    let ended = has_ended(greenlet);
    if ended {
        // One that cannot go on is not suspended any more once that has been told.
        // SAFETY: it is dead, or its thread has ended.
        unsafe { types::give_up(greenlet) };
    }
    truth(ended)
}

/// Whether a greenlet has ended, or can never go on because its thread has.
pub fn has_ended(greenlet: &PyGreenlet) -> bool {
    let thread = greenlet.thread.get();
    match greenlet.status.get() {
        Status::Dead => true,
        Status::Unstarted => false,
        // SAFETY: a greenlet keeps its thread's record alive.
        Status::Active => !thread.is_null() && unsafe { (*thread).has_ended() },
    }
}

unsafe extern "C" fn get_started(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `greenlet`.
    truth(unsafe { greenlet(this) }.status.get() != Status::Unstarted)
}

unsafe extern "C" fn get_stack_saved(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `greenlet`; makes an int.
    unsafe { ffi::PyLong_FromSize_t(greenlet(this).co.copied_bytes()) }
}

/// The truth value of a greenlet: started and not ended.
///
/// # Safety
///
/// Called by the interpreter with a greenlet.
pub unsafe extern "C" fn is_active(this: Object) -> c_int {
    // SAFETY: see `greenlet`.
    let greenlet = unsafe { greenlet(this) };
    c_int::from(greenlet.status.get() == Status::Active && !has_ended(greenlet))
}

/// `<greenlet.greenlet object at 0x... (otid=0x...) suspended active started>` and the like.
///
/// # Safety
///
/// Called by the interpreter with a greenlet.
pub unsafe extern "C" fn repr(this: Object) -> Object {
    // SAFETY: see `greenlet`.
    let greenlet = unsafe { greenlet(this) };
    // SAFETY: type names are C strings.
    let kind = unsafe { CStr::from_ptr((*ffi::Py_TYPE(this)).tp_name) }.to_string_lossy();
    let thread = greenlet.thread.get();
    let state = if has_ended(greenlet) {
        // SAFETY: a greenlet keeps its thread's record alive.
        let thread_ended = !thread.is_null() && unsafe { (*thread).has_ended() };
        if thread_ended { " (thread exited) dead" } else { " dead" }.to_owned()
    } else {
        // What runs in another thread is not the current one here.
        let place = if greenlet.is_running() && Thread::is_current(thread) {
            " current"
        } else if greenlet.status.get() == Status::Active {
            " suspended"
        } else {
            " pending"
        };
        let active = if greenlet.status.get() == Status::Active { " active started" } else { "" };
        let main = if greenlet.is_main() { " main" } else { "" };
        format!("{place}{active}{main}")
    };
    let text = format!("<{kind} object at {this:p} (otid={thread:p}){state}>");
    pyo3::types::PyString::new(attached(), &text).into_ptr()
}
