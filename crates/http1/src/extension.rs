//! The extensions of a chunk: `;name`, `;name=value` or `;name="value"`, any number of them.
//!
//! They mean nothing to anybody, but parsers disagree about where malformed ones end: one that
//! takes a quote for opened goes on beyond the line. White space around the parts, which the RFC
//! calls bad, is refused as it is before them.

use crate::scan::is_token_byte;

/// Where in an extension the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// At the first byte of the name.
    NameStart,
    Name,
    /// After the equals sign.
    ValueStart,
    Value,
    Quoted,
    /// After a backslash between quotes.
    Escaped,
    /// After the second quote.
    Unquoted,
}

impl Part {
    /// What comes after a byte; `None` if the byte must not be there.
    pub fn next(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::NameStart | Self::Name, _) if is_token_byte(byte) => Some(Self::Name),
            (Self::Name, b'=') => Some(Self::ValueStart),
            (Self::ValueStart, b'"') => Some(Self::Quoted),
            (Self::ValueStart | Self::Value, _) if is_token_byte(byte) => Some(Self::Value),
            (Self::Name | Self::Value | Self::Unquoted, b';') => Some(Self::NameStart),
            (Self::Quoted, b'"') => Some(Self::Unquoted),
            (Self::Quoted, b'\\') => Some(Self::Escaped),
            (Self::Quoted | Self::Escaped, b'\t' | b' '..=b'~' | 0x80..) => Some(Self::Quoted),
            _ => None,
        }
    }

    /// Whether the line may end here.
    pub fn may_end(self) -> bool {
        matches!(self, Self::Name | Self::Value | Self::Unquoted)
    }
}
