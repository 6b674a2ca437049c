//! Heads of frames.

use crate::Failure;

/// The longest head: two bytes, a length of eight, a mask.
pub(crate) const LONGEST_HEAD: usize = 14;

/// The longest payload of a control frame.
pub(crate) const LONGEST_CONTROL: usize = 125;

const FIN: u8 = 0x80;
const COMPRESSED: u8 = 0x40;
const RESERVED: u8 = 0x30;
const MASKED: u8 = 0x80;
const LENGTH_OF_16_BITS: u8 = 126;
const LENGTH_OF_64_BITS: u8 = 127;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    pub(crate) const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The head of a frame that a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub last: bool,
    pub compressed: bool,
    pub opcode: Opcode,
    pub mask: [u8; 4],
    pub length: u64,
}

impl Head {
    /// The head that the bytes begin with, and its size; `None` if there is not enough of it yet.
    /// What is wrong with it is told as soon as it is there.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Failure> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        if first & RESERVED != 0 {
            return Err(Failure::protocol("reserved bits are set"));
        }
        let opcode =
            Opcode::from_bits(first & 0x0f).ok_or_else(|| Failure::protocol("reserved opcode"))?;
        let last = first & FIN != 0;
        let compressed = first & COMPRESSED != 0;
        if opcode.is_control() && !last {
            return Err(Failure::protocol("fragmented control frame"));
        }
        if compressed && !matches!(opcode, Opcode::Text | Opcode::Binary) {
            return Err(Failure::protocol("reserved bits are set"));
        }
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        if second & MASKED == 0 {
            return Err(Failure::protocol("frame without a mask"));
        }
        let short = second & !MASKED;
        if opcode.is_control() && usize::from(short) > LONGEST_CONTROL {
            return Err(Failure::protocol("control frame too long"));
        }
        let (length, size) = match short {
            LENGTH_OF_16_BITS => {
                let Some(length) = bytes[2..].first_chunk() else { return Ok(None) };
                (u64::from(u16::from_be_bytes(*length)), 4)
            }
            LENGTH_OF_64_BITS => {
                let Some(length) = bytes[2..].first_chunk() else { return Ok(None) };
                (u64::from_be_bytes(*length), 10)
            }
            length => (u64::from(length), 2),
        };
        let least = match short {
            LENGTH_OF_16_BITS => u64::from(LENGTH_OF_16_BITS),
            LENGTH_OF_64_BITS => 1 << 16,
            _ => 0,
        };
        if length < least || length > i64::MAX as u64 {
            return Err(Failure::protocol("bad length of a frame"));
        }
        let Some(&mask) = bytes[size..].first_chunk() else { return Ok(None) };
        Ok(Some((Self { last, compressed, opcode, mask, length }, size + 4)))
    }
}

/// Writes the head of a whole message, or of a control frame, as a server sends it.
pub(crate) fn write_head(opcode: Opcode, compressed: bool, length: usize, out: &mut Vec<u8>) {
    let flags = if compressed { FIN | COMPRESSED } else { FIN };
    out.push(flags | opcode.bits());
    if length < usize::from(LENGTH_OF_16_BITS) {
        out.push(length as u8);
    } else if let Ok(length) = u16::try_from(length) {
        out.push(LENGTH_OF_16_BITS);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(LENGTH_OF_64_BITS);
        out.extend_from_slice(&(length as u64).to_be_bytes());
    }
}
