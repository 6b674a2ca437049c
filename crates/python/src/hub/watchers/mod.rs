//! Watchers: objects that call back on an event (`loop.timer`, `loop.io`, ...).
//!
//! An active watcher is held by the reactor, under a key that the watcher knows. When its event
//! happens it becomes *pending*, and is called back together with all others that are: by priority,
//! then in the order of their events. It calls back in the hub, where it must not wait; errors are
//! reported by `hub.handle_error` and survived.

mod child;
mod io;
mod pending;
mod simple;
mod stat;
mod timer;

pub use child::{Child, Truth};
pub use io::Io;
pub use pending::{Pending, call_pending, collect, dispatch_phase, forget, loop_ended};
pub use simple::{Async, Check, Fork, Idle, Prepare, Signal};
pub use stat::Stat;
pub use timer::{Periodic, Timer};

use super::event_loop::EventLoop;
use super::loop_object::Loop;
use super::phases::Phase;
use super::{Source, reactor_error};
use greenloop_reactor::{ChildKey, PathHint, PeriodicKey, SignalKey, TimerKey, WatchKey};
use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;
use std::cell::{Cell, RefCell};

/// Bits of what has happened, as watchers' callbacks are told it. (The numbers are libev's, which
/// are gevent's.)
pub mod events {
    pub const READ: i32 = 0x01;
    pub const WRITE: i32 = 0x02;
    pub const TIMER: i32 = 0x100;
    pub const PERIODIC: i32 = 0x200;
    pub const SIGNAL: i32 = 0x400;
    pub const CHILD: i32 = 0x800;
    pub const STAT: i32 = 0x1000;
    pub const IDLE: i32 = 0x2000;
    pub const PREPARE: i32 = 0x4000;
    pub const CHECK: i32 = 0x8000;
    pub const FORK: i32 = 0x2_0000;
    pub const ASYNC: i32 = 0x8_0000;
}

/// What a watcher has in the reactor while it is active.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Active {
    No,
    Timer(TimerKey),
    Periodic(PeriodicKey),
    Watch(WatchKey),
    Signal(SignalKey),
    Child(ChildKey),
    /// A timer, and a watch of the descriptor that hints at changes.
    Stat(TimerKey, Option<WatchKey>),
    Phase,
    Async,
}

/// What all watchers have in common.
#[pyclass(frozen, subclass, name = "watcher", module = "greenloop._core", weakref, dict)]
pub struct Watcher {
    owner: Py<Loop>,
    callback: RefCell<Option<Py<PyAny>>>,
    args: RefCell<Option<Py<PyTuple>>>,
    active: Cell<Active>,
    /// What has happened and has not been called back for yet.
    pending: Cell<Option<i32>>,
    /// Whether it keeps the loop running while active.
    keeps_running: Cell<bool>,
    priority: Cell<i32>,
    kind: Kind,
}

// SAFETY: the cells are touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for Watcher {}

/// Small, as programs have many timers: what is large lies apart.
enum Kind {
    Timer { after: Cell<f64>, repeat: f64, deadline: Cell<u64> },
    Periodic { offset: Cell<f64>, interval: Cell<f64> },
    Io { fd: Cell<i32>, events: Cell<i32> },
    Signal { signum: i32 },
    Child(child::State),
    Stat(Box<stat::State>),
    Phase(Phase),
    Async { sent: Cell<bool> },
}

impl Watcher {
    fn new(owner: &Bound<'_, Loop>, kind: Kind, keep: bool, priority: Option<i32>) -> Self {
        Self {
            owner: owner.clone().unbind(),
            callback: RefCell::new(None),
            args: RefCell::new(None),
            active: Cell::new(Active::No),
            pending: Cell::new(None),
            keeps_running: Cell::new(keep),
            priority: Cell::new(priority.unwrap_or(0)),
            kind,
        }
    }

    fn event_loop(&self) -> &EventLoop {
        self.owner.get().event_loop()
    }

    fn is_active(&self) -> bool {
        self.active.get() != Active::No
    }

    /// # Errors
    ///
    /// AttributeError while the watcher is active.
    fn check_stopped(slf: &Bound<'_, Self>, attribute: &str) -> PyResult<()> {
        if !slf.get().is_active() {
            return Ok(());
        }
        Err(PyAttributeError::new_err(format!(
            "'{}' watcher attribute '{attribute}' is read-only while watcher is active",
            slf.get_type().name()?
        )))
    }

