//! Calls of Python code from the bottom of a greenlet's stack.
//!
//! Up to 3.13, CPython ends a daemon thread that wants the GIL while the interpreter goes down by
//! `pthread_exit`, which unwinds the stack. pyo3 declares the interpreter's functions as "C": code
//! that is not unwound through, for which the compiler makes frames that end the process if it
//! happens. Everything that Python code runs in for longer than a moment is called through these
//! declarations instead.

use pyo3::ffi::{self, PyObject};
use std::ptr;

type Vectorcall = unsafe extern "C-unwind" fn(
    *mut PyObject,
    *const *mut PyObject,
    usize,
    *mut PyObject,
) -> *mut PyObject;

#[allow(clashing_extern_declarations, reason = "that they may unwind is the difference")]
unsafe extern "C-unwind" {
    fn PyObject_CallNoArgs(callable: *mut PyObject) -> *mut PyObject;
    #[link_name = "PyObject_CallOneArg"]
    pub fn one_arg(callable: *mut PyObject, arg: *mut PyObject) -> *mut PyObject;
    fn PyObject_CallObject(callable: *mut PyObject, args: *mut PyObject) -> *mut PyObject;
    #[link_name = "PyObject_Call"]
    pub fn with_keywords(
        callable: *mut PyObject,
        args: *mut PyObject,
        kwargs: *mut PyObject,
    ) -> *mut PyObject;
    fn PyVectorcall_Function(callable: *mut PyObject) -> Option<Vectorcall>;
}

/// The code of a Python function, to be called without the interpreter's functions in between,
/// whose frames would be part of every parked greenlet. What those check besides holds for Python
/// functions: a result, or an exception.
///
/// # Safety
///
/// The GIL is held, `callable` is an object.
#[inline(always)]
unsafe fn python_function(callable: *mut PyObject) -> Option<Vectorcall> {
    // SAFETY: passed on from the caller.
    unsafe {
        if ptr::eq(ffi::Py_TYPE(callable), &raw const ffi::PyFunction_Type) {
            PyVectorcall_Function(callable)
        } else {
            None
        }
    }
}

/// Calls without arguments.
///
/// # Safety
///
/// The GIL is held, `callable` is an object that is owned during the call.
#[inline(always)]
pub unsafe fn no_args(callable: *mut PyObject) -> *mut PyObject {
    // SAFETY: passed on from the caller.
    unsafe {
        match python_function(callable) {
            Some(call) => call(callable, ptr::null(), 0, ptr::null_mut()),
            None => PyObject_CallNoArgs(callable),
        }
    }
}

/// Calls with a tuple of arguments.
///
/// # Safety
///
/// As for `no_args`; `args` is a tuple that is owned during the call.
#[inline(always)]
pub unsafe fn with_args(callable: *mut PyObject, args: *mut PyObject) -> *mut PyObject {
    // SAFETY: passed on from the caller; the items live as long as the tuple.
    unsafe {
        match python_function(callable) {
            Some(call) => {
                let items = (&raw const (*args.cast::<ffi::PyTupleObject>()).ob_item).cast();
                call(callable, items, ffi::PyTuple_GET_SIZE(args) as usize, ptr::null_mut())
            }
            None => PyObject_CallObject(callable, args),
        }
    }
}
