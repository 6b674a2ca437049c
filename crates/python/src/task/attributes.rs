//! Attributes of `Greenlet`.

use super::object::{Stage, TaskObject};
use super::origin::{Origin, SpawnFrame};
use super::types::is_exact;
use crate::aio::awaiting::GreenletFuture;
use crate::greenlet::attributes::{END, GetSetTable, attribute, has_ended};
use crate::greenlet::object::PyGreenlet;
use crate::hub::HubObject;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

type Object = *mut ffi::PyObject;

pub static GETSET: GetSetTable<17> = GetSetTable::new([
    attribute(c"value", get_value, None, c"What the function returned; None before that."),
    attribute(
        c"exception",
        get_exception,
        None,
        c"The exception that ended the greenlet; None if it has not ended, or not by an error.",
    ),
    attribute(
        c"exc_info",
        get_exc_info,
        None,
        c"Type, instance and traceback of the exception that ended it; None otherwise.",
    ),
    attribute(c"args", get_args, Some(set_args), c"Positional arguments; () once it has ended."),
    attribute(c"kwargs", get_kwargs, Some(set_kwargs), c"Keyword arguments; {} once it has ended."),
    attribute(c"_run", get_run, Some(set_run), c"The function that is called."),
    attribute(c"dead", get_dead, None, c"Whether it has ended and will not run any more."),
    attribute(c"started", get_started, None, c"Whether it has been started and not ended."),
    attribute(
        c"_scheduled",
        get_scheduled,
        None,
        c"Whether it waits for its turn, or time, to start.",
    ),
    attribute(c"name", get_name, Some(set_name), c"A name for messages; settable."),
    attribute(
        c"minimal_ident",
        get_minimal_ident,
        None,
        c"A small number that no other living greenlet has.",
    ),
    attribute(
        c"spawning_greenlet",
        get_spawner,
        None,
        c"A weak reference to the greenlet that made this one; None if that is not tracked.",
    ),
    attribute(
        c"spawn_tree_locals",
        get_tree_locals,
        Some(set_tree_locals),
        c"A dict shared by all greenlets that were spawned, directly or not, by the same one; None \
          if that is not tracked.",
    ),
    attribute(
        c"spawning_stack",
        get_stack,
        None,
        c"The lines it was made from, innermost first, as something that the functions of \
          traceback take for a frame; None if that is not tracked. spawning_stack_limit lines are \
          kept.",
    ),
    attribute(c"loop", get_loop, None, c"The loop of the hub that runs it."),
    attribute(
        c"_has_waiters",
        get_has_waiters,
        None,
        c"Whether greenlets wait for this one in join() or get().",
    ),
    END,
]);

/// # Safety
///
/// The interpreter checked that `this` is a task.
unsafe fn task<'a>(this: Object) -> &'a TaskObject {
    // SAFETY: as the caller guarantees.
    unsafe { &*this.cast() }
}

fn attached<'py>() -> Python<'py> {
    // SAFETY: getters and setters are called with the GIL held.
    unsafe { Python::assume_attached() }
}

fn or_none(object: Object) -> Object {
    // SAFETY: a valid object or null; None lives forever.
    unsafe {
        let object = if object.is_null() { ffi::Py_None() } else { object };
        ffi::Py_INCREF(object);
        object
    }
}

fn bool_object(value: bool) -> Object {
    // SAFETY: makes a bool.
    unsafe { ffi::PyBool_FromLong(value.into()) }
}

fn fail(error: PyErr) -> c_int {
    error.restore(attached());
    -1
}

unsafe extern "C" fn get_value(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `task`.
    or_none(unsafe { task(this) }.value.get())
}

unsafe extern "C" fn get_exception(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `task`.
    or_none(unsafe { task(this) }.error.get())
}

unsafe extern "C" fn get_exc_info(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `task`; the exception is owned by the task.
    unsafe {
        let error = task(this).error.get();
        if error.is_null() {
            return or_none(ptr::null_mut());
        }
        let traceback = ffi::PyException_GetTraceback(error);
        let result = ffi::PyTuple_Pack(
            3,
            ffi::Py_TYPE(error).cast::<ffi::PyObject>(),
            error,
            if traceback.is_null() { ffi::Py_None() } else { traceback },
        );
        ffi::Py_XDECREF(traceback);
        result
    }
}

