//! The messages of HTTP that an application sends.

use super::super::file::FileWrapper;
use super::super::response::StartResponse;
use super::super::start_response::{bad, bad_header};
use super::exchange::{Exchange, Stage, out_of_order};
use super::message::{bytes, field, flag, text, wrong_type};
use greenloop_http1::{BadResponse, Request, ResponseHead, write_trailer};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList, PyTuple};

/// So much of a file is read at a time where the system cannot send it by itself.
const FILE_PIECE: usize = 64 * 1024;

pub fn send(slf: &Bound<'_, Exchange>, kind: &str, message: &Bound<'_, PyAny>) -> PyResult<()> {
    let stage = slf.get().stage.get();
    if stage == Stage::Complete || !slf.get().is_current() {
        return Err(out_of_order(kind, "after the response was complete"));
    }
    match (kind, stage) {
        ("http.response.start", Stage::Silent) => start(slf, message),
        ("http.response.body", Stage::Started) => body(slf, message),
        ("http.response.pathsend", Stage::Started) => file(slf, message),
        ("http.response.trailers", Stage::Trailers) => trailers(slf, message),
        ("http.response.early_hint", Stage::Silent) => early_hint(slf, message),
        ("http.response.start", _) => Err(out_of_order(kind, "a second time")),
        ("http.response.body" | "http.response.pathsend", Stage::Silent) => {
            Err(out_of_order(kind, "before 'http.response.start'"))
        }
        ("http.response.body" | "http.response.pathsend", _) => {
            Err(out_of_order(kind, "after the end of the body"))
        }
        ("http.response.trailers", _) => {
            let when = "before the end of the body, or without 'trailers' in 'http.response.start'";
            Err(out_of_order(kind, when))
        }
        ("http.response.early_hint", _) => Err(out_of_order(kind, "after 'http.response.start'")),
        _ => Err(PyRuntimeError::new_err(format!("{kind:?} is no message of a response"))),
    }
}

/// The status and reason of a response's first line.
fn status_line(py: Python<'_>, status: u16) -> PyResult<Vec<u8>> {
    static PHRASES: PyOnceLock<Vec<(u16, String)>> = PyOnceLock::new();
    let phrases = PHRASES.get_or_try_init(py, || {
        let mut phrases = Vec::new();
        for one in py.import("http")?.getattr("HTTPStatus")?.try_iter()? {
            let one = one?;
            phrases.push((one.getattr("value")?.extract()?, one.getattr("phrase")?.extract()?));
        }
        phrases.sort_unstable();
        Ok::<_, PyErr>(phrases)
    })?;
    let phrase = match phrases.binary_search_by_key(&status, |(number, _)| *number) {
        Ok(index) => &phrases[index].1[..],
        Err(_) => "",
    };
    Ok(format!("{status} {phrase}").into_bytes())
}

/// The head of a response.
fn head(
    py: Python<'_>,
    request: Request,
    status: u16,
    headers: Option<&Bound<'_, PyAny>>,
) -> PyResult<ResponseHead> {
    let out = Vec::with_capacity(256);
    let made = if status == 200 {
        ResponseHead::new(out, request, b"200 OK")
    } else {
        ResponseHead::new(out, request, &status_line(py, status)?)
    };
    let mut head = made.map_err(|error| {
        PyValueError::new_err(format!("{error}: {status} is not between 200 and 999"))
    })?;
    if let Some(headers) = headers {
        add_headers(&mut head, headers)?;
    }
    Ok(head)
}

/// Adds headers, pairs of bytes, to a head.
pub fn add_headers(head: &mut ResponseHead, headers: &Bound<'_, PyAny>) -> PyResult<()> {
    each_header(headers, |name, value| head.header(name, value))
}

/// Calls with each of some headers, which are pairs of bytes.
fn each_header(
    headers: &Bound<'_, PyAny>,
    mut add: impl FnMut(&[u8], &[u8]) -> Result<(), BadResponse>,
) -> PyResult<()> {
    for header in headers.try_iter()? {
        let header = header?;
        let (name, value) = pair(&header)?;
        let (name, value) = (name.as_bytes(), value.as_bytes());
        add(name, value).map_err(|error| bad_header(error, &header, name, value))?;
    }
    Ok(())
}

fn pair<'py>(header: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
    let both = if let Ok(header) = header.cast::<PyTuple>()
        && header.len() == 2
    {
        Some((header.get_item(0)?, header.get_item(1)?))
    } else if let Ok(header) = header.cast::<PyList>()
        && header.len() == 2
    {
        Some((header.get_item(0)?, header.get_item(1)?))
    } else {
        None
    };
    if let Some((name, value)) = both
        && let (Ok(name), Ok(value)) = (name.cast_into(), value.cast_into())
    {
        return Ok((name, value));
    }
    let given = header.repr()?;
    Err(PyTypeError::new_err(format!("a header is a pair of bytes, name and value, not {given}")))
}

fn status(message: &Bound<'_, PyAny>) -> PyResult<u16> {
    let name = intern!(message.py(), "status");
    let Some(given) = field(message, name)? else {
        return Err(PyValueError::new_err("'http.response.start' has to have a 'status'"));
    };
    let status: i64 = given.extract().map_err(|_| wrong_type(name, "int", &given))?;
    match u16::try_from(status) {
        Ok(status @ 200..=999) => Ok(status),
        _ => Err(PyValueError::new_err(format!("a status is between 200 and 999, not {status}"))),
    }
}

