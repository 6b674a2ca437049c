//! The methods of the standard library's `queue.Queue`, `LifoQueue` and `PriorityQueue` for calls
//! that do not have to wait.
//!
//! The classes are public down to their parts: programs take `mutex` and clear `queue` under it, wait
//! on the conditions, derive classes that replace `_put`. So patching leaves the classes and the state
//! of their instances as they are, attributes in the instance's dict, and replaces what works on it: a
//! method here finds that it is about to do the usual and that nobody has the lock, and does it, by
//! the standard's steps in the standard's order. In all other cases it calls the standard method, which
//! finds everything in its place. That way there is nothing to convert when a program looks at a part,
//! with waiters and all, which queues with a state of their own would have to. (Those of
//! `greenloop.queue` are faster still by the attribute look-ups, and not the standard's classes.)
//!
//! Two things make it quick. No lock is taken where no Python code can run meanwhile, as the GIL is
//! held. And the lock and the three conditions on it, which take most of the time to make a queue, are
//! made when they are first looked at: before, nobody can have them.
//!
//! What is relied on beside documented attributes is `Condition._lock` and `Condition._waiters`, a deque
//! (CPython 3.11 to 3.15). A condition that is otherwise leads to the standard method.

mod arguments;
mod family;
mod parts;
mod target;

use super::turn;
use crate::greenlet::methods::{MethodTable, fast_keywords, text, vectorcall};
use crate::net::errors::give;
use arguments::{Call, is_valid, truth};
use family::{FAMILIES, Family, HOOKS, Kind, Order, families};
use parts::{PARTS, Part};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyString, PyType};
use pyo3::{ffi, intern};
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::Ordering;
use target::{Held, Target};

type Object = *mut ffi::PyObject;

/// What a method has done: its result, or None to have the standard method called.
type Done<'py> = PyResult<Option<Bound<'py, PyAny>>>;

fn init<'py>(queue: &Bound<'py, PyAny>, call: &Call) -> Done<'py> {
    let py = queue.py();
    let Some([maxsize]) = call.sort(py, [intern!(py, "maxsize")]) else { return Ok(None) };
    let Some(target) = Target::new(queue)? else { return Ok(None) };
    // One that is initialised again gets new parts.
    let is_new = target.attributes.is_empty();
    if !is_new || target.kind.order == Order::SmallestFirst {
        return Ok(None);
    }
    let items = match target.kind.order {
        Order::FirstInFirstOut => target.family.deque.bind(py).call0()?,
        _ => PyList::empty(py).into_any(),
    };
    let zero = 0_isize.into_pyobject(py)?.into_any();
    let maxsize = if maxsize.is_null() {
        zero.clone()
    } else {
        // SAFETY: arguments are alive during the call.
        unsafe { Bound::from_borrowed_ptr(py, maxsize) }
    };
    target.set(intern!(py, "maxsize"), &maxsize)?;
    target.set(intern!(py, "queue"), &items)?;
    target.set(intern!(py, "unfinished_tasks"), &zero)?;
    if target.family.has_shutdown {
        target.set(intern!(py, "is_shutdown"), PyBool::new(py, false).as_any())?;
    }
    Ok(Some(py.None().into_bound(py)))
}

/// Lets others run if it is time. Not in a call that may not wait, unless it is one of many for the
/// same queue in a row: finalizers make them in order not to.
fn let_others_run(queue: &Bound<'_, PyAny>, may_wait: bool) -> PyResult<()> {
    if may_wait {
        turn::before_taking(queue.py())
    } else {
        turn::after_one_of_many(queue.py(), queue.as_ptr().addr()).map(drop)
    }
}

