//! Native worker threads.

use std::sync::atomic::{AtomicUsize, Ordering};

static IDLE: AtomicUsize = AtomicUsize::new(0);

/// Worker threads that wait for work: they have a thread state but will not wake anybody.
pub fn idle_workers() -> usize {
    IDLE.load(Ordering::Relaxed)
}
