//! Whether a thread's greenlets get on, as another thread sees it.
//!
//! The hub counts the greenlets that it lets run, directly or itself, and its rounds: it needs the
//! number in order to know when to look at the clock. A thread that watches compares it from time
//! to time, without the GIL: as long as all is well the watched thread is not disturbed. Switches
//! that greenlets make among themselves do not count: the hub waits for its turn meanwhile.

use super::methods::is_hub;
use crate::greenlet::object::PyGreenlet;
use crate::greenlet::thread::Thread;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Threads that only watch: they have a thread state but will not wake anybody.
static WATCHING: AtomicUsize = AtomicUsize::new(0);

pub fn watching_threads() -> usize {
    WATCHING.load(Ordering::Relaxed)
}

/// What is asked of the thread that watches.
#[derive(Default)]
struct Orders {
    stop: bool,
    wake: bool,
}

/// _SwitchWatch(hub)
/// --
///
/// Sees whether the greenlets of a hub's thread get on.
#[pyclass(frozen, name = "_SwitchWatch", module = "greenloop._core")]
pub struct SwitchWatch {
    thread: Arc<Thread>,
    /// What the number was when it was last looked at.
    seen: AtomicU64,
    /// As long as it is this, nothing counts as blocking.
    excused: AtomicU64,
    orders: Mutex<Orders>,
    changed: Condvar,
}

/// No number of switches gets that far.
const NEVER: u64 = u64::MAX;

impl SwitchWatch {
    /// Whether the hub has done nothing since this was last asked, and does not wait.
    fn stands_still(&self) -> bool {
        let now = self.thread.beats();
        self.seen.swap(now, Ordering::Relaxed) == now
            && self.excused.load(Ordering::Relaxed) != now
            && !self.thread.is_idle()
    }

    fn sleep_until_still(&self, seconds: f64, patience: f64) -> bool {
        let duration = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or(LONG);
        let begin = Instant::now();
        let end = begin + duration(seconds).min(LONG);
        let patience = duration(patience).min(LONG);
        let mut look = (!patience.is_zero()).then(|| begin + patience);
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if orders.stop || std::mem::take(&mut orders.wake) {
                return false;
            }
            let now = Instant::now();
            if look.is_some_and(|look| now >= look) {
                if self.stands_still() {
                    return true;
                }
                look = Some(now + patience);
            }
            if now >= end {
                return false;
            }
            let until = look.map_or(end, |look| look.min(end));
            orders = self
                .changed
                .wait_timeout(orders, until.saturating_duration_since(now))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.orders.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }
}

const LONG: Duration = Duration::from_secs(86_400);

#[pymethods]
impl SwitchWatch {
    #[new]
    fn new(hub: Bound<'_, PyAny>) -> PyResult<Self> {
        if !is_hub(hub.as_ptr()) {
            return Err(PyTypeError::new_err("expected a Hub"));
        }
        // SAFETY: a hub has a thread, whose record lives in an Arc that the hub has a count of.
        let thread = unsafe {
            let thread = (*hub.as_ptr().cast::<PyGreenlet>()).thread.get();
            Arc::increment_strong_count(thread);
            Arc::from_raw(thread)
        };
        let now = thread.beats();
        Ok(Self {
            thread,
            seen: AtomicU64::new(now),
            // Whatever runs at present was not switched to under watch.
            excused: AtomicU64::new(now),
            orders: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// blocking($self, /)
    /// --
    ///
    /// The greenlet that runs, if the hub has done nothing since the last call and does not wait
    /// for events; else None.
    fn blocking<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        if !self.stands_still() || self.thread.has_ended() {
            return None;
        }
        // SAFETY: the record owns the running greenlet; the GIL is held.
        Some(unsafe { Bound::from_borrowed_ptr(py, self.thread.current().as_ptr()) })
    }

    /// ignore_current_greenlet_blocking($self, /)
    /// --
    ///
    /// Until the hub does something nothing counts as blocking.
    fn ignore_current_greenlet_blocking(&self) {
        self.excused.store(self.thread.beats(), Ordering::Relaxed);
    }

    /// monitor_current_greenlet_blocking($self, /)
    /// --
    ///
    /// Takes ignore_current_greenlet_blocking back.
    fn monitor_current_greenlet_blocking(&self) {
        self.excused.store(NEVER, Ordering::Relaxed);
    }

    /// sleep($self, seconds, patience, /)
    /// --
    ///
    /// Sleeps for `seconds`, or until `wake` or `stop` is called, and returns False; or until
    /// the hub did nothing for about `patience` seconds (0 for not to look), and returns True.
    #[pyo3(signature = (seconds, patience, /))]
    fn sleep(&self, py: Python<'_>, seconds: f64, patience: f64) -> bool {
        py.detach(|| self.sleep_until_still(seconds, patience))
    }

    /// wake($self, /)
    /// --
    ///
    /// Ends the running or the next `sleep` early.
    fn wake(&self) {
        self.order(|orders| orders.wake = true);
    }

    /// stop($self, /)
    /// --
    ///
    /// Ends the running and all further `sleep` at once.
    fn stop(&self) {
        self.order(|orders| orders.stop = true);
    }
}

/// _count_watching_thread(change)
/// --
///
/// Adds to the number of threads that only watch: a hub does not wait for these.
#[pyfunction]
fn _count_watching_thread(change: isize) {
    WATCHING.fetch_add(change as usize, Ordering::Relaxed);
}

/// Runs in a forked child, where the threads do not exist.
#[pyfunction]
fn _forget_watching_threads() {
    WATCHING.store(0, Ordering::Relaxed);
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add_class::<SwitchWatch>()?;
    module.add_function(wrap_pyfunction!(_count_watching_thread, module)?)?;
    let options = pyo3::types::PyDict::new(py);
    let hook = wrap_pyfunction!(_forget_watching_threads, module)?;
    options.set_item("after_in_child", hook)?;
    py.import("os")?.call_method("register_at_fork", (), Some(&options)).map(drop)
}
