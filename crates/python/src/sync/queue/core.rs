//! How items get from those who put them to those who get them.
//!
//! An item that is put while somebody waits for one is *claimed* for them: it stays in the store,
//! and whoever comes meanwhile does not see it. The one who waited takes it when its turn comes;
//! if it is killed before, the claim passes to the next who waits, or ends. So items keep their
//! order, and none is lost or comes out twice.
//!
//! Somebody who waits for room leaves the item here. Whoever makes room puts it into the store and
//! wakes its owner: an item is put when there is room for it, not when its owner runs.

use super::super::{in_hub, limited, refuse_nan};
use super::SimpleQueue;
use super::errors;
use super::hooks::{Hook, Hooks};
use super::store::{Order, Store};
use crate::hub::wait::{Reason, Ticket, Wait, WaitList};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// An item whose owner waits for room.
struct Pending {
    /// Gone once the item has been put, or withdrawn.
    item: RefCell<Option<Py<PyAny>>>,
    /// What putting it raised.
    error: RefCell<Option<PyErr>>,
}

struct Putter {
    pending: Rc<Pending>,
    ticket: Ticket,
}

/// The state of a queue.
pub struct Core {
    pub store: Store,
    pub hooks: Hooks,
    /// `usize::MAX` for no limit.
    pub maxsize: Cell<usize>,
    pub getters: WaitList,
    /// Items in the store that are claimed for those who waited and have been woken.
    claimed: Cell<usize>,
    putters: RefCell<VecDeque<Putter>>,
    pub is_shutdown: Cell<bool>,
    /// Whether items count as tasks until `task_done`.
    pub counts_tasks: bool,
    pub unfinished: Cell<isize>,
    pub joiners: WaitList,
}

// SAFETY: touched with the GIL held, for moments in which no Python code runs.
unsafe impl Send for Core {}
// SAFETY: as above.
unsafe impl Sync for Core {}

/// What to do with the item.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Taking {
    Get,
    Peek,
}

type Queue<'a, 'py> = &'a Bound<'py, SimpleQueue>;

impl Core {
    pub fn new(order: Order, hooks: Hooks, counts_tasks: bool) -> Self {
        Self {
            store: Store::new(order),
            hooks,
            maxsize: Cell::new(usize::MAX),
            getters: WaitList::new(),
            claimed: Cell::new(0),
            putters: RefCell::default(),
            is_shutdown: Cell::new(false),
            counts_tasks,
            unfinished: Cell::new(0),
            joiners: WaitList::new(),
        }
    }

    pub fn putters(&self) -> usize {
        self.putters.borrow().len()
    }

    /// How many items are there for whoever comes now.
    #[inline]
    pub fn size(&self, slf: Queue<'_, '_>) -> PyResult<usize> {
        let items = if self.hooks.has(Hook::Qsize) {
            slf.call_method0("_qsize")?.extract()?
        } else {
            self.store.len(slf.py())?
        };
        Ok(items.saturating_sub(self.claimed.get()))
    }

    #[inline]
    fn has_room(&self, slf: Queue<'_, '_>) -> PyResult<bool> {
        let maxsize = self.maxsize.get();
        Ok(maxsize == usize::MAX || self.size(slf)? < maxsize)
    }

    pub fn is_full(&self, slf: Queue<'_, '_>) -> PyResult<bool> {
        self.has_room(slf).map(|room| !room)
    }

    /// Puts an item into the store. Part of the hook `_put`: a subclass that does not call it
    /// counts no task.
    pub fn store_item(&self, item: &Bound<'_, PyAny>) -> PyResult<()> {
        self.store.push(item)?;
        if self.counts_tasks {
            self.unfinished.set(self.unfinished.get() + 1);
        }
        Ok(())
    }

    #[inline]
    fn insert(&self, slf: Queue<'_, '_>, item: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.hooks.has(Hook::Put) {
            slf.call_method1("_put", (item,)).map(drop)
        } else {
            self.store_item(item)
        }
    }

