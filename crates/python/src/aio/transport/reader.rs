//! What a stream's reader has received and not given away yet.
//!
//! asyncio keeps that in attributes of `StreamReader`. Readers that we have adopted keep it here, under one
//! attribute (`_state`), and those of asyncio's names read and set what is here: so methods of the
//! standard class, which some of the reader's are, work as ever, and ours need not look up an
//! attribute for each thing that they want to know.

use super::reading::Reading;
use crate::aio::event_loop::AsyncioLoop;
use crate::aio::futures;
use crate::greenlet::attributes::{GetSetTable, attribute};
use pyo3::exceptions::{PyAssertionError, PyNotImplementedError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyType};
use pyo3::{PyTraverseError, PyVisit};
use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::ptr;

type Object = *mut ffi::PyObject;

/// The state of a reader: in its attribute `_state`.
#[pyclass(frozen, name = "_ReaderState", module = "greenloop._core")]
pub struct ReaderState {
    pub(super) event_loop: Py<AsyncioLoop>,
    buffer: RefCell<Py<PyByteArray>>,
    /// Nothing comes after what is in the buffer.
    pub(super) eof: Cell<bool>,
    /// The transport was told not to receive any more.
    pub(super) paused: Cell<bool>,
    pub(super) exception: RefCell<Option<Py<PyAny>>>,
    /// The future that is completed when something has come: of `reading`, or of a method of the
    /// standard class.
    pub(super) waiter: RefCell<Option<Py<PyAny>>>,
    /// Who waits by `waiter`; null if it is not one of ours. It is taken out before it is freed.
    pub(super) reading: Cell<*const Reading>,
}

// SAFETY: touched with the GIL held only, and cells are never borrowed while Python code runs.
unsafe impl Send for ReaderState {}
// SAFETY: as above.
unsafe impl Sync for ReaderState {}

/// The state of a reader that was adopted.
#[inline]
pub fn state_of<'py>(reader: &Bound<'py, PyAny>) -> PyResult<Bound<'py, ReaderState>> {
    let py = reader.py();
    Ok(reader.getattr(intern!(py, "_state"))?.cast_into::<ReaderState>()?)
}

