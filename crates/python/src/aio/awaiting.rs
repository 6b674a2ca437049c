//! What a coroutine waits for that waits for a greenlet: `await greenlet`, and
//! `greenloop.asyncio.wrap`.
//!
//! A greenlet that is awaited by a task of a loop that has nothing else to do runs in the middle of the
//! task's step: the runner lets those go first who are ready, as it would after the step. If it has
//! ended before nobody is ready any more the task goes on with its result, and the loop has had nothing
//! to do with it. A task that is being cancelled does not have it run: one that has not begun is to be
//! ended before it begins, as a task would be.
//!
//! Otherwise the task waits for the iterator of the await itself, which is a future of that greenlet.
//! It is none of asyncio's, which would be cancelled at once, and leave the greenlet to others until
//! the task gets its turn: to cancel it is to kill the greenlet, and it is cancelled, if at all, when
//! that has ended.

use super::event_loop::AsyncioLoop;
use super::handle::{HandleObject, HandleRef};
use super::runner;
use crate::greenlet::exceptions::is_greenlet_exit;
use crate::greenlet::thread::Thread;
use crate::task::methods::{start, task_of};
use crate::task::object::{Stage, TaskObject};
use crate::task::types::is_exact;
use pyo3::exceptions::{PyAttributeError, PyRuntimeError, PyStopIteration};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use pyo3::{PyTraverseError, PyVisit};
use std::cell::{Cell, RefCell};

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody has begun to wait, and it is of no loop yet.
    New,
    Pending,
    /// The greenlet has ended, and the loop's thread knows.
    Done,
}

/// What is to be called when it is done, and in which context.
struct DoneCallback {
    function: Py<PyAny>,
    context: Py<PyAny>,
}

/// A future for what a greenlet returns or raises, which is its own iterator: made by `wrap`, and for
/// each `await greenlet`. It is also what the greenlet calls when it has ended. (It has no `send`, or
/// asyncio would take it for a coroutine.)
#[pyclass(frozen, weakref, name = "GreenletFuture", module = "greenloop.asyncio")]
pub struct GreenletFuture {
    greenlet: Py<PyAny>,
    event_loop: RefCell<Option<Py<PyAny>>>,
    callbacks: RefCell<Vec<DoneCallback>>,
    /// What `cancel` was called with.
    message: RefCell<Option<Py<PyAny>>>,
    /// What is raised: set if it is done and not by a result. And the traceback that it came with.
    error: RefCell<Option<Py<PyAny>>>,
    traceback: RefCell<Option<Py<PyAny>>>,
    state: Cell<State>,
    cancelled: Cell<bool>,
    /// What a task looks at to know that it was awaited, not just yielded.
    blocking: Cell<bool>,
}

// SAFETY: touched with the GIL held only, and cells are never borrowed while Python code runs.
unsafe impl Send for GreenletFuture {}
// SAFETY: as above.
unsafe impl Sync for GreenletFuture {}

fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let running = super::running_loop(py)?;
    running.ok_or_else(|| PyRuntimeError::new_err("no running event loop"))
}

/// What a coroutine is to get for an exception of a greenlet.
#[cold]
fn for_coroutines<'py>(error: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    error.py().import("greenloop.asyncio._futures")?.getattr("for_coroutines")?.call1((error,))
}

#[cold]
fn cancelled_error(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "asyncio", "CancelledError")
}

#[cold]
fn not_done(py: Python<'_>, what: &str) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    match CLASS.import(py, "asyncio", "InvalidStateError") {
        Ok(class) => PyErr::from_type(class.clone(), (format!("{what} is not set."),)),
        Err(error) => error,
    }
}

/// Whether the task in whose step this is called is to be cancelled.
fn is_being_cancelled(event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = event_loop.py();
    let Some(task) = super::current_task(event_loop)? else { return Ok(false) };
    match task.call_method0(intern!(py, "cancelling")) {
        Ok(requests) => requests.is_truthy(),
        // Classes of tasks that are not derived from asyncio's need not have it.
        Err(error) if error.is_instance_of::<PyAttributeError>(py) => Ok(false),
        Err(error) => Err(error),
    }
}

