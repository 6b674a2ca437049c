//! The jobs of a pool, and its count of threads.

use super::job::Job;
use crate::hub::wait::WaitList;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::VecDeque;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

type Object = *mut ffi::PyObject;

/// What is over at once (ns).
const QUICK: u64 = 20_000;

/// Shared by a pool and its threads.
pub struct Queue {
    contents: Mutex<Contents>,
    changed: Condvar,
    /// How long calls take, as an average in which older ones count less and less.
    usual_ns: AtomicU64,
    pub hooks: Arc<Hooks>,
    /// Greenlets that wait for all jobs to be over.
    pub joining: WaitList,
}

pub struct Contents {
    jobs: VecDeque<Box<Job>>,
    /// Threads that wait and that no job has been promised to.
    idle: usize,
    /// Jobs promised to threads that wait: they are not for anybody else, so that a thread that
    /// was woken is never left without one.
    promised: usize,
    /// Jobs that are being run.
    running: usize,
    /// Threads that are to end when they have nothing to do.
    dismissed: usize,
    pub threads: usize,
    /// How many threads there may be.
    pub limit: usize,
    closed: bool,
    /// How long a thread waits for a job before it ends; None for ever.
    idle_limit: Option<Duration>,
}

/// Functions that Python code wants to have called for what threads do (`threading.settrace`,
/// `threading.setprofile`).
pub struct Hooks {
    /// The dict of `threading`; owned.
    threading: Object,
    /// Calls `function, args, kwargs` with the functions set; owned.
    call: Object,
}

// SAFETY: owned references, used and dropped with the GIL held only.
unsafe impl Send for Hooks {}
// SAFETY: as above.
unsafe impl Sync for Hooks {}

impl Hooks {
    pub fn new(threading: Bound<'_, PyDict>, call: Bound<'_, PyAny>) -> Self {
        Self { threading: threading.into_ptr(), call: call.into_ptr() }
    }

    /// What makes calls, if a function is set: borrowed, or null. Runs no Python code.
    pub fn caller(&self) -> Object {
        // SAFETY: a dict; the GIL is held.
        unsafe {
            for name in [c"_trace_hook", c"_profile_hook"] {
                let hook = ffi::PyDict_GetItemString(self.threading, name.as_ptr());
                if !hook.is_null() && hook != ffi::Py_None() {
                    return self.call;
                }
            }
        }
        ptr::null_mut()
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        // SAFETY: owned; queues are dropped with the GIL held.
        unsafe {
            ffi::Py_DECREF(self.threading);
            ffi::Py_DECREF(self.call);
        }
    }
}

/// What a thread does next.
pub enum Next {
    Run(*mut Job),
    /// Wait in `wait`: counted as idle already.
    Wait,
    End,
}

