//! A loop's memory: what is to be called, who calls it, and which hub it is on.
//!
//! A loop may be made in one thread and run in another, and have timers and readers before it runs.
//! It is *bound* to the hub of the thread that first gives it one of these or runs it. A run in another
//! thread binds it anew ([`AsyncioLoop::bind`]): its timers and readers are then added there, and
//! what the former hub still has of it is void, which it finds out by the number of the binding.
//! What is added from another thread than the one it is bound to waits in `dormant` until the loop's
//! thread gets to it.

use super::calls::descriptor;
use super::descriptors::Descriptors;
use super::futures::Futures;
use super::handle::{HandleObject, HandleRef, flag};
use super::runner;
use super::sockets::{self, Sockets};
use crate::greenlet::object::PyGreenlet;
use crate::hub::event_loop::EventLoop;
use crate::hub::wait::WaitList;
use crate::hub::{HubObject, Source};
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::VecDeque;
use std::ptr;

/// What the loop's runner does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It waits for something to be ready.
    Parked,
    /// It is about to go on: in the hub's ready queue.
    Queued,
    /// It is in a callback, or between two.
    Active,
    /// Its callback waits for something: another runner is started if there is something to do.
    Blocked,
}

/// The base of `greenloop.asyncio.EventLoop`: what runs for every callback, timer and descriptor.
#[pyclass(frozen, subclass, name = "AsyncioLoop", module = "greenloop._core")]
pub struct AsyncioLoop {
    ready: UnsafeCell<VecDeque<HandleRef>>,
    pub(super) turn: Cell<Turn>,
    /// Counts runners: one that was replaced finds another number here.
    pub(super) runner: Cell<u64>,
    pub(super) running: Cell<bool>,
    /// Whether the hub runs as long as the loop does.
    referenced: Cell<bool>,
    /// Whether it is the hub's own, which keeps that running only while somebody waits for something
    /// in it; and how many do.
    serves_waits: Cell<bool>,
    waits: Cell<usize>,
    pub(super) stopping: Cell<bool>,
    closed: Cell<bool>,
    debug: Cell<bool>,
    /// Debug mode was switched on or off since the runner looked.
    pub(super) debug_changed: Cell<bool>,
    /// A program's task factory is to be asked.
    pub(super) has_factory: Cell<bool>,
    /// The process was forked while the loop was running.
    pub(super) forked: Cell<bool>,
    /// Whoever waits for something to be ready: one runner at most.
    pub(super) idle: WaitList,
    /// Whoever called `run_forever`, which waits.
    pub(super) caller: WaitList,
    /// The runner, if blocking calls are to be told of.
    pub(super) observed: RefCell<Option<Py<PyAny>>>,
    pub(super) tells_of_blocking: Cell<bool>,
    /// In whose name callbacks run: borrowed, valid during a run.
    pub(super) called_in: Cell<*mut PyGreenlet>,
    /// What `run_forever` is to raise.
    pub(super) error: Cell<Option<PyErr>>,
    /// The hub's loop that this one is on; null if it is not bound. Kept alive by `keeper`.
    hub_loop: Cell<*const EventLoop>,
    keeper: RefCell<Option<Py<PyAny>>>,
    /// Counts bindings.
    pub(super) binding: Cell<u64>,
    /// Timers and descriptors that the reactor has, see `count`.
    registered: Cell<usize>,
    /// The first of the timers that are to come, which are linked.
    timers: Cell<*const HandleObject>,
    pub(super) dormant: RefCell<Vec<HandleRef>>,
    pub descriptors: Descriptors,
    /// Callbacks called since the clock was looked at.
    pub(super) calls: Cell<u32>,
    /// Runners that were replaced and are still in a callback.
    pub(super) waiting_calls: Cell<usize>,
    /// Handles whose context is entered by a callback that waits.
    pub(super) held: RefCell<Vec<HandleRef>>,
    pub(super) futures: Futures,
    pub(super) sockets: Sockets,
}

