//! The Python class `_core.WorkerPool`; `greenloop.threadpool` builds on it.

use super::job::{Job, Outcome, Owned, Reply};
use super::queue::{Hooks, Queue};
use super::{GENERATION, IDLE, worker};
use crate::hub::HubObject;
use crate::hub::wait::{Reason, Wait};
use crate::time::deadline_after;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// WorkerPool(maxsize, threading, call_traced, idle_limit=None)
/// --
///
/// Native threads that make calls for greenlets. At most `maxsize`, started when they are needed;
/// calls beyond that wait their turn. A thread that has had nothing to do for `idle_limit` seconds
/// ends. While a function is set by `threading.settrace` or `setprofile` (`threading` is that
/// module's dict), calls are made by `call_traced(function, args, kwargs)`.
#[pyclass(frozen, name = "WorkerPool", module = "greenloop._core", weakref)]
pub struct WorkerPool {
    queue: RefCell<Arc<Queue>>,
    limit: Cell<usize>,
    idle_limit: Option<Duration>,
    hooks: Arc<Hooks>,
    generation: Cell<usize>,
    closed: Cell<bool>,
}

// SAFETY: the cells are touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for WorkerPool {}

impl WorkerPool {
    /// The queue; a new one in a forked child, where the old one's threads do not exist, and its
    /// lock may be held by one of them.
    fn queue(&self) -> Arc<Queue> {
        let generation = GENERATION.load(Ordering::Relaxed);
        if self.generation.replace(generation) != generation {
            let hooks = Arc::clone(&self.hooks);
            let fresh = Arc::new(Queue::new(self.limit.get(), self.idle_limit, hooks));
            std::mem::forget(self.queue.replace(fresh));
        }
        Arc::clone(&self.queue.borrow())
    }

    /// The queue, with a thread that will take a job.
    fn ready_queue(&self, py: Python<'_>) -> PyResult<Arc<Queue>> {
        if self.closed.get() {
            return Err(PyRuntimeError::new_err("the thread pool has been closed"));
        }
        let queue = self.queue();
        if queue.wants_thread()
            && let Err(error) = worker::start(py, &queue)
            && !queue.thread_failed()
        {
            return Err(error);
        }
        Ok(queue)
    }
}

/// Adds a job, for the threads that `ready_queue` saw to. True if one has to be woken for it.
fn push(queue: &Queue, job: Box<Job>) -> bool {
    let promised = queue.push(job);
    if promised {
        IDLE.fetch_sub(1, Ordering::Relaxed);
    }
    promised
}

#[pymethods]
impl WorkerPool {
    #[new]
    #[pyo3(signature = (maxsize, threading, call_traced, idle_limit = None))]
    fn new(
        maxsize: usize,
        threading: Bound<'_, PyDict>,
        call_traced: Bound<'_, PyAny>,
        idle_limit: Option<f64>,
    ) -> Self {
        let hooks = Arc::new(Hooks::new(threading, call_traced));
        // What is longer than can be counted is for ever.
        let idle_limit = idle_limit.and_then(|limit| Duration::try_from_secs_f64(limit).ok());
        let queue = Queue::new(maxsize, idle_limit, Arc::clone(&hooks));
        Self {
            queue: RefCell::new(Arc::new(queue)),
            limit: Cell::new(maxsize),
            idle_limit,
            hooks,
            generation: Cell::new(GENERATION.load(Ordering::Relaxed)),
            closed: Cell::new(false),
        }
    }

