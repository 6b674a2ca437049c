//! Where the items of a queue are.

use super::heap::Heap;
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyList;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// In which order items come out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    FirstInFirstOut,
    LastInFirstOut,
    SmallestFirst,
}

enum Items {
    /// For both orders of arrival.
    Deque(RefCell<VecDeque<Py<PyAny>>>),
    Heap(Heap),
}

/// The items: inside, or in the Python object that somebody asked for (the attribute `queue`) or
/// put in their place.
pub struct Store {
    pub order: Order,
    items: Items,
    object: RefCell<Option<Py<PyAny>>>,
    /// Whether `object` is in use, to be looked at without a borrow.
    outside: Cell<bool>,
}

static DEQUE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static HEAPIFY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static HEAP_PUSH: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static HEAP_POP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

fn library<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyAny>>,
    module: &str,
    name: &str,
) -> PyResult<&'py Bound<'py, PyAny>> {
    cell.get_or_try_init(py, || Ok::<_, PyErr>(py.import(module)?.getattr(name)?.unbind()))
        .map(|object| object.bind(py))
}

/// The Python object that holds `items` in an order.
pub fn container<'py>(order: Order, items: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = items.py();
    match order {
        Order::FirstInFirstOut => library(py, &DEQUE, "collections", "deque")?.call1((items,)),
        Order::LastInFirstOut => Ok(list_of(items)?.into_any()),
        Order::SmallestFirst => {
            let list = list_of(items)?;
            library(py, &HEAPIFY, "heapq", "heapify")?.call1((&list,))?;
            Ok(list.into_any())
        }
    }
}

fn list_of<'py>(items: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(items.py());
    list.as_any().call_method1("extend", (items,))?;
    Ok(list)
}

impl Store {
    pub fn new(order: Order) -> Self {
        let items = match order {
            Order::SmallestFirst => Items::Heap(Heap::default()),
            _ => Items::Deque(RefCell::default()),
        };
        Self { order, items, object: RefCell::new(None), outside: Cell::new(false) }
    }

