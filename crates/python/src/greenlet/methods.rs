//! `switch`, `throw` and the other methods.

use super::exceptions;
use super::object::{Payload, PyGreenlet, Status};
use super::switch;
use super::thread::Thread;
use super::types::greenlet_type;
use crate::hub::shield;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;
use std::ffi::CStr;
use std::ptr;

const SWITCH_DOC: &CStr = c"switch(*args, **kwargs)
--

Switches to this greenlet and returns what is passed to the switch that comes back.

In a greenlet that has not started the arguments are passed to run. In one that has, its own
switch() returns them: one argument as it is, several as a tuple, keywords as a dict, both as a
pair; none as an empty tuple.

A dead greenlet passes them on to its parent. greenlet.error is raised for a greenlet of another
thread.";

const THROW_DOC: &CStr = c"throw(typ=GreenletExit, val=None, tb=None)
--

Switches to this greenlet and raises an exception there at once.

typ: an exception class or instance. val: the value, if typ is a class. tb: a traceback.
In a greenlet that has not started, run is not called: the exception goes to the parent, and
GreenletExit is returned by the parent's switch as a value.";

const GETSTATE_DOC: &CStr = c"__getstate__()
--

Greenlets cannot be pickled or copied: raises TypeError.";

/// A table that the interpreter reads and never writes.
#[repr(transparent)]
pub struct MethodTable<const N: usize>([ffi::PyMethodDef; N]);

// SAFETY: never written; the pointers in it are to static strings and functions.
unsafe impl<const N: usize> Sync for MethodTable<N> {}

impl<const N: usize> MethodTable<N> {
    pub const fn new(methods: [ffi::PyMethodDef; N]) -> Self {
        Self(methods)
    }

    /// Puts the methods on a class that exists.
    pub fn attach(&'static self, class: &Bound<'_, PyType>) -> PyResult<()> {
        for entry in &self.0 {
            if entry.ml_name.is_null() {
                // What ends tables of classes that are made with them.
                break;
            }
            // SAFETY: a static entry, which is not changed; a class.
            let (name, method) = unsafe {
                let entry = ptr::from_ref(entry).cast_mut();
                let method = ffi::PyDescr_NewMethod(class.as_ptr().cast(), entry);
                let method = Bound::from_owned_ptr_or_err(class.py(), method)?;
                (CStr::from_ptr((*entry).ml_name), method)
            };
            class.setattr(name.to_str().expect("ASCII"), method)?;
        }
        Ok(())
    }
}

pub static METHODS: MethodTable<4> = MethodTable::new([
    fast_keywords(c"switch", switch_method, SWITCH_DOC),
    ffi::PyMethodDef {
        ml_name: c"throw".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: throw_method },
        ml_flags: ffi::METH_VARARGS,
        ml_doc: THROW_DOC.as_ptr(),
    },
    ffi::PyMethodDef {
        ml_name: c"__getstate__".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: getstate },
        ml_flags: ffi::METH_NOARGS,
        ml_doc: GETSTATE_DOC.as_ptr(),
    },
    ffi::PyMethodDef::zeroed(),
]);

/// A method that takes its arguments without a tuple.
pub const fn fast_keywords(
    name: &'static CStr,
    method: ffi::PyCFunctionFastWithKeywords,
    doc: &'static CStr,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: method },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: doc.as_ptr(),
    }
}

/// What `fast_keywords` takes: a function of the receiver, the positional arguments with the named ones
/// behind them, the number of the positional ones, and the names.
macro_rules! vectorcall {
    (|$this:ident, $values:ident, $count:ident, $names:ident| $body:expr) => {{
        unsafe extern "C" fn entry(
            $this: *mut ::pyo3::ffi::PyObject,
            $values: *const *mut ::pyo3::ffi::PyObject,
            $count: ::pyo3::ffi::Py_ssize_t,
            $names: *mut ::pyo3::ffi::PyObject,
        ) -> *mut ::pyo3::ffi::PyObject {
            $body
        }
        entry
    }};
}
pub(crate) use vectorcall;

