//! `time.sleep` for greenlets.
//!
//! A builtin, as the standard function is: as an attribute of a class it is not bound to instances,
//! and it has no attributes of its own.

use super::sleep::pause;
use crate::greenlet::thread::Thread;
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyFloat, PyInt};
use std::ffi::{CStr, c_char, c_int};
use std::ptr;

const DOC: &CStr = c"sleep(seconds, /)
--

Park the current greenlet while others run.

seconds: how long at least, a float or an integer. 0 lets everything run that is ready.

Raises TypeError if it is no number, ValueError if it is negative or not a number,
OverflowError if it is more than some 292 years. (As time.sleep.)";

/// See `_make_time_sleep`.
struct InPython {
    sleep: Py<PyAny>,
    number: Py<PyAny>,
}

static IN_PYTHON: PyOnceLock<InPython> = PyOnceLock::new();

/// The interpreter keeps a pointer to the definition; it never writes to it.
struct Definition(ffi::PyMethodDef);

// SAFETY: never written; the pointers in it are to static strings and functions.
unsafe impl Sync for Definition {}

static SLEEP: Definition = Definition(ffi::PyMethodDef {
    ml_name: c"sleep".as_ptr(),
    ml_meth: ffi::PyMethodDefPointer { PyCFunction: sleep },
    ml_flags: ffi::METH_O,
    ml_doc: DOC.as_ptr(),
});

unsafe extern "C" {
    fn PySys_Audit(event: *const c_char, format: *const c_char, ...) -> c_int;
}

/// The longest time that the standard function counts: 64-bit nanoseconds.
const MAX_SECONDS: f64 = (1_u64 << 63) as f64 / 1e9;

unsafe extern "C" fn sleep(
    _self: *mut ffi::PyObject,
    seconds: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the calling convention: the GIL is held, and the argument is borrowed.
    let goes_on = unsafe {
        match begin(Python::assume_attached(), seconds) {
            Begun::Park(seconds) => pause(seconds, true),
            Begun::Over(outcome) => outcome,
        }
    };
    if !goes_on {
        return ptr::null_mut();
    }
    // SAFETY: a new reference.
    unsafe { ffi::Py_NewRef(ffi::Py_None()) }
}

/// What there is to do: park for so many seconds, or nothing any more. False with an exception set.
enum Begun {
    Park(f64),
    Over(bool),
}

/// Not a part of `sleep`: what that has on the stack, parked greenlets have.
///
/// # Safety
///
/// `argument` is a borrowed reference.
#[inline(never)]
unsafe fn begin(py: Python<'_>, argument: *mut ffi::PyObject) -> Begun {
    // SAFETY: as the caller guarantees.
    let argument = unsafe { Bound::from_borrowed_ptr(py, argument) };
    let begun = checked(&argument).and_then(|seconds| {
        if !has_greenlets() {
            in_python(py)?.sleep.call1(py, (argument.clone(),))?;
            return Ok(Begun::Over(true));
        }
        // SAFETY: the format takes one object.
        let refused =
            unsafe { PySys_Audit(c"time.sleep".as_ptr(), c"O".as_ptr(), argument.as_ptr()) };
        if refused < 0 { Err(PyErr::fetch(py)) } else { Ok(Begun::Park(seconds)) }
    });
    begun.unwrap_or_else(|error| {
        error.restore(py);
        Begun::Over(false)
    })
}

/// Whether anybody else could run in this thread.
fn has_greenlets() -> bool {
    Thread::try_get().is_some_and(|thread| {
        !thread.hub.get().is_null() || !ptr::eq(thread.current(), thread.main())
    })
}

/// The argument in seconds, if it is one that the standard function takes.
fn checked(argument: &Bound<'_, PyAny>) -> PyResult<f64> {
    let out_of_range = || PyOverflowError::new_err("timestamp out of range for platform time_t");
    let seconds: f64 = if argument.is_instance_of::<PyFloat>() {
        argument.extract()?
    } else if argument.is_instance_of::<PyInt>() {
        argument.extract().map_err(|_| out_of_range())?
    } else {
        in_python(argument.py())?
            .number
            .call1(argument.py(), (argument,))?
            .extract(argument.py())?
    };
    if seconds.is_nan() {
        return Err(PyValueError::new_err("Invalid value NaN (not a number)"));
    }
    if seconds.abs() >= MAX_SECONDS {
        return Err(out_of_range());
    }
    if seconds < 0.0 {
        return Err(PyValueError::new_err("sleep length must be non-negative"));
    }
    Ok(seconds)
}

fn in_python(py: Python<'_>) -> PyResult<&'static InPython> {
    IN_PYTHON.get(py).ok_or_else(|| PyTypeError::new_err("_make_time_sleep has not been called"))
}

/// _make_time_sleep(native, number)
/// --
///
/// The function `time.sleep` for greenlets. `native` is called in threads without greenlets, and
/// `number` for arguments that are neither floats nor integers, to return one or raise TypeError.
#[pyfunction]
fn _make_time_sleep<'py>(
    py: Python<'py>,
    native: Py<PyAny>,
    number: Py<PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    IN_PYTHON.get_or_init(py, || InPython { sleep: native, number });
    let module = pyo3::types::PyString::new(py, "greenloop.time");
    // SAFETY: a static definition; the result is a new reference or null.
    unsafe {
        let definition = (&raw const SLEEP.0).cast_mut();
        let function = ffi::PyCFunction_NewEx(definition, ptr::null_mut(), module.as_ptr());
        Bound::from_owned_ptr_or_err(py, function)
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(_make_time_sleep, module)?)
}
