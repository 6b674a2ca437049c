//! asyncio's streams, as far as they do something for every message.
//!
//! `greenloop.asyncio._streams` has subclasses of `asyncio.StreamReader`, `StreamWriter` and
//! `StreamReaderProtocol`, which connections of the standard classes are given; the methods here are
//! put on them. Those of readers work on a state of their own (`reader`), the others on the attributes
//! of the standard classes, so that all other methods do, too.

use super::reader::{self, ReaderState, state_of};
use super::reading::{Reading, Want};
use super::stream::{StreamTransport, This};
use super::write::write_to;
use crate::aio::awaitable::{self, Awaited, Class, Step};
use crate::aio::methods::{given, methods};
use crate::net::arguments::{Buffer, size};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyType};
use std::ffi::{CStr, c_int};

type Object = *mut ffi::PyObject;

methods! {
    READER:
    c"read" (n; 0) = read, c"read($self, n=-1)
--

Waits for bytes, and returns up to n of them; with -1 all up to the end of the stream. Returns no
bytes at the end.";

    c"readexactly" (n; 1) = read_exactly, c"readexactly($self, n)
--

Waits for n bytes, and returns them. Raises IncompleteReadError if the stream ends before.";

    c"readuntil" (separator; 0) = read_until, c"readuntil($self, separator=b'\\n')
--

Waits for bytes that end with the separator, and returns them with it. Raises IncompleteReadError if
the stream ends before, LimitOverrunError if there are more of them than the reader's limit.";

    c"readline" (; 0) = read_line, c"readline($self)
--

Waits for a line, and returns it with its end, if it is not the last one and has none. Raises
ValueError if it is longer than the reader's limit.";

    c"feed_data" (data; 1) = feed_data, c"feed_data($self, data)
--

Gives the reader bytes that were received.";
}

methods! {
    WRITER:
    c"write" (data; 1) = write, c"write($self, data)
--

Sends bytes; see `drain`.";

    c"drain" (; 0) = drain, c"drain($self)
--

Waits until as much has been sent that it makes sense to write more.";
}

methods! {
    PROTOCOL:
    c"data_received" (data; 1) = data_received, c"data_received($self, data)
--

Gives received bytes to the reader.";

    c"_drain_helper" (; 0) = drain_helper, c"_drain_helper($self)
--

Waits until more may be written.";
}

/// The classes of adopted readers and protocols.
static ADOPTED: PyOnceLock<(Py<PyType>, Py<PyType>)> = PyOnceLock::new();

/// The state of the reader of a protocol, if both are of the classes that connections of the standard
/// classes are given, and received data goes from one to the other as usual.
pub(super) fn adopted_reader(protocol: &Bound<'_, PyAny>) -> PyResult<Option<Py<ReaderState>>> {
    let py = protocol.py();
    let Some((reader_class, protocol_class)) = ADOPTED.get(py) else { return Ok(None) };
    if !protocol.get_type().is(protocol_class)
        || protocol.getattr(intern!(py, "__dict__"))?.contains(intern!(py, "data_received"))?
    {
        return Ok(None);
    }
    match reader_of(protocol)? {
        Some(reader) if reader.get_type().is(reader_class) => Ok(Some(state_of(&reader)?.unbind())),
        _ => Ok(None),
    }
}

/// Puts the methods on the classes.
#[pyfunction]
fn _attach_streams(
    reader: &Bound<'_, PyType>,
    writer: &Bound<'_, PyType>,
    protocol: &Bound<'_, PyType>,
) -> PyResult<()> {
    let py = protocol.py();
    let _ = ADOPTED.set(py, (reader.clone().unbind(), protocol.clone().unbind()));
    READER.attach(reader)?;
    reader::attach(reader)?;
    WRITER.attach(writer)?;
    PROTOCOL.attach(protocol)
}

fn read(reader: &Bound<'_, PyAny>, [n]: [Object; 1]) -> PyResult<Py<PyAny>> {
    let most = size(reader.py(), n, -1)?;
    reading(reader, usize::try_from(most).map_or(Want::All, Want::UpTo), None)
}

fn read_exactly(reader: &Bound<'_, PyAny>, [n]: [Object; 1]) -> PyResult<Py<PyAny>> {
    reading(reader, Want::Exactly(size(reader.py(), n, 0)?), None)
}

fn read_until(reader: &Bound<'_, PyAny>, [separator]: [Object; 1]) -> PyResult<Py<PyAny>> {
    let py = reader.py();
    if separator.is_null() {
        return reading(reader, Want::Until, Some(intern_line_end(py)));
    }
    let separator = given(py, &separator);
    match separator.cast_exact::<PyBytes>() {
        Ok(bytes) if !bytes.as_bytes().is_empty() => reading(reader, Want::Until, Some(bytes)),
        // Several separators, or what is none.
        _ => Ok(standard(py, "StreamReader")?
            .call_method1(intern!(py, "readuntil"), (reader, separator))?
            .unbind()),
    }
}

fn read_line(reader: &Bound<'_, PyAny>, []: [Object; 0]) -> PyResult<Py<PyAny>> {
    reading(reader, Want::Line, Some(intern_line_end(reader.py())))
}

