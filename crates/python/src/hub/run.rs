//! The hub's loop: run what is ready, then wait for events.
//!
//! One round: everything in the ready queue is run in order, things that become ready meanwhile
//! included, but descriptors and timers are looked at after the switch interval at the latest.
//! If something is ready the poll does not block and the GIL is kept; it is released only around
//! a wait that can block, and only after a poll that found nothing.

use super::event_loop::EventLoop;
use super::hand_over::hand_over;
use super::phases::Phase;
use super::queue::{Entry, ReadyQueue};
use super::wait::{Reason, reason_of};
use super::{HubObject, Source, blocked, callback, reactor_error, watchers};
use crate::aio::descriptors::Descriptors;
use crate::aio::event_loop::{self as asyncio, AsyncioLoop};
use crate::aio::sockets::Sockets;
use crate::errors::{raise, take_raised};
use crate::greenlet::exceptions::is_greenlet_exit;
use crate::greenlet::object::{Next, Payload, PyGreenlet};
use crate::greenlet::switch;
use crate::greenlet::thread::Thread;
use crate::greenlet::types::interpreter_is_finalizing;
use crate::task::functions::new_raw;
use crate::task::timeout::Timeout;
use greenloop_reactor::{Fired, Polled};
use pyo3::IntoPyObjectExt;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use std::cell::Cell;
use std::ptr;
use std::time::Duration;

/// How often the wake-up descriptor for signals is looked after (ns).
const LISTEN_INTERVAL: u64 = 50_000_000;

/// Whether the calling thread is the process' main thread, where Python runs signal handlers.
pub fn on_main_thread() -> bool {
    rustix::thread::gettid() == rustix::process::getpid()
}

/// What the hub does on its own stack.
///
/// # Safety
///
/// Called as a greenlet's body, for a hub.
pub unsafe fn body(here: &PyGreenlet, first: Payload) -> Next {
    // SAFETY: only hubs have this body.
    let hub = unsafe { &*here.as_greenlet().cast::<HubObject>() };
    // SAFETY: a greenlet that runs has a thread.
    let thread = unsafe { &*here.thread.get() };
    // The GIL is held; attaching tells pyo3 so, for as long as there is a hub. Otherwise it would
    // put off dropping references where Python calls our functions without its wrappers. An
    // interpreter that goes down is not attached to any more.
    if interpreter_is_finalizing() {
        // SAFETY: the GIL is held.
        return hub.run(unsafe { Python::assume_attached() }, thread, here, first);
    }
    Python::attach(|py| hub.run(py, thread, here, first))
}

impl HubObject {
    fn run(&self, py: Python<'_>, thread: &Thread, here: &PyGreenlet, first: Payload) -> Next {
        // SAFETY: the arena is this thread's and no borrow of it is alive.
        unsafe { (*thread.arena.get()).pin(&here.co) };
        self.take(py, first);
        self.begin_monitoring(py);
        loop {
            self.run_ready(py, thread, &self.destroyed);
            if self.destroyed.get() {
                return (self.successor(thread, here), Payload::none());
            }
            if !self.poll(py, thread, false) {
                self.out_of_work(py, thread);
            }
        }
    }

    /// Who goes on where this hub ends: an owned reference. It ends when one of its greenlets does. If
    /// its loop has been left to another hub, that is in its place from then on.
    fn successor(&self, thread: &Thread, here: &PyGreenlet) -> *mut PyGreenlet {
        // SAFETY: owned by the thread's record; references are taken before others are given away.
        unsafe {
            match thread.hub.get().as_ref() {
                Some(hub) if !self.is_closed() && !ptr::eq(hub, self) && !hub.destroyed.get() => {
                    let hub = hub.greenlet().as_greenlet();
                    ffi::Py_INCREF(hub.cast());
                    let parent = here.parent.replace(hub);
                    thread.leave_over(parent.cast());
                    ffi::Py_INCREF(hub.cast());
                    hub
                }
                _ => thread.main_owned(),
            }
        }
    }

