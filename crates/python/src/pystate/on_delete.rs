//! What the interpreter calls when a thread's state has been cleared (CPython before 3.13).

use super::{ThreadState, layout};
use pyo3::ffi;
use std::ffi::c_void;
use std::ptr;

type Function = unsafe extern "C" fn(*mut c_void);

/// A function and its argument, or none.
pub struct OnDelete {
    function: Option<Function>,
    data: *mut c_void,
}

impl OnDelete {
    /// # Safety
    ///
    /// It is this one's turn, with the GIL held.
    pub unsafe fn call(self) {
        if let Some(function) = self.function {
            // SAFETY: passed on from the caller.
            unsafe { function(self.data) };
        }
    }
}

impl ThreadState {
    /// What is to be called.
    ///
    /// # Safety
    ///
    /// The calling thread's state.
    pub unsafe fn on_delete(self) -> OnDelete {
        // SAFETY: fields of the calling thread's state.
        unsafe {
            OnDelete {
                function: *self.at(layout::TS_ON_DELETE),
                data: *self.at(layout::TS_ON_DELETE_DATA),
            }
        }
    }

    /// Has another function called instead.
    ///
    /// # Safety
    ///
    /// The calling thread's state. `function` calls what was to be called before.
    pub unsafe fn set_on_delete(self, function: Function, data: *mut c_void) {
        // SAFETY: fields of the calling thread's state.
        unsafe {
            *self.at(layout::TS_ON_DELETE) = Some(function);
            *self.at(layout::TS_ON_DELETE_DATA) = data;
        }
    }

    /// Drops the thread's dict.
    ///
    /// # Safety
    ///
    /// The calling thread's state, at its end.
    pub unsafe fn clear_dict(self) {
        // SAFETY: a field of the calling thread's state, which owns the reference in it.
        unsafe {
            let dict: *mut ffi::PyObject = ptr::replace(self.at(layout::TS_DICT), ptr::null_mut());
            ffi::Py_XDECREF(dict);
        }
    }
}
