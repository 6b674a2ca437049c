//! Requests that a coroutine answers: ASGI 3.
//!
//! A connection has its greenlet as with WSGI, and all that is about bytes is the same. For a request
//! the greenlet makes a task of the application's coroutine and lets it begin, itself
//! (`aio::entering`). What the application sends goes out from there; what it receives is mostly
//! there already. So a coroutine that does not wait is done before the loop hears of it, and the
//! greenlet goes on with the next request.
//!
//! Otherwise the loop runs what is left of the task, and the greenlet *attends*: it waits until the
//! response is complete, and reads meanwhile when the application waits to receive something. The
//! application is told through futures of asyncio's. None of these carries a message: whoever is woken
//! takes what is there, so what is cancelled loses nothing. What the application sends never waits
//! (`outbox`); it waits afterwards, until the system has taken it.
//!
//! * `application`: an application, and what its scopes have in common; `scope`: that of a request.
//! * `exchange`: a request and its answer, `receive` and `send`; `attend`: the greenlet's part;
//!   `stand_in`: who takes that part while a first step blocks.
//! * `http`, `websocket`: the messages of these.
//! * `message`: what messages are made of; `call`: what `receive()` and `send()` return.

mod application;
mod attend;
mod call;
mod exchange;
mod http;
mod message;
mod scope;
mod stand_in;
mod websocket;

pub use application::AsgiApplication;
pub use attend::handle;
pub use exchange::Exchange;
pub use scope::make as scope;
pub use websocket::Socket;

use pyo3::prelude::*;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<AsgiApplication>()
}
