//! The Python class `_core.Hub`; `greenloop.hub.Hub` builds on it.

use super::HubObject;
use super::event_loop::EventLoop;
use super::loop_object::Loop;
use super::queue::Entry;
use super::wait::{self, Wait};
use crate::errors::take_raised;
use crate::greenlet::attributes::{END, GetSetTable, attribute};
use crate::greenlet::methods::{MethodTable, fast_keywords, instance_from, thread_for};
use crate::greenlet::object::{Payload, PyGreenlet};
use crate::greenlet::switch;
use crate::greenlet::thread::Thread;
use crate::greenlet::types::{self, ClassSpec, slot};
use crate::time::deadline_after;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

type Object = *mut ffi::PyObject;

static HUB_TYPE: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(ptr::null_mut());

pub fn is_hub(object: Object) -> bool {
    // SAFETY: valid objects and types.
    unsafe { ffi::PyObject_TypeCheck(object, HUB_TYPE.load(Ordering::Relaxed)) != 0 }
}

const DOC: &CStr = c"Hub()
--

The greenlet that runs the event loop of a thread. `greenloop.get_hub()` makes it when it is first
needed.";

static METHODS: MethodTable<2> = MethodTable::new([
    fast_keywords(
        c"switch",
        switch,
        c"switch()
--

Parks the running greenlet until somebody switches to it, and returns what is passed then.

Raises BlockingSwitchOutError in the hub itself, and LoopExit in the main greenlet if nothing can
become ready any more. (As gevent.hub.Hub.switch.)",
    ),
    ffi::PyMethodDef::zeroed(),
]);

static GETSET: GetSetTable<4> = GetSetTable::new([
    attribute(c"loop", get_loop, None, c"The event loop."),
    attribute(c"dead", get_dead, None, c"Whether the hub has been destroyed."),
    attribute(
        c"switch_interval",
        get_switch_interval,
        Some(set_switch_interval),
        c"Seconds that ready greenlets may run before descriptors and timers are looked at.",
    ),
    END,
]);

/// # Safety
///
/// The interpreter checked that `this` is a hub.
unsafe fn hub<'a>(this: Object) -> &'a HubObject {
    // SAFETY: as the caller guarantees.
    unsafe { &*this.cast() }
}

fn attached<'py>() -> Python<'py> {
    // SAFETY: slots are called with the GIL held.
    unsafe { Python::assume_attached() }
}

unsafe extern "C" fn new(kind: *mut ffi::PyTypeObject, args: Object, kwargs: Object) -> Object {
    let py = attached();
    // SAFETY: called for the hub type and its subtypes, with a tuple and a dict or null.
    unsafe {
        match initial_loop(py, args, kwargs) {
            Ok(made) => HubObject::allocate(kind, made),
            Err(error) => {
                error.restore(py);
                ptr::null_mut()
            }
        }
    }
}

/// The loop that a hub starts with: the one among the arguments, if there is one, the one that the
/// thread's last hub has left, or a new one as configured. Subclasses have arguments of their own,
/// so `Hub.__init__` judges them.
///
/// # Safety
///
/// `args` is a tuple, `kwargs` a dict or null.
unsafe fn initial_loop<'py>(
    py: Python<'py>,
    args: Object,
    kwargs: Object,
) -> PyResult<Bound<'py, Loop>> {
    // SAFETY: as the caller guarantees.
    let (args, kwargs) = unsafe {
        (
            Bound::from_borrowed_ptr(py, args).cast_into::<PyTuple>()?,
            Bound::from_borrowed_ptr_or_opt(py, kwargs),
        )
    };
    let given = match kwargs {
        Some(kwargs) => kwargs.cast::<PyDict>()?.get_item("loop")?,
        None => None,
    };
    let given = match given {
        None if !args.is_empty() => Some(args.get_item(0)?),
        given => given,
    };
    let made = match given.map(Bound::cast_into::<Loop>) {
        Some(Ok(given)) => given,
        _ => match kept_loop(py)? {
            Some(kept) => kept,
            // Nothing can be imported any more.
            None if types::interpreter_is_finalizing() => Bound::new(py, Loop::plain(py)?)?,
            None => {
                py.import("greenloop.hub")?.getattr("_new_loop")?.call0()?.cast_into::<Loop>()?
            }
        },
    };
    made.get().event_loop().check_local(py)?;
    Ok(made)
}

