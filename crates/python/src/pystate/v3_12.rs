//! CPython 3.12: the current frame is found through `cframe`, a chain on the C stack; C
//! recursion is counted on its own.

use super::c_recursion::scaled;
use super::layout;
use super::{Shift, ThreadState, field};
use greenloop_stack::Home;
use std::cell::{Cell, UnsafeCell};
use std::ptr;

pub struct Versioned {
    cframe: Cell<*mut u8>,
    /// The greenlet's own bottom of the `cframe` chain.
    root_cframe: UnsafeCell<[usize; layout::CFRAME_SIZE.div_ceil(size_of::<usize>())]>,
    trash_nesting: Cell<i32>,
    /// Python calls deep: kept as a depth, because the limit may be changed meanwhile.
    depth: Cell<i32>,
    c_recursion_remaining: Cell<i32>,
}

impl Versioned {
    pub const fn new() -> Self {
        Self {
            cframe: Cell::new(ptr::null_mut()),
            root_cframe: UnsafeCell::new([0; layout::CFRAME_SIZE.div_ceil(size_of::<usize>())]),
            trash_nesting: Cell::new(0),
            depth: Cell::new(0),
            c_recursion_remaining: Cell::new(0),
        }
    }

    /// # Safety
    ///
    /// `ts` is the running thread's.
    pub unsafe fn begin(&self, _ts: ThreadState, home: Home) {
        // All zero: no current frame and no previous cframe.
        self.cframe.set(self.root_cframe.get().cast());
        self.c_recursion_remaining.set(scaled(layout::C_RECURSION_LIMIT as i32, home.stack_size));
    }

    /// # Safety
    ///
    /// `ts` is the running thread's.
    #[inline(always)]
    pub unsafe fn save(&self, ts: ThreadState) {
        // SAFETY: fields of the running thread's state.
        unsafe {
            self.cframe.set(*ts.at(layout::TS_CFRAME));
            self.trash_nesting.set(*ts.at(layout::TS_TRASH_NESTING));
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
            *ts.at(layout::TS_CFRAME) = self.cframe.get();
            *ts.at(layout::TS_TRASH_NESTING) = self.trash_nesting.get();
            let limit: i32 = *ts.at(layout::TS_RECURSION_LIMIT);
            *ts.at::<i32>(layout::TS_RECURSION_REMAINING) = limit - self.depth.get();
            *ts.at(layout::TS_C_RECURSION_REMAINING) = self.c_recursion_remaining.get();
        }
    }

    /// # Safety
    ///
    /// The greenlet is suspended and `shift` tells where its stack lies.
    pub unsafe fn top_frame(&self, shift: Shift) -> *mut u8 {
        let cframe = shift.place(self.cframe.get());
        if cframe.is_null() {
            return ptr::null_mut();
        }
        // SAFETY: the cframe lies in the greenlet's object or in its suspended stack.
        unsafe { *field(cframe, layout::CFRAME_CURRENT_FRAME) }
    }
}

/// # Safety
///
/// `ts` is the running thread's; the frame is valid or put back before the interpreter looks.
pub unsafe fn replace_current_frame(ts: ThreadState, frame: *mut u8) -> *mut u8 {
    // SAFETY: the running thread's cframe is valid.
    unsafe {
        let cframe: *mut u8 = *ts.at(layout::TS_CFRAME);
        ptr::replace(field(cframe, layout::CFRAME_CURRENT_FRAME), frame)
    }
}
