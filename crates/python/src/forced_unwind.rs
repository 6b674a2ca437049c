//! Threads that the interpreter ends while it goes down.
//!
//! Up to 3.13, CPython ends a daemon thread that wants the GIL while the interpreter goes down by
//! `pthread_exit`, which unwinds the thread's stack from wherever it is: in a callback, a
//! finalizer, a property, a comparison. Frames of Rust cannot take part in that. What they would
//! drop are Python objects, for which the GIL is missing, and those that may not be unwound, all
//! that Python calls among them, would end the process.
//!
//! Rather than guarding every call into the interpreter, ours and pyo3's, the unwinding is stopped
//! at the first frame that has something to say to it. The unwinder asks each frame of Rust with
//! cleanups through one routine, Rust's personality routine, which it finds by a pointer that the
//! compiler puts into this library. [`install`] makes that a routine that lets the thread sleep
//! until the process is over, as later versions of CPython do themselves. It costs nothing as long
//! as nothing is unwound by force.

use crate::greenlet::types::interpreter_is_finalizing;
use std::ffi::{c_int, c_void};
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// `_Unwind_Personality_Fn` of the Itanium C++ ABI.
type Personality = unsafe extern "C" fn(c_int, c_int, u64, *mut c_void, *mut c_void) -> c_int;

/// `_UA_FORCE_UNWIND`: not an exception but the end of the thread.
const FORCED: c_int = 8;

unsafe extern "C" {
    /// Where the unwind tables of this library say that the personality routine is to be found.
    #[link_name = "DW.ref.rust_eh_personality"]
    static PERSONALITY: AtomicPtr<c_void>;
}

/// Rust's own routine.
static ORIGINAL: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// Has threads that are ended by the interpreter stop at the first frame of this library. Called
/// when the module is made, with the GIL held.
pub fn install() {
    // SAFETY: the pointer is in the library's data, is aligned, and read by the unwinder only,
    // which will find either routine there.
    let place = unsafe { &PERSONALITY };
    if ORIGINAL.load(Ordering::Relaxed).is_null() {
        ORIGINAL.store(place.load(Ordering::Relaxed), Ordering::Release);
        place.store(personality as *mut c_void, Ordering::Release);
    }
}

unsafe extern "C" fn personality(
    version: c_int,
    actions: c_int,
    class: u64,
    exception: *mut c_void,
    context: *mut c_void,
) -> c_int {
    if actions & FORCED != 0 && interpreter_is_finalizing() {
        loop {
            // SAFETY: waits for a signal, handlers of which may run here.
            unsafe { libc::pause() };
        }
    }
    let original = ORIGINAL.load(Ordering::Acquire);
    // SAFETY: Rust's personality routine, with what the unwinder passed.
    unsafe {
        mem::transmute::<*mut c_void, Personality>(original)(
            version, actions, class, exception, context,
        )
    }
}
