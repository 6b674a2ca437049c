//! What `Group` and `Pool` do for each of their greenlets.

use super::methods::start;
use super::types::{is_exact, is_task, make};
use crate::greenlet::methods::{MethodTable, fast_keywords};
use crate::sync::Truth;
use crate::sync::event::Event;
use crate::sync::semaphore::Semaphore;
use crate::task::methods::rawlink;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyDict, PySet, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use std::cell::RefCell;
use std::ffi::CStr;

type Object = *mut ffi::PyObject;

/// Members()
/// --
///
/// The base class of Group and Pool: a set of greenlets that leave it when they end.
#[pyclass(frozen, subclass, weakref, module = "greenloop._core")]
pub struct Members {
    greenlets: RefCell<Py<PySet>>,
    dying: RefCell<Py<PySet>>,
    /// Set while there are no members.
    empty: Py<Event>,
    /// A pool's places; each member has one.
    places: RefCell<Option<Py<PyAny>>>,
    /// The method `_discard`, while there are members: one object for all of them.
    discard: RefCell<Option<Py<PyAny>>>,
}

// SAFETY: the cells are touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for Members {}

impl Members {
    fn members<'py>(&self, py: Python<'py>) -> Bound<'py, PySet> {
        self.greenlets.borrow().bind(py).clone()
    }

    /// Gives a place back, or takes one.
    fn places<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.places.borrow().as_ref().map(|places| places.bind(py).clone())
    }

    fn give_place(&self, py: Python<'_>) -> PyResult<()> {
        match self.places(py) {
            None => Ok(()),
            Some(places) => match places.cast_exact::<Semaphore>() {
                Ok(places) => Semaphore::release(places).map(drop),
                Err(_) => places.call_method0("release").map(drop),
            },
        }
    }

    /// Whether `function` is the `_discard` of a group, which is called by the greenlet that ends: it
    /// is short, and does not wait.
    pub fn is_discard(function: &Bound<'_, PyAny>) -> bool {
        crate::sync::links::builtin_self(function, c"_discard")
            .is_some_and(|group| group.is_instance_of::<Self>())
    }
}

impl Members {
    /// Makes a greenlet a member, which leaves when it ends. False if there is no place for it.
    fn enter<'py>(
        slf: &Bound<'py, Self>,
        greenlet: &Bound<'py, PyAny>,
        blocking: bool,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<bool> {
        let (py, this) = (slf.py(), slf.get());
        if this.members(py).contains(greenlet)? {
            return Ok(true);
        }
        if let Some(places) = this.places(py) {
            let got = match places.cast_exact::<Semaphore>() {
                Ok(places) => Semaphore::acquire(places, Truth(blocking), timeout)?,
                Err(_) => places.call_method1("acquire", (blocking, timeout))?.is_truthy()?,
            };
            if !got {
                return Ok(false);
            }
        }
        let entered = Self::follow(slf, greenlet).and_then(|()| {
            let greenlets = this.members(py);
            if greenlets.is_empty() {
                this.empty.get().clear();
            }
            greenlets.add(greenlet)
        });
        if let Err(error) = entered {
            this.give_place(py)?;
            return Err(error);
        }
        Ok(true)
    }

    /// The method `_discard`, for a member to be linked to.
    fn discard_method<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        let known = this.discard.borrow().as_ref().map(|method| method.bind(py).clone());
        if let Some(method) = known {
            return Ok(method);
        }
        let method = slf.getattr(pyo3::intern!(py, "_discard"))?;
        let before = this.discard.replace(Some(method.clone().unbind()));
        drop(before);
        Ok(method)
    }

    fn start_member<'py>(slf: &Bound<'py, Self>, greenlet: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let started = if is_exact(greenlet.as_ptr()) {
            start(greenlet)
        } else {
            greenlet.call_method0(pyo3::intern!(py, "start")).map(drop)
        };
        if started.is_err() {
            slf.call_method1("discard", (greenlet,))?;
        }
        started
    }
}

