//! `greenlet.error` and `GreenletExit`.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

static ERROR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static EXIT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Makes the exception classes and puts them into the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let make = |name: &std::ffi::CStr, doc: &std::ffi::CStr, base: *mut ffi::PyObject| {
        // SAFETY: C strings and a class; the result is a new reference or null.
        unsafe {
            let class = ffi::PyErr_NewExceptionWithDoc(
                name.as_ptr(),
                doc.as_ptr(),
                base,
                std::ptr::null_mut(),
            );
            Bound::from_owned_ptr_or_err(py, class)
        }
    };
    // SAFETY: the built-in exception classes are set once the interpreter runs.
    let (exception, base_exception) = unsafe { (ffi::PyExc_Exception, ffi::PyExc_BaseException) };
    let error = make(c"greenlet.error", c"A switch that cannot be made.", exception)?;
    let exit = make(
        c"greenlet.GreenletExit",
        c"Raised in a greenlet to end it. It does not travel to the parent: it is the result.",
        base_exception,
    )?;
    module.add("error", &error)?;
    module.add("GreenletExit", &exit)?;
    ERROR.get_or_init(py, || error.unbind());
    EXIT.get_or_init(py, || exit.unbind());
    Ok(())
}

/// A `greenlet.error` with a message.
pub fn error(py: Python<'_>, message: impl Into<String>) -> PyErr {
    match greenlet_error(py).call1((message.into(),)) {
        Ok(instance) => PyErr::from_value(instance),
        Err(failure) => failure,
    }
}

/// The class `greenlet.error`.
pub fn greenlet_error(py: Python<'_>) -> &Bound<'_, PyAny> {
    ERROR.get(py).expect("set when the module was made").bind(py)
}

/// The class `GreenletExit`.
pub fn greenlet_exit(py: Python<'_>) -> &Bound<'_, PyAny> {
    EXIT.get(py).expect("set when the module was made").bind(py)
}

/// Whether an exception instance is a `GreenletExit`.
pub fn is_greenlet_exit(error: *mut ffi::PyObject) -> bool {
    // SAFETY: the GIL is held wherever exceptions are handled.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: both are valid objects.
    unsafe { ffi::PyErr_GivenExceptionMatches(error, greenlet_exit(py).as_ptr()) != 0 }
}
