//! The greenlets that call a loop's callbacks.
//!
//! `run_forever` parks the greenlet that calls it until the loop is stopped; a *runner*, a raw
//! greenlet started for the run, takes handles from the ready queue and calls them. It parks when
//! there are none, and after each round gives way to whoever else is ready. So whatever is thrown into
//! the greenlet that has called `run_forever` (a kill, a Timeout, KeyboardInterrupt) ends the run, and
//! never meets the code of a task that happens to run.
//!
//! A callback that makes a blocking call parks the runner. Nothing tells of that: a hub that is about
//! to look for events runs, so no callback does, and a runner that is not between two callbacks waits
//! inside one ([`hub_runs`]). If something is ready then, or becomes ready later, another runner is
//! started. The one that was replaced finishes its callback when its wait is over, and ends.
//! (Starting a greenlet costs less than keeping spare ones in order.)

use super::descriptors::Descriptors;
use super::event_loop::{AsyncioLoop, Turn};
use super::handle::{HandleRef, flag};
use super::waiting;
use crate::greenlet::object::PyGreenlet;
use crate::greenlet::thread::Thread;
use crate::hub::event_loop::EventLoop;
use crate::hub::queue::Entry;
use crate::hub::wait::{Reason, Wait};
use crate::task::functions::new_raw;
use greenloop_reactor::monotonic_ns;
use pyo3::exceptions::{PyException, PyKeyboardInterrupt, PyRuntimeError, PySystemExit};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::ptr;

/// After how many callbacks the clock is looked at.
const CALLS_BETWEEN_LOOKS: u32 = 8;
/// How long callbacks may go on before descriptors and timers are looked at (ns). asyncio looks after
/// every round, which costs a system call each; ten thousand times a second is soon enough.
const LOOK_INTERVAL: u64 = 100_000;
/// How long a single round may go on (ns); in asyncio as long as it takes. Looking more often in the
/// middle of one finds those descriptors again whose callbacks have not had their turn yet.
const ROUND_INTERVAL: u64 = 1_000_000;

/// Runs the loop until it is stopped.
///
/// # Errors
///
/// RuntimeError for a loop that is closed or runs already; what is thrown into the caller; what ends
/// a run (SystemExit, KeyboardInterrupt) that a callback raises.
pub fn run_until_stopped(slf: &Bound<'_, AsyncioLoop>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    this.check_open()?;
    if this.running.get() {
        return Err(PyRuntimeError::new_err("This event loop is already running"));
    }
    let hub_loop = AsyncioLoop::bind(slf)?;
    add_waiting(slf, hub_loop)?;
    let wait = Wait::begin(py, slf.as_ptr())?;
    drop(this.error.take());
    this.forked.set(false);
    // SAFETY: the running greenlet, which stays here until the run is over.
    this.called_in.set(unsafe { (*wait.greenlet().cast::<PyGreenlet>()).acting() });
    this.set_running(hub_loop, true);
    this.calls.set(0);
    hub_loop.asyncio().borrow_mut().push(slf.clone().unbind());
    start(slf);
    // Descriptors and timers are looked at before anything is called.
    hub_loop.look_soon();
    let woken = wait.park(Some(&this.caller), None);
    if this.running.get() {
        end_run(slf);
    }
    this.called_in.set(std::ptr::null_mut());
    let observed = this.observed.take();
    drop(observed);
    hub_loop.asyncio().borrow_mut().retain(|one| !one.is(slf));
    this.stopping.set(false);
    let failed = this.error.take();
    let made = waiting::make_tasks(slf);
    woken.into_result()?;
    made?;
    failed.map_or(Ok(()), Err)
}

/// Ends the run: whoever called `run_forever` goes on, runners end.
fn end_run(slf: &Bound<'_, AsyncioLoop>) {
    let this = slf.get();
    if let Some(hub_loop) = this.hub_loop() {
        this.set_running(hub_loop, false);
    }
    this.turn.set(Turn::Blocked);
    this.runner.set(this.runner.get() + 1);
    this.idle.wake_all();
    this.caller.wake_one();
}

