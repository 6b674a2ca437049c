//! Parking and waking: the one protocol under every blocking operation.
//!
//! A greenlet that has to wait is *parked*: it is put on the wait list of the object it waits
//! on, maybe given a timer, and leaves by a switch. Whoever can end the wait *wakes* it, which
//! makes it ready once; the greenlet runs when its turn comes in the ready queue.
//!
//! Each wait has a number. A wake-up names the wait it is for and does nothing if that wait is
//! over or has been woken already. So a wake-up that comes late (after a timeout, a kill) is
//! harmless, and no wait is woken twice.
//!
//! A parked greenlet that is thrown into while a wake-up is under way is told both: the waiting
//! function then gives back what the wake-up brought (a permit, an item), see `Woken::notified`.

use super::event_loop::EventLoop;
use super::queue::Entry;
use super::{HubObject, Source, reactor_error};
use crate::exceptions;
use crate::fork;
use crate::greenlet::object::{Payload, PyGreenlet};
use crate::greenlet::switch;
use crate::greenlet::thread::Thread;
use greenloop_reactor::{Interest, Ready, TimerKey, WaitKey};
use pyo3::ffi;
use pyo3::prelude::*;
use std::cell::Cell;
use std::ops::Deref;
use std::os::fd::RawFd;
use std::ptr::{self, NonNull};

/// Where a greenlet is in its wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    Idle,
    Parked,
    /// Woken, and in a ready queue.
    Woken,
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// The object waited on.
    Notified,
    TimedOut,
    /// The descriptor waited on has been closed, or has failed.
    Closed,
}

/// A greenlet's part in the protocol.
pub struct WaitState {
    number: Cell<u32>,
    phase: Cell<Phase>,
    reason: Cell<Reason>,
    /// How many shields it is in, see `hub::shield`.
    level: Cell<u16>,
    /// In which process its last wait began, see `fork`.
    process: Cell<u32>,
    /// Its class has a method `switch_out`, which is called when it leaves.
    is_told: Cell<bool>,
    /// What it waits on, for messages: borrowed, alive as long as the wait (the waiting function
    /// holds it).
    on: Cell<*mut ffi::PyObject>,
    next: Cell<*mut PyGreenlet>,
    previous: Cell<*mut PyGreenlet>,
    list: Cell<*const WaitList>,
}

impl WaitState {
    pub const fn new() -> Self {
        Self {
            number: Cell::new(0),
            process: Cell::new(0),
            phase: Cell::new(Phase::Idle),
            reason: Cell::new(Reason::Notified),
            level: Cell::new(0),
            is_told: Cell::new(false),
            on: Cell::new(ptr::null_mut()),
            next: Cell::new(ptr::null_mut()),
            previous: Cell::new(ptr::null_mut()),
            list: Cell::new(ptr::null()),
        }
    }

    /// What the greenlet waits on, if it is parked: borrowed, null if that has no object.
    pub fn waiting_on(&self) -> Option<*mut ffi::PyObject> {
        (self.phase.get() == Phase::Parked).then(|| self.on.get())
    }

    /// Whether the greenlet is in a wait, woken or not.
    pub fn is_waiting(&self) -> bool {
        self.phase.get() != Phase::Idle
    }

    /// Whether it is in a wait that began before the process was forked: the parent goes on with it.
    #[inline]
    pub fn is_left_behind(&self) -> bool {
        self.process.get() != fork::count() && self.is_waiting()
    }

    /// Has the greenlet go on in this process although it was here before the fork.
    pub fn bring_along(&self) {
        self.process.set(fork::count());
    }

    /// How many shields it is in.
    #[inline]
    pub fn level(&self) -> u16 {
        self.level.get()
    }

    /// Sets how many shields it is in; returns how many those were.
    pub fn set_level(&self, level: u16) -> u16 {
        self.level.replace(level)
    }

    /// Has the method `switch_out` called whenever the greenlet leaves to wait.
    pub fn tell(&self) {
        self.is_told.set(true);
    }

    /// Whether wait `number` has been woken and not yet ended.
    pub fn is_woken(&self, number: u32) -> bool {
        self.phase.get() == Phase::Woken && self.number.get() == number
    }
}

/// An owned reference to a greenlet and the number of one of its waits.
pub struct Ticket {
    greenlet: *mut PyGreenlet,
    number: u32,
}

// SAFETY: made, used and dropped with the GIL held only; the greenlet's reference count is not
// touched otherwise.
unsafe impl Send for Ticket {}

