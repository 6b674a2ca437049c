//! asyncio's running loop and current task belong to a greenlet, not to its thread.
//!
//! A greenlet that is left while a loop runs in it keeps the loop, the task whose step it is in,
//! and what the loop has set for asynchronous generators and coroutine origins ([`Saved`]); they
//! are put in place again when it goes on. One that has none goes on without.
//!
//! Where they come from:
//!
//! * A greenlet that the hub starts, or that is started in its stead, begins with none.
//! * A raw greenlet that is switched to for the first time by another begins with those of the
//!   other: it may be sync code called from a task, by way of a greenlet. Until it enters a task
//!   itself it has only borrowed the task, see `Live`.
//! * A loop that has been reset by the greenlet that runs it is nobody's running loop any more: not
//!   of greenlets that inherited it, nor of others that set it. Those are guests; what they reset
//!   is reset for them only ([`Run`]).
//! * In a forked child no loop is running, except where one is set anew.
//! * Code that hides its loop, as some does to run another, and then waits in the middle of a task's
//!   step, keeps the task. Whoever calls the loop's callbacks meanwhile could not enter another.
//!
//! All of it is found out and done in the arriving half of a switch, and only if there is
//! something to do: see `pystate::asyncio` for how that is known.

use super::object::{PyGreenlet, Status};
use super::thread::Thread;
use crate::fork;
use crate::pystate::asyncio::{
    Hooks, Owned, TASKS_HAVE_LOOPS, Watch, current_task, put_task, replace_running_loop,
    running_loop, take_task,
};
use pyo3::ffi;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::rc::{Rc, Weak};

type Object = *mut ffi::PyObject;

/// One loop running in this thread, from when a greenlet sets it, which runs it then, until that
/// greenlet resets it or ends.
struct Run {
    /// Only compared. Whoever holds a `Run` of a loop that may still run holds the loop too.
    running: Object,
    stopped: Cell<bool>,
}

/// What a suspended greenlet keeps.
struct Saved {
    run: Rc<Run>,
    guest: bool,
    running: Owned,
    /// Null if no task is in the middle of a step.
    task: Owned,
    borrowed: bool,
    /// The loop is not set (and `running` null), the task is.
    hidden: bool,
    hooks: Hooks,
    forks: u32,
}

impl Saved {
    /// Whether the loop still runs.
    fn is_valid(&self) -> bool {
        !self.run.stopped.get() && self.forks == fork::count()
    }
}

/// Has a reference dropped after the switch that is being made.
fn leave_over(thread: &Thread, object: Owned) {
    if !object.is_null() {
        thread.leave_over(object.into_ptr());
    }
}

fn leave_over_all(thread: &Thread, running: Owned, task: Owned, hooks: Hooks) {
    for object in [running, task, hooks.firstiter, hooks.finalizer] {
        leave_over(thread, object);
    }
}

/// A greenlet's place for what it keeps: null, a box, or the mark of one that inherits.
pub struct Slot(Cell<*mut Saved>, Cell<bool>);

impl Slot {
    pub const fn new() -> Self {
        Self(Cell::new(ptr::null_mut()), Cell::new(false))
    }

    /// Has the greenlet, which has not run yet, be one that calls the callbacks of a loop. Several
    /// may do so for one loop, in turn: each has a run of its own, so that the end of one voids
    /// nothing of another's.
    pub fn set_runner(&self) {
        debug_assert!(self.is_empty());
        self.1.set(true);
    }

