//! Readiness of descriptors.

use super::events::{READ, WRITE};
use super::{Kind, Watcher, check_callable, events_placeholder};
use crate::errors::os_error;
use crate::hub::loop_object::Loop;
use greenloop_reactor::Interest;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::cell::Cell;

/// Calls back while a descriptor is ready.
#[pyclass(frozen, extends = Watcher, name = "io", module = "greenloop._core")]
pub struct Io;

pub(super) fn interest(events: i32) -> Interest {
    match events & (READ | WRITE) {
        READ => Interest::READABLE,
        WRITE => Interest::WRITABLE,
        _ => Interest::READABLE | Interest::WRITABLE,
    }
}

pub(super) fn events_text(events: i32) -> &'static str {
    ["", "READ", "WRITE", "READ|WRITE"][(events & (READ | WRITE)) as usize]
}

impl Io {
    pub fn make(
        owner: &Bound<'_, Loop>,
        fd: i32,
        events: i32,
        keep: bool,
        priority: Option<i32>,
    ) -> PyResult<PyClassInitializer<Self>> {
        check_fd(owner.py(), fd)?;
        check_events(events)?;
        let kind = Kind::Io { fd: Cell::new(fd), events: Cell::new(events) };
        let watcher = Watcher::new(owner, kind, keep, priority);
        Ok(PyClassInitializer::from(watcher).add_subclass(Self))
    }

    fn cells<'a>(slf: &'a Bound<'_, Self>) -> PyResult<(&'a Cell<i32>, &'a Cell<i32>)> {
        match &slf.cast::<Watcher>()?.get().kind {
            Kind::Io { fd, events } => Ok((fd, events)),
            _ => unreachable!("an io watcher"),
        }
    }
}

fn check_fd(py: Python<'_>, fd: i32) -> PyResult<()> {
    if fd < 0 {
        return Err(PyValueError::new_err(format!("fd must be non-negative: {fd}")));
    }
    // SAFETY: asks whether the number is an open descriptor, and nothing else.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(os_error(py, libc::EBADF));
    }
    Ok(())
}

fn check_events(events: i32) -> PyResult<()> {
    if events & !(READ | WRITE) != 0 || events == 0 {
        return Err(PyValueError::new_err(format!("illegal event mask: {events}")));
    }
    Ok(())
}

#[pymethods]
impl Io {
    #[new]
    #[pyo3(signature = (r#loop, fd, events, r#ref = true, priority = None))]
    fn py_new(
        r#loop: &Bound<'_, Loop>,
        fd: i32,
        events: i32,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<PyClassInitializer<Self>> {
        Self::make(r#loop, fd, events, r#ref, priority)
    }

    /// Calls `callback(*args)` on every event from now on; with `pass_events`, `callback(events,
    /// *args)`, with the bits of what the descriptor is ready for.
    #[pyo3(signature = (callback, *args, pass_events = false))]
    fn start(
        slf: &Bound<'_, Self>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
        pass_events: bool,
    ) -> PyResult<()> {
        check_callable(&callback)?;
        let args = if pass_events { with_placeholder(&args)? } else { args };
        Watcher::start(slf.cast::<Watcher>()?, callback, args)
    }

    /// Calls back in the next round of the loop, as if the event `revents` (bits) had happened.
    #[pyo3(signature = (revents, callback, *args, pass_events = false))]
    fn feed(
        slf: &Bound<'_, Self>,
        revents: i32,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
        pass_events: bool,
    ) -> PyResult<()> {
        let args = if pass_events { with_placeholder(&args)? } else { args };
        Watcher::feed(slf.cast::<Watcher>()?, revents, callback, args)
    }

    /// The descriptor; may be changed while stopped.
    #[getter]
    fn fd(slf: &Bound<'_, Self>) -> PyResult<i32> {
        Ok(Self::cells(slf)?.0.get())
    }

    #[setter]
    fn set_fd(slf: &Bound<'_, Self>, value: i32) -> PyResult<()> {
        Watcher::check_stopped(slf.cast::<Watcher>()?, "fd")?;
        check_fd(slf.py(), value)?;
        Self::cells(slf)?.0.set(value);
        Ok(())
    }

    /// 1 for reading, 2 for writing, 3 for both; may be changed while stopped.
    #[getter]
    fn events(slf: &Bound<'_, Self>) -> PyResult<i32> {
        Ok(Self::cells(slf)?.1.get())
    }

    #[setter]
    fn set_events(slf: &Bound<'_, Self>, value: i32) -> PyResult<()> {
        Watcher::check_stopped(slf.cast::<Watcher>()?, "events")?;
        check_events(value)?;
        Self::cells(slf)?.1.set(value);
        Ok(())
    }

    /// `events` in words.
    #[getter]
    fn events_str(slf: &Bound<'_, Self>) -> PyResult<&'static str> {
        Ok(events_text(Self::cells(slf)?.1.get()))
    }
}

/// Keeps the first place of the arguments for what will have happened.
fn with_placeholder<'py>(args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyTuple>> {
    let py = args.py();
    let placeholder = events_placeholder(py)?.bind(py).clone().into_any();
    PyTuple::new(py, std::iter::once(placeholder).chain(args.iter()).collect::<Vec<_>>())
}
