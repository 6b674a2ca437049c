//! What an application calls to answer: `start_response` and `write`; and what handlers that are
//! written in Python call in their place.

use super::file::FileWrapper;
use super::response::StartResponse;
use greenloop_http1::{BadResponse, ResponseHead, Version};
use pyo3::exceptions::{PyAssertionError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyMemoryView, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

/// The function that `start_response` returns: sends a piece of the body.
#[pyclass(frozen, module = "greenloop._core")]
pub struct Write {
    response: Py<StartResponse>,
}

#[pymethods]
impl Write {
    fn __call__(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let response = self.response.get();
        let bytes = body_bytes(data)?;
        if bytes.as_bytes().is_empty() {
            // The way to have the head sent before there is anything of a body.
            return response.send_head(data.py(), None);
        }
        response.send_piece(data.py(), bytes.as_bytes(), None)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.response)
    }
}

/// A piece of a body.
pub fn body_bytes<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    if let Ok(bytes) = data.cast::<PyBytes>() {
        return Ok(bytes.clone());
    }
    if let Ok(bytes) = data.cast::<PyByteArray>() {
        return Ok(PyBytes::new(data.py(), &bytes.to_vec()));
    }
    if data.cast::<PyMemoryView>().is_ok() {
        return Ok(data.call_method0("tobytes")?.cast_into()?);
    }
    let kind = data.get_type().name()?;
    Err(PyTypeError::new_err(format!("a body consists of bytes, not {kind}")))
}

/// Calls with the bytes of a text that is ISO 8859-1.
fn with_latin1<R>(
    text: &Bound<'_, PyAny>,
    what: &str,
    call: impl FnOnce(&[u8]) -> R,
) -> PyResult<R> {
    let Ok(text) = text.cast::<PyString>() else {
        let kind = text.get_type().name()?;
        return Err(PyTypeError::new_err(format!("{what} must be a str, not {kind}")));
    };
    // Nearly always: without a copy.
    if let Ok(ascii) = text.to_str()
        && ascii.is_ascii()
    {
        return Ok(call(ascii.as_bytes()));
    }
    // UnicodeEncodeError, which is a ValueError, says which character.
    let encoded = text.call_method1("encode", ("latin-1",))?;
    Ok(call(encoded.cast::<PyBytes>()?.as_bytes()))
}

/// The exception for what cannot be sent: the status, or a header, in which `bytes` are wrong.
pub fn bad(error: BadResponse, given: &Bound<'_, PyAny>, what: &str, bytes: &[u8]) -> PyErr {
    if bytes.contains(&b'\r') || bytes.contains(&b'\n') {
        return PyValueError::new_err(format!("carriage return or newline in {what}"));
    }
    match given.repr() {
        Ok(given) => PyValueError::new_err(format!("{error}: {given}")),
        Err(error) => error,
    }
}

/// The exception for a header that cannot be sent.
pub fn bad_header(
    error: BadResponse,
    header: &Bound<'_, PyAny>,
    name: &[u8],
    value: &[u8],
) -> PyErr {
    match error {
        BadResponse::HeaderName | BadResponse::Trailer | BadResponse::Reserved => {
            bad(error, header, "header name", name)
        }
        _ => bad(error, header, "header value", value),
    }
}

