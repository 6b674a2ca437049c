//! `sock_recv`, `sock_sendall` and their like: system calls on a program's own sockets.
//!
//! A call is tried at once. If it would block, the coroutine waits until the descriptor is ready, and tries
//! again. Waits are registered as those of cooperative sockets are: the reactor is told who has the
//! descriptor, keeps it registered, and a wait costs no system call (see its `descriptors`). Who has
//! it is the socket object: one that was closed is another one than that which has its number now.
//!
//! Only sockets whose methods are the standard ones are served here. For others (TLS, what programs
//! derive), and for `sock_accept` and `sock_connect`, which nobody calls for every message, it is the
//! standard loop's methods that call those of the socket.
//!
//! * `known`: what a loop has of sockets, and who waits for them
//! * `operation`: the system calls
//! * `call`: what the methods return
//! * `methods`: the methods

mod call;
mod known;
mod methods;
mod operation;

use super::awaitable;
use call::SocketCall;
pub use known::Sockets;
pub use methods::attach;
use pyo3::prelude::*;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    awaitable::register::<SocketCall>(module)
}
