//! `Channel`: a queue without room.

use super::queue::{empty, full};
use super::{Given, Truth, class_name, in_hub, limited};
use crate::hub::wait::{Reason, Ticket, Wait, WaitList};
use pyo3::exceptions::{PyStopIteration, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// An item that is there to be taken.
struct Offer {
    item: Py<PyAny>,
    /// Wakes whoever waits for the item to be taken; not there for `put_nowait`.
    ticket: Option<Ticket>,
    /// Tells offers apart, and whether one has been taken.
    taken: Rc<Cell<bool>>,
}

/// A queue without room: `put` waits until somebody takes the item.
///
/// maxsize: must be 1.
///
/// Everybody is served in the order they came. (As gevent.queue.Channel.)
#[pyclass(frozen, subclass, weakref, module = "greenloop.queue")]
pub struct Channel {
    offers: RefCell<VecDeque<Offer>>,
    getters: WaitList,
    /// Offers that are claimed for those who waited for one and have been woken.
    claimed: Cell<usize>,
}

// SAFETY: as for `Sync`.
unsafe impl Send for Channel {}
// SAFETY: touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for Channel {}

impl Channel {
    /// How many offers are there for whoever comes now.
    fn open_offers(&self) -> usize {
        self.offers.borrow().len().saturating_sub(self.claimed.get())
    }

    /// Claims offers for those who wait for one, as far as there are.
    fn serve_getters(&self) {
        while self.open_offers() > 0 && self.getters.wake_one() {
            self.claimed.set(self.claimed.get() + 1);
        }
    }

    fn try_take<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        if self.open_offers() == 0 {
            return None;
        }
        let offer = self.offers.borrow_mut().pop_front()?;
        offer.taken.set(true);
        if let Some(ticket) = offer.ticket {
            ticket.wake(Reason::Notified);
        }
        Some(offer.item.into_bound(py))
    }

    fn offer(&self, item: &Bound<'_, PyAny>, ticket: Option<Ticket>) -> Rc<Cell<bool>> {
        let taken = Rc::new(Cell::new(false));
        let offer = Offer { item: item.clone().unbind(), ticket, taken: Rc::clone(&taken) };
        self.offers.borrow_mut().push_back(offer);
        self.serve_getters();
        taken
    }

    fn withdraw(&self, taken: &Rc<Cell<bool>>) {
        let mut offers = self.offers.borrow_mut();
        let place = offers.iter().position(|offer| Rc::ptr_eq(&offer.taken, taken));
        let offer = place.and_then(|place| offers.remove(place));
        drop(offers);
        drop(offer);
    }
}

#[pymethods]
impl Channel {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(maxsize=1)")]
    fn __new__(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { offers: RefCell::default(), getters: WaitList::new(), claimed: Cell::new(0) }
    }