const KEPT: &CStr = c"greenloop.loop";

/// The dict of the calling thread: borrowed.
fn thread_dict(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    // SAFETY: the GIL is held; a borrowed reference or null.
    let dict = unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PyThreadState_GetDict()) };
    let dict = dict.ok_or_else(|| PyRuntimeError::new_err("this thread cannot keep a loop"))?;
    Ok(dict.cast_into()?)
}

fn kept_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, Loop>>> {
    let kept = thread_dict(py)?.get_item(KEPT.to_str().expect("ASCII"))?;
    Ok(match kept {
        Some(kept) => {
            Some(kept.cast_into::<Loop>()?).filter(|kept| !kept.get().event_loop().is_closed())
        }
        None => None,
    })
}

/// _get_kept_loop()
/// --
///
/// The loop that the next hub of this thread will run, or None if it will get a new one.
#[pyfunction]
fn _get_kept_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, Loop>>> {
    kept_loop(py)
}

/// _keep_loop(loop)
/// --
///
/// Has the next hub of this thread run `loop`; None for a new one.
#[pyfunction]
#[pyo3(signature = (r#loop))]
fn _keep_loop<'py>(py: Python<'py>, r#loop: Option<Bound<'py, Loop>>) -> PyResult<()> {
    let dict = thread_dict(py)?;
    let key = KEPT.to_str().expect("ASCII");
    match r#loop {
        Some(kept) => dict.set_item(key, kept),
        None if dict.contains(key)? => dict.del_item(key),
        None => Ok(()),
    }
}

/// _attach_loop(hub, loop)
/// --
///
/// Has a hub that has not run yet run `loop` in place of the one it has.
#[pyfunction]
#[pyo3(signature = (hub, r#loop))]
fn _attach_loop<'py>(hub: Bound<'py, PyAny>, r#loop: Bound<'py, Loop>) -> PyResult<()> {
    hub_argument(&hub)?.attach(hub.py(), &r#loop)
}

unsafe extern "C" fn init(_this: Object, _args: Object, _kwargs: Object) -> c_int {
    0
}