unsafe extern "C" fn get_args(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `task`.
    let args = unsafe { task(this) }.args.get();
    if args.is_null() { PyTuple::empty(attached()).into_ptr() } else { or_none(args) }
}

unsafe extern "C" fn set_args(this: Object, value: Object, _: *mut c_void) -> c_int {
    // SAFETY: a valid object or null; the old reference is dropped after it was replaced.
    unsafe {
        if value.is_null() || ffi::PyTuple_Check(value) == 0 {
            return fail(PyTypeError::new_err("args must be a tuple"));
        }
        ffi::Py_INCREF(value);
        ffi::Py_XDECREF(task(this).args.replace(value));
    }
    0
}

unsafe extern "C" fn get_kwargs(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `task`.
    let task = unsafe { task(this) };
    if task.kwargs.get().is_null() {
        // A program may add to it: keep what it is given, as long as it can have an effect.
        let dict = PyDict::new(attached()).into_ptr();
        if task.is_ready() {
            return dict;
        }
        task.kwargs.set(dict);
    }
    or_none(task.kwargs.get())
}

unsafe extern "C" fn set_kwargs(this: Object, value: Object, _: *mut c_void) -> c_int {
    // SAFETY: a valid object or null; the old reference is dropped after it was replaced.
    unsafe {
        if value.is_null() || ffi::PyDict_Check(value) == 0 {
            return fail(PyTypeError::new_err("kwargs must be a dict"));
        }
        ffi::Py_INCREF(value);
        ffi::Py_XDECREF(task(this).kwargs.replace(value));
    }
    0
}

unsafe extern "C" fn get_run(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `task`.
    let run = unsafe { task(this) }.func.get();
    if run.is_null() {
        return no_function();
    }
    or_none(run)
}

/// _run(*args, **kwargs)
/// --
///
/// What a Greenlet without a function runs: nothing.
#[pyfunction]
#[pyo3(name = "_run", signature = (*_args, **_kwargs))]
fn run_nothing(_args: Bound<'_, PyTuple>, _kwargs: Option<Bound<'_, PyDict>>) {}

#[cold]
fn no_function() -> Object {
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = attached();
    let function = FUNCTION.get_or_try_init(py, || {
        let module = py.import("greenloop._core")?;
        Ok::<_, PyErr>(wrap_pyfunction!(run_nothing, &module)?.into_any().unbind())
    });
    match function {
        Ok(function) => function.clone_ref(py).into_ptr(),
        Err(error) => {
            error.restore(py);
            ptr::null_mut()
        }
    }
}

unsafe extern "C" fn set_run(this: Object, value: Object, _: *mut c_void) -> c_int {
    // SAFETY: a valid object or null; the old reference is dropped after it was replaced.
    unsafe {
        if !value.is_null() && ffi::PyCallable_Check(value) == 0 {
            return fail(PyTypeError::new_err("The run argument or self._run must be callable"));
        }
        ffi::Py_XINCREF(value);
        ffi::Py_XDECREF(task(this).func.replace(value));
    }
    0
}

unsafe extern "C" fn get_dead(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `task`.
    let task = unsafe { task(this) };
    bool_object(task.is_ready() || has_ended(&task.base))
}

unsafe extern "C" fn get_started(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `task`.
    bool_object(unsafe { task(this) }.is_alive())
}

unsafe extern "C" fn get_scheduled(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `task`.
    bool_object(unsafe { task(this) }.stage.get() == Stage::Scheduled)
}

unsafe extern "C" fn get_has_waiters(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `task`.
    bool_object(!unsafe { task(this) }.waiters.is_empty())
}

/// The truth value: started, and not ended.
///
/// # Safety
///
/// Called by the interpreter with a task.
pub unsafe extern "C" fn truth(this: Object) -> c_int {
    // SAFETY: see `task`.
    c_int::from(unsafe { task(this) }.is_alive())
}

