//! Functions to be called when an object becomes ready (`rawlink`).

use crate::hub::HubObject;
use crate::hub::callback::Callback;
use crate::hub::queue::Entry;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::cell::RefCell;
use std::ffi::{c_int, c_void};

/// Callables in the order they were added. Each is called once, with the object, in the hub.
#[derive(Default)]
pub struct Links {
    functions: RefCell<Vec<Py<PyAny>>>,
}

// SAFETY: touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for Links {}

impl Links {
    pub const fn new() -> Self {
        Self { functions: RefCell::new(Vec::new()) }
    }

    pub fn is_empty(&self) -> bool {
        self.functions.borrow().is_empty()
    }

    pub fn len(&self) -> usize {
        self.functions.borrow().len()
    }

    /// Adds a function.
    ///
    /// # Errors
    ///
    /// TypeError if it cannot be called.
    pub fn add(&self, function: Bound<'_, PyAny>) -> PyResult<()> {
        if !function.is_callable() {
            return Err(PyTypeError::new_err(format!(
                "Expected callable: {}",
                function.repr()?
            )));
        }
        self.functions.borrow_mut().push(function.unbind());
        Ok(())
    }

    /// Takes the first function that equals `function` out. False if there is none.
    pub fn remove(&self, function: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = function.py();
        // Comparing runs Python code: look at copies.
        let copies: Vec<_> = self.functions.borrow().iter().map(|f| f.clone_ref(py)).collect();
        for (index, copy) in copies.iter().enumerate() {
            if copy.bind(py).eq(function)? {
                let mut functions = self.functions.borrow_mut();
                if functions.get(index).is_some_and(|f| f.is(copy)) {
                    let removed = functions.remove(index);
                    drop(functions);
                    drop(removed);
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Takes all out.
    pub fn take(&self) -> Vec<Py<PyAny>> {
        self.functions.take()
    }

    /// Visits the functions for the garbage collector.
    ///
    /// # Safety
    ///
    /// As the interpreter calls `tp_traverse`.
    pub unsafe fn traverse(&self, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
        for function in self.functions.borrow().iter() {
            // SAFETY: a valid object; `visit` runs no Python code.
            let status = unsafe { visit(function.as_ptr(), arg) };
            if status != 0 {
                return status;
            }
        }
        0
    }

    /// Has every function called by the hub with `object`, each as soon as what is ready before
    /// has run, and forgets them.
    pub fn notify(&self, py: Python<'_>, hub: &HubObject, object: &Bound<'_, PyAny>) -> PyResult<()> {
        for function in self.take() {
            let args = PyTuple::new(py, [object])?.unbind();
            let callback = Py::new(py, Callback::new(function, args))?;
            hub.push_local(Entry::Call { callback: callback.into_ptr() });
        }
        Ok(())
    }
}
