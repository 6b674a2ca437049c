//! Functions to be called when an object becomes ready (`rawlink`).

use crate::aio::awaiting::GreenletFuture;
use crate::greenlet::thread::Thread;
use crate::hub::HubObject;
use crate::hub::callback::Callback;
use crate::hub::queue::Entry;
use crate::sync::queue::SimpleQueue;
use crate::task::members::Members;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{Borrowed, ffi};
use std::cell::RefCell;
use std::ffi::{CStr, c_int, c_void};
use std::mem;
use std::sync::Arc;

/// What a method of a class of the core is bound to: null if `function` is no such method, or has
/// another name.
pub fn builtin_self<'a, 'py>(
    function: &'a Bound<'py, PyAny>,
    name: &CStr,
) -> Option<Borrowed<'a, 'py, PyAny>> {
    // SAFETY: checked to be a built-in function or method before it is looked at as one; its name
    // is a C string, and it holds what it is bound to.
    unsafe {
        let object = function.as_ptr();
        if ffi::PyCFunction_CheckExact(object) == 0 {
            return None;
        }
        let definition = (*object.cast::<ffi::PyCFunctionObject>()).m_ml;
        if CStr::from_ptr((*definition).ml_name) != name {
            return None;
        }
        let owner = (*object.cast::<ffi::PyCFunctionObject>()).m_self;
        (!owner.is_null()).then(|| Borrowed::from_ptr(function.py(), owner))
    }
}

/// Whether a link is called where the object becomes ready, and not by a hub later: what greenloop
/// itself links to many greenlets, that is short and does neither wait nor run other code.
fn is_called_at_once(function: &Bound<'_, PyAny>) -> bool {
    Members::is_discard(function)
        || SimpleQueue::is_put_without_limit(function)
        || GreenletFuture::is_one(function)
}

/// The thread that a function is to be called in.
struct Home(Arc<Thread>);

// SAFETY: made, used and dropped with the GIL held only.
unsafe impl Send for Home {}

/// A function to be called once.
pub struct Link {
    function: Py<PyAny>,
    /// `None`: wherever the one who notifies says.
    home: Option<Home>,
}

/// Callables in the order they were added. Each is called once, with the object, in the hub.
#[derive(Default)]
pub struct Links {
    links: RefCell<Vec<Link>>,
    /// Calls that hubs have been asked for, so that `remove` can take them back.
    scheduled: RefCell<Vec<Py<Callback>>>,
}

// SAFETY: touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for Links {}

impl Links {
    pub const fn new() -> Self {
        Self { links: RefCell::new(Vec::new()), scheduled: RefCell::new(Vec::new()) }
    }

    pub fn is_empty(&self) -> bool {
        self.links.borrow().is_empty()
    }

    /// How many there are, those that have been scheduled and not called yet included.
    pub fn len(&self) -> usize {
        let scheduled = self.scheduled.borrow();
        self.links.borrow().len() + scheduled.iter().filter(|call| call.get().pending()).count()
    }

    /// Adds a function, to be called in the hub that `notify` names.
    ///
    /// # Errors
    ///
    /// TypeError if it cannot be called.
    pub fn add(&self, function: Bound<'_, PyAny>) -> PyResult<()> {
        self.add_link(function, None)
    }

    /// Adds a function, to be called in the hub of the calling thread.
    ///
    /// # Errors
    ///
    /// TypeError if it cannot be called.
    pub fn add_here(&self, function: Bound<'_, PyAny>) -> PyResult<()> {
        let py = function.py();
        let thread = Thread::get(py)?;
        HubObject::of(py, thread)?;
        // SAFETY: records live in an Arc.
        let home = unsafe {
            Arc::increment_strong_count(thread);
            Home(Arc::from_raw(thread))
        };
        self.add_link(function, Some(home))
    }

    fn add_link(&self, function: Bound<'_, PyAny>, home: Option<Home>) -> PyResult<()> {
        if !function.is_callable() {
            return Err(PyTypeError::new_err(format!("Expected callable: {}", function.repr()?)));
        }
        let mut links = self.links.borrow_mut();
        if links.capacity() == 0 {
            // Most have a single one, often for as long as they live.
            links.reserve_exact(1);
        }
        links.push(Link { function: function.unbind(), home });
        Ok(())
    }