    /// Counts the watcher, if it does not keep the loop running, or if it does and the reactor does
    /// not know it.
    fn count(&self, event_loop: &EventLoop, started: bool) {
        match (self.active.get(), self.keeps_running.get()) {
            (Active::Async, true) => event_loop.change_open_async(started),
            (Active::Async, false) => {}
            // It counts twice in the reactor.
            (Active::Stat(_, Some(_)), true) => event_loop.change_unreferenced(started),
            (Active::Stat(_, Some(_)), false) => {
                event_loop.change_unreferenced(started);
                event_loop.change_unreferenced(started);
            }
            (_, true) => {}
            (_, false) => event_loop.change_unreferenced(started),
        }
    }

    /// Puts the watcher into the reactor.
    fn activate(slf: &Bound<'_, Self>, event_loop: &EventLoop) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let source = || Source::Watcher(slf.clone().into_any().unbind());
        let active = match &this.kind {
            Kind::Timer { deadline, .. } => {
                let deadline = deadline.get();
                Active::Timer(event_loop.reactor(|reactor| reactor.timer_add(deadline, source())))
            }
            Kind::Periodic { offset, interval } => {
                let (offset, interval) = (timer::moment(offset.get()), interval.get());
                let interval = nanoseconds(interval);
                let key =
                    event_loop.reactor(|reactor| reactor.periodic_add(offset, interval, source()));
                Active::Periodic(key.map_err(|error| reactor_error(py, &error))?)
            }
            Kind::Io { fd, events } => {
                let (fd, interest) = (fd.get(), io::interest(events.get()));
                let key = event_loop.reactor(|reactor| reactor.watch(fd, interest, source()));
                Active::Watch(key.map_err(|error| reactor_error(py, &error))?)
            }
            Kind::Signal { signum } => {
                let key = event_loop.reactor(|reactor| reactor.signal_add(*signum, source()));
                Active::Signal(key.map_err(|error| reactor_error(py, &error))?)
            }
            Kind::Child(child) => {
                let (pid, trace) = (child.pid, child.trace);
                let key = event_loop.reactor(|reactor| reactor.child_add(pid, trace, source()));
                Active::Child(key.map_err(|error| reactor_error(py, &error))?)
            }
            Kind::Stat(state) => {
                state.begin(py)?;
                let hint = PathHint::new(state.path()).ok();
                let watch = hint.as_ref().and_then(|hint| {
                    let (fd, interest) = (hint.raw_fd(), io::interest(events::READ));
                    event_loop.reactor(|reactor| reactor.watch(fd, interest, source())).ok()
                });
                state.hint.replace(hint);
                Active::Stat(stat::arm(event_loop, state, source()), watch)
            }
            Kind::Phase(phase) => {
                event_loop.phases.add(*phase, slf.clone().into_any().unbind());
                Active::Phase
            }
            Kind::Async { .. } => Active::Async,
        };
        this.active.set(active);
        this.count(event_loop, true);
        Ok(())
    }

    /// Takes the watcher out of the reactor. What has happened before is not called back for.
    fn deactivate(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.pending.set(None);
        if let Kind::Child(child) = &this.kind {
            child.forget();
        }
        if !this.is_active() {
            return Ok(());
        }
        let event_loop = this.owner.get().local(slf.py())?;
        this.count(event_loop, false);
        let sources = match this.active.replace(Active::No) {
            Active::No | Active::Async => [None, None],
            Active::Timer(key) => [event_loop.reactor(|reactor| reactor.timer_remove(key)), None],
            Active::Periodic(key) => {
                [event_loop.reactor(|reactor| reactor.periodic_remove(key)), None]
            }
            Active::Watch(key) => [event_loop.reactor(|reactor| reactor.unwatch(key)), None],
            Active::Signal(key) => [event_loop.reactor(|reactor| reactor.signal_remove(key)), None],
            Active::Child(key) => [event_loop.reactor(|reactor| reactor.child_remove(key)), None],
            Active::Stat(timer, watch) => {
                let timer = event_loop.reactor(|reactor| reactor.timer_remove(timer));
                let watch = watch.and_then(|watch| event_loop.reactor(|r| r.unwatch(watch)));
                let Kind::Stat(state) = &this.kind else { unreachable!("active as a stat") };
                state.hint.replace(None);
                [timer, watch]
            }
            Active::Phase => {
                let Kind::Phase(phase) = this.kind else { unreachable!("active as a phase") };
                let watcher = event_loop.phases.remove(phase, slf.as_ptr());
                [watcher.map(Source::Watcher), None]
            }
        };
        drop(sources);
        Ok(())
    }

