//! What `receive()` and `send()` return.

use super::exchange::Exchange;
use crate::aio::throwing::thrown;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{PyTraverseError, PyVisit};
use std::cell::{Cell, RefCell};

/// What is waited for.
enum Wish {
    /// Nothing: it is done. One that can be awaited again and again.
    Done,
    /// A message is there.
    Message(Cell<Option<Py<PyAny>>>),
    /// The next message.
    Receive(Py<Exchange>),
    /// That what was sent is on its way.
    Flush(Py<Exchange>),
}

/// Something to await: what `receive()` or `send()` of an ASGI application return. (It passes for a
/// coroutine, so a task can be made of it.)
#[pyclass(frozen, name = "AsgiCall", module = "greenloop._core")]
pub struct Call {
    wish: Wish,
    /// The iterator of the future that is waited for.
    waiting: RefCell<Option<Py<PyAny>>>,
    over: Cell<bool>,
}

// SAFETY: used and dropped with the GIL held only.
unsafe impl Send for Call {}
// SAFETY: the cells are touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for Call {}

impl Call {
    fn with(wish: Wish) -> Self {
        Self { wish, waiting: RefCell::new(None), over: Cell::new(false) }
    }

    pub fn done(py: Python<'_>) -> PyResult<Py<Self>> {
        static DONE: PyOnceLock<Py<Call>> = PyOnceLock::new();
        let done = DONE.get_or_try_init(py, || Py::new(py, Self::with(Wish::Done)))?;
        Ok(done.clone_ref(py))
    }

    pub fn message(py: Python<'_>, message: Py<PyAny>) -> PyResult<Py<Self>> {
        Py::new(py, Self::with(Wish::Message(Cell::new(Some(message)))))
    }

    pub fn receive(exchange: &Bound<'_, Exchange>) -> PyResult<Py<Self>> {
        Py::new(exchange.py(), Self::with(Wish::Receive(exchange.clone().unbind())))
    }

    pub fn flush(exchange: &Bound<'_, Exchange>) -> PyResult<Py<Self>> {
        Py::new(exchange.py(), Self::with(Wish::Flush(exchange.clone().unbind())))
    }

    /// The next step: what to wait for, or `None` when there is a result, which is left in `result`.
    fn step(&self, py: Python<'_>, result: &mut Option<Py<PyAny>>) -> PyResult<Option<Py<PyAny>>> {
        match &self.wish {
            Wish::Done => return Ok(None),
            _ if self.over.get() => {
                return Err(PyRuntimeError::new_err("cannot reuse what was awaited already"));
            }
            _ => {}
        }
        let outcome = self.go_on(py, result);
        if !matches!(outcome, Ok(Some(_))) {
            self.over.set(true);
        }
        outcome
    }

    fn go_on(&self, py: Python<'_>, result: &mut Option<Py<PyAny>>) -> PyResult<Option<Py<PyAny>>> {
        loop {
            let waiting = self.waiting.borrow().as_ref().map(|one| one.clone_ref(py));
            if let Some(waiting) = waiting {
                let next = waiting.bind(py).call_method1(intern!(py, "send"), (py.None(),));
                match next {
                    Ok(yielded) => return Ok(Some(yielded.unbind())),
                    Err(error) if error.is_instance_of::<PyStopIteration>(py) => {}
                    Err(error) => return Err(error),
                }
                drop(self.waiting.take());
            }
            let future = match &self.wish {
                Wish::Done => return Ok(None),
                Wish::Message(message) => {
                    *result = message.take();
                    return Ok(None);
                }
                Wish::Receive(exchange) => {
                    let exchange = exchange.bind(py);
                    match Exchange::next_message(exchange)? {
                        Some(message) => {
                            *result = Some(message);
                            return Ok(None);
                        }
                        None => Exchange::tell_of_message(exchange)?,
                    }
                }
                Wish::Flush(exchange) => match Exchange::tell_when_flushed(exchange.bind(py))? {
                    Some(future) => future,
                    None => return Ok(None),
                },
            };
            let iterator = future.call_method0(intern!(py, "__await__"))?;
            self.waiting.replace(Some(iterator.unbind()));
        }
    }
}

#[pymethods]
impl Call {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let mut result = None;
        let yielded = self.step(py, &mut result)?;
        match result {
            Some(result) => Err(PyStopIteration::new_err((result,))),
            None => Ok(yielded),
        }
    }

    fn send(&self, py: Python<'_>, _value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        match self.__next__(py)? {
            Some(yielded) => Ok(yielded),
            None => Err(PyStopIteration::new_err(())),
        }
    }

    #[pyo3(signature = (kind, value = None, traceback = None))]
    fn throw(
        &self,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.close();
        Err(thrown(kind, value, traceback))
    }

    fn close(&self) {
        self.over.set(true);
        drop(self.waiting.take());
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.wish {
            Wish::Receive(exchange) | Wish::Flush(exchange) => visit.call(exchange)?,
            Wish::Done | Wish::Message(_) => {}
        }
        if let Ok(waiting) = self.waiting.try_borrow() {
            visit.call(&*waiting)?;
        }
        Ok(())
    }
}
