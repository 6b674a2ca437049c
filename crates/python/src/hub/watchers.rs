//! Watchers: objects that call back on an event (`loop.timer`, `loop.io`, ...).
//!
//! An active watcher is held by the reactor, under a key that the watcher knows. It calls back in
//! the hub, where it must not wait; errors are reported by `hub.handle_error` and survived.

use super::loop_object::Loop;
use super::phases::Phase;
use super::queue::Entry;
use super::{HubObject, Source, callback::Callback, reactor_error};
use crate::exceptions;
use greenloop_reactor::{Fired, Interest, SignalKey, TimerKey, WatchKey};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::cell::{Cell, RefCell};

/// What a watcher has in the reactor while it is active.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Active {
    No,
    Timer(TimerKey),
    Watch(WatchKey),
    Signal(SignalKey),
    Phase,
    Async,
}

/// What all watchers have in common.
#[pyclass(frozen, subclass, name = "watcher", module = "greenloop._core", weakref, dict)]
pub struct Watcher {
    owner: Py<Loop>,
    call: RefCell<Option<(Py<PyAny>, Py<PyTuple>)>>,
    active: Cell<Active>,
    /// Whether it keeps the loop running while active.
    keeps_running: Cell<bool>,
    priority: Cell<i32>,
    kind: Kind,
}

// SAFETY: the cells are touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for Watcher {}

enum Kind {
    Timer { after: Cell<f64>, repeat: Cell<f64> },
    Io { fd: Cell<i32>, events: Cell<i32> },
    Signal { signum: i32 },
    Phase(Phase),
    Async { sent: Cell<bool> },
}

impl Watcher {
    fn new(owner: &Bound<'_, Loop>, kind: Kind, keep: bool, priority: Option<i32>) -> Self {
        Self {
            owner: owner.clone().unbind(),
            call: RefCell::new(None),
            active: Cell::new(Active::No),
            keeps_running: Cell::new(keep),
            priority: Cell::new(priority.unwrap_or(0)),
            kind,
        }
    }

    fn is_active(&self) -> bool {
        self.active.get() != Active::No
    }

    fn count_unreferenced(&self, hub: &HubObject, started: bool) {
        if !self.keeps_running.get() && !matches!(self.active.get(), Active::Async) {
            hub.change_unreferenced(started);
        }
    }

    /// Puts the watcher into the reactor.
    fn activate(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let hub = this.owner.get().local_hub(py)?;
        let source = Source::Watcher(slf.clone().into_any().unbind());
        let active = match &this.kind {
            Kind::Timer { after, .. } => Active::Timer(hub.reactor(|reactor| {
                let deadline = reactor.now().saturating_add(nanoseconds(after.get()));
                reactor.timer_add(deadline, source)
            })),
            Kind::Io { fd, events } => Active::Watch(
                hub.reactor(|reactor| reactor.watch(fd.get(), interest(events.get()), source))
                    .map_err(|error| reactor_error(py, &error))?,
            ),
            Kind::Signal { signum } => Active::Signal(
                hub.reactor(|reactor| reactor.signal_add(*signum, source))
                    .map_err(|error| reactor_error(py, &error))?,
            ),
            Kind::Phase(phase) => {
                let Source::Watcher(watcher) = source else { unreachable!("made above") };
                hub.phases.add(*phase, watcher);
                Active::Phase
            }
            Kind::Async { .. } => {
                drop(source);
                hub.change_open_async(true, this.keeps_running.get());
                Active::Async
            }
        };
        this.active.set(active);
        this.count_unreferenced(hub, true);
        Ok(())
    }

    /// Takes the watcher out of the reactor.
    fn deactivate(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if !this.is_active() {
            return Ok(());
        }
        let hub = this.owner.get().local_hub(slf.py())?;
        this.count_unreferenced(hub, false);
        let source = match this.active.replace(Active::No) {
            Active::No => None,
            Active::Timer(key) => hub.reactor(|reactor| reactor.timer_remove(key)),
            Active::Watch(key) => hub.reactor(|reactor| reactor.unwatch(key)),
            Active::Signal(key) => hub.reactor(|reactor| reactor.signal_remove(key)),
            Active::Phase => {
                let Kind::Phase(phase) = this.kind else { unreachable!("active as a phase") };
                let watcher = hub.phases.remove(phase, slf.as_ptr());
                watcher.map(Source::Watcher)
            }
            Active::Async => {
                hub.change_open_async(false, this.keeps_running.get());
                None
            }
        };
        drop(source);
        Ok(())
    }

