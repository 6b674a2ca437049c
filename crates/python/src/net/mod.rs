//! Cooperative sockets: system calls are tried at once, and park the greenlet on `EAGAIN`.
//!
//! The Python class `greenloop.socket.socket` subclasses the standard one, whose C part owns the
//! descriptor and is kept non-blocking. What is ours about a socket is in `state`; `methods` are
//! the methods that programs call all the time, put on the Python class by `attach`.

mod address;
mod arguments;
mod attach;
mod delegate;
mod errors;
mod poll;
mod receive;
mod send;
mod state;
mod wait;

use pyo3::prelude::*;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<state::SocketState>()?;
    attach::register(module)?;
    poll::register(module)?;
    Ok(())
}
