//! The type object `greenlet.greenlet`: making, collecting and freeing greenlets.

use super::attributes::GETSET;
use super::exceptions;
use super::methods::METHODS;
use super::object::{Body, Payload, PyGreenlet, Status};
use super::switch::{self, run_body};
use super::thread::{self, Thread};
use crate::errors::with_raised_saved;
use crate::pystate::ThreadState;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

static GREENLET_TYPE: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(ptr::null_mut());

/// The type object of raw greenlets.
#[inline]
pub fn greenlet_type() -> *mut ffi::PyTypeObject {
    GREENLET_TYPE.load(Ordering::Relaxed)
}

/// Whether an object is a greenlet.
#[inline]
pub fn is_greenlet(object: *mut ffi::PyObject) -> bool {
    // SAFETY: valid objects and types.
    unsafe { ffi::PyObject_TypeCheck(object, greenlet_type()) != 0 }
}

/// A class made from slots. Subclasses of greenlets share these parts of their specification.
pub struct ClassSpec<'a> {
    pub name: &'static CStr,
    pub size: usize,
    pub flags: std::ffi::c_ulong,
    pub base: *mut ffi::PyTypeObject,
    pub slots: &'a mut Vec<ffi::PyType_Slot>,
}

/// Makes a heap type; a new reference.
pub fn make_class<'py>(py: Python<'py>, class: ClassSpec<'_>) -> PyResult<Bound<'py, PyAny>> {
    class.slots.push(ffi::PyType_Slot { slot: 0, pfunc: ptr::null_mut() });
    let mut spec = ffi::PyType_Spec {
        name: class.name.as_ptr(),
        basicsize: class.size as c_int,
        itemsize: 0,
        flags: class.flags as std::ffi::c_uint,
        slots: class.slots.as_mut_ptr(),
    };
    // SAFETY: the specification is complete and ended by a zero slot; the tables that slots name
    // are static.
    unsafe {
        let bases = class.base.cast::<ffi::PyObject>();
        Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpecWithBases(&raw mut spec, bases))
    }
}

pub fn slot(slot: c_int, pfunc: *mut c_void) -> ffi::PyType_Slot {
    ffi::PyType_Slot { slot, pfunc }
}

const DOC: &CStr = c"greenlet(run=None, parent=None)
--

A coroutine with a stack of its own: plain code in it can be left and gone on with anywhere.

run: the callable that the first switch calls; may also be set later or be defined by a subclass.
parent: the greenlet that goes on when this one ends; the current one by default.
(As greenlet.greenlet.)";

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    // The offsets of `__dict__` and weak references.
    let mut members = vec![
        member(c"__dictoffset__", PyGreenlet::DICT_OFFSET),
        member(c"__weaklistoffset__", PyGreenlet::WEAKREFS_OFFSET),
        // SAFETY: all zero is the end mark of a member table.
        unsafe { std::mem::zeroed::<ffi::PyMemberDef>() },
    ];
    let mut slots = vec![
        slot(ffi::Py_tp_doc, DOC.as_ptr().cast_mut().cast()),
        slot(ffi::Py_tp_new, new as *mut c_void),
        slot(ffi::Py_tp_init, init as *mut c_void),
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_tp_finalize, finalize as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        slot(ffi::Py_tp_clear, clear as *mut c_void),
        slot(ffi::Py_tp_repr, super::attributes::repr as *mut c_void),
        slot(ffi::Py_nb_bool, super::attributes::is_active as *mut c_void),
        slot(ffi::Py_tp_members, members.as_mut_ptr().cast()),
        slot(ffi::Py_tp_getset, (&raw const GETSET).cast_mut().cast()),
        slot(ffi::Py_tp_methods, (&raw const METHODS).cast_mut().cast()),
    ];
    let class = make_class(
        py,
        ClassSpec {
            name: c"greenlet.greenlet",
            size: size_of::<PyGreenlet>(),
            flags: ffi::Py_TPFLAGS_DEFAULT
                | ffi::Py_TPFLAGS_BASETYPE
                | ffi::Py_TPFLAGS_HAVE_GC
                | ffi::Py_TPFLAGS_IMMUTABLETYPE,
            base: ptr::null_mut(),
            slots: &mut slots,
        },
    )?;
    let kind = class.as_ptr().cast::<ffi::PyTypeObject>();
    // SAFETY: a fresh type, not in use yet.
    unsafe { (*kind).tp_vectorcall = Some(vectorcall) };
    for name in ["error", "GreenletExit"] {
        let value = module.getattr(name)?;
        // SAFETY: the type's own dict, filled before the type is used; immutable for Python code.
        unsafe {
            ffi::PyDict_SetItem((*kind).tp_dict, name_object(py, name).as_ptr(), value.as_ptr());
        }
    }
    for (name, function) in [
        ("getcurrent", wrap_pyfunction!(super::getcurrent, module)?),
        ("settrace", wrap_pyfunction!(super::trace::settrace, module)?),
        ("gettrace", wrap_pyfunction!(super::trace::gettrace, module)?),
    ] {
        // SAFETY: as above. A built-in function is no descriptor: it stays static.
        unsafe {
            ffi::PyDict_SetItem((*kind).tp_dict, name_object(py, name).as_ptr(), function.as_ptr());
        }
    }
    // SAFETY: the type was changed above.
    unsafe { ffi::PyType_Modified(kind) };
    GREENLET_TYPE.store(kind, Ordering::Relaxed);
    module.add("greenlet", class)
}

