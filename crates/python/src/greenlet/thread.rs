//! What each OS thread that uses greenlets has: its main greenlet, its stack slots, its hub.

use super::asyncio::ThreadAsyncio;
use super::cxx::Exceptions;
use super::object::{FrameHooks, Payload, PyGreenlet, Status};
use super::stacks;
use super::types;
use crate::hub::HubObject;
use crate::hub::shield::Held;
use crate::pystate::ThreadState;
use crate::sync::turn::Turn;
use greenloop_stack::Arena;
use pyo3::exceptions::{PyMemoryError, PyRuntimeError};
use pyo3::ffi;
use pyo3::prelude::*;
use std::cell::{Cell, UnsafeCell};
use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// One OS thread's record. Greenlets keep it alive; it outlives the thread if they do.
pub struct Thread {
    state: ThreadState,
    /// What `threading.get_ident` returns in its main greenlet.
    ident: u64,
    /// Owned; the record and its main greenlet keep each other until the thread ends.
    main: Cell<*mut PyGreenlet>,
    /// Owned. Everything below changes with the GIL held only.
    pub current: Cell<*mut PyGreenlet>,
    /// Whom the running greenlet was switched to from; owned, see `drop_leftovers`.
    pub origin: Cell<*mut PyGreenlet>,
    /// Other references that a switch has left over; owned, see `drop_leftovers`.
    leftovers: UnsafeCell<Vec<*mut ffi::PyObject>>,
    pub payload: Cell<Option<Payload>>,
    /// Greenlets that have started and not ended; the main greenlet is not counted.
    pub alive: Cell<usize>,
    pub arena: UnsafeCell<Arena<FrameHooks>>,
    /// Owned; null until something needs the hub.
    pub hub: Cell<*mut HubObject>,
    /// The function of `settrace`; owned or null.
    pub trace: Cell<*mut ffi::PyObject>,
    /// C++ exceptions that the running greenlet handles.
    pub cxx: Exceptions,
    pub asyncio: ThreadAsyncio,
    /// What the hub has done, see `beat`. Read by other threads to see whether this one gets on
    /// (`hub::watch`).
    beats: AtomicU64,
    /// Whether the hub waits for events.
    idle: AtomicBool,
    /// What shields hold back from greenlets.
    pub held: Held,
    pub turn: Turn,
    /// Set when the thread has ended.
    ended: Cell<bool>,
    /// Greenlets of this thread that were collected while suspended, in another thread. They are
    /// finished here.
    orphans: Mutex<Vec<usize>>,
    has_orphans: AtomicBool,
}

// SAFETY: the cells are touched by the thread itself, or, like the counted references to the
// record, with the GIL held only; the orphans are behind a mutex.
unsafe impl Send for Thread {}
// SAFETY: as above.
unsafe impl Sync for Thread {}

thread_local! {
    static CURRENT: Cell<*const Thread> = const { Cell::new(ptr::null()) };
}

/// How many main greenlets there are.
static MAIN_GREENLETS: AtomicUsize = AtomicUsize::new(0);

/// How many main greenlets there are: those of living threads, and of ended ones that are referred
/// to.
pub fn main_greenlets() -> usize {
    MAIN_GREENLETS.load(Ordering::Relaxed)
}

/// Takes note that a main greenlet is freed.
pub fn main_greenlet_freed() {
    MAIN_GREENLETS.fetch_sub(1, Ordering::Relaxed);
}

/// How often the greenlets of a thread that ends are looked for: those that end may start others.
const END_ROUNDS: usize = 8;

const CAPSULE_NAME: &CStr = c"greenloop.thread";

impl Thread {
    /// The calling thread's record, made on first use.
    ///
    /// # Errors
    ///
    /// When memory or address space for it is not to be had.
    #[inline]
    pub fn get(py: Python<'_>) -> PyResult<&'static Thread> {
        let thread = CURRENT.get();
        if thread.is_null() {
            return Self::create(py);
        }
        // SAFETY: cleared before the record is released; a thread lives longer than what runs in
        // it, hence 'static for code that runs in it.
        Ok(unsafe { &*thread })
    }

    /// The calling thread's record if it has one.
    #[inline]
    pub fn try_get() -> Option<&'static Thread> {
        let thread = CURRENT.get();
        // SAFETY: as in `get`.
        (!thread.is_null()).then(|| unsafe { &*thread })
    }