    /// Nothing is ever read or written here.
    const fn inherits() -> *mut Saved {
        ptr::dangling_mut()
    }

    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.0.get().is_null()
    }

    /// Has the greenlet, which has not run yet, begin with what the one has that switches to it.
    #[cold]
    pub fn inherit(&self) {
        debug_assert!(self.is_empty());
        self.0.set(Self::inherits());
    }

    fn take(&self) -> Option<Box<Saved>> {
        let kept = self.0.replace(ptr::null_mut());
        // SAFETY: a box that `put` has taken apart, and no longer in its place.
        (!kept.is_null() && kept != Self::inherits()).then(|| unsafe { Box::from_raw(kept) })
    }

    fn put(&self, saved: Saved) {
        debug_assert!(self.is_empty());
        self.0.set(Box::into_raw(Box::new(saved)));
    }

    /// Visits the references for `tp_traverse`.
    ///
    /// # Safety
    ///
    /// As the interpreter calls `tp_traverse`.
    pub unsafe fn traverse(&self, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
        let kept = self.0.get();
        if kept.is_null() || kept == Self::inherits() {
            return 0;
        }
        // SAFETY: a box in its place; its references are valid or null.
        unsafe {
            let Saved { running, task, hooks, .. } = &*kept;
            for object in [running, task, &hooks.firstiter, &hooks.finalizer] {
                if !object.is_null() {
                    let status = visit(object.as_ptr(), arg);
                    if status != 0 {
                        return status;
                    }
                }
            }
        }
        0
    }

    /// Drops the references: the greenlet will not go on. Called with the GIL held.
    pub fn clear(&self) {
        drop(self.take());
    }
}

/// What is known of the running greenlet's loop from its arrival on.
struct Live {
    run: Rc<Run>,
    /// Whether it is another greenlet that runs the loop.
    guest: bool,
    /// The task at arrival; only compared.
    task: Object,
    /// Whether the task was somebody else's: of the greenlet that was inherited from, or that
    /// switched here while it was running the same loop. Such a greenlet is a subroutine of
    /// whatever step it is switched to from. One that has entered a task comes back to that.
    borrowed: bool,
    /// The loop was reset in the middle of a task's step.
    hidden: bool,
}

/// A thread's part.
pub struct ThreadAsyncio {
    pub watch: Watch,
    live: Cell<Option<Live>>,
    /// By the address of the loop; entries of loops that nobody keeps are dropped now and then.
    runs: RefCell<HashMap<usize, Weak<Run>>>,
    /// What greenlets without a loop have as hooks, while one with a loop runs.
    plain: Cell<Hooks>,
    /// Whether the thread ends: there is no place left to put a running loop in.
    closed: Cell<bool>,
}

impl ThreadAsyncio {
    pub fn new() -> Self {
        Self {
            watch: Watch::new(),
            live: Cell::new(None),
            runs: RefCell::new(HashMap::new()),
            plain: Cell::new(Hooks::none()),
            closed: Cell::new(false),
        }
    }

    /// A greenlet that calls the callbacks of a loop has set it just now: known from here on, for code
    /// that it calls may hide the loop before the next switch.
    pub fn enter(&self, running: Object) {
        let run = Rc::new(Run { running, stopped: Cell::new(false) });
        let task = ptr::null_mut();
        self.live.set(Some(Live { run, guest: false, task, borrowed: false, hidden: false }));
        self.watch.looked(true);
    }

    /// Gives up what the thread has, at its end. Called with the GIL held.
    pub fn close(&self) {
        self.closed.set(true);
        self.watch.detach();
        self.live.set(None);
        drop(self.plain.replace(Hooks::none()));
    }

    /// What is known of `running`, which is the running loop now or null, in the greenlet that is
    /// left: it may have been set or reset since the greenlet arrived.
    fn look(&self, running: Object, origin: &PyGreenlet) -> Option<Live> {
        match self.live.take() {
            Some(live) if live.run.running == running => Some(Live { hidden: false, ..live }),
            before => {
                if running.is_null() {
                    let live = before?;
                    if self.is_hidden(&live, origin) {
                        return Some(Live { hidden: true, ..live });
                    }
                    live.stop();
                    return None;
                }
                // If there was another loop before, that is probably not over: this one may have
                // been started by code that it runs.
                let (run, guest) = if origin.asyncio.1.get() {
                    (Rc::new(Run { running, stopped: Cell::new(false) }), false)
                } else {
                    self.run_of(running)
                };
                Some(Live { run, guest, task: ptr::null_mut(), borrowed: false, hidden: false })
            }
        }
    }

