//! The hub: one per thread, a greenlet that runs what is ready and waits for events.
//!
//! See `run` for the loop, `wait` for how greenlets park and are woken, `queue` for what is ready.

pub mod blocked;
pub mod callback;
pub mod inbox;
pub mod loop_object;
pub mod methods;
pub mod phases;
pub mod queue;
pub mod run;
pub mod sleep;
pub mod wait;
pub mod watchers;

use crate::greenlet::object::{Payload, PyGreenlet};
use crate::greenlet::thread::Thread;
use crate::greenlet::{switch, types};
use crate::task::throw_timer::ThrowTimer;
use greenloop_reactor::{Backend, Fired, Reactor};
use inbox::Inbox;
use phases::Phases;
use pyo3::exceptions::PyOSError;
use pyo3::ffi;
use pyo3::prelude::*;
use queue::{Entry, ReadyQueue};
use std::cell::{Cell, UnsafeCell};
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

/// What the reactor keeps for each timer, wait and watch.
pub enum Source {
    /// A parked greenlet.
    Wait(wait::Ticket),
    /// A watcher object (see `watchers`) to be told.
    Watcher(Py<PyAny>),
    /// A `Timeout`, with its exception to throw into a greenlet.
    Throw(Py<ThrowTimer>),
    /// A greenlet to start (`start_later`).
    Start(Py<PyAny>),
}

/// The reactor as it was when a poll without the GIL began.
#[derive(Clone, Copy)]
struct AtPoll {
    now: u64,
    active: usize,
}

/// Switches made without a look at the clock.
const SWITCHES_BETWEEN_LOOKS: u32 = 100;

/// The hub's memory: a greenlet with a loop.
#[repr(C)]
pub struct HubObject {
    base: PyGreenlet,
    ready: UnsafeCell<ReadyQueue>,
    reactor: UnsafeCell<Reactor<Source>>,
    fired: Cell<Vec<Fired<Source>>>,
    inbox: Arc<Inbox>,
    /// The Python object `hub.loop`; owned, null until asked for.
    loop_object: Cell<*mut ffi::PyObject>,
    /// Switches left until the clock is looked at.
    budget: Cell<u32>,
    /// When descriptors and timers were last looked at (ns), and how long that may be ago while
    /// greenlets are ready.
    polled_at: Cell<u64>,
    switch_interval: Cell<u64>,
    /// Work elsewhere (native threads) that will come back through the inbox.
    outstanding: Cell<usize>,
    /// Active watchers that do not keep the loop running.
    unreferenced: Cell<usize>,
    /// Active `async_` watchers that keep the loop running.
    open_async: Cell<usize>,
    /// Greenlets that wait for the loop to run out of work (`hub.join`).
    pub joining: wait::WaitList,
    /// Greenlets that wait until nothing is ready (`idle`).
    pub idling: wait::WaitList,
    /// Watchers that are called back in every round.
    pub phases: Phases,
    destroyed: Cell<bool>,
    /// What other threads are told of the reactor while this one is in the poll.
    at_poll: Cell<Option<AtPoll>>,
    backend: &'static str,
    /// When the wake-up descriptor for signals is looked after again (ns).
    listens_until: Cell<u64>,
    /// The process' main thread handles signals.
    handles_signals: bool,
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
        let class = {
            let class = HUB_CLASS.lock().unwrap_or_else(PoisonError::into_inner);
            class.as_ref().map(|class| class.clone_ref(py))
        };
        // Importing the module sets the class.
        let class = match class {
            Some(class) => class.into_bound(py),
            None => py.import("greenloop.hub")?.getattr("Hub")?,
        };
        let hub = class.call0()?;
        if thread.hub.get().is_null() {
            Self::install(thread, &hub)?;
        }
        // SAFETY: installed, and owned by the thread's record.
        Ok(unsafe { &*thread.hub.get() })
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

