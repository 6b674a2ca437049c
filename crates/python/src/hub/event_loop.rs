//! What a loop consists of: the ready queue, the reactor, the inbox, the watchers.
//!
//! A hub runs the loop it has; see `run`. A loop without a hub is one that a program has made, and
//! runs by `loop.run()` in whichever greenlet calls that.

use super::hand_over::HandOver;
use super::inbox::Inbox;
use super::phases::Phases;
use super::queue::{Entry, ReadyQueue};
use super::wait::{Reason, WaitList};
use super::watchers::{self, Pending};
use super::{HubObject, Source, reactor_error, run};
use crate::aio::event_loop::{self as asyncio, AsyncioLoop};
use crate::aio::sockets::Sockets;
use crate::exceptions;
use crate::greenlet::thread::Thread;
use crate::greenlet::types::interpreter_is_finalizing;
use crate::threadpool::queue::Queue;
use greenloop_reactor::{Backend, Fired, Reactor};
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::mem;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

/// A loop. Lives in its Python object (`loop_object::Loop`), boxed: its address is its identity.
pub struct EventLoop {
    /// The thread that it belongs to: an owned count of the record.
    thread: *const Thread,
    /// The hub that runs it: borrowed, null if there is none.
    pub(super) hub: Cell<*mut HubObject>,
    /// A hub has left it for the next one.
    pub(super) left_by_hub: Cell<bool>,
    backend: &'static str,
    pub(super) ready: UnsafeCell<ReadyQueue>,
    pub(super) reactor: UnsafeCell<Reactor<Source>>,
    pub(super) fired: Cell<Vec<Fired<Source>>>,
    inbox: Arc<Inbox>,
    /// At which count of `Thread::beat` the clock is looked at.
    pub(super) look_at: Cell<u64>,
    /// When descriptors and timers were last looked at (ns), and how long that may be ago while
    /// greenlets are ready.
    pub(super) polled_at: Cell<u64>,
    pub(super) switch_interval: Cell<u64>,
    /// The loop's time as of the last look at the clock (ns).
    now: Cell<u64>,
    /// While the loop waits without the GIL: how much was active when the wait began.
    pub(super) waiting: Cell<Option<usize>>,
    /// Work elsewhere (native threads) that will come back through the inbox.
    pub(super) outstanding: Cell<usize>,
    /// Worker threads to be woken when the loop waits.
    pub(super) hand_over: HandOver,
    /// Active watchers that do not keep the loop running.
    unreferenced: Cell<usize>,
    /// Active `async_` watchers that keep the loop running.
    pub(super) open_async: Cell<usize>,
    /// What `loop.ref()` has added and `loop.unref()` taken away.
    pub(super) extra_references: Cell<isize>,
    /// Greenlets that wait for the loop to run out of work (`hub.join`).
    pub joining: WaitList,
    /// Greenlets that wait for one round of the loop (`loop.run(once=True)`).
    pub(super) one_round: WaitList,
    /// How many of these do not want it to wait for events.
    pub(super) hurried: Cell<usize>,
    /// Greenlets that wait until nothing is ready (`idle`).
    pub idling: WaitList,
    /// Watchers that are called back in every round.
    pub phases: Phases,
    /// Watchers whose event has happened and that have not been called back yet.
    pub(super) pending: RefCell<Vec<Pending>>,
    /// This process was forked, and fork watchers have not been told yet.
    pub(super) forked: Cell<bool>,
    pub(super) depth: Cell<usize>,
    pub(super) iteration: Cell<u64>,
    /// `loop.break_()` was called.
    pub(super) broken: Cell<bool>,
    /// An error that a `loop.run()` in the running greenlet has to raise.
    pub(super) raised: Cell<Option<PyErr>>,
    /// Whose `handle_error` is told of errors, in the hub's place.
    pub(super) error_handler: RefCell<Option<Py<PyAny>>>,
    pub(super) default: Cell<bool>,
    closed: Cell<bool>,
    /// When the wake-up descriptor for signals is looked after again (ns).
    pub(super) listens_until: Cell<u64>,
    /// It belongs to the process' main thread, which handles signals.
    pub(super) handles_signals: bool,
    /// Something else may wait on the reactor's descriptor: it was asked for.
    pub(super) observed: Cell<bool>,
    /// The asyncio loops that run on this one.
    asyncio: RefCell<Vec<Py<AsyncioLoop>>>,
}