    /// Calls `function(*args, **kwargs)` in a thread, and waits for it: the calling greenlet
    /// only. Returns or raises what the function does. If the wait is ended by an exception
    /// (kill, timeout), the call is made all the same and its result dropped.
    #[pyo3(signature = (function, args, kwargs = None))]
    fn apply(
        slf: &Bound<'_, Self>,
        function: Py<PyAny>,
        args: Py<PyTuple>,
        kwargs: Option<Py<PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let queue = slf.get().ready_queue(py)?;
        let wait = Wait::begin(py, slf.as_ptr())?;
        let outcome = Outcome::new();
        let reply = Reply::Waiter { ticket: wait.ticket(), outcome: Arc::clone(&outcome) };
        let hub = wait.hub();
        if push(&queue, Job::new(function, args, kwargs.map(Py::into_any), reply)) {
            if hub.is_about_to_wait() {
                hub.hand_over(&queue);
            } else {
                queue.notify();
            }
        }
        drop(queue);
        hub.expect_outside();
        let woken = wait.park(None, None);
        hub.came_from_outside();
        woken.into_result()?;
        outcome.take(py).unwrap_or_else(|| {
            Err(PyRuntimeError::new_err("the worker thread ended without a result"))
        })
    }

    /// Has a thread call `function(*args, **kwargs)`, and the hub of the calling thread
    /// `done(value, error)` after that, one of which is None. The loop runs at least until then.
    fn submit(
        &self,
        py: Python<'_>,
        function: Py<PyAny>,
        args: Py<PyTuple>,
        kwargs: Option<Py<PyDict>>,
        done: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let queue = self.ready_queue(py)?;
        let hub = HubObject::get(py)?;
        hub.expect_outside();
        // SAFETY: the hub is alive.
        let owner = unsafe { Bound::from_borrowed_ptr(py, hub.as_ptr()) };
        let reply = Reply::Function { hub: Owned::new(owner), done: Owned::new(done) };
        if push(&queue, Job::new(function, args, kwargs.map(Py::into_any), reply)) {
            queue.notify();
        }
        Ok(())
    }

    /// Waits until all calls are over. False if that takes more than `timeout` seconds.
    #[pyo3(signature = (timeout = None))]
    fn join(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<bool> {
        let py = slf.py();
        let queue = slf.get().queue();
        if queue.lock().unfinished() == 0 {
            return Ok(true);
        }
        let wait = Wait::begin(py, slf.as_ptr())?;
        let hub = wait.hub();
        hub.expect_outside();
        let woken = wait.park(Some(&queue.joining), timeout.map(deadline_after));
        hub.came_from_outside();
        Ok(woken.into_result()? == Reason::Notified)
    }

    /// Has the threads end when they have worked off what there is. No more can be added.
    fn close(&self) {
        self.closed.set(true);
        self.queue().close();
    }

    /// Threads there are.
    #[getter]
    fn size(&self) -> usize {
        self.queue().lock().threads
    }

    /// Has threads started, or end when they have nothing to do, until there are so many.
    #[setter]
    fn set_size(&self, py: Python<'_>, size: usize) -> PyResult<()> {
        if size > self.limit.get() {
            return Err(PyValueError::new_err("more threads than maxsize"));
        }
        let queue = self.queue();
        start_counted(py, &queue, queue.resize(size))
    }

    /// Calls that wait for a thread or are being made.
    #[getter]
    fn unfinished(&self) -> usize {
        self.queue().lock().unfinished()
    }

    /// Calls that wait for a thread.
    #[getter]
    fn waiting(&self) -> usize {
        self.queue().lock().waiting()
    }

    /// How many threads there may be. Those that are too many end when they have nothing to do.
    #[getter]
    fn maxsize(&self) -> usize {
        self.limit.get()
    }

    #[setter]
    fn set_maxsize(&self, py: Python<'_>, maxsize: usize) -> PyResult<()> {
        self.limit.set(maxsize);
        let queue = self.queue();
        start_counted(py, &queue, queue.set_limit(maxsize))
    }
}

/// Starts threads that the queue has counted already.
fn start_counted(py: Python<'_>, queue: &Arc<Queue>, count: usize) -> PyResult<()> {
    for started in 0..count {
        if let Err(error) = worker::start(py, queue) {
            for _ in started..count {
                queue.thread_failed();
            }
            return Err(error);
        }
    }
    Ok(())
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        if self.generation.get() == GENERATION.load(Ordering::Relaxed) {
            self.queue.borrow().close();
        }
    }
}
