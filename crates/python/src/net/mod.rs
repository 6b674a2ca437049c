//! Cooperative sockets: system calls are tried at once, and park the greenlet on `EAGAIN`.
//!
//! The Python class `greenloop.socket.socket` subclasses the standard one, whose C part owns the
//! descriptor and is kept non-blocking. What is ours about a socket is in `state`; `methods` are
//! the methods that programs call all the time, put on the Python class by `attach`.

pub mod address;
pub mod arguments;
pub mod attach;
mod delegate;
pub mod errors;
mod file;
mod poll;
pub mod receive;
mod send;
pub mod state;
mod stream;
mod tls;
pub mod wait;

use pyo3::prelude::*;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<state::SocketState>()?;
    attach::register(module)?;
    file::register(module)?;
    module.add_function(wrap_pyfunction!(receive::_accept_pending, module)?)?;
    module.add_function(wrap_pyfunction!(receive::_is_readable, module)?)?;
    poll::register(module)?;
    stream::register(module)
}