// SAFETY: touched with the GIL held only, for moments in which no Python code runs.
unsafe impl Send for AsyncioLoop {}
// SAFETY: as above.
unsafe impl Sync for AsyncioLoop {}

impl AsyncioLoop {
    #[inline]
    pub fn debug(&self) -> bool {
        self.debug.get()
    }

    /// # Errors
    ///
    /// RuntimeError once the loop is closed.
    #[inline]
    pub fn check_open(&self) -> PyResult<()> {
        if self.closed.get() { Err(closed()) } else { Ok(()) }
    }

    #[inline]
    pub(super) fn ready<R>(&self, f: impl FnOnce(&mut VecDeque<HandleRef>) -> R) -> R {
        // SAFETY: with the GIL held; `f` runs no Python code and does not come back here.
        f(unsafe { &mut *self.ready.get() })
    }

    #[inline]
    pub(super) fn has_ready(&self) -> bool {
        self.ready(|ready| !ready.is_empty())
    }

    /// Has a handle called, from any thread that holds the GIL.
    #[inline]
    pub fn push(slf: &Bound<'_, Self>, handle: HandleRef) {
        handle.set(flag::QUEUED);
        let this = slf.get();
        this.ready(|ready| ready.push_back(handle));
        if this.turn.get() != Turn::Active && this.turn.get() != Turn::Queued {
            runner::call_for(slf);
        }
    }

    /// The hub's loop, if the caller is in the thread that this loop is bound to. Binds it if it is
    /// not bound at all.
    #[inline]
    pub(super) fn local<'a>(slf: &'a Bound<'_, Self>) -> PyResult<Option<&'a EventLoop>> {
        let this = slf.get();
        // SAFETY: kept alive by `keeper`.
        match unsafe { this.hub_loop.get().as_ref() } {
            Some(hub_loop) => Ok(hub_loop.is_local().then_some(hub_loop)),
            None => Self::bind(slf).map(Some),
        }
    }

    /// The hub's loop, whichever thread it is in.
    #[inline]
    pub(super) fn hub_loop(&self) -> Option<&EventLoop> {
        // SAFETY: kept alive by `keeper`.
        unsafe { self.hub_loop.get().as_ref() }
    }

    /// Puts the loop on the hub of the calling thread.
    ///
    /// # Errors
    ///
    /// OSError if there can be no hub.
    #[cold]
    pub(super) fn bind<'a>(slf: &'a Bound<'_, Self>) -> PyResult<&'a EventLoop> {
        let py = slf.py();
        let this = slf.get();
        let hub = HubObject::get(py)?;
        let hub_loop: &EventLoop = hub;
        if ptr::eq(this.hub_loop.get(), hub_loop) && !hub_loop.is_closed() {
            // SAFETY: kept alive by `keeper`.
            return Ok(unsafe { &*this.hub_loop.get() });
        }
        // SAFETY: a live hub.
        let keeper =
            unsafe { Bound::from_borrowed_ptr(py, hub.as_ptr()) }.getattr("loop")?.unbind();
        // What the former hub counts is its own affair from now on.
        this.registered.set(0);
        this.hub_loop.set(hub_loop);
        let old = this.keeper.replace(Some(keeper));
        this.binding.set(this.binding.get() + 1);
        drop(old);
        for handle in this.linked_timers() {
            this.link(&handle, false);
            this.add_timer_here(hub_loop, handle);
        }
        Descriptors::add_all(slf, hub_loop)?;
        this.sockets.moved(py)?;
        // SAFETY: kept alive by `keeper`.
        Ok(unsafe { &*this.hub_loop.get() })
    }

    /// Notes that the reactor has one more or one less of this loop's timers and descriptors. Those
    /// of a loop that does not run keep no hub running.
    #[inline]
    pub(super) fn count(&self, hub_loop: &EventLoop, more: bool) {
        let count = self.registered.get();
        self.registered.set(if more { count + 1 } else { count.saturating_sub(1) });
        if !self.keeps_running() {
            hub_loop.change_unreferenced(more);
        }
    }

    fn keeps_running(&self) -> bool {
        self.running.get() && self.referenced.get()
    }

