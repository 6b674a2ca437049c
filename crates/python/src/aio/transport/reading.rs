//! What `read`, `readexactly`, `readuntil` and `readline` of a stream's reader return, to be awaited.
//!
//! What is received while one of them waits is given to it as it is, if that is just what it waits for. It
//! does not go through the reader's buffer then. Nobody is woken before what he waits for has come.

use super::reader::{ReaderState, discard, limit};
use crate::aio::awaitable::{Awaited, Class, Step, forget_last_value};
use crate::aio::futures;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyType};
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_int};
use std::ptr;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Up to so many bytes.
    UpTo(usize),
    /// All up to the end.
    All,
    /// Just so many bytes; fewer than none is an error.
    Exactly(isize),
    /// Bytes up to a separator, and that.
    Until,
    /// The same, whose errors are those of `readline`.
    Line,
}

impl Want {
    fn method(self) -> &'static str {
        match self {
            Self::UpTo(_) | Self::All => "read",
            Self::Exactly(_) => "readexactly",
            Self::Until | Self::Line => "readuntil",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New,
    Waiting,
    Over,
}

/// A call of one of the methods.
pub struct Reading {
    reader: Py<PyAny>,
    state: Py<ReaderState>,
    want: Want,
    /// Of `readuntil`: at least a byte.
    separator: Option<Py<PyBytes>>,
    /// How far the buffer has been searched for it.
    searched: Cell<usize>,
    /// In `readuntil`: at most so many bytes may come before it.
    limit: Cell<usize>,
    stage: Cell<Stage>,
    /// What it waits by.
    future: RefCell<Option<Py<PyAny>>>,
    /// What it was given.
    given: RefCell<Option<Py<PyBytes>>>,
}

static CLASS: Class = Class::new();

impl Reading {
    pub fn new(
        reader: &Bound<'_, PyAny>,
        state: Bound<'_, ReaderState>,
        want: Want,
        separator: Option<&Bound<'_, PyBytes>>,
    ) -> Self {
        Self {
            reader: reader.clone().unbind(),
            state: state.unbind(),
            want,
            separator: separator.map(|separator| separator.clone().unbind()),
            searched: Cell::new(0),
            limit: Cell::new(usize::MAX),
            stage: Cell::new(Stage::New),
            future: RefCell::new(None),
            given: RefCell::new(None),
        }
    }

    /// How many bytes it takes, if it takes any number up to that.
    #[inline]
    pub fn takes_up_to(&self) -> Option<usize> {
        if let Want::UpTo(most) = self.want { Some(most) } else { None }
    }

    /// Whether so many bytes are just what it waits for.
    #[inline]
    pub fn takes(&self, size: usize) -> bool {
        match self.want {
            Want::UpTo(most) => size <= most,
            Want::Exactly(count) => size == count as usize,
            Want::All | Want::Until | Want::Line => false,
        }
    }

    /// Whether it can go on now that the buffer has `size` bytes, `new` the last of them.
    pub fn is_content_with(&self, new: &[u8], size: usize) -> bool {
        match self.want {
            Want::UpTo(_) => true,
            Want::All => false,
            Want::Exactly(count) => size >= count as usize,
            Want::Until | Want::Line => {
                size > self.limit.get() || self.separator_end().is_none_or(|end| new.contains(&end))
            }
        }
    }

    /// The last byte of the separator.
    fn separator_end(&self) -> Option<u8> {
        // SAFETY: called with the GIL held.
        let py = unsafe { Python::assume_attached() };
        self.separator.as_ref().and_then(|separator| separator.as_bytes(py).last().copied())
    }

    /// Gives it bytes that are just what it waits for. It is woken by the caller.
    #[inline]
    pub fn give(&self, data: Bound<'_, PyBytes>) {
        let before = self.given.replace(Some(data.unbind()));
        debug_assert!(before.is_none());
    }

    /// Ends the wait: what it was given.
    #[inline]
    fn wake(&self, py: Python<'_>) -> PyResult<Option<Py<PyBytes>>> {
        let future = self.future.take();
        let given = self.given.take();
        self.leave(py);
        if let Some(future) = future {
            let future = future.into_bound(py);
            if given.is_none() {
                // An error that it has is the reader's, too, and raised again.
                future.call_method0(intern!(py, "result"))?;
            }
            futures::give_back(self.state.bind(py).get().event_loop.bind(py), future);
        }
        Ok(given)
    }

