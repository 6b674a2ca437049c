//! Makes methods of `Greenlet` out of functions of pyo3's.
//!
//! The class gets method descriptors, as any class in C has. `PyInstanceMethod_New` was tried: what
//! it makes binds when it is asked of an instance, but asked of the class it gives the bare function,
//! which does not bind any more. Programs do that: `cancel = Greenlet.kill` in a class of their own.

use super::{methods, spawn_callbacks, spawned_link};
use crate::greenlet::methods::vectorcall;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyType};
use std::ffi::CString;

/// A function that takes the receiver as its first argument.
type Function = PyOnceLock<Py<PyCFunction>>;

/// Puts a method that calls a function into the class, under the function's name.
macro_rules! add_method {
    ($module:expr, $class:expr, $function:path) => {{
        static FUNCTION: Function = PyOnceLock::new();
        let function = wrap_pyfunction!($function, $module)?;
        let entry = vectorcall!(|object, values, count, names| {
            // SAFETY: called by the interpreter, as that guarantees, with the GIL held.
            unsafe { call(&FUNCTION, object, values, count, names) }
        });
        add($class, &FUNCTION, function, entry)?;
    }};
}

/// Calls a function with the receiver before the arguments.
///
/// # Safety
///
/// The GIL is held; the arguments are those of a method that takes them without a tuple.
unsafe fn call(
    function: &Function,
    object: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    /// So many arguments go without an allocation: nearly every call.
    const FEW: usize = 8;
    // SAFETY: as the caller guarantees; `names` is null or a tuple of the names of the arguments
    // behind the first `count`.
    unsafe {
        let py = Python::assume_attached();
        let function = function.get(py).expect("set before there was a method").as_ptr();
        let named = if names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(names) };
        let given = match (count + named) as usize {
            // May be dangling or null then.
            0 => &[],
            given => std::slice::from_raw_parts(values, given),
        };
        let mut few = [object; FEW];
        let many: Vec<_>;
        let all = if let Some(room) = few.get_mut(1..=given.len()) {
            room.copy_from_slice(given);
            few.as_ptr()
        } else {
            many = std::iter::once(object).chain(given.iter().copied()).collect();
            many.as_ptr()
        };
        ffi::PyObject_Vectorcall(function, all, count as usize + 1, names)
    }
}

fn add(
    class: &Bound<'_, PyType>,
    place: &'static Function,
    function: Bound<'_, PyCFunction>,
    entry: ffi::PyCFunctionFastWithKeywords,
) -> PyResult<()> {
    let py = class.py();
    let name: String = function.getattr("__name__")?.extract()?;
    let signature: String = function.getattr("__text_signature__")?.extract()?;
    let doc: String = function.getattr("__doc__")?.extract()?;
    // As the interpreter wants it, which takes the signature off.
    let doc = format!("{name}{}\n--\n\n{doc}", signature.replacen("(self", "($self", 1));
    // Used by the class for as long as the process runs.
    let entry = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: CString::new(name.as_str())?.into_raw(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: entry },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: CString::new(doc)?.into_raw(),
    }));
    // A second import of the module has the class anew, and functions that do the same.
    let _ = place.set(py, function.unbind());
    // SAFETY: a class, and an entry that is never freed; the result is a new reference or null.
    let method = unsafe {
        let method = ffi::PyDescr_NewMethod(class.as_ptr().cast(), entry);
        Bound::from_owned_ptr_or_err(py, method)?
    };
    class.setattr(name.as_str(), method)
}

/// Puts the methods into the class.
pub fn attach(module: &Bound<'_, PyModule>, class: &Bound<'_, PyType>) -> PyResult<()> {
    add_method!(module, class, methods::start);
    add_method!(module, class, methods::start_later);
    add_method!(module, class, methods::join);
    add_method!(module, class, methods::get);
    add_method!(module, class, methods::kill);
    add_method!(module, class, methods::throw);
    add_method!(module, class, methods::ready);
    add_method!(module, class, methods::successful);
    add_method!(module, class, methods::rawlink);
    add_method!(module, class, methods::unlink);
    add_method!(module, class, methods::unlink_all);
    add_method!(module, class, methods::has_links);
    add_method!(module, class, methods::_formatinfo);
    add_method!(module, class, methods::__enter__);
    add_method!(module, class, methods::__exit__);
    add_method!(module, class, spawned_link::link);
    add_method!(module, class, spawned_link::link_value);
    add_method!(module, class, spawned_link::link_exception);
    for function in [
        wrap_pyfunction!(spawn_callbacks::add_spawn_callback, module)?,
        wrap_pyfunction!(spawn_callbacks::remove_spawn_callback, module)?,
    ] {
        let name = function.getattr("__name__")?.to_string();
        // A built-in function is no descriptor: it stays static.
        class.setattr(name.as_str(), function)?;
    }
    let spawn_later = wrap_pyfunction!(spawned_link::spawn_later, module)?;
    // SAFETY: a callable; the result is a new reference or null.
    let method = unsafe {
        Bound::from_owned_ptr_or_err(module.py(), ffi::PyClassMethod_New(spawn_later.as_ptr()))?
    };
    class.setattr("spawn_later", method)
}