    /// Becomes pending: is called back in this round of the loop, or the next.
    fn happen(slf: &Bound<'_, Self>, revents: i32) {
        let this = slf.get();
        if let Some(earlier) = this.pending.get() {
            this.pending.set(Some(earlier | revents));
            return;
        }
        this.pending.set(Some(revents));
        this.event_loop().pending.borrow_mut().push(Pending(slf.clone().unbind()));
    }

    fn set_call(&self, func: Bound<'_, PyAny>, args: Bound<'_, PyTuple>) {
        let old = (
            self.callback.borrow_mut().replace(func.unbind()),
            self.args.borrow_mut().replace(args.unbind()),
        );
        drop(old);
    }

    fn clear_call(&self) {
        let old = (self.callback.borrow_mut().take(), self.args.borrow_mut().take());
        drop(old);
    }

    /// Calls back, in the hub. A watcher that is stopped then forgets what it has called.
    fn call_back(slf: &Bound<'_, Self>, revents: i32) {
        let py = slf.py();
        let this = slf.get();
        let func = this.callback.borrow().as_ref().map(|func| func.clone_ref(py));
        if let Some(func) = func {
            let args = this.args.borrow().as_ref().map(|args| args.clone_ref(py));
            let result = match args {
                None => func.bind(py).call0(),
                Some(args) => with_events(args.into_bound(py), revents)
                    .and_then(|args| func.bind(py).call1(args)),
            };
            if let Err(error) = result {
                this.event_loop().report(py, Some(slf.as_any()), error);
            }
        }
        if !this.is_active() && this.pending.get().is_none() {
            this.clear_call();
        }
    }
}

fn check_callable(func: &Bound<'_, PyAny>) -> PyResult<()> {
    if func.is_callable() {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!("Expected callable, not {}", func.repr()?)))
}

/// Stands in a watcher's arguments for the bits of what has happened.
#[pyclass(frozen, name = "_EVENTSType", module = "greenloop._core")]
struct EventsType;

#[pymethods]
impl EventsType {
    #[allow(clippy::unused_self)]
    fn __repr__(&self) -> &'static str {
        "gevent.core.EVENTS"
    }
}

fn events_placeholder(py: Python<'_>) -> PyResult<&Py<EventsType>> {
    static PLACEHOLDER: PyOnceLock<Py<EventsType>> = PyOnceLock::new();
    PLACEHOLDER.get_or_try_init(py, || Py::new(py, EventsType))
}

