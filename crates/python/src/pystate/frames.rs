//! Pointers that follow a suspended greenlet's frames when its stack is moved.
//!
//! Frames lie in the part of the stack that eviction copies. From outside they are reached by
//! two ways only: a frame object (its `f_frame`), and a generator that was called from one of
//! them (`previous` of the generator's frame, which `gi_frame.f_back` follows). While a stack is
//! evicted, both must lead to the copy; the `previous` links inside the copy must too. If no
//! frame of the chain has a frame object and none belongs to a generator, nobody can get there
//! and nothing has to be done.

use super::layout;
use super::{PyState, Shift, ThreadState, field, version};
use pyo3::ffi;

/// Whose a frame is, as `_PyInterpreterFrame.owner` says.
pub(super) fn owner(frame: *mut u8) -> usize {
    // SAFETY: callers pass frames of a live chain.
    usize::from(unsafe { *field::<u8>(frame, layout::FRAME_OWNER) })
}

pub(super) fn previous(frame: *mut u8) -> *mut *mut u8 {
    // SAFETY: callers pass frames of a live chain.
    unsafe { field(frame, layout::FRAME_PREVIOUS) }
}

/// The frame object of a frame, or null. Frames that the interpreter keeps on the C stack
/// (entry frames of 3.12 and later) have none: the field is not even initialised.
pub(super) fn object_of(frame: *mut u8) -> *mut u8 {
    if matches!(owner(frame), layout::OWNED_BY_THREAD | layout::OWNED_BY_GENERATOR) {
        // SAFETY: complete frames have this field.
        unsafe { *field(frame, layout::FRAME_FRAME_OBJ) }
    } else {
        std::ptr::null_mut()
    }
}

pub(super) fn set_object_frame(object: *mut u8, frame: *mut u8) {
    // SAFETY: `object` is the frame object of a live frame.
    unsafe { *field(object, layout::FRAME_OBJECT_F_FRAME) = frame };
}

/// Lets pointers to frames in a range that was just copied out lead to the copy. The chain is
/// read in the home, which still holds it.
///
/// # Safety
///
/// The greenlet is suspended, its bytes are both in the home and in the copy.
pub unsafe fn moved_out(state: &PyState, shift: Shift) {
    // SAFETY: the home still holds the chain.
    let top = unsafe { state.top_frame(Shift::NONE) };
    let mut frame = top;
    let mut reachable = false;
    while !frame.is_null() && !reachable {
        reachable = !object_of(frame).is_null() || owner(frame) == layout::OWNED_BY_GENERATOR;
        // SAFETY: a link of the chain.
        frame = unsafe { *previous(frame) };
    }
    if reachable {
        // SAFETY: passed on from the caller.
        unsafe { point_to_copy(top, shift) };
        state.relocated.set(true);
    }
}

/// # Safety
///
/// As for `moved_out`; `top` is an address in the home or outside the range.
pub(super) unsafe fn point_to_copy(top: *mut u8, shift: Shift) {
    let mut frame = top;
    while !frame.is_null() {
        let place = shift.place(frame);
        let object = object_of(place);
        if place != frame && !object.is_null() {
            set_object_frame(object, place);
        }
        let link = previous(place);
        // SAFETY: a link of the chain; the next frame is at its home address or outside.
        unsafe {
            frame = *link;
            *link = shift.place(frame);
        }
    }
}

/// Undoes `moved_out` after the bytes were copied home. Frame objects may have been made while
/// the stack was evicted, so the whole chain is looked at; links that were never shifted stay.
///
/// # Safety
///
/// The bytes are home again, the copy is still there. `shift` is the one of `moved_out`.
pub unsafe fn moved_in(state: &PyState, shift: Shift) {
    if !state.relocated.replace(false) {
        return;
    }
    let back = Shift {
        low: shift.low.wrapping_add_signed(shift.by),
        high: shift.high.wrapping_add_signed(shift.by),
        by: -shift.by,
    };
    // SAFETY: the home holds the chain.
    let mut frame = unsafe { state.top_frame(Shift::NONE) };
    while !frame.is_null() {
        let object = object_of(frame);
        if !object.is_null() {
            set_object_frame(object, frame);
        }
        let link = previous(frame);
        // SAFETY: a link of the chain, which leads to the copy where it was shifted.
        unsafe {
            frame = back.place(*link);
            if *link != frame {
                *link = frame;
            }
        }
    }
}

