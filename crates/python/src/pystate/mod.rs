//! What of the interpreter's thread state belongs to a greenlet, and how a switch carries it.
//!
//! [`PyState`] holds one greenlet's share while the greenlet does not run. What every supported
//! CPython has in common is here; what differs is one file per version (`Versioned`), chosen at
//! build time. Offsets come from the headers of the interpreter built against (`build.rs`).
//!
//! Saved and loaded on every version: the handled-exception stack, the context, the frame data
//! stack, the recursion depth. The frame data stack of a greenlet starts in the data area of its
//! stack slot (see `greenloop_stack`), as a root chunk that CPython takes for its own and never
//! frees, because it has no previous chunk.

pub mod asyncio;
#[cfg(not(Py_3_14))]
mod c_recursion;
#[cfg(Py_3_14)]
mod c_stack;
mod datastack;
mod frames;
mod give_up;
#[cfg(not(Py_3_13))]
mod on_delete;
#[cfg_attr(cpython = "3.11", path = "v3_11.rs")]
#[cfg_attr(cpython = "3.12", path = "v3_12.rs")]
#[cfg_attr(cpython = "3.13", path = "v3_13.rs")]
#[cfg_attr(cpython = "3.14", path = "v3_14.rs")]
#[cfg_attr(cpython = "3.15", path = "v3_15.rs")]
mod version;

#[allow(dead_code, reason = "each version uses its own subset")]
pub mod layout {
    include!(concat!(env!("OUT_DIR"), "/layout.rs"));
}

use greenloop_stack::Home;
use pyo3::ffi;
use std::cell::Cell;
use std::ptr;
use version::Versioned;

#[cfg(not(Py_3_13))]
pub use on_delete::OnDelete;

#[cfg(cpython = "3.15")]
pub use frames::cut_base;
pub use frames::{frame_object, moved_in, moved_out, offset_in_code, running_places};

/// A field of a structure whose layout only the headers know.
///
/// # Safety
///
/// `base + offset` must be a valid, aligned place for a `T` inside the object at `base`.
#[inline(always)]
unsafe fn field<T>(base: *const u8, offset: usize) -> *mut T {
    // SAFETY: passed on from the caller.
    unsafe { base.add(offset).cast::<T>().cast_mut() }
}

/// `PyThreadState`, seen through offsets.
#[derive(Clone, Copy)]
pub struct ThreadState(*mut u8);

impl ThreadState {
    pub fn new(state: *mut ffi::PyThreadState) -> Self {
        Self(state.cast())
    }

    pub fn as_ptr(self) -> *mut ffi::PyThreadState {
        self.0.cast()
    }

    #[inline(always)]
    fn at<T>(self, offset: usize) -> *mut T {
        // SAFETY: offsets named TS_* are those of fields of PyThreadState in the very headers
        // this was built against, and the running interpreter was checked to match them.
        unsafe { field(self.0, offset) }
    }
}

/// CPython's `_PyErr_StackItem`.
#[repr(C)]
struct ExcItem {
    value: *mut ffi::PyObject,
    previous: *mut ExcItem,
}

impl ExcItem {
    const NONE: Self = Self { value: ptr::null_mut(), previous: ptr::null_mut() };
}

/// A suspended greenlet's share of the thread state.
pub struct PyState {
    /// The greenlet's own bottom of the handled-exception stack.
    exc_item: Cell<ExcItem>,
    exc_info: Cell<*mut ExcItem>,
    /// Owned reference, or null.
    context: Cell<*mut ffi::PyObject>,
    /// Whether pointers to frames lead to the heap copy at present.
    relocated: Cell<bool>,
    datastack: datastack::Saved,
    versioned: Versioned,
}

impl PyState {
    pub const fn new() -> Self {
        Self {
            exc_item: Cell::new(ExcItem::NONE),
            exc_info: Cell::new(ptr::null_mut()),
            context: Cell::new(ptr::null_mut()),
            relocated: Cell::new(false),
            datastack: datastack::Saved::new(),
            versioned: Versioned::new(),
        }
    }