    /// Is not the one who waits any more.
    #[inline]
    fn leave(&self, py: Python<'_>) {
        let state = self.state.bind(py).get();
        if ptr::eq(state.reading.get(), self) {
            state.reading.set(ptr::null());
            let waiter = state.waiter.take();
            drop(waiter);
        }
    }

    /// Before the first step.
    fn begin<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let state = self.state.bind(py).get();
        if matches!(self.want, Want::Exactly(..0)) {
            return Err(PyValueError::new_err("readexactly size can not be less than zero"));
        }
        let exception = state.exception.borrow().as_ref().map(|error| error.clone_ref(py));
        if let Some(exception) = exception {
            return Err(PyErr::from_value(exception.into_bound(py)));
        }
        let nothing = matches!(self.want, Want::UpTo(0) | Want::Exactly(0));
        Ok(nothing.then(|| PyBytes::new(py, b"")))
    }

    /// What the buffer has for it.
    #[inline]
    fn look<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let reader = self.reader.bind(py);
        let state = self.state.bind(py).get();
        let size = state.buffer(py).len();
        let enough = match self.want {
            Want::UpTo(most) if size > 0 => Some(size.min(most)),
            Want::Exactly(count) if size >= count as usize => Some(count as usize),
            Want::UpTo(_) | Want::All if state.eof.get() => Some(size),
            Want::Until | Want::Line => match self.search(py) {
                Ok(found) => found,
                Err(overrun) if self.want == Want::Line => {
                    return Err(self.give_line_up(py, &overrun));
                }
                Err(overrun) => return Err(overrun.into_error(py)),
            },
            _ => None,
        };
        if let Some(count) = enough {
            return state.take(reader, count).map(Some);
        }
        if !state.eof.get() {
            return Ok(None);
        }
        let rest = state.take(reader, size)?;
        match self.want {
            Want::Exactly(count) => Err(incomplete(&rest, Some(count))),
            Want::Line => Ok(Some(rest)),
            _ => Err(incomplete(&rest, None)),
        }
    }

    /// Where the separator ends in the buffer, if it is there.
    fn search(&self, py: Python<'_>) -> Result<Option<usize>, Overrun> {
        let state = self.state.bind(py).get();
        let Some(separator) = &self.separator else { return Ok(None) };
        let separator = separator.as_bytes(py);
        let buffer = state.buffer(py);
        // SAFETY: nothing else runs while they are searched.
        let bytes = unsafe { buffer.as_bytes() };
        let limit = self.limit.get();
        let from = self.searched.get().min(bytes.len());
        if let Some(place) = find(&bytes[from..], separator) {
            let begin = from + place;
            if begin > limit {
                return Err(Overrun { is_found: true, consumed: begin });
            }
            return Ok(Some(begin + separator.len()));
        }
        // The buffer may end with the beginning of a separator.
        let searched = (bytes.len() + 1).saturating_sub(separator.len());
        self.searched.set(searched);
        if searched > limit {
            return Err(Overrun { is_found: false, consumed: searched });
        }
        Ok(None)
    }

    /// A line is too long: it is dropped, or as much as there is of it.
    #[cold]
    fn give_line_up(&self, py: Python<'_>, overrun: &Overrun) -> PyErr {
        match self.drop_line(py, overrun) {
            Ok(()) => PyValueError::new_err(overrun.message()),
            Err(error) => error,
        }
    }

    fn drop_line(&self, py: Python<'_>, overrun: &Overrun) -> PyResult<()> {
        let state = self.state.bind(py).get();
        let buffer = state.buffer(py);
        let size = buffer.len();
        discard(&buffer, if overrun.is_found { overrun.consumed + 1 } else { size })?;
        if state.paused.get() && buffer.len() <= limit(self.reader.bind(py))? {
            state.resume(self.reader.bind(py))?;
        }
        Ok(())
    }

    /// Has the coroutine wait.
    fn wait(&self, py: Python<'_>) -> PyResult<Step> {
        let reader = self.reader.bind(py);
        let state = self.state.bind(py).get();
        if state.waiter.borrow().is_some() {
            return Err(PyRuntimeError::new_err(format!(
                "{}() called while another coroutine is already waiting for incoming data",
                self.want.method()
            )));
        }
        // Nothing would come otherwise, if it waits for more than the limit.
        state.resume(reader)?;
        forget_last_value();
        let future = futures::make(state.event_loop.bind(py))?;
        *state.waiter.borrow_mut() = Some(future.clone().unbind());
        state.reading.set(self);
        *self.future.borrow_mut() = Some(future.clone().unbind());
        self.stage.set(Stage::Waiting);
        Ok(Step::Wait(future.into_ptr()))
    }

    fn advance(&self, py: Python<'_>) -> PyResult<Step> {
        match self.stage.replace(Stage::Over) {
            Stage::Over => {
                return Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine"));
            }
            Stage::Waiting => {
                if let Some(given) = self.wake(py)? {
                    return Ok(Step::End(given.into_ptr()));
                }
            }
            Stage::New => {
                if matches!(self.want, Want::Until | Want::Line) {
                    self.limit.set(limit(self.reader.bind(py))?);
                }
                if let Some(nothing) = self.begin(py)? {
                    return Ok(Step::End(nothing.into_ptr()));
                }
            }
        }
        match self.look(py)? {
            Some(bytes) => Ok(Step::End(bytes.into_ptr())),
            None => self.wait(py),
        }
    }
}

