//! Where greenlets come from: who spawned them, from which lines, and what the tree of spawning
//! shares.
//!
//! The lines are kept as code objects and addresses in them. Line numbers, and objects that look
//! like frames, are made when somebody asks. Most greenlets of a program are spawned from few
//! places: the last stack is kept, and who is spawned from the same place again shares it.

use super::object::TaskObject;
use super::types::is_task;
use crate::greenlet::object::PyGreenlet;
use crate::greenlet::thread::Thread;
use crate::pystate;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

type Object = *mut ffi::PyObject;

/// How many frames are kept unless the class says otherwise.
pub const DEFAULT_LIMIT: usize = 10;

/// Whether anything here is noted of new greenlets.
static TRACKING: AtomicBool = AtomicBool::new(true);

#[inline]
pub fn is_tracking() -> bool {
    TRACKING.load(Ordering::Relaxed)
}

/// _track_greenlet_tree(track)
/// --
///
/// Whether new greenlets note who spawned them, and where.
#[pyfunction]
pub fn _track_greenlet_tree(track: bool) {
    TRACKING.store(track, Ordering::Relaxed);
}

/// A code object (borrowed or owned) and the address of an instruction in it.
type Place = (Object, usize);

/// Lines from which something was spawned, the innermost first.
pub struct Stack {
    /// The code objects are owned.
    places: Box<[Place]>,
}

impl Drop for Stack {
    fn drop(&mut self) {
        for &(code, _) in &self.places {
            // SAFETY: owned; the GIL is held wherever stacks are dropped.
            unsafe { ffi::Py_DECREF(code) };
        }
    }
}

/// The stack that was noted last.
struct Last(Cell<Option<Rc<Stack>>>);

// SAFETY: touched with the GIL held only.
unsafe impl Sync for Last {}

static LAST: Last = Last(Cell::new(None));

/// The stack of the running greenlet, `limit` frames at most; None if there is nothing to note.
#[inline(never)]
pub fn stack(thread: &Thread, limit: usize) -> Option<Rc<Stack>> {
    let mut few = [(ptr::null_mut(), 0); DEFAULT_LIMIT];
    if limit <= DEFAULT_LIMIT {
        // SAFETY: the calling thread's state.
        let count = unsafe { pystate::running_places(thread.state(), &mut few[..limit]) };
        return share(&few[..count]);
    }
    let mut many = Vec::new();
    let mut size = 4 * DEFAULT_LIMIT;
    loop {
        many.resize(size.min(limit), (ptr::null_mut(), 0));
        // SAFETY: the calling thread's state.
        let count = unsafe { pystate::running_places(thread.state(), &mut many) };
        if count < many.len() || count == limit {
            return share(&many[..count]);
        }
        size *= 4;
    }
}

fn share(places: &[Place]) -> Option<Rc<Stack>> {
    if places.is_empty() {
        return None;
    }
    let last = LAST.0.take();
    if let Some(stack) = &last
        && *stack.places == *places
    {
        let shared = Rc::clone(stack);
        LAST.0.set(last);
        return Some(shared);
    }
    for &(code, _) in places {
        // SAFETY: code of running frames.
        unsafe { ffi::Py_INCREF(code) };
    }
    let stack = Rc::new(Stack { places: places.into() });
    LAST.0.set(Some(Rc::clone(&stack)));
    // Dropping code objects runs no Python code, unless somebody has weak references to them.
    drop(last);
    Some(stack)
}

/// One line of a greenlet's spawning stack. It has what the module traceback reads of frames.
#[pyclass(frozen, name = "_SpawnFrame", module = "greenloop._core")]
pub struct SpawnFrame {
    stack: Rc<Stack>,
    index: usize,
}

// SAFETY: as for `Sync`.
unsafe impl Send for SpawnFrame {}
// SAFETY: touched with the GIL held.
unsafe impl Sync for SpawnFrame {}

impl SpawnFrame {
    pub fn innermost(stack: Rc<Stack>) -> Self {
        Self { stack, index: 0 }
    }

    fn offset(&self) -> isize {
        let (code, address) = self.stack.places[self.index];
        // SAFETY: a code object, owned by the stack.
        unsafe { pystate::offset_in_code(code, address) }
    }
}

