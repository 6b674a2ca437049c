//! Methods that are called without a tuple of arguments, put on classes that exist.

use crate::net::arguments::Call;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ptr;

type Object = *mut ffi::PyObject;

/// A table of methods: of each its name, its parameters and how many of them have to be given, its
/// documentation, and the function that it is. That gets the receiver and the arguments in the order of
/// the parameters, null where they were not given.
macro_rules! methods {
    ($table:ident: $(
        $name:literal ($($parameter:ident),*; $required:literal) = $body:expr, $doc:literal;
    )*) => {
        static $table: $crate::greenlet::methods::MethodTable<{ [$($name),*].len() }> =
            $crate::greenlet::methods::MethodTable::new([$(
                $crate::greenlet::methods::fast_keywords(
                    $name,
                    $crate::greenlet::methods::vectorcall!(|this, values, count, names| {
                        let name = const { $crate::greenlet::methods::text($name) };
                        let known = (name, [$(stringify!($parameter)),*], $required);
                        let given = (values, count, names);
                        // SAFETY: passed on from the interpreter.
                        unsafe { $crate::aio::methods::method(&this, given, known, $body) }
                    }),
                    $doc,
                )
            ),*]);
    };
}
pub(crate) use methods;

/// An argument that was given.
#[inline]
pub fn given<'a, 'py>(py: Python<'py>, argument: &'a Object) -> &'a Bound<'py, PyAny> {
    // SAFETY: arguments are alive during the call.
    unsafe { Bound::ref_from_ptr(py, argument) }
}

/// A method: receiver, arguments by name, and what it does.
///
/// # Safety
///
/// The vectorcall convention.
#[inline]
pub unsafe fn method<'py, const N: usize>(
    this: &'py Object,
    (values, count, names): (*const Object, ffi::Py_ssize_t, Object),
    (function, parameters, required): (&str, [&str; N], usize),
    body: impl FnOnce(&'py Bound<'py, PyAny>, [Object; N]) -> PyResult<Py<PyAny>>,
) -> Object {
    let call = Call { values, count: count as usize, names };
    // SAFETY: methods are called with the GIL held; as the caller guarantees.
    let (py, result) = unsafe {
        let py = Python::assume_attached();
        let slf = Bound::ref_from_ptr(py, this);
        let sorted = call.sort(function, parameters, required);
        (py, sorted.and_then(|sorted| body(slf, sorted)))
    };
    match result {
        Ok(object) => object.into_ptr(),
        Err(error) => {
            error.restore(py);
            ptr::null_mut()
        }
    }
}