impl ReaderState {
    #[inline]
    pub(super) fn buffer<'py>(&self, py: Python<'py>) -> Bound<'py, PyByteArray> {
        self.buffer.borrow().bind(py).clone()
    }

    /// Whether nothing is left of what was received.
    #[inline]
    pub(super) fn is_empty(&self, py: Python<'_>) -> bool {
        self.buffer.borrow().bind(py).len() == 0
    }

    /// How many bytes `reading` waits for, if it takes what comes as it is, however little.
    #[inline]
    pub(super) fn asked_for(&self, py: Python<'_>) -> Option<usize> {
        let reading = self.reading.get();
        if reading.is_null() || !self.is_empty(py) {
            return None;
        }
        // SAFETY: see the field.
        unsafe { &*reading }.takes_up_to()
    }

    /// Gives bytes to who waits for them, as they are. Gives them back if they are to be put into the
    /// buffer: nobody waits, or for more, or for less.
    #[inline]
    pub(super) fn hand_over<'py>(
        &self,
        data: Bound<'py, PyBytes>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let py = data.py();
        // SAFETY: see the field.
        let Some(reading) = (unsafe { self.reading.get().as_ref() }) else {
            return Ok(Some(data));
        };
        if !self.is_empty(py) || !reading.takes(data.as_bytes().len()) {
            return Ok(Some(data));
        }
        let Some(waiter) = self.waiter.take() else { return Ok(Some(data)) };
        self.reading.set(ptr::null());
        if !futures::complete(waiter.bind(py))? {
            return Ok(Some(data));
        }
        reading.give(data);
        Ok(None)
    }

    /// Puts bytes into the buffer, and has who waits for them go on.
    #[inline]
    pub(super) fn feed(
        &self,
        reader: &Bound<'_, PyAny>,
        data: &Bound<'_, PyAny>,
        bytes: &[u8],
    ) -> PyResult<()> {
        let py = reader.py();
        if self.eof.get() {
            return Err(PyAssertionError::new_err("feed_data after feed_eof"));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: see the field.
        let reading = unsafe { self.reading.get().as_ref() };
        let buffer = self.buffer(py);
        if let Ok(data) = data.cast_exact::<PyBytes>()
            && reading.is_some()
            && self.hand_over(data.clone())?.is_none()
        {
            return Ok(());
        }
        extend(&buffer, bytes)?;
        if let Some(reading) = reading
            && ptr::eq(self.reading.get(), reading)
        {
            if !reading.is_content_with(bytes, buffer.len()) {
                // It will have more: what is received for it is not too much.
                return Ok(());
            }
            self.wake(py)?;
            return Ok(());
        }
        self.wake(py)?;
        self.pause(reader, buffer.len())
    }

    /// Has who waits go on.
    fn wake(&self, py: Python<'_>) -> PyResult<()> {
        let waiter = self.waiter.take();
        self.reading.set(ptr::null());
        if let Some(waiter) = waiter {
            futures::complete(waiter.bind(py))?;
        }
        Ok(())
    }

    /// Has the transport receive no more, if there is much that nobody has read.
    fn pause(&self, reader: &Bound<'_, PyAny>, size: usize) -> PyResult<()> {
        let py = reader.py();
        if self.paused.get() || size <= limit(reader)?.saturating_mul(2) {
            return Ok(());
        }
        let transport = reader.getattr(intern!(py, "_transport"))?;
        if transport.is_none() {
            return Ok(());
        }
        match transport.call_method0(intern!(py, "pause_reading")) {
            Ok(_) => {
                self.paused.set(true);
                Ok(())
            }
            // It cannot: everything that comes is kept, and it is not asked again.
            Err(error) if error.is_instance_of::<PyNotImplementedError>(py) => {
                reader.setattr(intern!(py, "_transport"), py.None())
            }
            Err(error) => Err(error),
        }
    }

    /// Has the transport receive again, if it was told not to.
    #[inline]
    pub(super) fn resume(&self, reader: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.paused.get() { self.resume_now(reader) } else { Ok(()) }
    }

    #[cold]
    fn resume_now(&self, reader: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = reader.py();
        self.paused.set(false);
        reader
            .getattr(intern!(py, "_transport"))?
            .call_method0(intern!(py, "resume_reading"))
            .map(drop)
    }

    /// Takes the first `count` bytes out of the buffer, which has as many.
    #[inline]
    pub(super) fn take<'py>(
        &self,
        reader: &Bound<'py, PyAny>,
        count: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let py = reader.py();
        let buffer = self.buffer(py);
        // SAFETY: nothing else runs while they are copied.
        let bytes = PyBytes::new(py, unsafe { &buffer.as_bytes()[..count] });
        discard(&buffer, count)?;
        if self.paused.get() && buffer.len() <= limit(reader)? {
            self.resume_now(reader)?;
        }
        Ok(bytes)
    }

    /// Puts bytes in front of those that are in the buffer.
    pub(super) fn put_back(&self, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        let py = data.py();
        self.buffer(py).set_item(pyo3::types::PySlice::new(py, 0, 0, 1), data)
    }
}

/// What the reader's limit is (bytes).
#[cold]
pub fn limit(reader: &Bound<'_, PyAny>) -> PyResult<usize> {
    let limit = reader.getattr(intern!(reader.py(), "_limit"))?;
    // As good as none if it is larger than memory.
    Ok(limit.extract().unwrap_or(usize::MAX))
}

/// Appends bytes.
fn extend(buffer: &Bound<'_, PyByteArray>, bytes: &[u8]) -> PyResult<()> {
    let before = buffer.len();
    buffer.resize(before + bytes.len())?;
    // SAFETY: so much memory; nothing else runs while they are copied.
    let memory = unsafe { buffer.as_bytes_mut() };
    memory[before..].copy_from_slice(bytes);
    Ok(())
}

/// Removes the first `count` bytes.
pub fn discard(buffer: &Bound<'_, PyByteArray>, count: usize) -> PyResult<()> {
    if count == buffer.len() {
        return buffer.resize(0);
    }
    // SAFETY: a live object.
    let status = unsafe { ffi::PySequence_DelSlice(buffer.as_ptr(), 0, count as isize) };
    if status == 0 { Ok(()) } else { Err(PyErr::fetch(buffer.py())) }
}

