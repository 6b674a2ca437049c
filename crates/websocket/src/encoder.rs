//! Writes messages and control frames.

use crate::deflate::{Agreed, Deflater};
use crate::frame::{LONGEST_CONTROL, Opcode, write_head};
use crate::{Close, may_be_sent};

/// What a message holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Binary,
}

/// Encodes what a server sends to one client. What is written goes to the end of `out`.
pub struct Encoder {
    deflater: Option<Deflater>,
    /// Messages of fewer bytes are sent as they are.
    threshold: usize,
    compressed: Vec<u8>,
}

impl Encoder {
    /// `agreed`: on compression, if it was. `threshold`: messages of fewer bytes are not compressed.
    #[must_use]
    pub fn new(agreed: Option<Agreed>, threshold: usize) -> Self {
        Self { deflater: agreed.map(Deflater::new), threshold, compressed: Vec::new() }
    }

    /// Writes a message, as one frame.
    pub fn message(&mut self, kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
        let opcode = match kind {
            Kind::Text => Opcode::Text,
            Kind::Binary => Opcode::Binary,
        };
        match &mut self.deflater {
            Some(deflater) if payload.len() >= self.threshold => {
                self.compressed.clear();
                deflater.deflate(payload, &mut self.compressed);
                write_head(opcode, true, self.compressed.len(), out);
                out.extend_from_slice(&self.compressed);
            }
            _ => {
                write_head(opcode, false, payload.len(), out);
                out.extend_from_slice(payload);
            }
        }
    }

    /// Writes a ping. `false`, and nothing is written, if the payload has more than 125 bytes.
    #[must_use]
    pub fn ping(payload: &[u8], out: &mut Vec<u8>) -> bool {
        Self::control(Opcode::Ping, payload, out)
    }

    /// Writes a pong. `false`, and nothing is written, if the payload has more than 125 bytes.
    #[must_use]
    pub fn pong(payload: &[u8], out: &mut Vec<u8>) -> bool {
        Self::control(Opcode::Pong, payload, out)
    }

    /// Writes a close frame, an empty one if nothing is to be said. `false`, and nothing is written,
    /// if the code may not be sent, or the reason has more than 123 bytes.
    #[must_use]
    pub fn close(said: Option<&Close>, out: &mut Vec<u8>) -> bool {
        let Some(said) = said else { return Self::control(Opcode::Close, &[], out) };
        if !may_be_sent(said.code) {
            return false;
        }
        let payload = [&said.code.to_be_bytes(), said.reason.as_bytes()].concat();
        Self::control(Opcode::Close, &payload, out)
    }

    fn control(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) -> bool {
        if payload.len() > LONGEST_CONTROL {
            return false;
        }
        write_head(opcode, false, payload.len(), out);
        out.extend_from_slice(payload);
        true
    }
}
