//! What `spawn_raw` makes: a raw greenlet that knows its loop and who spawned it.

use super::attributes::{change_tree_locals, tree_locals_of};
use super::origin::Origin;
use crate::greenlet::attributes::{END, GetSetTable, attribute};
use crate::greenlet::object::PyGreenlet;
use crate::greenlet::switch::run_body;
use crate::greenlet::types::{self, ClassSpec, slot};
use crate::hub::HubObject;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

type Object = *mut ffi::PyObject;

static TYPE: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(ptr::null_mut());

#[repr(C)]
struct TrackedRaw {
    base: PyGreenlet,
    origin: Origin,
}

const DOC: &CStr = c"TrackedRawGreenlet(run=None, parent=None)
--

A raw greenlet that knows who made it. `greenloop.spawn_raw` makes these.";

static GETSET: GetSetTable<4> = GetSetTable::new([
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
    attribute(c"loop", get_loop, None, c"The loop of its thread's hub; None if there is none."),
    END,
]);

/// The origin of a greenlet of this class; None for any other object.
///
/// # Safety
///
/// A valid object.
pub unsafe fn origin_of<'a>(object: Object) -> Option<&'a Origin> {
    // SAFETY: checked to be of the class.
    unsafe {
        (ffi::PyObject_TypeCheck(object, TYPE.load(Ordering::Relaxed)) != 0)
            .then(|| &(*object.cast::<TrackedRaw>()).origin)
    }
}

/// A greenlet for a function, with the hub as its parent.
pub fn make(function: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let py = function.py();
    let hub = HubObject::get(py)?;
    // SAFETY: a fresh greenlet; owned references.
    unsafe {
        let this = allocate(TYPE.load(Ordering::Relaxed));
        let greenlet = Bound::from_owned_ptr_or_err(py, this)?;
        let raw = &*this.cast::<PyGreenlet>();
        raw.run.set(function.into_ptr());
        ffi::Py_INCREF(hub.as_ptr());
        let old = raw.parent.replace(hub.greenlet().as_greenlet());
        ffi::Py_XDECREF(old.cast());
        Ok(greenlet)
    }
}

/// A new reference, or null with an exception set.
///
/// # Safety
///
/// `kind` is this type or a subtype.
unsafe fn allocate(kind: *mut ffi::PyTypeObject) -> Object {
    // SAFETY: a fresh object with room for the fields behind the greenlet's. Its parent is the
    // greenlet that makes it.
    unsafe {
        let this = types::allocate(kind, run_body).cast::<TrackedRaw>();
        if this.is_null() {
            return ptr::null_mut();
        }
        (&raw mut (*this).origin).write(Origin::new());
        if !(*this).origin.note(&*(*this).base.parent.get()) {
            ffi::Py_DECREF(this.cast());
            return ptr::null_mut();
        }
        this.cast()
    }
}

/// # Safety
///
/// The interpreter checked that `this` is of the class.
unsafe fn tracked<'a>(this: Object) -> &'a TrackedRaw {
    // SAFETY: as the caller guarantees.
    unsafe { &*this.cast() }
}

unsafe extern "C" fn new(kind: *mut ffi::PyTypeObject, _args: Object, _kwargs: Object) -> Object {
    // SAFETY: called for this type and its subtypes.
    unsafe {
        let this = allocate(kind);
        types::look_for_switch_out(this.cast(), TYPE.load(Ordering::Relaxed));
        this
    }
}

unsafe extern "C" fn get_spawner(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `tracked`; a valid object or null, and None lives forever.
    unsafe {
        let spawner = tracked(this).origin.spawner.get();
        let spawner = if spawner.is_null() { ffi::Py_None() } else { spawner };
        ffi::Py_INCREF(spawner);
        spawner
    }
}

unsafe extern "C" fn get_tree_locals(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `tracked`.
    tree_locals_of(&unsafe { tracked(this) }.origin)
}

unsafe extern "C" fn set_tree_locals(this: Object, value: Object, _: *mut c_void) -> c_int {
    // SAFETY: see `tracked`; a valid object or null.
    unsafe { change_tree_locals(&tracked(this).origin, value) }
}

unsafe extern "C" fn get_loop(this: Object, _: *mut c_void) -> Object {
    // SAFETY: see `tracked`.
    unsafe { super::attributes::loop_of(&tracked(this).base) }
}

unsafe extern "C" fn traverse(this: Object, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: passed on from the interpreter.
    unsafe {
        let status = tracked(this).origin.traverse(visit, arg);
        if status != 0 { status } else { types::traverse(this, visit, arg) }
    }
}

unsafe extern "C" fn clear(this: Object) -> c_int {
    // SAFETY: passed on from the interpreter.
    unsafe {
        tracked(this).origin.clear();
        types::clear(this)
    }
}

unsafe extern "C" fn dealloc(this: Object) {
    // SAFETY: the last reference is gone, unless the finalizer brings the object back.
    unsafe {
        if !types::finish(this) {
            return;
        }
        ffi::PyObject_GC_UnTrack(this.cast());
        tracked(this).origin.clear();
        types::free(this);
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let mut slots = vec![
        slot(ffi::Py_tp_doc, DOC.as_ptr().cast_mut().cast()),
        slot(ffi::Py_tp_new, new as *mut c_void),
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        slot(ffi::Py_tp_clear, clear as *mut c_void),
        slot(ffi::Py_tp_getset, (&raw const GETSET).cast_mut().cast()),
    ];
    let class = types::make_class(
        module.py(),
        ClassSpec {
            name: c"greenloop._core.TrackedRawGreenlet",
            size: size_of::<TrackedRaw>(),
            flags: ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_BASETYPE | ffi::Py_TPFLAGS_HAVE_GC,
            base: types::greenlet_type(),
            slots: &mut slots,
        },
    )?;
    TYPE.store(class.as_ptr().cast(), Ordering::Relaxed);
    module.add("TrackedRawGreenlet", class)
}