impl Ticket {
    /// For the wait that `greenlet` is in or about to enter.
    fn new(greenlet: &PyGreenlet) -> Self {
        // SAFETY: a live greenlet.
        unsafe { ffi::Py_INCREF(greenlet.as_ptr()) };
        Self { greenlet: greenlet.as_greenlet(), number: greenlet.wait.number.get() }
    }

    /// The greenlet that waits: borrowed from the ticket.
    #[inline]
    pub fn greenlet(&self) -> *mut ffi::PyObject {
        self.greenlet.cast()
    }

    /// Ends the wait, if it is still on. May be called from any thread that holds the GIL.
    pub fn wake(self, reason: Reason) -> bool {
        // SAFETY: owned.
        wake_numbered(unsafe { &*self.greenlet }, self.number, reason)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // SAFETY: owned; see `Send` for the GIL.
        unsafe { ffi::Py_DECREF(self.greenlet.cast()) };
    }
}

#[inline]
fn wake_numbered(greenlet: &PyGreenlet, number: u32, reason: Reason) -> bool {
    let Some((thread, event_loop)) = become_woken(greenlet, number, reason) else { return false };
    // SAFETY: a live greenlet; the entry owns the reference.
    unsafe { ffi::Py_INCREF(greenlet.as_ptr()) };
    event_loop.push(thread, Entry::Resume { greenlet: greenlet.as_greenlet(), number });
    true
}

/// Notes that a wait is over; returns the thread and loop where the greenlet is to be made ready.
/// None if there is no such wait any more.
#[inline]
fn become_woken(
    greenlet: &PyGreenlet,
    number: u32,
    reason: Reason,
) -> Option<(&Thread, &EventLoop)> {
    let wait = &greenlet.wait;
    if wait.number.get() != number || wait.phase.get() != Phase::Parked || wait.is_left_behind() {
        return None;
    }
    // SAFETY: a greenlet that is parked has a thread.
    let thread = unsafe { &*greenlet.thread.get() };
    if thread.has_ended() {
        return None;
    }
    // SAFETY: owned by the thread's record.
    let event_loop = match unsafe { thread.hub.get().as_ref() } {
        Some(hub) => &**hub,
        None => EventLoop::without_hub(thread)?,
    };
    wait.phase.set(Phase::Woken);
    wait.reason.set(reason);
    Some((thread, event_loop))
}

/// Greenlets that wait on one object, first come first served. The links are in the greenlets:
/// joining, leaving and waking allocate nothing and take constant time.
///
/// Must not move while somebody waits (it lives in a Python object). The list owns its members.
pub struct WaitList {
    first: Cell<*mut PyGreenlet>,
    last: Cell<*mut PyGreenlet>,
    len: Cell<usize>,
}

impl Default for WaitList {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: touched with the GIL held only.
unsafe impl Send for WaitList {}
// SAFETY: as above.
unsafe impl Sync for WaitList {}

impl WaitList {
    pub const fn new() -> Self {
        Self {
            first: Cell::new(ptr::null_mut()),
            last: Cell::new(ptr::null_mut()),
            len: Cell::new(0),
        }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.get().is_null()
    }

    pub fn len(&self) -> usize {
        self.len.get()
    }

    /// The greenlets that wait, in their order.
    pub fn members<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyAny>> {
        let mut members = Vec::with_capacity(self.len());
        let mut next = self.first.get();
        // SAFETY: members are alive: the list owns them. Nobody leaves meanwhile.
        while let Some(member) = unsafe { next.as_ref() } {
            // SAFETY: as above.
            members.push(unsafe { Bound::from_borrowed_ptr(py, member.as_ptr()) });
            next = member.wait.next.get();
        }
        members
    }

    /// The greenlet that has waited longest.
    pub fn first<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        // SAFETY: a member, which is alive, or null.
        unsafe { Bound::from_borrowed_ptr_or_opt(py, self.first.get().cast()) }
    }

    fn push(&self, greenlet: &PyGreenlet) {
        let wait = &greenlet.wait;
        debug_assert!(wait.list.get().is_null());
        let last = self.last.replace(greenlet.as_greenlet());
        wait.list.set(self);
        wait.previous.set(last);
        wait.next.set(ptr::null_mut());
        // SAFETY: members are alive: the list owns them.
        unsafe {
            ffi::Py_INCREF(greenlet.as_ptr());
            match last.as_ref() {
                Some(last) => last.wait.next.set(greenlet.as_greenlet()),
                None => self.first.set(greenlet.as_greenlet()),
            }
        }
        self.len.set(self.len.get() + 1);
    }