    /// Takes the running greenlet's share out of the thread state.
    ///
    /// # Safety
    ///
    /// `ts` is the running thread's state, and this is the running greenlet's.
    #[inline(always)]
    pub unsafe fn save(&self, ts: ThreadState) {
        // SAFETY: fields of the running thread's state, read by the thread itself.
        unsafe {
            self.exc_info.set(*ts.at(layout::TS_EXC_INFO));
            self.context.set(*ts.at(layout::TS_CONTEXT));
            self.datastack.save(ts);
            self.versioned.save(ts);
        }
    }

    /// Puts a suspended greenlet's share into the thread state.
    ///
    /// # Safety
    ///
    /// What was there has been saved (or is given up); the greenlet's stack is resident.
    #[inline(always)]
    pub unsafe fn load(&self, ts: ThreadState) {
        // SAFETY: fields of the running thread's state, written by the thread itself.
        unsafe {
            *ts.at(layout::TS_EXC_INFO) = self.exc_info.get();
            *ts.at(layout::TS_CONTEXT) = self.context.replace(ptr::null_mut());
            *ts.at::<u64>(layout::TS_CONTEXT_VER) += 1;
            self.datastack.load(ts);
            self.versioned.load(ts);
        }
    }

    /// Makes this the state of a greenlet that has not run yet and whose home is `home`.
    ///
    /// # Safety
    ///
    /// The home is the greenlet's and unused; this object does not move from now on. `ts` is the
    /// running thread's.
    pub unsafe fn begin(&self, ts: ThreadState, home: Home) {
        self.exc_info.set(self.exc_item.as_ptr());
        // SAFETY: the data area of the home is unused.
        unsafe {
            self.datastack.begin(home);
            self.versioned.begin(ts, home);
        }
    }

    /// One past the last used byte of the data area while suspended.
    ///
    /// # Safety
    ///
    /// The greenlet is suspended and resident.
    pub unsafe fn data_end(&self) -> *mut u8 {
        // SAFETY: passed on from the caller.
        unsafe { self.datastack.used_end() }
    }

    /// Takes what frame objects can own of a greenlet that is given up without unwinding, and
    /// frees what the interpreter allocated for its frames outside the home. Returns references
    /// to be dropped when the home is gone, which can run any code. With `all` false only frames
    /// that are reached from outside are taken, and nothing new is made.
    ///
    /// # Safety
    ///
    /// The greenlet is suspended and will never run again; `ts` is the running thread's; `shift`
    /// tells where its stack lies.
    pub unsafe fn abandon(
        &self,
        ts: ThreadState,
        shift: Shift,
        all: bool,
    ) -> Vec<*mut ffi::PyObject> {
        // SAFETY: passed on from the caller. The exception that was being handled is an owned
        // reference or null.
        unsafe {
            let mut taken = give_up::take_frames(self, ts, shift, all);
            self.datastack.free_outer_chunks(shift);
            let ExcItem { value, .. } = self.exc_item.replace(ExcItem::NONE);
            if all && !value.is_null() {
                taken.push(value);
            }
            taken
        }
    }

    /// The context of a suspended greenlet: borrowed, null for an empty one.
    pub fn context(&self) -> *mut ffi::PyObject {
        self.context.get()
    }

    /// Replaces the context of a suspended greenlet; takes and returns owned references.
    pub fn replace_context(&self, context: *mut ffi::PyObject) -> *mut ffi::PyObject {
        self.context.replace(context)
    }

    /// The innermost frame of a suspended greenlet, at its address in the home; may be null.
    ///
    /// # Safety
    ///
    /// The greenlet is suspended. `shift` is where its stack lies relative to its home.
    pub unsafe fn top_frame(&self, shift: Shift) -> *mut u8 {
        // SAFETY: passed on from the caller.
        unsafe { self.versioned.top_frame(shift) }
    }
}

