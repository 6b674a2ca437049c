//! The loop's methods that run for every callback, timer, future and task.
//!
//! They are put on the class as method descriptors, which `_asyncio` and the interpreter call without
//! bound methods and tuples of arguments (pyo3's wrappers take about as long as the rest of a
//! `call_soon`).

use super::descriptors::Descriptors;
use super::entering::in_loop;
use super::event_loop::AsyncioLoop;
use super::handle::{HandleObject, HandleRef, flag};
use super::runner::helper;
use crate::greenlet::methods::{MethodTable, fast_keywords};
use greenloop_reactor::monotonic_ns;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};
use std::ffi::CStr;
use std::ptr;

type Object = *mut ffi::PyObject;

static METHODS: MethodTable<12> = MethodTable::new([
    fast_keywords(
        c"call_soon",
        call_soon,
        c"call_soon($self, callback, *args, context=None)
--

Calls `callback(*args)` in the next round of the loop, in `context` or a copy of the current one.
Returns a handle, whose `cancel()` takes the call back.

Not for use from other threads: see `call_soon_threadsafe`. RuntimeError is raised once the loop is
closed.",
    ),
    fast_keywords(
        c"call_soon_threadsafe",
        call_soon_threadsafe,
        c"call_soon_threadsafe($self, callback, *args, context=None)
--

As `call_soon`, from any thread; ends the loop's wait for events.",
    ),
    fast_keywords(
        c"call_later",
        call_later,
        c"call_later($self, delay, callback, *args, context=None)
--

Calls `callback(*args)` after `delay` seconds. Returns a handle, whose `cancel()` takes the call
back and whose `when()` is the loop's time that it is due at.",
    ),
    fast_keywords(
        c"call_at",
        call_at,
        c"call_at($self, when, callback, *args, context=None)
--

As `call_later`, at a time of the loop's clock (`time()`, in seconds).",
    ),
    fast_keywords(
        c"time",
        time,
        c"time($self, /)
--

The time of the loop's clock, in seconds: `time.monotonic()`.",
    ),
    fast_keywords(c"get_debug", get_debug, c"get_debug($self, /)\n--\n\nWhether debug mode is on."),
    fast_keywords(c"is_running", is_running, c"is_running($self, /)\n--\n\nWhether the loop runs."),
    fast_keywords(
        c"create_future",
        create_future,
        c"create_future($self, /)\n--\n\nA new `asyncio.Future` of this loop.",
    ),
    fast_keywords(
        c"create_task",
        create_task,
        c"create_task($self, coro, *, name=None, context=None, **kwargs)
--

Has the loop run a coroutine: an `asyncio.Task`, or what the task factory makes of it.",
    ),
    fast_keywords(
        c"_add_reader",
        add_reader,
        c"_add_reader($self, fd, callback, *args)
--

As `add_reader`, for a descriptor's number, whether or not it belongs to a transport. Returns the
handle.",
    ),
    fast_keywords(
        c"_add_writer",
        add_writer,
        c"_add_writer($self, fd, callback, *args)
--

As `add_writer`, for a descriptor's number, whether or not it belongs to a transport. Returns the
handle.",
    ),
    ffi::PyMethodDef::zeroed(),
]);

/// Puts the methods on the class.
pub fn attach(class: &Bound<'_, PyType>) -> PyResult<()> {
    METHODS.attach(class)
}

fn attached<'py>() -> Python<'py> {
    // SAFETY: methods are called with the GIL held.
    unsafe { Python::assume_attached() }
}

fn give(result: PyResult<Object>) -> Object {
    match result {
        Ok(object) => object,
        Err(error) => {
            error.restore(attached());
            ptr::null_mut()
        }
    }
}

/// The loop behind a method's `self`.
///
/// # Safety
///
/// The interpreter has checked that it is one.
#[inline]
unsafe fn receiver<'a, 'py>(py: Python<'py>, this: &'a Object) -> &'a Bound<'py, AsyncioLoop> {
    // SAFETY: as the caller guarantees.
    unsafe { Bound::ref_from_ptr(py, this).cast_unchecked::<AsyncioLoop>() }
}

/// What a call came with: the leading arguments, which may be given by name, those for the
/// callback, and the context.
struct Arguments<const N: usize> {
    leading: [Object; N],
    rest: *const Object,
    count: usize,
    context: Object,
}

