//! CPython 3.13 and later: the running loop is a field of the thread state.

use super::super::{ThreadState, layout};
use super::{Object, Owned};
use std::cell::Cell;
use std::ptr;

/// Compares the field with null.
pub struct Watch {
    field: Cell<*const Object>,
    /// The field, or a word that is never null: see `looked`.
    place: Cell<*const Object>,
}

/// A word that stays what it is.
struct Word(Object);

// SAFETY: never written, and nothing is read where it may lead.
unsafe impl Sync for Word {}

static NOWHERE: Word = Word(ptr::null_mut());
static NOTICED: Word = Word(ptr::dangling_mut());

impl Watch {
    /// One that never notices anything.
    pub const fn new() -> Self {
        Self { field: Cell::new(&raw const NOWHERE.0), place: Cell::new(&raw const NOWHERE.0) }
    }

    /// Begins to watch the calling thread.
    ///
    /// # Safety
    ///
    /// `ts` is the calling thread's. `detach` is called before it is freed.
    pub unsafe fn attach(&self, ts: ThreadState) {
        self.field.set(ts.at(layout::TS_ASYNCIO_RUNNING_LOOP));
        self.place.set(self.field.get());
    }

    pub fn detach(&self) {
        self.field.set(&raw const NOWHERE.0);
        self.place.set(&raw const NOWHERE.0);
    }

    /// Whether there may be a running loop.
    #[inline(always)]
    pub fn notices(&self) -> bool {
        // SAFETY: a field of the state of a thread that runs, or a static.
        unsafe { !(*self.place.get()).is_null() }
    }

    /// Ends a look. The field says itself whether a loop is set; but where one is running the next
    /// switch has to look in any case: it may have been hidden meanwhile, in the middle of a task.
    pub fn looked(&self, running: bool) {
        self.place.set(if running { &raw const NOTICED.0 } else { self.field.get() });
    }
}

/// The running loop: borrowed, null if there is none.
///
/// # Safety
///
/// `ts` is the running thread's.
pub unsafe fn running_loop(ts: ThreadState) -> Object {
    // SAFETY: a field of the running thread's state.
    let running: Object = unsafe { *ts.at(layout::TS_ASYNCIO_RUNNING_LOOP) };
    // SAFETY: None lives forever.
    if running == unsafe { pyo3::ffi::Py_None() } { ptr::null_mut() } else { running }
}

/// Sets the running loop, or none if it is null, instead of `old`, which is returned. Never fails
/// here.
///
/// # Safety
///
/// `ts` is the running thread's and `old` its running loop, or null if there is none.
pub unsafe fn replace_running_loop(
    ts: ThreadState,
    _old: Object,
    new: Owned,
) -> Result<Owned, Object> {
    // SAFETY: a field of the running thread's state, which owns the reference in it.
    Ok(unsafe {
        Owned::from_ptr(ptr::replace(ts.at(layout::TS_ASYNCIO_RUNNING_LOOP), new.into_ptr()))
    })
}
