//! Child processes.

use super::{Kind, Watcher};
use crate::hub::loop_object::Loop;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// The status of a child that somebody else has waited for, of which nothing is known: as if it
/// had exited with 255.
const UNKNOWN: i32 = 255 << 8;

/// An argument that is true or false in whichever way.
pub struct Truth(pub bool);

impl<'py> FromPyObject<'_, 'py> for Truth {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        object.is_truthy().map(Self)
    }
}

pub struct State {
    pub pid: i32,
    pub trace: bool,
    pub rpid: Cell<i32>,
    pub rstatus: Cell<i32>,
    /// What has happened after that, to be told of one by one.
    more: RefCell<VecDeque<(i32, Option<i32>)>>,
}

impl State {
    fn set(&self, (pid, status): (i32, Option<i32>)) {
        self.rpid.set(pid);
        self.rstatus.set(status.unwrap_or(UNKNOWN));
    }

    /// Notes a change. With `pending` an earlier one has not been told of yet.
    pub fn changed(&self, pending: bool, pid: i32, status: Option<i32>) {
        if pending {
            self.more.borrow_mut().push_back((pid, status));
        } else {
            self.set((pid, status));
        }
    }

    /// Goes on to the next change, to be told of now. False if there is none.
    pub fn next(&self) -> bool {
        let next = self.more.borrow_mut().pop_front();
        next.inspect(|&next| self.set(next)).is_some()
    }

    /// What has not been told of is not told any more.
    pub fn forget(&self) {
        self.more.borrow_mut().clear();
    }
}

/// Calls back when a child process has ended; with `trace`, also when it was stopped or continued.
///
/// The child is waited for then: `os.waitpid` finds it no more. It calls back also for a child that
/// has ended before it was started, and for one that somebody else has waited for meanwhile; the
/// status is that of an exit with 255 then, since it cannot be known.
#[pyclass(frozen, extends = Watcher, name = "child", module = "greenloop._core")]
pub struct Child;

impl Child {
    pub fn make(
        owner: &Bound<'_, Loop>,
        pid: i32,
        trace: bool,
        keep: bool,
    ) -> PyResult<PyClassInitializer<Self>> {
        if !owner.get().event_loop().default.get() {
            return Err(PyTypeError::new_err(
                "child watchers are only available on the default loop",
            ));
        }
        let (rpid, rstatus, more) = (Cell::new(0), Cell::new(0), RefCell::default());
        let state = State { pid, trace, rpid, rstatus, more };
        let watcher = Watcher::new(owner, Kind::Child(state), keep, None);
        Ok(PyClassInitializer::from(watcher).add_subclass(Self))
    }

    fn state<'a>(slf: &'a Bound<'_, Self>) -> PyResult<&'a State> {
        match &slf.cast::<Watcher>()?.get().kind {
            Kind::Child(state) => Ok(state),
            _ => unreachable!("a child watcher"),
        }
    }
}

#[pymethods]
impl Child {
    #[new]
    #[pyo3(signature = (r#loop, pid, trace = Truth(false), r#ref = true))]
    fn py_new(
        r#loop: &Bound<'_, Loop>,
        pid: i32,
        trace: Truth,
        r#ref: bool,
    ) -> PyResult<PyClassInitializer<Self>> {
        Self::make(r#loop, pid, trace.0, r#ref)
    }

    /// The process ID that is watched, 0 for any child.
    #[getter]
    fn pid(slf: &Bound<'_, Self>) -> PyResult<i32> {
        Ok(Self::state(slf)?.pid)
    }

    /// The process ID of the child that has changed its state; 0 before that.
    #[getter]
    fn rpid(slf: &Bound<'_, Self>) -> PyResult<i32> {
        Ok(Self::state(slf)?.rpid.get())
    }

    #[setter]
    fn set_rpid(slf: &Bound<'_, Self>, value: i32) -> PyResult<()> {
        Self::state(slf)?.rpid.set(value);
        Ok(())
    }

    /// The status that os.waitpid would have given (see `os.waitstatus_to_exitcode`); 0 before.
    #[getter]
    fn rstatus(slf: &Bound<'_, Self>) -> PyResult<i32> {
        Ok(Self::state(slf)?.rstatus.get())
    }

    #[setter]
    fn set_rstatus(slf: &Bound<'_, Self>, value: i32) -> PyResult<()> {
        Self::state(slf)?.rstatus.set(value);
        Ok(())
    }
}
