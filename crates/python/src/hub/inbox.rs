//! What other threads make ready.

use super::queue::Entry;
use greenloop_reactor::Waker;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Entries from other threads, and the means to end the hub's wait for events.
pub struct Inbox {
    entries: Mutex<Contents>,
    has_entries: AtomicBool,
    waker: Mutex<Waker>,
}

struct Contents {
    entries: Vec<Entry>,
    closed: bool,
}

// SAFETY: entries hold owned references to Python objects; they are pushed, run and dropped with
// the GIL held.
unsafe impl Send for Inbox {}
// SAFETY: as above; the contents are behind a mutex.
unsafe impl Sync for Inbox {}

impl Inbox {
    pub fn new(waker: Waker) -> Self {
        Self {
            entries: Mutex::new(Contents { entries: Vec::new(), closed: false }),
            has_entries: AtomicBool::new(false),
            waker: Mutex::new(waker),
        }
    }

    /// Adds an entry and wakes the hub. After the hub's end the entry is dropped. The GIL is held.
    pub fn push(&self, entry: Entry) {
        let mut contents = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if contents.closed {
            drop(contents);
            entry.discard();
            return;
        }
        contents.entries.push(entry);
        drop(contents);
        self.has_entries.store(true, Ordering::Release);
        self.wake();
    }

    pub fn wake(&self) {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner).wake();
    }

    /// Replaces the waker, after the reactor was made anew.
    pub fn set_waker(&self, waker: Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = waker;
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        !self.has_entries.load(Ordering::Acquire)
    }

    /// Takes everything out.
    pub fn take(&self) -> Vec<Entry> {
        self.has_entries.store(false, Ordering::Relaxed);
        let mut contents = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut contents.entries)
    }

    /// Takes everything out; whatever comes later is dropped.
    pub fn close(&self) -> Vec<Entry> {
        let mut contents = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        contents.closed = true;
        std::mem::take(&mut contents.entries)
    }
}
