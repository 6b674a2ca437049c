//! Reading for an application whose first step does not end.
//!
//! The greenlet of a connection is in the application's first step until that waits for the loop. A
//! blocking call there parks it, and other tasks of the application may want to receive something
//! meanwhile: one that watches for the client to go, or the very task that the call waits for. So
//! whoever asks for a message that is not there in that time has another greenlet look after it.

use super::attend::{read, wants_to_read};
use super::exchange::Exchange;
use crate::hub::HubObject;
use crate::hub::queue::Entry;
use crate::hub::wait::Wait;
use crate::task::functions::new_raw;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

/// What the greenlet calls.
#[pyclass(frozen, name = "_StandIn", module = "greenloop._core")]
struct StandIn {
    exchange: Py<Exchange>,
}

/// Has a greenlet read for the application, if its first step is still under way by then. Usually it is
/// not: it is what asks, and is about to wait.
pub fn begin(slf: &Bound<'_, Exchange>) -> PyResult<()> {
    let py = slf.py();
    if slf.get().has_stand_in.get() {
        return Ok(());
    }
    let stand_in = Bound::new(py, StandIn { exchange: slf.clone().unbind() })?;
    let greenlet = new_raw(stand_in.into_any())?;
    let hub = HubObject::get(py)?;
    slf.get().has_stand_in.set(true);
    hub.push_local(Entry::Start { greenlet: greenlet.into_ptr().cast() });
    Ok(())
}

/// Waits until nobody reads in place of the connection's greenlet, which goes on to do so itself.
///
/// # Errors
///
/// What is thrown into the greenlet meanwhile.
#[cold]
pub fn end(slf: &Bound<'_, Exchange>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    let mut outcome = Ok(());
    while this.reading.get() {
        this.connection.get().interrupt(py);
        let wait = Wait::begin(py, slf.as_ptr())?;
        if let Err(error) = wait.park(Some(&this.waiter), None).into_result() {
            outcome = Err(error);
        }
    }
    outcome
}

#[pymethods]
impl StandIn {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let slf = self.exchange.bind(py);
        let this = slf.get();
        let mut outcome = Ok(());
        while outcome.is_ok() && this.beginning.get() && !this.is_over() && wants_to_read(this) {
            outcome = read(slf);
        }
        this.has_stand_in.set(false);
        // The connection's greenlet may wait for this.
        this.waiter.wake_one();
        outcome
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.exchange)
    }
}
