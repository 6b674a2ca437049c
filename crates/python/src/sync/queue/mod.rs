//! `SimpleQueue`, `Queue`, `LifoQueue` and `PriorityQueue`.

mod core;
mod errors;
mod heap;
mod hooks;
mod store;

pub use errors::{empty, full};

use self::core::{Core, Taking};
use super::{Truth, class_name, limited};
use crate::hub::wait::{Reason, Wait};
use hooks::{Hook, Hooks};
use pyo3::exceptions::{PyDeprecationWarning, PyStopIteration, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{PyTraverseError, PyTypeInfo, PyVisit};
use std::fmt::Write as _;
use store::Order;

/// Items that the text form of a queue shows; of more it gives the number.
const SHOWN: usize = 20;

/// A queue for greenlets and threads: first in, first out.
///
/// maxsize: how many items it can hold; None or less than 0 for no limit.
/// items: what is in it to begin with, even if that is more than it can hold.
///
/// Those who wait for an item get theirs in the order they came, and so do those who wait for
/// room. A queue is true even when it is empty. Subclasses can replace `_init`, `_create_queue`,
/// `_qsize`, `_put`, `_get` and `_peek` to keep the items in their own way. (As
/// gevent.queue.SimpleQueue; it serves as queue.SimpleQueue too.)
#[pyclass(frozen, subclass, weakref, module = "greenloop.queue")]
pub struct SimpleQueue {
    core: Core,
}

impl SimpleQueue {
    /// Whether `function` is the `put` of a queue that is always open to items, and not of a
    /// subclass.
    pub fn is_put_without_limit(function: &Bound<'_, PyAny>) -> bool {
        let py = function.py();
        crate::sync::links::builtin_self(function, c"put").is_some_and(|queue| {
            let kind = queue.get_type_ptr();
            (kind == Self::type_object_raw(py) || kind == Queue::type_object_raw(py))
                && queue.cast::<Self>().is_ok_and(|queue| {
                    let core = &queue.get().core;
                    core.maxsize.get() == usize::MAX && !core.is_shutdown.get()
                })
        })
    }

    fn fresh(
        class: &Bound<'_, PyType>,
        own: &Bound<'_, PyType>,
        order: Order,
        tasks: bool,
    ) -> PyResult<Self> {
        Ok(Self { core: Core::new(order, Hooks::of(class, own)?, tasks) })
    }

    fn set_up<'py>(
        slf: &Bound<'py, Self>,
        maxsize: Option<Bound<'py, PyAny>>,
        items: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let core = &slf.get().core;
        let size = size_argument(maxsize.as_ref())?;
        if size == Some(0) {
            PyErr::warn(
                slf.py(),
                &slf.py().get_type::<PyDeprecationWarning>(),
                c"Queue(0) has no limit, like Queue(None); what has no room is a Channel",
                1,
            )?;
        }
        core.maxsize.set(match size {
            None | Some(0) => usize::MAX,
            Some(size) => size,
        });
        if core.hooks.has(Hook::Init) {
            let maxsize = slf.getattr("maxsize")?;
            return match items {
                Some(items) => slf.call_method1("_init", (maxsize, items)),
                None => slf.call_method1("_init", (maxsize,)),
            }
            .map(drop);
        }
        Self::init_items(slf, items)
    }

    fn init_items<'py>(slf: &Bound<'py, Self>, items: Option<Bound<'py, PyAny>>) -> PyResult<()> {
        let core = &slf.get().core;
        if core.hooks.has(Hook::CreateQueue) {
            let items = items.unwrap_or_else(|| PyTuple::empty(slf.py()).into_any());
            let object = slf.call_method1("_create_queue", (items,))?;
            core.store.set_object(object.unbind());
            return Ok(());
        }
        match items {
            Some(items) => core.store.fill(&items),
            None => {
                core.store.clear();
                Ok(())
            }
        }
    }

    fn format(slf: &Bound<'_, Self>) -> PyResult<String> {
        let core = &slf.get().core;
        if core.hooks.has(Hook::Format) {
            return slf.call_method0("_format")?.extract();
        }
        Self::_format(slf)
    }
}

