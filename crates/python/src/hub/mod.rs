//! The hub: one per thread, a greenlet that runs what is ready and waits for events.
//!
//! See `run` for the loop, `wait` for how greenlets park and are woken, `queue` for what is ready.

pub mod blocked;
pub mod callback;
pub mod event_loop;
pub mod hand_over;
pub mod inbox;
pub mod loop_object;
pub mod methods;
pub mod phases;
pub mod queue;
pub mod run;
pub mod shield;
pub mod sleep;
pub mod time_sleep;
pub mod wait;
pub mod watch;
pub mod watchers;

use crate::aio::event_loop::AsyncioLoop;
use crate::aio::handle::HandleRef;
use crate::greenlet::object::{Payload, PyGreenlet};
use crate::greenlet::thread::Thread;
use crate::greenlet::{switch, types};
use crate::task::timeout::Timeout;
use event_loop::EventLoop;
use loop_object::Loop;
use pyo3::exceptions::PyOSError;
use pyo3::ffi;
use pyo3::prelude::*;
use queue::ReadyQueue;
use std::cell::Cell;
use std::ops::Deref;
use std::ptr;
use std::sync::{Mutex, PoisonError};

/// What the reactor keeps for each timer, wait and watch.
pub enum Source {
    /// A parked greenlet.
    Wait(wait::Ticket),
    /// A watcher object (see `watchers`) to be told.
    Watcher(Py<PyAny>),
    /// A `Timeout`, with its exception to throw into a greenlet.
    Throw(Py<Timeout>),
    /// The same, of one that does not keep the loop running.
    ThrowUnreferenced(Py<Timeout>),
    /// A greenlet to start (`start_later`).
    Start(Py<PyAny>),
    /// A timer of an asyncio loop, and the number of the loop's binding to this hub.
    Asyncio { handle: HandleRef, binding: u64 },
    /// A reader or writer of an asyncio loop.
    AsyncioWatch { handle: HandleRef, binding: u64 },
    /// A coroutine that waits for a socket: which one of the loop's.
    AsyncioWait { event_loop: Py<AsyncioLoop>, index: usize, binding: u64 },
}

/// Switches made without a look at the clock.
const SWITCHES_BETWEEN_LOOKS: u64 = 100;

/// The hub's memory: a greenlet with a loop.
#[repr(C)]
pub struct HubObject {
    base: PyGreenlet,
    /// The loop that it runs, which `loop_object` holds.
    event_loop: Cell<*const EventLoop>,
    /// The Python object `hub.loop`; owned.
    loop_object: Cell<*mut ffi::PyObject>,
    destroyed: Cell<bool>,
}

impl Deref for HubObject {
    type Target = EventLoop;

    #[inline]
    fn deref(&self) -> &EventLoop {
        // SAFETY: every hub has a loop from the start, which it owns a reference to until it is
        // freed.
        unsafe { &*self.event_loop.get() }
    }
}

/// The class that hubs are made of: `greenloop.hub.Hub`, unless it was replaced.
static HUB_CLASS: Mutex<Option<Py<PyAny>>> = Mutex::new(None);

impl HubObject {
    #[inline]
    pub fn as_ptr(&self) -> *mut ffi::PyObject {
        self.base.as_ptr()
    }

    #[inline]
    pub fn greenlet(&self) -> &PyGreenlet {
        &self.base
    }

