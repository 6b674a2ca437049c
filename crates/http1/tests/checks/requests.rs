//! Whatever a client sends, and however it is cut: the same requests come of it, or the same
//! refusal. The first byte says how large the pieces are.

use greenloop_http1::{BodyDecoder, Head, HeadScanner, Limits, Refusal};

/// Small enough for the fuzzer to meet them.
const LIMITS: Limits = Limits {
    request_line: 64,
    header: 64,
    head: 256,
    headers: 8,
    body: 256,
    chunk_extensions: 32,
    trailers: 64,
};

#[derive(Debug, PartialEq)]
struct Seen {
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    keep_alive: bool,
    body: Vec<u8>,
}

fn read(bytes: &[u8], size: usize) -> (Vec<Seen>, Option<Refusal>) {
    let mut all = Vec::new();
    let mut buffer = Vec::new();
    let mut scanner = HeadScanner::new();
    let mut current: Option<(Seen, BodyDecoder)> = None;
    for piece in bytes.chunks(size) {
        buffer.extend_from_slice(piece);
        if let Err(refusal) = go_on(&mut buffer, &mut scanner, &mut current, &mut all) {
            return (all, Some(refusal));
        }
    }
    (all, None)
}

fn go_on(
    buffer: &mut Vec<u8>,
    scanner: &mut HeadScanner,
    current: &mut Option<(Seen, BodyDecoder)>,
    all: &mut Vec<Seen>,
) -> Result<(), Refusal> {
    loop {
        if current.is_none() {
            let Some(span) = scanner.find_end(buffer, &LIMITS)? else { return Ok(()) };
            let head = Head::parse(buffer, span, &LIMITS)?;
            let headers = head.headers.iter();
            let seen = Seen {
                method: head.method.to_owned(),
                target: head.target.raw.to_owned(),
                headers: headers.map(|h| (h.name.to_owned(), h.value.to_vec())).collect(),
                keep_alive: head.keep_alive,
                body: Vec::new(),
            };
            *current = Some((seen, BodyDecoder::new(head.body, &LIMITS)));
            *scanner = HeadScanner::new();
            buffer.drain(..span.end);
        }
        let Some((seen, decoder)) = current else { continue };
        while !decoder.is_finished() {
            let decoded = decoder.decode(buffer)?;
            seen.body.extend_from_slice(decoded.data);
            let (consumed, nothing) = (decoded.consumed, decoded.data.is_empty());
            buffer.drain(..consumed);
            if nothing && !decoder.is_finished() {
                assert!(buffer.is_empty(), "input is left, and nothing came of it");
                return Ok(());
            }
        }
        assert!(seen.body.len() as u64 <= LIMITS.body);
        all.extend(current.take().map(|(seen, _)| seen));
    }
}

pub fn check(data: &[u8]) {
    let Some((&size, bytes)) = data.split_first() else { return };
    let whole = read(bytes, bytes.len().max(1));
    assert_eq!(whole, read(bytes, usize::from(size).max(1)));
}
