//! The threads of a pool.
//!
//! They are started by CPython's own function, which makes their thread states and lets the
//! interpreter end without them (see `forced_unwind`).

use super::IDLE;
use super::job::Job;
use super::queue::{Next, Queue};
use crate::greenlet::methods::MethodTable;
use crate::pystate;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::ffi::CStr;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

type Object = *mut ffi::PyObject;

/// Takes away functions that a call has set for the thread: they are not meant for others.
///
/// # Safety
///
/// The GIL is held, no exception is set.
pub unsafe fn stop_tracing() {
    let (profiled, traced) = pystate::is_traced();
    // SAFETY: as the caller guarantees; without a function, the one that is set is taken away.
    unsafe {
        if profiled {
            ffi::PyEval_SetProfile(None, ptr::null_mut());
        }
        if traced {
            ffi::PyEval_SetTrace(None, ptr::null_mut());
        }
    }
}

const CAPSULE_NAME: &CStr = c"greenloop.worker";

/// `_thread.start_new_thread`, whatever is patched later.
static START: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

pub fn prepare(py: Python<'_>) -> PyResult<()> {
    START.get_or_try_init(py, || {
        py.import("_thread")?.getattr("start_new_thread").map(Bound::unbind)
    })?;
    Ok(())
}

static METHOD: MethodTable<1> = MethodTable::new([ffi::PyMethodDef {
    ml_name: c"work".as_ptr(),
    ml_meth: ffi::PyMethodDefPointer { PyCFunction: work },
    ml_flags: ffi::METH_NOARGS,
    ml_doc: ptr::null(),
}]);

/// Starts a thread that works on a queue.
pub fn start(py: Python<'_>, queue: &Arc<Queue>) -> PyResult<()> {
    let queue = Arc::into_raw(Arc::clone(queue));
    // SAFETY: the capsule borrows the count, which `work` takes over once it runs.
    let started = unsafe {
        Bound::from_owned_ptr_or_err(
            py,
            ffi::PyCapsule_New(queue.cast_mut().cast(), CAPSULE_NAME.as_ptr(), None),
        )
        .and_then(|capsule| {
            let method = (&raw const METHOD).cast::<ffi::PyMethodDef>().cast_mut();
            let function = ffi::PyCFunction_NewEx(method, capsule.as_ptr(), ptr::null_mut());
            Bound::from_owned_ptr_or_err(py, function)
        })
        .and_then(|function| {
            let start = START.get(py).expect("set when the module was made");
            // It wakes nobody unless it gets a job: it may find that others have been faster.
            IDLE.fetch_add(1, Ordering::Relaxed);
            start.bind(py).call1((function, ())).inspect_err(|_| {
                IDLE.fetch_sub(1, Ordering::Relaxed);
            })
        })
    };
    match started {
        Ok(_) => Ok(()),
        Err(error) => {
            // SAFETY: nobody has taken the count over.
            drop(unsafe { Arc::from_raw(queue) });
            Err(error)
        }
    }
}

unsafe extern "C" fn work(capsule: Object, _: Object) -> Object {
    // SAFETY: the capsule of `start`, whose count is taken over. The GIL is held wherever Python
    // objects are touched.
    unsafe {
        let queue: *const Queue =
            ffi::PyCapsule_GetPointer(capsule, CAPSULE_NAME.as_ptr()).cast_const().cast();
        // `start` has counted it.
        let mut counted_idle = true;
        loop {
            match (*queue).next() {
                Next::Run(job) => {
                    if counted_idle {
                        IDLE.fetch_sub(1, Ordering::Relaxed);
                        counted_idle = false;
                    }
                    Job::run(job, queue);
                }
                Next::Wait => {
                    // Before the GIL is given up: whoever has it then sees an idle thread. Who
                    // promises a job to it takes the count back.
                    if !counted_idle {
                        IDLE.fetch_add(1, Ordering::Relaxed);
                        counted_idle = true;
                    }
                    let state = ffi::PyEval_SaveThread();
                    let job = (*queue).wait();
                    ffi::PyEval_RestoreThread(state);
                    if job.is_null() {
                        break;
                    }
                    counted_idle = false;
                    Job::run(job, queue);
                }
                Next::End => break,
            }
        }
        if counted_idle {
            IDLE.fetch_sub(1, Ordering::Relaxed);
        }
        drop(Arc::from_raw(queue));
        ffi::Py_INCREF(ffi::Py_None());
        ffi::Py_None()
    }
}
