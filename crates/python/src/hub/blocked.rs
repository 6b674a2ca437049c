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

/// A line for each greenlet of the hub's thread that waits. Nothing is kept per wait for the sake of
/// a message that is hardly ever wanted.
fn waiting(py: Python<'_>, hub: &HubObject) -> PyResult<Vec<String>> {
    let mut lines = Vec::new();
    for object in types::all_greenlets(py)? {
        // SAFETY: a greenlet, and held.
        let greenlet = unsafe { &*object.as_ptr().cast::<PyGreenlet>() };
        if greenlet.thread.get() != hub.greenlet().thread.get() || !greenlet.is_suspended() {
            continue;
        }
        let Some(on) = greenlet.wait.waiting_on() else { continue };
        // Held before any code runs: it is alive as long as the greenlet waits.
        // SAFETY: alive at present, or null.
        let on = unsafe { Bound::from_borrowed_ptr_or_opt(py, on) };
        lines.push(describe(py, &object, greenlet, on)?);
    }
    Ok(lines)
}

fn describe(
    py: Python<'_>,
    object: &Bound<'_, PyAny>,
    greenlet: &PyGreenlet,
    on: Option<Bound<'_, PyAny>>,
) -> PyResult<String> {
    let who =
        if greenlet.is_main() { "main greenlet".to_owned() } else { object.repr()?.to_string() };
    let what = match on {
        None => "somebody to switch to it".to_owned(),
        Some(on) => on.repr()?.to_string(),
    };
    // What was run for that may have switched.
    let frame =
        if greenlet.is_suspended() { greenlet.suspended_frame() } else { std::ptr::null_mut() };
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
