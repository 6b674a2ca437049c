//! Writes responses.

use crate::body::is_forbidden_trailer;
use crate::head::{elements, parse_length};
use crate::scan::is_token_byte;
use crate::{Refusal, Version};
use std::error::Error;
use std::fmt;
use std::io::Write;

/// What tells a client that waits for it to send the body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What follows the last chunk that has data.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What of a request decides how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its version.
    pub version: Version,
    /// Whether it is a HEAD request, whose response has no body.
    pub is_head: bool,
    /// Whether the connection may go on: the client wants it, and the server does.
    pub keep_alive: bool,
}

/// How the body of a response is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// There is none, whatever the application gives.
    NoBody,
    /// It has to have exactly this length.
    Length(u64),
    /// It is sent in chunks ([`chunk_size`], the data, CR LF), and then [`LAST_CHUNK`].
    Chunked,
    /// It ends with the connection.
    UntilClose,
    /// The connection is another protocol's now.
    Upgraded,
}

/// What an application asked to send and cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadResponse {
    /// Not three digits from 100 on, a space and a reason.
    Status,
    /// Not a token.
    HeaderName,
    /// Control characters: a client would take what follows CR LF for another header.
    HeaderValue,
    /// A Content-Length that is not a number, or the second of them.
    ContentLength,
    /// A header that may not come after the body.
    Trailer,
    /// A header that the server has set.
    Reserved,
}

impl BadResponse {
    /// What is wrong, for people.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Status => "a status is three digits, a space and a reason",
            Self::HeaderName => "the name of a header is not a token",
            Self::HeaderValue => "the value of a header has control characters",
            Self::ContentLength => "the Content-Length is not a number, or given twice",
            Self::Trailer => "the header may not come after the body",
            Self::Reserved => "the header is for the server to set",
        }
    }
}

impl fmt::Display for BadResponse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text())
    }
}

impl Error for BadResponse {}

/// Writes the head of a response, and learns on the way what it says of the body and the
/// connection. Nothing is written of what a call refuses.
#[derive(Debug)]
pub struct ResponseHead {
    out: Vec<u8>,
    status: u16,
    request: Request,
    content_length: Option<u64>,
    has_date: bool,
    has_server: bool,
    has_connection: bool,
    close: bool,
    may_chunk: bool,
    /// In lower case.
    reserved: &'static [&'static [u8]],
}

impl ResponseHead {
    /// Begins with the status, `200 OK`, at the end of `out`.
    ///
    /// # Errors
    ///
    /// The status is malformed.
    pub fn new(mut out: Vec<u8>, request: Request, status: &[u8]) -> Result<Self, BadResponse> {
        let code = parse_status(status).ok_or(BadResponse::Status)?;
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(status);
        if status.len() == 3 {
            // The space is needed even if there is no reason.
            out.push(b' ');
        }
        out.extend_from_slice(b"\r\n");
        Ok(Self {
            out,
            status: code,
            request,
            content_length: None,
            has_date: false,
            has_server: false,
            has_connection: false,
            close: !request.keep_alive,
            may_chunk: true,
            reserved: &[],
        })
    }

