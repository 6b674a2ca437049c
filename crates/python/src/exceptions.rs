//! The exception classes of `greenloop.exceptions`, and how errors that nobody catches are told.

use crate::greenlet::object::PyGreenlet;
use crate::hub::HubObject;
use crate::hub::event_loop::EventLoop;
use pyo3::prelude::*;

/// An instance of a class of `greenloop.exceptions`, which is plain Python and imports nothing from
/// here. The class is looked up every time: the package may be imported anew, and its classes are
/// the ones that programs know then.
fn instance<'py>(py: Python<'py>, name: &str, args: impl pyo3::call::PyCallArgs<'py>) -> PyErr {
    let class = py.import("greenloop.exceptions").and_then(|module| module.getattr(name));
    match class.and_then(|class| class.call1(args)) {
        Ok(instance) => PyErr::from_value(instance),
        Err(error) => error,
    }
}

/// The hub was asked to wait.
#[cold]
pub fn blocking_in_hub(py: Python<'_>) -> PyErr {
    let message = "Impossible to call blocking function in the event loop callback";
    instance(py, "BlockingSwitchOutError", (message,))
}

/// A greenlet that waits was asked to wait for something else.
#[cold]
pub fn blocking_in_wait(py: Python<'_>) -> PyErr {
    let message = "Impossible to call blocking function in the middle of a switch: a trace \
                   function must not wait";
    instance(py, "BlockingSwitchOutError", (message,))
}

/// A waiting greenlet was switched to by somebody who does not know what it waits for.
#[cold]
pub fn invalid_switch(py: Python<'_>, here: &PyGreenlet) -> PyErr {
    let message = format!(
        "Invalid switch into greenlet {:p}: it waits, and what it waits for has not happened. Use \
         its kill() or throw(), or the object it waits on",
        here.as_ptr()
    );
    instance(py, "InvalidSwitchError", (message,))
}

/// Nothing can become ready any more.
#[cold]
pub fn loop_exit(py: Python<'_>, message: String, hub: &HubObject) -> PyErr {
    // SAFETY: the hub is alive.
    let hub = unsafe { Bound::from_borrowed_ptr(py, hub.as_ptr()) };
    instance(py, "LoopExit", (message, hub))
}

/// Two greenlets use one socket for the same direction.
#[cold]
pub fn concurrent_use(py: Python<'_>, message: &str) -> PyErr {
    instance(py, "ConcurrentObjectUseError", (message,))
}

/// A client has sent a body that is malformed.
#[cold]
pub fn invalid_client_input(py: Python<'_>, message: &str) -> PyErr {
    instance(py, "InvalidClientInput", (message,))
}

/// A client has sent a request that is malformed, or has not sent all of it in time. `status` is to
/// be answered.
#[cold]
pub fn invalid_client_request(py: Python<'_>, status: u16, message: &str) -> PyErr {
    instance(py, "InvalidClientRequest", (status, message))
}

/// A WebSocket is closed, or its client breaks the protocol. `code` is the one that it is closed with.
#[cold]
pub fn websocket_error(py: Python<'_>, message: &str, code: u16) -> PyErr {
    instance(py, "WebSocketError", (message, code))
}

/// An object is used from a thread that it does not belong to.
#[cold]
pub fn invalid_thread_use(py: Python<'_>, message: &str) -> PyErr {
    instance(py, "InvalidThreadUseError", (message,))
}

/// Hands an error that left a callback or greenlet to `hub.handle_error(context, type, value,
/// traceback)`.
#[cold]
pub fn handle_error(
    py: Python<'_>,
    event_loop: &EventLoop,
    context: Option<&Bound<'_, PyAny>>,
    error: PyErr,
) {
    event_loop.report(py, context, error);
}