    /// Starts the thread that looks after this one, if the program has asked for it.
    fn begin_monitoring(&self, py: Python<'_>) {
        // SAFETY: the hub is alive.
        let hub = unsafe { Bound::from_borrowed_ptr(py, self.as_ptr()) };
        let started = hub
            .getattr_opt("start_periodic_monitoring_thread")
            .and_then(|start| start.map(|start| start.call0()).transpose());
        if let Err(error) = started {
            crate::exceptions::handle_error(py, self, Some(&hub), error);
        }
    }

    /// Nothing can become ready any more: whoever waits in the main greenlet is told.
    fn out_of_work(&self, py: Python<'_>, thread: &Thread) {
        if !self.joining.is_empty() || !self.one_round.is_empty() {
            self.one_round.wake_all();
            self.joining.wake_all();
            return;
        }
        let error = blocked::loop_exit(py, self);
        error.restore(py);
        let error = take_raised();
        // SAFETY: this is the calling thread's hub; no borrow is alive.
        let back = unsafe { switch::transfer(thread, thread.main(), Payload::Throw(error)) };
        thread.drop_leftovers();
        self.take(py, back);
    }
}

impl EventLoop {
    /// `loop.run()` in the hub, or of a loop that has none: runs the loop on the caller's stack
    /// until nothing keeps it running, `break_` is called, or (with `one_round`) it has looked for
    /// events once. With `hurry` it does not wait for them.
    ///
    /// # Errors
    ///
    /// What a signal handler raises, if nothing else is to be told of it.
    pub fn run_here(&self, py: Python<'_>, one_round: bool, hurry: bool) -> PyResult<()> {
        let thread = Thread::get(py)?;
        let _listening = Listening::begin(py, self, thread)?;
        self.depth.set(self.depth.get() + 1);
        self.broken.set(false);
        loop {
            self.run_ready(py, thread, &self.broken);
            if self.broken.get() || self.is_closed() {
                break;
            }
            let more = self.poll(py, thread, hurry);
            if one_round || hurry {
                // What these events have made ready belongs to the round.
                self.run_ready(py, thread, &self.broken);
                break;
            }
            if !more || self.broken.get() {
                break;
            }
        }
        self.broken.set(false);
        self.depth.set(self.depth.get() - 1);
        // It may have been left before all was done.
        self.tell_observer();
        self.raised.take().map_or(Ok(()), Err)
    }

    /// Runs ready entries until there are none, the switch interval is over, or `stop` is set.
    fn run_ready(&self, py: Python<'_>, thread: &Thread, stop: &Cell<bool>) {
        while !stop.get() {
            if !self.inbox().is_empty() {
                self.open_inbox();
            }
            if !self.may_hand_over(thread) {
                return;
            }
            let Some(entry) = self.ready(ReadyQueue::pop) else { return };
            // It may run for long.
            self.hand_over.give_up();
            match entry {
                Entry::Call { callback } => callback::run(py, self, callback),
                entry => {
                    if let Some((target, payload)) = entry.into_switch(thread) {
                        // SAFETY: the running greenlet is the hub, as only a hub's loop is given
                        // greenlets to run; no borrow is alive.
                        let back = unsafe { switch::transfer_owned(thread, target, payload) };
                        thread.drop_leftovers();
                        self.take(py, back);
                    }
                }
            }
        }
    }

    /// Takes what the hub is switched to with: values mean nothing, errors of greenlets whose
    /// parent is the hub are reported.
    fn take(&self, py: Python<'_>, payload: Payload) {
        match payload {
            // That is how a hub is ended whose thread ends.
            Payload::Throw(error)
                if self.hub().is_none_or(|hub| hub.destroyed.get()) && is_greenlet_exit(error) =>
            {
                Payload::Throw(error).discard();
            }
            Payload::Throw(error) => {
                raise(error);
                // Not known is which greenlet it was. Without a context it would be the main
                // greenlet's affair.
                // SAFETY: the hub is alive.
                let context =
                    self.hub().map(|hub| unsafe { Bound::from_borrowed_ptr(py, hub.as_ptr()) });
                self.report(py, context.as_ref(), PyErr::fetch(py));
            }
            other => other.discard(),
        }
    }