/// The name of a method as text.
pub const fn text(name: &'static CStr) -> &'static str {
    match name.to_str() {
        Ok(text) => text,
        Err(_) => panic!("names are ASCII"),
    }
}

/// The dict of keyword arguments: a new reference, null if there are none.
///
/// # Safety
///
/// `values` holds one argument for each of `names`, a tuple or null.
pub unsafe fn keywords(
    values: *const *mut ffi::PyObject,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    if names.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: as the caller guarantees.
    unsafe {
        let count = ffi::PyTuple_GET_SIZE(names);
        if count == 0 {
            return ptr::null_mut();
        }
        let dict = ffi::PyDict_New();
        for index in 0..count {
            let name = ffi::PyTuple_GET_ITEM(names, index);
            ffi::PyDict_SetItem(dict, name, *values.add(index as usize));
        }
        dict
    }
}

/// The payload for positional and keyword arguments, given to a started greenlet or not.
///
/// # Safety
///
/// The vectorcall convention: `count` arguments, then one for each name.
#[inline]
pub unsafe fn payload(
    args: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
) -> Payload {
    if names.is_null() && count == 0 {
        return Payload::no_args();
    }
    // SAFETY: as the caller guarantees; new references are taken.
    unsafe {
        if names.is_null() && count == 1 {
            // One argument means the same to a started and to a fresh greenlet.
            let only = *args;
            ffi::Py_INCREF(only);
            return Payload::Value(only);
        }
        packed_payload(args, count, names)
    }
}

/// # Safety
///
/// As for `payload`.
#[inline(never)]
unsafe fn packed_payload(
    args: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
) -> Payload {
    // SAFETY: as the caller guarantees; new references are taken.
    unsafe {
        let kwargs = keywords(args.add(count), names);
        let tuple = ffi::PyTuple_New(count as ffi::Py_ssize_t);
        for index in 0..count {
            let item = *args.add(index);
            ffi::Py_INCREF(item);
            ffi::PyTuple_SET_ITEM(tuple, index as ffi::Py_ssize_t, item);
        }
        if kwargs.is_null() {
            return Payload::Args(tuple);
        }
        let pair = ffi::PyTuple_New(2);
        ffi::PyTuple_SET_ITEM(pair, 0, tuple);
        ffi::PyTuple_SET_ITEM(pair, 1, kwargs);
        Payload::Keywords(pair)
    }
}

/// The calling thread's record, if the greenlet may be switched to from it.
pub fn thread_for<'a>(py: Python<'_>, greenlet: &PyGreenlet) -> PyResult<&'a Thread> {
    Thread::follow_ancestors(greenlet);
    let thread = greenlet.thread.get();
    if Thread::is_current(thread) {
        // SAFETY: it is the calling thread's record.
        return Ok(unsafe { &*thread });
    }
    Err(other_thread_error(py, greenlet))
}

/// The error of a switch to a greenlet that does not belong to the calling thread.
#[cold]
pub fn other_thread_error(py: Python<'_>, greenlet: &PyGreenlet) -> PyErr {
    let message = || -> PyResult<String> {
        // SAFETY: a greenlet keeps its thread's record alive.
        let thread = unsafe { greenlet.thread.get().as_ref() };
        let Some(thread) = thread.filter(|thread| !thread.has_ended()) else {
            return Ok("cannot switch to a different thread (which happens to have exited)".into());
        };
        // SAFETY: a living thread's main greenlet is alive.
        let main = |thread: &Thread| unsafe { Bound::from_borrowed_ptr(py, thread.main().cast()) };
        Ok(format!(
            "Cannot switch to a different thread\n\tCurrent:  {}\n\tExpected: {}",
            main(Thread::get(py)?).repr()?,
            main(thread).repr()?
        ))
    };
    message().map_or_else(|error| error, |message| exceptions::error(py, message))
}

/// Whether there is no need to look up `run`. Greenlets with a body of their own (tasks, hubs) have
/// none. Elsewhere a subclass may define one, which goes before what the constructor was given.
#[inline]
fn knows_what_to_run(greenlet: &PyGreenlet) -> bool {
    // SAFETY: a valid object.
    let is_exact = unsafe { ffi::Py_TYPE(greenlet.as_ptr()) } == greenlet_type();
    !greenlet.is_raw() || (is_exact && !greenlet.run.get().is_null())
}