    /// Has what is registered keep the hub running, or not.
    pub(super) fn set_running(&self, hub_loop: &EventLoop, running: bool) {
        let before = self.keeps_running();
        self.running.set(running);
        self.keep_changed(hub_loop, before);
    }

    fn set_referenced(&self, referenced: bool) {
        let before = self.keeps_running();
        self.referenced.set(referenced);
        if let Some(hub_loop) = self.hub_loop() {
            self.keep_changed(hub_loop, before);
        }
    }

    /// Whether it is the hub's own.
    pub(super) fn serves_waits(&self) -> bool {
        self.serves_waits.get()
    }

    /// One more greenlet waits for something in the loop, or one less.
    #[inline]
    pub(super) fn change_waits(&self, more: bool) {
        let waits = self.waits.get();
        self.waits.set(if more { waits + 1 } else { waits - 1 });
        if self.serves_waits.get() && waits == usize::from(!more) {
            self.set_referenced(more);
        }
    }

    fn keep_changed(&self, hub_loop: &EventLoop, before: bool) {
        let keeps = self.keeps_running();
        if keeps == before {
            return;
        }
        for _ in 0..self.registered.get() {
            hub_loop.change_unreferenced(!keeps);
        }
        // It runs until it is stopped, which a signal or another thread may do.
        hub_loop.change_open_async(keeps);
    }

    /// Sets the timer of a handle.
    pub(super) fn add_timer(slf: &Bound<'_, Self>, handle: HandleRef) -> PyResult<()> {
        let this = slf.get();
        match Self::local(slf)? {
            Some(hub_loop) => {
                this.add_timer_here(hub_loop, handle);
            }
            None => {
                this.dormant.borrow_mut().push(handle);
                runner::call_for(slf);
            }
        }
        Ok(())
    }

    #[inline]
    pub(super) fn add_timer_here(&self, hub_loop: &EventLoop, handle: HandleRef) {
        let deadline = deadline_of(handle.when.get());
        let place = handle.clone();
        let binding = self.binding.get();
        let key = hub_loop
            .reactor(|reactor| reactor.timer_add(deadline, Source::Asyncio { handle, binding }));
        place.timer.set(Some(key));
        self.link(&place, true);
        self.count(hub_loop, true);
    }

    /// The timers that are to come.
    fn linked_timers(&self) -> Vec<HandleRef> {
        let mut handles = Vec::new();
        let mut next = self.timers.get();
        // SAFETY: handles leave the list before they are freed.
        while let Some(handle) = unsafe { next.as_ref() } {
            handles.push(handle.to_owned_ref());
            next = handle.next_timer.get();
        }
        handles
    }

    /// Puts a handle into the list of timers, or takes it out.
    #[inline]
    fn link(&self, handle: &HandleObject, add: bool) {
        // SAFETY: neighbours are in the list, which they leave before they are freed.
        unsafe {
            if add {
                let first = self.timers.replace(handle);
                handle.next_timer.set(first);
                handle.previous_timer.set(ptr::null());
                if let Some(first) = first.as_ref() {
                    first.previous_timer.set(handle);
                }
                return;
            }
            let next = handle.next_timer.replace(ptr::null());
            let previous = handle.previous_timer.replace(ptr::null());
            if let Some(next) = next.as_ref() {
                next.previous_timer.set(previous);
            }
            match previous.as_ref() {
                Some(previous) => previous.next_timer.set(next),
                None => self.timers.set(next),
            }
        }
    }

    /// A timer of this loop is taken back.
    pub(super) fn timer_cancelled(&self, handle: &HandleObject) {
        let Some(key) = handle.timer.take() else { return };
        self.link(handle, false);
        let Some(hub_loop) = self.hub_loop() else { return };
        if !hub_loop.is_local() || hub_loop.is_closed() {
            // It is found to be cancelled when its time comes.
            return;
        }
        let source = hub_loop.reactor(|reactor| reactor.timer_remove(key));
        if source.is_some() {
            self.count(hub_loop, false);
        }
        drop(source);
    }