#[pymethods]
impl SpawnFrame {
    /// The code object.
    #[getter]
    fn f_code<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        // SAFETY: owned by the stack.
        unsafe { Bound::from_borrowed_ptr(py, self.stack.places[self.index].0) }
    }

    /// The line number.
    #[getter]
    fn f_lineno(&self) -> c_int {
        let code = self.stack.places[self.index].0;
        // SAFETY: a code object, owned by the stack.
        unsafe { ffi::PyCode_Addr2Line(code.cast(), self.offset() as c_int) }
    }

    /// The offset of the instruction in the code, in bytes.
    #[getter]
    fn f_lasti(&self) -> isize {
        self.offset()
    }

    /// The line that called this one; None for the outermost one that was kept.
    #[getter]
    fn f_back(&self) -> Option<Self> {
        let index = self.index + 1;
        (index < self.stack.places.len()).then(|| Self { stack: Rc::clone(&self.stack), index })
    }

    /// None: variables are not kept.
    #[getter]
    fn f_globals(&self) -> Option<bool> {
        None
    }

    /// Empty: variables are not kept.
    #[getter]
    fn f_locals<'py>(&self, py: Python<'py>) -> Bound<'py, PyDict> {
        PyDict::new(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let code = self.f_code(py);
        Ok(format!(
            "<spawn frame, file {}, line {}, code {}>",
            code.getattr("co_filename")?.repr()?,
            self.f_lineno(),
            code.getattr("co_name")?
        ))
    }
}

/// How many frames to keep for a greenlet of class `kind`: its attribute `spawning_stack_limit`.
#[inline]
pub fn limit_of(py: Python<'_>, kind: *mut ffi::PyTypeObject) -> PyResult<usize> {
    // Changing a class's attributes takes its version away.
    // SAFETY: a valid type.
    let version = unsafe { (*kind).tp_version_tag };
    let (known, known_version, limit) = KNOWN.0.get();
    if known == kind && known_version == version && version != 0 {
        return Ok(limit);
    }
    look_up_limit(py, kind)
}

/// The class whose limit was looked up last, its version then, and the limit.
struct Known(Cell<(*mut ffi::PyTypeObject, std::ffi::c_uint, usize)>);

// SAFETY: touched with the GIL held only.
unsafe impl Sync for Known {}

static KNOWN: Known = Known(Cell::new((ptr::null_mut(), 0, 0)));

#[cold]
fn look_up_limit(py: Python<'_>, kind: *mut ffi::PyTypeObject) -> PyResult<usize> {
    // SAFETY: a valid type.
    let class = unsafe { Bound::from_borrowed_ptr(py, kind.cast()) };
    let value = class.getattr(pyo3::intern!(py, "spawning_stack_limit"))?;
    let limit = if value.is_none() { 0 } else { value.extract::<isize>()?.max(0) as usize };
    // SAFETY: a valid type; looking something up has given it a version, if it can have one.
    KNOWN.0.set((kind, unsafe { (*kind).tp_version_tag }, limit));
    Ok(limit)
}