/// Notes the head of the response, which is sent with what of the body comes first.
pub fn start(slf: &Bound<'_, Exchange>, message: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    let response = this.response.get();
    let status = status(message)?;
    let headers = field(message, intern!(py, "headers"))?;
    let has_trailers = flag(message, intern!(py, "trailers"))?;
    let head = head(py, response.request(), status, headers.as_ref())?;
    response.set_head(head);
    if has_trailers {
        this.trailers.replace(Some(Vec::new()));
    }
    this.stage.set(Stage::Started);
    Ok(())
}

/// Sends a piece of the body.
pub fn body(slf: &Bound<'_, Exchange>, message: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    let response = this.response.get();
    let data = bytes(message, intern!(py, "body"))?;
    let data = data.as_ref().map_or(&b""[..], |data| data.as_bytes());
    let is_last = !flag(message, intern!(py, "more_body"))?;
    let has_trailers = this.trailers.borrow().is_some();
    if is_last && !has_trailers {
        response.send_last(py, data, b"").map_err(without_assertion)?;
        return complete(slf);
    }
    if data.is_empty() {
        // The way to have the head sent before there is anything of a body.
        response.send_head(py, None)?;
    } else {
        response.send_piece(py, data, None).map_err(without_assertion)?;
    }
    if response.is_too_long() {
        return complete(slf);
    }
    if is_last {
        this.stage.set(Stage::Trailers);
    }
    Ok(())
}

/// What is wrong with a response is a RuntimeError in ASGI, where WSGI has an AssertionError.
fn without_assertion(error: PyErr) -> PyErr {
    // SAFETY: the GIL is held wherever a response is sent.
    let py = unsafe { Python::assume_attached() };
    if error.is_instance_of::<pyo3::exceptions::PyAssertionError>(py) {
        return PyRuntimeError::new_err(error.value(py).to_string());
    }
    error
}

/// The response is complete.
///
/// # Errors
///
/// RuntimeError if it is not what its head says.
pub fn complete(slf: &Bound<'_, Exchange>) -> PyResult<()> {
    let this = slf.get();
    let (goes_on, mistake) = this.response.get().conclude();
    this.goes_on.set(goes_on);
    this.stage.set(Stage::Complete);
    this.end_timer(slf.py())?;
    this.poke(slf.py());
    this.tell(slf.py())?;
    match mistake {
        Some(mistake) => Err(PyRuntimeError::new_err(mistake)),
        None => Ok(()),
    }
}

/// Sends a file as the body.
fn file(slf: &Bound<'_, Exchange>, message: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    let response = this.response.get();
    if response.has_begun() {
        return Err(out_of_order("http.response.pathsend", "after the body has begun"));
    }
    let Some(path) = text(message, intern!(py, "path"))? else {
        return Err(PyValueError::new_err("'http.response.pathsend' has to have a 'path'"));
    };
    let file = py.import("io")?.call_method1("open", (path, "rb", 0))?;
    let wrapper = Bound::new(py, FileWrapper::new(file.unbind(), FILE_PIECE)?)?;
    let sent = send_file(slf, response, &wrapper);
    if !matches!(sent, Ok(true)) {
        wrapper.get().close(py)?;
    }
    sent?;
    if this.trailers.borrow().is_some() {
        this.stage.set(Stage::Trailers);
        return Ok(());
    }
    complete(slf)
}

/// Sends the head for a file, and leaves the file to be sent. False if nothing of it is.
fn send_file(
    slf: &Bound<'_, Exchange>,
    response: &StartResponse,
    wrapper: &Bound<'_, FileWrapper>,
) -> PyResult<bool> {
    let py = slf.py();
    let Some(part) = wrapper.get().part(py) else {
        return Err(PyValueError::new_err("'http.response.pathsend' is for regular files"));
    };
    let length = response.send_head_for(py, part.length)?.unwrap_or(0);
    if length == 0 {
        return Ok(false);
    }
    slf.get().connection.get().post_file(wrapper.clone().unbind(), py, length)?;
    Ok(true)
}

/// Notes headers that come after the body.
fn trailers(slf: &Bound<'_, Exchange>, message: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    let mut lines = Vec::new();
    if let Some(headers) = field(message, intern!(py, "headers"))? {
        each_header(&headers, |name, value| write_trailer(&mut lines, name, value))?;
    }
    let mut all = this.trailers.take().unwrap_or_default();
    all.extend_from_slice(&lines);
    if flag(message, intern!(py, "more_trailers"))? {
        this.trailers.replace(Some(all));
        return Ok(());
    }
    this.response.get().send_last(py, b"", &all)?;
    complete(slf)
}

/// Sends links that the client may load already.
fn early_hint(slf: &Bound<'_, Exchange>, message: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let response = slf.get().response.get();
    let mut head = ResponseHead::new(Vec::new(), response.request(), b"103 Early Hints")
        .map_err(|error| PyValueError::new_err(error.text()))?;
    if let Some(links) = field(message, intern!(py, "links"))? {
        for link in links.try_iter()? {
            let link = link?;
            let value = link
                .cast::<PyBytes>()
                .map_err(|_| wrong_type(intern!(py, "links"), "an iterable of bytes", &link))?;
            head.header(b"Link", value.as_bytes())
                .map_err(|error| bad(error, &link, "header value", value.as_bytes()))?;
        }
    }
    response.send_interim(py, head)
}

/// Answers with a status and a line of text in place of the application; the connection ends.
pub fn refuse(slf: &Bound<'_, Exchange>, status: u16) -> PyResult<()> {
    let py = slf.py();
    let response = slf.get().response.get();
    let mut head = head(py, response.request(), status, None)?;
    head.header(b"Content-Type", b"text/plain; charset=utf-8")
        .map_err(|error| PyValueError::new_err(error.text()))?;
    head.close();
    response.set_head(head);
    let line = status_line(py, status)?;
    response.send_last(py, line.get(4..).unwrap_or_default(), b"")?;
    complete(slf)
}