/// `b"\n"`
fn intern_line_end(py: Python<'_>) -> &Bound<'_, PyBytes> {
    static LINE_END: PyOnceLock<Py<PyBytes>> = PyOnceLock::new();
    LINE_END.get_or_init(py, || PyBytes::new(py, b"\n").unbind()).bind(py)
}

/// What a method of a reader returns.
#[inline]
fn reading(
    reader: &Bound<'_, PyAny>,
    want: Want,
    separator: Option<&Bound<'_, PyBytes>>,
) -> PyResult<Py<PyAny>> {
    awaitable::make(reader.py(), Reading::new(reader, state_of(reader)?, want, separator))
}

fn feed_data(reader: &Bound<'_, PyAny>, [data]: [Object; 1]) -> PyResult<Py<PyAny>> {
    let py = reader.py();
    feed(reader, state_of(reader)?.get(), given(py, &data))?;
    Ok(py.None())
}

/// Gives bytes to a reader.
pub(super) fn feed(
    reader: &Bound<'_, PyAny>,
    state: &ReaderState,
    data: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let buffer = Buffer::readable(reader.py(), data.as_ptr())?;
    // SAFETY: held by the buffer, and by who has called.
    let bytes = unsafe { std::slice::from_raw_parts(buffer.start().cast_const(), buffer.len()) };
    state.feed(reader, data, bytes)
}

fn write(writer: &Bound<'_, PyAny>, [data]: [Object; 1]) -> PyResult<Py<PyAny>> {
    let py = writer.py();
    write_to(&writer.getattr(intern!(py, "_transport"))?, given(py, &data))?;
    Ok(py.None())
}

fn drain(writer: &Bound<'_, PyAny>, []: [Object; 0]) -> PyResult<Py<PyAny>> {
    let py = writer.py();
    if can_go_on(writer)? {
        return drained(py);
    }
    let class = standard(py, "StreamWriter")?;
    Ok(class.call_method1(intern!(py, "drain"), (writer,))?.unbind())
}

/// Whether more may be written at once.
fn can_go_on(writer: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = writer.py();
    let transport = writer.getattr(intern!(py, "_transport"))?;
    let Ok(transport) = transport.cast_exact::<StreamTransport>() else { return Ok(false) };
    let this: This<'_, '_> = transport;
    if this.get().closing.get() || this.get().protocol_paused.get() {
        return Ok(false);
    }
    // The writer's reader is that of the transport's protocol.
    if let Some(state) = &*this.get().reader.borrow() {
        return Ok(state.get().exception.borrow().is_none());
    }
    let reader = writer.getattr(intern!(py, "_reader"))?;
    Ok(reader.is_none() || reader.getattr(intern!(py, "_exception"))?.is_none())
}

fn drain_helper(protocol: &Bound<'_, PyAny>, []: [Object; 0]) -> PyResult<Py<PyAny>> {
    let py = protocol.py();
    let is_waiting = protocol.getattr(intern!(py, "_paused"))?.is_truthy()?
        || protocol.getattr(intern!(py, "_connection_lost"))?.is_truthy()?;
    if !is_waiting {
        return drained(py);
    }
    let class = standard(py, "StreamReaderProtocol")?;
    Ok(class.call_method1(intern!(py, "_drain_helper"), (protocol,))?.unbind())
}

fn data_received(protocol: &Bound<'_, PyAny>, [data]: [Object; 1]) -> PyResult<Py<PyAny>> {
    let py = protocol.py();
    if let Some(reader) = reader_of(protocol)? {
        feed(&reader, state_of(&reader)?.get(), given(py, &data))?;
    }
    Ok(py.None())
}

/// The reader of a protocol, which does not keep it: when it is gone nobody reads any more.
pub(super) fn reader_of<'py>(protocol: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = protocol.py();
    let reader = protocol.getattr(intern!(py, "_stream_reader_wr"))?;
    if reader.is_none() {
        return Ok(None);
    }
    let reader = reader.call0()?;
    Ok(if reader.is_none() { None } else { Some(reader) })
}

/// A class of asyncio's.
fn standard<'py>(py: Python<'py>, name: &'static str) -> PyResult<&'py Bound<'py, PyType>> {
    static CLASSES: [PyOnceLock<Py<PyType>>; 3] = [const { PyOnceLock::new() }; 3];
    let index = match name {
        "StreamReader" => 0,
        "StreamWriter" => 1,
        _ => 2,
    };
    CLASSES[index].import(py, "asyncio", name)
}

/// What `drain` returns when there is nothing to wait for: the same object every time.
struct Drained;

impl Awaited for Drained {
    const NAME: &'static CStr = c"greenloop._core._Drained";
    const DOC: &'static CStr = c"What `drain` returns when there is nothing to wait for.";

    fn class() -> &'static Class {
        static CLASS: Class = Class::new();
        &CLASS
    }

    fn step(&self, py: Python<'_>) -> PyResult<Step> {
        Ok(Step::End(py.None().into_ptr()))
    }

    fn has_begun(&self) -> bool {
        true
    }

    fn abandon(&self, _py: Python<'_>) -> PyResult<()> {
        Ok(())
    }

    fn traverse(&self, _visit: &mut dyn FnMut(Object) -> c_int) -> c_int {
        0
    }
}

fn drained(py: Python<'_>) -> PyResult<Py<PyAny>> {
    static DRAINED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    Ok(DRAINED.get_or_try_init(py, || awaitable::make(py, Drained))?.clone_ref(py))
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    awaitable::register::<Reading>(module)?;
    awaitable::register::<Drained>(module)?;
    module.add_function(wrap_pyfunction!(reader::_adopt_reader, module)?)?;
    module.add_function(wrap_pyfunction!(_attach_streams, module)?)
}