unsafe extern "C" fn switch(
    _this: Object,
    _args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object {
    let py = attached();
    if count != 0 || !names.is_null() {
        PyTypeError::new_err("Hub.switch() takes no arguments").restore(py);
        return ptr::null_mut();
    }
    wait::park_raw(py)
}

unsafe extern "C" fn get_loop(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `hub`; a new reference.
    unsafe {
        let hub = hub(this);
        let object = if hub.destroyed.get() { ffi::Py_None() } else { hub.loop_object.get() };
        ffi::Py_INCREF(object);
        object
    }
}

unsafe extern "C" fn get_dead(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `hub`; makes a bool.
    unsafe { ffi::PyBool_FromLong(hub(this).destroyed.get().into()) }
}

unsafe extern "C" fn get_switch_interval(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `hub`; makes a float.
    unsafe { ffi::PyFloat_FromDouble(hub(this).switch_interval.get() as f64 / 1e9) }
}

unsafe extern "C" fn set_switch_interval(this: Object, value: Object, _: *mut c_void) -> c_int {
    if value.is_null() {
        PyTypeError::new_err("can't delete attribute").restore(attached());
        return -1;
    }
    // SAFETY: a valid object; see `hub`.
    unsafe {
        let seconds = ffi::PyFloat_AsDouble(value);
        if !ffi::PyErr_Occurred().is_null() {
            return -1;
        }
        hub(this).switch_interval.set((seconds.max(0.0) * 1e9) as u64);
    }
    0
}

unsafe extern "C" fn traverse(this: Object, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: the interpreter passes a hub. What the queue and the reactor hold is not visited:
    // it is to run, so it is in use.
    unsafe {
        let status = visit(hub(this).loop_object.get(), arg);
        if status != 0 {
            return status;
        }
        types::traverse(this, visit, arg)
    }
}

unsafe extern "C" fn clear(this: Object) -> c_int {
    // The loop is kept: a hub is never without one, and the loop does not own the hub.
    // SAFETY: the interpreter passes a hub.
    unsafe { types::clear(this) }
}

unsafe extern "C" fn dealloc(this: Object) {
    // SAFETY: the last reference is gone; each field is dropped once, before the greenlet is.
    unsafe {
        ffi::PyObject_GC_UnTrack(this.cast());
        let object = this.cast::<HubObject>();
        (*object).leave_loop();
        (*object).unpin();
        ffi::Py_XDECREF((*object).loop_object.replace(ptr::null_mut()));
        types::free(this);
    }
}

/// get_hub()
/// --
///
/// The hub of this thread, made if there is none.
#[pyfunction]
fn get_hub(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let hub = HubObject::get(py)?;
    // SAFETY: the hub is alive.
    Ok(unsafe { Bound::from_borrowed_ptr(py, hub.as_ptr()) })
}

/// get_hub_if_exists()
/// --
///
/// The hub of this thread, or None if it has none.
#[pyfunction]
fn get_hub_if_exists(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    let hub = Thread::try_get()?.hub.get();
    // SAFETY: owned by the thread's record.
    (!hub.is_null()).then(|| unsafe { Bound::from_borrowed_ptr(py, hub.cast()) })
}

/// set_hub(hub)
/// --
///
/// Makes `hub` the hub of this thread; None leaves the thread without one.
#[pyfunction]
fn set_hub(py: Python<'_>, hub: Bound<'_, PyAny>) -> PyResult<()> {
    let thread = Thread::get(py)?;
    if hub.is_none() {
        let old = thread.hub.replace(ptr::null_mut());
        // SAFETY: an owned reference or null.
        unsafe { ffi::Py_XDECREF(old.cast()) };
        return Ok(());
    }
    if !is_hub(hub.as_ptr()) {
        return Err(PyTypeError::new_err(format!(
            "expected a Hub, not {}",
            hub.get_type().name()?
        )));
    }
    HubObject::install(thread, &hub)
}

/// _set_hub_class(cls)
/// --
///
/// The class that `get_hub` makes hubs of from now on.
#[pyfunction]
fn _set_hub_class(class: Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: a valid object, checked to be a class before it is looked at as one.
    let is_hub_class = unsafe {
        ffi::PyType_Check(class.as_ptr()) != 0
            && ffi::PyType_IsSubtype(class.as_ptr().cast(), HUB_TYPE.load(Ordering::Relaxed)) != 0
    };
    if !is_hub_class {
        return Err(PyTypeError::new_err("expected a subclass of Hub"));
    }
    HubObject::set_class(class);
    Ok(())
}

/// _get_hub_class()
/// --
///
/// The class that `get_hub` makes hubs of.
#[pyfunction]
fn _get_hub_class(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    HubObject::class(py)
}

/// The exception that the arguments of a throw stand for.
fn instance_of<'py>(
    typ: &Bound<'py, PyAny>,
    val: Option<Bound<'py, PyAny>>,
    tb: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let none = typ.py().None().into_bound(typ.py());
    instance_from(typ, val.as_ref().unwrap_or(&none), tb.as_ref().unwrap_or(&none))
}

/// _throw_later(greenlet, typ, val=None, tb=None)
/// --
///
/// Throws an exception into a greenlet when its turn comes; from any thread.
#[pyfunction]
#[pyo3(signature = (greenlet, typ, val = None, tb = None))]
fn _throw_later<'py>(
    greenlet: Bound<'py, PyAny>,
    typ: Bound<'py, PyAny>,
    val: Option<Bound<'py, PyAny>>,
    tb: Option<Bound<'py, PyAny>>,
) -> PyResult<()> {
    let error = instance_of(&typ, val, tb)?;
    push_throw(&greenlet, error, How::InTurn)
}

/// _throw_next(greenlet, typ, val=None, tb=None)
/// --
///
/// As _throw_later, but ahead of everything that is ready in the calling thread, if it is the
/// greenlet's: a wake-up that is under way to the greenlet comes too late.
#[pyfunction]
#[pyo3(signature = (greenlet, typ, val = None, tb = None))]
fn _throw_next<'py>(
    greenlet: Bound<'py, PyAny>,
    typ: Bound<'py, PyAny>,
    val: Option<Bound<'py, PyAny>>,
    tb: Option<Bound<'py, PyAny>>,
) -> PyResult<()> {
    let error = instance_of(&typ, val, tb)?;
    push_throw(&greenlet, error, How::Next)
}