    /// One of the timers and descriptors that `hub_loop` has had for binding `binding` is gone.
    pub(super) fn count_gone(&self, hub_loop: &EventLoop, binding: u64) {
        if self.binding.get() == binding {
            self.count(hub_loop, false);
        } else {
            // When the loop left the hub it was not running.
            hub_loop.change_unreferenced(false);
        }
    }

    /// The time of a handle has come.
    pub fn timer_fired(py: Python<'_>, hub_loop: &EventLoop, handle: HandleRef, binding: u64) {
        let event_loop = handle.event_loop(py);
        let this = event_loop.get();
        this.count_gone(hub_loop, binding);
        if this.binding.get() != binding {
            return;
        }
        if handle.timer.take().is_some() {
            this.link(&handle, false);
            Self::push(&event_loop, handle);
        }
    }
}

#[cold]
fn closed() -> PyErr {
    PyRuntimeError::new_err("Event loop is closed")
}

/// The loop's time as nanoseconds of the monotonic clock, rounded up: a timer is not early by the
/// loop's own clock.
fn deadline_of(when: f64) -> u64 {
    // The cast saturates.
    (when * 1e9).ceil() as u64
}

#[pymethods]
impl AsyncioLoop {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn py_new(
        _args: &Bound<'_, pyo3::types::PyTuple>,
        _kwargs: Option<&Bound<'_, pyo3::types::PyDict>>,
    ) -> Self {
        Self {
            ready: UnsafeCell::new(VecDeque::with_capacity(64)),
            turn: Cell::new(Turn::Blocked),
            runner: Cell::new(0),
            running: Cell::new(false),
            referenced: Cell::new(true),
            serves_waits: Cell::new(false),
            waits: Cell::new(0),
            stopping: Cell::new(false),
            closed: Cell::new(false),
            debug: Cell::new(false),
            debug_changed: Cell::new(false),
            has_factory: Cell::new(false),
            forked: Cell::new(false),
            idle: WaitList::new(),
            caller: WaitList::new(),
            called_in: Cell::new(ptr::null_mut()),
            observed: RefCell::new(None),
            tells_of_blocking: Cell::new(false),
            error: Cell::new(None),
            hub_loop: Cell::new(ptr::null()),
            keeper: RefCell::new(None),
            binding: Cell::new(0),
            registered: Cell::new(0),
            timers: Cell::new(ptr::null()),
            waiting_calls: Cell::new(0),
            dormant: RefCell::new(Vec::new()),
            descriptors: Descriptors::new(),
            calls: Cell::new(0),
            held: RefCell::new(Vec::new()),
            futures: Futures::default(),
            sockets: Sockets::default(),
        }
    }

    /// Runs the loop until it is stopped: the caller waits while other greenlets call the
    /// callbacks.
    fn _run_until_stopped(slf: &Bound<'_, Self>) -> PyResult<()> {
        runner::run_until_stopped(slf)
    }