/// The frame object of a suspended greenlet's innermost complete frame: a new reference, or null
/// without an exception where there is none.
///
/// Frame objects are made when they are asked for, not on every switch.
///
/// # Safety
///
/// The greenlet is suspended; `ts` is the running thread's; `shift` tells where its stack lies.
pub unsafe fn frame_object(state: &PyState, ts: ThreadState, shift: Shift) -> *mut ffi::PyObject {
    // SAFETY: for the moment of the call, the thread state names the suspended greenlet's frame
    // as the current one; the interpreter makes the object from it and runs no code. All links
    // lead to where the frames are.
    unsafe {
        let top = state.top_frame(shift);
        if top.is_null() {
            return std::ptr::null_mut();
        }
        if shift.by != 0 {
            point_to_copy(top, shift);
            state.relocated.set(true);
        }
        // Up to 3.11 allocating it can run the garbage collector, hence finalizers, hence anything.
        let collects = ffi::PyGC_Disable() != 0;
        let current = version::replace_current_frame(ts, shift.place(top));
        let object = ffi::PyThreadState_GetFrame(ts.as_ptr());
        version::replace_current_frame(ts, current);
        if collects {
            ffi::PyGC_Enable();
        }
        object.cast()
    }
}

/// Ends a suspended greenlet's chain of frames before the thread's base frame, which goes with the
/// thread.
///
/// # Safety
///
/// The greenlet is suspended; `ts` is its thread's, and still there; `shift` tells where its stack
/// lies.
#[cfg(cpython = "3.15")]
pub unsafe fn cut_base(state: &PyState, ts: ThreadState, shift: Shift) {
    // SAFETY: a field of a thread's state.
    let base: *mut u8 = unsafe { *ts.at(layout::TS_BASE_FRAME) };
    // SAFETY: passed on from the caller.
    let mut frame = unsafe { state.top_frame(shift) };
    if frame == base {
        state.versioned.forget_frames();
        return;
    }
    while !frame.is_null() {
        let link = previous(shift.place(frame));
        // SAFETY: a link of the chain.
        unsafe {
            if *link == base {
                *link = std::ptr::null_mut();
            }
            frame = *link;
        }
    }
}

/// The code of a frame: borrowed, null for the interpreter's own frames.
///
/// # Safety
///
/// A frame of the running chain.
#[inline(always)]
unsafe fn code_of(frame: *mut u8) -> *mut ffi::PyObject {
    if !matches!(owner(frame), layout::OWNED_BY_THREAD | layout::OWNED_BY_GENERATOR) {
        return std::ptr::null_mut();
    }
    // SAFETY: complete frames have this field. From 3.14 on it is a tagged reference.
    unsafe {
        #[cfg(Py_3_14)]
        {
            let tagged: usize = *field(frame, layout::FRAME_CODE);
            (tagged & !layout::STACKREF_TAG_BITS) as *mut ffi::PyObject
        }
        #[cfg(not(Py_3_14))]
        {
            *field(frame, layout::FRAME_CODE)
        }
    }
}

/// Fills `places` with where the running greenlet is, the innermost frame first: for each frame
/// its code (borrowed) and the address of the instruction that it is at. Returns how many there
/// are. No objects are made.
///
/// # Safety
///
/// `ts` is the running thread's.
#[inline]
pub unsafe fn running_places(ts: ThreadState, places: &mut [(*mut ffi::PyObject, usize)]) -> usize {
    let mut count = 0;
    // SAFETY: the chain of the frames that run now; nothing runs meanwhile.
    unsafe {
        let mut frame = current_frame(ts);
        while !frame.is_null() && count < places.len() {
            let code = code_of(frame);
            if !code.is_null() {
                places[count] = (code, *field::<usize>(frame, layout::FRAME_INSTRUCTION));
                count += 1;
            }
            frame = *previous(frame);
        }
    }
    count
}

/// # Safety
///
/// `ts` is the running thread's.
#[inline(always)]
unsafe fn current_frame(ts: ThreadState) -> *mut u8 {
    // SAFETY: fields of the running thread's state.
    unsafe {
        #[cfg(Py_3_13)]
        {
            *ts.at(layout::TS_CURRENT_FRAME)
        }
        #[cfg(not(Py_3_13))]
        {
            *field(*ts.at::<*mut u8>(layout::TS_CFRAME), layout::CFRAME_CURRENT_FRAME)
        }
    }
}

/// The offset, in bytes, of an instruction at an address within the instructions of its code.
///
/// # Safety
///
/// `code` is a code object.
pub unsafe fn offset_in_code(code: *mut ffi::PyObject, address: usize) -> isize {
    (address as isize) - (code as isize + layout::CODE_INSTRUCTIONS as isize)
}
