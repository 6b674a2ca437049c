//! The interpreter's stack of frame data.
//!
//! CPython keeps frames of Python functions in a chain of chunks. A greenlet's first (root) chunk
//! is the data area of its stack slot; when that is full CPython adds chunks of its own, which it
//! frees as frames are popped. A small root is a trap: each call that crosses its end maps and
//! unmaps a chunk (3.4 us); the root here is tens of KiB of address space, committed as used.

use super::layout;
use super::{Shift, ThreadState, field};
use greenloop_stack::Home;
use pyo3::ffi;
use std::cell::Cell;
use std::ptr;

/// Data stack of a suspended greenlet.
pub struct Saved {
    chunk: Cell<*mut u8>,
    top: Cell<*mut u8>,
    limit: Cell<*mut u8>,
}

impl Saved {
    pub const fn new() -> Self {
        Self {
            chunk: Cell::new(ptr::null_mut()),
            top: Cell::new(ptr::null_mut()),
            limit: Cell::new(ptr::null_mut()),
        }
    }

    /// # Safety
    ///
    /// `ts` is the running thread's.
    #[inline(always)]
    pub unsafe fn save(&self, ts: ThreadState) {
        // SAFETY: fields of the running thread's state.
        unsafe {
            self.chunk.set(*ts.at(layout::TS_DATASTACK_CHUNK));
            self.top.set(*ts.at(layout::TS_DATASTACK_TOP));
            self.limit.set(*ts.at(layout::TS_DATASTACK_LIMIT));
        }
    }

    /// # Safety
    ///
    /// `ts` is the running thread's, and this was saved or begun.
    #[inline(always)]
    pub unsafe fn load(&self, ts: ThreadState) {
        // SAFETY: fields of the running thread's state.
        unsafe {
            *ts.at(layout::TS_DATASTACK_CHUNK) = self.chunk.get();
            *ts.at(layout::TS_DATASTACK_TOP) = self.top.get();
            *ts.at(layout::TS_DATASTACK_LIMIT) = self.limit.get();
        }
    }

    /// Lays a root chunk into the data area.
    ///
    /// # Safety
    ///
    /// The data area is unused.
    pub unsafe fn begin(&self, home: Home) {
        let chunk = home.middle;
        let size = home.data_end as usize - chunk as usize;
        // SAFETY: the area is at least 16 KiB and aligned for pointers.
        unsafe {
            *field::<*mut u8>(chunk, layout::CHUNK_PREVIOUS) = ptr::null_mut();
            *field::<usize>(chunk, layout::CHUNK_SIZE) = size;
            *field::<usize>(chunk, layout::CHUNK_TOP) = 0;
            self.chunk.set(chunk);
            // The first word stays unused, as in CPython's own root chunk: popping a frame at the
            // very start of a chunk would free the chunk.
            self.top.set(field::<u8>(chunk, layout::CHUNK_DATA + size_of::<usize>()));
        }
        self.limit.set(home.data_end);
    }

    fn previous(chunk: *mut u8) -> *mut u8 {
        // SAFETY: chunks in a chain are valid until they are freed.
        unsafe { *field::<*mut u8>(chunk, layout::CHUNK_PREVIOUS) }
    }

    /// One past the used bytes of the root chunk.
    ///
    /// # Safety
    ///
    /// The chain is in place.
    pub unsafe fn used_end(&self) -> *mut u8 {
        let mut chunk = self.chunk.get();
        if Self::previous(chunk).is_null() {
            return self.top.get();
        }
        while !Self::previous(chunk).is_null() {
            chunk = Self::previous(chunk);
        }
        // SAFETY: the interpreter notes how many words of a chunk are used when it adds the next.
        unsafe {
            let words = *field::<usize>(chunk, layout::CHUNK_TOP);
            field::<u8>(chunk, layout::CHUNK_DATA + words * size_of::<usize>())
        }
    }

    /// Frees all chunks but the root. `shift` tells where the greenlet's stack lies.
    ///
    /// # Safety
    ///
    /// No frame in them is used again.
    pub unsafe fn free_outer_chunks(&self, shift: Shift) {
        let mut allocator =
            ffi::PyObjectArenaAllocator { ctx: ptr::null_mut(), alloc: None, free: None };
        let mut chunk = self.chunk.get();
        if chunk.is_null() {
            return;
        }
        // SAFETY: fills the structure in. CPython takes chunks from this very allocator.
        unsafe { ffi::PyObject_GetArenaAllocator(&raw mut allocator) };
        let free = allocator.free.expect("the arena allocator can free");
        loop {
            // The root moves with the greenlet's stack.
            let previous = Self::previous(shift.place(chunk));
            if previous.is_null() {
                break;
            }
            // SAFETY: not the root, so it was allocated by the interpreter with this size.
            unsafe {
                let size = *field::<usize>(chunk, layout::CHUNK_SIZE);
                free(allocator.ctx, chunk.cast(), size);
            }
            chunk = previous;
        }
        self.chunk.set(chunk);
    }
}