    /// Takes the first function that equals `function` out, or takes its call back if that has
    /// been scheduled and not made yet. False if there is none.
    pub fn remove(&self, function: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = function.py();
        // Comparing runs Python code: look at copies.
        let copies: Vec<_> =
            self.links.borrow().iter().map(|link| link.function.clone_ref(py)).collect();
        for (index, copy) in copies.iter().enumerate() {
            if copy.bind(py).eq(function)? {
                let mut links = self.links.borrow_mut();
                if links.get(index).is_some_and(|link| link.function.is(copy)) {
                    let removed = links.remove(index);
                    drop(links);
                    drop(removed);
                    return Ok(true);
                }
            }
        }
        let copies: Vec<_> =
            self.scheduled.borrow().iter().map(|call| call.clone_ref(py)).collect();
        for call in copies {
            if let Some(scheduled) = call.get().callback(py)
                && scheduled.bind(py).eq(function)?
            {
                call.get().stop();
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes all functions out that have not been scheduled.
    pub fn take(&self) -> Vec<Link> {
        self.links.take()
    }

    /// Visits the functions for the garbage collector.
    ///
    /// # Safety
    ///
    /// As the interpreter calls `tp_traverse`.
    pub unsafe fn traverse(&self, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
        for link in self.links.borrow().iter() {
            // SAFETY: a valid object; `visit` runs no Python code.
            let status = unsafe { visit(link.function.as_ptr(), arg) };
            if status != 0 {
                return status;
            }
        }
        0
    }

    /// As `traverse`, for classes made by pyo3.
    pub fn visit(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        for link in self.links.borrow().iter() {
            visit.call(&link.function)?;
        }
        Ok(())
    }

    /// Has every function called by a hub with `object`, each as soon as what is ready before has
    /// run, and forgets them. `hub` is the one for functions that were added without one. With
    /// `at_once`, some of greenloop's own are called now.
    pub fn notify(
        &self,
        py: Python<'_>,
        hub: &HubObject,
        object: &Bound<'_, PyAny>,
        at_once: bool,
    ) -> PyResult<()> {
        if at_once {
            self.call_short_ones(object);
        }
        if self.is_empty() {
            return Ok(());
        }
        self.schedule(py, Some(hub), object)
    }

    /// Calls those functions now that need no hub for it.
    fn call_short_ones(&self, object: &Bound<'_, PyAny>) {
        let py = object.py();
        if let Some(future) = self.take_only_future(py) {
            if let Err(error) = GreenletFuture::greenlet_ended(&future) {
                error.write_unraisable(py, Some(object));
            }
            return;
        }
        let (now, later): (Vec<_>, Vec<_>) =
            self.take().into_iter().partition(|link| is_called_at_once(link.function.bind(py)));
        // Not called yet: whatever the functions do, it finds the others.
        self.links.borrow_mut().splice(0..0, later);
        for link in now {
            if let Err(error) = link.function.bind(py).call1((object,)) {
                error.write_unraisable(py, Some(object));
            }
        }
    }

    /// Takes out what a coroutine waits for that waits for a greenlet, if there is nothing else, as is
    /// mostly so.
    fn take_only_future<'py>(&self, py: Python<'py>) -> Option<Bound<'py, GreenletFuture>> {
        let mut links = self.links.borrow_mut();
        let [only] = links.as_slice() else { return None };
        let future = only.function.bind(py).cast_exact::<GreenletFuture>().ok()?.clone();
        // It has another owner, so this drops a reference and no more.
        links.clear();
        Some(future)
    }

    /// As `notify`, for functions that were all added with the thread they belong to.
    pub fn notify_homes(&self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.is_empty() {
            return Ok(());
        }
        self.schedule(object.py(), None, object)
    }

    fn schedule(
        &self,
        py: Python<'_>,
        default: Option<&HubObject>,
        object: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let links = self.take();
        let mut calls = Vec::with_capacity(links.len());
        for link in links {
            let args = PyTuple::new(py, [object])?.unbind();
            let call = Callback::object(py, link.function, args)?;
            calls.push(call.clone_ref(py));
            let entry = Entry::Call { callback: call.into_ptr() };
            match (&link.home, default) {
                (Some(Home(thread)), _) => match Self::hub_of(py, thread)? {
                    Some(hub) => hub.push(thread, entry),
                    // The thread has ended.
                    None => entry.discard(),
                },
                (None, Some(hub)) => hub.push_local(entry),
                (None, None) => entry.discard(),
            }
        }
        let old = mem::take(&mut *self.scheduled.borrow_mut());
        calls.extend(old.into_iter().filter(|call| call.get().pending()));
        *self.scheduled.borrow_mut() = calls;
        Ok(())
    }

    fn hub_of<'a>(py: Python<'_>, thread: &Thread) -> PyResult<Option<&'a HubObject>> {
        if thread.is_calling() {
            return HubObject::of(py, thread).map(Some);
        }
        // SAFETY: a thread's record owns the hub while it is set.
        Ok(unsafe { thread.hub.get().as_ref() })
    }
}
