//! CPython 3.14 and later: the task that runs is a field of the thread state.

use super::super::{ThreadState, layout};
use super::{Object, Owned};
use std::ptr;

/// Whether tasks that run are found by their loops, which have to be alive then.
pub const TASKS_HAVE_LOOPS: bool = false;

/// The task of the running loop that runs: borrowed, null if there is none. Never fails here.
///
/// # Safety
///
/// `ts` is the running thread's.
pub unsafe fn current_task(ts: ThreadState, _running: Object) -> Result<Object, Object> {
    // SAFETY: a field of the running thread's state.
    Ok(unsafe { *ts.at(layout::TS_ASYNCIO_RUNNING_TASK) })
}

/// Takes the task that runs out; null if there is none. Never fails here.
///
/// # Safety
///
/// `ts` is the running thread's.
pub unsafe fn take_task(ts: ThreadState, _running: Object) -> Result<Owned, Object> {
    // SAFETY: a field of the running thread's state, which owns the reference in it.
    Ok(unsafe {
        Owned::from_ptr(ptr::replace(ts.at(layout::TS_ASYNCIO_RUNNING_TASK), ptr::null_mut()))
    })
}

/// Puts the task that runs back. Never fails here.
///
/// # Safety
///
/// `ts` is the running thread's; there is no task at present.
pub unsafe fn put_task(ts: ThreadState, _running: Object, task: Owned) -> Result<(), Object> {
    // SAFETY: as above.
    unsafe { *ts.at(layout::TS_ASYNCIO_RUNNING_TASK) = task.into_ptr() };
    Ok(())
}