    /// Runs `f` with the reactor. `f` must not run Python code or switch: what it takes out of
    /// the reactor is dropped outside.
    #[inline]
    pub fn reactor<R>(&self, f: impl FnOnce(&mut Reactor<Source>) -> R) -> R {
        debug_assert!(self.at_poll.get().is_none());
        // SAFETY: reached with the GIL held, from the hub's own thread or while that is not in a
        // poll without the GIL. `f` does not come back here.
        f(unsafe { &mut *self.reactor.get() })
    }

    #[inline]
    fn ready<R>(&self, f: impl FnOnce(&mut ReadyQueue) -> R) -> R {
        // SAFETY: as for the reactor: own thread, and `f` does not come back here.
        f(unsafe { &mut *self.ready.get() })
    }

    /// Makes something ready, from any thread that holds the GIL.
    #[inline]
    pub fn push(&self, thread: &Thread, entry: Entry) {
        if thread.is_calling() {
            self.ready(|ready| ready.push(entry));
        } else {
            self.inbox.push(entry);
        }
    }

    /// Makes something ready in the calling thread, which is the hub's.
    #[inline]
    pub fn push_local(&self, entry: Entry) {
        self.ready(|ready| ready.push(entry));
    }

    /// Ends the hub's wait for events, from any thread.
    pub fn wake(&self) {
        self.inbox.wake();
    }

    pub fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Notes that something elsewhere will come back through the inbox.
    pub fn expect_outside(&self) {
        self.outstanding.set(self.outstanding.get() + 1);
    }

    /// Notes that it has come back, or will not.
    pub fn came_from_outside(&self) {
        self.outstanding.set(self.outstanding.get() - 1);
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
        while self.may_hand_over() {
            let Some(entry) = self.ready(ReadyQueue::pop_switch) else { break };
            if let Some(next) = entry.into_switch(thread) {
                return next;
            }
        }
        // SAFETY: the hub is alive.
        unsafe { ffi::Py_INCREF(self.as_ptr()) };
        (self.base.as_greenlet(), Payload::none())
    }

    /// Whether another switch may be made before descriptors and timers are looked at.
    #[inline]
    fn may_hand_over(&self) -> bool {
        let budget = self.budget.get();
        if budget > 0 {
            self.budget.set(budget - 1);
            return true;
        }
        self.look_at_clock()
    }

    #[cold]
    fn look_at_clock(&self) -> bool {
        let now = greenloop_reactor::monotonic_ns();
        if now.saturating_sub(self.polled_at.get()) >= self.switch_interval.get() {
            return false;
        }
        self.budget.set(SWITCHES_BETWEEN_LOOKS);
        true
    }

    pub fn change_unreferenced(&self, more: bool) {
        let count = self.unreferenced.get();
        self.unreferenced.set(if more { count + 1 } else { count - 1 });
    }

    pub fn change_open_async(&self, opened: bool, keeps_running: bool) {
        if keeps_running {
            self.change_open_async_kind(opened);
        }
    }

    pub fn change_open_async_kind(&self, more: bool) {
        let count = self.open_async.get();
        self.open_async.set(if more { count + 1 } else { count - 1 });
    }

    pub fn open_async(&self) -> usize {
        self.open_async.get()
    }

    /// Active timers, waits, watches and signals. From any thread.
    pub fn active_count(&self) -> usize {
        if let Some(AtPoll { active, .. }) = self.at_poll.get() {
            return active;
        }
        self.reactor(|reactor| {
            reactor.timer_count()
                + reactor.wait_count()
                + reactor.watch_count()
                + reactor.signal_count()
        }) + self.phases.len()
    }

    /// The loop's time (ns). From any thread.
    pub fn now(&self) -> u64 {
        match self.at_poll.get() {
            Some(AtPoll { now, .. }) => now,
            None => self.reactor(|reactor| reactor.now()),
        }
    }