impl Awaited for Reading {
    const NAME: &'static CStr = c"greenloop._core._Reading";
    const DOC: &'static CStr = c"What a method of a stream's reader returns, to be awaited once.";

    fn class() -> &'static Class {
        &CLASS
    }

    #[inline]
    fn step(&self, py: Python<'_>) -> PyResult<Step> {
        self.advance(py)
    }

    fn has_begun(&self) -> bool {
        self.stage.get() != Stage::New
    }

    /// What was received for it is for the next one.
    fn abandon(&self, py: Python<'_>) -> PyResult<()> {
        self.stage.set(Stage::Over);
        let (future, given) = (self.future.take(), self.given.take());
        if future.is_some() {
            self.leave(py);
        }
        drop(future);
        match given {
            Some(data) => self.state.bind(py).get().put_back(data.bind(py)),
            None => Ok(()),
        }
    }

    fn traverse(&self, visit: &mut dyn FnMut(*mut pyo3::ffi::PyObject) -> c_int) -> c_int {
        let objects = [
            self.reader.as_ptr(),
            self.state.as_ptr(),
            self.future.try_borrow().map_or(ptr::null_mut(), |future| {
                future.as_ref().map_or(ptr::null_mut(), Py::as_ptr)
            }),
        ];
        objects.into_iter().map(visit).find(|status| *status != 0).unwrap_or(0)
    }
}

/// There are more bytes before a separator than the limit allows.
struct Overrun {
    is_found: bool,
    consumed: usize,
}

impl Overrun {
    fn message(&self) -> &'static str {
        if self.is_found {
            "Separator is found, but chunk is longer than limit"
        } else {
            "Separator is not found, and chunk exceed the limit"
        }
    }

    #[cold]
    fn into_error(self, py: Python<'_>) -> PyErr {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        CLASS
            .import(py, "asyncio", "LimitOverrunError")
            .and_then(|class| class.call1((self.message(), self.consumed)))
            .map_or_else(|error| error, PyErr::from_value)
    }
}

#[cold]
fn incomplete(rest: &Bound<'_, PyBytes>, expected: Option<isize>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS
        .import(rest.py(), "asyncio", "IncompleteReadError")
        .and_then(|class| class.call1((rest, expected)))
        .map_or_else(|error| error, PyErr::from_value)
}

/// Where a separator begins.
fn find(bytes: &[u8], separator: &[u8]) -> Option<usize> {
    // SAFETY: both are as long as that.
    unsafe {
        let place = libc::memmem(
            bytes.as_ptr().cast(),
            bytes.len(),
            separator.as_ptr().cast(),
            separator.len(),
        );
        if place.is_null() { None } else { Some(place.addr() - bytes.as_ptr().addr()) }
    }
}