/// wrap(greenlet, *, loop=None)
/// --
///
/// Return a future for what a Greenlet returns or raises; `await greenlet` awaits one.
///
/// greenlet: a Greenlet; it is started if it has not been. It may belong to another thread.
/// loop: the loop that the future belongs to; the running one by default.
///
/// The future is cancelled if the greenlet is killed, and cancelling it kills the greenlet. A
/// `greenloop.Timeout` that the greenlet raises becomes a TimeoutError. Raises TypeError for other
/// objects, RuntimeError if no loop runs and none is given.
#[pyfunction]
#[pyo3(signature = (greenlet, *, r#loop = None))]
#[pyo3(text_signature = "(greenlet, *, loop=None)")]
pub fn wrap<'py>(
    greenlet: Bound<'py, PyAny>,
    r#loop: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, GreenletFuture>> {
    let py = greenlet.py();
    let task = task_of(&greenlet)?;
    let event_loop = r#loop.map_or_else(|| running_loop(py), Ok)?;
    let future = Bound::new(py, GreenletFuture::new(greenlet.clone().unbind()))?;
    let this = future.get();
    this.event_loop.replace(Some(event_loop.unbind()));
    this.state.set(State::Pending);
    if task.is_ready() {
        GreenletFuture::settle(&future)?;
        return Ok(future);
    }
    task.links.add(future.clone().into_any())?;
    start_if_new(&greenlet, task)?;
    Ok(future)
}

fn start_if_new(greenlet: &Bound<'_, PyAny>, task: &TaskObject) -> PyResult<()> {
    if task.stage.get() != Stage::Created {
        Ok(())
    } else if is_exact(greenlet.as_ptr()) {
        start(greenlet)
    } else {
        greenlet.call_method0(intern!(greenlet.py(), "start")).map(drop)
    }
}

impl GreenletFuture {
    fn new(greenlet: Py<PyAny>) -> Self {
        Self {
            greenlet,
            event_loop: RefCell::new(None),
            callbacks: RefCell::new(Vec::new()),
            message: RefCell::new(None),
            error: RefCell::new(None),
            traceback: RefCell::new(None),
            state: Cell::new(State::New),
            cancelled: Cell::new(false),
            blocking: Cell::new(false),
        }
    }

    /// What `await greenlet` iterates.
    pub fn of(greenlet: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
        let py = greenlet.py();
        Ok(Bound::new(py, Self::new(greenlet.unbind()))?.into_any())
    }

    /// Whether a function that is linked to a greenlet is one of these.
    pub fn is_one(function: &Bound<'_, PyAny>) -> bool {
        function.is_exact_instance_of::<Self>()
    }