    /// The hub of the calling thread, made on first use.
    ///
    /// # Errors
    ///
    /// OSError when the system has no descriptors left for it.
    #[inline]
    pub fn of<'a>(py: Python<'_>, thread: &Thread) -> PyResult<&'a Self> {
        let hub = thread.hub.get();
        if hub.is_null() {
            return Self::create(py, thread);
        }
        // SAFETY: the thread's record owns the hub until the thread ends or the hub is replaced,
        // which `destroy` does with nobody parked in it.
        Ok(unsafe { &*hub })
    }

    /// The hub of the calling thread.
    pub fn get<'a>(py: Python<'_>) -> PyResult<&'a Self> {
        Self::of(py, Thread::get(py)?)
    }

    #[cold]
    fn create<'a>(py: Python<'_>, thread: &Thread) -> PyResult<&'a Self> {
        let class = Self::class(py)?;
        let hub = class.call0()?;
        if thread.hub.get().is_null() {
            Self::install(thread, &hub)?;
        }
        // SAFETY: installed, and owned by the thread's record.
        Ok(unsafe { &*thread.hub.get() })
    }

    /// The class that hubs are made of.
    pub fn class(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        let class = {
            let class = HUB_CLASS.lock().unwrap_or_else(PoisonError::into_inner);
            class.as_ref().map(|class| class.clone_ref(py))
        };
        // Importing the module sets the class.
        match class {
            Some(class) => Ok(class.into_bound(py)),
            None => py.import("greenloop.hub")?.getattr("Hub"),
        }
    }

    /// Makes `hub` the thread's hub.
    ///
    /// # Errors
    ///
    /// InvalidThreadUseError for a hub that was made in another thread.
    pub fn install(thread: &Thread, hub: &Bound<'_, PyAny>) -> PyResult<()> {
        let object = hub.as_ptr().cast::<HubObject>();
        // SAFETY: the class makes hubs only.
        if !ptr::eq(unsafe { (*object).base.thread.get() }, thread) {
            return Err(crate::exceptions::invalid_thread_use(
                hub.py(),
                "a hub belongs to the thread it was made in",
            ));
        }
        // SAFETY: an owned reference; the class makes hubs only.
        unsafe {
            ffi::Py_INCREF(object.cast());
            // The hub ends in the thread's main greenlet, whoever first needed it.
            let parent = (*object).base.parent.replace(thread.main());
            ffi::Py_INCREF(thread.main().cast());
            ffi::Py_XDECREF(parent.cast());
            let old = thread.hub.replace(object);
            ffi::Py_XDECREF(old.cast());
        }
        Ok(())
    }

    /// Sets the class that hubs are made of from now on.
    pub fn set_class(class: Bound<'_, PyAny>) {
        let mut place = HUB_CLASS.lock().unwrap_or_else(PoisonError::into_inner);
        let old = place.replace(class.unbind());
        drop(place);
        drop(old);
    }

    /// Leaves the running greenlet: goes on with the next in the ready queue if that is a
    /// greenlet, with the hub otherwise. Returns what this greenlet is switched to with.
    ///
    /// # Safety
    ///
    /// `thread` is the calling thread's record and this its hub; the caller keeps no borrow alive
    /// that code in another greenlet could reach.
    #[inline]
    pub unsafe fn switch_out(&self, thread: &Thread) -> Payload {
        let (target, payload) = self.next(thread);
        // SAFETY: passed on from the caller; the reference is ours.
        unsafe { switch::transfer_owned(thread, target, payload) }
    }

    /// Whom to go on with when the running greenlet leaves: an owned reference.
    #[inline]
    pub fn next(&self, thread: &Thread) -> (*mut PyGreenlet, Payload) {
        // Who traces sees every wait go through the hub.
        while thread.trace.get().is_null() && self.may_hand_over(thread) {
            let Some(entry) = self.ready(ReadyQueue::pop_switch) else { break };
            if let Some(next) = entry.into_switch(thread) {
                return next;
            }
        }
        // SAFETY: the hub is alive.
        unsafe { ffi::Py_INCREF(self.as_ptr()) };
        (self.base.as_greenlet(), Payload::none())
    }
}

impl EventLoop {
    /// How long greenlets may go on before descriptors and timers are looked at (ns).
    pub fn switch_interval(&self) -> u64 {
        self.switch_interval.get()
    }

    /// Whether another switch may be made before descriptors and timers are looked at.
    #[inline]
    fn may_hand_over(&self, thread: &Thread) -> bool {
        thread.beat() < self.look_at.get() || self.look_at_clock(thread)
    }