    #[pyo3(signature = (maxsize = Given::No))]
    fn __init__<'py>(_slf: &Bound<'py, Self>, maxsize: Given<'py>) -> PyResult<()> {
        match maxsize {
            Given::Yes(maxsize) if !maxsize.eq(1)? => {
                Err(PyValueError::new_err("Channels have a maxsize of 1"))
            }
            _ => Ok(()),
        }
    }

    /// Gives an item to somebody who gets it.
    ///
    /// item: any object.
    /// block: wait until it is taken; if false, somebody has to be waiting for one.
    /// timeout: seconds to wait at most; None for no limit.
    ///
    /// Raises Full if nobody takes it (in time). In the hub, which cannot wait, *block* is false.
    #[pyo3(
        signature = (item, block = Truth(true), timeout = None),
        text_signature = "($self, item, block=True, timeout=None)"
    )]
    fn put<'py>(
        slf: &Bound<'py, Self>,
        item: Bound<'py, PyAny>,
        block: Truth,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if !block.0 || in_hub() {
            if this.getters.is_empty() {
                return Err(full(py));
            }
            this.offer(&item, None);
            return Ok(());
        }
        limited(py, timeout, |limit| {
            let wait = Wait::begin(py, slf.as_ptr())?;
            let taken = this.offer(&item, Some(wait.ticket()));
            let woken = wait.park(None, limit.deadline());
            if !taken.get() {
                this.withdraw(&taken);
                woken.into_result()?;
                return Err(full(py));
            }
            woken.error.map_or(Ok(()), |error| Err(error.into_err()))
        })
    }

    /// As `put(item, block=False)`: never waits or switches.
    fn put_nowait<'py>(slf: &Bound<'py, Self>, item: Bound<'py, PyAny>) -> PyResult<()> {
        Self::put(slf, item, Truth(false), None)
    }

    /// Takes an item from somebody who puts one and returns it.
    ///
    /// block: wait for somebody who does.
    /// timeout: seconds to wait at most; None for no limit.
    ///
    /// Raises Empty if there is nobody (in time). In the hub, which cannot wait, Empty is raised
    /// at once.
    #[pyo3(
        signature = (block = Truth(true), timeout = None),
        text_signature = "($self, block=True, timeout=None)"
    )]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        block: Truth,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        if let Some(item) = this.try_take(py) {
            return Ok(item);
        }
        if !block.0 || in_hub() {
            return Err(empty(py));
        }
        limited(py, timeout, |limit| {
            loop {
                if let Some(item) = this.try_take(py) {
                    return Ok(item);
                }
                let woken =
                    Wait::begin(py, slf.as_ptr())?.park(Some(&this.getters), limit.deadline());
                if woken.notified() {
                    this.claimed.set(this.claimed.get() - 1);
                    if woken.error.is_some() {
                        this.serve_getters();
                    }
                }
                if woken.into_result()? != Reason::Notified {
                    return Err(empty(py));
                }
            }
        })
    }

    /// As `get(block=False)`: never waits or switches.
    fn get_nowait<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::get(slf, Truth(false), None)
    }

    /// How many wait to put, minus how many wait to get.
    #[getter]
    fn balance(&self) -> isize {
        self.offers.borrow().len().cast_signed()
            - (self.getters.len() + self.claimed.get()).cast_signed()
    }

    /// The greenlets that wait to get, in their order.
    #[getter]
    fn getters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.getters.members(py))
    }

    /// The items of those who wait to put, in their order.
    #[getter]
    fn putters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let items: Vec<_> =
            self.offers.borrow().iter().map(|offer| offer.item.clone_ref(py)).collect();
        PyTuple::new(py, items)
    }

    /// The hub of the calling thread. A channel belongs to none.
    #[getter]
    fn hub(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        super::hub_here(py)
    }

    /// 0: a channel holds no items.
    fn qsize(&self) -> usize {
        0
    }

    /// True: a channel holds no items.
    fn empty(&self) -> bool {
        true
    }

    /// True: a channel has no room.
    fn full(&self) -> bool {
        true
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let format = slf.get().format();
        Ok(format!("<{} at {:#x}{format}>", class_name(slf)?, slf.as_ptr() as usize))
    }

    fn __str__(slf: &Bound<'_, Self>) -> PyResult<String> {
        Ok(format!("<{}{}>", class_name(slf)?, slf.get().format()))
    }

    fn __iter__<'py>(slf: &Bound<'py, Self>) -> Bound<'py, Self> {
        slf.clone()
    }

    /// The next item; the class StopIteration as an item ends the iteration.
    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let item = slf.call_method0(pyo3::intern!(slf.py(), "get"))?;
        Ok((!item.is(slf.py().get_type::<PyStopIteration>())).then_some(item))
    }

    /// The next item; StopIteration is raised at the end of the iteration.
    fn next<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::__next__(slf)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    /// `Channel[int]` and the like, for annotations.
    #[classmethod]
    fn __class_getitem__<'py>(
        class: &Bound<'py, PyType>,
        item: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        class.py().import("types")?.getattr("GenericAlias")?.call1((class, item))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.offers.borrow().iter().try_for_each(|offer| visit.call(&offer.item))
    }

    fn __clear__(&self) {
        drop(self.offers.take());
    }
}

impl Channel {
    fn format(&self) -> String {
        let mut text = String::new();
        for (name, count) in
            [("getters", self.getters.len()), ("putters", self.offers.borrow().len())]
        {
            if count > 0 {
                text.push_str(&format!(" {name}[{count}]"));
            }
        }
        text
    }
}