    #[cold]
    fn create(py: Python<'_>) -> PyResult<&'static Thread> {
        let arena = Arena::new(stacks::config())
            .map_err(|error| PyMemoryError::new_err(format!("stack slots: {error}")))?;
        // SAFETY: the GIL is held, so there is a thread state.
        let state = ThreadState::new(unsafe { ffi::PyThreadState_Get() });
        let thread = Arc::new(Thread {
            state,
            // SAFETY: has no requirements.
            ident: unsafe { ffi::PyThread_get_thread_ident() },
            main: Cell::new(ptr::null_mut()),
            current: Cell::new(ptr::null_mut()),
            origin: Cell::new(ptr::null_mut()),
            leftovers: UnsafeCell::new(Vec::new()),
            payload: Cell::new(None),
            alive: Cell::new(0),
            arena: UnsafeCell::new(arena),
            hub: Cell::new(ptr::null_mut()),
            trace: Cell::new(ptr::null_mut()),
            cxx: Exceptions::of_thread(),
            asyncio: ThreadAsyncio::new(),
            beats: AtomicU64::new(0),
            idle: AtomicBool::new(false),
            held: Held::new(),
            turn: Turn::new(),
            ended: Cell::new(false),
            orphans: Mutex::new(Vec::new()),
            has_orphans: AtomicBool::new(false),
        });
        let main = types::new_main_greenlet(py)?;
        MAIN_GREENLETS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: `main` is a fresh greenlet, owned here; a main greenlet runs from the start.
        unsafe {
            (*main).thread.set(Arc::into_raw(Arc::clone(&thread)));
            (*main).status.set(Status::Active);
            thread.main.set(main);
            ffi::Py_INCREF(main.cast());
            thread.current.set(main);
        }
        let record = Arc::into_raw(thread);
        // SAFETY: the capsule takes over the count of `record`. The thread state's dict is
        // cleared when the thread ends, which runs the destructor.
        unsafe {
            let dict = ffi::PyThreadState_GetDict();
            let capsule = ffi::PyCapsule_New(
                record.cast_mut().cast::<c_void>(),
                CAPSULE_NAME.as_ptr(),
                Some(thread_ended),
            );
            if dict.is_null()
                || capsule.is_null()
                || ffi::PyDict_SetItemString(dict, CAPSULE_NAME.as_ptr(), capsule) != 0
            {
                ffi::Py_XDECREF(capsule);
                return Err(PyErr::take(py).unwrap_or_else(|| {
                    PyRuntimeError::new_err("this thread has no place for greenlet state")
                }));
            }
            ffi::Py_DECREF(capsule);
            (*record).asyncio.watch.attach(state);
        }
        CURRENT.set(record);
        // SAFETY: as in `get`.
        Ok(unsafe { &*record })
    }

    #[inline]
    pub fn state(&self) -> ThreadState {
        self.state
    }

    /// What `threading.get_ident` returns in the main greenlet.
    pub fn ident(&self) -> u64 {
        self.ident
    }

    #[inline]
    pub fn main(&self) -> *mut PyGreenlet {
        self.main.get()
    }

    /// An owned reference to the main greenlet.
    pub fn main_owned(&self) -> *mut PyGreenlet {
        // SAFETY: alive as long as the thread.
        unsafe { ffi::Py_INCREF(self.main.get().cast()) };
        self.main.get()
    }

    /// The running greenlet.
    #[inline]
    pub fn current(&self) -> &PyGreenlet {
        // SAFETY: set from creation on, and owned.
        unsafe { &*self.current.get() }
    }

    /// Whether the thread has ended: its greenlets cannot be switched to any more.
    pub fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Whether `thread` is the calling thread's record (and not null).
    #[inline]
    pub fn is_current(thread: *const Thread) -> bool {
        ptr::eq(CURRENT.get(), thread) && !thread.is_null()
    }

    /// Whether this is the calling thread's record.
    #[inline]
    pub fn is_calling(&self) -> bool {
        ptr::eq(CURRENT.get(), self)
    }

    /// Counts what the hub does: each greenlet that it lets run, each round. Called in the thread
    /// itself. Returns how often that was before.
    #[inline(always)]
    pub fn beat(&self) -> u64 {
        // Nobody else writes: no need for a locked addition.
        let beats = self.beats.load(Ordering::Relaxed);
        self.beats.store(beats + 1, Ordering::Relaxed);
        beats
    }

    /// How often `beat` was called; from any thread.
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// Whether the hub waits for events; from any thread.
    pub fn is_idle(&self) -> bool {
        self.idle.load(Ordering::Relaxed)
    }

    pub fn set_idle(&self, idle: bool) {
        self.idle.store(idle, Ordering::Relaxed);
    }

    /// Keeps a reference to be dropped after the switch that is being made. Takes it over.
    #[cold]
    pub fn leave_over(&self, object: *mut ffi::PyObject) {
        // SAFETY: touched by this thread with the GIL held, and for this push only.
        unsafe { (*self.leftovers.get()).push(object) };
    }

    /// Drops what the last switch has left over: the greenlet that was left, and what was found
    /// void in the ready queue. Dropping may run any code, which may wait and switch: so this is
    /// not done in the middle of a switch or wait, but by whoever was switched to, when its own
    /// wait is over.
    #[inline]
    pub fn drop_leftovers(&self) {
        let origin = self.origin.replace(ptr::null_mut());
        // SAFETY: owned references, taken out before they are dropped.
        unsafe {
            if !origin.is_null() {
                ffi::Py_DECREF(origin.cast());
            }
            if !(*self.leftovers.get()).is_empty() {
                self.drop_other_leftovers();
            }
        }
    }

    #[cold]
    fn drop_other_leftovers(&self) {
        // SAFETY: taken out before they are dropped; see `leave_over`.
        let leftovers = unsafe { std::mem::take(&mut *self.leftovers.get()) };
        for object in leftovers {
            // SAFETY: owned references.
            unsafe { ffi::Py_DECREF(object) };
        }
    }

    /// Takes in a greenlet that has to be finished here; called from another thread with an
    /// owned reference.
    pub fn adopt(&self, greenlet: *mut PyGreenlet) {
        self.orphans
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(greenlet as usize);
        self.has_orphans.store(true, Ordering::Release);
        // SAFETY: the GIL is held; a hub is alive as long as it is set.
        if let Some(hub) = unsafe { self.hub.get().as_ref() } {
            hub.wake();
        }
    }

    /// Drops the greenlets that other threads collected: with the last reference dropped here,
    /// they are finished as if they had been collected here.
    #[inline]
    pub fn bury_orphans(&self) {
        if self.has_orphans.load(Ordering::Relaxed) {
            self.bury_orphans_now();
        }
    }

    #[cold]
    fn bury_orphans_now(&self) {
        let orphans = std::mem::take(
            &mut *self.orphans.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
        );
        self.has_orphans.store(false, Ordering::Relaxed);
        for orphan in orphans {
            // SAFETY: an owned reference given to `adopt`.
            unsafe { types::drop_collected(orphan as *mut PyGreenlet) };
        }
    }

    /// Ends the thread's greenlets that are nobody's when the thread ends: those that the hub ran,
    /// and raw ones that only refer to themselves. What they do at their end, in `finally` blocks, may
    /// wait, for which there will be another hub, and may start more greenlets. Those that others
    /// still refer to stay suspended for ever, as with the greenlet package; what the hub ran is
    /// ended all the same, so that nothing that was on its way to it (a permit, an item) is lost.
    fn end_greenlets(&self, py: Python<'_>) -> PyResult<()> {
        for _ in 0..END_ROUNDS {
            self.bury_orphans();
            let had_hub = self.drop_hub();
            if self.alive.get() == 0 {
                return Ok(());
            }
            let before = self.alive.get();
            self.end_tasks(py)?;
            py.import("gc")?.call_method0("collect")?;
            let ended = self.alive.get() != before;
            if !had_hub && !ended && !self.has_orphans.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn end_tasks(&self, py: Python<'_>) -> PyResult<()> {
        for object in types::all_greenlets(py)? {
            // SAFETY: a greenlet.
            let greenlet = unsafe { &*object.as_ptr().cast::<PyGreenlet>() };
            let is_task =
                !greenlet.is_raw() && !greenlet.is_main() && !greenlet.wait.is_left_behind();
            if is_task && ptr::eq(greenlet.thread.get(), self) && greenlet.is_suspended() {
                if ptr::eq(object.as_ptr(), self.hub.get().cast()) {
                    // Made by one of the others, and at work: the next round takes it away.
                    continue;
                }
                // SAFETY: suspended in this thread.
                unsafe { types::end(greenlet) };
            }
        }
        Ok(())
    }

    /// Has chains of frames that stay after the thread end before the frame that does not.
    #[cfg(cpython = "3.15")]
    fn cut_base_frames(&self) {
        if self.alive.get() == 0 || types::interpreter_is_finalizing() {
            return;
        }
        // SAFETY: called with the GIL held.
        let py = unsafe { Python::assume_attached() };
        match types::all_greenlets(py) {
            Ok(all) => {
                for object in all {
                    // SAFETY: a greenlet.
                    let greenlet = unsafe { &*object.as_ptr().cast::<PyGreenlet>() };
                    if ptr::eq(greenlet.thread.get(), self) && greenlet.is_suspended() {
                        // SAFETY: suspended; the thread's state is being cleared.
                        unsafe {
                            crate::pystate::cut_base(&greenlet.py, self.state(), greenlet.shift());
                        }
                    }
                }
            }
            Err(error) => error.write_unraisable(py, None),
        }
    }

    /// Takes the hub away and drops what it would have run. False if there was none.
    fn drop_hub(&self) -> bool {
        let hub = self.hub.replace(ptr::null_mut());
        if hub.is_null() {
            return false;
        }
        HubObject::thread_ended(hub);
        // SAFETY: the record's reference, taken out before it is dropped.
        unsafe { ffi::Py_DECREF(hub.cast()) };
        true
    }

    /// Sets a fresh greenlet's thread: it keeps the record alive.
    pub fn own(&self, greenlet: &PyGreenlet) {
        debug_assert!(greenlet.thread.get().is_null());
        // SAFETY: `self` lives in an Arc.
        unsafe { Arc::increment_strong_count(self) };
        greenlet.thread.set(self);
    }

    /// Has a greenlet that has not started belong to the thread of its ancestors, which may have
    /// been moved to another one.
    #[inline]
    pub fn follow_ancestors(greenlet: &PyGreenlet) {
        let thread = greenlet.thread_by_descent();
        if thread != greenlet.thread.get() {
            // SAFETY: ancestors are alive.
            unsafe { Self::move_to(greenlet, thread) };
        }
    }

    /// Gives a greenlet that has not started another thread.
    ///
    /// # Safety
    ///
    /// `thread` is the record of a greenlet that is alive.
    pub unsafe fn move_to(greenlet: &PyGreenlet, thread: *const Thread) {
        Self::disown(greenlet);
        // SAFETY: as the caller guarantees.
        unsafe { (*thread).own(greenlet) };
    }

    /// Undoes `own`.
    pub fn disown(greenlet: &PyGreenlet) {
        let thread = greenlet.thread.replace(ptr::null());
        if !thread.is_null() {
            // SAFETY: a count taken by `own` (or at creation for a main greenlet).
            unsafe { Arc::decrement_strong_count(thread) };
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        for orphan in std::mem::take(
            self.orphans.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner),
        ) {
            // Nobody can run them any more; their thread's stacks go with this record.
            // SAFETY: an owned reference given to `adopt`; dropping happens with the GIL held.
            unsafe { ffi::Py_DECREF(orphan as *mut ffi::PyObject) };
        }
    }
}

/// Runs when a thread's state is cleared: at the end of the thread, with the GIL held.
unsafe extern "C" fn thread_ended(capsule: *mut ffi::PyObject) {
    // SAFETY: the capsule was made by `Thread::create` with an owned count.
    let thread = unsafe {
        let record = ffi::PyCapsule_GetPointer(capsule, CAPSULE_NAME.as_ptr());
        Arc::from_raw(record.cast::<Thread>().cast_const())
    };
    let own_end = CURRENT.get() == Arc::as_ptr(&thread);
    if !own_end {
        // The interpreter goes down, or this is a forked child: the thread is stopped somewhere,
        // or not there at all, and nothing of it may be touched or freed.
        thread.ended.set(true);
        #[cfg(cpython = "3.15")]
        thread.cut_base_frames();
        std::mem::forget(thread);
        return;
    }
    thread.asyncio.close();
    #[cfg(not(Py_3_13))]
    // SAFETY: the calling thread's state is being cleared.
    unsafe {
        when_cleared(thread);
    }
    #[cfg(Py_3_13)]
    finish(thread);
}

/// Before 3.13, what a `threading.local` has of the thread lies in the same dict as the capsule:
/// greenlets in it are still to be collected, and end in the thread if that comes first. The
/// interpreter calls `on_delete` when the thread's state has been cleared.
///
/// # Safety
///
/// Called while the calling thread's state is being cleared.
#[cfg(not(Py_3_13))]
unsafe fn when_cleared(thread: Arc<Thread>) {
    use crate::pystate::OnDelete;

    struct Waiting {
        thread: Arc<Thread>,
        before: OnDelete,
    }

    unsafe extern "C" fn cleared(waiting: *mut c_void) {
        // SAFETY: made below, called once.
        let waiting = unsafe { Box::from_raw(waiting.cast::<Waiting>()) };
        let state = waiting.thread.state();
        finish(waiting.thread);
        // SAFETY: the thread's state is there until `before` has been called; nothing else will
        // drop a dict that was made since the first was dropped.
        unsafe {
            state.clear_dict();
            waiting.before.call();
        }
    }

    let state = thread.state();
    // SAFETY: the calling thread's state.
    unsafe {
        let before = state.on_delete();
        let waiting = Box::new(Waiting { thread, before });
        state.set_on_delete(cleared, Box::into_raw(waiting).cast());
    }
}

/// The end of a thread's record, in the thread and with the GIL held.
fn finish(thread: Arc<Thread>) {
    // SAFETY: owned or null, cleared before it is dropped, because dropping can run code.
    unsafe { ffi::Py_XDECREF(thread.trace.replace(ptr::null_mut())) };
    if !types::interpreter_is_finalizing() && ptr::eq(thread.current(), thread.main()) {
        // SAFETY: destructors are called with the GIL held.
        let py = unsafe { Python::assume_attached() };
        if let Err(error) = thread.end_greenlets(py) {
            error.write_unraisable(py, None);
        }
    }
    thread.held.clear();
    thread.ended.set(true);
    thread.drop_hub();
    #[cfg(cpython = "3.15")]
    thread.cut_base_frames();
    CURRENT.set(ptr::null());
    // SAFETY: owned references; the main greenlet is over with its thread. `current` differs
    // from `main` only if the thread was ended from outside.
    unsafe {
        let main = thread.main.get();
        (*main).status.set(Status::Dead);
        let current = thread.current.get();
        if ptr::eq(current, main) {
            // Greenlets that others refer to keep the record, and need no address space for that.
            (*thread.arena.get()).close();
        }
        ffi::Py_DECREF(current.cast());
        ffi::Py_DECREF(main.cast());
    }
}
