//! Finds where the head of a request ends.

use crate::head::explain_request_line;
use crate::{Limits, Refusal};
use memchr::memchr;

/// How many empty lines are skipped before a request. Some clients send one after a body.
const MAX_EMPTY_LINES: usize = 4;

/// Where a head lies in the bytes that were scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadSpan {
    /// After the empty lines before the request.
    pub start: usize,
    /// After the empty line that ends the head: where the body begins.
    pub end: usize,
    /// How many headers there are.
    pub headers: usize,
}

/// Finds the end of a head in bytes that come in pieces, and looks at each byte once, however small
/// the pieces are.
#[derive(Clone, Debug, Default)]
pub struct HeadScanner {
    /// What was looked at.
    scanned: usize,
    /// Where the head begins, after empty lines.
    start: usize,
    /// Where the line begins that is being received.
    line: usize,
    /// Complete lines that are not empty.
    lines: usize,
    empty_lines: usize,
}

impl HeadScanner {
    /// A scanner for the next request.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the first byte of a request has come in: empty lines before it do not count.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.scanned > self.start
    }

    /// Goes on with the bytes received for this request: those of the last call, and what came
    /// since. `None` if the head is not complete.
    ///
    /// # Errors
    ///
    /// A line, or all of them, are longer than the limits allow, a line ends with LF alone, or what
    /// comes in is not HTTP.
    pub fn find_end(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<HeadSpan>, Refusal> {
        // What is wrong is told in the order of its place, so that it does not matter how the bytes
        // were cut.
        while let Some(offset) = memchr(b'\n', &bytes[self.scanned..]) {
            let line_feed = self.scanned + offset;
            let raw = &bytes[self.line..line_feed];
            let line = raw.strip_suffix(b"\r").unwrap_or(raw);
            self.check_line(line, line_feed, limits)?;
            if line.len() == raw.len() {
                return Err(Refusal::BareLineFeed);
            }
            let next = line_feed + 1;
            self.line = next;
            self.scanned = next;
            if !line.is_empty() {
                if self.lines == 0 && !line.ends_with(b" HTTP/1.1") && !line.ends_with(b" HTTP/1.0")
                {
                    // Whoever sends this does not necessarily send headers.
                    return Err(explain_request_line(line).unwrap_or(Refusal::NotHttp));
                }
                self.lines += 1;
                // The first is the request line.
                if self.lines - 1 > limits.headers {
                    return Err(Refusal::TooManyHeaders);
                }
                continue;
            }
            if self.lines > 0 {
                if next - self.start > limits.head {
                    return Err(Refusal::HeadTooLarge);
                }
                let headers = self.lines - 1;
                return Ok(Some(HeadSpan { start: self.start, end: next, headers }));
            }
            self.empty_lines += 1;
            if self.empty_lines > MAX_EMPTY_LINES {
                return Err(Refusal::NotHttp);
            }
            self.start = next;
        }
        self.scanned = bytes.len();
        let raw = &bytes[self.line..];
        // It may be the CR of its end.
        self.check_line(raw.strip_suffix(b"\r").unwrap_or(raw), bytes.len(), limits)?;
        Ok(None)
    }

    /// Checks a line, or what came in of it. `end` is where what came in ends.
    fn check_line(&self, line: &[u8], end: usize, limits: &Limits) -> Result<(), Refusal> {
        let (limit, refusal) = match self.lines {
            0 => (limits.request_line, Refusal::RequestLineTooLong),
            _ => (limits.header, Refusal::HeaderTooLong),
        };
        if self.lines == 0
            && let Some(&first) = line.first()
        {
            check_first_byte(first)?;
        }
        let is_head_too_large = end - self.start > limits.head;
        if line.len() > limit
            && !(is_head_too_large && self.start + limits.head < self.line + limit)
        {
            return Err(refusal);
        }
        if is_head_too_large { Err(Refusal::HeadTooLarge) } else { Ok(()) }
    }
}

/// Refuses what cannot become a request at once, such as the first record of TLS: its sender would
/// wait for more than a timeout.
fn check_first_byte(byte: u8) -> Result<(), Refusal> {
    if is_token_byte(byte) { Ok(()) } else { Err(Refusal::NotHttp) }
}

/// Whether a byte may be in a token (RFC 9110, section 5.6.2).
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