fn tree_locals_name(py: Python<'_>) -> &Bound<'_, PyString> {
    static NAME: PyOnceLock<Py<PyString>> = PyOnceLock::new();
    NAME.get_or_init(py, || PyString::intern(py, "spawn_tree_locals").unbind()).bind(py)
}

/// The dict that what is spawned by `spawner` shares with it: a new reference, null for a dict of
/// its own (the main greenlet's children are roots), null with an exception set if there is no
/// memory.
///
/// # Safety
///
/// The GIL is held.
pub unsafe fn shared_tree_locals(spawner: &PyGreenlet) -> Object {
    // SAFETY: valid objects; dicts and strings.
    unsafe {
        let object = spawner.as_ptr();
        if is_task(object) {
            return (*object.cast::<TaskObject>()).origin.tree_locals_owned();
        }
        if let Some(origin) = super::tracked_raw::origin_of(object) {
            return origin.tree_locals_owned();
        }
        if spawner.is_main() {
            return ptr::null_mut();
        }
        // A raw greenlet or the hub: an attribute of theirs.
        if spawner.dict.get().is_null() {
            spawner.dict.set(ffi::PyDict_New());
            if spawner.dict.get().is_null() {
                return ptr::null_mut();
            }
        }
        let name = tree_locals_name(Python::assume_attached()).as_ptr();
        let dict = spawner.dict.get();
        let found = ffi::PyDict_GetItemWithError(dict, name);
        if !found.is_null() {
            if ffi::PyDict_Check(found) == 0 {
                return ptr::null_mut();
            }
            ffi::Py_INCREF(found);
            return found;
        }
        let made = ffi::PyDict_New();
        if made.is_null() || ffi::PyDict_SetItem(dict, name, made) != 0 {
            ffi::Py_XDECREF(made);
            return ptr::null_mut();
        }
        made
    }
}

/// Who made a greenlet, and the dict that its tree of spawning shares. Owned references or null.
pub struct Origin {
    /// A weak reference.
    pub spawner: Cell<Object>,
    /// Null until somebody needs it.
    tree_locals: Cell<Object>,
    /// Whether the program has said that there is to be none.
    without_locals: Cell<bool>,
}

impl Origin {
    pub const fn new() -> Self {
        Self {
            spawner: Cell::new(ptr::null_mut()),
            tree_locals: Cell::new(ptr::null_mut()),
            without_locals: Cell::new(false),
        }
    }

    /// Notes that `spawner` has just made the greenlet. False with an exception set if there is no
    /// memory.
    ///
    /// # Safety
    ///
    /// The GIL is held.
    #[inline]
    pub unsafe fn note(&self, spawner: &PyGreenlet) -> bool {
        if !is_tracking() {
            self.without_locals.set(true);
            return true;
        }
        // SAFETY: valid objects.
        unsafe {
            // The same weak reference for all that one greenlet spawns: the interpreter shares it.
            let weak = ffi::PyWeakref_NewRef(spawner.as_ptr(), ptr::null_mut());
            self.spawner.set(weak);
            if !weak.is_null() && !spawner.is_main() {
                self.tree_locals.set(shared_tree_locals(spawner));
                return !self.tree_locals.get().is_null() || ffi::PyErr_Occurred().is_null();
            }
            !weak.is_null()
        }
    }

    /// The dict: borrowed, made if there is none yet; null if there is to be none, and with an
    /// exception set if there is no memory.
    pub fn tree_locals(&self) -> Object {
        if self.tree_locals.get().is_null() && !self.without_locals.get() {
            // SAFETY: makes a dict.
            self.tree_locals.set(unsafe { ffi::PyDict_New() });
        }
        self.tree_locals.get()
    }

    /// As `tree_locals`, but a new reference.
    pub fn tree_locals_owned(&self) -> Object {
        let locals = self.tree_locals();
        // SAFETY: a valid object or null.
        unsafe { ffi::Py_XINCREF(locals) };
        locals
    }

    /// Sets the dict; null or None for none.
    pub fn set_tree_locals(&self, value: Object) {
        // SAFETY: a valid object or null; the old reference is dropped after it was replaced.
        unsafe {
            let value = if value == ffi::Py_None() { ptr::null_mut() } else { value };
            self.without_locals.set(value.is_null());
            ffi::Py_XINCREF(value);
            ffi::Py_XDECREF(self.tree_locals.replace(value));
        }
    }

    /// For `tp_traverse`.
    ///
    /// # Safety
    ///
    /// As the interpreter calls `tp_traverse`.
    pub unsafe fn traverse(&self, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
        for object in [self.spawner.get(), self.tree_locals.get()] {
            if !object.is_null() {
                // SAFETY: valid objects.
                let status = unsafe { visit(object, arg) };
                if status != 0 {
                    return status;
                }
            }
        }
        0
    }

    /// Drops the references.
    pub fn clear(&self) {
        // SAFETY: owned references, each cleared before it is dropped.
        unsafe {
            ffi::Py_XDECREF(self.spawner.replace(ptr::null_mut()));
            ffi::Py_XDECREF(self.tree_locals.replace(ptr::null_mut()));
        }
    }
}
