//! A binary heap of Python objects.
//!
//! Comparing objects runs Python code, which can fail, and can use the very heap it is called
//! for. So each operation first finds out, on copies, where everything goes, and then moves the
//! items without comparing. An operation that fails changes nothing; one that finds the heap
//! changed under its hands starts again.

use pyo3::prelude::*;
use std::cell::{Cell, RefCell};

/// The smallest item is the first; the children of item `n` are `2n + 1` and `2n + 2`.
#[derive(Default)]
pub struct Heap {
    items: RefCell<Vec<Py<PyAny>>>,
    /// Grows with every change.
    version: Cell<u64>,
}

impl Heap {
    pub fn len(&self) -> usize {
        self.items.borrow().len()
    }

    pub fn first(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.items.borrow().first().map(|item| item.clone_ref(py))
    }

    /// All items, in the order of the heap.
    pub fn snapshot(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.items.borrow().iter().map(|item| item.clone_ref(py)).collect()
    }

    /// Whether exactly these items are in it, in this order.
    pub fn holds(&self, copies: &[Py<PyAny>]) -> bool {
        let items = self.items.borrow();
        items.len() == copies.len() && items.iter().zip(copies).all(|(item, copy)| item.is(copy))
    }

    pub fn visit(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        self.items.borrow().iter().try_for_each(|item| visit.call(item))
    }

    /// Takes all items out.
    pub fn take(&self) -> Vec<Py<PyAny>> {
        self.changed();
        self.items.take()
    }

    /// Puts the items of another heap in the place of these, which are returned.
    pub fn replace(&self, other: &Self) -> Vec<Py<PyAny>> {
        self.changed();
        self.items.replace(other.items.take())
    }

    fn changed(&self) {
        self.version.set(self.version.get() + 1);
    }

    fn at<'py>(&self, py: Python<'py>, index: usize) -> Option<Bound<'py, PyAny>> {
        self.items.borrow().get(index).map(|item| item.bind(py).clone())
    }

    /// Puts an item in.
    ///
    /// # Errors
    ///
    /// What comparing raises; the heap is as before then.
    pub fn push(&self, item: &Bound<'_, PyAny>) -> PyResult<()> {
        loop {
            let version = self.version.get();
            let path = self.way_up(item)?;
            if self.version.get() == version {
                let mut items = self.items.borrow_mut();
                items.push(item.clone().unbind());
                let mut hole = items.len() - 1;
                for index in path {
                    items.swap(hole, index);
                    hole = index;
                }
                drop(items);
                self.changed();
                return Ok(());
            }
        }
    }

    /// The places an item passes from the end towards the root.
    fn way_up(&self, item: &Bound<'_, PyAny>) -> PyResult<Vec<usize>> {
        let mut path = Vec::new();
        let mut hole = self.len();
        while hole > 0 {
            let parent = (hole - 1) / 2;
            let Some(above) = self.at(item.py(), parent) else { break };
            if !item.lt(&above)? {
                break;
            }
            path.push(parent);
            hole = parent;
        }
        Ok(path)
    }

    /// Takes the smallest item out.
    ///
    /// # Errors
    ///
    /// What comparing raises; the heap is as before then.
    pub fn pop(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        loop {
            let version = self.version.get();
            let Some(last) = self.len().checked_sub(1) else { return Ok(None) };
            let path = self.way_down(py, last)?;
            if self.version.get() == version {
                let mut items = self.items.borrow_mut();
                let first = items.swap_remove(0);
                let mut hole = 0;
                for index in path {
                    items.swap(hole, index);
                    hole = index;
                }
                drop(items);
                self.changed();
                return Ok(Some(first));
            }
        }
    }

    /// The places that the item at `last` passes from the root on, in a heap without the first
    /// item and with `last` items.
    fn way_down(&self, py: Python<'_>, last: usize) -> PyResult<Vec<usize>> {
        let mut path = Vec::new();
        let Some(item) = self.at(py, last) else { return Ok(path) };
        let mut hole = 0;
        loop {
            let mut child = 2 * hole + 1;
            if child >= last {
                break;
            }
            let Some(mut smaller) = self.at(py, child) else { break };
            if child + 1 < last
                && let Some(right) = self.at(py, child + 1)
                && right.lt(&smaller)?
            {
                child += 1;
                smaller = right;
            }
            if !smaller.lt(&item)? {
                break;
            }
            path.push(child);
            hole = child;
        }
        Ok(path)
    }
}
