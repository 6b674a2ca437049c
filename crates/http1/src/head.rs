//! The head of a request: its line, its headers, and what follows from them.

use crate::authority::is_authority;
use crate::scan::{HeadSpan, is_token_byte};
use crate::{Limits, Refusal, Target};
use std::mem::MaybeUninit;

/// How many headers fit without memory of the heap for them.
const FEW_HEADERS: usize = 32;

/// A header: its name as it was sent, its value without the space around it.
pub type Header<'b> = httparse::Header<'b>;

/// The version of a request. Other minor versions of HTTP/1 do not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How a request's body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// So many bytes; 0 also where no length is given.
    Fixed(u64),
    /// Chunks.
    Chunked,
}

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head<'b> {
    /// A token, in the case it was sent in.
    pub method: &'b str,
    /// What is asked for.
    pub target: Target<'b>,
    /// HTTP/1.0 or 1.1.
    pub version: Version,
    /// All headers, in the order they came in.
    pub headers: Vec<Header<'b>>,
    /// The host that is asked, with its port if given: of the target, if that has one, as RFC 9112
    /// demands, and of the header Host otherwise. Empty if the client says that it has none, `None`
    /// if it says nothing, which only HTTP/1.0 may.
    pub host: Option<&'b [u8]>,
    /// How the body is delimited.
    pub body: BodyLength,
    /// Whether a length was given, be it 0.
    pub has_length: bool,
    /// Whether the client wants to go on with the connection.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// The protocols that the client would like to change to.
    pub upgrade: Option<&'b [u8]>,
}

impl<'b> Head<'b> {
    /// Makes sense of the head that a scanner has found in `bytes`.
    ///
    /// # Errors
    ///
    /// It is malformed, ambiguous, or asks for what is not supported; see the crate's page.
    pub fn parse(bytes: &'b [u8], span: HeadSpan, limits: &Limits) -> Result<Self, Refusal> {
        let bytes = &bytes[span.start..span.end];
        let mut few = [const { MaybeUninit::uninit() }; FEW_HEADERS];
        let mut many = Vec::new();
        let slots = if span.headers <= FEW_HEADERS {
            &mut few[..]
        } else {
            many.resize_with(span.headers, MaybeUninit::uninit);
            &mut many[..]
        };
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(bytes, slots) {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
            // It ends elsewhere for httparse, which takes lines that end with LF alone: the scanner
            // has refused those, so there are none.
            Ok(_) => return Err(Refusal::NotHttp),
            Err(error) => return Err(explain(error, bytes)),
        }
        let (Some(method), Some(target), Some(minor)) =
            (request.method, request.path, request.version)
        else {
            return Err(Refusal::NotHttp);
        };
        let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
        let mut head = Self {
            method,
            target: Target::parse(method, target)?,
            version,
            headers: request.headers.to_vec(),
            host: None,
            body: BodyLength::Fixed(0),
            has_length: false,
            keep_alive: version == Version::Http11,
            expects_continue: false,
            upgrade: None,
        };
        head.look_at_headers(limits)?;
        Ok(head)
    }

    /// The values of all headers of a name, in order.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    }

    /// Whether the client speaks of another protocol at all: also in ways that are no complete offer
    /// to change to it.
    #[must_use]
    pub fn wants_upgrade(&self) -> bool {
        self.headers.iter().any(|header| match header.name.len() {
            7 => header.name.eq_ignore_ascii_case("upgrade"),
            10 if header.name.eq_ignore_ascii_case("connection") => {
                elements(header.value).any(|token| token.eq_ignore_ascii_case(b"upgrade"))
            }
            _ => false,
        })
    }

    fn look_at_headers(&mut self, limits: &Limits) -> Result<(), Refusal> {
        let mut length = None;
        let mut coding: Option<&[u8]> = None;
        let mut host = None;
        let mut upgrade = None;
        let mut connection = Connection::default();
        for header in &self.headers {
            let (name, value) = (header.name, header.value);
            // The lengths first: most headers are none of these.
            match name.len() {
                4 if name.eq_ignore_ascii_case("host") => {
                    set_once(&mut host, value, Refusal::HostRepeated)?;
                }
                6 if name.eq_ignore_ascii_case("expect") => {
                    if !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(Refusal::Expectation);
                    }
                    self.expects_continue = true;
                }
                7 if name.eq_ignore_ascii_case("upgrade") => upgrade = upgrade.or(Some(value)),
                10 if name.eq_ignore_ascii_case("connection") => connection.add(value),
                14 if name.eq_ignore_ascii_case("content-length") => {
                    set_once(&mut length, value, Refusal::ContentLengthRepeated)?;
                }
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    // A list over two lines: nobody has a reason to send it.
                    set_once(&mut coding, value, Refusal::TransferEncoding)?;
                }
                _ => {}
            }
        }
        self.host = self.check_host(host)?;
        (self.body, self.has_length) = self.body_length(length, coding, limits)?;
        match self.version {
            Version::Http11 => {
                self.keep_alive = !connection.close;
                self.upgrade = upgrade.filter(|_| connection.upgrade);
                self.expects_continue &= self.body != BodyLength::Fixed(0);
            }
            Version::Http10 => {
                self.keep_alive = connection.keep_alive && !connection.close;
                self.expects_continue = false;
            }
        }
        Ok(())
    }

    fn check_host(&self, host: Option<&'b [u8]>) -> Result<Option<&'b [u8]>, Refusal> {
        match host {
            None if self.version == Version::Http11 => return Err(Refusal::HostMissing),
            Some(host) if !host.is_empty() && !is_authority(host) => {
                return Err(Refusal::HostInvalid);
            }
            _ => {}
        }
        Ok(self.target.authority.map(str::as_bytes).or(host))
    }

    fn body_length(
        &self,
        length: Option<&[u8]>,
        coding: Option<&[u8]>,
        limits: &Limits,
    ) -> Result<(BodyLength, bool), Refusal> {
        match (length, coding) {
            (Some(_), Some(_)) => Err(Refusal::TwoLengths),
            (None, None) => Ok((BodyLength::Fixed(0), false)),
            (Some(text), None) => {
                let length = parse_length(text)?;
                if length > limits.body {
                    return Err(Refusal::BodyTooLarge);
                }
                Ok((BodyLength::Fixed(length), true))
            }
            (None, Some(_)) if self.version == Version::Http10 => {
                Err(Refusal::TransferEncodingTooOld)
            }
            (None, Some(text)) => {
                check_coding(text)?;
                Ok((BodyLength::Chunked, true))
            }
        }
    }
}