/// _throw_now(greenlet, typ, val=None, tb=None)
/// --
///
/// As greenlet.throw, but no shield holds it back.
#[pyfunction]
#[pyo3(signature = (greenlet, typ, val = None, tb = None))]
fn _throw_now<'py>(
    py: Python<'py>,
    greenlet: Bound<'py, PyAny>,
    typ: Bound<'py, PyAny>,
    val: Option<Bound<'py, PyAny>>,
    tb: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let error = instance_of(&typ, val, tb)?;
    let target = greenlet_argument(&greenlet)?;
    // SAFETY: a live greenlet, in the calling thread or else refused; no borrow is alive.
    unsafe {
        let thread = thread_for(py, &*target)?;
        let result = switch::switch(thread, target, Payload::Throw(error.into_ptr()));
        if result.is_null() {
            return Err(PyErr::from_value(Bound::from_owned_ptr(py, take_raised())));
        }
        Ok(Bound::from_owned_ptr(py, result))
    }
}

/// Kills a greenlet by an exception (class or instance) when its turn comes; from any thread.
pub fn kill_later(greenlet: &Bound<'_, PyAny>, exception: &Bound<'_, PyAny>) -> PyResult<()> {
    let none = greenlet.py().None().into_bound(greenlet.py());
    push_throw(greenlet, instance_from(exception, &none, &none)?, How::Kill)
}

/// How an exception gets to a greenlet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    InTurn,
    /// Ahead of everything else that is ready.
    Next,
    /// In turn, and a shield holds it back.
    Kill,
}

fn push_throw(greenlet: &Bound<'_, PyAny>, error: Bound<'_, PyAny>, how: How) -> PyResult<()> {
    let py = greenlet.py();
    let target = greenlet_argument(greenlet)?;
    // SAFETY: a greenlet has a thread; its hub, if there is one, is alive.
    unsafe {
        let thread = &*(*target).thread.get();
        let hub = if thread.is_calling() {
            HubObject::of(py, thread)?
        } else {
            thread.hub.get().as_ref().ok_or_else(|| {
                crate::exceptions::invalid_thread_use(py, "the greenlet's thread has no hub")
            })?
        };
        let (greenlet, error) = (greenlet.clone().into_ptr().cast(), error.into_ptr());
        match how {
            How::Kill => hub.push(thread, Entry::Kill { greenlet, error }),
            How::Next if thread.is_calling() => hub.push_next(Entry::Throw { greenlet, error }),
            How::InTurn | How::Next => hub.push(thread, Entry::Throw { greenlet, error }),
        }
    }
    Ok(())
}

/// The greenlet behind an argument.
pub fn greenlet_argument(object: &Bound<'_, PyAny>) -> PyResult<*mut PyGreenlet> {
    if types::is_greenlet(object.as_ptr()) {
        return Ok(object.as_ptr().cast());
    }
    Err(PyTypeError::new_err(format!("expected a greenlet, not {}", object.get_type().name()?)))
}

/// _switch_later(greenlet, value=None)
/// --
///
/// Switches to a greenlet with a value when its turn comes; from any thread.
#[pyfunction]
#[pyo3(signature = (greenlet, value = None))]
fn _switch_later<'py>(
    py: Python<'py>,
    greenlet: Bound<'py, PyAny>,
    value: Option<Bound<'py, PyAny>>,
) -> PyResult<()> {
    let target = greenlet_argument(&greenlet)?;
    let value = value.map_or_else(|| py.None().into_ptr(), Bound::into_ptr);
    // SAFETY: a greenlet has a thread; its hub, if there is one, is alive.
    unsafe {
        let thread = &*(*target).thread.get();
        let hub = thread.hub.get().as_ref().map_or_else(|| HubObject::of(py, thread), Ok)?;
        hub.push(thread, Entry::Switch { greenlet: greenlet.into_ptr().cast(), value });
    }
    Ok(())
}

/// _join_hub(hub, timeout=None)
/// --
///
/// Waits until the loop has nothing left to do. True if so, False after `timeout` seconds.
#[pyfunction]
#[pyo3(signature = (hub, timeout = None))]
fn _join_hub(py: Python<'_>, hub: Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<bool> {
    let wait = Wait::begin(py, hub.as_ptr())?;
    let object = wait.hub();
    let deadline = timeout.map(deadline_after);
    // The timeout itself is no work.
    if deadline.is_some() {
        object.change_unreferenced(true);
    }
    let woken = wait.park(Some(&object.joining), deadline);
    if deadline.is_some() {
        object.change_unreferenced(false);
    }
    Ok(woken.into_result()? == wait::Reason::Notified)
}

