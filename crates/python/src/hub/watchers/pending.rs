//! From what the reactor found to callbacks.

use super::{Active, Kind, Watcher, events, stat, timer};
use crate::hub::Source;
use crate::hub::event_loop::EventLoop;
use crate::hub::phases::Phase;
use greenloop_reactor::Fired;
use pyo3::prelude::*;
use std::cmp::Reverse;

/// A watcher that is to be called back, unless it is stopped before.
pub struct Pending(pub(super) Py<Watcher>);

/// Makes the watcher of an event pending.
pub fn collect(py: Python<'_>, event_loop: &EventLoop, event: Fired<Source>) {
    match event {
        Fired::Timer { key, data: Source::Watcher(object) } => {
            let object = object.into_bound(py);
            let watcher = as_watcher(&object);
            match watcher.get().active.get() {
                // The reactor has let go of it.
                Active::Timer(active) if active == key => timer::expired(watcher, event_loop),
                Active::Stat(active, watch) if active == key => {
                    watcher
                        .get()
                        .active
                        .set(Active::Stat(stat::arm_again(watcher, event_loop), watch));
                    stat::look(watcher);
                }
                _ => {}
            }
        }
        Fired::Watch { key, ready } => {
            let object = event_loop.reactor(|reactor| watcher_of(py, reactor.watch_data(key)));
            let Some(object) = object else { return };
            let watcher = as_watcher(object.bind(py));
            match &watcher.get().kind {
                Kind::Stat(_) => stat::look(watcher),
                _ => {
                    let read = if ready.readable() { events::READ } else { 0 };
                    let write = if ready.writable() { events::WRITE } else { 0 };
                    Watcher::happen(watcher, read | write);
                }
            }
        }
        Fired::Signal { key, .. } => {
            let object = event_loop.reactor(|reactor| watcher_of(py, reactor.signal_data(key)));
            if let Some(object) = object {
                Watcher::happen(as_watcher(object.bind(py)), events::SIGNAL);
            }
        }
        Fired::Periodic { key } => {
            let object = event_loop.reactor(|reactor| watcher_of(py, reactor.periodic_data(key)));
            if let Some(object) = object {
                timer::moment_came(as_watcher(object.bind(py)));
            }
        }
        Fired::Child { key, pid, status } => {
            let object = event_loop.reactor(|reactor| watcher_of(py, reactor.child_data(key)));
            if let Some(object) = object {
                let watcher = as_watcher(object.bind(py));
                let Kind::Child(child) = &watcher.get().kind else { unreachable!("a child") };
                child.changed(watcher.get().pending.get().is_some(), pid, status);
                Watcher::happen(watcher, events::CHILD);
            }
        }
        // Waits are handled by the caller; a timer of another kind too.
        Fired::Wait { .. } | Fired::Timer { .. } | Fired::Woken => {}
    }
}

/// Calls back all that are pending now, those with a higher priority first. What becomes pending
/// meanwhile is left for the next round.
pub fn call_pending(py: Python<'_>, event_loop: &EventLoop) {
    if event_loop.pending.borrow().is_empty() {
        return;
    }
    let mut pending = event_loop.pending.take();
    let priority = |one: &Pending| one.0.get().priority.get();
    if pending.iter().any(|one| priority(one) != 0) {
        pending.sort_by_key(|one| Reverse(priority(one)));
    }
    for Pending(watcher) in pending {
        let watcher = watcher.bind(py);
        if let Some(revents) = watcher.get().pending.take() {
            Watcher::call_back(watcher, revents);
            tell_of_more(watcher);
        }
    }
}

/// Calls a child watcher back for each further child, or state, that was found together with the
/// first: the system tells of each only once.
fn tell_of_more(watcher: &Bound<'_, Watcher>) {
    if let Kind::Child(child) = &watcher.get().kind {
        while child.next() {
            Watcher::call_back(watcher, events::CHILD);
        }
    }
}

/// Takes back what was to be called.
pub fn forget(pending: Vec<Pending>) {
    for one in &pending {
        let watcher = one.0.get();
        watcher.pending.set(None);
        if let Kind::Child(child) = &watcher.kind {
            child.forget();
        }
    }
}

/// Calls the watchers of a phase back.
pub fn dispatch_phase(py: Python<'_>, event_loop: &EventLoop, phase: Phase) {
    if event_loop.phases.is_empty(phase) {
        return;
    }
    let revents = match phase {
        Phase::Prepare => events::PREPARE,
        Phase::Check => events::CHECK,
        Phase::Idle => events::IDLE,
        Phase::Fork => events::FORK,
    };
    let mut watchers = event_loop.phases.snapshot(py, phase);
    watchers.sort_by_key(|object| Reverse(as_watcher(object.bind(py)).get().priority.get()));
    for watcher in watchers {
        let watcher = as_watcher(watcher.bind(py));
        if watcher.get().is_active() {
            Watcher::call_back(watcher, revents);
        }
    }
}

/// Called for an active watcher whose loop has been destroyed.
pub fn loop_ended(object: &Bound<'_, PyAny>) {
    let this = as_watcher(object).get();
    this.active.set(Active::No);
    this.pending.set(None);
    match &this.kind {
        Kind::Stat(state) => drop(state.hint.replace(None)),
        Kind::Child(child) => child.forget(),
        _ => {}
    }
}

fn as_watcher<'a, 'py>(object: &'a Bound<'py, PyAny>) -> &'a Bound<'py, Watcher> {
    object.cast().expect("the reactor and the phases hold watchers")
}

fn watcher_of(py: Python<'_>, source: Option<&Source>) -> Option<Py<PyAny>> {
    match source {
        Some(Source::Watcher(object)) => Some(object.clone_ref(py)),
        _ => None,
    }
}