/// A limit as an argument: `None` for none.
fn size_argument(maxsize: Option<&Bound<'_, PyAny>>) -> PyResult<Option<usize>> {
    let Some(maxsize) = maxsize else { return Ok(None) };
    if maxsize.is_none() {
        return Ok(None);
    }
    let size: isize = maxsize.extract()?;
    Ok(usize::try_from(size).ok())
}

#[pymethods]
impl SimpleQueue {
    #[new]
    #[classmethod]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(maxsize=None, items=())")]
    fn __new__(
        class: &Bound<'_, PyType>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let own = Self::type_object(class.py());
        Self::fresh(class, &own, Order::FirstInFirstOut, false)
    }

    #[pyo3(signature = (maxsize = None, items = None))]
    fn __init__<'py>(
        slf: &Bound<'py, Self>,
        maxsize: Option<Bound<'py, PyAny>>,
        items: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        Self::set_up(slf, maxsize, items)
    }

    /// Puts an item into the queue.
    ///
    /// item: any object.
    /// block: wait for room if there is none.
    /// timeout: seconds to wait at most; None for no limit.
    ///
    /// Raises Full if there is no room (in time), ShutDown after `shutdown`, ValueError if
    /// *timeout* is negative. In the hub, which cannot wait, Full is raised at once.
    #[pyo3(
        signature = (item, block = Truth(true), timeout = None),
        text_signature = "($self, item, block=True, timeout=None)"
    )]
    pub fn put<'py>(
        slf: &Bound<'py, Self>,
        item: Bound<'py, PyAny>,
        block: Truth,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        slf.get().core.put(slf, &item, block.0, timeout)
    }

    /// As `put(item, block=False)`: never waits or switches.
    fn put_nowait<'py>(slf: &Bound<'py, Self>, item: Bound<'py, PyAny>) -> PyResult<()> {
        slf.get().core.put(slf, &item, false, None)
    }

    /// Takes an item out of the queue and returns it.
    ///
    /// block: wait for one if there is none.
    /// timeout: seconds to wait at most; None for no limit.
    ///
    /// Raises Empty if there is none (in time), ShutDown if there is none after `shutdown`,
    /// ValueError if *timeout* is negative. In the hub, which cannot wait, Empty is raised at once.
    #[pyo3(
        signature = (block = Truth(true), timeout = None),
        text_signature = "($self, block=True, timeout=None)"
    )]
    pub fn get<'py>(
        slf: &Bound<'py, Self>,
        block: Truth,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.get().core.take(slf, Taking::Get, block.0, timeout)
    }

    /// As `get(block=False)`: never waits or switches.
    fn get_nowait<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.get().core.take(slf, Taking::Get, false, None)
    }

    /// Returns the item that `get` would take, and leaves it. Arguments and errors as for `get`.
    #[pyo3(
        signature = (block = Truth(true), timeout = None),
        text_signature = "($self, block=True, timeout=None)"
    )]
    fn peek<'py>(
        slf: &Bound<'py, Self>,
        block: Truth,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.get().core.take(slf, Taking::Peek, block.0, timeout)
    }

    /// As `peek(block=False)`: never waits or switches.
    fn peek_nowait<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.get().core.take(slf, Taking::Peek, false, None)
    }

    /// How many items there are, without those that somebody who waited is about to take.
    fn qsize(slf: &Bound<'_, Self>) -> PyResult<usize> {
        slf.get().core.size(slf)
    }

    fn __len__(slf: &Bound<'_, Self>) -> PyResult<usize> {
        slf.get().core.size(slf)
    }

    fn __bool__(&self) -> bool {
        true
    }

    /// Whether there is no item.
    fn empty(slf: &Bound<'_, Self>) -> PyResult<bool> {
        slf.get().core.size(slf).map(|size| size == 0)
    }

    /// Whether there is no room.
    fn full(slf: &Bound<'_, Self>) -> PyResult<bool> {
        slf.get().core.is_full(slf)
    }

    /// How many items the queue can hold; None for no limit. Setting a higher limit lets those who
    /// wait for room put their items.
    #[getter]
    fn maxsize(&self) -> Option<usize> {
        let maxsize = self.core.maxsize.get();
        (maxsize != usize::MAX).then_some(maxsize)
    }

    #[setter]
    fn set_maxsize<'py>(slf: &Bound<'py, Self>, maxsize: Bound<'py, PyAny>) -> PyResult<()> {
        let core = &slf.get().core;
        let size = size_argument(Some(&maxsize))?;
        core.maxsize.set(size.filter(|size| *size > 0).unwrap_or(usize::MAX));
        core.admit_putters(slf);
        Ok(())
    }

    /// The object that holds the items: a deque, or a list.
    #[getter]
    fn queue<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.core.store.object(py)
    }

    #[setter]
    fn set_queue(&self, queue: Py<PyAny>) {
        self.core.store.set_object(queue);
    }

    /// The hub of the calling thread. A queue belongs to none.
    #[getter]
    fn hub(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        super::hub_here(py)
    }

    /// Whether `shutdown` has been called.
    #[getter]
    fn is_shutdown(&self) -> bool {
        self.core.is_shutdown.get()
    }

    /// A queue of the same class with the same limit and items.
    fn copy<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let core = &slf.get().core;
        let items = core.store.snapshot(slf.py())?;
        let maxsize = slf.getattr("maxsize")?;
        if core.counts_tasks {
            return slf.get_type().call1((maxsize, items, core.unfinished.get()));
        }
        slf.get_type().call1((maxsize, items))
    }

    /// Called by the constructor: makes the place for the items.
    #[pyo3(signature = (maxsize, items = None))]
    fn _init<'py>(
        slf: &Bound<'py, Self>,
        maxsize: Bound<'py, PyAny>,
        items: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        drop(maxsize);
        Self::init_items(slf, items)
    }

    /// The object to hold the items, with some in it.
    #[pyo3(signature = (items = None))]
    fn _create_queue<'py>(
        slf: &Bound<'py, Self>,
        items: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let items = items.unwrap_or_else(|| PyTuple::empty(slf.py()).into_any());
        store::container(slf.get().core.store.order, &items)
    }

    /// How many items are held.
    fn _qsize(&self, py: Python<'_>) -> PyResult<usize> {
        self.core.store.len(py)
    }

    /// Puts an item to the others. There is room.
    fn _put(&self, item: Bound<'_, PyAny>) -> PyResult<()> {
        self.core.store_item(&item)
    }

    /// Takes the next item out. There is one.
    fn _get<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.core.store.pop(py)
    }

    /// The next item, which stays. There is one.
    fn _peek<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.core.store.front(py)
    }

    /// What the text forms say about the queue.
    fn _format(slf: &Bound<'_, Self>) -> PyResult<String> {
        let core = &slf.get().core;
        let mut text = String::new();
        if let Some(maxsize) = slf.get().maxsize() {
            write!(text, " maxsize={maxsize}").expect("a String");
        }
        let items = core.store.snapshot(slf.py())?;
        match items.len() {
            0 => {}
            1..=SHOWN => write!(text, " queue={}", items.repr()?).expect("a String"),
            count => write!(text, " queue=[{count} items]").expect("a String"),
        }
        for (name, count) in [("getters", core.getters.len()), ("putters", core.putters())] {
            if count > 0 {
                write!(text, " {name}[{count}]").expect("a String");
            }
        }
        if core.unfinished.get() != 0 {
            write!(text, " tasks={}", core.unfinished.get()).expect("a String");
        }
        if core.is_shutdown.get() {
            text.push_str(" shutdown");
        }
        Ok(text)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let format = Self::format(slf)?;
        Ok(format!("<{} at {:#x}{format}>", class_name(slf)?, slf.as_ptr() as usize))
    }

    fn __str__(slf: &Bound<'_, Self>) -> PyResult<String> {
        Ok(format!("<{}{}>", class_name(slf)?, Self::format(slf)?))
    }

    fn __iter__<'py>(slf: &Bound<'py, Self>) -> Bound<'py, Self> {
        slf.clone()
    }

    /// The next item; the class StopIteration as an item ends the iteration.
    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let item = slf.call_method0(pyo3::intern!(slf.py(), "get"))?;
        Ok((!item.is(slf.py().get_type::<PyStopIteration>())).then_some(item))
    }

    /// `Queue[int]` and the like, for annotations.
    #[classmethod]
    fn __class_getitem__<'py>(
        class: &Bound<'py, PyType>,
        item: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        class.py().import("types")?.getattr("GenericAlias")?.call1((class, item))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.core.visit(&visit)
    }

    fn __clear__(&self) {
        self.core.store.clear();
    }
}