/// Has the run end by an exception.
fn fail(slf: &Bound<'_, AsyncioLoop>, error: PyErr) {
    let this = slf.get();
    let before = this.error.replace(Some(error));
    drop(before);
    if this.running.get() {
        end_run(slf);
    }
}

/// Something is to be done: has a runner do it, if there is none that will. From any thread.
pub fn call_for(slf: &Bound<'_, AsyncioLoop>) {
    let this = slf.get();
    if !this.running.get() || this.forked.get() {
        return;
    }
    match this.turn.get() {
        Turn::Parked => {
            this.turn.set(Turn::Queued);
            this.idle.wake_one();
        }
        Turn::Blocked => match this.hub_loop() {
            Some(hub_loop) if hub_loop.is_local() => start(slf),
            // The hub looks before it waits again.
            Some(hub_loop) => hub_loop.wake(),
            None => {}
        },
        Turn::Queued | Turn::Active => {}
    }
}

/// The hub runs, and is about to look for events.
pub fn hub_runs(slf: &Bound<'_, AsyncioLoop>) {
    let this = slf.get();
    if this.turn.get() == Turn::Active {
        this.turn.set(Turn::Blocked);
        this.waiting_calls.set(this.waiting_calls.get() + 1);
        if this.tells_of_blocking.get() {
            tell_of_blocking(slf);
        }
    }
    if this.turn.get() == Turn::Blocked && has_work(this) {
        call_for(slf);
    }
}

/// Tells that a callback waits, and where.
#[cold]
fn tell_of_blocking(slf: &Bound<'_, AsyncioLoop>) {
    let py = slf.py();
    let runner = slf.get().observed.borrow().as_ref().map(|runner| runner.clone_ref(py));
    let outcome = helper(py, "blocked").and_then(|blocked| blocked.call1((runner,)));
    if let Err(error) = outcome {
        error.write_unraisable(py, Some(slf));
    }
}

fn has_work(this: &AsyncioLoop) -> bool {
    this.has_ready()
        || this.stopping.get()
        || this.descriptors.is_incomplete()
        || !this.dormant.borrow().is_empty()
}

/// Starts a runner, in the place of the one that there may be.
#[cold]
fn start(slf: &Bound<'_, AsyncioLoop>) {
    let py = slf.py();
    let this = slf.get();
    let Some(hub_loop) = this.hub_loop() else { return };
    let number = this.runner.get() + 1;
    let made = Bound::new(py, Runner { event_loop: slf.clone().unbind(), number })
        .and_then(|runner| new_raw(runner.into_any()));
    match made {
        Ok(greenlet) => {
            // SAFETY: a raw greenlet that was made just now.
            unsafe {
                let runner = &*greenlet.as_ptr().cast::<PyGreenlet>();
                runner.asyncio.set_runner();
                let caller = this.called_in.get();
                ffi::Py_XINCREF(caller.cast());
                runner.acts_for.set(caller);
            }
            this.runner.set(number);
            this.turn.set(Turn::Queued);
            let before = this.observed.replace(Some(greenlet.clone().unbind()));
            drop(before);
            hub_loop.push_local(Entry::Start { greenlet: greenlet.into_ptr().cast() });
        }
        Err(error) => fail(slf, error),
    }
}

/// Adds the timers and descriptors that other threads have left for the loop's own.
fn add_waiting(slf: &Bound<'_, AsyncioLoop>, hub_loop: &EventLoop) -> PyResult<()> {
    let this = slf.get();
    for handle in this.dormant.take() {
        if !handle.has(flag::CANCELLED) {
            this.add_timer_here(hub_loop, handle);
        }
    }
    if this.descriptors.is_incomplete() {
        Descriptors::complete(slf, hub_loop)?;
    }
    Ok(())
}