fn put<'py>(queue: &Bound<'py, PyAny>, call: &Call) -> Done<'py> {
    let py = queue.py();
    let parameters = [intern!(py, "item"), intern!(py, "block"), intern!(py, "timeout")];
    let Some([value, block, timeout]) = call.sort(py, parameters) else { return Ok(None) };
    let Some(block) = truth(py, block) else { return Ok(None) };
    if value.is_null() || (block && !is_valid(py, timeout)) {
        return Ok(None);
    }
    // SAFETY: arguments are alive during the call.
    let value = unsafe { Bound::from_borrowed_ptr(py, value) };
    let_others_run(queue, block)?;
    let Some(target) = Target::new(queue)? else { return Ok(None) };
    let (Some(items), Some(maxsize), Some(_)) = (
        target.items(),
        target.count(intern!(py, "maxsize")),
        target.count(intern!(py, "unfinished_tasks")),
    ) else {
        return Ok(None);
    };
    if !target.is_open() {
        return Ok(None);
    }
    let lacks_room = || Ok(maxsize > 0 && items.len()? >= maxsize as usize);
    let is_full = lacks_room()?;
    if is_full && block {
        return Ok(None);
    }
    let Some(held) = target.lock(intern!(py, "not_full"), intern!(py, "not_empty")) else {
        return Ok(None);
    };
    match lacks_room() {
        Ok(now) if now == is_full => {}
        seen => return give_back(held, seen),
    }
    let result = if is_full {
        Err(target.error("Full"))
    } else {
        add(&target, &items, &value)
            .and_then(|()| target.add_tasks(1))
            .and_then(|()| held.notify(intern!(py, "notify")))
    };
    held.release(result).map(|()| Some(py.None().into_bound(py)))
}

/// Leaves a call to the standard method after all. Until the lock is taken other threads may have run,
/// and what was seen of the queue before may be so no more: on CPython 3.11 any allocation may collect
/// garbage, and that may call finalizers.
///
/// # Errors
///
/// That of the second look, if it has one.
#[cold]
fn give_back<'py>(held: Held<'py>, seen: PyResult<bool>) -> Done<'py> {
    held.release(seen.map(|_| None))
}

fn add<'py>(
    target: &Target<'py>,
    items: &Bound<'py, PyAny>,
    value: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let py = items.py();
    let family = target.family;
    match target.kind.order {
        Order::FirstInFirstOut => family.deque_append.bind(py).call1((items, value)).map(drop),
        // SAFETY: `items` has looked at the type.
        Order::LastInFirstOut => unsafe { items.cast_unchecked::<PyList>() }.append(value),
        Order::SmallestFirst => family.heappush.bind(py).call1((items, value)).map(drop),
    }
}

fn get<'py>(queue: &Bound<'py, PyAny>, call: &Call) -> Done<'py> {
    let py = queue.py();
    let Some([block, timeout]) = call.sort(py, [intern!(py, "block"), intern!(py, "timeout")])
    else {
        return Ok(None);
    };
    let Some(block) = truth(py, block) else { return Ok(None) };
    if block && !is_valid(py, timeout) {
        return Ok(None);
    }
    let_others_run(queue, block)?;
    let Some(target) = Target::new(queue)? else { return Ok(None) };
    let Some(items) = target.items() else { return Ok(None) };
    if !target.is_open() {
        return Ok(None);
    }
    let has_none = || Ok(items.len()? == 0);
    let is_empty = has_none()?;
    if is_empty && block {
        return Ok(None);
    }
    let Some(held) = target.lock(intern!(py, "not_empty"), intern!(py, "not_full")) else {
        return Ok(None);
    };
    match has_none() {
        Ok(now) if now == is_empty => {}
        seen => return give_back(held, seen),
    }
    let result = if is_empty {
        Err(target.error("Empty"))
    } else {
        take(&target, &items)
            .and_then(|value| held.notify(intern!(py, "notify")).map(|()| Some(value)))
    };
    held.release(result)
}

fn take<'py>(target: &Target<'py>, items: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let family = target.family;
    let function = match target.kind.order {
        Order::FirstInFirstOut => &family.deque_popleft,
        Order::LastInFirstOut => &family.list_pop,
        Order::SmallestFirst => &family.heappop,
    };
    function.bind(items.py()).call1((items,))
}

fn task_done<'py>(queue: &Bound<'py, PyAny>, call: &Call) -> Done<'py> {
    let py = queue.py();
    if call.sort::<0>(py, []).is_none() {
        return Ok(None);
    }
    turn::before_taking(py)?;
    let Some(target) = Target::new(queue)? else { return Ok(None) };
    let Some(left @ 1..) = target.count(intern!(py, "unfinished_tasks")) else { return Ok(None) };
    let name = intern!(py, "all_tasks_done");
    let Some(held) = target.lock(name, name) else { return Ok(None) };
    let told = if left == 1 { held.notify(intern!(py, "notify_all")) } else { Ok(()) };
    let result = told.and_then(|()| target.add_tasks(-1));
    held.release(result).map(|()| Some(py.None().into_bound(py)))
}