    fn set_call(&self, func: Bound<'_, PyAny>, args: Bound<'_, PyTuple>) -> PyResult<()> {
        if !func.is_callable() {
            return Err(PyTypeError::new_err(format!("Expected callable, not {}", func.repr()?)));
        }
        let old = self.call.borrow_mut().replace((func.unbind(), args.unbind()));
        drop(old);
        Ok(())
    }

    /// Calls back, in the hub.
    fn call_back(slf: &Bound<'_, Self>, hub: &HubObject) {
        let py = slf.py();
        let call = slf
            .get()
            .call
            .borrow()
            .as_ref()
            .map(|(func, args)| (func.clone_ref(py), args.clone_ref(py)));
        if let Some((func, args)) = call
            && let Err(error) = func.bind(py).call1(args.bind(py))
        {
            exceptions::handle_error(py, hub, Some(slf.as_any()), error);
        }
    }
}

fn nanoseconds(seconds: f64) -> u64 {
    (seconds.max(0.0) * 1e9) as u64
}

/// Bits of `events`: 1 for reading, 2 for writing.
const READ: i32 = 1;
const WRITE: i32 = 2;

fn interest(events: i32) -> Interest {
    match events & (READ | WRITE) {
        READ => Interest::READABLE,
        WRITE => Interest::WRITABLE,
        _ => Interest::READABLE | Interest::WRITABLE,
    }
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
        slf.get().set_call(callback, args)?;
        if slf.get().is_active() {
            return Ok(());
        }
        Self::activate(slf)
    }

    /// Stops calling back.
    fn stop(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::deactivate(slf)?;
        let call = slf.get().call.borrow_mut().take();
        drop(call);
        Ok(())
    }

    /// Stops calling back, for good.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::stop(slf)
    }

    /// Whether it will call back.
    #[getter]
    fn active(&self) -> bool {
        self.is_active()
    }

    /// Whether an event has happened that has not been called back for yet.
    #[getter]
    fn pending(&self) -> bool {
        matches!(&self.kind, Kind::Async { sent } if sent.get())
    }

    /// The loop it belongs to.
    #[getter]
    fn r#loop(&self, py: Python<'_>) -> Py<Loop> {
        self.owner.clone_ref(py)
    }

    /// The function to call back, None while stopped.
    #[getter]
    fn callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.call.borrow().as_ref().map(|(func, _)| func.clone_ref(py))
    }

    #[setter]
    fn set_callback(&self, py: Python<'_>, func: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let args = self.args(py).map_or_else(|| PyTuple::empty(py), |args| args.into_bound(py));
        match func {
            Some(func) => self.set_call(func, args),
            None => {
                let call = self.call.borrow_mut().take();
                drop(call);
                Ok(())
            }
        }
    }

    /// The arguments to call back with, None while stopped.
    #[getter]
    fn args(&self, py: Python<'_>) -> Option<Py<PyTuple>> {
        self.call.borrow().as_ref().map(|(_, args)| args.clone_ref(py))
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
            let hub = self.owner.get().local_hub(py)?;
            match self.active.get() {
                Active::Async => hub.change_open_async_kind(value),
                _ => hub.change_unreferenced(!value),
            }
        }
        self.keeps_running.set(value);
        Ok(())
    }

    /// Kept for programs that set it; events are called back in the order they are found.
    #[getter]
    fn priority(&self) -> i32 {
        self.priority.get()
    }

    #[setter]
    fn set_priority(&self, value: i32) -> PyResult<()> {
        if self.is_active() {
            return Err(PyTypeError::new_err("Cannot set priority of an active watcher"));
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
        let this = slf.get();
        let detail = match &this.kind {
            Kind::Timer { after, repeat } => {
                format!(" after={} repeat={}", after.get(), repeat.get())
            }
            Kind::Io { fd, events } => {
                let names = ["", "READ", "WRITE", "READ|WRITE"];
                format!(" fd={} events={}", fd.get(), names[(events.get() & 3) as usize])
            }
            Kind::Signal { signum } => format!(" signum={signum}"),
            Kind::Phase(_) | Kind::Async { .. } => String::new(),
        };
        let active = if this.is_active() { " active" } else { "" };
        let callback = match this.callback(slf.py()) {
            Some(func) => format!(" callback={}", func.bind(slf.py()).repr()?),
            None => String::new(),
        };
        let name = slf.get_type().name()?;
        Ok(format!("<{name} at {:p}{active}{detail}{callback}>", slf.as_ptr()))
    }
}

