//! One anonymous memory mapping between two guards.

use crate::limits;
use crate::valgrind;
use rustix::mm::{
    Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap,
};
use std::io;
use std::ptr::{self, NonNull};

/// Bytes of the guard below a stack. More than a page, because a function with a large frame may
/// touch its far end first and would step over a small guard.
const LOW_GUARD: usize = 64 << 10;

/// Memory for one stack. Pages are committed when they are first touched; touching a guard, below
/// the lowest or above the highest address, is a fault.
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    low_guard: usize,
    high_guard: usize,
    valgrind: valgrind::Stack,
}

impl Mapping {
    /// Bytes of address space that a mapping of `usable` bytes takes.
    pub(crate) fn extent(usable: usize) -> usize {
        let page = rustix::param::page_size();
        LOW_GUARD.next_multiple_of(page) + usable.next_multiple_of(page) + page
    }

    /// Maps `usable` bytes (rounded up to whole pages) and guards on both sides.
    pub(crate) fn new(usable: usize) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let len = Self::extent(usable);
        let low_guard = LOW_GUARD.next_multiple_of(page);
        // Without access at first, so that the guards never count as memory that may be used.
        // SAFETY: an anonymous private mapping at an address of the kernel's choice cannot alias
        // memory that anyone else owns.
        let base = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                len,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::STACK,
            )?
        };
        let base = NonNull::new(base.cast::<u8>()).expect("mmap never returns a null mapping");
        limits::mapped(len);
        let mut mapping =
            Self { base, len, low_guard, high_guard: page, valgrind: valgrind::Stack::none() };
        let usable = mapping.high() as usize - mapping.low() as usize;
        // SAFETY: part of the mapping made above, and nothing lies in it yet.
        unsafe {
            mprotect(mapping.low().cast(), usable, MprotectFlags::READ | MprotectFlags::WRITE)?;
            // A huge page would commit 2 MiB at the first touch of a stack. Kernels since 6.7 know
            // that by the stack flag; those without huge pages refuse the advice.
            let _ = madvise(mapping.low().cast(), usable, Advice::LinuxNoHugepage);
        }
        mapping.valgrind = valgrind::Stack::register(mapping.low(), mapping.high());
        Ok(mapping)
    }

    /// The lowest address of the guard below the stack; it ends at `low()`.
    pub(crate) fn guard(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// The lowest usable address.
    #[inline]
    pub(crate) fn low(&self) -> *mut u8 {
        // SAFETY: the guard lies inside the mapping.
        unsafe { self.base.as_ptr().add(self.low_guard) }
    }

    /// One past the highest usable address.
    #[inline]
    pub(crate) fn high(&self) -> *mut u8 {
        // SAFETY: the guards lie inside the mapping.
        unsafe { self.base.as_ptr().add(self.len - self.high_guard) }
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
        self.valgrind.deregister();
        // SAFETY: the mapping is ours and, by the arena's contract, nobody runs on it any more.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok());
        limits::unmapped(self.len);
    }
}
