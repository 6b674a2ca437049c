//! Calls of Python code from the bottom of a greenlet's stack.

use pyo3::ffi::{self, PyObject};
use std::ptr;

/// The code of a Python function, to be called without the interpreter's functions in between,
/// whose frames would be part of every parked greenlet. What those check besides holds for Python
/// functions: a result, or an exception.
///
/// # Safety
///
/// The GIL is held, `callable` is an object.
#[inline(always)]
unsafe fn python_function(callable: *mut PyObject) -> Option<ffi::vectorcallfunc> {
    // SAFETY: passed on from the caller.
    unsafe {
        if ptr::eq(ffi::Py_TYPE(callable), &raw const ffi::PyFunction_Type) {
            ffi::PyVectorcall_Function(callable)
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
            None => ffi::PyObject_CallNoArgs(callable),
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
            None => ffi::PyObject_CallObject(callable, args),
        }
    }
}