/// Calls back after a time, and maybe again and again.
#[pyclass(frozen, extends = Watcher, name = "timer", module = "greenloop._core")]
pub struct Timer;

impl Timer {
    pub fn create(
        owner: Bound<'_, Loop>,
        after: f64,
        repeat: f64,
        keep: bool,
        priority: Option<i32>,
    ) -> PyResult<Py<Self>> {
        if repeat.is_nan() || repeat < 0.0 {
            return Err(PyValueError::new_err(format!(
                "repeat must be positive or zero: {repeat}"
            )));
        }
        if after.is_nan() {
            return Err(PyValueError::new_err("after must be a number of seconds, not nan"));
        }
        let kind = Kind::Timer { after: Cell::new(after), repeat: Cell::new(repeat) };
        let watcher = Watcher::new(&owner, kind, keep, priority);
        Py::new(owner.py(), PyClassInitializer::from(watcher).add_subclass(Self))
    }
}

#[pymethods]
impl Timer {
    /// Calls `callback(*args)` when the time is over; with `update` (the default) counted from
    /// the present moment, else from the loop's time.
    #[pyo3(signature = (callback, *args, update = None))]
    fn start(
        slf: &Bound<'_, Self>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
        update: Option<bool>,
    ) -> PyResult<()> {
        let watcher = slf.cast::<Watcher>()?;
        if update.unwrap_or(true) {
            let hub = watcher.get().owner.get().local_hub(slf.py())?;
            hub.reactor(|reactor| reactor.update_now());
        }
        Watcher::start(watcher, callback, args)
    }

    /// Starts over with `repeat` as the time, or stops if that is 0.
    #[pyo3(signature = (callback, *args, update = None))]
    fn again(
        slf: &Bound<'_, Self>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
        update: Option<bool>,
    ) -> PyResult<()> {
        let watcher = slf.cast::<Watcher>()?;
        Watcher::deactivate(watcher)?;
        let this = watcher.get();
        let Kind::Timer { after, repeat } = &this.kind else { unreachable!("a timer") };
        if repeat.get() == 0.0 {
            return Watcher::stop(watcher);
        }
        after.set(repeat.get());
        Self::start(slf, callback, args, update)
    }

    /// Seconds from the start to the first call.
    #[getter]
    fn at(slf: &Bound<'_, Self>) -> PyResult<f64> {
        let Kind::Timer { after, .. } = &slf.cast::<Watcher>()?.get().kind else {
            unreachable!("a timer")
        };
        Ok(after.get())
    }
}

/// Calls back while a descriptor is ready.
#[pyclass(frozen, extends = Watcher, name = "io", module = "greenloop._core")]
pub struct Io;

impl Io {
    pub fn create(
        owner: Bound<'_, Loop>,
        fd: i32,
        events: i32,
        keep: bool,
        priority: Option<i32>,
    ) -> PyResult<Py<Self>> {
        if fd < 0 {
            return Err(PyValueError::new_err(format!("fd must be non-negative: {fd}")));
        }
        check_events(events)?;
        let kind = Kind::Io { fd: Cell::new(fd), events: Cell::new(events) };
        let watcher = Watcher::new(&owner, kind, keep, priority);
        Py::new(owner.py(), PyClassInitializer::from(watcher).add_subclass(Self))
    }

    fn cells<'a>(
        slf: &'a Bound<'_, Self>,
    ) -> PyResult<(&'a Watcher, &'a Cell<i32>, &'a Cell<i32>)> {
        let watcher = slf.cast::<Watcher>()?.get();
        match &watcher.kind {
            Kind::Io { fd, events } => Ok((watcher, fd, events)),
            _ => unreachable!("an io watcher"),
        }
    }
}

fn check_events(events: i32) -> PyResult<()> {
    if events & !(READ | WRITE) != 0 || events == 0 {
        return Err(PyValueError::new_err(format!("illegal event mask: {events}")));
    }
    Ok(())
}

