//! Arguments of methods called by the vectorcall convention, and buffers.

use super::errors::raised;
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::c_int;
use std::mem::MaybeUninit;

type Object = *mut ffi::PyObject;

/// The arguments of one call.
#[derive(Clone, Copy)]
pub struct Call {
    pub values: *const Object,
    pub count: usize,
    /// A tuple, or null.
    pub names: Object,
}

impl Call {
    /// The arguments in the order of `parameters`, null where not given. At least `required`.
    ///
    /// # Safety
    ///
    /// The vectorcall convention.
    #[inline]
    pub unsafe fn sort<const N: usize>(
        self,
        function: &str,
        parameters: [&str; N],
        required: usize,
    ) -> PyResult<[Object; N]> {
        let mut sorted = [std::ptr::null_mut(); N];
        if self.count > N {
            return Err(PyTypeError::new_err(format!(
                "{function}() takes at most {N} arguments ({} given)",
                self.count
            )));
        }
        for (index, place) in sorted.iter_mut().enumerate().take(self.count) {
            // SAFETY: as the caller guarantees.
            *place = unsafe { *self.values.add(index) };
        }
        if !self.names.is_null() {
            // SAFETY: as the caller guarantees.
            unsafe { self.sort_named(function, parameters, &mut sorted)? };
        }
        if let Some(missing) = sorted[..required].iter().position(|object| object.is_null()) {
            return Err(PyTypeError::new_err(format!(
                "{function}() missing required argument '{}' (pos {})",
                parameters[missing],
                missing + 1
            )));
        }
        Ok(sorted)
    }

    #[cold]
    unsafe fn sort_named<const N: usize>(
        self,
        function: &str,
        parameters: [&str; N],
        sorted: &mut [Object; N],
    ) -> PyResult<()> {
        // SAFETY: the GIL is held in methods; the names are a tuple of strings.
        let (py, names) = unsafe {
            let py = Python::assume_attached();
            (py, Bound::from_borrowed_ptr(py, self.names))
        };
        for (index, name) in names.try_iter()?.enumerate() {
            let name = name?;
            let name = name.extract::<&str>()?;
            let Some(position) = parameters.iter().position(|parameter| *parameter == name) else {
                return Err(PyTypeError::new_err(format!(
                    "{function}() got an unexpected keyword argument '{name}'"
                )));
            };
            if !sorted[position].is_null() {
                return Err(PyTypeError::new_err(format!(
                    "argument for {function}() given by name ('{name}') and position ({})",
                    position + 1
                )));
            }
            // SAFETY: keyword values follow the positional ones.
            sorted[position] = unsafe { *self.values.add(self.count + index) };
        }
        let _ = py;
        Ok(())
    }
}

/// An `int` argument; `default` if it was not given.
#[inline]
pub fn int(py: Python<'_>, object: Object, default: c_int) -> PyResult<c_int> {
    if object.is_null() {
        return Ok(default);
    }
    // SAFETY: a valid object.
    let value = unsafe { ffi::PyLong_AsLong(object) };
    if value == -1 && PyErr::occurred(py) {
        return Err(raised(py));
    }
    c_int::try_from(value)
        .map_err(|_| PyOverflowError::new_err("signed integer is greater than maximum"))
}

/// A size argument; `default` if it was not given.
#[inline]
pub fn size(py: Python<'_>, object: Object, default: isize) -> PyResult<isize> {
    if object.is_null() {
        return Ok(default);
    }
    // SAFETY: a valid object and an exception class.
    let value = unsafe { ffi::PyNumber_AsSsize_t(object, ffi::PyExc_OverflowError) };
    if value == -1 && PyErr::occurred(py) {
        return Err(raised(py));
    }
    Ok(value)
}

/// The memory of a bytes-like object, held for the duration of a call.
pub enum Buffer {
    /// A `bytes` object, which nothing changes and the caller of the method holds.
    Bytes { start: *mut u8, len: usize },
    /// An exported buffer.
    View(Box<ffi::Py_buffer>),
}

impl Buffer {
    /// Bytes to read.
    #[inline]
    pub fn readable(py: Python<'_>, object: Object) -> PyResult<Self> {
        // SAFETY: a valid object, checked to be bytes.
        unsafe {
            if ffi::PyBytes_CheckExact(object) != 0 {
                let start = ffi::PyBytes_AsString(object).cast();
                return Ok(Self::Bytes { start, len: ffi::PyBytes_Size(object) as usize });
            }
        }
        Self::view(py, object, ffi::PyBUF_SIMPLE)
    }

    /// Memory to write to: the first argument of `function`.
    pub fn writable(py: Python<'_>, object: Object, function: &str) -> PyResult<Self> {
        Self::view(py, object, ffi::PyBUF_WRITABLE).map_err(|_| {
            // SAFETY: a valid object.
            let class = unsafe { Bound::from_borrowed_ptr(py, object) }.get_type();
            match class.name() {
                Ok(name) => PyTypeError::new_err(format!(
                    "{function}() argument 1 must be read-write bytes-like object, not {name}"
                )),
                Err(error) => error,
            }
        })
    }

    /// Boxed: an exporter may point into the structure, which must not move then.
    fn view(py: Python<'_>, object: Object, flags: c_int) -> PyResult<Self> {
        let mut view = Box::new(MaybeUninit::<ffi::Py_buffer>::uninit());
        // SAFETY: a valid object; on success the structure is filled in.
        unsafe {
            if ffi::PyObject_GetBuffer(object, view.as_mut_ptr(), flags) != 0 {
                return Err(raised(py));
            }
            Ok(Self::View(view.assume_init()))
        }
    }

    #[inline]
    pub fn start(&self) -> *mut u8 {
        match self {
            Self::Bytes { start, .. } => *start,
            Self::View(view) => view.buf.cast(),
        }
    }

    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes { len, .. } => *len,
            Self::View(view) => view.len as usize,
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Self::View(view) = self {
            // SAFETY: filled in by PyObject_GetBuffer, released once.
            unsafe { ffi::PyBuffer_Release(&raw mut **view) };
        }
    }
}
