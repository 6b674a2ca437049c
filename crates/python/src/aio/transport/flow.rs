//! How much may wait to be sent before a protocol is told to stop writing.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The usual mark above which protocols are told to stop (bytes).
const HIGH: u64 = 64 * 1024;

/// The marks, in bytes.
#[derive(Clone, Copy)]
pub struct Limits {
    pub low: u64,
    pub high: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { low: HIGH / 4, high: HIGH }
    }
}

impl Limits {
    /// The marks that a program asks for.
    ///
    /// # Errors
    ///
    /// ValueError unless high >= low >= 0.
    pub fn new(high: Option<i64>, low: Option<i64>) -> PyResult<Self> {
        let high = high.unwrap_or_else(|| low.map_or(HIGH as i64, |low| low.saturating_mul(4)));
        let low = low.unwrap_or(high / 4);
        match (u64::try_from(low), u64::try_from(high)) {
            (Ok(low), Ok(high)) if low <= high => Ok(Self { low, high }),
            _ => Err(PyValueError::new_err(format!(
                "high ({high}) must be >= low ({low}) must be >= 0"
            ))),
        }
    }
}
