//! Counted permits with hand-off: what locks and semaphores are made of.

use super::limited;
use crate::hub::wait::{Wait, WaitList, Woken};
use pyo3::ffi;
use pyo3::prelude::*;
use std::cell::Cell;

/// A number of permits and those who wait for one.
///
/// A permit that is given back goes to whoever has waited longest, directly: nobody who comes
/// meanwhile can take it first. So permits are free only while nobody waits.
pub struct Permits {
    free: Cell<i64>,
    /// Permits on their way: handed to somebody who waited and has not run since.
    passing: Cell<usize>,
    waiters: WaitList,
}

// SAFETY: touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for Permits {}

impl Permits {
    pub const fn new(free: i64) -> Self {
        Self { free: Cell::new(free), passing: Cell::new(0), waiters: WaitList::new() }
    }

    #[inline]
    pub fn free(&self) -> i64 {
        self.free.get()
    }

    /// Whether somebody has a permit, one that is on its way not counted.
    pub fn is_held(&self) -> bool {
        self.free.get() <= 0 && self.passing.get() == 0
    }

    /// In a child process after `fork`: one free permit, and nothing on its way.
    pub fn reinit_one(&self) {
        self.passing.set(0);
        self.set_free(1);
    }

    fn pass_on(&self) -> bool {
        let passed = self.waiters.wake_one();
        if passed {
            self.passing.set(self.passing.get() + 1);
        }
        passed
    }

    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// Has `object`, whose permits these are, wait among the watchers until one is free, and not
    /// take it. Returns how many are free: 0 if the time was over first, or somebody else was
    /// faster.
    pub fn await_free(
        &self,
        object: &Bound<'_, PyAny>,
        watchers: &WaitList,
        timeout: Option<Bound<'_, PyAny>>,
    ) -> PyResult<i64> {
        let py = object.py();
        if self.free() <= 0 {
            limited(py, timeout, |limit| {
                if self.free() > 0 {
                    return Ok(());
                }
                let woken =
                    Wait::begin(py, object.as_ptr())?.park(Some(watchers), limit.deadline());
                limit.judge(woken).map(drop)
            })?;
        }
        Ok(self.free().max(0))
    }

    /// Takes a permit if one is free.
    #[inline]
    pub fn try_take(&self) -> bool {
        let free = self.free.get();
        if free <= 0 {
            return false;
        }
        self.free.set(free - 1);
        true
    }

    /// Gives a permit back, or adds one.
    #[inline]
    pub fn give(&self) {
        let free = self.free.get() + 1;
        // With less than none, the permit makes up for one that was taken away.
        if free <= 0 || !self.pass_on() {
            self.free.set(free);
        }
    }

    /// Sets the number of free permits. Those who wait get theirs out of it.
    pub fn set_free(&self, free: i64) {
        let mut left = free;
        while left > 0 && self.pass_on() {
            left -= 1;
        }
        self.free.set(left);
    }

    /// Waits for a permit on behalf of the object `on`. With `Woken::notified` and no error the
    /// caller has one; with an error it has been given back.
    ///
    /// The calling thread has a hub, and no permit is free.
    #[inline]
    pub fn park(
        &self,
        py: Python<'_>,
        on: *mut ffi::PyObject,
        deadline: Option<u64>,
    ) -> PyResult<Woken> {
        let woken = Wait::begin(py, on)?.park(Some(&self.waiters), deadline);
        if woken.notified() {
            self.passing.set(self.passing.get().saturating_sub(1));
            if woken.error.is_some() {
                self.give();
            }
        }
        Ok(woken)
    }
}