#[pymethods]
impl ReaderState {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        for cell in [&self.exception, &self.waiter] {
            if let Ok(object) = cell.try_borrow() {
                visit.call(&*object)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        for cell in [&self.exception, &self.waiter] {
            let object = cell.take();
            drop(object);
        }
    }
}

/// Moves the state of a reader of the standard class to where it is kept for one of `class`, and makes it
/// one. It has the attributes of the standard class.
///
/// # Errors
///
/// Those of readers that have not all of the attributes.
#[pyfunction]
pub fn _adopt_reader(
    reader: &Bound<'_, PyAny>,
    class: &Bound<'_, PyType>,
    event_loop: &Bound<'_, AsyncioLoop>,
) -> PyResult<()> {
    let py = reader.py();
    let optional = |name| -> PyResult<_> {
        let value = reader.getattr(name)?;
        Ok(RefCell::new(if value.is_none() { None } else { Some(value.unbind()) }))
    };
    let state = ReaderState {
        event_loop: event_loop.clone().unbind(),
        buffer: RefCell::new(reader.getattr("_buffer")?.cast_into::<PyByteArray>()?.unbind()),
        eof: Cell::new(reader.getattr("_eof")?.is_truthy()?),
        paused: Cell::new(reader.getattr("_paused")?.is_truthy()?),
        exception: optional("_exception")?,
        waiter: optional("_waiter")?,
        reading: Cell::new(ptr::null()),
    };
    for name in ["_buffer", "_eof", "_paused", "_exception", "_waiter"] {
        reader.delattr(name)?;
    }
    reader.setattr(intern!(py, "_state"), Bound::new(py, state)?)?;
    reader.setattr("__class__", class)
}

// --- asyncio's names

fn attached<'py>() -> Python<'py> {
    // SAFETY: slots are called with the GIL held.
    unsafe { Python::assume_attached() }
}

fn get(this: Object, read: impl FnOnce(&Bound<'_, ReaderState>) -> Py<PyAny>) -> Object {
    let py = attached();
    // SAFETY: a live object.
    let reader = unsafe { Bound::from_borrowed_ptr(py, this) };
    match state_of(&reader) {
        Ok(state) => read(&state).into_ptr(),
        Err(error) => {
            error.restore(py);
            ptr::null_mut()
        }
    }
}

fn set(
    this: Object,
    value: Object,
    write: impl FnOnce(&ReaderState, Bound<'_, PyAny>) -> PyResult<()>,
) -> c_int {
    let py = attached();
    // SAFETY: live objects, or null where the attribute is to be deleted.
    let (reader, value) =
        unsafe { (Bound::from_borrowed_ptr(py, this), Bound::from_borrowed_ptr_or_opt(py, value)) };
    let outcome = state_of(&reader).and_then(|state| match value {
        Some(value) => write(state.get(), value),
        None => Err(pyo3::exceptions::PyAttributeError::new_err("cannot be deleted")),
    });
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            error.restore(py);
            -1
        }
    }
}

fn optional(cell: &RefCell<Option<Py<PyAny>>>) -> Py<PyAny> {
    let py = attached();
    cell.borrow().as_ref().map_or_else(|| py.None(), |object| object.clone_ref(py))
}

fn boolean(value: bool) -> Py<PyAny> {
    pyo3::types::PyBool::new(attached(), value).to_owned().into_any().unbind()
}

fn put(cell: &RefCell<Option<Py<PyAny>>>, value: Bound<'_, PyAny>) -> PyResult<()> {
    let value = if value.is_none() { None } else { Some(value.unbind()) };
    let before = cell.replace(value);
    drop(before);
    Ok(())
}

macro_rules! attributes {
    ($($name:literal = $read:expr, $write:expr, $doc:literal;)*) => {
        static ATTRIBUTES: GetSetTable<{ [$($name),*].len() }> = GetSetTable::new([$({
            unsafe extern "C" fn getter(this: Object, _: *mut c_void) -> Object {
                get(this, $read)
            }
            unsafe extern "C" fn setter(this: Object, value: Object, _: *mut c_void) -> c_int {
                set(this, value, $write)
            }
            attribute($name, getter, Some(setter), $doc)
        }),*]);
    };
}

attributes! {
    c"_buffer" = |state| state.get().buffer(state.py()).into_any().unbind(),
    |state, value| {
        let before = state.buffer.replace(value.cast_into::<PyByteArray>()?.unbind());
        drop(before);
        Ok(())
    }, c"What was received and not read.";

    c"_eof" = |state| boolean(state.get().eof.get()),
    |state, value| value.is_truthy().map(|eof| state.eof.set(eof)),
    c"Whether nothing comes after that.";

    c"_paused" = |state| boolean(state.get().paused.get()),
    |state, value| value.is_truthy().map(|paused| state.paused.set(paused)),
    c"Whether nothing is received for now.";

    c"_exception" = |state| optional(&state.get().exception),
    |state, value| put(&state.exception, value),
    c"What ended the connection.";

    c"_waiter" = |state| optional(&state.get().waiter),
    |state, value| {
        // Whoever it is now, it is not one of ours.
        state.reading.set(ptr::null());
        put(&state.waiter, value)
    }, c"The future of who waits for bytes.";
}

/// Puts the attributes on the class of adopted readers.
pub fn attach(class: &Bound<'_, PyType>) -> PyResult<()> {
    ATTRIBUTES.attach(class)
}
