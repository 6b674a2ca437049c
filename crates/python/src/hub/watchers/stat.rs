//! Changes of files.

use super::{Kind, Watcher, events, nanoseconds};
use crate::hub::Source;
use crate::hub::event_loop::EventLoop;
use crate::hub::loop_object::Loop;
use greenloop_reactor::{PathHint, TimerKey};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;
use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Seconds between two looks, unless something else is asked for.
const DEFAULT_INTERVAL: f64 = 5.0;
/// Looking more often than this is refused.
const SHORTEST_INTERVAL: f64 = 0.1;

/// What of a status counts as a change, by the names in `os.stat_result`.
const COMPARED: [&str; 11] = [
    "st_dev",
    "st_ino",
    "st_mode",
    "st_nlink",
    "st_uid",
    "st_gid",
    "st_rdev",
    "st_size",
    "st_atime_ns",
    "st_mtime_ns",
    "st_ctime_ns",
];

pub struct State {
    text: String,
    path: PathBuf,
    interval: Cell<f64>,
    /// An `os.stat_result`, none if there was no file; nothing at all before the first look.
    attr: RefCell<Option<Option<Py<PyAny>>>>,
    prev: RefCell<Option<Py<PyAny>>>,
    pub hint: RefCell<Option<PathHint>>,
}

impl State {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The first look: what changes from now on counts.
    pub fn begin(&self, py: Python<'_>) -> PyResult<()> {
        let interval = self.interval.get();
        self.interval.set(if interval > 0.0 {
            interval.max(SHORTEST_INTERVAL)
        } else {
            DEFAULT_INTERVAL
        });
        let present = self.status(py)?;
        let old = self.attr.replace(Some(present));
        drop(old);
        Ok(())
    }

    fn status(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        // os.lstat may be replaced, and be cooperative then.
        static LSTAT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let lstat = LSTAT.get_or_try_init(py, || {
            Ok::<_, PyErr>(py.import("posix")?.getattr("lstat")?.unbind())
        })?;
        match lstat.bind(py).call1((&self.text,)) {
            Ok(status) => Ok(Some(status.unbind())),
            // However it cannot be reached, there is no file there.
            Err(error) if error.is_instance_of::<PyOSError>(py) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Looks. Whether anything has changed.
    fn look(&self, py: Python<'_>) -> PyResult<bool> {
        if let Some(hint) = &*self.hint.borrow() {
            hint.rearm();
        }
        let present = self.status(py)?;
        let before =
            self.attr.borrow().as_ref().and_then(|attr| attr.as_ref().map(|a| a.clone_ref(py)));
        let same = match (&before, &present) {
            (None, None) => true,
            (Some(before), Some(present)) => is_same(before.bind(py), present.bind(py))?,
            _ => false,
        };
        if same {
            return Ok(false);
        }
        let old = (self.prev.replace(before), self.attr.replace(Some(present)));
        drop(old);
        Ok(true)
    }
}

fn is_same(one: &Bound<'_, PyAny>, other: &Bound<'_, PyAny>) -> PyResult<bool> {
    for name in COMPARED {
        if !one.getattr(name)?.eq(other.getattr(name)?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Calls back when what stat() says of a path has changed, because the file has, or because another
/// one, or none, is there now. A link counts as itself.
#[pyclass(frozen, extends = Watcher, name = "stat", module = "greenloop._core")]
pub struct Stat;

impl Stat {
    pub fn make(
        owner: &Bound<'_, Loop>,
        path: String,
        interval: f64,
        keep: bool,
        priority: Option<i32>,
    ) -> PyResult<PyClassInitializer<Self>> {
        if path.contains('\0') {
            return Err(PyValueError::new_err("embedded null character in path"));
        }
        if interval.is_nan() {
            return Err(PyValueError::new_err("interval must be a number of seconds, not nan"));
        }
        // As Python encodes it, undecodable bytes included.
        let encoded = owner.py().import("os")?.call_method1("fsencode", (&path,))?;
        let encoded: Vec<u8> = encoded.extract()?;
        let state = State {
            text: path,
            path: OsString::from_vec(encoded).into(),
            interval: Cell::new(interval),
            attr: RefCell::new(None),
            prev: RefCell::new(None),
            hint: RefCell::new(None),
        };
        let watcher = Watcher::new(owner, Kind::Stat(Box::new(state)), keep, priority);
        Ok(PyClassInitializer::from(watcher).add_subclass(Self))
    }

    fn state<'a>(slf: &'a Bound<'_, Self>) -> PyResult<&'a State> {
        match &slf.cast::<Watcher>()?.get().kind {
            Kind::Stat(state) => Ok(state),
            _ => unreachable!("a stat watcher"),
        }
    }
}

#[pymethods]
impl Stat {
    #[new]
    #[pyo3(signature = (r#loop, path, interval = 0.0, r#ref = true, priority = None))]
    fn py_new(
        r#loop: &Bound<'_, Loop>,
        path: String,
        interval: f64,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<PyClassInitializer<Self>> {
        Self::make(r#loop, path, interval, r#ref, priority)
    }

    /// The path, as given.
    #[getter]
    fn path(slf: &Bound<'_, Self>) -> PyResult<String> {
        Ok(Self::state(slf)?.text.clone())
    }

    /// The path as the system takes it.
    #[getter]
    fn _paths<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyBytes>> {
        let path = Self::state(slf)?.path.as_os_str();
        Ok(PyBytes::new(slf.py(), path.as_bytes()))
    }

    /// Seconds between two looks at most. From the start on it is the one really used.
    #[getter]
    fn interval(slf: &Bound<'_, Self>) -> PyResult<f64> {
        Ok(Self::state(slf)?.interval.get())
    }

    /// What stat() said when this was last looked at: an `os.stat_result`, or None if there was no
    /// file, or before the start.
    #[getter]
    fn attr(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        let attr = Self::state(slf)?.attr.borrow();
        Ok(attr.as_ref().and_then(|attr| attr.as_ref().map(|attr| attr.clone_ref(slf.py()))))
    }

    /// What it said before the last change; None if there was no file, or no change yet.
    #[getter]
    fn prev(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        let prev = Self::state(slf)?.prev.borrow();
        Ok(prev.as_ref().map(|prev| prev.clone_ref(slf.py())))
    }
}

/// Sets the timer for the next look.
pub(super) fn arm(event_loop: &EventLoop, state: &State, source: Source) -> TimerKey {
    let next = event_loop.now().saturating_add(nanoseconds(state.interval.get()));
    event_loop.reactor(|reactor| reactor.timer_add(next, source))
}

/// As `arm`, for a watcher whose timer has expired.
pub(super) fn arm_again(slf: &Bound<'_, Watcher>, event_loop: &EventLoop) -> TimerKey {
    let Kind::Stat(state) = &slf.get().kind else { unreachable!("a stat watcher") };
    arm(event_loop, state, Source::Watcher(slf.clone().into_any().unbind()))
}

/// Looks, and makes the watcher pending if anything has changed.
pub(super) fn look(slf: &Bound<'_, Watcher>) {
    let Kind::Stat(state) = &slf.get().kind else { unreachable!("a stat watcher") };
    match state.look(slf.py()) {
        Ok(false) => {}
        Ok(true) => Watcher::happen(slf, events::STAT),
        Err(error) => slf.get().event_loop().report(slf.py(), Some(slf.as_any()), error),
    }
}