/// What a runner greenlet calls.
#[pyclass(frozen, name = "_AsyncioRunner", module = "greenloop._core")]
struct Runner {
    event_loop: Py<AsyncioLoop>,
    number: u64,
}

#[pymethods]
impl Runner {
    fn __call__(&self, py: Python<'_>) {
        let slf = self.event_loop.bind(py);
        if !self.is_current(slf) {
            return;
        }
        slf.get().turn.set(Turn::Active);
        let outcome = slf.call_method0(intern!(py, "_enter_runner")).and_then(|_| {
            Thread::get(py)?.asyncio.enter(slf.as_ptr());
            self.work(slf)
        });
        if self.is_current(slf) {
            slf.get().turn.set(Turn::Blocked);
        }
        if let Err(error) = outcome {
            fail(slf, error);
        }
    }
}

impl Runner {
    fn is_current(&self, slf: &Bound<'_, AsyncioLoop>) -> bool {
        slf.get().runner.get() == self.number
    }

    /// Calls callbacks until the run ends or another runner has taken over.
    fn work(&self, slf: &Bound<'_, AsyncioLoop>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Some(hub_loop) = this.hub_loop() else { return Ok(()) };
        loop {
            if this.debug_changed.replace(false) {
                slf.call_method0(intern!(py, "_enter_runner"))?;
            }
            let round = this.ready(|ready| ready.len());
            if round == 0 && !this.stopping.get() {
                if has_work(this) {
                    add_waiting(slf, hub_loop)?;
                }
                if !self.pause(slf, None)? {
                    return Ok(());
                }
                continue;
            }
            for index in 1..=round {
                let Some(handle) = this.ready(|ready| ready.pop_front()) else { break };
                handle.clear_flag(flag::QUEUED);
                if handle.has(flag::CANCELLED) {
                    continue;
                }
                let outcome = run(py, &handle);
                drop(handle);
                if !self.is_current(slf) {
                    return self.replaced(slf, outcome);
                }
                outcome?;
                if this.turn.get() != Turn::Active {
                    // It has waited, and nothing else was to be done.
                    self.go_on(slf)?;
                }
                let calls = this.calls.get() + 1;
                this.calls.set(calls);
                let interval = if index == round { LOOK_INTERVAL } else { ROUND_INTERVAL };
                if calls >= CALLS_BETWEEN_LOOKS && !self.look(slf, hub_loop, interval)? {
                    return Ok(());
                }
            }
            if this.stopping.get() {
                end_run(slf);
                return Ok(());
            }
            if !hub_loop.is_about_to_wait() && !self.pause(slf, Some(hub_loop))? {
                return Ok(());
            }
        }
    }

    /// Looks at the clock, and gives way if events were last looked for so long ago (ns). False if
    /// another runner has taken over.
    fn look(
        &self,
        slf: &Bound<'_, AsyncioLoop>,
        hub_loop: &EventLoop,
        interval: u64,
    ) -> PyResult<bool> {
        slf.get().calls.set(0);
        if monotonic_ns().saturating_sub(hub_loop.polled_at()) < interval {
            return Ok(true);
        }
        hub_loop.look_soon();
        self.pause(slf, Some(hub_loop))
    }

    /// Lets others run who are ready, or, without `ready`, parks until there is something to do.
    /// False if another runner has taken over.
    fn pause(&self, slf: &Bound<'_, AsyncioLoop>, ready: Option<&EventLoop>) -> PyResult<bool> {
        let this = slf.get();
        let wait = Wait::begin(slf.py(), slf.as_ptr())?;
        let woken = match ready {
            Some(_) => {
                this.turn.set(Turn::Queued);
                wait.ticket().wake(Reason::Notified);
                wait.park(None, None)
            }
            None => {
                this.turn.set(Turn::Parked);
                wait.park(Some(&this.idle), None)
            }
        };
        if !self.is_current(slf) {
            return Ok(false);
        }
        if let Some(error) = woken.error {
            // Somebody wants this greenlet to end. The loop goes on with another.
            drop(error);
            this.turn.set(Turn::Blocked);
            if has_work(this) {
                call_for(slf);
            }
            return Ok(false);
        }
        this.turn.set(Turn::Active);
        Ok(true)
    }

