//! Takes the framing off a request's body.

use crate::extension::Part;
use crate::head::explain_header;
use crate::{BodyLength, Limits, Refusal};

/// The digits of the largest size of a chunk.
const MAX_SIZE_DIGITS: u32 = 16;

/// Headers that would change what a request means, had it not been read already. Among the trailers
/// somebody may take them for headers.
const NOT_IN_TRAILERS: &[&str] = &[
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "max-forwards",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether a header must not be among trailers.
pub fn is_forbidden_trailer(name: &[u8]) -> bool {
    NOT_IN_TRAILERS.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So much of a body of known length is to come.
    Fixed(u64),
    /// In the size of a chunk.
    Size {
        size: u64,
        digits: u32,
    },
    /// In what follows the size.
    Extension {
        size: u64,
        part: Part,
    },
    /// The CR after the size was seen.
    SizeEnd {
        size: u64,
    },
    /// So much of a chunk is to come.
    Chunk(u64),
    /// After a chunk.
    ChunkEnd,
    /// The CR after a chunk was seen.
    ChunkLineFeed,
    /// After the last chunk, in a line of the trailers.
    Trailers,
    Finished,
}

/// What a decoder made of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded<'b> {
    /// How much of the input it is done with, the data included.
    pub consumed: usize,
    /// A piece of the body. If it is empty, either the body is finished or the input is exhausted.
    pub data: &'b [u8],
}

/// Takes the framing off a body that comes in pieces.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    /// How much of the body came in.
    total: u64,
    limit: u64,
    extensions_left: usize,
    trailers: Vec<u8>,
    trailers_limit: usize,
    max_trailers: usize,
}

impl BodyDecoder {
    /// A decoder for a body that is delimited so.
    #[must_use]
    pub fn new(length: BodyLength, limits: &Limits) -> Self {
        let state = match length {
            BodyLength::Fixed(0) => State::Finished,
            BodyLength::Fixed(length) => State::Fixed(length),
            BodyLength::Chunked => State::Size { size: 0, digits: 0 },
        };
        Self {
            state,
            total: 0,
            limit: limits.body,
            extensions_left: limits.chunk_extensions,
            trailers: Vec::new(),
            trailers_limit: limits.trailers,
            max_trailers: limits.headers,
        }
    }

