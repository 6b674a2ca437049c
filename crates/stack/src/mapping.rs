//! One anonymous memory mapping with a guard page at its low end.

use rustix::mm::{
    Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap,
};
use std::io;
use std::ptr::{self, NonNull};

/// Memory for one stack. Pages are committed when they are first touched.
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    guard: usize,
}

impl Mapping {
    /// Maps `usable` bytes (rounded up to whole pages) above a guard page.
    pub(crate) fn new(usable: usize) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let guard = page;
        let len = usable.next_multiple_of(page) + guard;
        // SAFETY: an anonymous private mapping at an address of the kernel's choice cannot alias
        // memory that anyone else owns.
        let base = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::STACK,
            )?
        };
        let base = NonNull::new(base.cast::<u8>()).expect("mmap never returns a null mapping");
        let mapping = Self { base, len, guard };
        // SAFETY: the guard page is part of the mapping made above, and nothing lies in it yet.
        unsafe { mprotect(mapping.base.as_ptr().cast(), guard, MprotectFlags::empty())? };
        Ok(mapping)
    }

    /// The lowest usable address.
    pub(crate) fn low(&self) -> *mut u8 {
        // SAFETY: the guard lies inside the mapping.
        unsafe { self.base.as_ptr().add(self.guard) }
    }

    /// One past the highest usable address.
    pub(crate) fn high(&self) -> *mut u8 {
        // SAFETY: one past the end of the mapping.
        unsafe { self.base.as_ptr().add(self.len) }
    }

    /// Gives the pages of `low()..end` back to the system; they read as zero afterwards.
    ///
    /// # Safety
    ///
    /// Nothing of value may lie in that range, and `end` must be in this mapping.
    pub(crate) unsafe fn discard_below(&self, end: *mut u8) {
        let page = rustix::param::page_size();
        let len = (end as usize - self.low() as usize) / page * page;
        if len > 0 {
            // SAFETY: the range lies in the mapping; the caller vouches for its contents.
            let advised = unsafe { madvise(self.low().cast(), len, Advice::LinuxDontNeed) };
            debug_assert!(advised.is_ok());
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and, by the arena's contract, nobody runs on it any more.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok());
    }
}