    /// Goes on after a callback that has waited.
    #[cold]
    fn go_on(&self, slf: &Bound<'_, AsyncioLoop>) -> PyResult<()> {
        let this = slf.get();
        waited(slf);
        if this.forked.replace(false) {
            // The callback has forked: this is the child, where the loop goes on.
            if let Some(hub_loop) = this.hub_loop() {
                hub_loop.asyncio().borrow_mut().push(slf.clone().unbind());
            }
            slf.call_method0(intern!(slf.py(), "_enter_runner"))?;
        }
        this.turn.set(Turn::Active);
        Ok(())
    }

    /// Ends after a callback that has waited while another runner has taken over.
    #[cold]
    fn replaced(&self, slf: &Bound<'_, AsyncioLoop>, outcome: PyResult<()>) -> PyResult<()> {
        waited(slf);
        outcome
    }
}

/// A greenlet that is not the runner begins a step of a task. The step may wait, as any callback.
pub fn guest_enters(this: &AsyncioLoop) {
    this.waiting_calls.set(this.waiting_calls.get() + 1);
}

/// The step is over.
pub fn guest_leaves(slf: &Bound<'_, AsyncioLoop>) {
    waited(slf);
}

/// A callback has returned that had waited: those that were held back because of it are called.
fn waited(slf: &Bound<'_, AsyncioLoop>) {
    let this = slf.get();
    this.waiting_calls.set(this.waiting_calls.get().saturating_sub(1));
    for handle in this.held.take() {
        AsyncioLoop::push(slf, handle);
    }
}

/// Lets those run who are ready, in the middle of the running greenlet's callback, if the runner
/// could do that as well: nothing else is to be called, and descriptors were looked at not long ago.
/// No other runner is started meanwhile: this one is about to go on. False if nobody was let run.
///
/// # Errors
///
/// What is thrown into the greenlet.
pub fn let_others_run(slf: &Bound<'_, AsyncioLoop>) -> PyResult<bool> {
    let py = slf.py();
    let this = slf.get();
    let Some(hub_loop) = this.hub_loop() else { return Ok(false) };
    if !can_let_others_run(this) || hub_loop.is_about_to_wait() {
        return Ok(false);
    }
    let calls = this.calls.get() + 1;
    this.calls.set(calls);
    if calls >= CALLS_BETWEEN_LOOKS {
        if monotonic_ns().saturating_sub(hub_loop.polled_at()) >= LOOK_INTERVAL {
            // The runner will look.
            return Ok(false);
        }
        this.calls.set(0);
    }
    let number = this.runner.get();
    let wait = Wait::begin(py, slf.as_ptr())?;
    this.turn.set(Turn::Queued);
    wait.ticket().wake(Reason::Notified);
    let woken = wait.park(None, None);
    if this.runner.get() == number {
        this.turn.set(Turn::Active);
    } else {
        // The run was ended: the callback that returns is one that has waited.
        this.waiting_calls.set(this.waiting_calls.get() + 1);
    }
    woken.into_result().map(|_| true)
}

/// Whether `let_others_run` may do so: the runner is in a callback, and nothing else is to be called.
pub fn can_let_others_run(this: &AsyncioLoop) -> bool {
    is_in_callback(this)
        && !has_work(this)
        && !this.debug()
        && this.hub_loop().is_some_and(EventLoop::is_local)
}

/// Whether the running greenlet is the loop's runner, in a callback.
pub fn is_in_callback(this: &AsyncioLoop) -> bool {
    this.turn.get() == Turn::Active && is_runner(this)
}