/// The arguments, with the bits in the place that was kept for them.
fn with_events(args: Bound<'_, PyTuple>, revents: i32) -> PyResult<Bound<'_, PyTuple>> {
    let py = args.py();
    if args.is_empty() || !args.get_borrowed_item(0)?.is(events_placeholder(py)?) {
        return Ok(args);
    }
    let mut all: Vec<_> = args.iter().collect();
    all[0] = revents.into_pyobject(py)?.into_any();
    PyTuple::new(py, all)
}

/// Seconds as the reactor counts them. What is negative counts as 0; too much, as never.
fn nanoseconds(seconds: f64) -> u64 {
    (seconds.max(0.0) * 1e9) as u64
}

#[pymethods]
impl Watcher {
    /// Calls `callback(*args)` on every event from now on.
    #[pyo3(signature = (callback, *args))]
    fn start(
        slf: &Bound<'_, Self>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        check_callable(&callback)?;
        let event_loop = slf.get().owner.get().local(slf.py())?;
        slf.get().set_call(callback, args);
        if slf.get().is_active() {
            return Ok(());
        }
        let outcome = Self::activate(slf, event_loop);
        if outcome.is_err() {
            slf.get().clear_call();
        }
        outcome
    }

    /// Calls `callback(*args)` in the next round of the loop, as if the event `revents` (bits) had
    /// happened, whether or not the watcher is active.
    #[pyo3(signature = (revents, callback, *args))]
    fn feed(
        slf: &Bound<'_, Self>,
        revents: i32,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        check_callable(&callback)?;
        slf.get().owner.get().local(slf.py())?;
        slf.get().set_call(callback, args);
        Self::happen(slf, revents);
        slf.get().event_loop().tell_observer();
        Ok(())
    }

    /// Stops calling back, also for what has happened already.
    fn stop(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::deactivate(slf)?;
        slf.get().clear_call();
        Ok(())
    }

    /// Stops calling back, for good.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::stop(slf)
    }

    /// Whether it waits for its event.
    #[getter]
    fn active(&self) -> bool {
        self.is_active()
    }

    /// Whether an event has happened that has not been called back for yet.
    #[getter]
    fn pending(&self) -> bool {
        self.pending.get().is_some() || matches!(&self.kind, Kind::Async { sent } if sent.get())
    }

    /// The loop it belongs to.
    #[getter]
    fn r#loop(&self, py: Python<'_>) -> Py<Loop> {
        self.owner.clone_ref(py)
    }

    /// The function to call back, None while stopped.
    #[getter]
    fn callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.callback.borrow().as_ref().map(|func| func.clone_ref(py))
    }

    #[setter]
    fn set_callback(&self, func: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        if let Some(func) = &func {
            check_callable(func)?;
        }
        let old = self.callback.replace(func.map(Bound::unbind));
        drop(old);
        Ok(())
    }

    /// The arguments to call back with, None while stopped.
    #[getter]
    fn args(&self, py: Python<'_>) -> Option<Py<PyTuple>> {
        self.args.borrow().as_ref().map(|args| args.clone_ref(py))
    }

    #[setter]
    fn set_args(&self, args: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let args = match args.map(Bound::cast_into::<PyTuple>) {
            None => None,
            Some(Ok(args)) => Some(args.unbind()),
            Some(Err(other)) => {
                return Err(PyTypeError::new_err(format!(
                    "args must be a tuple or None, not {}",
                    other.into_inner().get_type().name()?
                )));
            }
        };
        let old = self.args.replace(args);
        drop(old);
        Ok(())
    }

    /// Whether it keeps the loop running while it is active.
    #[getter]
    fn r#ref(&self) -> bool {
        self.keeps_running.get()
    }

    #[setter]
    fn set_ref(&self, py: Python<'_>, value: bool) -> PyResult<()> {
        if value == self.keeps_running.get() {
            return Ok(());
        }
        if self.is_active() {
            let event_loop = self.owner.get().local(py)?;
            self.count(event_loop, false);
            self.keeps_running.set(value);
            self.count(event_loop, true);
        }
        self.keeps_running.set(value);
        Ok(())
    }

    /// Of watchers whose events are found together, those with a higher priority are called back
    /// first: -2 to 2, 0 unless it is set. May be changed while stopped.
    #[getter]
    fn priority(&self) -> i32 {
        self.priority.get()
    }

    #[setter]
    fn set_priority(&self, value: i32) -> PyResult<()> {
        if self.is_active() {
            return Err(PyAttributeError::new_err("Cannot set priority of an active watcher"));
        }
        self.priority.set(value);
        Ok(())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(slf: &Bound<'_, Self>, _args: Bound<'_, PyTuple>) -> PyResult<()> {
        Self::close(slf)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let this = slf.get();
        let detail = match &this.kind {
            Kind::Timer { after, repeat, .. } => format!(" after={} repeat={repeat}", after.get()),
            Kind::Periodic { offset, interval } => {
                format!(" offset={} interval={}", offset.get(), interval.get())
            }
            Kind::Io { fd, events } => {
                format!(" fd={} events={}", fd.get(), io::events_text(events.get()))
            }
            Kind::Signal { signum } => format!(" signum={signum}"),
            Kind::Child(child) => format!(" pid={} rstatus={}", child.pid, child.rstatus.get()),
            Kind::Stat(state) => format!(" path={:?}", state.path()),
            Kind::Phase(_) | Kind::Async { .. } => String::new(),
        };
        let active = if this.is_active() { " active" } else { "" };
        let pending = if this.pending() { " pending" } else { "" };
        let mut call = String::new();
        if let Some(func) = this.callback(py) {
            call = format!(" callback={}", func.bind(py).repr()?);
        }
        if let Some(args) = this.args(py) {
            call = format!("{call} args={}", args.bind(py).repr()?);
        }
        let name = slf.get_type().name()?;
        Ok(format!("<{name} at {:p}{active}{pending}{detail}{call}>", slf.as_ptr()))
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("EVENTS", events_placeholder(module.py())?.clone_ref(module.py()))?;
    module.add_class::<Watcher>()?;
    module.add_class::<Timer>()?;
    module.add_class::<Periodic>()?;
    module.add_class::<Io>()?;
    module.add_class::<Signal>()?;
    module.add_class::<Child>()?;
    module.add_class::<Stat>()?;
    module.add_class::<Fork>()?;
    module.add_class::<Prepare>()?;
    module.add_class::<Check>()?;
    module.add_class::<Idle>()?;
    module.add_class::<Async>()
}
