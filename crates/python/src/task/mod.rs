//! `Greenlet`: a greenlet that the hub runs, with a result that others can wait for.

pub mod attributes;
pub mod body;
pub mod context;
pub mod descriptors;
pub mod functions;
pub mod members;
pub mod methods;
pub mod object;
pub mod origin;
pub mod results;
pub mod spawn_callbacks;
pub mod spawned_link;
pub mod timeout;
pub mod tracked_raw;
pub mod types;
pub mod waiter;

use pyo3::prelude::*;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    types::register(module)?;
    tracked_raw::register(module)?;
    functions::register(module)?;
    module.add_class::<origin::SpawnFrame>()?;
    module.add_function(wrap_pyfunction!(origin::_track_greenlet_tree, module)?)?;
    module.add_class::<spawned_link::SpawnedLink>()?;
    module.add_class::<spawned_link::SuccessSpawnedLink>()?;
    module.add_class::<spawned_link::FailureSpawnedLink>()?;
    timeout::register(module)?;
    members::register(module)?;
    results::register(module)?;
    module.add_class::<waiter::Waiter>()
}