fn set_once<'b>(
    slot: &mut Option<&'b [u8]>,
    value: &'b [u8],
    refusal: Refusal,
) -> Result<(), Refusal> {
    if slot.replace(value).is_some() { Err(refusal) } else { Ok(()) }
}

/// What the headers Connection say, all of them together.
#[derive(Default)]
struct Connection {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

impl Connection {
    fn add(&mut self, value: &[u8]) {
        for token in elements(value) {
            self.close |= token.eq_ignore_ascii_case(b"close");
            self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade |= token.eq_ignore_ascii_case(b"upgrade");
        }
    }
}

/// The elements of a list that is separated by commas, without the space around them.
pub fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// The value of a Content-Length: digits, and nothing else.
pub fn parse_length(text: &[u8]) -> Result<u64, Refusal> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::ContentLength);
    }
    let mut length: u64 = 0;
    for digit in text {
        length = length
            .checked_mul(10)
            .and_then(|length| length.checked_add(u64::from(digit - b'0')))
            .ok_or(Refusal::BodyTooLarge)?;
    }
    Ok(length)
}

fn check_coding(text: &[u8]) -> Result<(), Refusal> {
    if text.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    // One that ends as it should but has other codings before that is one that could be supported.
    let codings: Vec<&[u8]> = text.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).collect();
    let is_chunked = |coding: &&[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let is_sound = codings.len() > 1
        && codings.last().is_some_and(is_chunked)
        && codings.iter().filter(|coding| is_chunked(coding)).count() == 1
        && codings
            .iter()
            .all(|coding| !coding.is_empty() && coding.iter().all(|&byte| is_token_byte(byte)));
    Err(if is_sound { Refusal::TransferEncodingUnknown } else { Refusal::TransferEncoding })
}

/// What exactly is wrong with a head that httparse refuses.
#[cold]
fn explain(error: httparse::Error, bytes: &[u8]) -> Refusal {
    let mut lines = bytes.split(|&byte| byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let first = first.strip_suffix(b"\r").unwrap_or(first);
    match explain_request_line(first) {
        Some(refusal) => return refusal,
        None if matches!(error, httparse::Error::Version) => return Refusal::Version,
        None => {}
    }
    for line in lines {
        if let Some(refusal) = explain_header(line.strip_suffix(b"\r").unwrap_or(line)) {
            return refusal;
        }
    }
    Refusal::NotHttp
}

/// What is wrong with a request line, if anything is.
pub fn explain_request_line(line: &[u8]) -> Option<Refusal> {
    if line.contains(&b'\r') {
        return Some(Refusal::BareCarriageReturn);
    }
    let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let &[method, target, version] = &words[..] else {
        return Some(Refusal::NotHttp);
    };
    if method.is_empty() || !method.iter().all(|&byte| is_token_byte(byte)) {
        return Some(Refusal::Method);
    }
    let is_version = version.len() == 8
        && version.starts_with(b"HTTP/")
        && version[5].is_ascii_digit()
        && version[6] == b'.'
        && version[7].is_ascii_digit();
    if !is_version {
        return Some(Refusal::NotHttp);
    }
    if version != b"HTTP/1.1" && version != b"HTTP/1.0" {
        return Some(Refusal::Version);
    }
    let is_target = !target.is_empty()
        && target.iter().all(|&byte| byte > b' ' && byte != 0x7f)
        && str::from_utf8(target).is_ok();
    if is_target { None } else { Some(Refusal::Target) }
}

/// What is wrong with a header or trailer, if anything is.
pub fn explain_header(line: &[u8]) -> Option<Refusal> {
    if line.is_empty() {
        return None;
    }
    if line.contains(&b'\r') {
        return Some(Refusal::BareCarriageReturn);
    }
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return Some(Refusal::FoldedHeader);
    }
    let Some(colon) = line.iter().position(|&byte| byte == b':') else {
        return Some(Refusal::HeaderName);
    };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(|&byte| is_token_byte(byte)) {
        let is_spaced = name.trim_ascii_end();
        let is_spaced = is_spaced.len() < name.len()
            && !is_spaced.is_empty()
            && is_spaced.iter().all(|&byte| is_token_byte(byte));
        return Some(if is_spaced { Refusal::SpaceBeforeColon } else { Refusal::HeaderName });
    }
    let is_clean = |&byte: &u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    if value.iter().all(is_clean) { None } else { Some(Refusal::HeaderValue) }
}