#[pymethods]
impl Io {
    /// The descriptor; may be changed while stopped.
    #[getter]
    fn fd(slf: &Bound<'_, Self>) -> PyResult<i32> {
        Ok(Self::cells(slf)?.1.get())
    }

    #[setter]
    fn set_fd(slf: &Bound<'_, Self>, value: i32) -> PyResult<()> {
        let (watcher, fd, _) = Self::cells(slf)?;
        if watcher.is_active() {
            return Err(PyTypeError::new_err(
                "'io' watcher attribute 'fd' is read-only while watcher is active",
            ));
        }
        fd.set(value);
        Ok(())
    }

    /// 1 for reading, 2 for writing, 3 for both; may be changed while stopped.
    #[getter]
    fn events(slf: &Bound<'_, Self>) -> PyResult<i32> {
        Ok(Self::cells(slf)?.2.get())
    }

    #[setter]
    fn set_events(slf: &Bound<'_, Self>, value: i32) -> PyResult<()> {
        check_events(value)?;
        let (watcher, _, events) = Self::cells(slf)?;
        if watcher.is_active() {
            return Err(PyTypeError::new_err(
                "'io' watcher attribute 'events' is read-only while watcher is active",
            ));
        }
        events.set(value);
        Ok(())
    }
}

/// Calls back after a signal. Python's own handler, if there is one, runs too.
#[pyclass(frozen, extends = Watcher, name = "signal", module = "greenloop._core")]
pub struct Signal;

impl Signal {
    pub fn create(
        owner: Bound<'_, Loop>,
        signum: i32,
        keep: bool,
        priority: Option<i32>,
    ) -> PyResult<Py<Self>> {
        if !(1..=64).contains(&signum) {
            return Err(PyValueError::new_err(format!("illegal signal number: {signum}")));
        }
        let watcher = Watcher::new(&owner, Kind::Signal { signum }, keep, priority);
        Py::new(owner.py(), PyClassInitializer::from(watcher).add_subclass(Self))
    }
}

/// Makes a watcher of a phase.
fn create_phase<'py, T>(
    owner: &Bound<'py, Loop>,
    phase: Phase,
    class: T,
    keep: bool,
    priority: Option<i32>,
) -> PyResult<Py<T>>
where
    T: pyo3::PyClass<BaseType = Watcher>,
{
    let watcher = Watcher::new(owner, Kind::Phase(phase), keep, priority);
    Py::new(owner.py(), PyClassInitializer::from(watcher).add_subclass(class))
}

/// Calls back in every round of the loop, before it looks for events.
#[pyclass(frozen, extends = Watcher, name = "prepare", module = "greenloop._core")]
pub struct Prepare;

impl Prepare {
    pub fn create(
        owner: &Bound<'_, Loop>,
        keep: bool,
        priority: Option<i32>,
    ) -> PyResult<Py<Self>> {
        create_phase(owner, Phase::Prepare, Self, keep, priority)
    }
}

/// Calls back in every round of the loop, after it has looked for events.
#[pyclass(frozen, extends = Watcher, name = "check", module = "greenloop._core")]
pub struct Check;

impl Check {
    pub fn create(
        owner: &Bound<'_, Loop>,
        keep: bool,
        priority: Option<i32>,
    ) -> PyResult<Py<Self>> {
        create_phase(owner, Phase::Check, Self, keep, priority)
    }
}

/// Calls back whenever nothing else is to be done. The loop does not sleep meanwhile.
#[pyclass(frozen, extends = Watcher, name = "idle", module = "greenloop._core")]
pub struct Idle;

impl Idle {
    pub fn create(
        owner: &Bound<'_, Loop>,
        keep: bool,
        priority: Option<i32>,
    ) -> PyResult<Py<Self>> {
        create_phase(owner, Phase::Idle, Self, keep, priority)
    }
}

/// Calls back when `send` is called, from whatever thread.
#[pyclass(frozen, extends = Watcher, name = "async_", module = "greenloop._core")]
pub struct Async;

impl Async {
    pub fn create(owner: Bound<'_, Loop>, keep: bool, priority: Option<i32>) -> PyResult<Py<Self>> {
        let watcher = Watcher::new(&owner, Kind::Async { sent: Cell::new(false) }, keep, priority);
        Py::new(owner.py(), PyClassInitializer::from(watcher).add_subclass(Self))
    }
}