    /// Whether a loop that is not set any more has a task in the middle of a step. Where tasks are
    /// looked up by their loops that is only asked for greenlets that call callbacks, which hold theirs;
    /// for the others, who alone run theirs, it does not matter there.
    fn is_hidden(&self, live: &Live, origin: &PyGreenlet) -> bool {
        if TASKS_HAVE_LOOPS && !origin.asyncio.1.get() {
            return false;
        }
        let Some(thread) = Thread::try_get() else { return false };
        // SAFETY: the running thread's state, and a live loop.
        let task = unsafe { current_task(thread.state(), live.run.running) };
        match task {
            Ok(task) => !task.is_null(),
            Err(error) => {
                // The loop cannot be looked up: it has no task then.
                // SAFETY: an owned exception.
                unsafe { ffi::Py_DECREF(error) };
                false
            }
        }
    }

    /// The run of a loop that has just been set, and whether it had begun before.
    fn run_of(&self, running: Object) -> (Rc<Run>, bool) {
        let mut runs = self.runs.borrow_mut();
        if let Some(run) = runs.get(&(running as usize)).and_then(Weak::upgrade) {
            let begun = !run.stopped.replace(false);
            return (run, begun);
        }
        if runs.len() == runs.capacity() {
            runs.retain(|_, run| run.strong_count() > 0);
        }
        let run = Rc::new(Run { running, stopped: Cell::new(false) });
        runs.insert(running as usize, Rc::downgrade(&run));
        (run, false)
    }
}

impl Live {
    /// The greenlet has no part in the run any more: without the one that runs it, it is over.
    fn stop(&self) {
        if !self.guest {
            self.run.stopped.set(true);
        }
    }
}

/// Has `origin` keep what is asyncio's, and puts that of `here` in place. An owned exception to
/// raise in `here` if that fails.
///
/// # Safety
///
/// Called in the arriving half of a switch from `origin` to `here`, which runs.
#[cold]
#[inline(never)]
pub unsafe fn exchange(
    thread: &Thread,
    origin: &PyGreenlet,
    here: &PyGreenlet,
) -> Result<(), Object> {
    let state = &thread.asyncio;
    let inherits = here.asyncio.0.get() == Slot::inherits();
    let kept = here.asyncio.take();
    if state.closed.get() {
        if let Some(saved) = kept {
            leave_over_all(thread, saved.running, saved.task, saved.hooks);
        }
        return Ok(());
    }
    // SAFETY: the running thread's state, here and below.
    let running = unsafe { running_loop(thread.state()) };
    let left = state.look(running, origin);
    let origin = (origin.status.get() != Status::Dead).then_some(origin);
    let next = match kept {
        Some(saved) if saved.is_valid() => Some(*saved),
        void => {
            if let Some(saved) = void {
                leave_over_all(thread, saved.running, saved.task, saved.hooks);
            }
            None
        }
    };
    // SAFETY: passed on from the caller.
    let outcome = unsafe {
        match (left, next) {
            (None, None) => Ok(None),
            (Some(left), _) if inherits && !left.hidden => share(thread, left, running, origin),
            (Some(left), Some(next))
                if Rc::ptr_eq(&left.run, &next.run) && !left.hidden && !next.hidden =>
            {
                let follows = next.borrowed && !here.wait.is_waiting();
                change_task(thread, left, next, follows, origin)
            }
            (left, next) => change_loop(thread, left, running, next, origin),
        }
    };
    let (live, outcome) = match outcome {
        Ok(live) => (live, Ok(())),
        Err(error) => (None, Err(error)),
    };
    state.watch.looked(live.is_some() || outcome.is_err());
    state.live.set(live);
    outcome
}

/// What the greenlet that is left keeps, unless it has ended.
fn keep(
    thread: &Thread,
    origin: Option<&PyGreenlet>,
    left: &Live,
    running: Owned,
    task: Owned,
    hooks: Hooks,
) {
    let Some(origin) = origin else {
        left.stop();
        leave_over_all(thread, running, task, hooks);
        return;
    };
    origin.asyncio.put(Saved {
        run: Rc::clone(&left.run),
        guest: left.guest,
        borrowed: left.borrowed && left.task == task.as_ptr(),
        hidden: left.hidden,
        running,
        task,
        hooks,
        forks: fork::count(),
    });
}

