//! `gevent.core.loop`: an event loop as Python programs see it.

use super::callback::Callback;
use super::event_loop::EventLoop;
use super::queue::Entry;
use super::run::on_main_thread;
use super::wait::Wait;
use super::{reactor_error, watchers};
use crate::greenlet::object::Status;
use crate::greenlet::thread::Thread;
use greenloop_reactor::Backend;
use pyo3::exceptions::{PyAttributeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use std::os::fd::RawFd;
use std::ptr;

/// An event loop, over the first of `backends` that works; with none, over the best there is.
///
/// Each hub has one, and runs it. Others are run by `run()`. `default` says that it is the main
/// one of the process. (greenloop.core.loop makes these.)
#[pyclass(frozen, subclass, name = "loop", module = "greenloop._core", weakref, dict)]
pub struct Loop {
    event_loop: Box<EventLoop>,
    /// What `greenloop.core` was asked for: the sum of flags.
    flags: u32,
}

impl Loop {
    pub fn event_loop(&self) -> &EventLoop {
        &self.event_loop
    }

    /// A loop for a hub that is first needed when the interpreter goes down.
    pub fn plain(py: Python<'_>) -> PyResult<Self> {
        let default = on_main_thread();
        Ok(Self { event_loop: EventLoop::new(py, &[Backend::Auto], default)?, flags: 0 })
    }

    /// The loop, if the caller runs in its thread.
    pub fn local(&self, py: Python<'_>) -> PyResult<&EventLoop> {
        self.event_loop.check_local(py)?;
        Ok(&self.event_loop)
    }

    fn open(&self) -> PyResult<&EventLoop> {
        self.event_loop.check_open()?;
        Ok(&self.event_loop)
    }
}

#[pymethods]
impl Loop {
    #[new]
    #[pyo3(signature = (backends = Vec::new(), default = true, flags = 0))]
    fn py_new(py: Python<'_>, backends: Vec<String>, default: bool, flags: u32) -> PyResult<Self> {
        let backends = if backends.is_empty() {
            vec![Backend::Auto]
        } else {
            backends
                .iter()
                .map(|name| name.parse::<Backend>())
                .collect::<Result<_, _>>()
                .map_err(|error| PyValueError::new_err(error.to_string()))?
        };
        Ok(Self { event_loop: EventLoop::new(py, &backends, default)?, flags })
    }

    /// The names of the backends that this platform has, the best first.
    #[staticmethod]
    fn _supported_backends() -> Vec<&'static str> {
        Backend::SUPPORTED.iter().map(|backend| backend.name()).collect()
    }

    // --- callbacks

    /// Calls a function from the loop, as soon as everything that is ready before it has run.
    ///
    /// Returns an object whose `stop()` takes the call back. Errors are reported by
    /// `handle_error` and do not end the loop.
    #[pyo3(signature = (func, *args))]
    fn run_callback(
        &self,
        py: Python<'_>,
        func: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
    ) -> PyResult<Py<Callback>> {
        let event_loop = self.local(py)?;
        let callback = new_callback(py, func, args)?;
        event_loop.push_local(Entry::Call { callback: callback.clone_ref(py).into_ptr() });
        event_loop.tell_observer();
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
        let event_loop = self.open()?;
        let callback = new_callback(py, func, args)?;
        let entry = Entry::Call { callback: callback.clone_ref(py).into_ptr() };
        event_loop.inbox().push(entry);
        Ok(callback)
    }

    // --- running

    /// Runs the loop until nothing keeps it running, or `break_()` is called.
    ///
    /// nowait: look once at what is ready, and do not wait.
    /// once: return after one round, in which it waits if nothing is ready.
    ///
    /// A loop that belongs to a hub is run by the hub: the caller waits for as long. Raises
    /// ValueError once the loop is destroyed, InvalidThreadUseError in another thread.
    #[pyo3(signature = (nowait = false, once = false))]
    fn run(&self, py: Python<'_>, nowait: bool, once: bool) -> PyResult<()> {
        let event_loop = self.local(py)?;
        let thread = Thread::get(py)?;
        let hub = match event_loop.hub() {
            Some(hub) if ptr::eq(thread.hub.get(), hub) && !hub.greenlet().is_running() => hub,
            _ => return event_loop.run_here(py, once, nowait),
        };
        let wait = Wait::begin(py, hub.as_ptr())?;
        if !nowait && !once {
            return wait.park(Some(&event_loop.joining), None).into_result().map(drop);
        }
        let hurried = usize::from(nowait);
        event_loop.hurried.set(event_loop.hurried.get() + hurried);
        let woken = wait.park(Some(&event_loop.one_round), None);
        event_loop.hurried.set(event_loop.hurried.get() - hurried);
        woken.into_result().map(drop)
    }

    /// Ends `run()`, after what is being called back. `how` is taken for compatibility.
    #[pyo3(signature = (how = 1))]
    fn break_(&self, py: Python<'_>, how: i32) -> PyResult<()> {
        let _ = how;
        let event_loop = self.local(py)?;
        if event_loop.depth.get() > 0 {
            event_loop.broken.set(true);
        }
        event_loop.one_round.wake_all();
        event_loop.joining.wake_all();
        Ok(())
    }

    /// Counts one more thing that keeps the loop running.
    fn r#ref(&self) -> PyResult<()> {
        let event_loop = self.open()?;
        event_loop.extra_references.set(event_loop.extra_references.get() + 1);
        Ok(())
    }

    /// Counts one less.
    fn unref(&self) -> PyResult<()> {
        let event_loop = self.open()?;
        event_loop.extra_references.set(event_loop.extra_references.get() - 1);
        Ok(())
    }

    /// The loop's time in seconds, on the monotonic clock, as of the last poll or update.
    fn now(&self) -> PyResult<f64> {
        Ok(self.open()?.now() as f64 / 1e9)
    }

    /// Sets the loop's time to the present.
    fn update_now(&self, py: Python<'_>) -> PyResult<()> {
        self.local(py)?.update_now();
        Ok(())
    }

    /// As `update_now`.
    fn update(&self, py: Python<'_>) -> PyResult<()> {
        self.update_now(py)
    }

    // --- watchers

    /// A watcher that calls back `after` seconds from its start, and then every `repeat` seconds
    /// if that is not 0.
    #[pyo3(signature = (after, repeat = 0.0, r#ref = true, priority = None))]
    fn timer<'py>(
        slf: &Bound<'py, Self>,
        after: f64,
        repeat: f64,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<Bound<'py, watchers::Timer>> {
        Bound::new(slf.py(), watchers::Timer::make(slf, after, repeat, r#ref, priority)?)
    }

    /// A watcher that calls back when the wall clock shows a moment: `offset`, in seconds since the
    /// epoch, or with an `interval` (seconds) each `offset` + n * `interval`. It follows the clock
    /// when that is set.
    #[pyo3(signature = (offset = 0.0, interval = 0.0, r#ref = true, priority = None))]
    fn periodic<'py>(
        slf: &Bound<'py, Self>,
        offset: f64,
        interval: f64,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<Bound<'py, watchers::Periodic>> {
        Bound::new(slf.py(), watchers::Periodic::make(slf, offset, interval, r#ref, priority)?)
    }

    /// A watcher that calls back while a descriptor is ready; `events` is 1 for reading, 2 for
    /// writing, 3 for both.
    #[pyo3(signature = (fd, events, r#ref = true, priority = None))]
    fn io<'py>(
        slf: &Bound<'py, Self>,
        fd: RawFd,
        events: i32,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<Bound<'py, watchers::Io>> {
        Bound::new(slf.py(), watchers::Io::make(slf, fd, events, r#ref, priority)?)
    }

    /// To be called before a descriptor is closed: those who wait for it go on, and its watchers
    /// are called back once more. Returns whether there are any; close it from a callback then.
    fn closing_fd(&self, py: Python<'_>, fd: RawFd) -> PyResult<bool> {
        Ok(self.local(py)?.forget_fd(py, fd))
    }

    /// A watcher that calls back when another thread (or signal handler) calls its `send`.
    #[pyo3(signature = (r#ref = true, priority = None))]
    fn async_<'py>(
        slf: &Bound<'py, Self>,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<Bound<'py, watchers::Async>> {
        Bound::new(slf.py(), watchers::Async::make(slf, r#ref, priority))
    }

    /// As `async_`: its name before that became a keyword.
    #[pyo3(name = "async", signature = (r#ref = true, priority = None))]
    fn async_by_its_old_name<'py>(
        slf: &Bound<'py, Self>,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<Bound<'py, watchers::Async>> {
        Self::async_(slf, r#ref, priority)
    }

    /// A watcher that calls back after the process received a signal.
    #[pyo3(signature = (signum, r#ref = true, priority = None))]
    fn signal<'py>(
        slf: &Bound<'py, Self>,
        signum: i32,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<Bound<'py, watchers::Signal>> {
        Bound::new(slf.py(), watchers::Signal::make(slf, signum, r#ref, priority)?)
    }

    /// A watcher that calls back when the child process `pid` has ended, and with `trace` also when
    /// it was stopped or continued. `pid` 0 means any child. For the default loop only.
    #[pyo3(signature = (pid, trace = watchers::Truth(false), r#ref = true))]
    fn child<'py>(
        slf: &Bound<'py, Self>,
        pid: i32,
        trace: watchers::Truth,
        r#ref: bool,
    ) -> PyResult<Bound<'py, watchers::Child>> {
        Bound::new(slf.py(), watchers::Child::make(slf, pid, trace.0, r#ref)?)
    }

    /// Handles SIGCHLD, if that is ignored: the status of children would be lost. Child watchers
    /// need nothing else; where they need the signal, they handle it themselves.
    fn install_sigchld(&self, py: Python<'_>) -> PyResult<()> {
        if self.event_loop.is_closed() || !self.event_loop.default.get() {
            return Ok(());
        }
        let event_loop = self.local(py)?;
        event_loop
            .reactor(|reactor| reactor.sigchld_install())
            .map_err(|error| reactor_error(py, &error))
    }

    /// Takes back what `install_sigchld` did.
    fn reset_sigchld(&self, py: Python<'_>) -> PyResult<()> {
        if !self.event_loop.is_closed() {
            self.local(py)?.reactor(|reactor| reactor.sigchld_reset());
        }
        Ok(())
    }

    /// A watcher that calls back when what stat() says of `path` has changed. Looks at it at least
    /// every `interval` seconds; with 0 or less, at an interval of its own choice.
    #[pyo3(signature = (path, interval = 0.0, r#ref = true, priority = None))]
    fn stat<'py>(
        slf: &Bound<'py, Self>,
        path: String,
        interval: f64,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<Bound<'py, watchers::Stat>> {
        Bound::new(slf.py(), watchers::Stat::make(slf, path, interval, r#ref, priority)?)
    }

    /// A watcher that calls back in a child process after `os.fork()`.
    #[pyo3(signature = (r#ref = true, priority = None))]
    fn fork<'py>(
        slf: &Bound<'py, Self>,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<Bound<'py, watchers::Fork>> {
        Bound::new(slf.py(), watchers::Fork::make(slf, r#ref, priority))
    }

    /// A watcher that calls back in every round, before the loop looks for events.
    #[pyo3(signature = (r#ref = true, priority = None))]
    fn prepare<'py>(
        slf: &Bound<'py, Self>,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<Bound<'py, watchers::Prepare>> {
        Bound::new(slf.py(), watchers::Prepare::make(slf, r#ref, priority))
    }

    /// A watcher that calls back in every round, after the loop has looked for events.
    #[pyo3(signature = (r#ref = true, priority = None))]
    fn check<'py>(
        slf: &Bound<'py, Self>,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<Bound<'py, watchers::Check>> {
        Bound::new(slf.py(), watchers::Check::make(slf, r#ref, priority))
    }

    /// A watcher that calls back whenever nothing else is to be done. The loop does not sleep
    /// while it is active.
    #[pyo3(signature = (r#ref = true, priority = None))]
    fn idle<'py>(
        slf: &Bound<'py, Self>,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<Bound<'py, watchers::Idle>> {
        Bound::new(slf.py(), watchers::Idle::make(slf, r#ref, priority))
    }

    // --- its state

    /// The lowest priority of watchers.
    #[classattr]
    const MINPRI: i32 = -2;

    /// The highest priority of watchers.
    #[classattr]
    const MAXPRI: i32 = 2;

    /// The class of all watchers.
    #[classattr]
    #[pyo3(name = "WatcherType")]
    fn watcher_type(py: Python<'_>) -> Py<PyType> {
        py.get_type::<watchers::Watcher>().unbind()
    }

    /// Seconds by which timers are late at least, about.
    #[classattr]
    #[pyo3(name = "approx_timer_resolution")]
    const RESOLUTION: f64 = 0.000_01;

    /// Which interface of the system the loop waits with.
    #[getter]
    fn backend(&self) -> PyResult<&'static str> {
        Ok(self.open()?.backend())
    }

    /// The sum of flags that the loop was made with.
    #[getter]
    fn origflags_int(&self) -> PyResult<u32> {
        self.open()?;
        Ok(self.flags)
    }

    /// What is active and keeps the loop running: timers, descriptor waits, watchers.
    #[getter]
    fn activecnt(&self) -> PyResult<usize> {
        Ok(self.open()?.active_count())
    }

    /// Things that are ready and have not run yet.
    #[getter]
    fn pendingcnt(&self) -> PyResult<usize> {
        Ok(self.open()?.ready_count())
    }

    /// Whether this is the main loop of the process; no more once it is destroyed.
    #[getter]
    fn default(&self) -> bool {
        self.event_loop.default.get()
    }

    /// How many calls of `run()` are under way; a hub that runs counts.
    #[getter]
    fn depth(&self) -> PyResult<usize> {
        let event_loop = self.open()?;
        let by_hub =
            event_loop.hub().is_some_and(|hub| hub.greenlet().status.get() == Status::Active);
        Ok(event_loop.depth.get() + usize::from(by_hub))
    }

    /// How often the loop has looked for events.
    #[getter]
    fn iteration(&self) -> PyResult<u64> {
        Ok(self.open()?.iteration.get())
    }

    /// A number that no other loop has; 0 once it is destroyed.
    #[getter]
    fn ptr(&self) -> usize {
        if self.event_loop.is_closed() { 0 } else { ptr::from_ref(&*self.event_loop).addr() }
    }

    /// The descriptor that is readable when the loop has something to do, for use by another loop:
    /// call `run(nowait=True)` then. It does not tell of timers, nor of greenlets that the loop's
    /// own thread has made ready. A forked child has another one. None with a backend that has no
    /// such, and once the loop is destroyed.
    fn fileno(&self, py: Python<'_>) -> PyResult<Option<RawFd>> {
        if self.event_loop.is_closed() {
            return Ok(None);
        }
        let event_loop = self.local(py)?;
        let fd = event_loop.reactor(|reactor| reactor.fd());
        event_loop.observed.set(fd.is_some());
        event_loop.tell_observer();
        Ok(fd)
    }

    /// Whether a signal has arrived that no watcher has been told of yet.
    #[getter]
    fn sig_pending(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.local(py)?.reactor(|reactor| reactor.signal_pending()))
    }

    /// The descriptor of signalfd(2), which is not used here: AttributeError.
    #[getter]
    fn sigfd(&self) -> PyResult<RawFd> {
        self.open()?;
        Err(PyAttributeError::new_err("sigfd"))
    }

    /// Raises ValueError if the loop is destroyed. (Its consistency is for the compiler to see to.)
    fn verify(&self) -> PyResult<()> {
        self.open().map(drop)
    }

    /// Whose `handle_error(context, type, value, traceback)` is told of errors in callbacks, or a
    /// function with these arguments. The hub, if nothing else was set; without either, errors are
    /// printed and end `run()`.
    #[getter]
    fn error_handler(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let handler = self.event_loop.error_handler.borrow();
        match (&*handler, self.event_loop.hub()) {
            (Some(handler), _) => Some(handler.clone_ref(py)),
            // SAFETY: the hub is alive.
            (None, Some(hub)) => unsafe {
                Some(Bound::from_borrowed_ptr(py, hub.as_ptr()).unbind())
            },
            (None, None) => None,
        }
    }

    #[setter]
    fn set_error_handler(&self, handler: Option<Py<PyAny>>) {
        let old = self.event_loop.error_handler.replace(handler);
        drop(old);
    }

    /// Tells of an error, as errors of callbacks are told of: see `error_handler`.
    #[pyo3(signature = (context, r#type, value, tb))]
    fn handle_error(
        &self,
        py: Python<'_>,
        context: Option<Bound<'_, PyAny>>,
        r#type: Bound<'_, PyAny>,
        value: Bound<'_, PyAny>,
        tb: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if let Some(handler) = self.error_handler(py) {
            let handler = handler.into_bound(py);
            let function = handler.getattr_opt("handle_error")?.unwrap_or(handler);
            function.call1((context, r#type, value, tb))?;
            return Ok(());
        }
        py.import("traceback")?.call_method1("print_exception", (r#type, value, tb))?;
        if self.event_loop.depth.get() > 0 {
            self.event_loop.broken.set(true);
        }
        Ok(())
    }

    // --- its end

    /// After `fork`, in the child: makes the descriptors of the loop anew.
    fn reinit(&self, py: Python<'_>) -> PyResult<()> {
        if self.event_loop.is_closed() {
            return Ok(());
        }
        self.local(py)?.reinit(py)
    }

    /// Drops what the loop would still run and all it waits for, and closes its descriptors. Its
    /// methods raise ValueError from then on.
    fn destroy(&self, py: Python<'_>) -> PyResult<()> {
        if !self.event_loop.is_closed() {
            self.local(py)?.destroy();
        }
        Ok(())
    }

    fn __repr__(slf: PyRef<'_, Self>) -> String {
        let event_loop = &slf.event_loop;
        if event_loop.is_closed() {
            return format!("<loop at {:p} destroyed>", slf.as_ptr());
        }
        format!(
            "<loop at {:p} backend={}{} active={} ready={}>",
            slf.as_ptr(),
            event_loop.backend(),
            if event_loop.default.get() { " default" } else { "" },
            event_loop.active_count(),
            event_loop.ready_count()
        )
    }
}

fn new_callback(
    py: Python<'_>,
    func: Bound<'_, PyAny>,
    args: Bound<'_, PyTuple>,
) -> PyResult<Py<Callback>> {
    if !func.is_callable() {
        return Err(PyTypeError::new_err(format!("Expected callable, not {}", func.repr()?)));
    }
    Callback::object(py, func.unbind(), args.unbind())
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Loop>()
}