    /// Takes a member out; the caller gets the list's reference.
    fn unlink(&self, greenlet: &PyGreenlet) {
        let wait = &greenlet.wait;
        debug_assert!(ptr::eq(wait.list.get(), self));
        let next = wait.next.replace(ptr::null_mut());
        let previous = wait.previous.replace(ptr::null_mut());
        wait.list.set(ptr::null());
        // SAFETY: neighbours are members, which the list owns.
        unsafe {
            match previous.as_ref() {
                Some(previous) => previous.wait.next.set(next),
                None => self.first.set(next),
            }
            match next.as_ref() {
                Some(next) => next.wait.previous.set(previous),
                None => self.last.set(previous),
            }
        }
        self.len.set(self.len.get() - 1);
    }

    /// Wakes the greenlet that has waited longest. False if nobody waits.
    #[inline]
    pub fn wake_one(&self) -> bool {
        loop {
            let first = self.first.get();
            if first.is_null() {
                return false;
            }
            // SAFETY: a member, whose reference `unlink` hands over.
            unsafe {
                let greenlet = &*first;
                self.unlink(greenlet);
                if greenlet.wait.is_left_behind() {
                    // The list's reference stays: dropping the last one would end the greenlet.
                    continue;
                }
                let woken = wake_numbered(greenlet, greenlet.wait.number.get(), Reason::Notified);
                ffi::Py_DECREF(first.cast());
                if woken {
                    return true;
                }
            }
        }
    }

    /// Has the greenlet that has waited longest go on next, ahead of what is ready, if it belongs
    /// to the calling thread.
    pub fn wake_next(&self) {
        let first = self.first.get();
        if first.is_null() {
            return;
        }
        // SAFETY: a member, which is alive.
        if unsafe { (*first).wait.is_left_behind() } {
            self.wake_one();
            return;
        }
        // SAFETY: a member, whose reference `unlink` hands over, to the entry if there is one. It
        // is parked: it has a thread.
        unsafe {
            let greenlet = &*first;
            let thread = &*greenlet.thread.get();
            if !thread.is_calling() {
                self.wake_one();
                return;
            }
            self.unlink(greenlet);
            let number = greenlet.wait.number.get();
            match become_woken(greenlet, number, Reason::Notified) {
                Some((_, event_loop)) => {
                    event_loop.push_next(Entry::Resume { greenlet: first, number })
                }
                None => ffi::Py_DECREF(first.cast()),
            }
        }
    }

    /// Wakes everybody, in order.
    pub fn wake_all(&self) {
        while self.wake_one() {}
    }
}

/// An exception that was thrown into a waiting greenlet: an owned instance.
///
/// One word, where a `PyErr` takes five: what a waiting function has on its stack is part of every
/// parked greenlet.
pub struct Thrown(NonNull<ffi::PyObject>);

impl Thrown {
    fn new(error: *mut ffi::PyObject) -> Self {
        Self(NonNull::new(error).expect("an exception instance"))
    }

    /// The instance: borrowed.
    pub fn instance(&self) -> *mut ffi::PyObject {
        self.0.as_ptr()
    }

    /// The exception, to be raised.
    #[cold]
    #[inline(never)]
    pub fn into_err(self) -> PyErr {
        let error = self.0.as_ptr();
        std::mem::forget(self);
        // SAFETY: the GIL is held wherever a wait ends; the reference is ours.
        unsafe { PyErr::from_value(Bound::from_owned_ptr(Python::assume_attached(), error)) }
    }
}

impl Drop for Thrown {
    fn drop(&mut self) {
        // SAFETY: an owned reference; the GIL is held wherever a wait ends.
        unsafe { ffi::Py_DECREF(self.0.as_ptr()) };
    }
}

impl From<PyErr> for Thrown {
    #[cold]
    #[inline(never)]
    fn from(error: PyErr) -> Self {
        // SAFETY: the GIL is held wherever a wait ends.
        let py = unsafe { Python::assume_attached() };
        Self::new(error.into_value(py).into_ptr())
    }
}

impl From<Thrown> for PyErr {
    #[cold]
    fn from(thrown: Thrown) -> Self {
        thrown.into_err()
    }
}

/// How a wait ended.
pub struct Woken {
    /// What ended it. With an `error`: whether a wake-up was under way as well.
    pub reason: Option<Reason>,
    /// An exception thrown into the waiting greenlet (`kill`, `Timeout`).
    pub error: Option<Thrown>,
}