// SAFETY: everything in it is touched with the GIL held only, and what the reactor changes while it
// waits without the GIL is touched by the loop's own thread only, which is in the wait.
unsafe impl Send for EventLoop {}
// SAFETY: as above.
unsafe impl Sync for EventLoop {}

/// All loops of the process, by address: a forked child has to make their descriptors anew.
static LOOPS: Mutex<Vec<usize>> = Mutex::new(Vec::new());

impl EventLoop {
    /// A loop of the calling thread, over the first of `backends` that works; `None` for whichever
    /// is best.
    ///
    /// # Errors
    ///
    /// OSError when the system has no descriptors left for it, or none of the backends.
    pub fn new(py: Python<'_>, backends: &[Backend], default: bool) -> PyResult<Box<Self>> {
        let thread = Thread::get(py)?;
        let reactor = Self::reactor_over(backends).map_err(|error| reactor_error(py, &error))?;
        // SAFETY: records are made by Arc, and the thread's own count is alive.
        unsafe { Arc::increment_strong_count(ptr::from_ref(thread)) };
        let this = Box::new(Self {
            thread,
            hub: Cell::new(ptr::null_mut()),
            left_by_hub: Cell::new(false),
            backend: reactor.backend(),
            ready: UnsafeCell::new(ReadyQueue::new()),
            inbox: Arc::new(Inbox::new(reactor.waker())),
            now: Cell::new(reactor.now()),
            reactor: UnsafeCell::new(reactor),
            fired: Cell::new(Vec::with_capacity(256)),
            look_at: Cell::new(0),
            polled_at: Cell::new(0),
            switch_interval: Cell::new(5_000_000),
            waiting: Cell::new(None),
            outstanding: Cell::new(0),
            hand_over: HandOver::new(),
            unreferenced: Cell::new(0),
            open_async: Cell::new(0),
            extra_references: Cell::new(0),
            joining: WaitList::new(),
            one_round: WaitList::new(),
            hurried: Cell::new(0),
            idling: WaitList::new(),
            phases: Phases::new(),
            pending: RefCell::new(Vec::new()),
            forked: Cell::new(false),
            depth: Cell::new(0),
            iteration: Cell::new(0),
            broken: Cell::new(false),
            raised: Cell::new(None),
            error_handler: RefCell::new(None),
            default: Cell::new(default),
            closed: Cell::new(false),
            listens_until: Cell::new(0),
            handles_signals: run::on_main_thread(),
            observed: Cell::new(false),
            asyncio: RefCell::new(Vec::new()),
        });
        lock_loops().push(ptr::from_ref(&*this).expose_provenance());
        Ok(this)
    }