/// A queue that knows when everything taken out of it has been worked on, and that can be shut
/// down.
///
/// maxsize, items: as for SimpleQueue.
/// unfinished_tasks: how many tasks are unfinished to begin with; None for the number of items.
///
/// (As gevent.queue.Queue and JoinableQueue.)
#[pyclass(frozen, subclass, extends = SimpleQueue, module = "greenloop.queue")]
pub struct Queue;

impl Queue {
    fn set_up<'py>(
        slf: &Bound<'py, Self>,
        maxsize: Option<Bound<'py, PyAny>>,
        items: Option<Bound<'py, PyAny>>,
        unfinished_tasks: Option<isize>,
    ) -> PyResult<()> {
        let base = slf.as_super();
        let core = &base.get().core;
        let given = items.is_some();
        SimpleQueue::set_up(base, maxsize, items)?;
        core.unfinished.set(match unfinished_tasks {
            Some(count) => count,
            None if given => core.size(base)?.cast_signed(),
            None => 0,
        });
        Ok(())
    }
}

#[pymethods]
impl Queue {
    #[new]
    #[classmethod]
    #[pyo3(
        signature = (*_args, **_kwargs),
        text_signature = "(maxsize=None, items=(), unfinished_tasks=None)"
    )]
    fn __new__(
        class: &Bound<'_, PyType>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let own = Self::type_object(class.py());
        let base = SimpleQueue::fresh(class, &own, Order::FirstInFirstOut, true)?;
        Ok(PyClassInitializer::from(base).add_subclass(Self))
    }

    #[pyo3(signature = (maxsize = None, items = None, unfinished_tasks = None))]
    fn __init__<'py>(
        slf: &Bound<'py, Self>,
        maxsize: Option<Bound<'py, PyAny>>,
        items: Option<Bound<'py, PyAny>>,
        unfinished_tasks: Option<isize>,
    ) -> PyResult<()> {
        Self::set_up(slf, maxsize, items, unfinished_tasks)
    }

    /// How many items have been put and not been told done.
    #[getter]
    fn unfinished_tasks(slf: &Bound<'_, Self>) -> isize {
        slf.as_super().get().core.unfinished.get()
    }

    /// Tells that the work on an item that was taken out is done.
    ///
    /// Raises ValueError if that was told more often than items were put.
    fn task_done(slf: &Bound<'_, Self>) -> PyResult<()> {
        let core = &slf.as_super().get().core;
        if core.unfinished.get() <= 0 {
            return Err(PyValueError::new_err("task_done() called too many times"));
        }
        core.finish_task();
        Ok(())
    }

    /// Waits until `task_done` has been called for every item that was put.
    ///
    /// timeout: seconds to wait at most; None for no limit.
    ///
    /// Returns True; False if the time was over first.
    #[pyo3(signature = (timeout = None))]
    fn join<'py>(slf: &Bound<'py, Self>, timeout: Option<Bound<'py, PyAny>>) -> PyResult<bool> {
        let core = &slf.as_super().get().core;
        if core.unfinished.get() == 0 {
            return Ok(true);
        }
        let py = slf.py();
        limited(py, timeout, |limit| {
            if core.unfinished.get() == 0 {
                return Ok(true);
            }
            let woken = Wait::begin(py, slf.as_ptr())?.park(Some(&core.joiners), limit.deadline());
            Ok(limit.judge(woken)? == Reason::Notified)
        })
    }

    /// Ends the use of the queue: from now on `put` raises ShutDown, and so does `get` when no
    /// items are left. Everybody who waits to put or get is woken.
    ///
    /// immediate: drop the items that are left and count them as done.
    #[pyo3(
        signature = (immediate = Truth(false)),
        text_signature = "($self, immediate=False)"
    )]
    fn shutdown(slf: &Bound<'_, Self>, immediate: Truth) -> PyResult<()> {
        let base = slf.as_super();
        base.get().core.shut_down(base, immediate.0)
    }
}

