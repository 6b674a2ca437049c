//! Looking up host names: the crate `greenloop-dns` on the hub's reactor.
//!
//! `resolver` is what Python sees: files, cache, and which questions are on their way. `query` is a
//! question on its way, in a greenlet of its own; `sockets` sends and receives for it. Those who look
//! up wait for queries, and may be killed without harm to others who wait for the same.

mod options;
mod query;
mod resolver;
mod sockets;
mod texts;

use pyo3::prelude::*;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<resolver::NameResolver>()?;
    texts::register(module)
}
