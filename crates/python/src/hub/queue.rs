//! The ready queue: what is to run, in the order it became ready.

use crate::greenlet::object::{Payload, PyGreenlet, Status};
use crate::greenlet::thread::Thread;
use crate::task::timeout::Timeout;
use pyo3::ffi;
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::ptr;

/// Something to run. All pointers are owned references.
pub enum Entry {
    /// A parked greenlet that was woken from the wait with this number.
    Resume { greenlet: *mut PyGreenlet, number: u32 },
    /// A greenlet to switch to without arguments, if it has not started yet.
    Start { greenlet: *mut PyGreenlet },
    /// A greenlet to switch to with a value, whatever it is doing.
    Switch { greenlet: *mut PyGreenlet, value: *mut ffi::PyObject },
    /// A raw greenlet to start with a tuple of arguments.
    SwitchArgs { greenlet: *mut PyGreenlet, args: *mut ffi::PyObject },
    /// An exception instance to throw into a greenlet, unless it has ended.
    Throw { greenlet: *mut PyGreenlet, error: *mut ffi::PyObject },
    /// As `Throw`, but a shield holds it back.
    Kill { greenlet: *mut PyGreenlet, error: *mut ffi::PyObject },
    /// A `Timeout` whose time is over: throws, unless it has been stopped.
    Timeout { timer: *mut ffi::PyObject },
    /// A callback object (see `callback`) to run in the hub.
    Call { callback: *mut ffi::PyObject },
}

impl Entry {
    /// The references: the first is never null.
    fn into_references(self) -> (*mut ffi::PyObject, *mut ffi::PyObject) {
        match self {
            Self::Resume { greenlet, .. } | Self::Start { greenlet } => {
                (greenlet.cast(), ptr::null_mut())
            }
            Self::Switch { greenlet, value } => (greenlet.cast(), value),
            Self::SwitchArgs { greenlet, args } => (greenlet.cast(), args),
            Self::Throw { greenlet, error } | Self::Kill { greenlet, error } => {
                (greenlet.cast(), error)
            }
            Self::Timeout { timer: object } | Self::Call { callback: object } => {
                (object, ptr::null_mut())
            }
        }
    }

    /// Which greenlet it is for: none of a callback, or of a `Timeout` that has been stopped.
    pub fn target(&self) -> Option<*mut PyGreenlet> {
        match *self {
            Self::Resume { greenlet, .. }
            | Self::Start { greenlet }
            | Self::Switch { greenlet, .. }
            | Self::SwitchArgs { greenlet, .. }
            | Self::Throw { greenlet, .. }
            | Self::Kill { greenlet, .. } => Some(greenlet),
            // SAFETY: an owned `Timeout`; the GIL is held.
            Self::Timeout { timer } => unsafe {
                let timer = Bound::from_borrowed_ptr(Python::assume_attached(), timer);
                timer.cast::<Timeout>().ok().and_then(|timer| timer.get().target())
            },
            Self::Call { .. } => None,
        }
    }

    /// Has the references dropped after the switch that is being made.
    #[cold]
    pub fn leave_over(self, thread: &Thread) {
        let (first, second) = self.into_references();
        thread.leave_over(first);
        if !second.is_null() {
            thread.leave_over(second);
        }
    }

    /// Whether it is an exception for a greenlet that has ended, or a `Timeout` that was stopped.
    pub fn is_for_the_dead(&self) -> bool {
        match self {
            // SAFETY: entries own their greenlets.
            Self::Kill { greenlet, .. } => unsafe { (**greenlet).status.get() == Status::Dead },
            // SAFETY: an owned `Timeout`; the GIL is held.
            Self::Timeout { timer } => unsafe {
                let timer = Bound::from_borrowed_ptr(Python::assume_attached(), *timer);
                timer.cast::<Timeout>().is_ok_and(|timer| !timer.get().has_living_target())
            },
            _ => false,
        }
    }

