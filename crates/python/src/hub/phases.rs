//! Watchers that wait for no event but are called back in every round of the loop.

use pyo3::prelude::*;
use std::cell::RefCell;

/// When in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before the loop looks for events.
    Prepare,
    /// After it has.
    Check,
    /// When nothing else is to be done. The loop does not sleep while there is such a watcher.
    Idle,
    /// In a forked child, before anything else.
    Fork,
}

const PHASES: usize = 4;

/// The active watchers of each phase, in the order in which they were started.
pub struct Phases {
    watchers: [RefCell<Vec<Py<PyAny>>>; PHASES],
}

impl Phases {
    pub const fn new() -> Self {
        Self { watchers: [const { RefCell::new(Vec::new()) }; PHASES] }
    }

    fn of(&self, phase: Phase) -> &RefCell<Vec<Py<PyAny>>> {
        &self.watchers[phase as usize]
    }

    #[inline]
    pub fn is_empty(&self, phase: Phase) -> bool {
        self.of(phase).borrow().is_empty()
    }

    pub fn len(&self) -> usize {
        self.watchers.iter().map(|watchers| watchers.borrow().len()).sum()
    }

    pub fn add(&self, phase: Phase, watcher: Py<PyAny>) {
        self.of(phase).borrow_mut().push(watcher);
    }

    /// Takes a watcher out. It is returned, so that it is dropped when nothing is borrowed.
    pub fn remove(&self, phase: Phase, watcher: *mut pyo3::ffi::PyObject) -> Option<Py<PyAny>> {
        let mut watchers = self.of(phase).borrow_mut();
        let index = watchers.iter().position(|active| active.as_ptr() == watcher)?;
        Some(watchers.remove(index))
    }

    /// What to call back now: starting and stopping watchers meanwhile has no effect on it.
    pub fn snapshot(&self, py: Python<'_>, phase: Phase) -> Vec<Py<PyAny>> {
        self.of(phase).borrow().iter().map(|watcher| watcher.clone_ref(py)).collect()
    }

    /// Takes all out.
    pub fn take(&self) -> Vec<Py<PyAny>> {
        self.watchers.iter().flat_map(|watchers| watchers.take()).collect()
    }
}