    fn event_loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.event_loop.borrow().as_ref().map(|event_loop| event_loop.bind(py).clone())
    }

    fn is_done(&self) -> bool {
        self.state.get() == State::Done
    }

    /// The next step of an await: itself, to wait for, or the result as the StopIteration that it is
    /// raised as.
    fn step(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let this = slf.get();
        match this.state.get() {
            State::New => Self::begin(slf)?,
            State::Pending => {
                // Others that wait for it are told first, as they came first.
                if this.callbacks.borrow().is_empty()
                    && let Some(event_loop) = this.event_loop(py)
                {
                    this.run_here(&event_loop)?;
                }
            }
            State::Done => {}
        }
        if this.state.get() == State::Pending {
            this.blocking.set(true);
            return Ok(slf.clone().into_any().unbind());
        }
        let value = this.outcome(py)?;
        Err(PyStopIteration::new_err((value,)))
    }

    /// Starts the greenlet, and lets it run if that can be here.
    fn begin(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let greenlet = this.greenlet.bind(py);
        let task = task_of(greenlet)?;
        if !task.is_ready() {
            let event_loop = running_loop(py)?;
            start_if_new(greenlet, task)?;
            this.run_here(&event_loop)?;
            if !task.is_ready() {
                this.event_loop.replace(Some(event_loop.unbind()));
                this.state.set(State::Pending);
                return task.links.add(slf.clone().into_any());
            }
        }
        Self::settle(slf)
    }

    /// Lets the greenlet run in the middle of the running task's step, as long as the runner could do
    /// so as well.
    fn run_here(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let task = task_of(self.greenlet.bind(event_loop.py()))?;
        let Ok(event_loop) = event_loop.cast::<AsyncioLoop>() else { return Ok(()) };
        while is_of_this_thread(task)
            && !task.is_ready()
            && runner::can_let_others_run(event_loop.get())
            && !is_being_cancelled(event_loop)?
            && runner::let_others_run(event_loop)?
        {}
        Ok(())
    }

    /// The greenlet has ended: takes what has become of it, and has it told. In the loop's thread.
    fn settle(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let task = task_of(this.greenlet.bind(py))?;
        let (value, error) = (task.value.get(), task.error.get());
        // SAFETY: objects that the task owns, or null.
        let error = unsafe {
            if !value.is_null() && is_greenlet_exit(value) {
                this.cancelled.set(true);
                None
            } else {
                Bound::from_borrowed_ptr_or_opt(py, error)
            }
        };
        if let Some(error) = error {
            this.cancelled.set(error.is_instance(cancelled_error(py)?)?);
            let error = for_coroutines(error)?;
            let traceback = error.getattr(intern!(py, "__traceback__"))?;
            this.traceback.replace(Some(traceback.unbind()));
            this.error.replace(Some(error.unbind()));
        }
        this.state.set(State::Done);
        let callbacks = this.callbacks.take();
        if callbacks.is_empty() {
            return Ok(());
        }
        let Some(event_loop) = this.event_loop(py) else { return Ok(()) };
        if is_closed(&event_loop)? {
            return Ok(());
        }
        callbacks.into_iter().try_for_each(|callback| callback.schedule(slf, &event_loop))
    }

    /// What the greenlet has returned, or what is to be raised.
    fn outcome(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let copy = |cell: &RefCell<Option<Py<PyAny>>>| {
            cell.borrow().as_ref().map(|object| object.bind(py).clone())
        };
        if let Some(error) = copy(&self.error) {
            // Whoever asks gets it as it came, not with the lines of those who have asked before.
            error.setattr(intern!(py, "__traceback__"), copy(&self.traceback))?;
            return Err(PyErr::from_value(error));
        }
        if self.cancelled.get() {
            let class = cancelled_error(py)?.clone();
            return Err(match copy(&self.message) {
                Some(message) => PyErr::from_type(class, (message.unbind(),)),
                None => PyErr::from_type(class, ()),
            });
        }
        let value = task_of(self.greenlet.bind(py))?.value.get();
        // SAFETY: an object that the task owns, or null.
        let value = unsafe { Bound::from_borrowed_ptr_or_opt(py, value) };
        Ok(value.map_or_else(|| py.None(), Bound::unbind))
    }
}

impl DoneCallback {
    /// Has the loop call it.
    fn schedule(
        self,
        future: &Bound<'_, GreenletFuture>,
        event_loop: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = future.py();
        if let Ok(event_loop) = event_loop.cast::<AsyncioLoop>()
            && !event_loop.get().debug()
        {
            let argument = future.as_ptr();
            // SAFETY: a loop, a function with its argument, and a context.
            let handle = unsafe {
                let (function, context) = (self.function.as_ptr(), self.context.into_ptr());
                HandleObject::make(
                    event_loop.as_ptr(),
                    function,
                    &raw const argument,
                    1,
                    context,
                    0,
                )
            };
            if handle.is_null() {
                return Err(PyErr::fetch(py));
            }
            // SAFETY: made just now.
            AsyncioLoop::push(event_loop, unsafe { HandleRef::from_owned(handle) });
            return Ok(());
        }
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "context"), self.context)?;
        let call_soon = intern!(py, "call_soon");
        event_loop.call_method(call_soon, (self.function, future), Some(&keywords)).map(drop)
    }
}