#[pymethods]
impl Async {
    /// Wakes the loop, which calls back once, however often this was called before.
    fn send(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let watcher = slf.cast::<Watcher>()?;
        let this = watcher.get();
        let Kind::Async { sent } = &this.kind else { unreachable!("an async watcher") };
        if !this.is_active() || sent.replace(true) {
            return Ok(());
        }
        let call = slf.getattr("_call_back")?.unbind();
        let callback = Py::new(py, Callback::new(call, PyTuple::empty(py).unbind()))?;
        this.owner.get().hub(py).inbox().push(Entry::Call { callback: callback.into_ptr() });
        Ok(())
    }

    /// As `send`; the argument is for use as a callback.
    fn send_ignoring_arg(slf: &Bound<'_, Self>, _ignored: Bound<'_, PyAny>) -> PyResult<()> {
        Self::send(slf)
    }

    fn _call_back(slf: &Bound<'_, Self>) -> PyResult<()> {
        let watcher = slf.cast::<Watcher>()?;
        let this = watcher.get();
        let Kind::Async { sent } = &this.kind else { unreachable!("an async watcher") };
        sent.set(false);
        Watcher::call_back(watcher, this.owner.get().hub(slf.py()));
        Ok(())
    }
}

/// Hands an event of the reactor to its watcher.
pub fn dispatch(py: Python<'_>, hub: &HubObject, event: Fired<Source>) {
    match event {
        Fired::Timer { key, data: Source::Watcher(object) } => {
            let object = object.into_bound(py);
            let watcher = object.cast::<Watcher>().expect("timers hold watchers");
            // It may have been stopped, and started again, by one that fired with it.
            if watcher.get().active.get() == Active::Timer(key) {
                timer_fired(watcher, hub);
            }
        }
        Fired::Watch { key, .. } => {
            if let Some(object) = hub.reactor(|reactor| watcher_of(py, reactor.watch_data(key))) {
                Watcher::call_back(object.bind(py).cast().expect("watches hold watchers"), hub);
            }
        }
        Fired::Signal { key, .. } => {
            if let Some(object) = hub.reactor(|reactor| watcher_of(py, reactor.signal_data(key))) {
                Watcher::call_back(object.bind(py).cast().expect("signals hold watchers"), hub);
            }
        }
        // Waits are handled by the caller; a timer of another kind too.
        Fired::Wait { .. } | Fired::Timer { .. } | Fired::Woken => {}
    }
}

/// Calls the watchers of a phase back.
pub fn dispatch_phase(py: Python<'_>, hub: &HubObject, phase: Phase) {
    if hub.phases.is_empty(phase) {
        return;
    }
    for watcher in hub.phases.snapshot(py, phase) {
        let watcher = watcher.bind(py).cast::<Watcher>().expect("phases hold watchers");
        if watcher.get().is_active() {
            Watcher::call_back(watcher, hub);
        }
    }
}

fn watcher_of(py: Python<'_>, source: Option<&Source>) -> Option<Py<PyAny>> {
    match source {
        Some(Source::Watcher(object)) => Some(object.clone_ref(py)),
        _ => None,
    }
}

fn timer_fired(slf: &Bound<'_, Watcher>, hub: &HubObject) {
    let this = slf.get();
    let Kind::Timer { after, repeat } = &this.kind else { unreachable!("a timer") };
    // The reactor has let go of it.
    this.count_unreferenced(hub, false);
    this.active.set(Active::No);
    if repeat.get() > 0.0 {
        after.set(repeat.get());
        if let Err(error) = Watcher::activate(slf) {
            exceptions::handle_error(slf.py(), hub, Some(slf.as_any()), error);
        }
        Watcher::call_back(slf, hub);
        return;
    }
    Watcher::call_back(slf, hub);
    if !this.is_active() {
        let call = this.call.borrow_mut().take();
        drop(call);
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Watcher>()?;
    module.add_class::<Timer>()?;
    module.add_class::<Io>()?;
    module.add_class::<Signal>()?;
    module.add_class::<Prepare>()?;
    module.add_class::<Check>()?;
    module.add_class::<Idle>()?;
    module.add_class::<Async>()
}
