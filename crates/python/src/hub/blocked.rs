//! `LoopExit`: says who waits on what, and where.

use super::HubObject;
use crate::exceptions;
use crate::greenlet::object::PyGreenlet;
use crate::greenlet::types;
use pyo3::prelude::*;
use std::fmt::Write as _;

/// Greenlets named in full; the rest are counted.
const NAMED: usize = 10;

/// The error for a loop that has run out of work.
pub fn loop_exit(py: Python<'_>, hub: &HubObject) -> PyErr {
    let mut message = String::from("This operation would block forever");
    match waiting(py, hub) {
        Ok(lines) if !lines.is_empty() => {
            message.push_str(": nothing can wake any of the greenlets that wait.");
            for line in lines.iter().take(NAMED) {
                message.push_str("\n  ");
                message.push_str(line);
            }
            if lines.len() > NAMED {
                write!(message, "\n  and {} more", lines.len() - NAMED).expect("a String");
            }
        }
        // The error says the main thing without the list.
        Ok(_) | Err(_) => {}
    }
    exceptions::loop_exit(py, message, hub)
}

/// A line for each greenlet of the hub's thread that waits. Found through the garbage collector:
/// nothing is kept per wait for the sake of a message that is hardly ever wanted.
fn waiting(py: Python<'_>, hub: &HubObject) -> PyResult<Vec<String>> {
    let mut lines = Vec::new();
    for object in py.import("gc")?.call_method0("get_objects")?.try_iter()? {
        let object = object?;
        if !types::is_greenlet(object.as_ptr()) {
            continue;
        }
        // SAFETY: checked to be a greenlet, and held.
        let greenlet = unsafe { &*object.as_ptr().cast::<PyGreenlet>() };
        if greenlet.thread.get() != hub.greenlet().thread.get() || !greenlet.is_suspended() {
            continue;
        }
        let Some(on) = greenlet.wait.waiting_on() else { continue };
        lines.push(describe(py, &object, greenlet, on)?);
    }
    Ok(lines)
}

fn describe(
    py: Python<'_>,
    object: &Bound<'_, PyAny>,
    greenlet: &PyGreenlet,
    on: *mut pyo3::ffi::PyObject,
) -> PyResult<String> {
    let who =
        if greenlet.is_main() { "main greenlet".to_owned() } else { object.repr()?.to_string() };
    let what = if on.is_null() {
        "somebody to switch to it".to_owned()
    } else {
        // SAFETY: alive while the greenlet waits on it.
        unsafe { Bound::from_borrowed_ptr(py, on) }.repr()?.to_string()
    };
    let frame = greenlet.suspended_frame();
    let place = if frame.is_null() {
        String::new()
    } else {
        // SAFETY: a new reference.
        let frame = unsafe { Bound::from_owned_ptr(py, frame) };
        let code = frame.getattr("f_code")?;
        format!(
            " at {}:{} in {}",
            code.getattr("co_filename")?,
            frame.getattr("f_lineno")?,
            code.getattr("co_name")?
        )
    };
    Ok(format!("{who} waits for {what}{place}"))
}
