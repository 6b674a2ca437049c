//! What the tests read requests with.
#![allow(dead_code, reason = "each test uses some of it")]

use greenloop_http1::{BodyDecoder, BodyLength, Head, HeadScanner, Limits, Refusal, Version};

/// A request, with its body, as a server would see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub version: Version,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    pub length: BodyLength,
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
    pub keep_alive: bool,
}

/// What came of the bytes of a connection: the requests, and then what ended it, if anything did.
pub type Outcome = (Vec<Seen>, Option<Refusal>);

/// Reads all requests, the bytes coming in pieces of these sizes (the last size again and again).
pub fn read_in_pieces(bytes: &[u8], sizes: &[usize], limits: &Limits) -> Outcome {
    let mut connection = Reader { limits: *limits, ..Reader::default() };
    let mut rest = bytes;
    let mut sizes = sizes.iter().copied().peekable();
    let mut size = bytes.len().max(1);
    while !rest.is_empty() {
        size = sizes.next().unwrap_or(size).max(1);
        let (piece, left) = rest.split_at(size.min(rest.len()));
        rest = left;
        if let Err(refusal) = connection.feed(piece) {
            return (connection.seen, Some(refusal));
        }
    }
    (connection.seen, None)
}

pub fn read(bytes: &[u8]) -> Outcome {
    read_in_pieces(bytes, &[], &Limits::default())
}

/// The refusal of the first request.
#[track_caller]
pub fn refusal(bytes: &[u8]) -> Refusal {
    match read(bytes) {
        (seen, Some(refusal)) if seen.is_empty() => refusal,
        other => {
            panic!("expected a refusal of {:?}, got {other:?}", bytes.escape_ascii().to_string())
        }
    }
}

/// The only request.
#[track_caller]
pub fn accepted(bytes: &[u8]) -> Seen {
    match read(bytes) {
        (mut seen, None) if seen.len() == 1 => seen.remove(0),
        other => panic!("expected one request, got {other:?}"),
    }
}

#[derive(Default)]
struct Reader {
    limits: Limits,
    buffer: Vec<u8>,
    scanner: HeadScanner,
    current: Option<(Seen, BodyDecoder)>,
    seen: Vec<Seen>,
}

impl Reader {
    fn feed(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        self.buffer.extend_from_slice(piece);
        loop {
            if self.current.is_none() {
                let Some(span) = self.scanner.find_end(&self.buffer, &self.limits)? else {
                    return Ok(());
                };
                let head = Head::parse(&self.buffer, span, &self.limits)?;
                let seen = Seen {
                    method: head.method.to_owned(),
                    target: head.target.raw.to_owned(),
                    version: head.version,
                    headers: head
                        .headers
                        .iter()
                        .map(|header| (header.name.to_owned(), header.value.to_vec()))
                        .collect(),
                    body: Vec::new(),
                    length: head.body,
                    trailers: Vec::new(),
                    keep_alive: head.keep_alive,
                };
                self.current = Some((seen, BodyDecoder::new(head.body, &self.limits)));
                self.scanner = HeadScanner::new();
                self.buffer.drain(..span.end);
            }
            let Some((seen, decoder)) = &mut self.current else { continue };
            while !decoder.is_finished() {
                let decoded = decoder.decode(&self.buffer)?;
                seen.body.extend_from_slice(decoded.data);
                let is_exhausted = decoded.data.is_empty() && !decoder.is_finished();
                let consumed = decoded.consumed;
                self.buffer.drain(..consumed);
                if is_exhausted {
                    assert!(self.buffer.is_empty(), "input is left, and nothing came of it");
                    return Ok(());
                }
            }
            assert_eq!(decoder.total(), seen.body.len() as u64);
            seen.trailers =
                decoder.trailers().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
            self.seen.extend(self.current.take().map(|(seen, _)| seen));
        }
    }
}
