//! The environment of a request (PEP 3333).

use super::connection::HttpConnection;
use super::core::HttpCore;
use super::input::Input;
use greenloop_http1::{Head, Header, Version};
use greenloop_websocket::Handshake;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::borrow::Cow;

/// The text of bytes, a character each (ISO 8859-1), as WSGI wants it.
pub fn latin1<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    // SAFETY: a valid slice; a new reference or null.
    unsafe {
        let text = ffi::PyUnicode_DecodeLatin1(
            bytes.as_ptr().cast(),
            bytes.len() as ffi::Py_ssize_t,
            std::ptr::null(),
        );
        Ok(Bound::from_owned_ptr_or_err(py, text)?.cast_into_unchecked())
    }
}

/// Fills in what an environment says of a request. Returns what the client asks for, if that is a
/// WebSocket.
pub fn fill<'py>(
    environ: &Bound<'py, PyDict>,
    connection: &Bound<'py, HttpConnection>,
    core: &HttpCore,
    head: &Head<'_>,
) -> PyResult<Option<Handshake>> {
    let py = connection.py();
    environ.set_item(intern!(py, "REQUEST_METHOD"), method(py, head.method))?;
    environ.set_item(intern!(py, "PATH_INFO"), path(py, head.target.path)?)?;
    let query = match head.target.query {
        None | Some("") => intern!(py, "").clone(),
        Some(query) => latin1(py, query.as_bytes())?,
    };
    environ.set_item(intern!(py, "QUERY_STRING"), query)?;
    environ.set_item(intern!(py, "SERVER_PROTOCOL"), protocol(py, head.version))?;
    let this = connection.get();
    let (host, port) = this.peer(py)?;
    environ.set_item(intern!(py, "REMOTE_ADDR"), host)?;
    if let Some(port) = port {
        environ.set_item(intern!(py, "REMOTE_PORT"), port)?;
    }
    environ.set_item(intern!(py, "wsgi.input"), Bound::new(py, Input::new(connection, head))?)?;
    // What comes after a change of protocol ends where that says.
    let wants_upgrade = head.wants_upgrade();
    environ.set_item(intern!(py, "wsgi.input_terminated"), !wants_upgrade)?;
    for (index, header) in head.headers.iter().enumerate() {
        let Some(key) = core.name(py, header.name) else { continue };
        let mut value = latin1(py, header.value)?;
        let is_same = |before: &Header<'_>| before.name.eq_ignore_ascii_case(header.name);
        if environ.contains(&key)?
            && head.headers[..index].iter().any(is_same)
            && let Some(before) = environ.get_item(&key)?
        {
            let is_cookie = header.name.eq_ignore_ascii_case("cookie")
                || header.name.eq_ignore_ascii_case("cookie2");
            let before = before.str()?;
            let separator = if is_cookie { "; " } else { "," };
            value =
                PyString::new(py, &format!("{}{separator}{}", before.to_cow()?, value.to_cow()?));
        }
        environ.set_item(key, value)?;
    }
    if let Some(authority) = head.target.authority {
        // What the target says overrules the header.
        environ.set_item(intern!(py, "HTTP_HOST"), authority)?;
    }
    Ok(if wants_upgrade { handshake(head) } else { None })
}

/// Has an environment tell that the application is mounted at a path, which the request's begins with:
/// below what the script's name is for all of the server's.
pub fn mount(environ: &Bound<'_, PyDict>, prefix: &str) -> PyResult<()> {
    let py = environ.py();
    let prefix = latin1(py, prefix.as_bytes())?;
    let name = intern!(py, "PATH_INFO");
    if let Some(path) = environ.get_item(name)? {
        let rest = path.call_method1("removeprefix", (&prefix,))?;
        environ.set_item(name, rest)?;
    }
    let script_name = intern!(py, "SCRIPT_NAME");
    let script = match environ.get_item(script_name)? {
        Some(root) if root.is_truthy()? => root.add(prefix)?,
        _ => prefix.into_any(),
    };
    environ.set_item(script_name, script)
}

/// What a client asks for that asks for a WebSocket as it must. A request that is not so is left to the
/// application, which may know another protocol of that name.
pub fn handshake(head: &Head<'_>) -> Option<Handshake> {
    if head.version == Version::Http10 {
        return None;
    }
    let headers = head.headers.iter().map(|header| (header.name.as_bytes(), header.value));
    Handshake::read(head.method.as_bytes(), headers).ok().flatten()
}

/// A version, as environments have it.
pub fn protocol(py: Python<'_>, version: Version) -> &Bound<'_, PyString> {
    match version {
        Version::Http11 => intern!(py, "HTTP/1.1"),
        Version::Http10 => intern!(py, "HTTP/1.0"),
    }
}

pub fn method<'py>(py: Python<'py>, method: &str) -> Bound<'py, PyString> {
    match method {
        "GET" => intern!(py, "GET").clone(),
        "POST" => intern!(py, "POST").clone(),
        "HEAD" => intern!(py, "HEAD").clone(),
        "PUT" => intern!(py, "PUT").clone(),
        "DELETE" => intern!(py, "DELETE").clone(),
        other => PyString::new(py, other),
    }
}

/// A path, as environments have it.
fn path<'py>(py: Python<'py>, path: &str) -> PyResult<Bound<'py, PyString>> {
    if path == "/" {
        return Ok(intern!(py, "/").clone());
    }
    latin1(py, &decoded_path(path))
}

/// A path with its `%41`s decoded. What is not one stays as it is.
pub fn decoded_path(path: &str) -> Cow<'_, [u8]> {
    let path = path.as_bytes();
    if !path.contains(&b'%') {
        return Cow::Borrowed(path);
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, left @ ..] = rest {
        if let (b'%', [high, low, left @ ..]) = (first, left)
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            decoded.push(high << 4 | low);
            rest = left;
        } else {
            decoded.push(*first);
            rest = left;
        }
    }
    Cow::Owned(decoded)
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|digit| digit as u8)
}
