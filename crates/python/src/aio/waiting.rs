//! Greenlets that wait for coroutines: `greenloop.asyncio.wait`.
//!
//! Who waits leaves a call in the loop, and parks. The runner makes the task and has it begin at once
//! (from Python 3.12 on a task can), which is when its first step would come anyway; a coroutine that
//! is done by then has cost the loop that one call. Code that runs in the runner itself, called by a
//! coroutine, has the task begin where it is.
//!
//! Before its turn a coroutine is no task yet that asyncio would know of. So when a run ends, those
//! that have not begun are made tasks, to be cancelled with all the others.

use super::event_loop::AsyncioLoop;
use super::handle::{HandleObject, HandleRef};
use super::{current_task, runner, running_loop};
use crate::hub::HubObject;
use crate::hub::wait::{Reason, Wait, WaitList};
use crate::sync::limited;
use crate::time::Limit;
use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError, PySystemExit, PyTimeoutError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{IntoPyDict, PyDict};
use pyo3::{PyTraverseError, PyVisit};
use std::cell::{Cell, RefCell};
use std::ptr;

/// How far a coroutine has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is to begin when the loop gets to it.
    Queued,
    /// It is in its first step.
    Beginning,
    /// There is a task.
    Begun,
    Done,
}

/// A coroutine or future that a greenlet waits for. It is called by the loop, without arguments for
/// the coroutine to begin, and with the task or future when that is done.
#[pyclass(frozen, name = "_Awaited", module = "greenloop._core")]
pub struct Awaited {
    event_loop: Py<AsyncioLoop>,
    coroutine: RefCell<Option<Py<PyAny>>>,
    context: Py<PyAny>,
    /// Or the future.
    task: RefCell<Option<Py<PyAny>>>,
    /// What making the task has raised.
    error: RefCell<Option<Py<PyAny>>>,
    stage: Cell<Stage>,
    /// It is to be cancelled after its first step.
    cancelled: Cell<bool>,
    /// Nobody waits any more.
    abandoned: Cell<bool>,
    waiter: WaitList,
}

// SAFETY: touched with the GIL held only, and cells are never borrowed while Python code runs.
unsafe impl Send for Awaited {}
// SAFETY: as above.
unsafe impl Sync for Awaited {}

/// The class of tasks, and the keywords that one is made with. The dict is used again, with another
/// loop and context: making one for each task would take a tenth of the time that a wait takes. (A task has
/// taken what it was given by the time its first step may come here again.)
pub struct EagerTasks {
    class: Py<PyAny>,
    keywords: Py<PyDict>,
}

impl EagerTasks {
    /// A task of the running loop, which has done its first step.
    pub fn make<'py>(
        &self,
        event_loop: &Py<AsyncioLoop>,
        coroutine: Bound<'py, PyAny>,
        context: &Py<PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = coroutine.py();
        let keywords = self.keywords.bind(py);
        keywords.set_item(intern!(py, "loop"), event_loop)?;
        keywords.set_item(intern!(py, "context"), context)?;
        let made = self.class.bind(py).call((coroutine,), Some(keywords));
        keywords.set_item(intern!(py, "loop"), py.None())?;
        keywords.set_item(intern!(py, "context"), py.None())?;
        made
    }
}

/// None before Python 3.12.
pub fn eager_tasks(py: Python<'_>) -> PyResult<Option<&EagerTasks>> {
    static EAGER: PyOnceLock<Option<EagerTasks>> = PyOnceLock::new();
    let eager = EAGER.get_or_try_init(py, || {
        if py.version_info() < (3, 12) {
            return Ok(None);
        }
        let keywords = PyDict::new(py);
        keywords.set_item("eager_start", true)?;
        let class = py.import("asyncio")?.getattr("Task")?.unbind();
        Ok::<_, PyErr>(Some(EagerTasks { class, keywords: keywords.unbind() }))
    })?;
    Ok(eager.as_ref())
}