impl Woken {
    /// Whether the object waited on had already woken this greenlet, thrown into or not.
    pub fn notified(&self) -> bool {
        self.reason == Some(Reason::Notified)
    }

    /// The reason, or the exception.
    #[inline]
    pub fn into_result(self) -> PyResult<Reason> {
        Ok(self.into_reason()?)
    }

    /// As `into_result`, in fewer words.
    #[inline]
    pub fn into_reason(self) -> Result<Reason, Thrown> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.reason.expect("a wait ends for a reason or by an exception")),
        }
    }
}

/// A wait of the running greenlet: set up, parked, cleaned up.
pub struct Wait<'a> {
    thread: &'static Thread,
    hub: &'a HubObject,
    here: &'a PyGreenlet,
}

/// A hub that is held: it may be taken from its thread while somebody waits in it, and a wait lets
/// go of it when it is over.
pub struct HeldHub(NonNull<HubObject>);

impl HeldHub {
    pub fn new(hub: &HubObject) -> Self {
        // SAFETY: a live object.
        unsafe { ffi::Py_INCREF(hub.as_ptr()) };
        Self(NonNull::from(hub))
    }
}

impl Deref for HeldHub {
    type Target = HubObject;

    fn deref(&self) -> &HubObject {
        // SAFETY: held.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for HeldHub {
    fn drop(&mut self) {
        // SAFETY: an owned reference; the GIL is held wherever waits begin and end.
        unsafe { ffi::Py_DECREF(self.0.as_ptr().cast()) };
    }
}

impl<'a> Wait<'a> {
    /// Begins a wait on `on` (null for nothing that has an object).
    ///
    /// # Errors
    ///
    /// `BlockingSwitchOutError` in the hub itself, which must never wait, and in a trace function
    /// that is told of a switch to a greenlet that waits.
    pub fn begin(py: Python<'_>, on: *mut ffi::PyObject) -> PyResult<Self> {
        let thread = Thread::get(py)?;
        let hub = HubObject::of(py, thread)?;
        let here = thread.current();
        if ptr::eq(here.as_ptr(), hub.as_ptr()) {
            return Err(exceptions::blocking_in_hub(py));
        }
        if here.wait.phase.get() != Phase::Idle {
            return Err(exceptions::blocking_in_wait(py));
        }
        here.wait.phase.set(Phase::Parked);
        here.wait.bring_along();
        here.wait.on.set(on);
        // SAFETY: `here` is the running greenlet and stays alive while it runs this. The hub may
        // be taken from its thread meanwhile: the wait keeps it.
        unsafe {
            ffi::Py_INCREF(hub.as_ptr());
            Ok(Self { thread, hub, here: &*here.as_greenlet() })
        }
    }

    /// The hub, for use after the wait too.
    pub fn hub(&self) -> HeldHub {
        HeldHub::new(self.hub)
    }

    /// The greenlet that waits: borrowed, it runs now.
    #[inline]
    pub fn greenlet(&self) -> *mut ffi::PyObject {
        self.here.as_ptr()
    }

    /// A ticket for whoever is to wake this wait.
    pub fn ticket(&self) -> Ticket {
        Ticket::new(self.here)
    }

    /// Parks until woken. `deadline` is in nanoseconds of the monotonic clock.
    #[inline]
    pub fn park(self, list: Option<&WaitList>, deadline: Option<u64>) -> Woken {
        // The halves before and after the switch are out of line: only what is between them is
        // kept on the stack meanwhile.
        let timer = self.enter(list, deadline);
        // SAFETY: the calling thread's record and hub; no borrow is alive.
        let payload = unsafe { self.switch_out() };
        self.leave(payload, timer, None)
    }

    /// Parks until the descriptor is ready. `owner` names the open socket (see the reactor), 0 if
    /// the caller did not try the system call first.
    ///
    /// # Errors
    ///
    /// In `Woken::error` also the OSError of a descriptor that cannot be waited on.
    pub fn park_on_fd(
        self,
        py: Python<'_>,
        fd: RawFd,
        owner: u64,
        interest: Interest,
        deadline: Option<u64>,
    ) -> Woken {
        let key = match self.register(fd, owner, interest) {
            Ok(key) => key,
            Err(error) => return self.refused(py, &error),
        };
        let timer = self.enter(None, deadline);
        // SAFETY: the calling thread's record and hub; no borrow is alive.
        let payload = unsafe { self.switch_out() };
        self.leave(payload, timer, Some(key))
    }

    /// Ends a wait that could not be set up.
    #[cold]
    #[inline(never)]
    fn refused(self, py: Python<'_>, error: &std::io::Error) -> Woken {
        self.end();
        Woken { reason: None, error: Some(reactor_error(py, error).into()) }
    }