    fn open_inbox(&self) {
        for entry in self.inbox().take() {
            self.push_local(entry);
        }
    }

    /// Looks for events, waiting for one if nothing is ready, unless in a `hurry`. False if there
    /// is nothing to wait for.
    fn poll(&self, py: Python<'_>, thread: &Thread, hurry: bool) -> bool {
        thread.bury_orphans();
        if !self.asyncio().borrow().is_empty() {
            asyncio::before_poll(py, self.asyncio());
        }
        self.iteration.set(self.iteration.get() + 1);
        if !self.phases.is_empty(Phase::Prepare) {
            self.hand_over.give_up();
        }
        if self.forked.replace(false) {
            watchers::dispatch_phase(py, self, Phase::Fork);
        }
        watchers::dispatch_phase(py, self, Phase::Prepare);
        let mut fired = self.fired.take();
        debug_assert!(fired.is_empty());
        let hurry = hurry || self.hurried.get() > 0;
        thread.beat();
        let outcome = self.poll_into(py, thread, &mut fired, hurry);
        self.polled_at.set(self.update_now());
        self.look_later(thread);
        let (mut woken, mut signalled) = (false, false);
        let mut more = true;
        match outcome {
            Ok(Some(polled)) => signalled = polled.interrupted || polled.signalled,
            Ok(None) => more = false,
            Err(error) => self.report(py, None, reactor_error(py, &error)),
        }
        for event in fired.drain(..) {
            match event {
                Fired::Wait { ready, data: Source::Wait(ticket), .. } => {
                    ticket.wake(reason_of(ready));
                }
                Fired::Wait {
                    data: Source::AsyncioWait { event_loop, index, binding }, ..
                } => {
                    Sockets::ready(py, self, &event_loop, index, binding);
                }
                Fired::Timer { data: Source::Wait(ticket), .. } => {
                    ticket.wake(Reason::TimedOut);
                }
                Fired::Timer { key, data: Source::Throw(timeout) } => {
                    Timeout::expired(timeout.bind(py), key, self);
                }
                Fired::Timer { key, data: Source::ThrowUnreferenced(timeout) } => {
                    self.change_unreferenced(false);
                    Timeout::expired(timeout.bind(py), key, self);
                }
                Fired::Timer { data: Source::Start(greenlet), .. } => {
                    self.push_local(Entry::Start { greenlet: greenlet.into_ptr().cast() });
                }
                Fired::Timer { data: Source::Asyncio { handle, binding }, .. } => {
                    AsyncioLoop::timer_fired(py, self, handle, binding);
                }
                Fired::Watch { key, ready } => {
                    let data = self.reactor(|reactor| match reactor.watch_data(key) {
                        Some(Source::AsyncioWatch { handle, binding }) => {
                            Some((handle.clone(), *binding))
                        }
                        _ => None,
                    });
                    match data {
                        Some((handle, binding)) => {
                            Descriptors::ready(py, self, (key, ready), handle, binding)
                        }
                        None => watchers::collect(py, self, event),
                    }
                }
                Fired::Woken => woken = true,
                other => watchers::collect(py, self, other),
            }
        }
        self.fired.set(fired);
        watchers::call_pending(py, self);
        watchers::dispatch_phase(py, self, Phase::Check);
        if !self.inbox().is_empty() {
            self.open_inbox();
        }
        if (woken || signalled) && self.handles_signals() {
            self.check_signals(py, signalled);
        }
        self.one_round.wake_all();
        more
    }