    /// Has the run end after this round of callbacks.
    fn stop(slf: &Bound<'_, Self>) {
        let this = slf.get();
        this.stopping.set(true);
        if this.running.get() {
            runner::call_for(slf);
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Drops what is to be called, timers and descriptors. The loop does not run.
    fn _shut(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.closed.replace(true) {
            return Ok(());
        }
        let ready = this.ready(std::mem::take);
        let dormant = this.dormant.take();
        let held = this.held.take();
        Descriptors::remove_all(slf);
        Sockets::close(this);
        for handle in this.linked_timers() {
            this.timer_cancelled(&handle);
        }
        // Timers that another thread's hub has are void.
        this.binding.set(this.binding.get() + 1);
        this.hub_loop.set(ptr::null());
        let keeper = this.keeper.take();
        this.futures.clear();
        drop((ready, dormant, held, keeper));
        Ok(())
    }

    /// Sets whether debug mode is on.
    fn _set_debug(slf: &Bound<'_, Self>, enabled: bool) {
        let this = slf.get();
        this.debug.set(enabled);
        this.debug_changed.set(true);
    }

    /// Sets whether there is a task factory to be asked.
    fn _set_has_factory(&self, has: bool) {
        self.has_factory.set(has);
    }

    /// Sets whether `greenloop.asyncio._handles.blocked` is called when a callback waits.
    fn _set_tells_of_blocking(&self, tells: bool) {
        self.tells_of_blocking.set(tells);
    }

    /// Has the hub run only as long as somebody waits for something in the loop: see `_change_waits`.
    /// In the loop's thread only, as that.
    fn _serve_waits(&self) {
        self.serves_waits.set(true);
        self.set_referenced(self.waits.get() > 0);
    }

    /// Notes that one more greenlet waits for something in the loop, or one less.
    fn _change_waits(&self, more: bool) {
        self.change_waits(more);
    }

    /// Whether the caller is in the thread where the loop runs.
    pub(super) fn _is_local(&self) -> bool {
        self.hub_loop().is_none_or(EventLoop::is_local)
    }

    /// Whether a descriptor has a reader or writer.
    fn _is_watched(&self, fd: i32) -> bool {
        self.descriptors.has(fd)
    }

    /// Removes the reader of a descriptor. False if it has none.
    fn _remove_reader(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        if slf.get().closed.get() {
            return Ok(false);
        }
        Descriptors::remove(slf, descriptor(fd)?, false)
    }

    /// Removes the writer of a descriptor. False if it has none.
    fn _remove_writer(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        if slf.get().closed.get() {
            return Ok(false);
        }
        Descriptors::remove(slf, descriptor(fd)?, true)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs with the GIL held and changes nothing.
        for handle in unsafe { &*self.ready.get() } {
            visit_handle(&visit, handle)?;
        }
        if let Ok(dormant) = self.dormant.try_borrow() {
            for handle in &*dormant {
                visit_handle(&visit, handle)?;
            }
        }
        self.futures.traverse(&visit)?;
        self.sockets.traverse(&visit)
    }

    fn __clear__(&self) {
        let ready = self.ready(std::mem::take);
        drop(ready);
        self.futures.clear();
    }
}

fn visit_handle(visit: &PyVisit<'_>, handle: &HandleRef) -> Result<(), PyTraverseError> {
    // SAFETY: both are a pointer to an object that they own a reference of.
    visit.call(unsafe { &*ptr::from_ref(handle).cast::<Py<PyAny>>() })
}

impl HandleObject {
    /// A reference to the handle.
    pub fn to_owned_ref(&self) -> HandleRef {
        let this: *mut Self = ptr::from_ref(self).cast_mut();
        // SAFETY: a live object.
        unsafe {
            ffi::Py_INCREF(this.cast());
            HandleRef::from_owned(this)
        }
    }
}

/// Called by a hub that is about to look for events.
pub fn before_poll(py: Python<'_>, loops: &RefCell<Vec<Py<AsyncioLoop>>>) {
    let mut index = 0;
    loop {
        let Some(event_loop) = loops.borrow().get(index).map(|one| one.clone_ref(py)) else {
            return;
        };
        runner::hub_runs(event_loop.bind(py));
        index += 1;
    }
}

/// In a forked child: only the greenlet that forked goes on.
pub fn forked(py: Python<'_>, loops: &RefCell<Vec<Py<AsyncioLoop>>>) {
    for event_loop in loops.take() {
        event_loop.bind(py).get().forked.set(true);
    }
}

/// _running_asyncio_loops()
/// --
///
/// The loops that run in the calling thread, the one that has been for longest first.
#[pyfunction]
fn _running_asyncio_loops(py: Python<'_>) -> PyResult<Vec<Py<AsyncioLoop>>> {
    let hub = HubObject::get(py)?;
    let loops = hub.asyncio().borrow();
    Ok(loops.iter().map(|one| one.clone_ref(py)).collect())
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<AsyncioLoop>()?;
    module.add_function(wrap_pyfunction!(_running_asyncio_loops, module)?)?;
    let class = module.py().get_type::<AsyncioLoop>();
    super::calls::attach(&class)?;
    sockets::attach(&class)
}