/// wait(awaitable, timeout=None, *, loop=None)
/// --
///
/// Wait, in any greenlet, for a coroutine, future or other awaitable; return its result.
///
/// awaitable: a coroutine is run as a task. It sees the context variables of the caller, who sees
///     what it has changed.
/// timeout: how many seconds to wait at most; None for no limit. When they are over it is
///     cancelled, and once it has ended TimeoutError is raised.
/// loop: the loop to run a coroutine in. By default the running one, else the one that runs in this
///     thread, else one of the hub's own, which is started when it is first needed.
///
/// What is thrown into the greenlet meanwhile (a kill, a Timeout) cancels the awaitable; use
/// `asyncio.shield` where that is not wanted. CancelledError is raised if somebody else cancels it.
/// RuntimeError is raised for a future that could never be done: of a closed loop, or the task that
/// waits itself.
#[pyfunction]
#[pyo3(signature = (awaitable, timeout = None, *, r#loop = None))]
#[pyo3(text_signature = "(awaitable, timeout=None, *, loop=None)")]
pub fn wait<'py>(
    awaitable: Bound<'py, PyAny>,
    timeout: Option<Bound<'py, PyAny>>,
    r#loop: Option<Bound<'py, PyAny>>,
) -> PyResult<Py<PyAny>> {
    let py = awaitable.py();
    // SAFETY: a live object, a type.
    let is_coroutine = unsafe { ffi::PyCoro_CheckExact(awaitable.as_ptr()) != 0 };
    if is_coroutine {
        let running = running_loop(py)?;
        let home = match (r#loop, &running) {
            (Some(given), _) => given,
            (None, Some(running)) => running.clone(),
            (None, None) => home(py)?,
        };
        if let Ok(event_loop) = home.cast::<AsyncioLoop>()
            && event_loop.get()._is_local()
        {
            let here = running.is_some_and(|running| running.is(event_loop));
            return wait_for(event_loop, awaitable, timeout, here);
        }
        return wait_for_any(awaitable, timeout, Some(home));
    }
    if let Some(home) = home_of_future(&awaitable)?
        && let Ok(event_loop) = home.cast::<AsyncioLoop>()
        && event_loop.get()._is_local()
    {
        return wait_for_future(event_loop, awaitable, timeout);
    }
    wait_for_any(awaitable, timeout, r#loop)
}

/// The loop of a future; None for what is no future.
fn home_of_future<'py>(awaitable: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = awaitable.py();
    // As asyncio.isfuture.
    let class = awaitable.getattr(intern!(py, "__class__"))?;
    let mark = intern!(py, "_asyncio_future_blocking");
    if !class.hasattr(mark)? || awaitable.getattr(mark)?.is_none() {
        return Ok(None);
    }
    awaitable.call_method0(intern!(py, "get_loop")).map(Some)
}

/// Waits for the result of a future of a loop of the calling thread, `timeout` seconds at most.
///
/// # Errors
///
/// As `wait_for`. RuntimeError for the task that the caller is in.
fn wait_for_future(
    slf: &Bound<'_, AsyncioLoop>,
    future: Bound<'_, PyAny>,
    timeout: Option<Bound<'_, PyAny>>,
) -> PyResult<Py<PyAny>> {
    let py = slf.py();
    let this = slf.get();
    if future.call_method0(intern!(py, "done"))?.is_truthy()? {
        return future.call_method0(intern!(py, "result")).map(Bound::unbind);
    }
    this.check_open()?;
    if is_task_of_caller(&future)? {
        return Err(PyRuntimeError::new_err("a task cannot wait for itself"));
    }
    let awaited = Bound::new(py, Awaited::new(slf, None, py.None()))?;
    Awaited::follow(&awaited, future)?;
    Awaited::wait(&awaited, timeout)?;
    awaited.get().result(py)
}

/// Whether a future is the task in whose step this is called.
fn is_task_of_caller(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    let Some(running) = running_loop(future.py())? else { return Ok(false) };
    Ok(current_task(&running)?.is_some_and(|task| task.is(future)))
}

