//! Calls of Python code from the bottom of a greenlet's stack.
//!
//! Up to 3.13, CPython ends a daemon thread that wants the GIL while the interpreter goes down by
//! `pthread_exit`, which unwinds the stack. pyo3 declares the interpreter's functions as "C": code
//! that is not unwound through, for which the compiler makes frames that end the process if it
//! happens. Everything that Python code runs in for longer than a moment is called through these
//! declarations instead.

use pyo3::ffi::PyObject;

#[allow(clashing_extern_declarations, reason = "that they may unwind is the difference")]
unsafe extern "C-unwind" {
    #[link_name = "PyObject_CallNoArgs"]
    pub fn no_args(callable: *mut PyObject) -> *mut PyObject;
    #[link_name = "PyObject_CallOneArg"]
    pub fn one_arg(callable: *mut PyObject, arg: *mut PyObject) -> *mut PyObject;
    #[link_name = "PyObject_CallObject"]
    pub fn with_args(callable: *mut PyObject, args: *mut PyObject) -> *mut PyObject;
    #[link_name = "PyObject_Call"]
    pub fn with_keywords(
        callable: *mut PyObject,
        args: *mut PyObject,
        kwargs: *mut PyObject,
    ) -> *mut PyObject;
}
