//! A worker thread that is woken when the hub waits, not before.
//!
//! A worker that gets a job wants the GIL. Woken by a greenlet that is about to wait for the result,
//! it would find the GIL taken, and be put to sleep and woken a second time. So the hub, which is
//! going to wait if nothing else is ready, wakes it after giving up the GIL. If calls of the pool tend
//! to be short it then looks for the result for a moment before it waits in the kernel, which saves
//! the write to the pipe, the read from it, and going to sleep in between.

use crate::threadpool::queue::Queue;
use greenloop_reactor::monotonic_ns;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// How long the result is looked for (ns): about what going to sleep and being woken costs.
const LOOKING: u64 = 50_000;

pub struct HandOver {
    queue: RefCell<Option<Arc<Queue>>>,
    pending: Cell<bool>,
}

impl HandOver {
    pub const fn new() -> Self {
        Self { queue: RefCell::new(None), pending: Cell::new(false) }
    }

    /// Has a waiting worker of the pool woken when the hub waits. Only one at a time: if there is
    /// one already, that is woken now.
    pub fn put(&self, queue: &Arc<Queue>) {
        let earlier = self.queue.replace(Some(Arc::clone(queue)));
        self.pending.set(true);
        if let Some(earlier) = earlier {
            earlier.notify();
        }
    }

    /// The worker's pool, to be told to wake it.
    #[inline]
    pub fn take(&self) -> Option<Arc<Queue>> {
        if self.pending.get() { self.take_now() } else { None }
    }

    #[cold]
    fn take_now(&self) -> Option<Arc<Queue>> {
        self.pending.set(false);
        self.queue.take()
    }

    /// Wakes the worker now: the hub does not wait.
    #[inline]
    pub fn give_up(&self) {
        if let Some(queue) = self.take() {
            queue.notify();
        }
    }
}

/// Wakes the worker, and looks for a moment whether `arrived` comes true. To be called without the
/// GIL.
pub fn hand_over(queue: &Queue, arrived: impl Fn() -> bool) {
    queue.notify();
    if !queue.is_quick() {
        return;
    }
    let start = monotonic_ns();
    while !arrived() && monotonic_ns() - start < LOOKING {
        std::thread::yield_now();
    }
}