fn wait_for_any<'py>(
    awaitable: Bound<'py, PyAny>,
    timeout: Option<Bound<'py, PyAny>>,
    event_loop: Option<Bound<'py, PyAny>>,
) -> PyResult<Py<PyAny>> {
    let py = awaitable.py();
    static OTHERS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let others = OTHERS.get_or_try_init(py, || {
        let module = py.import("greenloop.asyncio._bridges")?;
        module.getattr("wait_for_any").map(Bound::unbind)
    })?;
    others.call1(py, (awaitable, timeout, event_loop))
}

/// The loop for a coroutine that a greenlet waits for in which none runs: see `_hub_loop.current`.
fn home(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let hub = HubObject::get(py)?;
    {
        let loops = hub.asyncio().borrow();
        if let Some(own) = loops.iter().find(|one| one.bind(py).get().serves_waits()) {
            return Ok(own.bind(py).clone().into_any());
        }
    }
    // SAFETY: the hub is alive as long as it is its thread's.
    let object = unsafe { Bound::from_borrowed_ptr(py, hub.as_ptr()) };
    if object.getattr_opt(intern!(py, "_asyncio_loop"))?.is_none()
        && let Some(first) = hub.asyncio().borrow().first()
    {
        return Ok(first.bind(py).clone().into_any());
    }
    py.import("greenloop.asyncio._hub_loop")?.getattr("current")?.call0()
}

/// Runs a coroutine as a task of a loop of the calling thread, and waits for its result, `timeout`
/// seconds at most. `here`: it is the running loop.
///
/// # Errors
///
/// What the coroutine raises. TimeoutError after it was cancelled because the time is over. What is
/// thrown into the greenlet, the coroutine is cancelled then. RuntimeError if the loop is closed.
fn wait_for(
    slf: &Bound<'_, AsyncioLoop>,
    coroutine: Bound<'_, PyAny>,
    timeout: Option<Bound<'_, PyAny>>,
    here: bool,
) -> PyResult<Py<PyAny>> {
    let py = slf.py();
    let this = slf.get();
    this.check_open()?;
    // SAFETY: a new reference or null.
    let context = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent())? };
    let awaited = Awaited::new(slf, Some(coroutine.unbind()), context.clone().unbind());
    let awaited = Bound::new(py, awaited)?;
    let is_plain = this.debug() || this.has_factory.get() || !this.running.get();
    match eager_tasks(py)? {
        Some(eager) if !is_plain => {
            if here && runner::is_in_callback(this) {
                Awaited::begin(&awaited, eager)?;
            } else {
                Awaited::queue(&awaited, slf)?;
            }
        }
        _ => Awaited::make_task(&awaited)?,
    }
    Awaited::wait(&awaited, timeout)?;
    take_over(&context)?;
    awaited.get().result(py)
}

impl Awaited {
    fn new(slf: &Bound<'_, AsyncioLoop>, coroutine: Option<Py<PyAny>>, context: Py<PyAny>) -> Self {
        Self {
            event_loop: slf.clone().unbind(),
            coroutine: RefCell::new(coroutine),
            context,
            task: RefCell::new(None),
            error: RefCell::new(None),
            stage: Cell::new(Stage::Queued),
            cancelled: Cell::new(false),
            abandoned: Cell::new(false),
            waiter: WaitList::new(),
        }
    }