    /// The name of the reactor's backend.
    pub fn backend(&self) -> &'static str {
        self.backend
    }

    pub fn ready_count(&self) -> usize {
        self.ready(|ready| ready.len())
    }

    pub fn handles_signals(&self) -> bool {
        self.handles_signals
    }

    /// After `fork`, in the child: makes the reactor's descriptors anew.
    pub fn reinit(&self, py: Python<'_>) -> PyResult<()> {
        self.reactor(|reactor| reactor.reinit_after_fork())
            .map_err(|error| reactor_error(py, &error))?;
        self.inbox.set_waker(self.reactor(|reactor| reactor.waker()));
        Ok(())
    }

    /// Called when the thread ends: drops everything that would have become ready.
    pub fn thread_ended(this: *mut Self) {
        // SAFETY: the caller owns a reference.
        unsafe { (*this).drop_work() };
    }

    /// Empties the queue, the inbox and the reactor.
    fn drop_work(&self) {
        self.destroyed.set(true);
        // SAFETY: the GIL is held.
        let py = unsafe { Python::assume_attached() };
        if !types::interpreter_is_finalizing()
            && let Err(error) = self.stop_listening(py)
        {
            error.write_unraisable(py, None);
        }
        while let Some(entry) = self.ready(ReadyQueue::pop) {
            entry.discard();
        }
        for entry in self.inbox.close() {
            entry.discard();
        }
        let mut sources = Vec::new();
        self.reactor(|reactor| reactor.clear(&mut sources));
        drop(sources);
        // The loop object and the hub own each other.
        // SAFETY: an owned reference or null, cleared before it is dropped.
        unsafe { ffi::Py_XDECREF(self.loop_object.replace(ptr::null_mut())) };
        // SAFETY: a hub has a thread until it is freed; the arena belongs to the calling thread.
        unsafe {
            if let Some(thread) = self.base.thread.get().as_ref()
                && thread.is_calling()
            {
                (*thread.arena.get()).unpin(&self.base.co);
            }
        }
        drop(self.phases.take());
    }

    /// Allocates a hub of class `kind`. A new reference, or null with an exception set.
    ///
    /// # Safety
    ///
    /// `kind` is the hub type or a subtype.
    unsafe fn allocate(py: Python<'_>, kind: *mut ffi::PyTypeObject) -> *mut ffi::PyObject {
        let reactor = match Reactor::new(Backend::Auto) {
            Ok(reactor) => reactor,
            Err(error) => {
                reactor_error(py, &error).restore(py);
                return ptr::null_mut();
            }
        };
        // SAFETY: a fresh object with room for a HubObject; each field behind the greenlet is
        // written once.
        unsafe {
            let this = types::allocate(kind, run::body).cast::<HubObject>();
            if this.is_null() {
                return ptr::null_mut();
            }
            let inbox = Arc::new(Inbox::new(reactor.waker()));
            (&raw mut (*this).at_poll).write(Cell::new(None));
            (&raw mut (*this).backend).write(reactor.backend());
            (&raw mut (*this).ready).write(UnsafeCell::new(ReadyQueue::new()));
            (&raw mut (*this).reactor).write(UnsafeCell::new(reactor));
            (&raw mut (*this).fired).write(Cell::new(Vec::with_capacity(256)));
            (&raw mut (*this).inbox).write(inbox);
            (&raw mut (*this).loop_object).write(Cell::new(ptr::null_mut()));
            (&raw mut (*this).budget).write(Cell::new(0));
            (&raw mut (*this).polled_at).write(Cell::new(0));
            (&raw mut (*this).switch_interval).write(Cell::new(5_000_000));
            (&raw mut (*this).outstanding).write(Cell::new(0));
            (&raw mut (*this).unreferenced).write(Cell::new(0));
            (&raw mut (*this).open_async).write(Cell::new(0));
            (&raw mut (*this).joining).write(wait::WaitList::new());
            (&raw mut (*this).idling).write(wait::WaitList::new());
            (&raw mut (*this).phases).write(Phases::new());
            (&raw mut (*this).destroyed).write(Cell::new(false));
            (&raw mut (*this).listens_until).write(Cell::new(0));
            (&raw mut (*this).handles_signals).write(run::on_main_thread());
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
    callback::register(module)?;
    loop_object::register(module)?;
    watchers::register(module)?;
    Ok(())
}