    fn reactor_over(backends: &[Backend]) -> std::io::Result<Reactor<Source>> {
        let mut outcome = Err(std::io::ErrorKind::Unsupported.into());
        for &backend in backends {
            outcome = Reactor::new(backend);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    pub fn backend(&self) -> &'static str {
        self.backend
    }

    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Whether the caller runs in the loop's thread.
    #[inline]
    pub fn is_local(&self) -> bool {
        Thread::try_get().is_some_and(|calling| ptr::eq(calling, self.thread))
    }

    /// The hub that runs the loop.
    pub fn hub(&self) -> Option<&HubObject> {
        // SAFETY: a hub takes itself out of its loop before it is freed.
        unsafe { self.hub.get().as_ref() }
    }

    /// # Errors
    ///
    /// ValueError once the loop has been destroyed.
    pub fn check_open(&self) -> PyResult<()> {
        if self.closed.get() {
            return Err(PyValueError::new_err("operation on destroyed loop"));
        }
        Ok(())
    }

    /// # Errors
    ///
    /// ValueError once the loop has been destroyed, InvalidThreadUseError in other threads.
    pub fn check_local(&self, py: Python<'_>) -> PyResult<()> {
        self.check_open()?;
        if self.is_local() {
            return Ok(());
        }
        Err(exceptions::invalid_thread_use(
            py,
            "this loop belongs to another thread: use run_callback_threadsafe there",
        ))
    }

    /// Runs `f` with the reactor. `f` must not run Python code or switch: what it takes out of
    /// the reactor is dropped outside.
    #[inline]
    pub fn reactor<R>(&self, f: impl FnOnce(&mut Reactor<Source>) -> R) -> R {
        // SAFETY: reached from the loop's own thread only, and never while it polls: the thread is
        // inside the poll then. `f` does not come back here.
        f(unsafe { &mut *self.reactor.get() })
    }

    #[inline]
    pub(super) fn ready<R>(&self, f: impl FnOnce(&mut ReadyQueue) -> R) -> R {
        // SAFETY: as for the reactor: own thread (or, for the length, with the GIL), and `f` does
        // not come back here.
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

    /// Makes something ready in the calling thread, which is the loop's.
    #[inline]
    pub fn push_local(&self, entry: Entry) {
        self.ready(|ready| ready.push(entry));
    }

    /// Makes something of the calling thread, which is the loop's, the next to run.
    pub fn push_next(&self, entry: Entry) {
        self.ready(|ready| ready.push_front(entry));
    }

    /// Ends the wait for events, from any thread.
    pub fn wake(&self) {
        self.inbox.wake();
    }

    /// Makes the reactor's descriptor readable if something is ready, for whoever waits on it in the
    /// loop's place.
    #[inline]
    pub fn tell_observer(&self) {
        if self.observed.get() && self.ready_count() > 0 {
            self.wake();
        }
    }

    pub fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// The asyncio loops that run on this one.
    pub fn asyncio(&self) -> &RefCell<Vec<Py<AsyncioLoop>>> {
        &self.asyncio
    }

    /// When descriptors and timers were last looked at (ns).
    pub fn polled_at(&self) -> u64 {
        self.polled_at.get()
    }

    /// Has descriptors and timers looked at as soon as the running greenlet leaves.
    pub fn look_soon(&self) {
        self.look_at.set(0);
        self.polled_at.set(0);
    }

    /// Notes that something elsewhere will come back through the inbox.
    pub fn expect_outside(&self) {
        self.outstanding.set(self.outstanding.get() + 1);
    }

    /// Notes that it has come back, or will not.
    pub fn came_from_outside(&self) {
        // What a fork has left behind is not counted any more.
        self.outstanding.set(self.outstanding.get().saturating_sub(1));
    }

    /// Whether the loop is going to wait as soon as the running greenlet does.
    pub fn is_about_to_wait(&self) -> bool {
        self.ready_count() == 0 && self.inbox.is_empty()
    }

    /// Has a worker thread of the pool woken when the loop waits.
    pub fn hand_over(&self, queue: &Arc<Queue>) {
        self.hand_over.put(queue);
    }

    /// The loop's time (ns of the monotonic clock).
    pub fn now(&self) -> u64 {
        self.now.get()
    }

    /// Sets the loop's time to the present. In its own thread only.
    pub fn update_now(&self) -> u64 {
        let now = self.reactor(|reactor| reactor.update_now());
        self.now.set(now);
        now
    }

    pub fn change_unreferenced(&self, more: bool) {
        let count = self.unreferenced.get();
        self.unreferenced.set(if more { count + 1 } else { count - 1 });
    }

    pub fn change_open_async(&self, more: bool) {
        let count = self.open_async.get();
        self.open_async.set(if more { count + 1 } else { count - 1 });
    }

    /// What is active and keeps the loop running.
    pub fn active_count(&self) -> usize {
        self.waiting.get().unwrap_or_else(|| self.count_active())
    }

    pub(super) fn count_active(&self) -> usize {
        let active = self.reactor(|reactor| {
            reactor.timer_count()
                + reactor.wait_count()
                + reactor.watch_count()
                + reactor.signal_count()
                + reactor.child_count()
                + reactor.periodic_count()
        }) + self.phases.len();
        (active - self.unreferenced.get() + self.open_async.get())
            .saturating_add_signed(self.extra_references.get())
    }

    pub fn ready_count(&self) -> usize {
        self.ready(|ready| ready.len()) + self.pending.borrow().len()
    }

    pub fn handles_signals(&self) -> bool {
        self.handles_signals
    }

    /// Tells of an error that nobody caught: the error handler that was set, else the hub's
    /// `handle_error`. Without either it ends `loop.run()`, which raises what is meant for the whole
    /// program (KeyboardInterrupt); else it is printed.
    pub fn report(&self, py: Python<'_>, context: Option<&Bound<'_, PyAny>>, error: PyErr) {
        let handler = self.error_handler.borrow().as_ref().map(|handler| handler.clone_ref(py));
        let handler = match (handler, self.hub()) {
            (Some(handler), _) => handler.into_bound(py),
            // SAFETY: the hub is alive.
            (None, Some(hub)) => unsafe { Bound::from_borrowed_ptr(py, hub.as_ptr()) },
            // Not the fault of a callback, or not meant for it: the caller of `run` is told.
            (None, None) if context.is_none() || !error.is_instance_of::<PyException>(py) => {
                self.raised.set(Some(error));
                self.broken.set(true);
                return;
            }
            (None, None) => {
                error.print(py);
                self.broken.set(true);
                return;
            }
        };
        let args = (context, error.get_type(py), error.value(py), error.traceback(py));
        let outcome = match handler.getattr_opt("handle_error") {
            Ok(Some(method)) => method.call1(args),
            Ok(None) => handler.call1(args),
            Err(error) => Err(error),
        };
        if let Err(failure) = outcome {
            failure.write_unraisable(py, Some(&handler));
        }
    }

    /// Ends all use of a descriptor that is about to be closed: who waits for it goes on, and
    /// watchers of it are called back once more. Whether there were any.
    pub fn forget_fd(&self, py: Python<'_>, fd: RawFd) -> bool {
        let mut fired = Vec::new();
        self.reactor(|reactor| reactor.forget_fd(fd, &mut fired));
        let any = !fired.is_empty();
        for event in fired {
            match event {
                Fired::Wait { data: Source::Wait(ticket), .. } => {
                    ticket.wake(Reason::Closed);
                }
                Fired::Wait {
                    data: Source::AsyncioWait { event_loop, index, binding }, ..
                } => {
                    Sockets::ready(py, self, &event_loop, index, binding);
                }
                other => watchers::collect(py, self, other),
            }
        }
        any
    }

    /// The loop that a thread's hub has left behind for its next one, if there is one.
    #[cold]
    pub fn without_hub(thread: &Thread) -> Option<&Self> {
        let loops = lock_loops().clone();
        // SAFETY: a loop takes itself out before it is freed, which needs the GIL. That of a hub is
        // kept by the thread.
        let mut loops = loops
            .into_iter()
            .map(|address| unsafe { &*ptr::with_exposed_provenance::<Self>(address) });
        loops.find(|this| {
            ptr::eq(this.thread, thread)
                && this.left_by_hub.get()
                && !this.closed.get()
                && this.hub.get().is_null()
        })
    }

    /// After `fork`, in the child: makes the reactor's descriptors anew.
    pub fn reinit(&self, py: Python<'_>) -> PyResult<()> {
        self.reactor(|reactor| reactor.reinit_after_fork())
            .map_err(|error| reactor_error(py, &error))?;
        self.inbox.set_waker(self.reactor(|reactor| reactor.waker()));
        Ok(())
    }

    /// In a forked child: makes the loops of the thread that lives on usable.
    pub fn all_forked(py: Python<'_>) -> PyResult<()> {
        let loops = lock_loops().clone();
        let mut outcome = Ok(());
        for address in loops {
            // SAFETY: a loop takes itself out before it is freed, which needs the GIL.
            let this = unsafe { &*ptr::with_exposed_provenance::<Self>(address) };
            if !this.is_local() || this.closed.get() {
                continue;
            }
            this.forked.set(true);
            if let Err(error) = this.reinit(py) {
                outcome = Err(error);
            }
            this.leave_behind(py);
        }
        outcome
    }

    /// In a forked child: what is ready or waited for is the parent's, see `fork`.
    fn leave_behind(&self, py: Python<'_>) {
        // SAFETY: the calling thread's record, as the loop is local.
        let thread = unsafe { &*self.thread };
        let (here, main) = (thread.current(), thread.main());
        self.outstanding.set(0);
        asyncio::forked(py, &self.asyncio);
        here.wait.bring_along();
        // SAFETY: a thread's main greenlet lives as long as the thread.
        unsafe { (*main).wait.bring_along() };
        let here = here.as_ptr();
        let mut ready = Vec::new();
        while let Some(entry) = self.ready(ReadyQueue::pop) {
            ready.push(entry);
        }
        ready.extend(self.inbox.take());
        for entry in ready {
            // What is not kept keeps its references: dropping the last one would end a greenlet.
            if entry.target().is_none_or(|target| ptr::eq(target.cast(), here)) {
                self.push_local(entry);
            }
        }
        let mut left = Vec::new();
        self.reactor(|reactor| {
            reactor.remove_if(
                |source| match source {
                    Source::Wait(_) | Source::Start(_) => true,
                    Source::Throw(timeout) | Source::ThrowUnreferenced(timeout) => {
                        !timeout.bind(py).get().is_for(here)
                    }
                    // Those of asyncio loops are for callbacks, which are not made as long as the
                    // greenlet that forked does not come back to its loop.
                    Source::Watcher(_)
                    | Source::Asyncio { .. }
                    | Source::AsyncioWatch { .. }
                    | Source::AsyncioWait { .. } => false,
                },
                &mut left,
            );
        });
        let unreferenced =
            left.iter().filter(|source| matches!(source, Source::ThrowUnreferenced(_))).count();
        for _ in 0..unreferenced {
            self.change_unreferenced(false);
        }
        left.into_iter().for_each(mem::forget);
    }

    /// Drops what is ready: callbacks, and switches to greenlets that were woken.
    pub fn discard_ready(&self) {
        while let Some(entry) = self.ready(ReadyQueue::pop) {
            entry.discard();
        }
        for entry in self.inbox.take() {
            entry.discard();
        }
        let pending = self.pending.take();
        watchers::forget(pending);
    }

    /// Ends the loop: drops what is ready and what it waits for, and closes its descriptors.
    pub fn destroy(&self) {
        if self.closed.replace(true) {
            return;
        }
        self.default.set(false);
        self.hand_over.give_up();
        // SAFETY: the GIL is held.
        let py = unsafe { Python::assume_attached() };
        if !interpreter_is_finalizing()
            && let Err(error) = self.stop_listening(py)
        {
            error.write_unraisable(py, None);
        }
        self.discard_ready();
        for entry in self.inbox.close() {
            entry.discard();
        }
        let mut sources = Vec::new();
        self.reactor(|reactor| reactor.close(&mut sources));
        for source in &sources {
            if let Source::Watcher(watcher) = source {
                watchers::loop_ended(watcher.bind(py));
            }
        }
        let phases = self.phases.take();
        for watcher in &phases {
            watchers::loop_ended(watcher.bind(py));
        }
        self.unreferenced.set(0);
        self.open_async.set(0);
        self.extra_references.set(0);
        drop(sources);
        drop(phases);
        let handler = self.error_handler.take();
        drop(handler);
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        self.destroy();
        let address = ptr::from_ref(self).addr();
        lock_loops().retain(|&other| other != address);
        // SAFETY: the count that `new` took.
        unsafe { Arc::decrement_strong_count(self.thread) };
    }
}

fn lock_loops() -> std::sync::MutexGuard<'static, Vec<usize>> {
    LOOPS.lock().unwrap_or_else(PoisonError::into_inner)
}