    fn extract<'py>(&self, slf: Queue<'_, 'py>, taking: Taking) -> PyResult<Bound<'py, PyAny>> {
        match taking {
            Taking::Get if self.hooks.has(Hook::Get) => slf.call_method0("_get"),
            Taking::Get => self.store.pop(slf.py()),
            Taking::Peek if self.hooks.has(Hook::Peek) => slf.call_method0("_peek"),
            Taking::Peek => self.store.front(slf.py()),
        }
    }

    /// Claims items for those who wait for them, as far as there are.
    #[inline]
    fn serve_getters(&self, slf: Queue<'_, '_>) {
        if !self.getters.is_empty() {
            self.serve_getters_now(slf);
        }
    }

    fn serve_getters_now(&self, slf: Queue<'_, '_>) {
        loop {
            match self.size(slf) {
                Ok(0) => return,
                Ok(_) => {
                    if !self.getters.wake_one() {
                        return;
                    }
                    self.claimed.set(self.claimed.get() + 1);
                }
                // The hook `_qsize` failed.
                Err(error) => return error.write_unraisable(slf.py(), Some(slf)),
            }
        }
    }

    /// Puts the items of those who wait for room, as far as there is room.
    #[inline]
    pub fn admit_putters(&self, slf: Queue<'_, '_>) {
        if !self.putters.borrow().is_empty() {
            self.admit_putters_now(slf);
        }
    }

    fn admit_putters_now(&self, slf: Queue<'_, '_>) {
        let py = slf.py();
        loop {
            match self.has_room(slf) {
                Ok(true) => {}
                Ok(false) => return,
                // The hook `_qsize` failed.
                Err(error) => return error.write_unraisable(py, Some(slf)),
            }
            let Some(Putter { pending, ticket }) = self.putters.borrow_mut().pop_front() else {
                return;
            };
            let item = pending.item.borrow_mut().take();
            if let Some(item) = item
                && let Err(error) = self.insert(slf, item.bind(py))
            {
                *pending.error.borrow_mut() = Some(error);
            }
            ticket.wake(Reason::Notified);
            self.serve_getters(slf);
        }
    }

