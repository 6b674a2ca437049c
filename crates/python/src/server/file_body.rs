//! A request's body that is read from a file, for those who make an `Input` themselves.

use crate::exceptions;
use greenloop_http1::{BodyDecoder, BodyLength, Limits};
use pyo3::exceptions::PyConnectionResetError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, PyVisit};
use std::cell::Cell;

/// A body in a file, which goes on after it.
pub struct FileBody {
    rfile: Py<PyAny>,
    /// In place whenever Python code runs; `None` at the end of the body.
    decoder: Cell<Option<BodyDecoder>>,
}

impl FileBody {
    pub fn new(rfile: Py<PyAny>, length: u64, is_chunked: bool) -> Self {
        let length = if is_chunked { BodyLength::Chunked } else { BodyLength::Fixed(length) };
        let decoder = BodyDecoder::new(length, &Limits::default());
        Self { rfile, decoder: Cell::new((!decoder.is_finished()).then_some(decoder)) }
    }

    pub fn rfile<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.rfile.bind(py)
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.rfile)
    }

    /// Appends more of the body to `out`, up to `most` bytes; nothing at its end.
    pub fn read(&self, py: Python<'_>, out: &mut Vec<u8>, most: usize) -> PyResult<usize> {
        loop {
            let Some(decoder) = self.decoder.take() else { return Ok(0) };
            let contiguous = usize::try_from(decoder.contiguous()).unwrap_or(usize::MAX);
            self.decoder.set(Some(decoder));
            // The framing a byte at a time: what follows the body is not to be read.
            let size = contiguous.min(most).max(1);
            let data = self.rfile.bind(py).call_method1("read", (size,))?;
            let data = data.cast::<PyBytes>()?.as_bytes();
            if data.is_empty() {
                let text = "the end of the file is in the middle of a body";
                return Err(PyConnectionResetError::new_err(text));
            }
            let Some(mut decoder) = self.decoder.take() else { return Ok(0) };
            let decoded = decoder.decode(data).map(|decoded| {
                out.extend_from_slice(decoded.data);
                decoded.data.len()
            });
            self.decoder.set((!decoder.is_finished()).then_some(decoder));
            match decoded {
                Ok(0) => {}
                Ok(length) => return Ok(length),
                Err(refusal) => return Err(exceptions::invalid_client_input(py, refusal.text())),
            }
        }
    }
}