    /// Waits until it is done, `timeout` seconds at most: then it is cancelled.
    ///
    /// # Errors
    ///
    /// What is thrown into the greenlet, the task is cancelled then. TimeoutError if it was cancelled
    /// because the time is over.
    fn wait(slf: &Bound<'_, Self>, timeout: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.stage.get() == Stage::Done {
            return Ok(());
        }
        let event_loop = this.event_loop.get();
        event_loop.change_waits(true);
        let outcome = limited(py, timeout.clone(), |limit| Self::park(slf, limit));
        event_loop.change_waits(false);
        let in_time = outcome.inspect_err(|_| Self::abandon(slf))?;
        if in_time || !this.is_cancelled(py)? {
            return Ok(());
        }
        let seconds = timeout
            .map_or_else(|| Ok(String::new()), |one| one.str().map(|text| text.to_string()))?;
        Err(PyTimeoutError::new_err(format!("not done after {seconds} seconds")))
    }

    /// Has the loop let the coroutine begin.
    fn queue(slf: &Bound<'_, Self>, event_loop: &Bound<'_, AsyncioLoop>) -> PyResult<()> {
        // SAFETY: a loop and a callable. Without a context it is called in the runner's: the task has
        // one of its own.
        let handle = unsafe {
            let (place, callback) = (event_loop.as_ptr(), slf.as_ptr());
            HandleObject::make(place, callback, ptr::null(), 0, ptr::null_mut(), 0)
        };
        if handle.is_null() {
            return Err(PyErr::fetch(slf.py()));
        }
        // SAFETY: made just now.
        AsyncioLoop::push(event_loop, unsafe { HandleRef::from_owned(handle) });
        Ok(())
    }

    /// Makes the task and has it do its first step.
    ///
    /// # Errors
    ///
    /// SystemExit and KeyboardInterrupt, which end the run; whoever waits gets them, too.
    fn begin(slf: &Bound<'_, Self>, eager: &EagerTasks) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Some(coroutine) = this.coroutine.take() else { return Ok(()) };
        this.stage.set(Stage::Beginning);
        match eager.make(&this.event_loop, coroutine.into_bound(py), &this.context) {
            Ok(task) => {
                if task.call_method0(intern!(py, "done"))?.is_truthy()? {
                    this.task.replace(Some(task.unbind()));
                    Self::finish(slf);
                    return Ok(());
                }
                Self::follow(slf, task)?;
                if this.cancelled.get() { this.cancel_task(py) } else { Ok(()) }
            }
            Err(error) => {
                this.error.replace(Some(error.value(py).clone().into_any().unbind()));
                Self::finish(slf);
                let is_final = error.is_instance_of::<PySystemExit>(py)
                    || error.is_instance_of::<PyKeyboardInterrupt>(py);
                if is_final { Err(error) } else { Ok(()) }
            }
        }
    }

    /// Makes a task that begins when the loop gets to it.
    fn make_task(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Some(coroutine) = this.coroutine.take() else { return Ok(()) };
        let context = [(intern!(py, "context"), &this.context)].into_py_dict(py)?;
        let event_loop = this.event_loop.bind(py);
        let task =
            event_loop.call_method(intern!(py, "create_task"), (coroutine,), Some(&context))?;
        Self::follow(slf, task)
    }

    /// Has this told when a task is done.
    fn follow(slf: &Bound<'_, Self>, task: Bound<'_, PyAny>) -> PyResult<()> {
        let this = slf.get();
        this.stage.set(Stage::Begun);
        this.task.replace(Some(task.clone().unbind()));
        task.call_method1(intern!(slf.py(), "add_done_callback"), (slf,)).map(drop)
    }

    fn finish(slf: &Bound<'_, Self>) {
        let this = slf.get();
        this.stage.set(Stage::Done);
        if this.abandoned.get() {
            this.forget(slf);
        } else {
            this.waiter.wake_one();
        }
    }

    /// Waits until it is done; false if the time was over first, and it was cancelled.
    fn park(slf: &Bound<'_, Self>, limit: &Limit<'_>) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        let wait = Wait::begin(py, slf.as_ptr())?;
        let woken = wait.park(Some(&this.waiter), limit.deadline());
        if limit.judge(woken)? == Reason::Notified {
            return Ok(true);
        }
        Self::cancel(slf)?;
        while this.stage.get() != Stage::Done {
            let wait = Wait::begin(py, slf.as_ptr())?;
            wait.park(Some(&this.waiter), None).into_result()?;
        }
        Ok(false)
    }

    fn cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        match this.stage.get() {
            Stage::Queued => {
                Self::make_task(slf)?;
                this.cancel_task(slf.py())
            }
            Stage::Beginning => {
                this.cancelled.set(true);
                Ok(())
            }
            Stage::Begun => this.cancel_task(slf.py()),
            Stage::Done => Ok(()),
        }
    }

    fn get_task<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.task.borrow().as_ref().map(|task| task.bind(py).clone())
    }

    fn cancel_task(&self, py: Python<'_>) -> PyResult<()> {
        match self.get_task(py) {
            Some(task) => task.call_method0(intern!(py, "cancel")).map(drop),
            None => Ok(()),
        }
    }

    fn is_cancelled(&self, py: Python<'_>) -> PyResult<bool> {
        match self.get_task(py) {
            Some(task) => task.call_method0(intern!(py, "cancelled"))?.is_truthy(),
            None => Ok(false),
        }
    }

    /// Cancels it: who waited goes on by an exception.
    #[cold]
    fn abandon(slf: &Bound<'_, Self>) {
        let this = slf.get();
        this.abandoned.set(true);
        if this.stage.get() == Stage::Done {
            this.forget(slf);
        } else if let Err(error) = Self::cancel(slf) {
            error.write_unraisable(slf.py(), Some(slf));
        }
    }

    /// Has nobody told that nobody has asked what became of it.
    #[cold]
    fn forget(&self, slf: &Bound<'_, Self>) {
        let py = slf.py();
        let Some(task) = self.get_task(py) else { return };
        let asked = self.is_cancelled(py).and_then(|cancelled| {
            if cancelled {
                return Ok(());
            }
            task.call_method0(intern!(py, "exception")).map(drop)
        });
        if let Err(error) = asked {
            error.write_unraisable(py, Some(slf));
        }
    }

    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if let Some(error) = self.error.take() {
            return Err(PyErr::from_value(error.into_bound(py)));
        }
        match self.get_task(py) {
            Some(task) => task.call_method0(intern!(py, "result")).map(Bound::unbind),
            None => Ok(py.None()),
        }
    }
}

