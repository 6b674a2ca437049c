//! The jobs of a pool, and its count of threads.

use super::job::Job;
use std::collections::VecDeque;
use std::ptr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Shared by a pool and its threads.
pub struct Queue {
    contents: Mutex<Contents>,
    changed: Condvar,
}

pub struct Contents {
    jobs: VecDeque<Box<Job>>,
    /// Threads that wait and that no job has been promised to.
    idle: usize,
    /// Jobs promised to threads that wait: they are not for anybody else, so that a thread that
    /// was woken is never left without one.
    promised: usize,
    pub threads: usize,
    /// How many threads there may be.
    pub limit: usize,
    closed: bool,
}

/// What a thread does next.
pub enum Next {
    Run(*mut Job),
    /// Wait in `wait`: counted as idle already.
    Wait,
    End,
}

impl Queue {
    pub fn new(limit: usize) -> Self {
        Self {
            contents: Mutex::new(Contents {
                jobs: VecDeque::new(),
                idle: 0,
                promised: 0,
                threads: 0,
                limit,
                closed: false,
            }),
            changed: Condvar::new(),
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

    /// Adds a job. True if a waiting thread takes it.
    pub fn push(&self, job: Box<Job>) -> bool {
        let mut contents = self.lock();
        contents.jobs.push_back(job);
        if contents.idle == 0 {
            return false;
        }
        contents.idle -= 1;
        contents.promised += 1;
        drop(contents);
        self.changed.notify_one();
        true
    }

    /// What a thread that has nothing to do does next.
    pub fn next(&self) -> Next {
        let mut contents = self.lock();
        if contents.jobs.len() > contents.promised
            && let Some(job) = contents.jobs.pop_front()
        {
            return Next::Run(Box::into_raw(job));
        }
        if contents.is_superfluous() {
            contents.threads -= 1;
            return Next::End;
        }
        contents.idle += 1;
        Next::Wait
    }

    /// Waits for a job; null if the thread is to end, which is uncounted then.
    pub fn wait(&self) -> *mut Job {
        let mut contents = self.lock();
        loop {
            if contents.promised > 0
                && let Some(job) = contents.jobs.pop_front()
            {
                contents.promised -= 1;
                return Box::into_raw(job);
            }
            if contents.idle > 0 && contents.is_superfluous() {
                contents.idle -= 1;
                contents.threads -= 1;
                return ptr::null_mut();
            }
            contents = self.changed.wait(contents).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Changes how many threads there may be. Those that are too many end when they are idle.
    pub fn set_limit(&self, limit: usize) {
        self.lock().limit = limit;
        self.changed.notify_all();
    }

    /// Has all threads end once they have worked off the jobs that there are.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

impl Contents {
    pub fn waiting_jobs(&self) -> usize {
        self.jobs.len()
    }

    fn is_superfluous(&self) -> bool {
        self.closed || self.threads > self.limit
    }
}