    fn outside<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        if !self.outside.get() {
            return None;
        }
        self.object.borrow().as_ref().map(|object| object.bind(py).clone())
    }

    #[inline]
    pub fn len(&self, py: Python<'_>) -> PyResult<usize> {
        if let Some(object) = self.outside(py) {
            return object.len();
        }
        Ok(match &self.items {
            Items::Deque(items) => items.borrow().len(),
            Items::Heap(heap) => heap.len(),
        })
    }

    #[inline]
    pub fn push(&self, item: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = item.py();
        if let Some(object) = self.outside(py) {
            return match self.order {
                Order::SmallestFirst => {
                    library(py, &HEAP_PUSH, "heapq", "heappush")?.call1((object, item)).map(drop)
                }
                _ => object.call_method1(pyo3::intern!(py, "append"), (item,)).map(drop),
            };
        }
        match &self.items {
            Items::Deque(items) => items.borrow_mut().push_back(item.clone().unbind()),
            Items::Heap(heap) => heap.push(item)?,
        }
        Ok(())
    }

    /// Takes the next item out.
    ///
    /// # Errors
    ///
    /// IndexError if there is none.
    #[inline]
    pub fn pop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(object) = self.outside(py) {
            return match self.order {
                Order::FirstInFirstOut => object.call_method0(pyo3::intern!(py, "popleft")),
                Order::LastInFirstOut => object.call_method0(pyo3::intern!(py, "pop")),
                Order::SmallestFirst => {
                    library(py, &HEAP_POP, "heapq", "heappop")?.call1((object,))
                }
            };
        }
        let item = match &self.items {
            Items::Deque(items) if self.order == Order::FirstInFirstOut => {
                items.borrow_mut().pop_front()
            }
            Items::Deque(items) => items.borrow_mut().pop_back(),
            Items::Heap(heap) => heap.pop(py)?,
        };
        item.map(|item| item.into_bound(py)).ok_or_else(empty)
    }

    /// The next item, which stays.
    ///
    /// # Errors
    ///
    /// IndexError if there is none.
    pub fn front<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(object) = self.outside(py) {
            return object.get_item(if self.order == Order::LastInFirstOut { -1 } else { 0 });
        }
        let item = match &self.items {
            Items::Deque(items) => {
                let items = items.borrow();
                let item = match self.order {
                    Order::LastInFirstOut => items.back(),
                    _ => items.front(),
                };
                item.map(|item| item.clone_ref(py))
            }
            Items::Heap(heap) => heap.first(py),
        };
        item.map(|item| item.into_bound(py)).ok_or_else(empty)
    }

    /// Replaces all items by those of an iterable.
    pub fn fill(&self, items: &Bound<'_, PyAny>) -> PyResult<()> {
        let fresh = Self::new(self.order);
        for item in items.try_iter()? {
            fresh.push(&item?)?;
        }
        let old_object = self.object.take();
        self.outside.set(false);
        match (&self.items, fresh.items) {
            (Items::Deque(ours), Items::Deque(new)) => drop(ours.replace(new.into_inner())),
            (Items::Heap(ours), Items::Heap(new)) => drop(ours.replace(&new)),
            _ => unreachable!("the same order is stored in the same way"),
        }
        drop(old_object);
        Ok(())
    }

    /// A list of the items, in the order they are stored.
    pub fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        if let Some(object) = self.outside(py) {
            return list_of(&object);
        }
        PyList::new(py, self.copies(py))
    }

    fn copies(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        match &self.items {
            Items::Deque(items) => items.borrow().iter().map(|item| item.clone_ref(py)).collect(),
            Items::Heap(heap) => heap.snapshot(py),
        }
    }

    /// The Python object with the items: from now on they are in there.
    pub fn object<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        loop {
            if let Some(object) = self.outside(py) {
                return Ok(object);
            }
            // Making the object can run Python code (a garbage collection), which may use the
            // queue.
            let copies = self.copies(py);
            let list = PyList::new(py, &copies)?.into_any();
            let object = match self.order {
                Order::FirstInFirstOut => {
                    library(py, &DEQUE, "collections", "deque")?.call1((list,))?
                }
                _ => list,
            };
            if !self.outside.get() && self.holds(&copies) {
                self.set_object(object.clone().unbind());
                return Ok(object);
            }
        }
    }

    /// Whether exactly these items are inside.
    fn holds(&self, copies: &[Py<PyAny>]) -> bool {
        match &self.items {
            Items::Deque(items) => {
                let items = items.borrow();
                items.len() == copies.len()
                    && items.iter().zip(copies).all(|(item, copy)| item.is(copy))
            }
            Items::Heap(heap) => heap.holds(copies),
        }
    }

    /// Takes the items out of the inside, in the order they are stored.
    fn drain(&self) -> Vec<Py<PyAny>> {
        match &self.items {
            Items::Deque(items) => items.take().into(),
            Items::Heap(heap) => heap.take(),
        }
    }

    /// Uses a Python object as the place for the items, instead of those there are.
    pub fn set_object(&self, object: Py<PyAny>) {
        let old = self.object.borrow_mut().replace(object);
        self.outside.set(true);
        drop(self.drain());
        drop(old);
    }

    pub fn visit(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        if let Some(object) = &*self.object.borrow() {
            visit.call(object)?;
        }
        match &self.items {
            Items::Deque(items) => items.borrow().iter().try_for_each(|item| visit.call(item)),
            Items::Heap(heap) => heap.visit(visit),
        }
    }

    /// Drops all items.
    pub fn clear(&self) {
        let object = self.object.take();
        self.outside.set(false);
        drop(self.drain());
        drop(object);
    }
}

fn empty() -> PyErr {
    PyIndexError::new_err("the queue is empty")
}