    /// Whether all of the body, its trailers included, came in.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.state == State::Finished
    }

    /// How many bytes of data certainly come next, with no framing between them: they can be
    /// received where they are to lie, if [`skip`](Self::skip) is told.
    #[must_use]
    pub fn contiguous(&self) -> u64 {
        match self.state {
            State::Fixed(left) | State::Chunk(left) => left,
            _ => 0,
        }
    }

    /// Takes note of data that was received past this decoder.
    ///
    /// # Panics
    ///
    /// It is more than [`contiguous`](Self::contiguous) allows.
    pub fn skip(&mut self, length: u64) {
        assert!(length <= self.contiguous(), "more than the data that comes next");
        self.advance(length);
    }

    /// How much of the body came in.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The headers after a body in chunks.
    pub fn trailers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let lines = self.trailers.split(|&byte| byte == b'\n').filter_map(|line| {
            let line = line.strip_suffix(b"\r")?;
            let colon = line.iter().position(|&byte| byte == b':')?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        });
        // None before they are complete: the last of them may not be.
        lines.filter(|_| self.is_finished())
    }

    /// Goes on with input, up to the next piece of data. What is left of the input when the body is
    /// finished is not the body's.
    ///
    /// # Errors
    ///
    /// The framing is malformed, or the body larger than the limit.
    pub fn decode<'b>(&mut self, input: &'b [u8]) -> Result<Decoded<'b>, Refusal> {
        let mut consumed = 0;
        while let Some(&byte) = input.get(consumed) {
            match self.state {
                State::Finished => break,
                State::Fixed(left) | State::Chunk(left) => {
                    let rest = &input[consumed..];
                    let length =
                        usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    self.advance(length as u64);
                    return Ok(Decoded { consumed: consumed + length, data: &rest[..length] });
                }
                _ => {
                    self.framing(byte)?;
                    consumed += 1;
                }
            }
        }
        Ok(Decoded { consumed, data: &[] })
    }

    fn advance(&mut self, length: u64) {
        self.total += length;
        self.state = match self.state {
            State::Fixed(left) if left == length => State::Finished,
            State::Fixed(left) => State::Fixed(left - length),
            State::Chunk(left) if left == length => State::ChunkEnd,
            State::Chunk(left) => State::Chunk(left - length),
            other => other,
        };
    }

    fn framing(&mut self, byte: u8) -> Result<(), Refusal> {
        self.state = match (self.state, byte) {
            (State::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                if digits == MAX_SIZE_DIGITS {
                    return Err(Refusal::ChunkSize);
                }
                let digit = (byte as char).to_digit(16).map_or(0, u64::from);
                State::Size { size: size << 4 | digit, digits: digits + 1 }
            }
            (State::Size { digits: 0, .. }, _) => return Err(Refusal::ChunkSize),
            (State::Size { size, .. }, b'\r') => State::SizeEnd { size },
            (State::Extension { size, part }, b'\r') if part.may_end() => State::SizeEnd { size },
            (State::Size { .. } | State::Extension { .. }, b'\n') => {
                return Err(Refusal::BareLineFeed);
            }
            (State::Size { size, .. }, b';') => {
                self.count_extension()?;
                State::Extension { size, part: Part::NameStart }
            }
            // Space here is what some parsers skip and some take for the end.
            (State::Size { .. }, _) => return Err(Refusal::ChunkSize),
            (State::Extension { size, part }, _) => {
                self.count_extension()?;
                let part = part.next(byte).ok_or(Refusal::ChunkExtension)?;
                State::Extension { size, part }
            }
            (State::SizeEnd { size: 0 }, b'\n') => State::Trailers,
            (State::SizeEnd { size }, b'\n') => {
                if size > self.limit - self.total {
                    return Err(Refusal::BodyTooLarge);
                }
                State::Chunk(size)
            }
            (State::SizeEnd { .. }, _) => return Err(Refusal::BareCarriageReturn),
            (State::ChunkEnd, b'\r') => State::ChunkLineFeed,
            (State::ChunkLineFeed, b'\n') => State::Size { size: 0, digits: 0 },
            (State::ChunkEnd | State::ChunkLineFeed, _) => return Err(Refusal::ChunkEnd),
            (State::Trailers, _) => self.trailer(byte)?,
            (state @ (State::Fixed(_) | State::Chunk(_) | State::Finished), _) => state,
        };
        Ok(())
    }

    fn count_extension(&mut self) -> Result<(), Refusal> {
        self.extensions_left =
            self.extensions_left.checked_sub(1).ok_or(Refusal::ChunkExtensionsTooLong)?;
        Ok(())
    }

    fn trailer(&mut self, byte: u8) -> Result<State, Refusal> {
        // The empty line after them is not one of them.
        if self.trailers.len() >= self.trailers_limit + 2 {
            return Err(Refusal::TrailersTooLarge);
        }
        self.trailers.push(byte);
        if byte != b'\n' {
            return Ok(State::Trailers);
        }
        let Some(lines) = self.trailers.strip_suffix(b"\r\n") else {
            return Err(Refusal::BareLineFeed);
        };
        let line = lines.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
        if line.is_empty() {
            return Ok(State::Finished);
        }
        if self.trailers.len() > self.trailers_limit {
            return Err(Refusal::TrailersTooLarge);
        }
        if let Some(refusal) = explain_header(line) {
            return Err(match refusal {
                Refusal::BareCarriageReturn | Refusal::FoldedHeader => refusal,
                _ => Refusal::Trailer,
            });
        }
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        if is_forbidden_trailer(name) {
            return Err(Refusal::TrailerForbidden);
        }
        if memchr::memchr_iter(b'\n', lines).count() >= self.max_trailers {
            return Err(Refusal::TooManyHeaders);
        }
        Ok(State::Trailers)
    }
}