#[pymethods]
impl Members {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn __new__(
        py: Python<'_>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        Ok(Self {
            greenlets: RefCell::new(PySet::empty(py)?.unbind()),
            dying: RefCell::new(PySet::empty(py)?.unbind()),
            empty: Py::new(py, Event::new_set())?,
            places: RefCell::new(None),
            discard: RefCell::new(None),
        })
    }

    /// The members.
    #[getter]
    fn greenlets(&self, py: Python<'_>) -> Py<PySet> {
        self.greenlets.borrow().clone_ref(py)
    }

    #[setter]
    fn set_greenlets(&self, value: Bound<'_, PySet>) {
        let old = self.greenlets.replace(value.unbind());
        drop(old);
    }

    /// Members that have been killed and have not ended yet.
    #[getter]
    fn dying(&self, py: Python<'_>) -> Py<PySet> {
        self.dying.borrow().clone_ref(py)
    }

    /// Set while there are no members.
    #[getter]
    fn _empty_event(&self, py: Python<'_>) -> Py<Event> {
        self.empty.clone_ref(py)
    }

    /// A pool's places: what is acquired for each member; None for no limit.
    #[getter]
    fn _places(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.places.borrow().as_ref().map(|places| places.clone_ref(py))
    }

    #[setter(_places)]
    fn set_places(&self, value: Option<Py<PyAny>>) {
        let old = self.places.replace(value);
        drop(old);
    }

    /// Make a greenlet a member; of one that is a member already, nothing changes.
    fn add<'py>(slf: &Bound<'py, Self>, greenlet: &Bound<'py, PyAny>) -> PyResult<()> {
        Self::enter(slf, greenlet, true, None).map(drop)
    }

    /// Make a greenlet that has not been started a member, and start it.
    fn start<'py>(slf: &Bound<'py, Self>, greenlet: &Bound<'py, PyAny>) -> PyResult<()> {
        slf.call_method1(pyo3::intern!(slf.py(), "add"), (greenlet,))?;
        Self::start_member(slf, greenlet)
    }

    /// Has the greenlet leave when it ends. A raw one, such as the main greenlet, stays.
    #[pyo3(name = "_follow")]
    fn follow(slf: &Bound<'_, Self>, greenlet: &Bound<'_, PyAny>) -> PyResult<()> {
        if is_task(greenlet.as_ptr()) {
            return rawlink(greenlet, Self::discard_method(slf)?);
        }
        match greenlet.getattr_opt("rawlink")? {
            Some(method) => method.call1((Self::discard_method(slf)?,)).map(drop),
            None => Ok(()),
        }
    }

    /// Forgets a greenlet. Whether it was a member: it can leave in several ways at once.
    fn _discard(&self, greenlet: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = greenlet.py();
        let greenlets = self.members(py);
        if !greenlets.discard(greenlet)? {
            return Ok(false);
        }
        let dying = self.dying.borrow().bind(py).clone();
        if !dying.is_empty() {
            dying.discard(greenlet)?;
        }
        if greenlets.is_empty() {
            let method = self.discard.take();
            drop(method);
            Event::set(self.empty.bind(py))?;
        }
        self.give_place(py)?;
        Ok(true)
    }

    fn __clear__(&self) {
        let method = self.discard.take();
        drop(method);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&*self.greenlets.borrow())?;
        visit.call(&*self.dying.borrow())?;
        visit.call(&self.empty)?;
        if let Some(places) = &*self.places.borrow() {
            visit.call(places)?;
        }
        visit.call(&*self.discard.borrow())
    }
}

/// Places()
/// --
///
/// The base class of Pool: members of a group that may have no place for more.
#[pyclass(frozen, subclass, extends = Members, module = "greenloop._core")]
pub struct Places;

#[pymethods]
impl Places {
    #[new]
    #[pyo3(signature = (*args, **kwargs))]
    fn __new__(
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let base = Members::__new__(py, args, kwargs)?;
        Ok(PyClassInitializer::from(base).add_subclass(Self))
    }

    /// Make a greenlet a member when there is room; of a member, nothing changes.
    ///
    /// blocking: wait until there is room.
    /// timeout: how many seconds to wait at most; None for no limit.
    ///
    /// Raises PoolFull if there is no room, or none in time.
    #[pyo3(
        signature = (greenlet, blocking = Truth(true), timeout = None),
        text_signature = "($self, greenlet, blocking=True, timeout=None)"
    )]
    fn add<'py>(
        slf: &Bound<'py, Self>,
        greenlet: &Bound<'py, PyAny>,
        blocking: Truth,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        if Members::enter(slf.as_super(), greenlet, blocking.0, timeout)? {
            return Ok(());
        }
        Err(pool_full(slf.py()))
    }

    /// Make a greenlet that has not been started a member when there is room, and start it.
    ///
    /// blocking, timeout: as for add, which also tells what is raised.
    #[pyo3(
        signature = (greenlet, blocking = None, timeout = None),
        text_signature = "($self, greenlet, blocking=True, timeout=None)"
    )]
    fn start<'py>(
        slf: &Bound<'py, Self>,
        greenlet: &Bound<'py, PyAny>,
        blocking: Option<Bound<'py, PyAny>>,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let add = pyo3::intern!(slf.py(), "add");
        if blocking.is_none() && timeout.is_none() {
            slf.call_method1(add, (greenlet,))?;
        } else {
            let blocking = match blocking {
                Some(blocking) => blocking.is_truthy()?,
                None => true,
            };
            slf.call_method1(add, (greenlet, blocking, timeout))?;
        }
        Members::start_member(slf.as_super(), greenlet)
    }
}

#[cold]
fn pool_full(py: Python<'_>) -> PyErr {
    let class = py.import("greenloop.pool").and_then(|module| module.getattr("PoolFull"));
    class.and_then(|class| class.call0()).map_or_else(|error| error, PyErr::from_value)
}

const SPAWN_DOC: &CStr = c"spawn($self, /, *args, **kwargs)
--

Make a greenlet of `greenlet_class` with these arguments, start it as a member.

Returns the greenlet. In a pool it waits for a place first.";

static METHODS: MethodTable<1> = MethodTable::new([fast_keywords(c"spawn", spawn, SPAWN_DOC)]);

unsafe extern "C" fn spawn(
    this: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object {
    // SAFETY: the interpreter passes a group and arguments by the vectorcall convention; owned
    // references.
    unsafe {
        let py = Python::assume_attached();
        let class = ffi::PyObject_GetAttr(this, pyo3::intern!(py, "greenlet_class").as_ptr());
        if class.is_null() {
            return class;
        }
        let greenlet = make(class, args, count as usize, names);
        ffi::Py_DECREF(class);
        if greenlet.is_null() {
            return greenlet;
        }
        let name = pyo3::intern!(py, "start").as_ptr();
        let started = ffi::PyObject_CallMethodOneArg(this, name, greenlet);
        if started.is_null() {
            ffi::Py_DECREF(greenlet);
            return started;
        }
        ffi::Py_DECREF(started);
        greenlet
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Members>()?;
    module.add_class::<Places>()?;
    METHODS.attach(&module.py().get_type::<Members>())
}
