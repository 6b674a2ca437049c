//! Functions to be called by the hub once (`loop.run_callback`).

use super::event_loop::EventLoop;
use crate::exceptions;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::cell::RefCell;

/// A function call waiting for its turn in the hub.
///
/// Made by `loop.run_callback`. True while it has neither run nor been stopped.
#[pyclass(frozen, name = "callback", module = "greenloop._core")]
pub struct Callback {
    call: RefCell<Option<(Py<PyAny>, Py<PyTuple>)>>,
}

// SAFETY: the cell is touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for Callback {}

impl Callback {
    fn new(function: Py<PyAny>, args: Py<PyTuple>) -> Self {
        Self { call: RefCell::new(Some((function, args))) }
    }

    /// The Python object.
    ///
    /// The garbage collector is not told of it: it would find nothing but the class in there, as
    /// what waits for its turn is held by the loop, and look through a million of them again and
    /// again.
    pub fn object(py: Python<'_>, function: Py<PyAny>, args: Py<PyTuple>) -> PyResult<Py<Self>> {
        let callback = Py::new(py, Self::new(function, args))?;
        // SAFETY: an object that was made just now, of a class that the collector knows.
        unsafe { ffi::PyObject_GC_UnTrack(callback.as_ptr().cast()) };
        Ok(callback)
    }

    fn take(&self) -> Option<(Py<PyAny>, Py<PyTuple>)> {
        self.call.borrow_mut().take()
    }
}

#[pymethods]
impl Callback {
    #[new]
    fn py_new(callback: Bound<'_, PyAny>, args: Bound<'_, PyTuple>) -> Self {
        Self::new(callback.unbind(), args.unbind())
    }

    /// Takes the call back, if it has not been made yet.
    pub fn stop(&self) {
        drop(self.take());
    }

    /// As `stop`.
    fn close(&self) {
        self.stop();
    }

    /// Whether the call has still to be made.
    #[getter]
    pub fn pending(&self) -> bool {
        self.call.borrow().is_some()
    }

    /// The function, or None once it has been called or stopped.
    #[getter]
    pub fn callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.call.borrow().as_ref().map(|(function, _)| function.clone_ref(py))
    }

    /// The arguments, or None once the call has been made or stopped.
    #[getter]
    fn args(&self, py: Python<'_>) -> Option<Py<PyTuple>> {
        self.call.borrow().as_ref().map(|(_, args)| args.clone_ref(py))
    }

    fn __bool__(&self) -> bool {
        self.pending()
    }

    fn __repr__(slf: PyRef<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let state = match (slf.callback(py), slf.args(py)) {
            (Some(function), Some(args)) => {
                format!(
                    " pending function={} args={}",
                    function.bind(py).repr()?,
                    args.bind(py).repr()?
                )
            }
            _ => " stopped".to_owned(),
        };
        Ok(format!("<callback at {:p}{state}>", slf.as_ptr()))
    }
}

/// Makes the call of a callback entry; takes the reference. Errors are reported, and survived.
pub fn run(py: Python<'_>, hub: &EventLoop, callback: *mut ffi::PyObject) {
    // SAFETY: the entry owned the reference.
    let callback = unsafe { Bound::from_owned_ptr(py, callback) };
    let call =
        callback.cast::<Callback>().expect("only callbacks are put into Call entries").get().take();
    if let Some((function, args)) = call
        && let Err(error) = function.bind(py).call1(args.bind(py))
    {
        exceptions::handle_error(py, hub, Some(&callback), error);
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Callback>()
}
