//! Functions of the module that work on greenlets.

use super::body::ended_count;
use super::context;
use super::methods::{kill_soon, task_of, wait_for};
use super::tracked_raw;
use super::types::is_task;
use crate::greenlet::object::PyGreenlet;
use crate::greenlet::switch::run_body;
use crate::greenlet::types::{self, greenlet_type, is_greenlet};
use crate::hub::HubObject;
use crate::hub::queue::Entry;
use crate::time::Limit;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

/// spawn_raw(function, *args, **kwargs)
/// --
///
/// Runs a function in a raw greenlet as soon as the hub gets to it: no result, no links, only
/// what a greenlet.greenlet has. Errors are reported by the hub. Returns the greenlet. The context
/// it runs in is chosen as for Greenlet.
/// (As gevent.spawn_raw.)
#[pyfunction]
#[pyo3(signature = (function, *args, **kwargs))]
pub fn spawn_raw<'py>(
    function: Bound<'py, PyAny>,
    args: Bound<'py, PyTuple>,
    kwargs: Option<Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = function.py();
    if !function.is_callable() {
        return Err(PyTypeError::new_err("function must be callable"));
    }
    let hub = HubObject::get(py)?;
    let greenlet = tracked_raw::make(function)?;
    // SAFETY: a fresh raw greenlet.
    let raw = unsafe { &*greenlet.as_ptr().cast::<PyGreenlet>() };
    if let Some(kwargs) = kwargs {
        // SAFETY: the dict of this call; the result is an owned dict or null, the function owned.
        unsafe {
            let left = context::from_keywords(raw, kwargs.into_ptr());
            if let Some(left) = Bound::from_owned_ptr_or_opt(py, left)
                && !left.is_empty()?
            {
                // Keywords are rare here: they travel in a partial.
                let run = Bound::from_borrowed_ptr(py, raw.run.get());
                let partial = py.import("functools")?.getattr("partial")?;
                let call = partial.call((run,), Some(left.cast::<PyDict>()?))?;
                ffi::Py_XDECREF(raw.run.replace(call.into_ptr()));
            }
        }
    }
    context::inherit(py, raw)?;
    hub.push_local(Entry::SwitchArgs {
        greenlet: greenlet.clone().into_ptr().cast(),
        args: args.into_ptr(),
    });
    Ok(greenlet)
}

/// A raw greenlet for a function, with the hub as its parent.
pub fn new_raw(function: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let py = function.py();
    let hub = HubObject::get(py)?;
    // SAFETY: a fresh greenlet of the raw type; owned references.
    unsafe {
        let greenlet = types::allocate(greenlet_type(), run_body);
        if greenlet.is_null() {
            return Err(PyErr::fetch(py));
        }
        (*greenlet).run.set(function.into_ptr());
        ffi::Py_INCREF(hub.as_ptr());
        let old = (*greenlet).parent.replace(hub.greenlet().as_greenlet());
        ffi::Py_XDECREF(old.cast());
        Ok(Bound::from_owned_ptr(py, greenlet.cast()))
    }
}

/// _join_each(greenlets, timeout=None)
/// --
///
/// Waits until every one of a sequence of Greenlets has ended, `timeout` seconds at most. True if
/// all have.
#[pyfunction]
#[pyo3(signature = (greenlets, timeout = None))]
pub fn _join_each<'py>(
    greenlets: Bound<'py, PyAny>,
    timeout: Option<Bound<'py, PyAny>>,
) -> PyResult<bool> {
    let py = greenlets.py();
    let mut waiting = None;
    for greenlet in greenlets.try_iter()? {
        let greenlet = greenlet?;
        if !task_of(&greenlet)?.is_ready() {
            waiting = Some(greenlet);
            break;
        }
    }
    let Some(first) = waiting else { return Ok(true) };
    let mut limit = Limit::start(py, timeout)?;
    let outcome = join_from(&first, &greenlets, &mut limit);
    limit.end(py)?;
    outcome
}

/// Waits for `first`, then for all of `greenlets`.
fn join_from<'py>(
    first: &Bound<'py, PyAny>,
    greenlets: &Bound<'py, PyAny>,
    limit: &mut Limit<'py>,
) -> PyResult<bool> {
    let py = first.py();
    if !wait_for(py, task_of(first)?, limit)? {
        return Ok(false);
    }
    for greenlet in greenlets.try_iter()? {
        let greenlet = greenlet?;
        if !wait_for(py, task_of(&greenlet)?, limit)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// _join_all(greenlets, timeout=None)
/// --
///
/// Waits as `_join_each` does. A list of the Greenlets that have ended: first those that had ended
/// before, then the others in the order in which they did.
#[pyfunction]
#[pyo3(signature = (greenlets, timeout = None))]
pub fn _join_all<'py>(
    greenlets: Bound<'py, PyList>,
    timeout: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyList>> {
    let before = ended_count();
    _join_each(greenlets.clone().into_any(), timeout)?;
    let mut ended = Vec::with_capacity(greenlets.len());
    for greenlet in &greenlets {
        let task = task_of(&greenlet)?;
        if task.is_over() {
            ended.push((task.ended.get().max(before), greenlet));
        }
    }
    ended.sort_by_key(|(ended, _)| *ended);
    PyList::new(greenlets.py(), ended.into_iter().map(|(_, greenlet)| greenlet))
}

/// _all_greenlets(sequence)
/// --
///
/// Whether every item is a Greenlet.
#[pyfunction]
pub fn _all_greenlets(sequence: &Bound<'_, PyAny>) -> PyResult<bool> {
    for item in sequence.try_iter()? {
        if !is_task(item?.as_ptr()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// _kill_soon(greenlet, exception)
/// --
///
/// Has an exception raised in a greenlet when the hub gets to it. True if a Greenlet has been told
/// and has not ended yet: it can be joined.
#[pyfunction]
pub fn _kill_soon<'py>(
    greenlet: Bound<'py, PyAny>,
    exception: Bound<'py, PyAny>,
) -> PyResult<bool> {
    if is_task(greenlet.as_ptr()) {
        return kill_soon(&greenlet, &exception);
    }
    if !is_greenlet(greenlet.as_ptr()) {
        return Err(PyTypeError::new_err(format!(
            "expected a greenlet, not {}",
            greenlet.get_type().name()?
        )));
    }
    crate::hub::methods::kill_later(&greenlet, &exception)?;
    Ok(false)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    for function in [
        wrap_pyfunction!(spawn_raw, module)?,
        wrap_pyfunction!(context::_inherit_contexts, module)?,
        wrap_pyfunction!(_join_each, module)?,
        wrap_pyfunction!(_join_all, module)?,
        wrap_pyfunction!(_all_greenlets, module)?,
        wrap_pyfunction!(_kill_soon, module)?,
    ] {
        module.add_function(function)?;
    }
    Ok(())
}