impl Queue {
    pub fn new(limit: usize, idle_limit: Option<Duration>, hooks: Arc<Hooks>) -> Self {
        Self {
            hooks,
            contents: Mutex::new(Contents {
                jobs: VecDeque::new(),
                idle: 0,
                promised: 0,
                running: 0,
                dismissed: 0,
                threads: 0,
                limit,
                closed: false,
                idle_limit,
            }),
            changed: Condvar::new(),
            usual_ns: AtomicU64::new(0),
            joining: WaitList::new(),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a job that is added now needs a thread to be started; if so, it is counted.
    pub fn wants_thread(&self) -> bool {
        let mut contents = self.lock();
        let wants = contents.idle == 0 && contents.threads < contents.limit;
        contents.threads += usize::from(wants);
        wants
    }

    /// Uncounts a thread that could not be started. False if there is none at all.
    pub fn thread_failed(&self) -> bool {
        let mut contents = self.lock();
        contents.threads -= 1;
        contents.threads > 0
    }

    /// Adds a job. True if a waiting thread takes it, which the caller has to `notify`.
    pub fn push(&self, job: Box<Job>) -> bool {
        let mut contents = self.lock();
        contents.jobs.push_back(job);
        if contents.idle == 0 {
            return false;
        }
        contents.idle -= 1;
        contents.promised += 1;
        true
    }

    /// Wakes a thread for a job that has been promised to one.
    pub fn notify(&self) {
        self.changed.notify_one();
    }

    /// Whether calls tend to be over at once.
    pub fn is_quick(&self) -> bool {
        self.usual_ns.load(Ordering::Relaxed) < QUICK
    }

    /// Notes how long a call took. A few of another kind change what is usual.
    pub fn took(&self, ns: u64) {
        let usual = self.usual_ns.load(Ordering::Relaxed);
        self.usual_ns.store((3 * usual + ns.min(8 * QUICK)) / 4, Ordering::Relaxed);
    }

    /// What a thread that has nothing to do does next.
    pub fn next(&self) -> Next {
        let mut contents = self.lock();
        if contents.jobs.len() > contents.promised
            && let Some(job) = contents.jobs.pop_front()
        {
            contents.running += 1;
            return Next::Run(Box::into_raw(job));
        }
        if contents.dismiss() {
            return Next::End;
        }
        contents.idle += 1;
        Next::Wait
    }

    /// Waits for a job; null if the thread is to end, which is uncounted then.
    pub fn wait(&self) -> *mut Job {
        let mut contents = self.lock();
        let until = contents.idle_limit.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            if contents.promised > 0
                && let Some(job) = contents.jobs.pop_front()
            {
                contents.promised -= 1;
                contents.running += 1;
                return Box::into_raw(job);
            }
            if contents.idle > 0 && contents.dismiss() {
                contents.idle -= 1;
                return ptr::null_mut();
            }
            let Some(until) = until else {
                contents = self.changed.wait(contents).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() && contents.idle > 0 {
                contents.idle -= 1;
                contents.threads -= 1;
                return ptr::null_mut();
            }
            // With a job promised to one of those that wait, it is coming.
            let left = left.max(Duration::from_millis(1));
            let (guard, _) =
                self.changed.wait_timeout(contents, left).unwrap_or_else(PoisonError::into_inner);
            contents = guard;
        }
    }

    /// Notes that a job is over, whose result is about to be delivered. True if it was the last.
    pub fn job_done(&self) -> bool {
        let mut contents = self.lock();
        contents.running -= 1;
        contents.unfinished() == 0
    }

    /// Changes how many threads there may be. Those that are too many end when they are idle.
    /// Returns how many are to be started for jobs that wait; they are counted.
    pub fn set_limit(&self, limit: usize) -> usize {
        let mut contents = self.lock();
        contents.limit = limit;
        let room = limit.saturating_sub(contents.threads);
        let missing = room.min(contents.jobs.len() - contents.promised);
        contents.threads += missing;
        drop(contents);
        self.changed.notify_all();
        missing
    }

    /// Has so many threads more started, or end when they are idle, that there are `count` in the
    /// end. Returns how many are to be started; they are counted.
    pub fn resize(&self, count: usize) -> usize {
        let mut contents = self.lock();
        contents.dismissed = contents.threads.saturating_sub(count);
        let missing = count.saturating_sub(contents.threads);
        contents.threads += missing;
        drop(contents);
        self.changed.notify_all();
        missing
    }

    /// Has all threads end once they have worked off the jobs that there are.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

impl Contents {
    /// Jobs that wait for a thread.
    pub fn waiting(&self) -> usize {
        self.jobs.len()
    }

    /// Jobs that wait or are being run.
    pub fn unfinished(&self) -> usize {
        self.jobs.len() + self.running
    }

    /// Whether a thread that has nothing to do is to end; it is uncounted then.
    fn dismiss(&mut self) -> bool {
        let goes = self.closed || self.dismissed > 0 || self.threads > self.limit;
        if goes {
            self.threads -= 1;
            self.dismissed = self.dismissed.saturating_sub(1);
        }
        goes
    }
}