    /// The status, as a number.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// What the headers so far say of the body's length.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// Adds a header. Those that delimit the body are the server's: a Transfer-Encoding is left
    /// out, and a Content-Length where none is allowed.
    ///
    /// # Errors
    ///
    /// It cannot be sent. Nothing of it is written.
    pub fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), BadResponse> {
        check_header(name, value)?;
        if self.reserved.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)) {
            return Err(BadResponse::Reserved);
        }
        let value = value.trim_ascii();
        match name.len() {
            4 => self.has_date |= name.eq_ignore_ascii_case(b"date"),
            6 => self.has_server |= name.eq_ignore_ascii_case(b"server"),
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.has_connection = true;
                let says_close = |element: &[u8]| element.eq_ignore_ascii_case(b"close");
                self.close |= elements(value).any(says_close);
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = parse_length(value).map_err(|_| BadResponse::ContentLength)?;
                if self.content_length.replace(length).is_some() {
                    return Err(BadResponse::ContentLength);
                }
                if !self.may_have_length() {
                    return Ok(());
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => return Ok(()),
            _ => {}
        }
        self.write(name, value);
        Ok(())
    }

    /// Refuses headers of these names from now on.
    pub fn reserve(&mut self, names: &'static [&'static [u8]]) {
        self.reserved = names;
    }

    /// Ends the connection after this response, whatever the request wants.
    pub fn close(&mut self) {
        self.close = true;
    }

    /// Has a body of unknown length end with the connection, even if the client knows chunks.
    pub fn without_chunks(&mut self) {
        self.may_chunk = false;
    }

    /// Whether its status has no body, whatever was asked for.
    #[must_use]
    pub fn is_bodiless(&self) -> bool {
        self.status < 200 && self.status != 101 || self.status == 204 || self.status == 304
    }

    /// Ends the head. `length` is that of the body if it is all there, `date` and `server` are the
    /// values of headers that are added unless they are there.
    ///
    /// Returns `out`, how to deliver the body, and whether the connection can go on after it.
    pub fn finish(
        mut self,
        length: Option<u64>,
        date: Option<&[u8]>,
        server: Option<&[u8]>,
    ) -> (Vec<u8>, Delivery, bool) {
        let is_interim = self.status < 200;
        if let (Some(date), false, false) = (date, self.has_date, is_interim) {
            self.write(b"Date", date);
        }
        if let (Some(server), false, false) = (server, self.has_server, is_interim) {
            self.write(b"Server", server);
        }
        let delivery = self.delimit(length);
        match delivery {
            Delivery::UntilClose => self.close = true,
            Delivery::Upgraded => self.close = false,
            _ => {}
        }
        if !self.has_connection && !is_interim {
            if self.close {
                self.write(b"Connection", b"close");
            } else if self.request.version == Version::Http10 {
                self.write(b"Connection", b"keep-alive");
            }
        }
        self.out.extend_from_slice(b"\r\n");
        (self.out, delivery, !self.close)
    }

    fn delimit(&mut self, length: Option<u64>) -> Delivery {
        if self.status == 101 {
            return Delivery::Upgraded;
        }
        let has_body = !self.request.is_head && self.may_have_length() && self.status != 304;
        if !has_body {
            // A HEAD request is told the length of what it does not get, where that is known.
            if let (None, Some(length)) = (self.content_length, length)
                && self.request.is_head
                && self.may_have_length()
                && length > 0
            {
                self.write_length(length);
            }
            return Delivery::NoBody;
        }
        if let Some(length) = self.content_length {
            return Delivery::Length(length);
        }
        if let Some(length) = length {
            self.write_length(length);
            return Delivery::Length(length);
        }
        if self.request.version == Version::Http10 || !self.may_chunk {
            return Delivery::UntilClose;
        }
        self.write(b"Transfer-Encoding", b"chunked");
        Delivery::Chunked
    }

    /// Whether a Content-Length is allowed at all.
    fn may_have_length(&self) -> bool {
        self.status >= 200 && self.status != 204
    }

    fn write_length(&mut self, length: u64) {
        self.out.extend_from_slice(b"Content-Length: ");
        write_decimal(&mut self.out, length);
        self.out.extend_from_slice(b"\r\n");
    }

    fn write(&mut self, name: &[u8], value: &[u8]) {
        self.out.reserve(name.len() + value.len() + 4);
        self.out.extend_from_slice(name);
        self.out.extend_from_slice(b": ");
        self.out.extend_from_slice(value);
        self.out.extend_from_slice(b"\r\n");
    }
}

/// Whether a header can be sent.
fn check_header(name: &[u8], value: &[u8]) -> Result<(), BadResponse> {
    if name.is_empty() || !name.iter().all(|&byte| is_token_byte(byte)) {
        return Err(BadResponse::HeaderName);
    }
    if !value.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)) {
        return Err(BadResponse::HeaderValue);
    }
    Ok(())
}

/// Writes a header that follows a body in chunks: between the size of the last chunk, `0` CR LF, and
/// the empty line that ends all.
///
/// # Errors
///
/// It cannot be sent, or is of those that a client would have to know before the body. Nothing is
/// written then.
pub fn write_trailer(out: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), BadResponse> {
    check_header(name, value)?;
    if is_forbidden_trailer(name) {
        return Err(BadResponse::Trailer);
    }
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.trim_ascii());
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Writes what precedes a chunk: its size. CR LF follows the chunk.
///
/// # Panics
///
/// The size is 0, which would end the body.
pub fn chunk_size(out: &mut Vec<u8>, size: usize) {
    assert!(size > 0, "a chunk of no data ends the body");
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4);
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[size >> (4 * digit) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the whole response to a request that is refused. The connection has to be closed after
/// it.
pub fn write_refusal(out: &mut Vec<u8>, refusal: Refusal, date: &[u8]) {
    write_error(out, refusal.status(), refusal.text(), date);
}

/// Writes a whole response that tells of an error in a line of text. The connection has to be closed
/// after it.
pub fn write_error(out: &mut Vec<u8>, status: u16, text: &str, date: &[u8]) {
    let written = write!(
        out,
        "HTTP/1.1 {status} {}\r\nDate: {}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{text}\n",
        reason(status),
        String::from_utf8_lossy(date),
        text.len() + 1,
    );
    debug_assert!(written.is_ok(), "a vector takes everything");
}

/// The usual reason of the statuses that a server answers with by itself.
#[must_use]
pub fn reason(status: u16) -> &'static str {
    match status {
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Bad Request",
    }
}

fn parse_status(status: &[u8]) -> Option<u16> {
    let (digits, reason) = status.split_at_checked(3)?;
    if !digits.iter().all(u8::is_ascii_digit) || digits[0] == b'0' {
        return None;
    }
    let is_clean = |&byte: &u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    if !reason.is_empty() && (reason[0] != b' ' || !reason.iter().all(is_clean)) {
        return None;
    }
    Some(digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0')))
}

fn write_decimal(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut rest = number;
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}