fn is_closed(event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
    match event_loop.cast::<AsyncioLoop>() {
        Ok(event_loop) => Ok(event_loop.get().check_open().is_err()),
        Err(_) => event_loop.call_method0(intern!(event_loop.py(), "is_closed"))?.is_truthy(),
    }
}

/// Whether a greenlet runs in the calling thread.
fn is_of_this_thread(task: &TaskObject) -> bool {
    // SAFETY: null or the record of a thread.
    unsafe { task.base.thread.get().as_ref() }.is_some_and(Thread::is_calling)
}

#[pymethods]
impl GreenletFuture {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::step(slf)
    }

    /// The greenlet.
    #[getter]
    fn greenlet(&self, py: Python<'_>) -> Py<PyAny> {
        self.greenlet.clone_ref(py)
    }

    #[getter]
    fn _asyncio_future_blocking(&self) -> Option<bool> {
        // Before it is awaited an iterator is no future.
        (self.state.get() != State::New).then(|| self.blocking.get())
    }

    #[setter(_asyncio_future_blocking)]
    fn set_blocking(&self, value: bool) {
        self.blocking.set(value);
    }

    /// What `isinstance` looks at.
    #[getter(__class__)]
    fn standard_class<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyType>> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        CLASS.import(py, "asyncio", "Future").cloned()
    }

    /// What `asyncio.capture_call_graph` asks futures for: who awaits it, which is not kept.
    #[getter]
    fn _asyncio_awaited_by(&self) -> Option<Py<PyAny>> {
        None
    }

    /// The loop that it belongs to.
    fn get_loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.event_loop(py)
            .ok_or_else(|| PyRuntimeError::new_err("Future object is not initialized."))
    }

    /// Kills the greenlet. False if it has ended already. As a task it is cancelled once that has
    /// ended, and not at all if the greenlet does not let itself be killed.
    ///
    /// msg: what the CancelledError is to say.
    #[pyo3(signature = (msg = None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<Bound<'_, PyAny>>) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        let greenlet = this.greenlet.bind(py);
        let task = task_of(greenlet)?;
        if this.state.get() == State::Pending && task.is_ready() {
            // Nobody has told yet. A task is cancelled by what it awaits, if that says that it will
            // be, and would go on as if nothing had been said.
            Self::settle(slf)?;
        }
        if this.state.get() != State::Pending {
            return Ok(false);
        }
        let before = this.message.replace(msg.map(Bound::unbind));
        drop(before);
        let block = PyDict::new(py);
        block.set_item(intern!(py, "block"), false)?;
        greenlet.call_method(intern!(py, "kill"), (), Some(&block))?;
        Ok(true)
    }

    /// Whether it was cancelled, or the greenlet killed.
    fn cancelled(&self) -> bool {
        self.is_done() && self.cancelled.get()
    }

    /// Whether the greenlet has ended.
    fn done(&self) -> bool {
        self.is_done()
    }

    /// What the greenlet has returned; raises what it has raised, CancelledError if it was killed,
    /// InvalidStateError if it has not ended.
    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if self.is_done() { self.outcome(py) } else { Err(not_done(py, "Result")) }
    }

    /// What the greenlet has raised, None if it has returned; raises CancelledError if it was killed,
    /// InvalidStateError if it has not ended.
    fn exception(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if !self.is_done() {
            return Err(not_done(py, "Exception"));
        }
        if self.cancelled.get() {
            return self.outcome(py).map(|_| None);
        }
        Ok(self.error.borrow().as_ref().map(|error| error.clone_ref(py)))
    }

    /// Has the loop call `fn(future)` when it is done.
    ///
    /// context: the context variables of the call; a copy of the current ones by default.
    #[pyo3(signature = (r#fn, /, *, context = None))]
    fn add_done_callback(
        slf: &Bound<'_, Self>,
        r#fn: Bound<'_, PyAny>,
        context: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let context = match context {
            Some(context) => context,
            // SAFETY: a new reference or null.
            None => unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent())? },
        };
        let callback = DoneCallback { function: r#fn.unbind(), context: context.unbind() };
        if this.is_done() {
            return callback.schedule(slf, &this.get_loop(py)?);
        }
        this.callbacks.borrow_mut().push(callback);
        Ok(())
    }

    /// Takes all callbacks out that equal `fn`; returns how many there were.
    #[pyo3(signature = (r#fn, /))]
    fn remove_done_callback(&self, r#fn: &Bound<'_, PyAny>) -> PyResult<usize> {
        let py = r#fn.py();
        // Comparing runs Python code: look at copies.
        let functions: Vec<_> =
            self.callbacks.borrow().iter().map(|one| one.function.clone_ref(py)).collect();
        let mut removed = Vec::new();
        for function in functions {
            if !function.bind(py).eq(r#fn)? {
                continue;
            }
            let mut callbacks = self.callbacks.borrow_mut();
            if let Some(index) = callbacks.iter().position(|one| one.function.is(&function)) {
                removed.push(callbacks.remove(index));
            }
        }
        Ok(removed.len())
    }

    /// Raises RuntimeError: the result is the greenlet's.
    #[pyo3(signature = (result, /))]
    #[expect(unused_variables, reason = "an argument that asyncio's futures have")]
    fn set_result(&self, result: Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyRuntimeError::new_err("GreenletFuture does not support set_result operation"))
    }

    /// Raises RuntimeError: the exception is the greenlet's.
    #[pyo3(signature = (exception, /))]
    #[expect(unused_variables, reason = "an argument that asyncio's futures have")]
    fn set_exception(&self, exception: Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyRuntimeError::new_err("GreenletFuture does not support set_exception operation"))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let state = match self.state.get() {
            State::New => "new",
            State::Pending => "pending",
            _ if self.cancelled.get() => "cancelled",
            _ => "finished",
        };
        Ok(format!("<GreenletFuture {state} {}>", self.greenlet.bind(py).repr()?))
    }

    /// The greenlet has ended. Called in its thread.
    fn __call__(slf: &Bound<'_, Self>, _greenlet: Bound<'_, PyAny>) -> PyResult<()> {
        Self::greenlet_ended(slf)
    }

    /// Takes what has become of the greenlet.
    fn _settle(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().settle_once(slf)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.greenlet)?;
        for cell in [&self.event_loop, &self.message, &self.error, &self.traceback] {
            if let Ok(object) = cell.try_borrow() {
                visit.call(&*object)?;
            }
        }
        if let Ok(callbacks) = self.callbacks.try_borrow() {
            for callback in callbacks.iter() {
                visit.call(&callback.function)?;
                visit.call(&callback.context)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        for cell in [&self.event_loop, &self.message, &self.error, &self.traceback] {
            drop(cell.take());
        }
        drop(self.callbacks.take());
    }
}

impl GreenletFuture {
    /// The greenlet has ended. Called in its thread.
    pub fn greenlet_ended(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Some(event_loop) = this.event_loop(py) else { return Ok(()) };
        if event_loop.cast::<AsyncioLoop>().is_ok_and(|one| one.get()._is_local()) {
            return this.settle_once(slf);
        }
        if is_closed(&event_loop)? {
            return Ok(());
        }
        let settle = slf.getattr(intern!(py, "_settle"))?;
        event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (settle,)).map(drop)
    }

    fn settle_once(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        if self.state.get() == State::Pending { Self::settle(slf) } else { Ok(()) }
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<GreenletFuture>()?;
    module.add("_wrap_greenlet", wrap_pyfunction!(wrap, module)?)
}