/// Sorts the arguments of a method.
///
/// # Safety
///
/// The vectorcall convention.
#[inline]
unsafe fn arguments<const N: usize>(
    method: &str,
    parameters: [&'static CStr; N],
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> PyResult<Arguments<N>> {
    let count = count as usize;
    let mut leading = [ptr::null_mut(); N];
    let mut context = ptr::null_mut();
    // SAFETY: as the caller guarantees.
    unsafe {
        for (index, place) in leading.iter_mut().enumerate().take(count) {
            *place = *args.add(index);
        }
        if !names.is_null() {
            for index in 0..ffi::PyTuple_GET_SIZE(names) {
                let name = ffi::PyTuple_GET_ITEM(names, index);
                let value = *args.add(count + index as usize);
                if is_name(name, c"context") {
                    context = value;
                    continue;
                }
                let place = parameters.iter().position(|parameter| is_name(name, parameter));
                match place {
                    Some(place) if leading[place].is_null() => leading[place] = value,
                    Some(_) => return Err(twice(method, name)),
                    None => return Err(unexpected(method, name)),
                }
            }
        }
        if let Some(missing) = leading.iter().position(|object| object.is_null()) {
            return Err(PyTypeError::new_err(format!(
                "{method}() missing required argument '{}'",
                parameters[missing].to_str().unwrap_or_default()
            )));
        }
        let used = count.min(N);
        Ok(Arguments { leading, rest: args.add(used), count: count - used, context })
    }
}

#[inline]
unsafe fn is_name(name: Object, text: &CStr) -> bool {
    // SAFETY: names of keywords are strings.
    unsafe { ffi::PyUnicode_CompareWithASCIIString(name, text.as_ptr()) == 0 }
}

#[cold]
fn unexpected(method: &str, name: Object) -> PyErr {
    // SAFETY: a live object.
    let name = unsafe { Bound::from_borrowed_ptr(attached(), name) };
    PyTypeError::new_err(format!("{method}() got an unexpected keyword argument '{name}'"))
}

#[cold]
fn twice(method: &str, name: Object) -> PyErr {
    // SAFETY: a live object.
    let name = unsafe { Bound::from_borrowed_ptr(attached(), name) };
    PyTypeError::new_err(format!("{method}() got multiple values for argument '{name}'"))
}

/// A context to call in: a new reference.
#[inline]
fn context_for(given: Object) -> PyResult<Object> {
    // SAFETY: a live object or null; the GIL is held.
    unsafe {
        if given.is_null() || given == ffi::Py_None() {
            let copy = ffi::PyContext_CopyCurrent();
            if copy.is_null() {
                return Err(PyErr::fetch(attached()));
            }
            return Ok(copy);
        }
        if ffi::PyContext_CheckExact(given) == 0 {
            return Err(PyTypeError::new_err("a contextvars.Context is required"));
        }
        ffi::Py_INCREF(given);
        Ok(given)
    }
}

/// Makes a handle.
#[inline]
fn make<const N: usize>(
    slf: &Bound<'_, AsyncioLoop>,
    callback: Object,
    arguments: &Arguments<N>,
    flags: u16,
    method: &'static str,
) -> PyResult<HandleRef> {
    let this = slf.get();
    this.check_open()?;
    let context = context_for(arguments.context)?;
    // SAFETY: a loop, the arguments of this call, and a context.
    let handle = unsafe {
        let (rest, count) = (arguments.rest, arguments.count);
        HandleObject::make(slf.as_ptr(), callback, rest, count, context, flags)
    };
    if handle.is_null() {
        return Err(PyErr::fetch(slf.py()));
    }
    // SAFETY: made just now.
    let handle = unsafe { HandleRef::from_owned(handle) };
    if this.debug() {
        examine(slf, callback, &handle, method)?;
    }
    Ok(handle)
}

/// In debug mode: checks the callback and the thread, and keeps where the call was made.
#[cold]
fn examine(
    slf: &Bound<'_, AsyncioLoop>,
    callback: Object,
    handle: &HandleRef,
    method: &'static str,
) -> PyResult<()> {
    let py = slf.py();
    // SAFETY: a live object.
    let callback = unsafe { Bound::from_borrowed_ptr(py, callback) };
    let source = helper(py, "examine")?.call1((slf, callback, method))?;
    if !source.is_none() {
        handle.set_source(source);
    }
    Ok(())
}

unsafe extern "C" fn call_soon(
    this: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object {
    // SAFETY: the vectorcall convention.
    give(unsafe { soon(this, args, count, names, "call_soon") })
}

unsafe extern "C" fn call_soon_threadsafe(
    this: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object {
    // SAFETY: the vectorcall convention.
    give(unsafe { soon(this, args, count, names, "call_soon_threadsafe") })
}

#[inline]
unsafe fn soon(
    this: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
    method: &'static str,
) -> PyResult<Object> {
    // SAFETY: as the caller guarantees.
    let (slf, call) = unsafe {
        (receiver(attached(), &this), arguments(method, [c"callback"], args, count, names)?)
    };
    let handle = make(slf, call.leading[0], &call, 0, method)?;
    let result = handle.clone().into_ptr();
    AsyncioLoop::push(slf, handle);
    Ok(result)
}

unsafe extern "C" fn call_later(
    this: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object {
    let names_of = [c"delay", c"callback"];
    // SAFETY: the vectorcall convention.
    give(unsafe {
        arguments("call_later", names_of, args, count, names).and_then(|call| {
            let delay = seconds(call.leading[0], "delay")?;
            at(this, monotonic_ns() as f64 / 1e9 + delay, &call, "call_later")
        })
    })
}

unsafe extern "C" fn call_at(
    this: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object {
    let names_of = [c"when", c"callback"];
    // SAFETY: the vectorcall convention.
    give(unsafe {
        arguments("call_at", names_of, args, count, names)
            .and_then(|call| at(this, seconds(call.leading[0], "when")?, &call, "call_at"))
    })
}

/// A number of seconds.
#[inline]
fn seconds(object: Object, name: &str) -> PyResult<f64> {
    // SAFETY: a live object.
    unsafe {
        if object == ffi::Py_None() {
            return Err(PyTypeError::new_err(format!("{name} must not be None")));
        }
        let value = ffi::PyFloat_AsDouble(object);
        if value == -1.0 && !ffi::PyErr_Occurred().is_null() {
            return Err(PyErr::fetch(attached()));
        }
        if value.is_nan() {
            return Err(PyValueError::new_err(format!("{name} must not be nan")));
        }
        Ok(value)
    }
}

#[inline]
unsafe fn at(
    this: Object,
    when: f64,
    call: &Arguments<2>,
    method: &'static str,
) -> PyResult<Object> {
    // SAFETY: a loop.
    let slf = unsafe { receiver(attached(), &this) };
    let handle = make(slf, call.leading[1], call, flag::TIMER, method)?;
    handle.when.set(when);
    let result = handle.clone();
    AsyncioLoop::add_timer(slf, handle)?;
    Ok(result.into_ptr())
}

unsafe extern "C" fn time(
    _this: Object,
    _args: *const Object,
    _count: ffi::Py_ssize_t,
    _names: Object,
) -> Object {
    // SAFETY: makes a float.
    unsafe { ffi::PyFloat_FromDouble(monotonic_ns() as f64 / 1e9) }
}

unsafe extern "C" fn get_debug(
    this: Object,
    _args: *const Object,
    _count: ffi::Py_ssize_t,
    _names: Object,
) -> Object {
    // SAFETY: a loop; makes a bool.
    unsafe { ffi::PyBool_FromLong(receiver(attached(), &this).get().debug().into()) }
}

unsafe extern "C" fn is_running(
    this: Object,
    _args: *const Object,
    _count: ffi::Py_ssize_t,
    _names: Object,
) -> Object {
    // SAFETY: a loop; makes a bool.
    unsafe { ffi::PyBool_FromLong(receiver(attached(), &this).get().running.get().into()) }
}

/// Classes that are called for every future and task, and the names of their keywords.
struct Classes {
    future: Py<PyAny>,
    task: Py<PyAny>,
    name_loop: Py<PyTuple>,
}

fn classes(py: Python<'_>) -> PyResult<&Classes> {
    static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();
    CLASSES.get_or_try_init(py, || {
        let asyncio = py.import("asyncio")?;
        Ok(Classes {
            future: asyncio.getattr("Future")?.unbind(),
            task: asyncio.getattr("Task")?.unbind(),
            name_loop: PyTuple::new(py, ["loop"])?.unbind(),
        })
    })
}

unsafe extern "C" fn create_future(
    this: Object,
    _args: *const Object,
    _count: ffi::Py_ssize_t,
    _names: Object,
) -> Object {
    match classes(attached()) {
        // SAFETY: a class, one argument and its name.
        Ok(classes) => unsafe {
            let name = classes.name_loop.as_ptr();
            ffi::PyObject_Vectorcall(classes.future.as_ptr(), &raw const this, 0, name)
        },
        Err(error) => give(Err(error)),
    }
}

/// How many arguments a call of the class `Task` has at most here: the coroutine, keywords, the loop.
const TASK_ARGUMENTS: usize = 8;

unsafe extern "C" fn create_task(
    this: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object {
    // SAFETY: the vectorcall convention.
    give(unsafe { new_task(this, args, count, names) })
}

unsafe fn new_task(
    this: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> PyResult<Object> {
    let py = attached();
    // SAFETY: as the caller guarantees.
    unsafe {
        let slf = receiver(py, &this);
        let event_loop = slf.get();
        event_loop.check_open()?;
        let keywords = if names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(names) as usize };
        let may_begin = event_loop.has_factory.get() || names_eager_start(py, names)?;
        let unusual = may_begin || event_loop.debug() || count != 1;
        if unusual || keywords + 2 > TASK_ARGUMENTS {
            let method = helper(py, "create_task")?;
            let mut all = vec![this];
            all.extend((0..count as usize + keywords).map(|index| *args.add(index)));
            let make = || {
                let (function, count) = (method.as_ptr(), count as usize + 1);
                let task = ffi::PyObject_Vectorcall(function, all.as_ptr(), count, names);
                Ok(Bound::from_owned_ptr_or_err(py, task)?.into_ptr())
            };
            return if may_begin { in_loop(slf, make) } else { make() };
        }
        let classes = classes(py)?;
        let mut values = [ptr::null_mut(); TASK_ARGUMENTS];
        for (index, place) in values.iter_mut().enumerate().take(1 + keywords) {
            *place = *args.add(index);
        }
        values[1 + keywords] = this;
        let task = classes.task.as_ptr();
        let result = if keywords == 0 {
            ffi::PyObject_Vectorcall(task, values.as_ptr(), 1, classes.name_loop.as_ptr())
        } else {
            let all = Bound::from_borrowed_ptr(py, names)
                .cast_into_unchecked::<PyTuple>()
                .iter()
                .chain(classes.name_loop.bind(py).iter())
                .collect::<Vec<_>>();
            let all = PyTuple::new(py, all)?;
            ffi::PyObject_Vectorcall(task, values.as_ptr(), 1, all.as_ptr())
        };
        Ok(Bound::from_owned_ptr_or_err(py, result)?.into_ptr())
    }
}

/// Whether a task is to begin where it is made (a keyword argument of Python 3.14).
///
/// # Safety
///
/// The tuple of a call's keywords, or null.
unsafe fn names_eager_start(py: Python<'_>, names: Object) -> PyResult<bool> {
    if names.is_null() {
        return Ok(false);
    }
    // SAFETY: as the caller guarantees.
    unsafe { Bound::ref_from_ptr(py, &names) }.contains(intern!(py, "eager_start"))
}

unsafe extern "C" fn add_reader(
    this: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object {
    // SAFETY: the vectorcall convention.
    give(unsafe { watch(this, args, count, names, "add_reader", 0) })
}

unsafe extern "C" fn add_writer(
    this: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object {
    // SAFETY: the vectorcall convention.
    give(unsafe { watch(this, args, count, names, "add_writer", flag::WRITER) })
}

/// The number of a descriptor, or of an object that has one.
pub fn descriptor(object: &Bound<'_, PyAny>) -> PyResult<i32> {
    if let Ok(fd) = object.extract::<i32>()
        && fd >= 0
    {
        return Ok(fd);
    }
    // SAFETY: a live object.
    let fd = unsafe { ffi::PyObject_AsFileDescriptor(object.as_ptr()) };
    if fd < 0 { Err(PyErr::fetch(object.py())) } else { Ok(fd) }
}

/// Has a transport told whenever its descriptor can be read from, or written to. What it calls then, it
/// calls in `context`.
///
/// # Errors
///
/// RuntimeError once the loop is closed, OSError if the descriptor cannot be watched.
pub fn watch_for(
    slf: &Bound<'_, AsyncioLoop>,
    transport: &Bound<'_, PyAny>,
    context: &Py<PyAny>,
    fd: usize,
    flags: u16,
) -> PyResult<()> {
    slf.get().check_open()?;
    let context = context.clone_ref(slf.py()).into_ptr();
    let flags = flag::PERSISTENT | flag::TRANSPORT | flags;
    // SAFETY: a loop, a transport and a context; made just now.
    let handle = unsafe {
        let callback = transport.as_ptr();
        let handle = HandleObject::make(slf.as_ptr(), callback, ptr::null(), 0, context, flags);
        if handle.is_null() {
            return Err(PyErr::fetch(slf.py()));
        }
        HandleRef::from_owned(handle)
    };
    handle.fd.set(fd as i32);
    Descriptors::add(slf, fd, handle)
}

unsafe fn watch(
    this: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
    method: &'static str,
    flags: u16,
) -> PyResult<Object> {
    let py = attached();
    // SAFETY: as the caller guarantees; a live object.
    let (slf, call, fd) = unsafe {
        let call = arguments(method, [c"fd", c"callback"], args, count, names)?;
        (receiver(py, &this), call, Bound::from_borrowed_ptr(py, *args))
    };
    let fd = descriptor(&fd)?;
    let handle = make(slf, call.leading[1], &call, flag::PERSISTENT | flags, method)?;
    handle.fd.set(fd);
    let result = handle.clone();
    Descriptors::add(slf, fd as usize, handle)?;
    Ok(result.into_ptr())
}