    /// Runs Python's signal handlers: in a greenlet, so that they may wait, if it is `likely` that
    /// there are any to run. What they raise goes to the main greenlet.
    fn check_signals(&self, py: Python<'_>, likely: bool) {
        if likely && self.hub().is_some() {
            static RUN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            let started = RUN
                .get_or_try_init(py, || wrap_pyfunction!(_run_signal_handlers, py)?.into_py_any(py))
                .and_then(|run| new_raw(run.bind(py).clone()));
            match started {
                Ok(greenlet) => {
                    self.push_local(Entry::Start { greenlet: greenlet.into_ptr().cast() })
                }
                Err(error) => self.report(py, None, error),
            }
        } else {
            self.run_signal_handlers(py);
        }
    }

    fn run_signal_handlers(&self, py: Python<'_>) {
        // SAFETY: the GIL is held.
        if unsafe { ffi::PyErr_CheckSignals() } != 0 {
            self.report(py, None, PyErr::fetch(py));
        }
    }

    fn poll_into(
        &self,
        py: Python<'_>,
        thread: &Thread,
        fired: &mut Vec<Fired<Source>>,
        hurry: bool,
    ) -> std::io::Result<Option<Polled>> {
        let polled = self.reactor(|reactor| reactor.poll(Some(Duration::ZERO), fired))?;
        if !fired.is_empty()
            || polled.interrupted
            || !self.ready(|ready| ready.is_empty())
            || !self.inbox().is_empty()
            || !self.pending.borrow().is_empty()
            || self.broken.get()
            || hurry
        {
            self.hand_over.give_up();
            return Ok(Some(polled));
        }
        let worker = self.hand_over.take();
        let more = self.has_work();
        if let Some(queue) = &worker
            && !(more && self.idling.is_empty() && self.phases.is_empty(Phase::Idle))
        {
            queue.notify();
        }
        if !self.idling.is_empty() {
            self.idling.wake_all();
            return Ok(Some(polled));
        }
        if !self.phases.is_empty(Phase::Idle) {
            watchers::dispatch_phase(py, self, Phase::Idle);
            return Ok(more.then_some(polled));
        }
        if !more {
            return Ok(None);
        }
        // When the interpreter goes down there are no handlers any more.
        if self.handles_signals() && !interpreter_is_finalizing() {
            self.listen_to_signals(py);
        }
        self.waiting.set(Some(self.count_active()));
        thread.set_idle(true);
        // SAFETY: the thread state is put back before anything else happens. Nobody else touches
        // the reactor: it is this thread's, and others are told what is in `waiting`.
        let polled = unsafe {
            let state = ffi::PyEval_SaveThread();
            if let Some(queue) = worker {
                hand_over(&queue, || !self.inbox().is_empty());
            }
            let polled = (*self.reactor.get()).poll(None, fired);
            ffi::PyEval_RestoreThread(state);
            polled
        };
        thread.beat();
        thread.set_idle(false);
        self.waiting.set(None);
        polled.map(Some)
    }

    /// Lets signals end the wait. Python's handlers run between bytecodes only; a signal that
    /// arrives after the last check and before the wait begins would be noticed late without a
    /// byte in the wake-up pipe. Somebody else's wake-up descriptor is left alone: whoever set it
    /// (asyncio) waits on it through this very loop. When they take it away, ours is set again,
    /// which is not looked after on every wait: it costs two system calls.
    fn listen_to_signals(&self, py: Python<'_>) {
        let now = self.polled_at.get();
        if now < self.listens_until.get() {
            return;
        }
        self.listens_until.set(now + LISTEN_INTERVAL);
        if let Err(error) = self.set_wakeup_fd(py) {
            self.report(py, None, error);
        }
    }

    fn set_wakeup_fd(&self, py: Python<'_>) -> PyResult<()> {
        let ours = self.wakeup_fd();
        let before = exchange_wakeup_fd(py, ours)?;
        if before != -1 && before != ours && exchange_wakeup_fd(py, before).is_err() {
            // It has been closed without being taken away.
            exchange_wakeup_fd(py, ours)?;
        }
        Ok(())
    }

