//! Seconds as Python gives them, deadlines on the monotonic clock, and time limits of waits.

use crate::hub::wait::{Reason, Woken};
use greenloop_reactor::monotonic_ns;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt};

/// The time `seconds` from now, in nanoseconds of the monotonic clock. Beyond what the clock can
/// count it is never.
#[inline]
pub fn deadline_after(seconds: f64) -> u64 {
    // The cast saturates.
    monotonic_ns().saturating_add((seconds.max(0.0) * 1e9) as u64)
}

/// Looked up every time: see `exceptions`.
fn timeout_class(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import("greenloop.timeout")?.getattr("Timeout")
}

/// A `Timeout` of so many seconds, to be raised.
#[cold]
pub fn timeout_error(py: Python<'_>, seconds: Option<Bound<'_, PyAny>>) -> PyErr {
    match timeout_class(py).and_then(|class| class.call1((seconds,))) {
        Ok(instance) => PyErr::from_value(instance),
        Err(error) => error,
    }
}

/// How long a wait may take: the `timeout` argument of waiting functions, which is None, a number
/// of seconds, or a `Timeout` object.
pub enum Limit<'py> {
    Never,
    /// The deadline in nanoseconds, and the argument.
    Deadline(u64, Bound<'py, PyAny>),
    /// A `Timeout` that was started for the wait (true), or before it.
    Object(Bound<'py, PyAny>, bool),
}

impl<'py> Limit<'py> {
    /// The limit that an argument asks for; counts from now.
    pub fn start(py: Python<'py>, timeout: Option<Bound<'py, PyAny>>) -> PyResult<Self> {
        let Some(timeout) = timeout else { return Ok(Self::Never) };
        if timeout.is_none() {
            return Ok(Self::Never);
        }
        if timeout.is_instance_of::<PyFloat>() || timeout.is_instance_of::<PyInt>() {
            let seconds: f64 = timeout.extract()?;
            return Ok(Self::Deadline(deadline_after(seconds), timeout));
        }
        if timeout.is_instance(&timeout_class(py)?)? {
            let pending = timeout.getattr("pending")?.is_truthy()?;
            if !pending {
                timeout.call_method0("start")?;
            }
            return Ok(Self::Object(timeout, !pending));
        }
        let seconds: f64 = timeout.extract()?;
        Ok(Self::Deadline(deadline_after(seconds), timeout))
    }

    pub fn deadline(&self) -> Option<u64> {
        match self {
            Self::Deadline(deadline, _) => Some(*deadline),
            _ => None,
        }
    }

    /// Why a wait ended; a `Timeout` object of this limit that was thrown means that the time is
    /// over.
    pub fn judge(&self, woken: Woken) -> PyResult<Reason> {
        if let (Self::Object(timeout, _), Some(error)) = (self, &woken.error)
            && error.instance() == timeout.as_ptr()
        {
            return Ok(Reason::TimedOut);
        }
        woken.into_result()
    }

    /// The `Timeout` to raise when the time is over.
    pub fn error(&self, py: Python<'py>) -> PyErr {
        match self {
            Self::Never => timeout_error(py, None),
            Self::Deadline(_, seconds) => timeout_error(py, Some(seconds.clone())),
            Self::Object(timeout, _) => PyErr::from_value(timeout.clone()),
        }
    }

    /// Ends a `Timeout` that was started for the wait.
    pub fn end(self, _py: Python<'py>) -> PyResult<()> {
        if let Self::Object(timeout, true) = self {
            timeout.call_method0("close")?;
        }
        Ok(())
    }
}
