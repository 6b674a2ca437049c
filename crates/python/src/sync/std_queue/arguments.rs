//! The arguments of the methods. What is not usual is left to the standard method, errors included.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyString, PyTuple};
use std::ptr;

type Object = *mut ffi::PyObject;

/// The arguments of one call.
pub struct Call {
    pub values: *const Object,
    pub count: usize,
    pub names: Object,
}

impl Call {
    /// The arguments in the order of `parameters`, null where not given; None if they do not fit.
    #[inline]
    pub fn sort<const N: usize>(
        &self,
        py: Python<'_>,
        parameters: [&Bound<'_, PyString>; N],
    ) -> Option<[Object; N]> {
        let mut sorted = [ptr::null_mut(); N];
        if self.count > N {
            return None;
        }
        // SAFETY: the vectorcall convention: `count` objects, and one for each name of the tuple.
        unsafe {
            for (index, place) in sorted.iter_mut().enumerate().take(self.count) {
                *place = *self.values.add(index);
            }
            if !self.names.is_null() {
                let names =
                    Bound::from_borrowed_ptr(py, self.names).cast_into_unchecked::<PyTuple>();
                for (index, name) in names.iter_borrowed().enumerate() {
                    // Names in the program's text are interned, as those here are.
                    let place = parameters.iter().position(|parameter| parameter.is(name))?;
                    if !sorted[place].is_null() {
                        return None;
                    }
                    sorted[place] = *self.values.add(self.count + index);
                }
            }
        }
        Some(sorted)
    }
}

/// What `block` says; None for what may run Python code to say it.
#[inline]
pub fn truth(py: Python<'_>, block: Object) -> Option<bool> {
    if block.is_null() {
        return Some(true);
    }
    // SAFETY: arguments are alive during the call.
    let block = unsafe { Bound::from_borrowed_ptr(py, block) };
    if block.is_exact_instance_of::<PyBool>() || block.is_exact_instance_of::<PyInt>() {
        return block.is_truthy().ok();
    }
    None
}

/// Whether `timeout` is one that the standard method accepts without further ado.
#[inline]
pub fn is_valid(py: Python<'_>, timeout: Object) -> bool {
    if timeout.is_null() {
        return true;
    }
    // SAFETY: arguments are alive during the call.
    let timeout = unsafe { Bound::from_borrowed_ptr(py, timeout) };
    if let Ok(seconds) = timeout.cast_exact::<PyFloat>() {
        return seconds.value() >= 0.0;
    }
    timeout.is_none()
        || (timeout.is_exact_instance_of::<PyInt>()
            && timeout.extract::<i64>().is_ok_and(|seconds| seconds >= 0))
}
