//! The WSGI server: HTTP/1.1 from `greenloop_http1` on cooperative sockets, an application on top.
//!
//! A connection is served by one greenlet from its first byte to its last. It parks in `wire`, and
//! nowhere else holds a borrow, or memory of the thread, while it does.
//!
//! * `wire`: bytes in and out, with deadlines.
//! * `connection`: requests one after the other, and what is received and not used yet; `body`:
//!   the body of a request; `closing`: the end of a request, and of the connection.
//! * `environ`: the dict that an application is given.
//! * `input`: `wsgi.input`, of a connection or of any file (`file_body`).
//! * `response`: how a response is sent; `start_response`: what applications call for it; `file`:
//!   files as results.
//! * `application`: one request: the application is called, and its result sent.
//! * `handler`: the same in parts, for handlers that are written in Python; `reader`: the bytes of a
//!   connection as a file, for them and for other protocols.
//! * `asgi`: a request whose application is a coroutine; `outbox`: sending for such, without waiting.
//! * `websocket`: a connection that has changed to that protocol.
//! * `core`: what all connections of a server share.

mod application;
mod asgi;
mod body;
mod closing;
mod connection;
mod core;
mod environ;
mod file;
mod file_body;
mod handler;
mod input;
mod outbox;
mod reader;
mod response;
mod start_response;
mod websocket;
mod wire;

use pyo3::prelude::*;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<core::HttpCore>()?;
    module.add_class::<connection::HttpConnection>()?;
    module.add_class::<handler::RequestHead>()?;
    module.add_class::<reader::ConnectionReader>()?;
    module.add_class::<input::Input>()?;
    module.add_class::<response::StartResponse>()?;
    module.add_class::<start_response::Write>()?;
    module.add_class::<file::FileWrapper>()?;
    module.add_class::<websocket::WebSocket>()?;
    asgi::register(module)
}
