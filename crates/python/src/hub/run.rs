//! The hub's loop: run what is ready, then wait for events.
//!
//! One round: everything in the ready queue is run in order, things that become ready meanwhile
//! included, but descriptors and timers are looked at after the switch interval at the latest.
//! If something is ready the poll does not block and the GIL is kept; it is released only around
//! a wait that can block, and only after a poll that found nothing.

use super::phases::Phase;
use super::queue::{Entry, ReadyQueue};
use super::wait::{Reason, reason_of};
use super::{AtPoll, HubObject, Source, blocked, callback, reactor_error, watchers};
use crate::errors::{raise, take_raised};
use crate::exceptions;
use crate::greenlet::exceptions::is_greenlet_exit;
use crate::greenlet::object::{Next, Payload, PyGreenlet};
use crate::greenlet::switch;
use crate::greenlet::thread::Thread;
use crate::greenlet::types::interpreter_is_finalizing;
use crate::task::throw_timer::ThrowTimer;
use greenloop_reactor::{Fired, Polled};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
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
        loop {
            self.run_ready(py, thread);
            if self.destroyed.get() {
                return (thread.main_owned(), Payload::none());
            }
            if !self.poll(py, thread) {
                self.out_of_work(py, thread);
            }
        }
    }

    /// Runs ready entries until there are none, or the switch interval is over.
    fn run_ready(&self, py: Python<'_>, thread: &Thread) {
        loop {
            if !self.inbox.is_empty() {
                self.open_inbox();
            }
            if !self.may_hand_over() {
                return;
            }
            let Some(entry) = self.ready(ReadyQueue::pop) else { return };
            match entry {
                Entry::Call { callback } => callback::run(py, self, callback),
                entry => {
                    if let Some((target, payload)) = entry.into_switch(thread) {
                        // SAFETY: this is the calling thread's hub; no borrow is alive.
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
            Payload::Throw(error) if self.destroyed.get() && is_greenlet_exit(error) => {
                Payload::Throw(error).discard();
            }
            Payload::Throw(error) => {
                raise(error);
                // Not known is which greenlet it was. Without a context it would be the main
                // greenlet's affair.
                // SAFETY: the hub is alive.
                let context = unsafe { Bound::from_borrowed_ptr(py, self.as_ptr()) };
                exceptions::handle_error(py, self, Some(&context), PyErr::fetch(py));
            }
            other => other.discard(),
        }
    }

    fn open_inbox(&self) {
        for entry in self.inbox.take() {
            self.push_local(entry);
        }
    }

    /// Looks for events, waiting for one if nothing is ready. False if there is nothing to wait
    /// for.
    fn poll(&self, py: Python<'_>, thread: &Thread) -> bool {
        thread.bury_orphans();
        watchers::dispatch_phase(py, self, Phase::Prepare);
        let mut fired = self.fired.take();
        debug_assert!(fired.is_empty());
        let outcome = self.poll_into(py, &mut fired);
        self.polled_at.set(self.reactor(|reactor| reactor.update_now()));
        self.budget.set(super::SWITCHES_BETWEEN_LOOKS);
        let mut signalled = false;
        let mut more = true;
        match outcome {
            Ok(Some(polled)) => signalled = polled.interrupted,
            Ok(None) => more = false,
            Err(error) => {
                exceptions::handle_error(py, self, None, reactor_error(py, &error));
            }
        }
        for event in fired.drain(..) {
            match event {
                Fired::Wait { ready, data: Source::Wait(ticket), .. } => {
                    ticket.wake(reason_of(ready));
                }
                Fired::Timer { data: Source::Wait(ticket), .. } => {
                    ticket.wake(Reason::TimedOut);
                }
                Fired::Timer { key, data: Source::Throw(timer) } => {
                    ThrowTimer::expired(timer, key, self);
                }
                Fired::Timer { data: Source::Start(greenlet), .. } => {
                    self.push_local(Entry::Start { greenlet: greenlet.into_ptr().cast() });
                }
                Fired::Woken => signalled = true,
                other => watchers::dispatch(py, self, other),
            }
        }
        self.fired.set(fired);
        watchers::dispatch_phase(py, self, Phase::Check);
        if !self.inbox.is_empty() {
            self.open_inbox();
        }
        if signalled && self.handles_signals {
            self.check_signals(py);
        }
        more
    }

    /// Runs Python's signal handlers. What they raise goes to the main greenlet.
    fn check_signals(&self, py: Python<'_>) {
        // SAFETY: the GIL is held.
        if unsafe { ffi::PyErr_CheckSignals() } != 0 {
            exceptions::handle_error(py, self, None, PyErr::fetch(py));
        }
    }

    fn poll_into(
        &self,
        py: Python<'_>,
        fired: &mut Vec<Fired<Source>>,
    ) -> std::io::Result<Option<Polled>> {
        let polled = self.reactor(|reactor| reactor.poll(Some(Duration::ZERO), fired))?;
        if !fired.is_empty()
            || polled.interrupted
            || !self.ready(|ready| ready.is_empty())
            || !self.inbox.is_empty()
        {
            return Ok(Some(polled));
        }
        if !self.idling.is_empty() {
            self.idling.wake_all();
            return Ok(Some(polled));
        }
        if !self.phases.is_empty(Phase::Idle) {
            watchers::dispatch_phase(py, self, Phase::Idle);
            return Ok(Some(polled));
        }
        if !self.has_work() {
            return Ok(None);
        }
        // When the interpreter goes down there are no handlers any more.
        if self.handles_signals && !interpreter_is_finalizing() {
            self.listen_to_signals(py);
        }
        let at_poll = AtPoll { now: self.now(), active: self.active_count() };
        self.at_poll.set(Some(at_poll));
        // SAFETY: the thread state is put back before anything else happens. Nobody else touches
        // the reactor: it is this thread's, and others are told what is in `at_poll`.
        let polled = unsafe {
            let state = ffi::PyEval_SaveThread();
            let polled = (*self.reactor.get()).poll(None, fired);
            ffi::PyEval_RestoreThread(state);
            polled
        };
        self.at_poll.set(None);
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
            exceptions::handle_error(py, self, None, error);
        }
    }

    fn set_wakeup_fd(&self, py: Python<'_>) -> PyResult<()> {
        static SET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let set = SET
            .get_or_try_init(py, || {
                Ok::<_, PyErr>(py.import("_signal")?.getattr("set_wakeup_fd")?.unbind())
            })?
            .bind(py);
        let keywords = PyDict::new(py);
        keywords.set_item("warn_on_full_buffer", false)?;
        let ours = self.reactor(|reactor| reactor.waker().raw_fd());
        let before: i32 = set.call((ours,), Some(&keywords))?.extract()?;
        if before != -1 && before != ours && set.call((before,), Some(&keywords)).is_err() {
            // It has been closed without being taken away.
            set.call((ours,), Some(&keywords))?;
        }
        Ok(())
    }

    /// Takes the wake-up descriptor away before it is closed, if it is ours.
    pub(super) fn stop_listening(&self, py: Python<'_>) -> PyResult<()> {
        if !self.handles_signals || self.listens_until.replace(0) == 0 || !on_main_thread() {
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

    /// Whether anything can still become ready.
    fn has_work(&self) -> bool {
        self.active_count() > self.unreferenced.get()
            || self.outstanding.get() > 0
            || self.open_async.get() > 0
            || other_threads_run()
    }

    /// Nothing can become ready any more: whoever waits in the main greenlet is told.
    fn out_of_work(&self, py: Python<'_>, thread: &Thread) {
        if !self.joining.is_empty() {
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
        count > 1 + crate::threadpool::idle_workers()
    }
}
