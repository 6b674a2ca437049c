//! What `Group.imap` and `Group.imap_unordered` do for each result.

use super::methods::{join, rawlink, result_of, task_of};
use super::types::is_task;
use crate::greenlet::methods::MethodTable;
use crate::sync::Truth;
use crate::sync::lock::take_permit;
use crate::sync::permits::Permits;
use crate::sync::queue::{Queue, SimpleQueue};
use crate::sync::semaphore::Semaphore;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use std::cell::{Cell, RefCell};
use std::ptr;

type Object = *mut ffi::PyObject;

/// Results(queue, ordered, room)
/// --
///
/// The results of greenlets that one greenlet, the owner, spawns and others take.
///
/// queue: a Queue without a limit, where the greenlets are found whose results are to be taken; the
///     owner comes last, when it has ended.
/// ordered: whether the results come in the order in which the greenlets were added, and not in
///     which they end.
/// room: a Semaphore to be released for each result that is taken; None for none.
#[pyclass(frozen, module = "greenloop._core")]
pub struct Results {
    queue: Py<Queue>,
    /// `queue.put`.
    put: Py<PyAny>,
    ordered: bool,
    room: Option<Py<Semaphore>>,
    /// Held by the greenlet that waits for the next result in order. Others wait for their turn.
    turn: Permits,
    /// The greenlet whose result is next in order; it stays here if whoever waits for it gives up.
    head: RefCell<Option<Py<PyAny>>>,
    added: Cell<usize>,
    taken: Cell<usize>,
    /// Whether the owner has been seen to have ended.
    all_added: Cell<bool>,
}

// SAFETY: the cells are touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for Results {}

impl Results {
    fn queue<'a, 'py>(&'a self, py: Python<'py>) -> &'a Bound<'py, SimpleQueue> {
        self.queue.bind(py).as_super()
    }

    fn put(&self, item: &Bound<'_, PyAny>) -> PyResult<()> {
        SimpleQueue::put(self.queue(item.py()), item.clone(), Truth(true), None)
    }

    fn get<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        SimpleQueue::get(self.queue(py), Truth(true), None)
    }

    /// Whether all results there will be have been taken.
    fn is_exhausted(&self) -> bool {
        self.all_added.get() && self.taken.get() == self.added.get()
    }

    /// The greenlet whose result is next in order, once it has ended.
    fn first<'py>(&self, owner: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = owner.py();
        take_permit(owner, &self.turn, true, None)?;
        let outcome = self.first_in_turn(py, owner);
        self.turn.give();
        outcome
    }

    fn first_in_turn<'py>(
        &self,
        py: Python<'py>,
        owner: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let head = self.head.borrow().as_ref().map(|head| head.bind(py).clone());
        let head = match head {
            Some(head) => head,
            None => {
                let head = self.get(py)?;
                self.head.replace(Some(head.clone().unbind()));
                head
            }
        };
        if !head.is(owner) {
            if is_task(head.as_ptr()) {
                join(&head, None)?;
            } else {
                // A thread pool spawns AsyncResults.
                head.call_method0(pyo3::intern!(py, "wait"))?;
            }
        }
        drop(self.head.take());
        Ok(head)
    }

    /// Waits for the next result. None if there is none any more.
    fn next<'py>(&self, owner: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = owner.py();
        loop {
            if self.is_exhausted() {
                return Ok(None);
            }
            let greenlet = if self.ordered { self.first(owner) } else { self.get(py) }?;
            if greenlet.is(owner) {
                let first_sight = !self.all_added.replace(true);
                if self.is_exhausted() {
                    // For others who wait for a result: there will be none.
                    self.put(owner)?;
                }
                if first_sight {
                    // What it raised, if it failed.
                    result_of(py, task_of(owner)?)?;
                }
                continue;
            }
            self.taken.set(self.taken.get() + 1);
            if self.is_exhausted() {
                self.put(owner)?;
            }
            if let Some(room) = &self.room {
                Semaphore::release(room.bind(py))?;
            }
            return value_of(&greenlet).map(Some);
        }
    }
}

/// What a greenlet that has ended returned, or raised.
fn value_of<'py>(greenlet: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = greenlet.py();
    if is_task(greenlet.as_ptr()) {
        return result_of(py, task_of(greenlet)?);
    }
    greenlet.call_method0(pyo3::intern!(py, "get"))
}

#[pymethods]
impl Results {
    #[new]
    fn new(queue: Bound<'_, Queue>, ordered: bool, room: Option<Py<Semaphore>>) -> PyResult<Self> {
        let put = queue.getattr("put")?.unbind();
        Ok(Self {
            queue: queue.unbind(),
            put,
            ordered,
            room,
            turn: Permits::new(1),
            head: RefCell::new(None),
            added: Cell::new(0),
            taken: Cell::new(0),
            all_added: Cell::new(false),
        })
    }

    /// Add a greenlet, or what else tells its end and has a result.
    fn add(&self, greenlet: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = greenlet.py();
        if self.ordered {
            self.put(greenlet)?;
        } else if is_task(greenlet.as_ptr()) {
            // It has ended when it comes out of the queue.
            rawlink(greenlet, self.put.bind(py).clone())?;
        } else {
            greenlet.call_method1(pyo3::intern!(py, "rawlink"), (&self.put,))?;
        }
        self.added.set(self.added.get() + 1);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.queue)?;
        visit.call(&self.put)?;
        visit.call(&self.room)?;
        visit.call(&*self.head.borrow())
    }

    fn __clear__(&self) {
        drop(self.head.take());
    }
}

static METHODS: MethodTable<1> = MethodTable::new([ffi::PyMethodDef {
    ml_name: c"__next__".as_ptr(),
    ml_meth: ffi::PyMethodDefPointer { PyCFunction: next },
    ml_flags: ffi::METH_NOARGS,
    ml_doc: c"__next__($self, /)
--

Wait for the next result and return it, or raise the exception it is."
        .as_ptr(),
}]);

/// `__next__` of a greenlet that has its results in the attribute `_results`.
unsafe extern "C" fn next(this: Object, _unused: Object) -> Object {
    // SAFETY: the interpreter passes a Greenlet, and holds it for the time of the call.
    unsafe {
        let py = Python::assume_attached();
        let owner = Bound::from_borrowed_ptr(py, this);
        let outcome =
            owner.getattr(pyo3::intern!(py, "_results")).and_then(|results| {
                match results.cast::<Results>() {
                    Ok(results) => results.get().next(&owner),
                    Err(_) => Err(PyTypeError::new_err("the iterator has not been set up")),
                }
            });
        match outcome {
            Ok(Some(value)) => value.into_ptr(),
            Ok(None) => {
                ffi::PyErr_SetNone(ffi::PyExc_StopIteration);
                ptr::null_mut()
            }
            Err(error) => {
                error.restore(py);
                ptr::null_mut()
            }
        }
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Results>()?;
    let class = module.getattr("Greenlet")?;
    // SAFETY: a type, and a static definition; the result is a new reference or null.
    let method = unsafe {
        let definition = (&raw const METHODS).cast_mut().cast::<ffi::PyMethodDef>();
        let kind = class.as_ptr().cast();
        Bound::from_owned_ptr_or_err(module.py(), ffi::PyDescr_NewMethod(kind, definition))?
    };
    module.add("_next_result", method)
}