fn name_object<'py>(py: Python<'py>, name: &str) -> Bound<'py, pyo3::types::PyString> {
    pyo3::types::PyString::intern(py, name)
}

fn member(name: &'static CStr, offset: usize) -> ffi::PyMemberDef {
    ffi::PyMemberDef {
        name: name.as_ptr(),
        type_code: ffi::Py_T_PYSSIZET,
        offset: offset as ffi::Py_ssize_t,
        flags: ffi::Py_READONLY,
        doc: ptr::null(),
    }
}

/// Allocates a greenlet of `kind` with this thread and its current greenlet as the parent.
///
/// Returns a new reference, or null with an exception set. Ends greenlets that other threads have
/// collected, so it may run other code.
///
/// # Safety
///
/// `kind` is the greenlet type or a subtype.
pub unsafe fn allocate(kind: *mut ffi::PyTypeObject, body: Body) -> *mut PyGreenlet {
    // SAFETY: the GIL is held.
    let py = unsafe { Python::assume_attached() };
    let thread = match Thread::get(py) {
        Ok(thread) => thread,
        Err(error) => {
            error.restore(py);
            return ptr::null_mut();
        }
    };
    // SAFETY: a valid type.
    if unsafe { (*kind).tp_basicsize } < size_of::<PyGreenlet>() as ffi::Py_ssize_t {
        refuse_small(py, kind);
        return ptr::null_mut();
    }
    thread.bury_orphans();
    // SAFETY: a fresh object of at least the size of PyGreenlet.
    unsafe {
        if ffi::PyType_HasFeature(kind, ffi::Py_TPFLAGS_IS_ABSTRACT) != 0 {
            return refuse_abstract(kind);
        }
        let object = ffi::PyType_GenericAlloc(kind, 0).cast::<PyGreenlet>();
        if object.is_null() {
            return ptr::null_mut();
        }
        PyGreenlet::init(object, body);
        thread.own(&*object);
        let parent = thread.current();
        ffi::Py_INCREF(parent.as_ptr());
        (*object).parent.set(parent.as_greenlet());
        object
    }
}

/// Notes whether the class, if it is none of ours (`own`), has a method `switch_out`.
///
/// # Safety
///
/// `greenlet` is a greenlet, or null.
pub unsafe fn look_for_switch_out(greenlet: *mut PyGreenlet, own: *mut ffi::PyTypeObject) {
    // SAFETY: as the caller guarantees; the GIL is held.
    unsafe {
        let Some(greenlet) = greenlet.as_ref() else { return };
        let class = ffi::Py_TYPE(greenlet.as_ptr());
        if class == own {
            return;
        }
        let py = Python::assume_attached();
        let class = Bound::from_borrowed_ptr(py, class.cast());
        // What a metaclass raises meanwhile does not keep greenlets from being made.
        if class.hasattr(pyo3::intern!(py, "switch_out")).unwrap_or(false) {
            greenlet.wait.tell();
        }
    }
}

