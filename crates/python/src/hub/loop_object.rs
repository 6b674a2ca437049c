//! `hub.loop`: the event loop as Python programs see it.

use super::callback::Callback;
use super::queue::Entry;
use super::{HubObject, watchers};
use crate::exceptions;
use crate::greenlet::thread::Thread;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// The event loop of one hub. (As gevent.core.loop, over greenloop's reactor.)
#[pyclass(frozen, name = "loop", module = "greenloop._core", weakref, dict)]
pub struct Loop {
    hub: Py<PyAny>,
}

impl Loop {
    pub fn new(hub: Py<PyAny>) -> Self {
        Self { hub }
    }

    /// The hub behind the loop.
    pub fn hub<'a>(&'a self, _py: Python<'_>) -> &'a HubObject {
        // SAFETY: loops are made for hubs only, and keep them alive.
        unsafe { &*self.hub.as_ptr().cast::<HubObject>() }
    }

    /// The hub, if the caller runs in its thread.
    pub fn local_hub<'a>(&'a self, py: Python<'_>) -> PyResult<&'a HubObject> {
        let hub = self.hub(py);
        let thread = hub.greenlet().thread.get();
        if Thread::try_get().is_some_and(|calling| std::ptr::eq(calling, thread)) {
            return Ok(hub);
        }
        Err(exceptions::invalid_thread_use(
            py,
            "this loop belongs to another thread: use run_callback_threadsafe there",
        ))
    }
}

#[pymethods]
impl Loop {
    /// Calls a function from the hub, as soon as everything that is ready before it has run.
    ///
    /// Returns an object whose `stop()` takes the call back. Errors are reported by
    /// `hub.handle_error` and do not end the loop.
    #[pyo3(signature = (func, *args))]
    fn run_callback(
        &self,
        py: Python<'_>,
        func: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
    ) -> PyResult<Py<Callback>> {
        let hub = self.local_hub(py)?;
        let callback = new_callback(py, func, args)?;
        hub.push_local(Entry::Call { callback: callback.clone_ref(py).into_ptr() });
        Ok(callback)
    }

    /// As `run_callback`, but may be called from any thread, and wakes the loop.
    #[pyo3(signature = (func, *args))]
    fn run_callback_threadsafe(
        &self,
        py: Python<'_>,
        func: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
    ) -> PyResult<Py<Callback>> {
        let callback = new_callback(py, func, args)?;
        let entry = Entry::Call { callback: callback.clone_ref(py).into_ptr() };
        self.hub(py).inbox().push(entry);
        Ok(callback)
    }

    /// The loop's time in seconds, on the monotonic clock, as of the last poll or update.
    fn now(&self, py: Python<'_>) -> f64 {
        self.hub(py).now() as f64 / 1e9
    }

    /// Sets the loop's time to the present.
    ///
    /// InvalidThreadUseError is raised in a thread that is not the loop's.
    fn update_now(&self, py: Python<'_>) -> PyResult<()> {
        self.local_hub(py)?.reactor(|reactor| reactor.update_now());
        Ok(())
    }

    /// As `update_now`.
    fn update(&self, py: Python<'_>) -> PyResult<()> {
        self.update_now(py)
    }

    /// A watcher that calls back `after` seconds from its start, and then every `repeat` seconds
    /// if that is not 0.
    #[pyo3(signature = (after, repeat = 0.0, r#ref = true, priority = None))]
    fn timer(
        slf: Bound<'_, Self>,
        after: f64,
        repeat: f64,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<Py<watchers::Timer>> {
        watchers::Timer::create(slf, after, repeat, r#ref, priority)
    }

    /// A watcher that calls back while a descriptor is ready; `events` is 1 for reading, 2 for
    /// writing, 3 for both.
    #[pyo3(signature = (fd, events, r#ref = true, priority = None))]
    fn io(
        slf: Bound<'_, Self>,
        fd: i32,
        events: i32,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<Py<watchers::Io>> {
        watchers::Io::create(slf, fd, events, r#ref, priority)
    }

    /// A watcher that calls back when another thread (or signal handler) calls its `send`.
    #[pyo3(signature = (r#ref = true, priority = None))]
    fn async_(
        slf: Bound<'_, Self>,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<Py<watchers::Async>> {
        watchers::Async::create(slf, r#ref, priority)
    }

    /// A watcher that calls back after the process received a signal.
    #[pyo3(signature = (signum, r#ref = true, priority = None))]
    fn signal(
        slf: Bound<'_, Self>,
        signum: i32,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<Py<watchers::Signal>> {
        watchers::Signal::create(slf, signum, r#ref, priority)
    }

    /// A watcher that calls back in every round, before the loop looks for events.
    #[pyo3(signature = (r#ref = true, priority = None))]
    fn prepare(
        slf: Bound<'_, Self>,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<Py<watchers::Prepare>> {
        watchers::Prepare::create(&slf, r#ref, priority)
    }

    /// A watcher that calls back in every round, after the loop has looked for events.
    #[pyo3(signature = (r#ref = true, priority = None))]
    fn check(
        slf: Bound<'_, Self>,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<Py<watchers::Check>> {
        watchers::Check::create(&slf, r#ref, priority)
    }

    /// A watcher that calls back whenever nothing else is to be done. The loop does not sleep
    /// while it is active.
    #[pyo3(signature = (r#ref = true, priority = None))]
    fn idle(
        slf: Bound<'_, Self>,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<Py<watchers::Idle>> {
        watchers::Idle::create(&slf, r#ref, priority)
    }

    /// Which interface of the system the loop waits with.
    #[getter]
    fn backend(&self, py: Python<'_>) -> &'static str {
        self.hub(py).backend()
    }

    /// Active timers, descriptor waits, watches and signals.
    #[getter]
    fn activecnt(&self, py: Python<'_>) -> usize {
        self.hub(py).active_count()
    }

    /// Things that are ready and have not run yet.
    #[getter]
    fn pendingcnt(&self, py: Python<'_>) -> usize {
        self.hub(py).ready_count()
    }

    /// Whether this is the main thread's loop.
    #[getter]
    fn default(&self, py: Python<'_>) -> bool {
        self.hub(py).handles_signals()
    }

    /// The hub's `handle_error`.
    fn handle_error(
        &self,
        py: Python<'_>,
        context: Bound<'_, PyAny>,
        kind: Bound<'_, PyAny>,
        value: Bound<'_, PyAny>,
        traceback: Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        self.hub.call_method1(py, "handle_error", (context, kind, value, traceback))
    }

    /// After `fork`, in the child: makes the descriptors of the loop anew.
    ///
    /// InvalidThreadUseError is raised in a thread that is not the loop's.
    fn reinit(&self, py: Python<'_>) -> PyResult<()> {
        self.local_hub(py)?.reinit(py)
    }

    fn __repr__(slf: PyRef<'_, Self>) -> String {
        let py = slf.py();
        format!(
            "<loop at {:p} backend={} active={} ready={}>",
            slf.as_ptr(),
            slf.backend(py),
            slf.activecnt(py),
            slf.pendingcnt(py)
        )
    }
}

fn new_callback(
    py: Python<'_>,
    func: Bound<'_, PyAny>,
    args: Bound<'_, PyTuple>,
) -> PyResult<Py<Callback>> {
    if !func.is_callable() {
        return Err(pyo3::exceptions::PyTypeError::new_err(format!(
            "Expected callable, not {}",
            func.repr()?
        )));
    }
    Py::new(py, Callback::new(func.unbind(), args.unbind()))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Loop>()
}