    /// Puts an item. See `SimpleQueue.put`.
    #[inline]
    pub fn put<'py>(
        &self,
        slf: Queue<'_, 'py>,
        item: &Bound<'py, PyAny>,
        block: bool,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        if self.is_shutdown.get() {
            return Err(errors::shut_down(py));
        }
        if block && let Some(timeout) = &timeout {
            check_timeout(timeout)?;
        }
        if self.has_room(slf)? {
            self.insert(slf, item)?;
            self.serve_getters(slf);
            return Ok(());
        }
        if !block {
            return Err(errors::full(py));
        }
        self.wait_to_put(slf, item, timeout)
    }

    #[cold]
    fn wait_to_put<'py>(
        &self,
        slf: Queue<'_, 'py>,
        item: &Bound<'py, PyAny>,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        limited(py, timeout, |limit| {
            if self.is_shutdown.get() {
                return Err(errors::shut_down(py));
            }
            if self.has_room(slf)? {
                self.insert(slf, item)?;
                self.serve_getters(slf);
                return Ok(());
            }
            if in_hub() {
                return Err(errors::full(py));
            }
            let wait = Wait::begin(py, slf.as_ptr())?;
            let pending = Rc::new(Pending {
                item: RefCell::new(Some(item.clone().unbind())),
                error: RefCell::new(None),
            });
            let putter = Putter { pending: Rc::clone(&pending), ticket: wait.ticket() };
            self.putters.borrow_mut().push_back(putter);
            let woken = wait.park(None, limit.deadline());
            let withdrawn = pending.item.borrow_mut().take();
            if withdrawn.is_some() {
                self.withdraw(&pending);
                return match woken.into_result()? {
                    Reason::Closed => Err(errors::shut_down(py)),
                    _ => Err(errors::full(py)),
                };
            }
            // The item has been put, whatever came after that.
            if let Some(error) = woken.error {
                return Err(error.into_err());
            }
            let failure = pending.error.borrow_mut().take();
            failure.map_or(Ok(()), Err)
        })
    }

    fn withdraw(&self, pending: &Rc<Pending>) {
        let mut putters = self.putters.borrow_mut();
        let place = putters.iter().position(|putter| Rc::ptr_eq(&putter.pending, pending));
        let putter = place.and_then(|place| putters.remove(place));
        drop(putters);
        drop(putter);
    }

    /// Takes the next item if there is one for whoever comes now.
    #[inline]
    fn try_take<'py>(
        &self,
        slf: Queue<'_, 'py>,
        taking: Taking,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if self.size(slf)? == 0 {
            return Ok(None);
        }
        let item = self.extract(slf, taking)?;
        if taking == Taking::Get {
            self.admit_putters(slf);
        }
        Ok(Some(item))
    }

    /// Takes the next item. See `SimpleQueue.get`.
    #[inline]
    pub fn take<'py>(
        &self,
        slf: Queue<'_, 'py>,
        taking: Taking,
        block: bool,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        if block && let Some(timeout) = &timeout {
            check_timeout(timeout)?;
        }
        if let Some(item) = self.try_take(slf, taking)? {
            return Ok(item);
        }
        if self.is_shutdown.get() {
            return Err(errors::shut_down(py));
        }
        if !block {
            return Err(errors::empty(py));
        }
        self.wait_to_take(slf, taking, timeout)
    }

    fn wait_to_take<'py>(
        &self,
        slf: Queue<'_, 'py>,
        taking: Taking,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        limited(py, timeout, |limit| {
            loop {
                let taken = self.try_take(slf, taking);
                // A claim that was only looked at, or could not be used, is for the next.
                if taking == Taking::Peek || taken.is_err() {
                    self.serve_getters(slf);
                }
                if let Some(item) = taken? {
                    return Ok(item);
                }
                if self.is_shutdown.get() {
                    return Err(errors::shut_down(py));
                }
                if in_hub() {
                    return Err(errors::empty(py));
                }
                let woken =
                    Wait::begin(py, slf.as_ptr())?.park(Some(&self.getters), limit.deadline());
                // A shutdown ends all claims: who waited takes what is left.
                if woken.notified() && !self.is_shutdown.get() {
                    self.claimed.set(self.claimed.get() - 1);
                    if woken.error.is_some() {
                        self.serve_getters(slf);
                    }
                }
                if woken.into_result()? != Reason::Notified {
                    return Err(errors::empty(py));
                }
            }
        })
    }

    /// Ends the use of the queue: wakes everybody who waits to put or get.
    pub fn shut_down(&self, slf: Queue<'_, '_>, immediate: bool) -> PyResult<()> {
        self.is_shutdown.set(true);
        self.claimed.set(0);
        let putters = self.putters.take();
        for putter in putters {
            putter.ticket.wake(Reason::Closed);
        }
        self.getters.wake_all();
        if immediate {
            while self.size(slf)? > 0 {
                let item = self.extract(slf, Taking::Get)?;
                if self.unfinished.get() > 0 {
                    self.finish_task();
                }
                drop(item);
            }
        }
        Ok(())
    }

    /// Counts a task as done.
    pub fn finish_task(&self) {
        let left = self.unfinished.get() - 1;
        self.unfinished.set(left);
        if left == 0 {
            self.joiners.wake_all();
        }
    }

    pub fn visit(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        for putter in self.putters.borrow().iter() {
            if let Some(item) = &*putter.pending.item.borrow() {
                visit.call(item)?;
            }
        }
        self.store.visit(visit)
    }
}

/// # Errors
///
/// TypeError for what is no number, ValueError for less than 0 and for not a number.
fn check_timeout(timeout: &Bound<'_, PyAny>) -> PyResult<()> {
    refuse_nan(timeout)?;
    if timeout.lt(0).map_err(|error| not_a_number(timeout, error))? {
        return Err(PyValueError::new_err("'timeout' must be a non-negative number"));
    }
    Ok(())
}

fn not_a_number(timeout: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    match timeout.get_type().name() {
        Ok(name) if error.is_instance_of::<PyTypeError>(timeout.py()) => {
            PyTypeError::new_err(format!("'timeout' must be a number, not {name}"))
        }
        _ => error,
    }
}
