//! The C stack's limits in the thread state, of CPython 3.14 and later.

use super::ThreadState;
use super::layout;
use greenloop_stack::Home;
use std::cell::Cell;

/// What the interpreter knows of the C stack it runs on.
///
/// Were they not swapped, the interpreter would see a stack pointer outside the stack it knows:
/// up to 3.14 it then takes every call for an overflow or none, and nested objects are kept for
/// later (the trashcan) that should be freed at once.
pub struct CStack {
    top: Cell<usize>,
    soft_limit: Cell<usize>,
    hard_limit: Cell<usize>,
}

impl CStack {
    pub const fn new() -> Self {
        Self { top: Cell::new(0), soft_limit: Cell::new(0), hard_limit: Cell::new(0) }
    }

    /// The limits that the interpreter gives a thread whose stack is the home's.
    pub fn begin(&self, home: Home) {
        let top = home.middle as usize;
        let base = top - home.stack_size;
        self.top.set(top);
        self.hard_limit.set(base + layout::C_STACK_MARGIN);
        self.soft_limit.set(base + 2 * layout::C_STACK_MARGIN);
    }

    /// # Safety
    ///
    /// `ts` is the running thread's.
    #[inline(always)]
    pub unsafe fn save(&self, ts: ThreadState) {
        // SAFETY: fields of the running thread's state.
        unsafe {
            self.top.set(*ts.at(layout::TS_C_STACK_TOP));
            self.soft_limit.set(*ts.at(layout::TS_C_STACK_SOFT_LIMIT));
            self.hard_limit.set(*ts.at(layout::TS_C_STACK_HARD_LIMIT));
        }
    }

    /// # Safety
    ///
    /// `ts` is the running thread's, and this was saved or begun.
    #[inline(always)]
    pub unsafe fn load(&self, ts: ThreadState) {
        // SAFETY: fields of the running thread's state.
        unsafe {
            *ts.at(layout::TS_C_STACK_TOP) = self.top.get();
            *ts.at(layout::TS_C_STACK_SOFT_LIMIT) = self.soft_limit.get();
            *ts.at(layout::TS_C_STACK_HARD_LIMIT) = self.hard_limit.get();
        }
    }
}