/// Sets context variables to what they are in another context.
fn take_over(context: &Bound<'_, PyAny>) -> PyResult<()> {
    if context.len()? == 0 {
        return Ok(());
    }
    for variable in context.try_iter()? {
        let variable = variable?;
        let value = context.get_item(&variable)?;
        let mut current = ptr::null_mut();
        // SAFETY: keys of a context are variables; new references. What no variable can be set to
        // in itself stands for one that is not set.
        unsafe {
            let absent = context.as_ptr();
            if ffi::PyContextVar_Get(variable.as_ptr(), absent, &raw mut current) != 0 {
                return Err(PyErr::fetch(context.py()));
            }
            ffi::Py_XDECREF(current);
            if current != value.as_ptr() {
                let token = ffi::PyContextVar_Set(variable.as_ptr(), value.as_ptr());
                drop(Bound::from_owned_ptr_or_err(context.py(), token)?);
            }
        }
    }
    Ok(())
}

/// A run has ended: makes tasks of the coroutines that have not begun.
///
/// # Errors
///
/// What making a task raises.
pub fn make_tasks(slf: &Bound<'_, AsyncioLoop>) -> PyResult<()> {
    let py = slf.py();
    let queued: Vec<_> = slf.get().ready(|ready| {
        ready
            .iter()
            // SAFETY: a live object of the handle's, or null.
            .filter_map(|one| unsafe { Bound::from_borrowed_ptr_or_opt(py, one.callback.get()) })
            .filter_map(|callback| callback.cast_into_exact::<Awaited>().ok())
            .collect()
    });
    queued.iter().try_for_each(Awaited::make_task)
}

#[pymethods]
impl Awaited {
    #[pyo3(signature = (task = None))]
    fn __call__(slf: &Bound<'_, Self>, task: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        if task.is_some() {
            Self::finish(slf);
            return Ok(());
        }
        match eager_tasks(slf.py())? {
            Some(eager) => Self::begin(slf, eager),
            None => Self::make_task(slf),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.context)?;
        for cell in [&self.coroutine, &self.task, &self.error] {
            if let Ok(object) = cell.try_borrow() {
                visit.call(&*object)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        for cell in [&self.coroutine, &self.task, &self.error] {
            drop(cell.take());
        }
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("_wait_for_awaitable", wrap_pyfunction!(wait, module)?)
}