/// Looks up `run` for a greenlet that is about to start, as an attribute: a subclass defines it,
/// or the constructor was given it. With the greenlet package, too, a missing `run` is an error
/// of the switch and leaves the greenlet unstarted.
pub fn ensure_run(py: Python<'_>, thread: &Thread, greenlet: &PyGreenlet) -> PyResult<()> {
    if knows_what_to_run(greenlet) {
        return Ok(());
    }
    // SAFETY: a valid object and name.
    let run = unsafe { ffi::PyObject_GetAttrString(greenlet.as_ptr(), c"run".as_ptr()) };
    if run.is_null() {
        return Err(PyErr::fetch(py));
    }
    if greenlet.status.get() != Status::Unstarted {
        // The look-up ran code that started the greenlet.
        // SAFETY: the new reference from above.
        unsafe { ffi::Py_DECREF(run) };
        return Ok(());
    }
    let old = greenlet.run.replace(run);
    if ptr::eq(old, run) {
        // SAFETY: not the last reference.
        unsafe { ffi::Py_DECREF(old) };
    } else if !old.is_null() {
        // The constructor was given something else. That is dropped by the greenlet itself, before
        // it calls what it is to run.
        thread.leave_over(old);
    }
    Ok(())
}

unsafe extern "C" fn switch_method(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter passes a greenlet and arguments by the vectorcall convention.
    unsafe {
        let greenlet = &*this.cast::<PyGreenlet>();
        let mut thread = greenlet.thread.get();
        // Whatever needs more stack than this is out of line: this frame is part of every parked
        // greenlet.
        if greenlet.status.get() != Status::Active || !Thread::is_current(thread) {
            thread = prepare(greenlet);
            if thread.is_null() {
                return ptr::null_mut();
            }
        }
        switch::switch(&*thread, this.cast(), payload(args, count as usize, names))
    }
}

/// Checks that a greenlet can be switched to, and finds what it, or the ancestor that a dead one
/// stands for, is to run.
fn find_thread_and_run<'a>(py: Python<'_>, greenlet: &PyGreenlet) -> PyResult<&'a Thread> {
    let thread = thread_for(py, greenlet)?;
    if greenlet.status.get() == Status::Unstarted && knows_what_to_run(greenlet) {
        return Ok(thread);
    }
    // SAFETY: a valid object; held because looking up `run` can run anything.
    let hold = |greenlet: &PyGreenlet| unsafe { Bound::from_borrowed_ptr(py, greenlet.as_ptr()) };
    let mut held = hold(greenlet);
    loop {
        // SAFETY: a greenlet.
        let target = unsafe { &*held.as_ptr().cast::<PyGreenlet>() };
        match target.status.get() {
            Status::Active => return Ok(thread),
            Status::Unstarted => {
                ensure_run(py, thread, target)?;
                if target.status.get() == Status::Unstarted {
                    return thread_for(py, target).inspect_err(|_| thread.drop_leftovers());
                }
            }
            // SAFETY: parents are owned by their children.
            Status::Dead => match unsafe { target.parent.get().as_ref() } {
                Some(parent) => held = hold(parent),
                None => return Ok(thread),
            },
        }
    }
}

/// As `find_thread_and_run`: null with an exception set if that fails.
#[inline(never)]
pub fn prepare(greenlet: &PyGreenlet) -> *const Thread {
    // SAFETY: the GIL is held.
    let py = unsafe { Python::assume_attached() };
    match find_thread_and_run(py, greenlet) {
        Ok(thread) => thread,
        Err(error) => {
            error.restore(py);
            ptr::null()
        }
    }
}

unsafe extern "C" fn throw_method(
    this: *mut ffi::PyObject,
    args: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter passes a greenlet and a tuple; three places for three objects, which
    // the tuple holds.
    unsafe {
        let mut kind = exceptions::greenlet_exit(Python::assume_attached()).as_ptr();
        let mut value = ffi::Py_None();
        let mut traceback = value;
        if ffi::PyArg_ParseTuple(
            args,
            c"|OOO:throw".as_ptr(),
            &raw mut kind,
            &raw mut value,
            &raw mut traceback,
        ) == 0
        {
            return ptr::null_mut();
        }
        throw_into(&*this.cast(), kind, value, traceback)
    }
}

