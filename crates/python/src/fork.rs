//! What a forked child goes on with: the greenlet that forked, and none of the others.
//!
//! Of a process' threads only the one that forks exists in the child. Greenlets are held to the same:
//! the parent goes on with all of them, so whatever one of them would still do in the child would be
//! done twice, to connections and files that both have. Greenlets that waited when the process was
//! forked are *left behind*: nothing wakes them in the child, those that were ready or had not
//! started do not run, and they are not ended with the interpreter either, since their `finally`
//! blocks are the parent's affair. Their memory stays, as do the stacks of threads. Throwing into one
//! (a kill) still works.
//!
//! Two are exempt. The greenlet that forks has its `Timeout`s kept. The main greenlet, if it is
//! another one, is not woken by descriptors and timers any more, but goes on when the object it waits
//! for lets it: it may wait for the greenlet that forked, as a caller waits for a function.
//!
//! Watchers are kept: who made them stops them, or uses `loop.fork` to be told.
//!
//! Who is left behind is seen from a number noted in every wait: a list of all greenlets is not kept,
//! and asking the garbage collector for one would write to the memory of every object, which parent
//! and child share until somebody does.

use std::sync::atomic::{AtomicU32, Ordering};

/// How many forks lie between the first process and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// How many forks lie between the first process and this one.
#[inline]
pub fn count() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// Notes that this is a forked child.
pub fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}