#[pymethods]
impl StartResponse {
    #[pyo3(signature = (status, headers, exc_info = None))]
    fn __call__(
        slf: &Bound<'_, Self>,
        status: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        exc_info: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Write> {
        let this = slf.get();
        let py = slf.py();
        this.check_again(exc_info)?;
        let head = this.make_head(status, headers)?;
        let code = head.status();
        if (100..200).contains(&code) && code != 101 {
            this.send_interim(py, head)?;
        } else {
            this.set_head(head);
        }
        Ok(Write { response: slf.clone().unbind() })
    }

    /// The status as a number; 0 before there is one.
    #[getter]
    fn status(&self) -> u16 {
        self.progress.borrow().status
    }

    /// For handlers: sets status and headers, whatever was set before. They are sent with what is
    /// written first.
    ///
    /// close: end the connection after this. chunked: whether a body of unknown length may come in
    /// chunks. date: add a header Date unless there is one.
    #[pyo3(signature = (status, headers, *, close = false, chunked = true, date = true))]
    fn prepare(
        &self,
        status: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        close: bool,
        chunked: bool,
        date: bool,
    ) -> PyResult<()> {
        let mut head = self.make_head(status, headers)?;
        if close {
            head.close();
        }
        if !chunked {
            head.without_chunks();
        }
        self.progress.borrow_mut().without_date = !date;
        self.set_head(head);
        Ok(())
    }

    /// For handlers: notes the `Timeout` of the request, which a WebSocket ends.
    #[pyo3(name = "set_deadline")]
    fn set_deadline_by_handler(&self, deadline: Py<PyAny>) {
        self.set_deadline(deadline);
    }

    /// For handlers: sends a response with an informational status at once.
    fn inform(
        &self,
        py: Python<'_>,
        status: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.send_interim(py, self.make_head(status, headers)?)
    }

    /// For handlers: sends a piece of the body, and the head if that has not been sent.
    ///
    /// total: the length of the body, if that is known.
    #[pyo3(signature = (data, total = None))]
    fn write(&self, data: &Bound<'_, PyAny>, total: Option<u64>) -> PyResult<()> {
        let bytes = body_bytes(data)?;
        if bytes.as_bytes().is_empty() {
            return self.send_head(data.py(), total);
        }
        self.send_piece(data.py(), bytes.as_bytes(), total)
    }

    /// For handlers: has the system send the file of a FileWrapper. False if it cannot.
    #[pyo3(name = "send_file")]
    fn send_file_by_handler(&self, wrapper: &Bound<'_, FileWrapper>) -> PyResult<bool> {
        self.send_file(wrapper.py(), wrapper.get())
    }

    /// For handlers: ends the body. Returns whether the connection can go on, and what is wrong with
    /// the body, or None.
    ///
    /// is_known: a body of which nothing was sent is known to be empty.
    #[pyo3(name = "end")]
    fn end_by_handler(
        &self,
        py: Python<'_>,
        is_known: bool,
    ) -> PyResult<(bool, Option<&'static str>)> {
        self.end(py, is_known)
    }

    /// For handlers: answers with an error, if nothing was sent.
    #[pyo3(name = "fail")]
    fn fail_by_handler(&self, py: Python<'_>, status: u16, text: &str) -> PyResult<()> {
        self.fail(py, status, text)
    }

    /// How many bytes of the body were sent.
    #[getter]
    fn sent(&self) -> u64 {
        self.outcome().1
    }

    /// Whether the head was sent.
    #[getter(has_begun)]
    fn get_begun(&self) -> bool {
        self.has_begun()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.traverse(&visit)
    }
}

impl StartResponse {
    fn check_again(&self, exc_info: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let progress = self.progress.borrow();
        let (has_begun, is_set) = (progress.delivery.is_some(), progress.head.is_some());
        drop(progress);
        match exc_info.filter(|exc_info| !exc_info.is_none()) {
            Some(exc_info) if has_begun => {
                let exc_info = exc_info.cast::<PyTuple>()?;
                let error = PyErr::from_value(exc_info.get_item(1)?);
                Err(error)
            }
            Some(_) => Ok(()),
            None if has_begun || is_set => Err(PyAssertionError::new_err(
                "start_response() was called again, without exc_info",
            )),
            None => Ok(()),
        }
    }

    pub(super) fn set_head(&self, head: ResponseHead) {
        // What was there before is dropped after the borrow.
        let before = {
            let mut progress = self.progress.borrow_mut();
            progress.status = head.status();
            progress.head.replace(head)
        };
        drop(before);
    }

    fn make_head(
        &self,
        status: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
    ) -> PyResult<ResponseHead> {
        let request = self.progress.borrow().request;
        let out = Vec::with_capacity(512);
        let mut head = with_latin1(status, "a status", |text| {
            ResponseHead::new(out, request, text)
                .map_err(|error| bad(error, status, "status", text))
        })??;
        add_headers(&mut head, headers)?;
        Ok(head)
    }

    pub(super) fn send_interim(&self, py: Python<'_>, head: ResponseHead) -> PyResult<()> {
        let (out, ..) = head.finish(None, None, None);
        let progress = self.progress.borrow();
        // HTTP/1.0 knows of none; and it is too late for another one.
        if progress.request.version == Version::Http10 || progress.delivery.is_some() {
            return Ok(());
        }
        drop(progress);
        self.check_number()?;
        self.connection.get().send(py, &[&out])
    }
}

/// Adds headers, a list of pairs, to a head.
pub fn add_headers(head: &mut ResponseHead, headers: &Bound<'_, PyAny>) -> PyResult<()> {
    if !headers.is_instance_of::<PyList>() && !headers.is_instance_of::<PyTuple>() {
        let kind = headers.get_type().name()?;
        return Err(PyTypeError::new_err(format!("headers must be a list, not {kind}")));
    }
    for header in headers.try_iter()? {
        let header = header?;
        let Some((name, value)) = pair(&header) else {
            return Err(PyTypeError::new_err(format!(
                "a header is a tuple of name and value, not {}",
                header.repr()?
            )));
        };
        with_latin1(&name, "the name of a header", |name| {
            with_latin1(&value, "the value of a header", |value| {
                head.header(name, value).map_err(|error| bad_header(error, &header, name, value))
            })
        })???;
    }
    Ok(())
}

fn pair<'py>(header: &Bound<'py, PyAny>) -> Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let header = header.cast::<PyTuple>().ok()?;
    if header.len() != 2 {
        return None;
    }
    Some((header.get_item(0).ok()?, header.get_item(1).ok()?))
}