    /// Drops the references.
    pub fn discard(self) {
        let (first, second) = self.into_references();
        // SAFETY: owned references or null; the GIL is held.
        unsafe {
            ffi::Py_DECREF(first);
            ffi::Py_XDECREF(second);
        }
    }

    /// The switch that this entry asks for; `None` if it has become void meanwhile. Must not be
    /// a `Call`. The reference to the greenlet goes to the caller.
    #[inline]
    pub fn into_switch(self, thread: &Thread) -> Option<(*mut PyGreenlet, Payload)> {
        // SAFETY: entries own their greenlets.
        unsafe {
            match self {
                Self::Resume { greenlet, number } if (*greenlet).wait.is_woken(number) => {
                    Some((greenlet, Payload::none()))
                }
                Self::Start { greenlet } if (*greenlet).status.get() == Status::Unstarted => {
                    Some((greenlet, Payload::no_args()))
                }
                Self::Switch { greenlet, value } if (*greenlet).status.get() != Status::Dead => {
                    Some((greenlet, Payload::Value(value)))
                }
                Self::SwitchArgs { greenlet, args } if (*greenlet).status.get() != Status::Dead => {
                    Some((greenlet, Payload::Args(args)))
                }
                Self::Throw { greenlet, error } if (*greenlet).status.get() != Status::Dead => {
                    Some((greenlet, Payload::Throw(error)))
                }
                Self::Kill { greenlet, error } if (*greenlet).status.get() != Status::Dead => {
                    if (*greenlet).wait.level() > 0 {
                        thread.held.keep(thread, &*greenlet, 0, self);
                        return None;
                    }
                    Some((greenlet, Payload::Throw(error)))
                }
                Self::Timeout { timer } => timed_out(thread, timer),
                Self::Call { .. } => unreachable!("callbacks run in the hub"),
                void => {
                    void.leave_over(thread);
                    None
                }
            }
        }
    }
}

/// The throw of a timer that has not been stopped; takes the reference.
///
/// # Safety
///
/// `timer` is an owned `Timeout`.
#[cold]
unsafe fn timed_out(
    thread: &Thread,
    timer: *mut ffi::PyObject,
) -> Option<(*mut PyGreenlet, Payload)> {
    // SAFETY: as the caller guarantees; the GIL is held, and the reference owned until it is left
    // over.
    unsafe {
        let timer = Bound::from_borrowed_ptr(Python::assume_attached(), timer);
        let timer = timer.cast::<Timeout>().expect("a Timeout entry holds a Timeout");
        if let Some((greenlet, level)) = timer.get().shielded_target() {
            let entry = Entry::Timeout { timer: timer.as_ptr() };
            thread.held.keep(thread, &*greenlet, level, entry);
            return None;
        }
        thread.leave_over(timer.as_ptr());
        let (greenlet, error) = Timeout::take_target(timer)?;
        if (*greenlet).status.get() == Status::Dead {
            thread.leave_over(greenlet.cast());
            thread.leave_over(error);
            return None;
        }
        Some((greenlet, Payload::Throw(error)))
    }
}

/// What the hub of one thread has ready.
pub struct ReadyQueue {
    entries: VecDeque<Entry>,
}

impl ReadyQueue {
    pub fn new() -> Self {
        Self { entries: VecDeque::with_capacity(64) }
    }

    #[inline]
    pub fn push(&mut self, entry: Entry) {
        self.entries.push_back(entry);
    }

    /// Adds an entry ahead of all others.
    pub fn push_front(&mut self, entry: Entry) {
        self.entries.push_front(entry);
    }

    #[inline]
    pub fn pop(&mut self) -> Option<Entry> {
        self.entries.pop_front()
    }

    /// Takes the next entry if it is a switch; a callback has to be run by the hub.
    #[inline]
    pub fn pop_switch(&mut self) -> Option<Entry> {
        match self.entries.front() {
            None | Some(Entry::Call { .. }) => None,
            Some(_) => self.entries.pop_front(),
        }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }
}
