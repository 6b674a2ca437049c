//! One call to be made by a worker thread, and where its result goes.

use super::queue::Queue;
use crate::errors::take_raised;
use crate::hub::HubObject;
use crate::hub::callback::Callback;
use crate::hub::queue::Entry;
use crate::hub::wait::{Reason, Ticket};
use greenloop_reactor::monotonic_ns;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::cell::Cell;
use std::ptr;
use std::sync::Arc;

type Object = *mut ffi::PyObject;

/// Where a worker leaves the result for the greenlet that waits. Shared by the two; the greenlet
/// may be gone (killed, timed out) when the result comes.
pub struct Outcome {
    /// Owned, null until the call is over.
    value: Cell<Object>,
    error: Cell<Object>,
}

// SAFETY: touched and dropped with the GIL held only.
unsafe impl Send for Outcome {}
// SAFETY: as above.
unsafe impl Sync for Outcome {}

impl Outcome {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { value: Cell::new(ptr::null_mut()), error: Cell::new(ptr::null_mut()) })
    }

    /// What the call returned or raised, if it is over.
    pub fn take(&self, py: Python<'_>) -> Option<PyResult<Py<PyAny>>> {
        let (value, error) =
            (self.value.replace(ptr::null_mut()), self.error.replace(ptr::null_mut()));
        // SAFETY: owned references or null; errors are exception instances.
        unsafe {
            if !error.is_null() {
                return Some(Err(PyErr::from_value(Bound::from_owned_ptr(py, error))));
            }
            Bound::from_owned_ptr_or_opt(py, value).map(|value| Ok(value.unbind()))
        }
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        // SAFETY: owned references or null; see `Send` for the GIL.
        unsafe {
            ffi::Py_XDECREF(self.value.get());
            ffi::Py_XDECREF(self.error.get());
        }
    }
}

/// Who is told of the result.
pub enum Reply {
    /// A greenlet that waits.
    Waiter { ticket: Ticket, outcome: Arc<Outcome> },
    /// A function to be called by a hub with `(value, error)`, one of them None. The hub's loop
    /// has been told to expect it.
    Function { hub: Owned, done: Owned },
}

/// An owned reference, dropped with the GIL held. (Not pyo3's `Py`, which does not know that a
/// thread that pyo3 did not attach holds the GIL, and puts off what it has to do.)
pub struct Owned(Object);

impl Owned {
    pub fn new(object: Bound<'_, PyAny>) -> Self {
        Self(object.into_ptr())
    }

    fn as_ptr(&self) -> Object {
        self.0
    }

    fn bind<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        // SAFETY: a live object.
        unsafe { Bound::from_borrowed_ptr(py, self.0) }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: owned; the GIL is held.
        unsafe { ffi::Py_DECREF(self.0) };
    }
}

/// One call.
pub struct Job {
    function: Object,
    args: Object,
    /// Null for none.
    kwargs: Object,
    reply: Option<Reply>,
}

// SAFETY: owned references, used and dropped with the GIL held only.
unsafe impl Send for Job {}

impl Job {
    pub fn new(
        function: Py<PyAny>,
        args: Py<PyTuple>,
        kwargs: Option<Py<PyAny>>,
        reply: Reply,
    ) -> Box<Self> {
        Box::new(Self {
            function: function.into_ptr(),
            args: args.into_ptr(),
            kwargs: kwargs.map_or(ptr::null_mut(), Py::into_ptr),
            reply: Some(reply),
        })
    }

    /// Makes the call and delivers the result.
    ///
    /// # Safety
    ///
    /// `job` came from `Box::into_raw`, and is taken over; `queue` is the one it came from. The
    /// GIL is held, no exception is set.
    pub unsafe fn run(job: *mut Self, queue: *const Queue) {
        // SAFETY: as the caller guarantees; a valid call.
        let (value, error) = unsafe {
            let start = monotonic_ns();
            let traced = (*queue).hooks.caller();
            if !traced.is_null() {
                (*job).call_through(traced);
            }
            let value = ffi::PyObject_Call((*job).function, (*job).args, (*job).kwargs);
            let error = if value.is_null() { take_raised() } else { ptr::null_mut() };
            super::worker::stop_tracing();
            (*queue).took(monotonic_ns() - start);
            (*job).release();
            (value, error)
        };
        // From here to where the worker says that it is idle no Python code runs: the hub sees
        // either a busy worker or the result.
        // SAFETY: as the caller guarantees.
        let (mut job, queue) = unsafe { (Box::from_raw(job), &*queue) };
        let was_last = queue.job_done();
        if let Some(reply) = job.reply.take() {
            reply.deliver(value, error);
        }
        if was_last {
            queue.joining.wake_all();
        }
    }

    /// Has `caller` make the call: a borrowed callable.
    unsafe fn call_through(&mut self, caller: Object) {
        // SAFETY: valid objects; the tuple takes new references, the job keeps no others.
        unsafe {
            let kwargs = if self.kwargs.is_null() { ffi::Py_None() } else { self.kwargs };
            let args = ffi::PyTuple_Pack(3, self.function, self.args, kwargs);
            if args.is_null() {
                // No memory: it is made without.
                ffi::PyErr_Clear();
                return;
            }
            ffi::Py_INCREF(caller);
            ffi::Py_DECREF(std::mem::replace(&mut self.function, caller));
            ffi::Py_DECREF(std::mem::replace(&mut self.args, args));
            ffi::Py_XDECREF(std::mem::replace(&mut self.kwargs, ptr::null_mut()));
        }
    }

    /// Drops what the call was made with, which can run Python code.
    unsafe fn release(&mut self) {
        // SAFETY: owned references, each cleared before it is dropped.
        unsafe {
            for object in [&raw mut self.function, &raw mut self.args, &raw mut self.kwargs] {
                ffi::Py_XDECREF(object.replace(ptr::null_mut()));
            }
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // SAFETY: dropped with the GIL held.
        unsafe { self.release() };
        if let Some(Reply::Function { hub, .. }) = &self.reply {
            // It will not be run.
            came_back(hub);
        }
    }
}

fn came_back(hub: &Owned) {
    // SAFETY: a hub, which the reply holds.
    unsafe { (*hub.as_ptr().cast::<HubObject>()).came_from_outside() };
}

impl Reply {
    fn deliver(self, value: Object, error: Object) {
        // SAFETY: called with the GIL held.
        let py = unsafe { Python::assume_attached() };
        match self {
            Self::Waiter { ticket, outcome } => {
                outcome.value.set(value);
                outcome.error.set(error);
                ticket.wake(Reason::Notified);
            }
            Self::Function { hub, done } => {
                let object = |pointer: Object| {
                    // SAFETY: an owned reference or null.
                    unsafe { Bound::from_owned_ptr_or_opt(py, pointer) }
                        .unwrap_or_else(|| py.None().into_bound(py))
                };
                let args = PyTuple::new(py, [object(value), object(error)]);
                let callback = args
                    .and_then(|args| Callback::object(py, done.bind(py).unbind(), args.unbind()));
                // SAFETY: a hub, which the reply holds.
                let target = unsafe { &*hub.as_ptr().cast::<HubObject>() };
                match callback {
                    Ok(callback) => {
                        target.inbox().push(Entry::Call { callback: callback.into_ptr() });
                    }
                    Err(error) => error.write_unraisable(py, Some(&hub.bind(py))),
                }
                came_back(&hub);
            }
        }
    }
}
