//! What `link`, `link_value` and `link_exception` put between a finished greenlet and the
//! callback: a greenlet of its own, so that the callback may wait.

use super::functions::{new_raw, spawn_raw};
use super::methods::task_of;
use crate::hub::HubObject;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// SpawnedLink(callback)
/// --
///
/// Calls `callback(source)` in a new greenlet when it is called with the source.
#[pyclass(frozen, subclass, weakref, module = "greenloop._core")]
pub struct SpawnedLink {
    #[pyo3(get)]
    callback: Py<PyAny>,
}

#[pymethods]
impl SpawnedLink {
    #[new]
    fn new(callback: Bound<'_, PyAny>) -> PyResult<Self> {
        if !callback.is_callable() {
            return Err(PyTypeError::new_err(format!("Expected callable: {}", callback.repr()?)));
        }
        Ok(Self { callback: callback.unbind() })
    }

    fn __call__(&self, source: Bound<'_, PyAny>) -> PyResult<()> {
        let py = source.py();
        let callback = self.callback.bind(py).clone();
        if !HubObject::get(py)?.greenlet().is_running() {
            return spawn_raw(callback, PyTuple::new(py, [source])?, None).map(drop);
        }
        // At once: the link has waited for its turn already.
        new_raw(callback)?.call_method1("switch", (source,)).map(drop)
    }

    /// Equal to another link of the same callback, and to the callback itself: `unlink` takes
    /// either.
    fn __eq__(&self, other: Bound<'_, PyAny>) -> PyResult<bool> {
        let callback = self.callback.bind(other.py());
        match other.cast::<SpawnedLink>() {
            Ok(link) => callback.eq(&link.get().callback),
            Err(_) => callback.eq(other),
        }
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        self.callback.bind(py).hash()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let callback = slf.get().callback.bind(slf.py()).repr()?;
        Ok(format!("<{} at {:p} for {callback}>", slf.get_type().name()?, slf.as_ptr()))
    }
}

/// SuccessSpawnedLink(callback)
/// --
///
/// As SpawnedLink, if the source has ended without an error.
#[pyclass(frozen, subclass, extends = SpawnedLink, module = "greenloop._core")]
pub struct SuccessSpawnedLink;

#[pymethods]
impl SuccessSpawnedLink {
    #[new]
    fn new(callback: Bound<'_, PyAny>) -> PyResult<PyClassInitializer<Self>> {
        Ok(PyClassInitializer::from(SpawnedLink::new(callback)?).add_subclass(Self))
    }

    fn __call__(slf: PyRef<'_, Self>, source: Bound<'_, PyAny>) -> PyResult<()> {
        if source.call_method0("successful")?.is_truthy()? {
            slf.as_super().__call__(source)?;
        }
        Ok(())
    }
}

/// FailureSpawnedLink(callback)
/// --
///
/// As SpawnedLink, if the source has ended by an error.
#[pyclass(frozen, subclass, extends = SpawnedLink, module = "greenloop._core")]
pub struct FailureSpawnedLink;

#[pymethods]
impl FailureSpawnedLink {
    #[new]
    fn new(callback: Bound<'_, PyAny>) -> PyResult<PyClassInitializer<Self>> {
        Ok(PyClassInitializer::from(SpawnedLink::new(callback)?).add_subclass(Self))
    }

    fn __call__(slf: PyRef<'_, Self>, source: Bound<'_, PyAny>) -> PyResult<()> {
        if !source.call_method0("successful")?.is_truthy()? {
            slf.as_super().__call__(source)?;
        }
        Ok(())
    }
}

/// Links a callback through a link class: the default one, or the caller's.
fn link_through<'py, C: pyo3::PyTypeInfo>(
    slf: &Bound<'py, PyAny>,
    callback: Bound<'py, PyAny>,
    class: Option<Bound<'py, PyAny>>,
) -> PyResult<()> {
    task_of(slf)?;
    let class = class.unwrap_or_else(|| C::type_object(slf.py()).into_any());
    slf.call_method1("rawlink", (class.call1((callback,))?,)).map(drop)
}

/// Has `callback(self)` called in a greenlet of its own when this greenlet has ended.
#[pyfunction]
#[pyo3(text_signature = "(self, callback, SpawnedLink=None)")]
#[pyo3(signature = (slf, callback, SpawnedLink = None))]
#[allow(non_snake_case, reason = "the name is part of the API")]
pub fn link<'py>(
    slf: &Bound<'py, PyAny>,
    callback: Bound<'py, PyAny>,
    SpawnedLink: Option<Bound<'py, PyAny>>,
) -> PyResult<()> {
    link_through::<self::SpawnedLink>(slf, callback, SpawnedLink)
}

/// As link(), if this greenlet ends without an error.
#[pyfunction]
#[pyo3(text_signature = "(self, callback, SpawnedLink=None)")]
#[pyo3(signature = (slf, callback, SpawnedLink = None))]
#[allow(non_snake_case, reason = "the name is part of the API")]
pub fn link_value<'py>(
    slf: &Bound<'py, PyAny>,
    callback: Bound<'py, PyAny>,
    SpawnedLink: Option<Bound<'py, PyAny>>,
) -> PyResult<()> {
    link_through::<SuccessSpawnedLink>(slf, callback, SpawnedLink)
}

/// As link(), if this greenlet ends by an error.
#[pyfunction]
#[pyo3(text_signature = "(self, callback, SpawnedLink=None)")]
#[pyo3(signature = (slf, callback, SpawnedLink = None))]
#[allow(non_snake_case, reason = "the name is part of the API")]
pub fn link_exception<'py>(
    slf: &Bound<'py, PyAny>,
    callback: Bound<'py, PyAny>,
    SpawnedLink: Option<Bound<'py, PyAny>>,
) -> PyResult<()> {
    link_through::<FailureSpawnedLink>(slf, callback, SpawnedLink)
}

/// spawn_later(seconds, function, *args, **kwargs)
/// --
///
/// Makes a Greenlet that calls function(*args, **kwargs), and starts it in `seconds`.
#[pyfunction]
#[pyo3(signature = (cls, seconds, *args, **kwargs))]
pub fn spawn_later<'py>(
    cls: &Bound<'py, PyAny>,
    seconds: f64,
    args: Bound<'py, PyTuple>,
    kwargs: Option<Bound<'py, pyo3::types::PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    if args.is_empty() {
        return Err(PyTypeError::new_err("spawn_later() needs the function to call"));
    }
    let greenlet = cls.call(args, kwargs.as_ref())?;
    greenlet.call_method1("start_later", (seconds,))?;
    Ok(greenlet)
}