    fn wakeup_fd(&self) -> i32 {
        self.reactor(|reactor| reactor.waker().raw_fd())
    }

    /// Takes the wake-up descriptor away before it is closed, if it is ours.
    pub(super) fn stop_listening(&self, py: Python<'_>) -> PyResult<()> {
        if !self.handles_signals() || self.listens_until.replace(0) == 0 || !on_main_thread() {
            return Ok(());
        }
        let set = py.import("_signal")?.getattr("set_wakeup_fd")?;
        let ours = self.reactor(|reactor| reactor.waker().raw_fd());
        let before: i32 = set.call1((-1,))?.extract()?;
        if before != -1 && before != ours {
            set.call1((before,))?;
        }
        Ok(())
    }

    /// Whether anything can still become ready. Other threads can release a lock or put an item for
    /// a greenlet that waits, but keep neither a loop without a hub running, nor `hub.join()`
    /// waiting.
    fn has_work(&self) -> bool {
        self.active_count() > 0
            || self.outstanding.get() > 0
            || (!self.hub.get().is_null()
                && self.joining.is_empty()
                && self.one_round.is_empty()
                && other_threads_run())
    }
}

/// The body of the greenlet in which the hub has signal handlers run.
#[pyfunction]
fn _run_signal_handlers(py: Python<'_>) -> PyResult<()> {
    HubObject::get(py)?.run_signal_handlers(py);
    Ok(())
}

/// Has signals write to `fd` and returns what they have written to before; -1 for none.
fn exchange_wakeup_fd(py: Python<'_>, fd: i32) -> PyResult<i32> {
    static SET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let set = SET
        .get_or_try_init(py, || {
            Ok::<_, PyErr>(py.import("_signal")?.getattr("set_wakeup_fd")?.unbind())
        })?
        .bind(py);
    let keywords = PyDict::new(py);
    keywords.set_item("warn_on_full_buffer", false)?;
    set.call((fd,), Some(&keywords))?.extract()
}

/// While a loop without a hub runs in the main thread, signals end its waits in the place of the
/// hub's, which does not run meanwhile.
struct Listening<'py> {
    py: Python<'py>,
    hub: Option<i32>,
}

impl<'py> Listening<'py> {
    fn begin(py: Python<'py>, event_loop: &EventLoop, thread: &Thread) -> PyResult<Self> {
        let mut listening = Self { py, hub: None };
        // SAFETY: owned by the thread's record.
        if let Some(hub) = unsafe { thread.hub.get().as_ref() }
            && event_loop.handles_signals()
            && event_loop.hub().is_none()
            && hub.listens_until.get() > 0
        {
            let of_hub = hub.wakeup_fd();
            let before = exchange_wakeup_fd(py, event_loop.wakeup_fd())?;
            if before == of_hub {
                listening.hub = Some(of_hub);
            } else {
                exchange_wakeup_fd(py, before)?;
            }
        }
        Ok(listening)
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        if let Some(fd) = self.hub
            && let Err(error) = exchange_wakeup_fd(self.py, fd)
        {
            error.write_unraisable(self.py, None);
        }
    }
}

/// Whether other Python threads exist that could release a lock or put an item: a wait may end
/// although this thread has nothing to do.
fn other_threads_run() -> bool {
    // SAFETY: the GIL is held, so the list of thread states does not change.
    unsafe {
        let interpreter = ffi::PyInterpreterState_Get();
        let mut count = 0;
        let mut state = ffi::PyInterpreterState_ThreadHead(interpreter);
        while !state.is_null() {
            count += 1;
            state = ffi::PyThreadState_Next(state);
        }
        count > 1 + crate::threadpool::idle_workers() + super::watch::watching_threads()
    }
}
