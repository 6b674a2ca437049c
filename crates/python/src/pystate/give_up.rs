//! Frames of a greenlet that is given up without being unwound.
//!
//! Their memory goes with the greenlet's stack, but a program may hold their frame objects, from
//! `gr_frame` or a traceback, and generators that were called from them lead to them. So frame
//! objects are made the owners of their frames, as the interpreter does when a function returns,
//! and give back what the frames own when nobody holds them any more.

use super::frames::{object_of, owner, point_to_copy, previous, set_object_frame};
use super::layout;
use super::{PyState, Shift, ThreadState, field, version};
use pyo3::ffi;
use std::ptr;

type Object = *mut ffi::PyObject;

/// How far the slots of a frame for locals and values are filled: noted while the frame is not
/// the one that the interpreter executes, or calls out of.
#[cfg(any(cpython = "3.11", cpython = "3.12", cpython = "3.13"))]
mod slots {
    use super::{Shift, field, layout};

    pub unsafe fn filled(frame: *mut u8, _shift: Shift) -> Option<usize> {
        // SAFETY: passed on from the caller: a complete frame.
        usize::try_from(unsafe { *field::<i32>(frame, layout::FRAME_STACKTOP) }).ok()
    }

    pub unsafe fn set_filled(frame: *mut u8, count: usize) {
        // SAFETY: as above. Frames have fewer slots than 2^31.
        unsafe { *field::<i32>(frame, layout::FRAME_STACKTOP) = count as i32 };
    }
}

#[cfg(not(any(cpython = "3.11", cpython = "3.12", cpython = "3.13")))]
mod slots {
    use super::{Shift, field, layout};

    pub unsafe fn filled(frame: *mut u8, shift: Shift) -> Option<usize> {
        // SAFETY: passed on from the caller: a complete frame.
        let pointer: *mut u8 = unsafe { *field(frame, layout::FRAME_STACKPOINTER) };
        // It was not moved with the frame, and can point one past what was.
        let pointer = shift.place(pointer.wrapping_sub(1)).wrapping_add(1);
        let base = frame.wrapping_add(layout::FRAME_LOCALSPLUS);
        (pointer.addr() > base.addr()).then(|| (pointer.addr() - base.addr()) / size_of::<usize>())
    }

    pub unsafe fn set_filled(frame: *mut u8, count: usize) {
        let end = frame.wrapping_add(layout::FRAME_LOCALSPLUS + count * size_of::<usize>());
        // SAFETY: as above.
        unsafe { *field::<*mut u8>(frame, layout::FRAME_STACKPOINTER) = end };
    }
}

/// Makes frame objects the owners of a suspended greenlet's frames; returns references to them,
/// to be dropped when the stack is gone. With `all` false, frames that have no object get none:
/// what they own is forgotten.
///
/// # Safety
///
/// The greenlet is suspended and will never run again, `shift` tells where its stack lies, and
/// `ts` is the running thread's.
pub unsafe fn take_frames(
    state: &PyState,
    ts: ThreadState,
    shift: Shift,
    all: bool,
) -> Vec<Object> {
    let mut owners = Vec::new();
    // SAFETY: a live chain of frames, whose links lead to where the frames are.
    unsafe {
        let top = state.top_frame(shift);
        if top.is_null() {
            return owners;
        }
        if shift.by != 0 {
            point_to_copy(top, shift);
            state.relocated.set(true);
        }
        let mut frame = shift.place(top);
        let mut inner: *mut u8 = ptr::null_mut();
        while !frame.is_null() {
            let outer = previous(frame).replace(ptr::null_mut());
            let mut object = object_of(frame);
            if owner(frame) == layout::OWNED_BY_THREAD {
                if object.is_null() && all {
                    object = make_object(ts, frame);
                }
                if !object.is_null() {
                    hand_over(frame, object, shift);
                    owners.push(object.cast());
                }
            }
            if !object.is_null() {
                if !inner.is_null() {
                    ffi::Py_INCREF(object.cast());
                    let back = field::<Object>(inner, layout::FRAME_OBJECT_BACK);
                    ffi::Py_XDECREF(back.replace(object.cast()));
                }
                // A generator is not called from anywhere any more.
                let called = owner(frame) == layout::OWNED_BY_THREAD;
                inner = if called { object } else { ptr::null_mut() };
            }
            frame = outer;
        }
    }
    owners
}

/// Makes the frame object of a frame, which keeps it: borrowed. Null for a frame that has not got
/// to its first instruction, and when memory is short.
///
/// # Safety
///
/// A frame whose links are cut, owned by its thread.
unsafe fn make_object(ts: ThreadState, frame: *mut u8) -> *mut u8 {
    // SAFETY: for the moment of the call, the thread state names the frame as the current one.
    // Nothing is run, as the garbage collector is held off.
    unsafe {
        let collects = ffi::PyGC_Disable() != 0;
        let current = version::replace_current_frame(ts, frame);
        let object = ffi::PyThreadState_GetFrame(ts.as_ptr());
        version::replace_current_frame(ts, current);
        if collects {
            ffi::PyGC_Enable();
        }
        if object.is_null() {
            ffi::PyErr_Clear();
        } else {
            ffi::Py_DECREF(object.cast());
        }
    }
    object_of(frame)
}

/// Moves a frame into its object. The frame's reference to the object is the caller's then.
///
/// # Safety
///
/// `object` is the frame object of `frame`, which is not used any more. `shift` tells where the
/// greenlet's stack lies.
unsafe fn hand_over(frame: *mut u8, object: *mut u8, shift: Shift) {
    // SAFETY: a frame object has room for its frame with all slots. What the frame owns is moved;
    // the values above its locals are known only if the frame called another one directly.
    unsafe {
        field::<*mut u8>(frame, layout::FRAME_FRAME_OBJ).write(ptr::null_mut());
        let code = ffi::PyFrame_GetCode(object.cast());
        let locals = *field::<i32>(code.cast(), layout::CODE_NLOCALSPLUS) as usize;
        ffi::Py_DECREF(code.cast());
        let filled = slots::filled(frame, shift).map_or(locals, |filled| filled.max(locals));
        let place = field::<u8>(object, layout::FRAME_OBJECT_DATA);
        let size = layout::FRAME_LOCALSPLUS + filled * size_of::<usize>();
        ptr::copy_nonoverlapping(frame, place, size);
        slots::set_filled(place, filled);
        *field::<u8>(place, layout::FRAME_OWNER) = layout::OWNED_BY_FRAME_OBJECT as u8;
        set_object_frame(object, place);
        if ffi::PyObject_GC_IsTracked(object.cast()) == 0 {
            ffi::PyObject_GC_Track(object.cast());
        }
    }
}