/// `await greenlet`, which is for `greenloop.asyncio`.
///
/// # Safety
///
/// Called by the interpreter with a task.
pub unsafe extern "C" fn iterate_await(this: Object) -> Object {
    let py = attached();
    // SAFETY: a live object.
    let greenlet = unsafe { Bound::from_borrowed_ptr(py, this) };
    let iterator = GreenletFuture::of(greenlet);
    match iterator {
        Ok(iterator) => iterator.into_ptr(),
        Err(error) => {
            error.restore(py);
            ptr::null_mut()
        }
    }
}

unsafe extern "C" fn get_name(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `task`.
    let task = unsafe { task(this) };
    if task.name.get().is_null() {
        let name = PyString::new(attached(), &format!("Greenlet-{}", minimal_ident(task)));
        task.name.set(name.into_ptr());
    }
    or_none(task.name.get())
}

unsafe extern "C" fn set_name(this: Object, value: Object, _: *mut c_void) -> c_int {
    // SAFETY: a valid object or null; the old reference is dropped after it was replaced.
    unsafe {
        ffi::Py_XINCREF(value);
        ffi::Py_XDECREF(task(this).name.replace(value));
    }
    0
}

unsafe extern "C" fn get_minimal_ident(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `task`; makes an int.
    unsafe { ffi::PyLong_FromSize_t(minimal_ident(task(this)) as usize) }
}

/// Numbers below `next` that are free again.
struct Idents {
    free: BinaryHeap<Reverse<u32>>,
    next: u32,
}

static IDENTS: Mutex<Idents> = Mutex::new(Idents { free: BinaryHeap::new(), next: 0 });

fn minimal_ident(task: &TaskObject) -> u32 {
    if task.ident.get() == 0 {
        let mut idents = IDENTS.lock().unwrap_or_else(PoisonError::into_inner);
        let ident = match idents.free.pop() {
            Some(Reverse(ident)) => ident,
            None => {
                idents.next += 1;
                idents.next - 1
            }
        };
        task.ident.set(ident + 1);
    }
    task.ident.get() - 1
}

/// Gives the number of a greenlet that is freed back.
pub fn release_ident(task: &TaskObject) {
    if task.ident.get() != 0 {
        let mut idents = IDENTS.lock().unwrap_or_else(PoisonError::into_inner);
        idents.free.push(Reverse(task.ident.replace(0) - 1));
    }
}

unsafe extern "C" fn get_spawner(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `task`.
    or_none(unsafe { task(this) }.origin.spawner.get())
}

unsafe extern "C" fn get_tree_locals(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `task`.
    tree_locals_of(&unsafe { task(this) }.origin)
}

/// The value of the attribute: a new reference, or null with an exception set.
pub fn tree_locals_of(origin: &Origin) -> Object {
    let locals = origin.tree_locals();
    // SAFETY: the GIL is held.
    if locals.is_null() && !unsafe { ffi::PyErr_Occurred() }.is_null() {
        return locals;
    }
    or_none(locals)
}

unsafe extern "C" fn set_tree_locals(this: Object, value: Object, _: *mut c_void) -> c_int {
    // SAFETY: see `task`; a valid object or null.
    unsafe { change_tree_locals(&task(this).origin, value) }
}

/// Sets the attribute. 0, or -1 with an exception set.
///
/// # Safety
///
/// `value` is a valid object or null.
pub unsafe fn change_tree_locals(origin: &Origin, value: Object) -> c_int {
    // SAFETY: as the caller guarantees.
    unsafe {
        if value.is_null() || (value != ffi::Py_None() && ffi::PyDict_Check(value) == 0) {
            return fail(PyTypeError::new_err("spawn_tree_locals must be a dict or None"));
        }
    }
    origin.set_tree_locals(value);
    0
}

unsafe extern "C" fn get_stack(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `task`.
    let task = unsafe { task(this) };
    let Some(stack) = task.stack.take() else { return or_none(ptr::null_mut()) };
    task.stack.set(Some(Rc::clone(&stack)));
    match Py::new(attached(), SpawnFrame::innermost(stack)) {
        Ok(frame) => frame.into_ptr(),
        Err(error) => {
            error.restore(attached());
            ptr::null_mut()
        }
    }
}

unsafe extern "C" fn get_loop(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `task`.
    unsafe { loop_of(&task(this).base) }
}

