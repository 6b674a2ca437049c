//! Giving way where a thread would be interrupted.
//!
//! The interpreter interrupts threads that have run for a while; nobody interrupts a greenlet. Some
//! code for threads relies on it: it asks a queue again and again whether there is something in it,
//! or tries a lock until it gets it. As a greenlet it would wait for ever, for somebody who never
//! gets his turn. What such code does all the time is to take locks of `threading`. So these give
//! way, to everybody who is ready, once the running greenlet has gone on for longer than the switch
//! interval of its loop, at these places:
//!
//! * where a lock is taken by a call that may wait. Code that makes such a call has to expect that
//!   others run meanwhile.
//! * where a call that may not wait fails, if it is one of many for the same lock in a row; for a queue
//!   also where it does not fail. A single one must not switch: finalizers make them in order not to.
//! * where signals are raised or their handlers exchanged, if that is done many times in a row.
//!
//! Usually it costs a count. The clock is looked at now and then.

use crate::greenlet::thread::Thread;
use crate::hub::{HubObject, sleep};
use greenloop_reactor::monotonic_ns;
use pyo3::prelude::*;
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

/// Locks that are taken without a look at the clock.
const TAKEN_BETWEEN_LOOKS: u32 = 32;

/// Attempts at the same lock without a look at the clock; fewer than that are no spinning.
const TRIED_BETWEEN_LOOKS: u32 = 64;

/// How many locks have been taken. One number for all threads, as it need not be right, and is
/// faster to reach than a thread's own.
static TAKEN: AtomicU32 = AtomicU32::new(0);

/// For how long a thread's running greenlet has gone on, as far as its locks have noticed.
pub struct Turn {
    /// `Thread::beats` at the first look: if it is another one now, others have run since.
    beats: Cell<u64>,
    /// When that was.
    since: Cell<u64>,
    spin: Spin,
}

/// Attempts in a row.
struct Spin {
    beats: Cell<u64>,
    since: Cell<u64>,
    /// The lock's address, only ever compared.
    lock: Cell<usize>,
    tries: Cell<u32>,
}

impl Turn {
    pub const fn new() -> Self {
        Self {
            beats: Cell::new(0),
            since: Cell::new(0),
            spin: Spin {
                beats: Cell::new(0),
                since: Cell::new(0),
                lock: Cell::new(0),
                tries: Cell::new(0),
            },
        }
    }
}

/// To be called before a lock is taken by a call that may wait: lets others run if it is time.
///
/// # Errors
///
/// What the greenlet is thrown meanwhile.
#[inline]
pub fn before_taking(py: Python<'_>) -> PyResult<()> {
    let taken = TAKEN.load(Ordering::Relaxed).wrapping_add(1);
    TAKEN.store(taken, Ordering::Relaxed);
    if taken.is_multiple_of(TAKEN_BETWEEN_LOOKS) { look(py) } else { Ok(()) }
}

#[cold]
#[inline(never)]
fn look(py: Python<'_>) -> PyResult<()> {
    let Some((thread, hub)) = with_hub() else { return Ok(()) };
    let turn = &thread.turn;
    let (beats, now) = (thread.beats(), monotonic_ns());
    if turn.beats.replace(beats) != beats {
        turn.since.set(now);
        return Ok(());
    }
    if now.saturating_sub(turn.since.get()) < hub.switch_interval() {
        return Ok(());
    }
    sleep::give_way(py).map(drop)
}

/// To be called by what may not wait, and is harmless unless it is one of many calls in a row: an
/// attempt at a lock that has failed, above all. `lock` is the address of what the call is about. Returns whether others have run, so that it is worth another
/// attempt.
///
/// # Errors
///
/// What the greenlet is thrown meanwhile.
#[cold]
#[inline(never)]
pub fn after_one_of_many(py: Python<'_>, lock: usize) -> PyResult<bool> {
    let Some((thread, hub)) = with_hub() else { return Ok(false) };
    let spin = &thread.turn.spin;
    let beats = thread.beats();
    if spin.lock.replace(lock) != lock || spin.beats.replace(beats) != beats {
        spin.tries.set(0);
        return Ok(false);
    }
    let tries = spin.tries.get().saturating_add(1);
    spin.tries.set(tries);
    if !tries.is_multiple_of(TRIED_BETWEEN_LOOKS) {
        return Ok(false);
    }
    let now = monotonic_ns();
    if tries == TRIED_BETWEEN_LOOKS {
        spin.since.set(now);
    }
    if now.saturating_sub(spin.since.get()) < hub.switch_interval() {
        return Ok(false);
    }
    sleep::give_way(py)
}

/// To be called by functions that code for threads calls over and over until another thread has got
/// somewhere: lets others run if it is time.
#[pyfunction]
fn _after_one_of_many(py: Python<'_>) -> PyResult<()> {
    // These have no lock; a number of their own will do.
    after_one_of_many(py, (&raw const TAKEN).addr()).map(drop)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(_after_one_of_many, module)?)
}

/// The calling thread and its hub. Without one there are no greenlets to give way to, and the
/// thread itself is interrupted.
fn with_hub<'a>() -> Option<(&'static Thread, &'a HubObject)> {
    let thread = Thread::try_get()?;
    // SAFETY: the thread's record owns the hub; it is not used after anything that could run code.
    unsafe { thread.hub.get().as_ref() }.map(|hub| (thread, hub))
}