/// For a class of an extension whose instances were laid out as the `PyGreenlet` that C sees with
/// fields after it: the interpreter does not look whether that is less than the base class has.
#[cold]
fn refuse_small(py: Python<'_>, kind: *mut ffi::PyTypeObject) {
    // SAFETY: a valid type.
    let (name, size) = unsafe { (CStr::from_ptr((*kind).tp_name), (*kind).tp_basicsize) };
    PyTypeError::new_err(format!(
        "{} cannot derive from greenlet.greenlet: its instances have {size} bytes, greenloop's \
         greenlets {}; a C type has to add its fields to PyGreenlet_Type.tp_basicsize",
        name.to_string_lossy(),
        size_of::<PyGreenlet>(),
    ))
    .restore(py);
}

/// Raises what `object` raises for a class with abstract methods.
#[cold]
unsafe fn refuse_abstract(kind: *mut ffi::PyTypeObject) -> *mut PyGreenlet {
    // SAFETY: the type is valid; `object` allocates nothing for such classes.
    unsafe {
        let new = ffi::PyBaseObject_Type.tp_new.expect("object can be made");
        let no_args = ffi::PyTuple_New(0);
        let object = new(kind, no_args, ptr::null_mut());
        ffi::Py_DECREF(no_args);
        debug_assert!(object.is_null());
        ptr::null_mut()
    }
}

/// The greenlet that a thread starts with; it has no thread and no parent yet.
pub fn new_main_greenlet(py: Python<'_>) -> PyResult<*mut PyGreenlet> {
    // SAFETY: a fresh object of the greenlet type.
    unsafe {
        let object = ffi::PyType_GenericAlloc(greenlet_type(), 0).cast::<PyGreenlet>();
        if object.is_null() {
            return Err(PyErr::fetch(py));
        }
        PyGreenlet::init(object, run_body);
        Ok(object)
    }
}

unsafe extern "C" fn new(
    kind: *mut ffi::PyTypeObject,
    _args: *mut ffi::PyObject,
    _kwargs: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this for the greenlet type and its subtypes.
    unsafe {
        let greenlet = allocate(kind, run_body);
        look_for_switch_out(greenlet, greenlet_type());
        greenlet.cast()
    }
}

unsafe extern "C" fn init(
    this: *mut ffi::PyObject,
    args: *mut ffi::PyObject,
    kwargs: *mut ffi::PyObject,
) -> c_int {
    let mut run: *mut ffi::PyObject = ptr::null_mut();
    let mut parent: *mut ffi::PyObject = ptr::null_mut();
    let names = [c"run".as_ptr(), c"parent".as_ptr(), ptr::null()];
    // SAFETY: the interpreter passes a tuple and a dict or null; two places for two objects.
    unsafe {
        if ffi::PyArg_ParseTupleAndKeywords(
            args,
            kwargs,
            c"|OO:greenlet".as_ptr(),
            names.as_ptr().cast_mut().cast(),
            &raw mut run,
            &raw mut parent,
        ) == 0
        {
            return -1;
        }
        set_up(&*this.cast(), run, parent)
    }
}

/// What `__init__` does; `run` and `parent` are borrowed, null for not given. A parent of None
/// is not given either.
unsafe fn set_up(
    greenlet: &PyGreenlet,
    run: *mut ffi::PyObject,
    parent: *mut ffi::PyObject,
) -> c_int {
    // SAFETY: valid objects or null.
    unsafe {
        if !run.is_null()
            && super::attributes::set_run(greenlet.as_ptr(), run, ptr::null_mut()) != 0
        {
            return -1;
        }
        if !parent.is_null()
            && parent != ffi::Py_None()
            && super::attributes::set_parent(greenlet.as_ptr(), parent, ptr::null_mut()) != 0
        {
            return -1;
        }
    }
    0
}

/// `greenlet(run, parent)` without an argument tuple.
unsafe extern "C" fn vectorcall(
    kind: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargsf: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the vectorcall convention: `nargs` positional arguments, then one for each name.
    unsafe {
        let count = ffi::PyVectorcall_NARGS(nargsf) as usize;
        if !names.is_null() || count > 2 {
            let result = allocate(kind.cast(), run_body).cast::<ffi::PyObject>();
            if result.is_null() {
                return result;
            }
            let tuple = ffi::PyTuple_New(count as ffi::Py_ssize_t);
            for index in 0..count {
                let item = *args.add(index);
                ffi::Py_INCREF(item);
                ffi::PyTuple_SET_ITEM(tuple, index as ffi::Py_ssize_t, item);
            }
            let dict = super::methods::keywords(args.add(count), names);
            let status = init(result, tuple, dict);
            ffi::Py_DECREF(tuple);
            ffi::Py_XDECREF(dict);
            if status != 0 {
                ffi::Py_DECREF(result);
                return ptr::null_mut();
            }
            return result;
        }
        let run = if count > 0 { *args } else { ptr::null_mut() };
        let parent = if count > 1 { *args.add(1) } else { ptr::null_mut() };
        construct(kind.cast(), run, parent)
    }
}

