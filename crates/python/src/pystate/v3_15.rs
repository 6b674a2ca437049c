//! CPython 3.15: as 3.14, and frame chains end at a base frame that belongs to the thread.

use super::c_stack::CStack;
use super::layout;
use super::{Shift, ThreadState, field};
use greenloop_stack::Home;
use pyo3::ffi;
use std::cell::Cell;
use std::ffi::c_int;
use std::ptr;

pub struct Versioned {
    current_frame: Cell<*mut u8>,
    current_executor: Cell<*mut u8>,
    critical_section: Cell<usize>,
    c_stack: CStack,
    /// Python calls deep: kept as a depth, because the limit may be changed meanwhile.
    depth: Cell<i32>,
    /// Whether the generator that ran last yielded or returned. The interpreter notes it before
    /// it clears the generator's frame, which can run a destructor that switches, and reads it
    /// after.
    generator_return_kind: Cell<i32>,
    /// The version of the monitoring events in force, as the thread state had it.
    monitoring_version: Cell<usize>,
}

impl Versioned {
    pub const fn new() -> Self {
        Self {
            current_frame: Cell::new(ptr::null_mut()),
            current_executor: Cell::new(ptr::null_mut()),
            critical_section: Cell::new(0),
            c_stack: CStack::new(),
            depth: Cell::new(0),
            generator_return_kind: Cell::new(0),
            monitoring_version: Cell::new(0),
        }
    }

    /// # Safety
    ///
    /// `ts` is the running thread's.
    pub unsafe fn begin(&self, ts: ThreadState, home: Home) {
        // Sampling profilers hold a chain that does not end at this frame for torn.
        // SAFETY: a field of the running thread's state, set when the thread began.
        self.current_frame.set(unsafe { *ts.at(layout::TS_BASE_FRAME) });
        self.c_stack.begin(home);
        // SAFETY: passed on from the caller.
        self.monitoring_version.set(unsafe { monitoring_version(ts) });
    }

    /// # Safety
    ///
    /// `ts` is the running thread's.
    #[inline(always)]
    pub unsafe fn save(&self, ts: ThreadState) {
        // SAFETY: fields of the running thread's state.
        unsafe {
            self.current_frame.set(*ts.at(layout::TS_CURRENT_FRAME));
            self.current_executor.set(*ts.at(layout::TS_CURRENT_EXECUTOR));
            self.critical_section.set(*ts.at(layout::TS_CRITICAL_SECTION));
            self.c_stack.save(ts);
            let limit: i32 = *ts.at(layout::TS_RECURSION_LIMIT);
            self.depth.set(limit - *ts.at::<i32>(layout::TS_RECURSION_REMAINING));
            self.monitoring_version.set(monitoring_version(ts));
            self.generator_return_kind.set(*ts.at(layout::TS_GENERATOR_RETURN_KIND));
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
            *ts.at(layout::TS_CURRENT_EXECUTOR) = self.current_executor.get();
            *ts.at(layout::TS_CRITICAL_SECTION) = self.critical_section.get();
            self.c_stack.load(ts);
            let limit: i32 = *ts.at(layout::TS_RECURSION_LIMIT);
            *ts.at::<i32>(layout::TS_RECURSION_REMAINING) = limit - self.depth.get();
            *ts.at(layout::TS_GENERATOR_RETURN_KIND) = self.generator_return_kind.get();
            // A sampling profiler keeps the frames below the one it names here from its last
            // look. Another greenlet's frame can lie at the same address.
            *ts.at(layout::TS_LAST_PROFILED_FRAME) = ptr::null_mut::<u8>();
            if self.monitoring_version.get() != monitoring_version(ts) {
                instrument(self.current_frame.get());
            }
        }
    }

    /// For a greenlet that has no frames and whose thread goes.
    pub fn forget_frames(&self) {
        self.current_frame.set(ptr::null_mut());
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
/// `ts` is the running thread's.
#[inline(always)]
unsafe fn monitoring_version(ts: ThreadState) -> usize {
    // SAFETY: a field of the running thread's state: the version in the high bits, events in the
    // low ones.
    unsafe { *ts.at::<usize>(layout::TS_EVAL_BREAKER) & !layout::EVAL_EVENTS_MASK }
}

/// Brings the code of suspended frames up to date with the events that are monitored.
///
/// The interpreter does this with the code of all running frames when the events change. It does
/// not see frames of suspended greenlets, and dereferences null when an exception leaves code that
/// it has not brought up to date.
///
/// # Safety
///
/// `frame` starts the chain of a greenlet that is about to run and is resident.
#[cold]
unsafe fn instrument(mut frame: *mut u8) {
    unsafe extern "C" {
        fn _Py_Instrument(code: *mut ffi::PyObject, interp: *mut ffi::PyInterpreterState) -> c_int;
    }
    while !frame.is_null() {
        // SAFETY: frames of a resident chain; their executable is a tagged reference to an object.
        unsafe {
            let tagged: usize = *field(frame, layout::FRAME_CODE);
            let code = (tagged & !layout::STACKREF_TAG_BITS) as *mut ffi::PyObject;
            // The call allocates but runs no Python code. An exception that is on its way into
            // the greenlet is kept from the one that a lack of memory would raise.
            if !code.is_null() && ffi::PyCode_Check(code) != 0 {
                let raised = ffi::PyErr_GetRaisedException();
                if _Py_Instrument(code, ffi::PyInterpreterState_Get()) != 0 {
                    ffi::PyErr_WriteUnraisable(code);
                }
                ffi::PyErr_SetRaisedException(raised);
            }
            frame = *field(frame, layout::FRAME_PREVIOUS);
        }
    }
}

/// # Safety
///
/// `ts` is the running thread's; the frame is valid or put back before the interpreter looks.
pub unsafe fn replace_current_frame(ts: ThreadState, frame: *mut u8) -> *mut u8 {
    // SAFETY: a field of the running thread's state.
    unsafe { ptr::replace(ts.at(layout::TS_CURRENT_FRAME), frame) }
}
