//! The end of a request, and of a connection.

use super::connection::HttpConnection;
use super::wire::Received;
use crate::hub::sleep::give_way;
use crate::net::state::SocketState;
use crate::time::deadline_after;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

/// As much is received from a peer that is still sending when its connection is closed, and for so
/// many seconds: closing at once would have its system throw away what it was sent.
const MAX_LINGER: usize = 256 * 1024;
const LINGER_SECONDS: f64 = 1.0;

/// After so many requests of a connection others get their turn, even if more are there.
const TURN: u64 = 32;

impl HttpConnection {
    /// Ends a request: receives what nobody has read of its body. Returns whether the connection
    /// can go on.
    pub fn end(&self, py: Python<'_>) -> PyResult<bool> {
        self.finish_websocket(py)?;
        // From now on nobody but the server reads and writes.
        self.end_request();
        if self.is_broken() || self.is_upgraded() {
            return Ok(false);
        }
        if self.served().is_multiple_of(TURN) {
            give_way(py)?;
        }
        self.drain_body(py)
    }

    /// Ends the wait for another request.
    pub fn hang_up(&self, py: Python<'_>) {
        if let Some(state) = self.wire.state(py) {
            state.get().cancel_waits(1);
            return;
        }
        // A socket of TLS, say. Its connection stays as it is: the peer of one that is shut down
        // would be told of an error.
        let state = self.wire.socket(py).getattr("_state");
        if let Ok(state) = state.and_then(|state| Ok(state.cast_into::<SocketState>()?)) {
            state.get().cancel_waits(1);
        } else if self.served() > 0 {
            // If this fails, it is not connected any more, which is as good.
            drop(self.shut_down(py, libc::SHUT_RD));
        }
    }

    /// Shuts a connection down whose socket has a method of its own for that.
    fn shut_down(&self, py: Python<'_>, how: i32) -> PyResult<()> {
        // That of TLS would forget about the encryption.
        let class = py.import("_socket")?.getattr("socket")?;
        class.call_method1("shutdown", (self.wire.socket(py), how))?;
        Ok(())
    }

    /// Has the peer see what it was sent before the connection is closed, even if it goes on
    /// sending.
    pub fn linger(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_broken() || self.is_taken() || self.is_upgraded() {
            return Ok(());
        }
        self.say_goodbye(py)?;
        if !self.end_sending(py) {
            return Ok(());
        }
        let deadline = Some(deadline_after(LINGER_SECONDS));
        let mut total = 0;
        while total < MAX_LINGER {
            let mut data = Vec::new();
            match self.wire.receive(py, &mut data, deadline) {
                Ok(Received::Data(length)) => total += length,
                Ok(Received::End | Received::TimedOut) => break,
                Err(error) if error.is_instance_of::<PyOSError>(py) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Tells the peer that nothing follows. False if it is gone.
    pub fn end_sending(&self, py: Python<'_>) -> bool {
        match self.wire.state(py) {
            // SAFETY: a descriptor, or -1.
            Some(state) => unsafe { libc::shutdown(state.get().fd(), libc::SHUT_WR) == 0 },
            None => self.shut_down(py, libc::SHUT_WR).is_ok(),
        }
    }

    /// Tells a peer on TLS that this was all, if it was: it cannot trust the end of the connection,
    /// which anybody on the way can fake. A response that was cut off must not look whole.
    pub fn say_goodbye(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_broken() || self.is_responding() || self.wire.state(py).is_some() {
            return Ok(());
        }
        py.import("greenloop._server_tls")?.call_method1("say_goodbye", (self.wire.socket(py),))?;
        Ok(())
    }

    /// Whether the peer is, or may be, in the middle of sending.
    pub fn has_more(&self) -> bool {
        !self.is_body_read() || self.with_buffer(|buffer| (!buffer.is_empty(), 0))
    }

    /// Sends a whole response in place of what a request would have got, and ends the connection.
    pub fn answer_and_linger(
        &self,
        py: Python<'_>,
        write: impl FnOnce(&mut Vec<u8>, &[u8]),
    ) -> PyResult<()> {
        let mut out = Vec::new();
        self.core.get().with_date(|date| write(&mut out, date));
        match self.send(py, &[&out]) {
            Ok(()) => self.linger(py),
            Err(_) if self.is_broken() => Ok(()),
            Err(error) => Err(error),
        }
    }
}