/// What `sys.settrace` or its equivalent in C has set for the thread: borrowed, may be null.
///
/// # Safety
///
/// `ts` is the running thread's.
#[inline(always)]
pub unsafe fn trace_object(ts: ThreadState) -> *mut ffi::PyObject {
    // SAFETY: a field of the running thread's state.
    unsafe { *ts.at(layout::TS_TRACE_OBJECT) }
}

/// Whether functions are set that the interpreter calls for what the running thread does
/// (`sys.setprofile`, `sys.settrace`).
pub fn is_traced() -> (bool, bool) {
    // SAFETY: the GIL is held: there is a thread state. Pointers to functions, or null.
    unsafe {
        let ts = ThreadState::new(ffi::PyThreadState_Get());
        let profile: *const u8 = *ts.at(layout::TS_PROFILE_FUNC);
        let trace: *const u8 = *ts.at(layout::TS_TRACE_FUNC);
        (!profile.is_null(), !trace.is_null())
    }
}

/// The context of the running greenlet, through the thread state: borrowed, may be null.
///
/// # Safety
///
/// `ts` is the running thread's.
pub unsafe fn running_context(ts: ThreadState) -> *mut ffi::PyObject {
    // SAFETY: a field of the running thread's state.
    unsafe { *ts.at(layout::TS_CONTEXT) }
}

/// Replaces the running greenlet's context; takes and returns owned references.
///
/// # Safety
///
/// `ts` is the running thread's.
pub unsafe fn replace_running_context(
    ts: ThreadState,
    context: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: fields of the running thread's state; the version tells context variables that
    // their caches are out of date.
    unsafe {
        *ts.at::<u64>(layout::TS_CONTEXT_VER) += 1;
        ptr::replace(ts.at(layout::TS_CONTEXT), context)
    }
}

/// How many deallocations are nested in the running greenlet, by the interpreter's count.
///
/// # Safety
///
/// `ts` is the running thread's.
#[cfg(any(cpython = "3.11", cpython = "3.12"))]
pub unsafe fn trash_nesting(ts: ThreadState) -> std::ffi::c_int {
    // SAFETY: a field of the running thread's state.
    unsafe { *ts.at(layout::TS_TRASH_NESTING) }
}

/// Where the bytes of a stack range are: addresses in `low..high` are found `by` further.
#[derive(Clone, Copy)]
pub struct Shift {
    pub low: usize,
    pub high: usize,
    pub by: isize,
}

impl Shift {
    /// Everything is where its address says.
    pub const NONE: Self = Self { low: 0, high: 0, by: 0 };

    /// The place of what the address names.
    #[inline]
    pub fn place<T>(self, address: *mut T) -> *mut T {
        if (self.low..self.high).contains(&(address as usize)) {
            address.wrapping_byte_offset(self.by)
        } else {
            address
        }
    }
}

/// Refuses to load into an interpreter whose structures may differ from the headers built
/// against.
pub fn check_interpreter() -> Result<(), String> {
    // SAFETY: a constant that the interpreter sets before it runs anything.
    let running = unsafe { ffi::Py_Version } as usize;
    let built = layout::HEADER_VERSION;
    // The lowest byte names the release level and serial (candidates), the next the micro release.
    if running == built {
        return Ok(());
    }
    let show =
        |v: usize| format!("{}.{}.{} (0x{v:08x})", v >> 24 & 0xff, v >> 16 & 0xff, v >> 8 & 0xff);
    Err(format!(
        "greenloop was built for CPython {}, but this is CPython {}. Greenlets keep interpreter \
         state whose layout changes between micro releases: build greenloop again with this \
         interpreter (pip install --force-reinstall --no-cache-dir --no-binary greenloop greenloop)",
        show(built),
        show(running)
    ))
}