    #[cold]
    fn look_at_clock(&self, thread: &Thread) -> bool {
        let now = greenloop_reactor::monotonic_ns();
        if now.saturating_sub(self.polled_at.get()) >= self.switch_interval.get() {
            return false;
        }
        self.look_later(thread);
        true
    }

    /// Has the clock looked at after the usual number of switches from now on.
    fn look_later(&self, thread: &Thread) {
        self.look_at.set(thread.beats() + SWITCHES_BETWEEN_LOOKS);
    }
}

impl HubObject {
    /// Called when the thread ends: drops everything that would have become ready.
    pub fn thread_ended(this: *mut Self) {
        // SAFETY: the caller owns a reference.
        unsafe { (*this).end(true) };
    }

    /// Ends the hub, and its loop if that is not to be used by another one.
    pub(crate) fn end(&self, with_loop: bool) {
        self.destroyed.set(true);
        self.hand_over.give_up();
        if with_loop {
            self.destroy();
        } else {
            // What is ready is for the next hub to run.
            self.left_by_hub.set(true);
        }
        self.leave_loop();
        self.unpin();
    }

    /// Lets others have the hub's stack slot.
    fn unpin(&self) {
        // SAFETY: a hub has a thread until it is freed; the arena belongs to the calling thread.
        unsafe {
            if let Some(thread) = self.base.thread.get().as_ref()
                && thread.is_calling()
            {
                (*thread.arena.get()).unpin(&self.base.co);
            }
        }
    }

    fn leave_loop(&self) {
        if ptr::eq(self.hub.get(), self) {
            self.hub.set(ptr::null_mut());
        }
    }

    /// Takes another loop, in the place of one that nobody waits in.
    ///
    /// # Errors
    ///
    /// ValueError for a loop that has been destroyed, InvalidThreadUseError for that of another
    /// thread.
    pub fn attach(&self, py: Python<'_>, new: &Bound<'_, Loop>) -> PyResult<()> {
        let event_loop = new.get().event_loop();
        event_loop.check_local(py)?;
        self.leave_loop();
        event_loop.hub.set(ptr::from_ref(self).cast_mut());
        self.event_loop.set(event_loop);
        let old = self.loop_object.replace(new.clone().into_ptr().cast());
        // SAFETY: an owned reference.
        unsafe { ffi::Py_DECREF(old) };
        Ok(())
    }

    /// Allocates a hub of class `kind` that runs `event_loop`. A new reference, or null with an
    /// exception set.
    ///
    /// # Safety
    ///
    /// `kind` is the hub type or a subtype.
    unsafe fn allocate(kind: *mut ffi::PyTypeObject, made: Bound<'_, Loop>) -> *mut ffi::PyObject {
        let event_loop = made.get().event_loop();
        // SAFETY: a fresh object with room for a HubObject; each field behind the greenlet is
        // written once.
        unsafe {
            let this = types::allocate(kind, run::body).cast::<HubObject>();
            if this.is_null() {
                return ptr::null_mut();
            }
            event_loop.hub.set(this);
            (&raw mut (*this).event_loop).write(Cell::new(event_loop));
            (&raw mut (*this).loop_object).write(Cell::new(made.clone().into_ptr()));
            (&raw mut (*this).destroyed).write(Cell::new(false));
            this.cast()
        }
    }
}

/// An error of the reactor as the OSError subclass for its number.
#[cold]
pub fn reactor_error(py: Python<'_>, error: &std::io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(number) => crate::errors::os_error(py, number),
        None => PyOSError::new_err(error.to_string()),
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    methods::register(module)?;
    sleep::register(module)?;
    time_sleep::register(module)?;
    shield::register(module)?;
    callback::register(module)?;
    loop_object::register(module)?;
    watchers::register(module)?;
    watch::register(module)?;
    Ok(())
}