/// _idle()
/// --
///
/// Waits until nothing else is ready, no descriptor and no timer either.
#[pyfunction]
fn _idle(py: Python<'_>) -> PyResult<()> {
    let wait = Wait::begin(py, ptr::null_mut())?;
    let hub = wait.hub();
    wait.park(Some(&hub.idling), None).into_result().map(drop)
}

/// The hub behind an argument.
fn hub_argument<'a>(object: &'a Bound<'_, PyAny>) -> PyResult<&'a HubObject> {
    if !is_hub(object.as_ptr()) {
        return Err(PyTypeError::new_err(format!(
            "expected a Hub, not {}",
            object.get_type().name()?
        )));
    }
    // SAFETY: checked to be a hub.
    Ok(unsafe { &*object.as_ptr().cast::<HubObject>() })
}

/// _destroy_hub(hub, destroy_loop)
/// --
///
/// Drops what the hub would still run; with `destroy_loop` everything it waits for too, and the
/// loop cannot be used again.
///
/// InvalidThreadUseError is raised while the hub is at work in another thread.
#[pyfunction]
fn _destroy_hub(hub: Bound<'_, PyAny>, destroy_loop: bool) -> PyResult<()> {
    let object = hub_argument(&hub)?;
    // SAFETY: a hub has a thread as long as it lives.
    let thread = unsafe { &*object.greenlet().thread.get() };
    if !thread.is_calling() && !thread.has_ended() && !object.destroyed.get() {
        return Err(crate::exceptions::invalid_thread_use(
            hub.py(),
            "a hub can be destroyed in its own thread only",
        ));
    }
    object.end(destroy_loop);
    Ok(())
}

/// _after_fork_in_child()
/// --
///
/// Makes the descriptors of this thread's loops anew: those of the parent process are shared with
/// it. Greenlets that waited stay behind. Registered with os.register_at_fork.
#[pyfunction]
fn _after_fork_in_child(py: Python<'_>) -> PyResult<()> {
    crate::fork::forked();
    EventLoop::all_forked(py)
}

fn register_at_fork(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let keywords = PyDict::new(module.py());
    keywords.set_item("after_in_child", wrap_pyfunction!(_after_fork_in_child, module)?)?;
    module.py().import("os")?.getattr("register_at_fork")?.call((), Some(&keywords)).map(drop)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    register_at_fork(module)?;
    let py = module.py();
    let mut slots = vec![
        slot(ffi::Py_tp_doc, DOC.as_ptr().cast_mut().cast()),
        slot(ffi::Py_tp_new, new as *mut c_void),
        slot(ffi::Py_tp_init, init as *mut c_void),
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        slot(ffi::Py_tp_clear, clear as *mut c_void),
        slot(ffi::Py_tp_getset, (&raw const GETSET).cast_mut().cast()),
        slot(ffi::Py_tp_methods, (&raw const METHODS).cast_mut().cast()),
    ];
    let class = types::make_class(
        py,
        ClassSpec {
            name: c"greenloop._core.Hub",
            size: size_of::<HubObject>(),
            flags: ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_BASETYPE | ffi::Py_TPFLAGS_HAVE_GC,
            base: types::greenlet_type(),
            slots: &mut slots,
        },
    )?;
    HUB_TYPE.store(class.as_ptr().cast(), Ordering::Relaxed);
    module.add("Hub", class)?;
    for function in [
        wrap_pyfunction!(get_hub, module)?,
        wrap_pyfunction!(get_hub_if_exists, module)?,
        wrap_pyfunction!(set_hub, module)?,
        wrap_pyfunction!(_set_hub_class, module)?,
        wrap_pyfunction!(_get_hub_class, module)?,
        wrap_pyfunction!(_throw_later, module)?,
        wrap_pyfunction!(_throw_next, module)?,
        wrap_pyfunction!(_throw_now, module)?,
        wrap_pyfunction!(_switch_later, module)?,
        wrap_pyfunction!(_join_hub, module)?,
        wrap_pyfunction!(_idle, module)?,
        wrap_pyfunction!(_destroy_hub, module)?,
        wrap_pyfunction!(_attach_loop, module)?,
        wrap_pyfunction!(_get_kept_loop, module)?,
        wrap_pyfunction!(_keep_loop, module)?,
    ] {
        module.add_function(function)?;
    }
    Ok(())
}