/// How many items there are, and how many may be; None if the standard method has to tell.
fn size(queue: &Bound<'_, PyAny>, call: &Call) -> PyResult<Option<(usize, isize)>> {
    let py = queue.py();
    if call.sort::<0>(py, []).is_none() {
        return Ok(None);
    }
    turn::before_taking(py)?;
    let Some(target) = Target::new(queue)? else { return Ok(None) };
    match (target.items(), target.count(intern!(py, "maxsize"))) {
        (Some(items), Some(maxsize)) if target.is_unlocked() => Ok(Some((items.len()?, maxsize))),
        _ => Ok(None),
    }
}

fn qsize<'py>(queue: &Bound<'py, PyAny>, call: &Call) -> Done<'py> {
    let Some((size, _)) = size(queue, call)? else { return Ok(None) };
    Ok(Some(size.into_pyobject(queue.py())?.into_any()))
}

fn empty<'py>(queue: &Bound<'py, PyAny>, call: &Call) -> Done<'py> {
    let Some((size, _)) = size(queue, call)? else { return Ok(None) };
    Ok(Some(PyBool::new(queue.py(), size == 0).to_owned().into_any()))
}

fn full<'py>(queue: &Bound<'py, PyAny>, call: &Call) -> Done<'py> {
    let Some((size, maxsize)) = size(queue, call)? else { return Ok(None) };
    let full = maxsize > 0 && size >= maxsize as usize;
    Ok(Some(PyBool::new(queue.py(), full).to_owned().into_any()))
}

/// Runs a method, or the standard one.
///
/// # Safety
///
/// Called by the interpreter for an instance of a class that methods were made for, by the vectorcall
/// convention.
#[inline]
unsafe fn enter(
    this: Object,
    values: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
    index: usize,
    body: for<'py> fn(&Bound<'py, PyAny>, &Call) -> Done<'py>,
) -> Object {
    // SAFETY: methods are called with the GIL held, for a live object.
    let (py, queue) = unsafe {
        let py = Python::assume_attached();
        (py, Bound::from_borrowed_ptr(py, this))
    };
    let call = Call { values, count: count as usize, names };
    match body(&queue, &call) {
        Ok(None) => standard(&queue, &call, index),
        Ok(Some(value)) => value.into_ptr(),
        Err(error) => give(py, Err(error)),
    }
}

/// Calls the standard method that a method stands for.
#[cold]
#[inline(never)]
fn standard(queue: &Bound<'_, PyAny>, call: &Call, index: usize) -> Object {
    let py = queue.py();
    let Some(family) = families()
        .find(|family| queue.is_instance(family.kinds[0].class.bind(py)).unwrap_or_default())
    else {
        return give(py, Err(PyTypeError::new_err("expected a queue")));
    };
    // SAFETY: the vectorcall convention: `count` objects, and one for each name of the tuple, all
    // alive during the call.
    unsafe {
        let named = if call.names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(call.names) };
        let given = call.count + named as usize;
        let method = family.standard[index].as_ptr();
        // Usually these few; a greenlet that waits has them on its stack.
        let mut few = [MaybeUninit::<Object>::uninit(); 4];
        if given < few.len() {
            few[0].write(queue.as_ptr());
            for (place, index) in few[1..].iter_mut().zip(0..given) {
                place.write(*call.values.add(index));
            }
            return ffi::PyObject_Vectorcall(
                method,
                few.as_ptr().cast(),
                call.count + 1,
                call.names,
            );
        }
        let mut all = vec![queue.as_ptr()];
        all.extend_from_slice(std::slice::from_raw_parts(call.values, given));
        ffi::PyObject_Vectorcall(method, all.as_ptr(), call.count + 1, call.names)
    }
}

macro_rules! methods {
    ($($name:literal = $body:ident, $doc:literal;)*) => {
        #[allow(non_camel_case_types, reason = "indices named as the functions")]
        #[repr(usize)]
        enum Index { $($body),* }

        static METHODS: MethodTable<{ [$($name),*].len() }> = MethodTable::new([$(
            fast_keywords(
                $name,
                vectorcall!(|this, values, count, names| {
                    // SAFETY: passed on from the interpreter.
                    unsafe { enter(this, values, count, names, Index::$body as usize, $body) }
                }),
                $doc,
            )
        ),*]);
        const NAMES: [&str; [$($name),*].len()] = [$(text($name)),*];
    };
}