/// The loop of the hub that runs a greenlet, or None: a new reference, or null with an exception
/// set.
///
/// # Safety
///
/// The greenlet has a thread.
pub unsafe fn loop_of(greenlet: &PyGreenlet) -> Object {
    // SAFETY: as the caller guarantees; the thread has a hub unless it was taken away.
    unsafe {
        let hub: *mut HubObject = (*greenlet.thread.get()).hub.get();
        if hub.is_null() {
            return or_none(ptr::null_mut());
        }
        ffi::PyObject_GetAttrString(hub.cast(), c"loop".as_ptr())
    }
}

/// `<Greenlet "name" at 0x...: function(arguments)>`; the name if that, or its number, was ever asked for.
///
/// # Safety
///
/// Called by the interpreter with a task.
pub unsafe extern "C" fn repr(this: Object) -> Object {
    // SAFETY: a valid object.
    let object = unsafe { Bound::from_borrowed_ptr(attached(), this) };
    match describe(&object) {
        Ok(text) => PyString::new(attached(), &text).into_ptr(),
        Err(error) => {
            error.restore(attached());
            ptr::null_mut()
        }
    }
}

fn describe(object: &Bound<'_, PyAny>) -> PyResult<String> {
    // SAFETY: called with tasks only.
    let task = unsafe { task(object.as_ptr()) };
    // SAFETY: type names are C strings.
    let kind = unsafe { CStr::from_ptr((*ffi::Py_TYPE(object.as_ptr())).tp_name) };
    let kind = kind.to_string_lossy();
    let kind = kind.rsplit('.').next().unwrap_or("Greenlet").to_owned();
    let name = if task.name.get().is_null() && task.ident.get() == 0 {
        String::new()
    } else {
        // SAFETY: a task; the result is a new reference or null.
        let name = unsafe {
            Bound::from_owned_ptr_or_err(object.py(), get_name(object.as_ptr(), ptr::null_mut()))?
        };
        format!(" \"{}\"", name.str()?)
    };
    let call = object.call_method0("_formatinfo")?;
    Ok(format!("<{kind}{name} at {:#x}: {}>", object.as_ptr() as usize, call.str()?))
}

/// Characters of each argument that are shown.
const SHOWN: usize = 50;

/// The function and its arguments, for messages.
pub fn format_call(object: &Bound<'_, PyAny>) -> PyResult<String> {
    // SAFETY: called with tasks only.
    let task = unsafe { task(object.as_ptr()) };
    let py = object.py();
    let mut text = String::from("_run");
    if !task.func.get().is_null() {
        // SAFETY: owned by the task; held here.
        let func = unsafe { Bound::from_borrowed_ptr(py, task.func.get()) };
        let owner = func.getattr_opt("__self__")?;
        text = match owner.filter(|owner| !owner.is_none()) {
            Some(owner) if owner.is(object) => text,
            Some(_) => func.repr()?.to_string(),
            None => match func.getattr_opt("__name__")? {
                Some(name) if name.is_truthy()? => name.str()?.to_string(),
                _ => func.repr()?.to_string(),
            },
        };
    } else if is_exact(object.as_ptr()) {
        return Ok(text);
    }
    let shorten = |value: &Bound<'_, PyAny>| -> PyResult<String> {
        Ok(value.repr()?.to_string().chars().take(SHOWN).collect())
    };
    let mut shown = Vec::new();
    if !task.args.get().is_null() {
        // SAFETY: owned by the task; held here.
        let args = unsafe { Bound::from_borrowed_ptr(py, task.args.get()) };
        for value in args.try_iter()? {
            shown.push(shorten(&value?)?);
        }
    }
    if !task.kwargs.get().is_null() {
        // SAFETY: owned by the task; held here.
        let kwargs = unsafe { Bound::from_borrowed_ptr(py, task.kwargs.get()) };
        for (key, value) in kwargs.cast::<PyDict>()?.iter() {
            shown.push(format!("{}={}", key.str()?, shorten(&value)?));
        }
    }
    if !shown.is_empty() {
        text.push_str(&format!("({})", shown.join(", ")));
    }
    Ok(text)
}