/// Whether the running greenlet is the loop's runner.
fn is_runner(this: &AsyncioLoop) -> bool {
    let observed = this.observed.borrow();
    observed.as_ref().is_some_and(|runner| {
        Thread::try_get().is_some_and(|thread| ptr::eq(thread.current().as_ptr(), runner.as_ptr()))
    })
}

/// Calls a handle's callback. What it raises is reported by the loop's exception handler.
///
/// # Errors
///
/// SystemExit and KeyboardInterrupt, which end the run.
#[inline]
pub fn run(py: Python<'_>, handle: &HandleRef) -> PyResult<()> {
    if handle.event_loop(py).get().debug() {
        return run_in_debug_mode(py, handle);
    }
    run_plain(py, handle)
}

#[inline]
fn run_plain(py: Python<'_>, handle: &HandleRef) -> PyResult<()> {
    handle.set(flag::RUNNING);
    // SAFETY: the handle is held.
    let result = unsafe { handle.call() };
    handle.clear_flag(flag::RUNNING);
    if result.is_null() {
        if failed(py, handle, PyErr::fetch(py))? {
            return Ok(());
        }
    } else {
        // SAFETY: an owned reference.
        unsafe { ffi::Py_DECREF(result) };
    }
    if !handle.has(flag::PERSISTENT) {
        handle.release();
    } else if handle.has(flag::SET_ASIDE) {
        Descriptors::take_up(&handle.event_loop(py), handle)?;
    }
    Ok(())
}

/// As `run`; tells of callbacks that take long.
#[cold]
fn run_in_debug_mode(py: Python<'_>, handle: &HandleRef) -> PyResult<()> {
    let event_loop = handle.event_loop(py);
    // SAFETY: a live object.
    let object = unsafe { Bound::from_borrowed_ptr(py, handle.as_ptr()) };
    event_loop.setattr(intern!(py, "_current_handle"), &object)?;
    let begin = monotonic_ns();
    // The handle lets go of it.
    let callback = object.getattr(intern!(py, "_callback"))?;
    let text = helper(py, "describe")?.call1((&object,))?;
    let outcome = run_plain(py, handle);
    let seconds = monotonic_ns().saturating_sub(begin) as f64 / 1e9;
    event_loop.setattr(intern!(py, "_current_handle"), py.None())?;
    outcome?;
    let limit: f64 = event_loop.getattr(intern!(py, "slow_callback_duration"))?.extract()?;
    if seconds >= limit {
        helper(py, "slow")?.call1((callback, text, seconds))?;
    }
    Ok(())
}

/// Tells of what a callback raised. True if it was not called at all, and will be later: the context
/// that it is to run in is that of a callback that waits.
#[cold]
fn failed(py: Python<'_>, handle: &HandleRef, error: PyErr) -> PyResult<bool> {
    if handle.has(flag::HELD) {
        handle.clear_flag(flag::HELD);
        let event_loop = handle.event_loop(py);
        if event_loop.get().waiting_calls.get() > 0 {
            event_loop.get().held.borrow_mut().push(handle.clone());
            return Ok(true);
        }
    }
    if error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py) {
        return Err(error);
    }
    // SAFETY: a live object.
    let object = unsafe { Bound::from_borrowed_ptr(py, handle.as_ptr()) };
    match helper(py, "failed").and_then(|failed| failed.call1((object, error.value(py)))) {
        Ok(_) => Ok(false),
        Err(error) if !error.is_instance_of::<PyException>(py) => Err(error),
        Err(error) => {
            error.write_unraisable(py, None);
            Ok(false)
        }
    }
}

/// A function of `greenloop.asyncio._handles`.
pub fn helper<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = MODULE
        .get_or_try_init(py, || py.import("greenloop.asyncio._handles").map(Bound::unbind))?;
    module.bind(py).getattr(name)
}