methods! {
    c"__init__" = init, c"__init__($self, maxsize=0)
--

maxsize: how many items there may be; 0 or less for any number.";
    c"put" = put, c"put($self, item, block=True, timeout=None)
--

Put an item into the queue.

block: whether to wait for a free place if there is none.
timeout: seconds to wait at most; None for no limit.

Raises Full if there is no free place in time, ShutDown if the queue has been shut down.";
    c"get" = get, c"get($self, block=True, timeout=None)
--

Remove and return an item from the queue.

block: whether to wait for an item if there is none.
timeout: seconds to wait at most; None for no limit.

Raises Empty if there is no item in time, ShutDown if the queue has been shut down and is empty.";
    c"task_done" = task_done, c"task_done($self)
--

Indicate that the work on an item that was taken is complete.

Raises ValueError if called more often than there were items put into the queue.";
    c"qsize" = qsize, c"qsize($self)
--

Return how many items there are.";
    c"empty" = empty, c"empty($self)
--

Return whether there is no item.";
    c"full" = full, c"full($self)
--

Return whether there is no place for an item.";
}

/// Makes methods for the classes of a `queue` module; returns them by name, to be put on its `Queue`,
/// with what stands there for the parts.
///
/// module: the module.
/// standard: the methods that it has, by name.
/// make: a function that returns a dict with the parts of one queue.
#[pyfunction]
fn _queue_methods<'py>(
    module: &Bound<'py, PyModule>,
    standard: &Bound<'py, PyDict>,
    make: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyDict>> {
    let py = module.py();
    let class = |name: &str| Ok::<_, PyErr>(module.getattr(name)?.cast_into::<PyType>()?);
    let kind = |name: &str, order| {
        let class = class(name)?;
        let [init, qsize, put, get] = HOOKS.map(|hook| class.getattr(hook).map(Bound::unbind));
        let hooks = [init?, qsize?, put?, get?];
        Ok::<_, PyErr>(Kind { class: class.unbind(), order, hooks, version: Cell::new(0) })
    };
    let mut methods = Vec::new();
    for name in NAMES {
        let method = standard.get_item(name)?;
        methods.push(method.ok_or_else(|| PyTypeError::new_err("a method is missing"))?.unbind());
    }
    let has_shutdown = module.hasattr("ShutDown")?;
    let deque = py.import("collections")?.getattr("deque")?.cast_into::<PyType>()?;
    let threading = module.getattr("threading")?;
    let family = Box::new(Family {
        kinds: [
            kind("Queue", Order::FirstInFirstOut)?,
            kind("LifoQueue", Order::LastInFirstOut)?,
            kind("PriorityQueue", Order::SmallestFirst)?,
        ],
        standard: methods.try_into().map_err(|_| PyTypeError::new_err("methods are missing"))?,
        names: module.dict().unbind(),
        condition: threading.getattr("Condition")?.cast_into::<PyType>()?.unbind(),
        deque_append: deque.getattr("append")?.unbind(),
        deque_popleft: deque.getattr("popleft")?.unbind(),
        deque: deque.unbind(),
        list_pop: py.get_type::<PyList>().getattr("pop")?.unbind(),
        heappush: module.getattr("heappush")?.unbind(),
        heappop: module.getattr("heappop")?.unbind(),
        attributes: 3 + usize::from(has_shutdown),
        has_shutdown,
        next: FAMILIES.load(Ordering::Acquire),
    });
    let result = PyDict::new(py);
    let queue = family.kinds[0].class.as_ptr();
    let table = ptr::from_ref(&METHODS).cast::<ffi::PyMethodDef>().cast_mut();
    for (index, name) in NAMES.into_iter().enumerate() {
        // SAFETY: a heap type, and a definition in the static table.
        let method = unsafe {
            let method = ffi::PyDescr_NewMethod(queue.cast(), table.add(index));
            Bound::from_owned_ptr_or_err(py, method)?
        };
        result.set_item(name, method)?;
    }
    for name in PARTS {
        let name = PyString::intern(py, name);
        let part = Part { name: name.clone().unbind(), make: make.clone().unbind() };
        result.set_item(name, Bound::new(py, part)?)?;
    }
    FAMILIES.store(Box::into_raw(family), Ordering::Release);
    Ok(result)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(_queue_methods, module)?)
}
