//! CPython 3.13: the current frame is in the thread state; C recursion is counted on its own.

use super::c_recursion::scaled;
use super::layout;
use super::{Shift, ThreadState};
use greenloop_stack::Home;
use std::cell::Cell;
use std::ptr;

pub struct Versioned {
    current_frame: Cell<*mut u8>,
    critical_section: Cell<usize>,
    /// Python calls deep: kept as a depth, because the limit may be changed meanwhile.
    depth: Cell<i32>,
    c_recursion_remaining: Cell<i32>,
}

impl Versioned {
    pub const fn new() -> Self {
        Self {
            current_frame: Cell::new(ptr::null_mut()),
            critical_section: Cell::new(0),
            depth: Cell::new(0),
            c_recursion_remaining: Cell::new(0),
        }
    }

    /// # Safety
    ///
    /// `ts` is the running thread's.
    pub unsafe fn begin(&self, _ts: ThreadState, home: Home) {
        self.c_recursion_remaining.set(scaled(layout::C_RECURSION_LIMIT as i32, home.stack_size));
    }

    /// # Safety
    ///
    /// `ts` is the running thread's.
    #[inline(always)]
    pub unsafe fn save(&self, ts: ThreadState) {
        // SAFETY: fields of the running thread's state.
        unsafe {
            self.current_frame.set(*ts.at(layout::TS_CURRENT_FRAME));
            self.critical_section.set(*ts.at(layout::TS_CRITICAL_SECTION));
            let limit: i32 = *ts.at(layout::TS_RECURSION_LIMIT);
            self.depth.set(limit - *ts.at::<i32>(layout::TS_RECURSION_REMAINING));
            self.c_recursion_remaining.set(*ts.at(layout::TS_C_RECURSION_REMAINING));
        }
    }

    /// # Safety
    ///
    /// `ts` is the running thread's, and this was saved or begun.
    #[inline(always)]
    pub unsafe fn load(&self, ts: ThreadState) {
        // SAFETY: fields of the running thread's state.
        unsafe {
            *ts.at(layout::TS_CURRENT_FRAME) = self.current_frame.get();
            *ts.at(layout::TS_CRITICAL_SECTION) = self.critical_section.get();
            let limit: i32 = *ts.at(layout::TS_RECURSION_LIMIT);
            *ts.at::<i32>(layout::TS_RECURSION_REMAINING) = limit - self.depth.get();
            *ts.at(layout::TS_C_RECURSION_REMAINING) = self.c_recursion_remaining.get();
        }
    }

    /// # Safety
    ///
    /// The greenlet is suspended.
    pub unsafe fn top_frame(&self, _shift: Shift) -> *mut u8 {
        self.current_frame.get()
    }
}

/// # Safety
///
/// `ts` is the running thread's; the frame is valid or put back before the interpreter looks.
pub unsafe fn replace_current_frame(ts: ThreadState, frame: *mut u8) -> *mut u8 {
    // SAFETY: a field of the running thread's state.
    unsafe { ptr::replace(ts.at(layout::TS_CURRENT_FRAME), frame) }
}