/// Switches to a greenlet and raises there; see `instance_from` for the arguments. As
/// `switch::switch`, returns a new reference, or null with an exception set.
///
/// # Safety
///
/// Valid objects; the GIL is held. The caller keeps no borrow alive that code in another greenlet
/// could reach.
pub unsafe fn throw_into(
    greenlet: &PyGreenlet,
    kind: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    traceback: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as the caller guarantees.
    unsafe {
        let py = Python::assume_attached();
        let thrown = instance_from(
            &Bound::from_borrowed_ptr(py, kind),
            &Bound::from_borrowed_ptr(py, value),
            &Bound::from_borrowed_ptr(py, traceback),
        );
        match thrown.and_then(|error| Ok((error, find_thread_and_run(py, greenlet)?))) {
            Ok((error, thread)) => {
                let error = error.into_ptr();
                if shield::hold_throw(thread, greenlet, error) {
                    ffi::Py_INCREF(ffi::Py_None());
                    return ffi::Py_None();
                }
                switch::switch(thread, greenlet.as_greenlet(), Payload::Throw(error))
            }
            Err(error) => {
                error.restore(py);
                ptr::null_mut()
            }
        }
    }
}

/// An exception instance from a class or instance, a value and a traceback, as `raise` would
/// make it. If making it fails, it is the exception of that failure.
///
/// # Errors
///
/// TypeError for arguments that cannot describe an exception.
pub fn instance_from<'py>(
    kind: &Bound<'py, PyAny>,
    value: &Bound<'py, PyAny>,
    traceback: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = kind.py();
    // SAFETY: type checks on valid objects.
    let (is_traceback, is_class, is_instance) = unsafe {
        (
            ffi::PyTraceBack_Check(traceback.as_ptr()) != 0,
            ffi::PyExceptionClass_Check(kind.as_ptr()) != 0,
            ffi::PyExceptionInstance_Check(kind.as_ptr()) != 0,
        )
    };
    if !traceback.is_none() && !is_traceback {
        return Err(PyTypeError::new_err("throw() third argument must be a traceback object"));
    }
    let instance = if is_class {
        // As PyErr_NormalizeException: an instance of the class is taken as it is, a tuple gives
        // the arguments, None gives none.
        let made = if value.is_instance(kind)? {
            Ok(value.clone())
        } else if value.is_none() {
            kind.call0()
        } else if let Ok(args) = value.cast::<pyo3::types::PyTuple>() {
            kind.call1(args)
        } else {
            kind.call1((value,))
        };
        made.unwrap_or_else(|error| error.into_value(py).into_bound(py).into_any())
    } else if is_instance {
        if !value.is_none() {
            return Err(PyTypeError::new_err("instance exception may not have a separate value"));
        }
        kind.clone()
    } else {
        return Err(PyTypeError::new_err(format!(
            "exceptions must be classes, or instances, not {}",
            kind.get_type().name()?
        )));
    };
    // SAFETY: a class can return anything from its constructor.
    if unsafe { ffi::PyExceptionInstance_Check(instance.as_ptr()) } == 0 {
        return Err(PyTypeError::new_err(format!(
            "calling {} should have returned an instance of BaseException, not {}",
            kind.repr()?,
            instance.get_type().name()?
        )));
    }
    if is_traceback {
        // SAFETY: an exception instance and a traceback.
        if unsafe { ffi::PyException_SetTraceback(instance.as_ptr(), traceback.as_ptr()) } != 0 {
            return Err(PyErr::fetch(py));
        }
    }
    Ok(instance)
}

unsafe extern "C" fn getstate(
    this: *mut ffi::PyObject,
    _unused: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: a valid object; the format takes a C string.
    unsafe {
        ffi::PyErr_Format(
            ffi::PyExc_TypeError,
            c"cannot serialize '%s' object".as_ptr(),
            (*ffi::Py_TYPE(this)).tp_name,
        );
    }
    ptr::null_mut()
}