/// A queue whose last item comes out first. Arguments as for Queue. (As gevent.queue.LifoQueue.)
#[pyclass(frozen, subclass, extends = Queue, module = "greenloop.queue")]
pub struct LifoQueue;

#[pymethods]
impl LifoQueue {
    #[new]
    #[classmethod]
    #[pyo3(
        signature = (*_args, **_kwargs),
        text_signature = "(maxsize=None, items=(), unfinished_tasks=None)"
    )]
    fn __new__(
        class: &Bound<'_, PyType>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let own = Self::type_object(class.py());
        let base = SimpleQueue::fresh(class, &own, Order::LastInFirstOut, true)?;
        Ok(PyClassInitializer::from(base).add_subclass(Queue).add_subclass(Self))
    }

    #[pyo3(signature = (maxsize = None, items = None, unfinished_tasks = None))]
    fn __init__<'py>(
        slf: &Bound<'py, Self>,
        maxsize: Option<Bound<'py, PyAny>>,
        items: Option<Bound<'py, PyAny>>,
        unfinished_tasks: Option<isize>,
    ) -> PyResult<()> {
        Queue::set_up(slf.as_super(), maxsize, items, unfinished_tasks)
    }
}

/// A queue whose smallest item comes out first, by the items' `<`. Arguments as for Queue.
///
/// An item that cannot be compared with the others is not put: what comparing raises is raised.
/// (As gevent.queue.PriorityQueue.)
#[pyclass(frozen, subclass, extends = Queue, module = "greenloop.queue")]
pub struct PriorityQueue;

#[pymethods]
impl PriorityQueue {
    #[new]
    #[classmethod]
    #[pyo3(
        signature = (*_args, **_kwargs),
        text_signature = "(maxsize=None, items=(), unfinished_tasks=None)"
    )]
    fn __new__(
        class: &Bound<'_, PyType>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let own = Self::type_object(class.py());
        let base = SimpleQueue::fresh(class, &own, Order::SmallestFirst, true)?;
        Ok(PyClassInitializer::from(base).add_subclass(Queue).add_subclass(Self))
    }

    #[pyo3(signature = (maxsize = None, items = None, unfinished_tasks = None))]
    fn __init__<'py>(
        slf: &Bound<'py, Self>,
        maxsize: Option<Bound<'py, PyAny>>,
        items: Option<Bound<'py, PyAny>>,
        unfinished_tasks: Option<isize>,
    ) -> PyResult<()> {
        Queue::set_up(slf.as_super(), maxsize, items, unfinished_tasks)
    }
}