    /// Leaves; what the greenlet's method `switch_out` raises ends the wait at once.
    ///
    /// # Safety
    ///
    /// The caller keeps no borrow alive that code in another greenlet could reach.
    #[inline]
    unsafe fn switch_out(&self) -> Payload {
        if self.here.wait.is_told.get()
            && let Some(error) = self.tell()
        {
            return Payload::Throw(error);
        }
        // SAFETY: the calling thread's record and hub; otherwise as the caller guarantees.
        unsafe { self.hub.switch_out(self.thread) }
    }

    /// Calls the greenlet's `switch_out`; an exception that it raises is returned, owned. By now the
    /// greenlet is parked: the method may wake it, but not wait.
    #[cold]
    #[inline(never)]
    fn tell(&self) -> Option<*mut ffi::PyObject> {
        // SAFETY: the GIL is held wherever waits begin; the running greenlet.
        let here = unsafe {
            let py = Python::assume_attached();
            Bound::from_borrowed_ptr(py, self.here.as_ptr())
        };
        let error = here.call_method0("switch_out").err()?;
        Some(error.into_value(here.py()).into_ptr())
    }

    #[inline(never)]
    fn register(&self, fd: RawFd, owner: u64, interest: Interest) -> std::io::Result<WaitKey> {
        let ticket = self.ticket();
        self.hub.reactor(|reactor| reactor.wait_fd(fd, owner, interest, Source::Wait(ticket)))
    }

    #[inline(never)]
    fn enter(&self, list: Option<&WaitList>, deadline: Option<u64>) -> Option<TimerKey> {
        if let Some(list) = list {
            list.push(self.here);
        }
        let deadline = deadline?;
        let ticket = self.ticket();
        Some(self.hub.reactor(|reactor| reactor.timer_add(deadline, Source::Wait(ticket))))
    }

    /// Cleans up after coming back.
    #[inline(never)]
    fn leave(self, payload: Payload, timer: Option<TimerKey>, fd: Option<WaitKey>) -> Woken {
        if let Some(key) = timer {
            drop(self.hub.reactor(|reactor| reactor.timer_remove(key)));
        }
        if let Some(key) = fd {
            drop(self.hub.reactor(|reactor| reactor.wait_cancel(key)));
        }
        let wait = &self.here.wait;
        let list = wait.list.get();
        if !list.is_null() {
            // SAFETY: the list lives in the object waited on, which the waiting function holds;
            // its reference is dropped here, the running greenlet has others.
            unsafe {
                (*list).unlink(self.here);
                ffi::Py_DECREF(self.here.as_ptr());
            }
        }
        let reason = (wait.phase.get() == Phase::Woken).then(|| wait.reason.get());
        self.end();
        self.thread.drop_leftovers();
        let error = match payload {
            Payload::Throw(error) => Some(Thrown::new(error)),
            other => {
                other.discard();
                // SAFETY: the GIL is held again.
                let py = unsafe { Python::assume_attached() };
                reason.is_none().then(|| exceptions::invalid_switch(py, self.here).into())
            }
        };
        Woken { reason, error }
    }

    fn end(&self) {
        let wait = &self.here.wait;
        wait.phase.set(Phase::Idle);
        wait.on.set(ptr::null_mut());
        wait.number.set(wait.number.get().wrapping_add(1));
        // SAFETY: the reference that `begin` took. It may be the last one: the greenlet runs on its
        // own stack, and the hub is not used after this.
        unsafe { ffi::Py_DECREF(self.hub.as_ptr()) };
    }
}

/// `hub.switch()`: parks without anybody who would wake; returns whatever the greenlet is
/// switched to with. A new reference, or null with an exception set.
pub fn park_raw(py: Python<'_>) -> *mut ffi::PyObject {
    let begun = Wait::begin(py, ptr::null_mut());
    match begun {
        Ok(wait) => {
            // SAFETY: the calling thread's record and hub; no borrow is alive.
            let payload = unsafe { wait.switch_out() };
            wait.end();
            wait.thread.drop_leftovers();
            switch::into_result(payload)
        }
        Err(error) => {
            error.restore(py);
            ptr::null_mut()
        }
    }
}

/// What is told to a wait whose descriptor became ready.
pub fn reason_of(ready: Ready) -> Reason {
    if ready.error() && !ready.readable() && !ready.writable() {
        Reason::Closed
    } else {
        Reason::Notified
    }
}
