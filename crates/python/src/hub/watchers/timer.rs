//! Timers, by the monotonic clock and by the wall clock.

use super::{Active, Kind, Watcher, check_callable, events, nanoseconds};
use crate::hub::event_loop::EventLoop;
use crate::hub::loop_object::Loop;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// Calls back after a time, and maybe again and again.
#[pyclass(frozen, extends = Watcher, name = "timer", module = "greenloop._core")]
pub struct Timer;

impl Timer {
    pub fn make(
        owner: &Bound<'_, Loop>,
        after: f64,
        repeat: f64,
        keep: bool,
        priority: Option<i32>,
    ) -> PyResult<PyClassInitializer<Self>> {
        check_positive("repeat", repeat)?;
        if after.is_nan() {
            return Err(PyValueError::new_err("after must be a number of seconds, not nan"));
        }
        let kind = Kind::Timer { after: after.into(), repeat, deadline: 0.into() };
        let watcher = Watcher::new(owner, kind, keep, priority);
        Ok(PyClassInitializer::from(watcher).add_subclass(Self))
    }

    /// Starts a timer that is not active, `seconds` from now or from the loop's time.
    fn begin<'py>(
        watcher: &Bound<'py, Watcher>,
        seconds: f64,
        update: Option<bool>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
    ) -> PyResult<()> {
        let this = watcher.get();
        let event_loop = this.owner.get().local(watcher.py())?;
        check_callable(&callback)?;
        let update = update.unwrap_or(true);
        let now = if update { event_loop.update_now() } else { event_loop.now() };
        let Kind::Timer { deadline, .. } = &this.kind else { unreachable!("a timer") };
        deadline.set(now.saturating_add(nanoseconds(seconds)));
        this.set_call(callback, args);
        Watcher::activate(watcher, event_loop)
    }
}

fn check_positive(name: &str, seconds: f64) -> PyResult<()> {
    if seconds.is_nan() || seconds < 0.0 {
        return Err(PyValueError::new_err(format!("{name} must be positive or zero: {seconds}")));
    }
    Ok(())
}