/// The greenlet that begins goes on with what the one has that is left, which keeps the same.
///
/// # Safety
///
/// As for `exchange`; `running` is the running loop.
unsafe fn share(
    thread: &Thread,
    left: Live,
    running: Object,
    origin: Option<&PyGreenlet>,
) -> Result<Option<Live>, Object> {
    let ts = thread.state();
    // SAFETY: the running thread's state, a running loop, a task or null.
    let (running, task, hooks) = unsafe {
        let task = Owned::new_reference(current_task(ts, running)?);
        (Owned::new_reference(running), task, Hooks::copy(ts))
    };
    let (run, task_now) = (Rc::clone(&left.run), task.as_ptr());
    let live = Live { run, guest: true, task: task_now, borrowed: true, hidden: false };
    keep(thread, origin, &left, running, task, hooks);
    Ok(Some(live))
}

/// Both greenlets run the same loop: at most the task differs. Libraries that call sync code from
/// tasks pass a step to and fro here.
///
/// # Safety
///
/// As for `exchange`.
unsafe fn change_task(
    thread: &Thread,
    left: Live,
    next: Saved,
    follows: bool,
    origin: Option<&PyGreenlet>,
) -> Result<Option<Live>, Object> {
    let ts = thread.state();
    let Saved { run, guest, running, task: kept, borrowed, hooks, .. } = next;
    let place = running.as_ptr();
    // SAFETY: the running thread's state and its running loop.
    let current = unsafe { current_task(ts, place)? };
    let wanted = if follows { current } else { kept.as_ptr() };
    let live = Live { run, guest, task: wanted, borrowed, hidden: false };
    let task = if wanted == current {
        // SAFETY: a task or null.
        let task = unsafe { Owned::new_reference(current) };
        leave_over(thread, kept);
        task
    } else {
        // SAFETY: as above.
        unsafe {
            let task = take_task(ts, place)?;
            if !kept.is_null() {
                put_task(ts, place, kept)?;
            }
            task
        }
    };
    // SAFETY: the running thread's state.
    let hooks = unsafe { hooks.exchange(ts) };
    keep(thread, origin, &left, running, task, hooks);
    Ok(Some(live))
}

/// The greenlets run different loops, or only one of them does.
///
/// # Safety
///
/// As for `exchange`; `running` is the running loop or null.
unsafe fn change_loop(
    thread: &Thread,
    left: Option<Live>,
    running: Object,
    next: Option<Saved>,
    origin: Option<&PyGreenlet>,
) -> Result<Option<Live>, Object> {
    let (ts, plain) = (thread.state(), &thread.asyncio.plain);
    // SAFETY: the running thread's state and its running loop; a task is put back with its loop.
    unsafe {
        let task = match &left {
            Some(left) => take_task(ts, left.run.running)?,
            None => Owned::null(),
        };
        let (old, hooks, live) = match next {
            None => {
                let old = replace_running_loop(ts, running, Owned::null())?;
                (old, plain.replace(Hooks::none()), None)
            }
            Some(Saved {
                run, guest, running: new, task: kept, borrowed, hidden, hooks, ..
            }) => {
                let (place, kept_task) = (run.running, kept.as_ptr());
                let old = replace_running_loop(ts, running, new)?;
                if !kept.is_null() {
                    put_task(ts, place, kept)?;
                }
                (old, hooks, Some(Live { run, guest, task: kept_task, borrowed, hidden }))
            }
        };
        let hooks = hooks.exchange(ts);
        match left {
            Some(left) => keep(thread, origin, &left, old, task, hooks),
            None => {
                let before = plain.replace(hooks);
                leave_over_all(thread, old, task, before);
            }
        }
        Ok(live)
    }
}
