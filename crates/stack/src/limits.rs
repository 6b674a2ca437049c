//! How much of the address space stacks may take.
//!
//! Stacks are address space first and memory later, if at all; but where address space is limited
//! (`ulimit -v`) everything else in the process needs some too, and would be what fails if stacks
//! took all there is. So arenas grow beyond their least number of slots only within a share.

use rustix::process::{Resource, getrlimit};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Stacks beyond the least may take one part in so many of the address space that is allowed.
const SHARE: u64 = 4;

/// And so many mappings. Linux allows a process 65,530 memory areas by default, of which a stack
/// with its guards takes two.
const MAPPINGS: usize = 8192;

/// What stacks take at present: bytes, and mappings.
static BYTES: AtomicUsize = AtomicUsize::new(0);
static COUNT: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn mapped(bytes: usize) {
    BYTES.fetch_add(bytes, Ordering::Relaxed);
    COUNT.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn unmapped(bytes: usize) {
    BYTES.fetch_sub(bytes, Ordering::Relaxed);
    COUNT.fetch_sub(1, Ordering::Relaxed);
}

/// Whether a stack may be mapped for convenience, one that could be done without.
pub(crate) fn leave_room_for(bytes: usize) -> bool {
    let taken = BYTES.load(Ordering::Relaxed) + bytes;
    // The second limit counts writable private memory, touched or not.
    let allowed = [Resource::As, Resource::Data].map(|resource| getrlimit(resource).current);
    COUNT.load(Ordering::Relaxed) < MAPPINGS
        && allowed.into_iter().flatten().all(|allowed| taken as u64 <= allowed / SHARE)
}