/// Makes a greenlet: a new reference, or null with an exception set. `run` and `parent` are
/// borrowed; see `set_up`.
///
/// # Safety
///
/// `kind` is the greenlet type or a subtype; the rest are valid objects or null.
#[inline]
pub unsafe fn construct(
    kind: *mut ffi::PyTypeObject,
    run: *mut ffi::PyObject,
    parent: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as the caller guarantees.
    unsafe {
        let greenlet = allocate(kind, run_body);
        if greenlet.is_null() {
            return ptr::null_mut();
        }
        if set_up(&*greenlet, run, parent) != 0 {
            ffi::Py_DECREF(greenlet.cast());
            return ptr::null_mut();
        }
        greenlet.cast()
    }
}

/// Visits the references of a greenlet.
///
/// # Safety
///
/// As the interpreter calls `tp_traverse`.
pub unsafe extern "C" fn traverse(
    this: *mut ffi::PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: the interpreter passes a greenlet; all references are valid or null. The frames
    // of a suspended greenlet are not visited: their references are on its stack.
    unsafe {
        let greenlet = &*this.cast::<PyGreenlet>();
        let context = if greenlet.is_running() { ptr::null_mut() } else { greenlet.py.context() };
        for object in [
            ffi::Py_TYPE(this).cast::<ffi::PyObject>(),
            greenlet.run.get(),
            greenlet.parent.get().cast(),
            greenlet.acts_for.get().cast(),
            greenlet.dict.get(),
            context,
        ] {
            if !object.is_null() {
                let status = visit(object, arg);
                if status != 0 {
                    return status;
                }
            }
        }
        greenlet.asyncio.traverse(visit, arg)
    }
}

/// Drops references that can be part of a cycle.
///
/// # Safety
///
/// As the interpreter calls `tp_clear`.
pub unsafe extern "C" fn clear(this: *mut ffi::PyObject) -> c_int {
    // SAFETY: owned references, each cleared before it is dropped.
    unsafe {
        let greenlet = &*this.cast::<PyGreenlet>();
        ffi::Py_XDECREF(greenlet.run.replace(ptr::null_mut()));
        ffi::Py_XDECREF(greenlet.parent.replace(ptr::null_mut()).cast());
        ffi::Py_XDECREF(greenlet.acts_for.replace(ptr::null_mut()).cast());
        ffi::Py_XDECREF(greenlet.dict.replace(ptr::null_mut()));
        greenlet.asyncio.clear();
        if !greenlet.is_running() {
            ffi::Py_XDECREF(greenlet.py.replace_context(ptr::null_mut()));
        }
    }
    0
}

/// Called when nobody holds the greenlet any more: one that is suspended in the middle is ended
/// by `GreenletExit`, so that its `finally` blocks run and its references are dropped.
///
/// # Safety
///
/// As the interpreter calls `tp_finalize`.
pub unsafe extern "C" fn finalize(this: *mut ffi::PyObject) {
    // SAFETY: the interpreter passes a greenlet.
    let greenlet = unsafe { &*this.cast::<PyGreenlet>() };
    if greenlet.status.get() != Status::Active || greenlet.is_running() || greenlet.is_main() {
        return;
    }
    // SAFETY: a greenlet that started has a thread.
    let thread = unsafe { &*greenlet.thread.get() };
    if thread.has_ended() || interpreter_is_finalizing() {
        return;
    }
    if greenlet.wait.is_left_behind() {
        // SAFETY: the new reference brings the object back to life, for good: its locals are freed
        // in the parent only.
        unsafe { ffi::Py_INCREF(this) };
        return;
    }
    if !thread.is_calling() {
        // SAFETY: the new reference is handed on; it brings the object back to life.
        unsafe { ffi::Py_INCREF(this) };
        thread.adopt(greenlet.as_greenlet());
        return;
    }
    with_raised_saved(|| end_suspended(thread, greenlet));
}

