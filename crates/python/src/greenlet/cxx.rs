//! C++ exceptions: the record that the C++ runtime keeps of them, for each thread.
//!
//! Unwinding itself needs nothing from us, it reads the stack. But the runtime chains the
//! exceptions whose handlers run, and counts those in flight, in a record of the thread
//! (`__cxa_eh_globals` of the C++ ABI). A greenlet that switches inside a `catch` block, and another
//! that then enters and leaves its own, would find each other's exceptions there: `throw;` would
//! throw the wrong one, and the end of a block destroy it. So what a greenlet has in the record goes
//! with it. Nearly always that is nothing, and a switch only looks.

use std::ffi::{c_uint, c_void};
use std::ptr;
use std::sync::OnceLock;

/// The record. Every C++ runtime that follows the C++ ABI for this processor begins it so.
#[repr(C)]
#[derive(Clone, Copy)]
struct Globals {
    caught: *mut c_void,
    uncaught: c_uint,
}

/// Stands for the record where there is no C++ runtime. Never written.
struct Nothing(Globals);

// SAFETY: never written.
unsafe impl Sync for Nothing {}

static NOTHING: Nothing = Nothing(Globals { caught: ptr::null_mut(), uncaught: 0 });

/// What a greenlet has in its thread's record, while it is away.
pub struct Saved(Globals);

/// Where a thread's record is.
pub struct Exceptions(*mut Globals);

impl Exceptions {
    /// The calling thread's record.
    pub fn of_thread() -> Self {
        type GetGlobals = unsafe extern "C" fn() -> *mut Globals;
        static GET_GLOBALS: OnceLock<Option<GetGlobals>> = OnceLock::new();
        // The runtime is loaded if it is not there yet: an extension may bring it at any time, and
        // there is nothing that would tell. It stays loaded.
        let get_globals = GET_GLOBALS.get_or_init(|| {
            // SAFETY: C strings; a symbol of this name has this type.
            unsafe {
                let library = libc::dlopen(c"libstdc++.so.6".as_ptr(), libc::RTLD_LAZY);
                if library.is_null() {
                    return None;
                }
                let symbol = libc::dlsym(library, c"__cxa_get_globals".as_ptr());
                (!symbol.is_null()).then(|| std::mem::transmute::<*mut c_void, GetGlobals>(symbol))
            }
        });
        match get_globals {
            // SAFETY: may be called at any time.
            Some(get_globals) => Self(unsafe { get_globals() }),
            None => Self((&raw const NOTHING.0).cast_mut()),
        }
    }

    /// Whether the running greenlet has anything in the record.
    ///
    /// # Safety
    ///
    /// The calling thread is the one the record is of.
    #[inline(always)]
    pub unsafe fn any(&self) -> bool {
        // SAFETY: the thread, which the record lives as long as, runs. Only the thread itself
        // writes to it.
        let globals = unsafe { self.0.read() };
        !globals.caught.is_null() || globals.uncaught != 0
    }

    /// Takes out what is in the record.
    ///
    /// # Safety
    ///
    /// As for `any`, which is true.
    pub unsafe fn take(&self) -> Saved {
        // SAFETY: as above.
        Saved(unsafe { self.0.replace(NOTHING.0) })
    }

    /// Puts it back.
    ///
    /// # Safety
    ///
    /// As for `any`. The calling greenlet is the one it was taken from, in the same thread.
    pub unsafe fn put_back(&self, saved: Saved) {
        // SAFETY: as above.
        unsafe { self.0.write(saved.0) };
    }
}
