//! The part of a coroutine that this crate looks after.

use crate::arena::NO_SLOT;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr;

/// Where a coroutine's stack is. Lives inside the object of whoever builds on this crate and
/// must not move while the coroutine has a home: the arena keeps its address.
///
/// States: *homeless* (not started, finished, or the thread's own stack), *resident* (its bytes
/// lie in its home), *evicted* (its bytes lie in `copy`).
pub struct Coroutine {
    /// Stack pointer at the last switch away; means nothing while running.
    pub(crate) sp: Cell<*mut u8>,
    /// Index of the home in the arena.
    pub(crate) slot: Cell<u32>,
    /// Size of `copy`, zero while not evicted.
    pub(crate) copy_len: Cell<u32>,
    /// The used range while evicted.
    pub(crate) copy: Cell<*mut u8>,
}

const COPY_ALIGN: usize = 16;

impl Coroutine {
    /// A coroutine without a home.
    pub const fn new() -> Self {
        Self {
            sp: Cell::new(ptr::null_mut()),
            slot: Cell::new(NO_SLOT),
            copy_len: Cell::new(0),
            copy: Cell::new(ptr::null_mut()),
        }
    }

    /// Where `switch` stores the stack pointer when it leaves this coroutine.
    #[inline]
    pub fn sp_cell(&self) -> *mut *mut u8 {
        self.sp.as_ptr()
    }

    /// The stack pointer stored at the last switch away.
    #[inline]
    pub fn sp(&self) -> *mut u8 {
        self.sp.get()
    }

    /// Whether its bytes lie in a heap copy instead of its home.
    #[inline]
    pub fn is_evicted(&self) -> bool {
        !self.copy.get().is_null()
    }

    /// Whether it has a home in an arena.
    #[inline]
    pub fn has_home(&self) -> bool {
        self.slot.get() != NO_SLOT
    }

    /// Bytes held on the heap for it while evicted.
    pub fn copied_bytes(&self) -> usize {
        self.copy_len.get() as usize
    }

    /// The distance from an address in the home to its place in the copy, while evicted.
    pub fn copy_shift(&self) -> isize {
        debug_assert!(self.is_evicted());
        (self.copy.get() as isize).wrapping_sub(self.sp.get() as isize)
    }

    pub(crate) fn copy_layout(len: usize) -> Layout {
        Layout::from_size_align(len, COPY_ALIGN).expect("a stack is smaller than the address space")
    }

    /// Copies `low..low+len` to the heap.
    ///
    /// # Safety
    ///
    /// The range must be readable and `len` not zero; there must be no copy yet.
    pub(crate) unsafe fn store_copy(&self, low: *mut u8, len: usize) {
        let layout = Self::copy_layout(len);
        // SAFETY: the layout is not empty; source and destination are distinct and `len` long.
        unsafe {
            let copy = alloc(layout);
            if copy.is_null() {
                handle_alloc_error(layout);
            }
            ptr::copy_nonoverlapping(low, copy, len);
            self.copy.set(copy);
        }
        self.copy_len.set(u32::try_from(len).expect("stack slots are smaller than 4 GiB"));
    }

    /// Frees the copy, if there is one. What it held is forgotten.
    pub fn drop_copy(&self) {
        let copy = self.copy.replace(ptr::null_mut());
        if !copy.is_null() {
            let layout = Self::copy_layout(self.copy_len.replace(0) as usize);
            // SAFETY: allocated by `store_copy` with this layout; the pointer was just cleared.
            unsafe { dealloc(copy, layout) };
        }
    }
}

impl Default for Coroutine {
    fn default() -> Self {
        Self::new()
    }
}