#[pymethods]
impl Timer {
    #[new]
    #[pyo3(signature = (r#loop, after = 0.0, repeat = 0.0, r#ref = true, priority = None))]
    fn py_new(
        r#loop: &Bound<'_, Loop>,
        after: f64,
        repeat: f64,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<PyClassInitializer<Self>> {
        Self::make(r#loop, after, repeat, r#ref, priority)
    }

    /// Calls `callback(*args)` when the time is over; with `update` (the default) counted from
    /// the present moment, else from the loop's time.
    #[pyo3(signature = (callback, *args, update = None))]
    fn start(
        slf: &Bound<'_, Self>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
        update: Option<bool>,
    ) -> PyResult<()> {
        let watcher = slf.as_super();
        let Kind::Timer { after, .. } = &watcher.get().kind else { unreachable!("a timer") };
        if watcher.get().is_active() {
            return Watcher::start(watcher, callback, args);
        }
        Self::begin(watcher, after.get(), update, callback, args)
    }

    /// Starts over with `repeat` as the time, or stops if that is 0.
    #[pyo3(signature = (callback, *args, update = None))]
    fn again(
        slf: &Bound<'_, Self>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
        update: Option<bool>,
    ) -> PyResult<()> {
        let watcher = slf.as_super();
        let Kind::Timer { repeat, .. } = watcher.get().kind else { unreachable!("a timer") };
        Watcher::deactivate(watcher)?;
        if repeat == 0.0 {
            return Watcher::stop(watcher);
        }
        Self::begin(watcher, repeat, update, callback, args)
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

/// The time of a timer is over, and the reactor has let go of it. One that repeats is set for its
/// next time, `repeat` after this one, unless that is past already.
pub(super) fn expired(slf: &Bound<'_, Watcher>, event_loop: &EventLoop) {
    let this = slf.get();
    let Kind::Timer { repeat, deadline, .. } = &this.kind else { unreachable!("a timer") };
    this.count(event_loop, false);
    this.active.set(Active::No);
    if *repeat > 0.0 {
        let next = deadline.get().saturating_add(nanoseconds(*repeat));
        deadline.set(next.max(event_loop.now()));
        if let Err(error) = Watcher::activate(slf, event_loop) {
            event_loop.report(slf.py(), Some(slf.as_any()), error);
        }
    }
    Watcher::happen(slf, events::TIMER);
}

/// Calls back when the wall clock shows a moment, once or at intervals.
#[pyclass(frozen, extends = Watcher, name = "periodic", module = "greenloop._core")]
pub struct Periodic;

impl Periodic {
    pub fn make(
        owner: &Bound<'_, Loop>,
        offset: f64,
        interval: f64,
        keep: bool,
        priority: Option<i32>,
    ) -> PyResult<PyClassInitializer<Self>> {
        check_offset(offset)?;
        check_positive("interval", interval)?;
        let kind = Kind::Periodic { offset: offset.into(), interval: interval.into() };
        let watcher = Watcher::new(owner, kind, keep, priority);
        Ok(PyClassInitializer::from(watcher).add_subclass(Self))
    }
}

fn check_offset(offset: f64) -> PyResult<()> {
    if offset.is_nan() {
        return Err(PyValueError::new_err("offset must be a number of seconds, not nan"));
    }
    Ok(())
}

/// A moment in seconds since the epoch, as the reactor counts it. Too far off is never.
pub(super) fn moment(seconds: f64) -> i64 {
    (seconds * 1e9) as i64
}

#[pymethods]
impl Periodic {
    #[new]
    #[pyo3(signature = (r#loop, offset = 0.0, interval = 0.0, r#ref = true, priority = None))]
    fn py_new(
        r#loop: &Bound<'_, Loop>,
        offset: f64,
        interval: f64,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<PyClassInitializer<Self>> {
        Self::make(r#loop, offset, interval, r#ref, priority)
    }

    /// The moment, in seconds since the epoch; with an interval, where its multiples are counted
    /// from. May be changed while stopped.
    #[getter]
    fn offset(slf: &Bound<'_, Self>) -> PyResult<f64> {
        let Kind::Periodic { offset, .. } = &slf.as_super().get().kind else {
            unreachable!("a periodic")
        };
        Ok(offset.get())
    }

    #[setter]
    fn set_offset(slf: &Bound<'_, Self>, value: f64) -> PyResult<()> {
        let watcher = slf.cast::<Watcher>()?;
        check_offset(value)?;
        Watcher::check_stopped(watcher, "offset")?;
        if let Kind::Periodic { offset, .. } = &watcher.get().kind {
            offset.set(value);
        }
        Ok(())
    }

    /// Seconds from one moment to the next, 0 for a single one. May be changed while stopped.
    #[getter]
    fn interval(slf: &Bound<'_, Self>) -> PyResult<f64> {
        let Kind::Periodic { interval, .. } = &slf.as_super().get().kind else {
            unreachable!("a periodic")
        };
        Ok(interval.get())
    }

    #[setter]
    fn set_interval(slf: &Bound<'_, Self>, value: f64) -> PyResult<()> {
        let watcher = slf.cast::<Watcher>()?;
        check_positive("interval", value)?;
        Watcher::check_stopped(watcher, "interval")?;
        if let Kind::Periodic { interval, .. } = &watcher.get().kind {
            interval.set(value);
        }
        Ok(())
    }

    /// The moment of the next call in seconds since the epoch, None while stopped.
    fn at(slf: &Bound<'_, Self>) -> PyResult<Option<f64>> {
        let this = slf.cast::<Watcher>()?.get();
        let Active::Periodic(key) = this.active.get() else { return Ok(None) };
        let event_loop = this.owner.get().local(slf.py())?;
        let moment = event_loop.reactor(|reactor| reactor.periodic_moment(key));
        Ok(moment.map(|moment| moment as f64 / 1e9))
    }
}

/// A moment has come. One without interval is over with it.
pub(super) fn moment_came(slf: &Bound<'_, Watcher>) {
    let Kind::Periodic { interval, .. } = &slf.get().kind else { unreachable!("a periodic") };
    if interval.get() == 0.0
        && let Err(error) = Watcher::deactivate(slf)
    {
        slf.get().event_loop().report(slf.py(), Some(slf.as_any()), error);
    }
    Watcher::happen(slf, events::PERIODIC);
}
