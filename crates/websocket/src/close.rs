//! Codes that connections are closed with.

use std::fmt;

/// What a close frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    pub code: u16,
    /// For people to read.
    pub reason: String,
}

/// What is wrong with what was received. The connection is to be closed with the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: u16,
    pub reason: &'static str,
}

impl Failure {
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// Data are not what the kind of the message says: text that is not UTF-8.
    pub const BAD_DATA: u16 = 1007;
    /// The message is too large.
    pub const TOO_BIG: u16 = 1009;

    pub(crate) const fn protocol(reason: &'static str) -> Self {
        Self { code: Self::PROTOCOL_ERROR, reason }
    }

    pub(crate) const fn data(reason: &'static str) -> Self {
        Self { code: Self::BAD_DATA, reason }
    }

    pub(crate) const fn too_big() -> Self {
        Self { code: Self::TOO_BIG, reason: "message too big" }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reason, self.code)
    }
}

impl std::error::Error for Failure {}

/// Whether a close frame may have this code: those that are registered, and those for libraries,
/// frameworks and applications. 1005, 1006 and 1015 stand for what no frame says.
#[must_use]
pub const fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The payload of a close frame.
pub(crate) fn parse(payload: &[u8]) -> Result<Option<Close>, Failure> {
    match payload {
        [] => Ok(None),
        [_] => Err(Failure::protocol("half a code in a close frame")),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !may_be_sent(code) {
                return Err(Failure::protocol("bad code in a close frame"));
            }
            match std::str::from_utf8(reason) {
                Ok(reason) => Ok(Some(Close { code, reason: reason.to_owned() })),
                Err(_) => Err(Failure::data("the reason in a close frame is not UTF-8")),
            }
        }
    }
}