/// Drops the reference that `Thread::adopt` took, in the greenlet's own thread. Finalizers run
/// once only, so the greenlet is ended here if this was the last one.
///
/// # Safety
///
/// The reference is owned by the caller; the calling thread is the greenlet's.
pub unsafe fn drop_collected(greenlet: *mut PyGreenlet) {
    // SAFETY: as the caller guarantees.
    unsafe {
        let object = greenlet.cast::<ffi::PyObject>();
        if ffi::Py_REFCNT(object) == 1 && !interpreter_is_finalizing() {
            end(&*greenlet);
        }
        ffi::Py_DECREF(object);
    }
}

/// Has a greenlet end by `GreenletExit`, if it is suspended.
///
/// # Safety
///
/// A live greenlet of the calling thread.
pub unsafe fn end(greenlet: &PyGreenlet) {
    if greenlet.is_suspended() {
        // SAFETY: a greenlet that started has a thread.
        with_raised_saved(|| end_suspended(unsafe { &*greenlet.thread.get() }, greenlet));
    }
}

/// All greenlets there are, found through the garbage collector: no list of them is kept for what
/// asks for one.
///
/// # Errors
///
/// When memory for the list is short.
pub fn all_greenlets(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyAny>>> {
    let objects = py.import("gc")?.call_method0("get_objects")?;
    objects
        .try_iter()?
        .filter(|object| !matches!(object, Ok(object) if !is_greenlet(object.as_ptr())))
        .collect()
}

fn end_suspended(thread: &Thread, greenlet: &PyGreenlet) {
    // SAFETY: the GIL is held; owned references; the greenlet is suspended in this thread. It
    // comes back here when it ends, because this greenlet is made its parent for the time.
    unsafe {
        let py = Python::assume_attached();
        let current = thread.current();
        ffi::Py_INCREF(current.as_ptr());
        let parent = greenlet.parent.replace(current.as_greenlet());
        throw_exit(py, thread, greenlet);
        // What brought it back to life may have made its parent its child.
        if !parent.is_null() && !ptr::eq((*parent).oldest_ancestor(greenlet), greenlet) {
            ffi::Py_XDECREF(greenlet.parent.replace(parent).cast());
        } else {
            ffi::Py_XDECREF(parent.cast());
        }
    }
}

/// # Safety
///
/// The greenlet is suspended in `thread`, the calling one.
unsafe fn throw_exit(py: Python<'_>, thread: &Thread, greenlet: &PyGreenlet) {
    // SAFETY: owned references; the rest as the caller guarantees.
    unsafe {
        let exit = ffi::PyObject_CallNoArgs(exceptions::greenlet_exit(py).as_ptr());
        if exit.is_null() {
            ffi::PyErr_WriteUnraisable(greenlet.as_ptr());
            return;
        }
        let result = switch::switch(thread, greenlet.as_greenlet(), Payload::Throw(exit));
        if result.is_null() {
            ffi::PyErr_WriteUnraisable(greenlet.as_ptr());
        } else {
            ffi::Py_DECREF(result);
        }
    }
}

/// Whether the interpreter is going down. May be called without the GIL.
pub fn interpreter_is_finalizing() -> bool {
    #[cfg(Py_3_13)]
    // SAFETY: may be called at any time.
    unsafe {
        ffi::Py_IsFinalizing() != 0
    }
    #[cfg(not(Py_3_13))]
    {
        unsafe extern "C" {
            fn _Py_IsFinalizing() -> c_int;
        }
        // SAFETY: exported by these versions; may be called at any time.
        unsafe { _Py_IsFinalizing() != 0 }
    }
}

/// Frees a greenlet. Subtypes drop their own fields and end with `free`.
///
/// # Safety
///
/// As the interpreter calls `tp_dealloc`.
pub unsafe extern "C" fn dealloc(this: *mut ffi::PyObject) {
    // SAFETY: the last reference is gone, unless the greenlet lives on.
    unsafe {
        if finish(this) {
            free(this);
        }
    }
}

/// What comes before a greenlet is freed: its finalizer runs, and if it is still suspended it is
/// ended. False if it lives on.
///
/// # Safety
///
/// The last reference is gone.
#[inline]
pub unsafe fn finish(this: *mut ffi::PyObject) -> bool {
    // SAFETY: as the caller guarantees.
    unsafe {
        let greenlet = &*this.cast::<PyGreenlet>();
        // Finalizers run once, and a subclass with a `__del__` hides ours.
        let asked = greenlet.status.get() == Status::Active
            && ffi::PyObject_GC_IsFinalized(this) == 0
            && (*ffi::Py_TYPE(this)).tp_finalize.is_some_and(|finalizer| {
                ptr::fn_addr_eq(finalizer, finalize as unsafe extern "C" fn(*mut ffi::PyObject))
            });
        if ffi::PyObject_CallFinalizerFromDealloc(this) < 0 {
            return false;
        }
        greenlet.status.get() != Status::Active || end_before_free(this, asked)
    }
}

/// Ends a greenlet that is still suspended although its finalizer has run, and reports one that
/// was `asked` and would not end. False if it lives again.
///
/// # Safety
///
/// The last reference is gone.
#[cold]
unsafe fn end_before_free(this: *mut ffi::PyObject, asked: bool) -> bool {
    // SAFETY: a greenlet; the rest is passed on from the caller.
    unsafe {
        let greenlet = &*this.cast::<PyGreenlet>();
        if !asked && !revived(this, || finalize(this)) {
            return false;
        }
        if !greenlet.is_suspended()
            || greenlet.is_main()
            || (*greenlet.thread.get()).has_ended()
            || interpreter_is_finalizing()
        {
            return true;
        }
        revived(this, || {
            ffi::PySys_FormatStderr(c"GreenletExit did not kill %R\n".as_ptr(), this);
        })
    }
}

/// Calls `f` with a greenlet that nobody refers to any more. False if it is referred to after that.
///
/// # Safety
///
/// The last reference is gone.
unsafe fn revived(this: *mut ffi::PyObject, f: impl FnOnce()) -> bool {
    // SAFETY: the object is whole but for its references; it gets one for the time it runs. That
    // is taken back without Py_DECREF, which would free the object once more. The count is in the
    // low half of the first word (all of it, from 3.14 on).
    unsafe {
        ffi::Py_INCREF(this);
        f();
        let count = ffi::Py_REFCNT(this) as u32 - 1;
        const { assert!(cfg!(target_endian = "little")) };
        this.cast::<u32>().write(count);
        count == 0
    }
}

/// The part of `dealloc` after the finalizer.
///
/// # Safety
///
/// The last reference is gone and the finalizer has run.
pub unsafe fn free(this: *mut ffi::PyObject) {
    // SAFETY: nobody else reaches the object any more.
    unsafe {
        ffi::PyObject_GC_UnTrack(this.cast());
        let greenlet = &*this.cast::<PyGreenlet>();
        if !greenlet.weakrefs.is_null() {
            ffi::PyObject_ClearWeakRefs(this);
        }
        give_up(greenlet);
        clear(this);
        if greenlet.is_main() {
            thread::main_greenlet_freed();
        }
        Thread::disown(greenlet);
        let kind = ffi::Py_TYPE(this);
        let free = (*kind).tp_free.expect("every type has tp_free");
        free(this.cast());
        ffi::Py_DECREF(kind.cast());
    }
}

/// Takes the stack of a greenlet that will not run again, without unwinding it: this is for
/// threads that have ended, interpreters that go down and greenlets that would not end when asked
/// to. The locals of its frames are dropped, what C functions hold in the middle of a call is not.
///
/// # Safety
///
/// The greenlet never runs again; the GIL is held.
pub unsafe fn give_up(greenlet: &PyGreenlet) {
    let thread = greenlet.thread.get();
    if greenlet.status.get() != Status::Active || greenlet.is_main() || thread.is_null() {
        return;
    }
    // When the interpreter goes down its own threads forget what their frames hold, too.
    let all = !interpreter_is_finalizing();
    // SAFETY: suspended for good. The arena belongs to another thread only if that one has ended,
    // or has adopted the greenlet before. The references are owned, and dropped when nothing leads
    // to the stack any more.
    unsafe {
        let ts = ThreadState::new(ffi::PyThreadState_Get());
        let taken = greenlet.py.abandon(ts, greenlet.shift(), all);
        (*(*thread).arena.get()).release(&greenlet.co);
        (*thread).alive.set((*thread).alive.get() - 1);
        greenlet.status.set(Status::Dead);
        with_raised_saved(|| {
            for object in taken {
                ffi::Py_DECREF(object);
            }
        });
    }
}
