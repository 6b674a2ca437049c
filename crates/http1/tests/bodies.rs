//! Bodies in chunks.

mod common;

use common::{read, read_in_pieces};
use greenloop_http1::{BodyDecoder, BodyLength, Limits, Refusal};

const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

fn outcome(body: &[u8]) -> Result<Vec<u8>, Option<Refusal>> {
    let (seen, refusal) = read(&[HEAD, body].concat());
    match (seen.into_iter().next(), refusal) {
        (Some(seen), None) => Ok(seen.body),
        (_, refusal) => Err(refusal),
    }
}

#[test]
fn chunks() {
    assert_eq!(outcome(b"0\r\n\r\n"), Ok(vec![]));
    assert_eq!(outcome(b"1\r\na\r\n0\r\n\r\n"), Ok(b"a".to_vec()));
    assert_eq!(
        outcome(b"000A\r\n0123456789\r\n1;x=\"y\"\r\nz\r\n00\r\n\r\n"),
        Ok(b"0123456789z".to_vec())
    );
    assert_eq!(outcome(b"1\r\n\n\r\n0;last\r\n\r\n"), Ok(b"\n".to_vec()));
    // Not complete.
    for body in [&b""[..], b"1", b"1\r", b"1\r\n", b"1\r\na", b"1\r\na\r\n", b"0\r\n", b"0\r\n\r"] {
        assert_eq!(outcome(body), Err(None), "{:?}", body.escape_ascii().to_string());
    }
}

#[test]
fn malformed_chunks() {
    for (body, expected) in [
        (&b"\r\n"[..], Refusal::ChunkSize),
        (b"x\r\n", Refusal::ChunkSize),
        (b"0x1\r\na\r\n", Refusal::ChunkSize),
        (b"+1\r\na\r\n", Refusal::ChunkSize),
        (b"-1\r\na\r\n", Refusal::ChunkSize),
        (b"1_0\r\n", Refusal::ChunkSize),
        (b" 1\r\na\r\n", Refusal::ChunkSize),
        (b"1 \r\na\r\n", Refusal::ChunkSize),
        (b"1 ;x\r\na\r\n", Refusal::ChunkSize),
        (b"1\t\r\na\r\n", Refusal::ChunkSize),
        (b"1g\r\n", Refusal::ChunkSize),
        (b"1,2\r\n", Refusal::ChunkSize),
        (b";x\r\n", Refusal::ChunkSize),
        (b"00000000000000001\r\n", Refusal::ChunkSize),
        (b"1\na\r\n", Refusal::BareLineFeed),
        (b"1;x\na\r\n", Refusal::BareLineFeed),
        (b"1\ra", Refusal::BareCarriageReturn),
        (b"1;x\rx\r\n", Refusal::BareCarriageReturn),
        (b"1;\0\r\n", Refusal::ChunkExtension),
        (b"1;\x7f\r\n", Refusal::ChunkExtension),
        (b"1;\r\n", Refusal::ChunkExtension),
        (b"1;a;\r\n", Refusal::ChunkExtension),
        (b"1;=b\r\n", Refusal::ChunkExtension),
        (b"1;a=\r\n", Refusal::ChunkExtension),
        (b"1;a=b=c\r\n", Refusal::ChunkExtension),
        (b"1; a\r\n", Refusal::ChunkExtension),
        (b"1;a \r\n", Refusal::ChunkExtension),
        (b"1;a\x80\r\n", Refusal::ChunkExtension),
        (b"1;a=\"b\r\n", Refusal::ChunkExtension),
        (b"1;a=\"b\\\"\r\n", Refusal::ChunkExtension),
        (b"1;a=\"b\\\r\n", Refusal::ChunkExtension),
        (b"1;a=\"b\"c\r\n", Refusal::ChunkExtension),
        (b"1\r\nab\r\n", Refusal::ChunkEnd),
        (b"1\r\na\n", Refusal::ChunkEnd),
        (b"1\r\na\rb", Refusal::ChunkEnd),
        (b"2\r\na\r\n0\r\n\r\n", Refusal::ChunkEnd),
        (b"0\r\n\n", Refusal::BareLineFeed),
        (b"0\r\nA: b\n\r\n", Refusal::BareLineFeed),
        (b"0\r\nA\r\n\r\n", Refusal::Trailer),
        (b"0\r\nA : b\r\n\r\n", Refusal::Trailer),
        (b"0\r\nA: \0\r\n\r\n", Refusal::Trailer),
        (b"0\r\n A: b\r\n\r\n", Refusal::FoldedHeader),
        (b"0\r\nA: b\r\n c\r\n\r\n", Refusal::FoldedHeader),
        (b"0\r\nA: b\rc\r\n\r\n", Refusal::BareCarriageReturn),
        (b"0\r\ncontent-length: 5\r\n\r\n", Refusal::TrailerForbidden),
        (b"0\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::TrailerForbidden),
        (b"0\r\nHost: b\r\n\r\n", Refusal::TrailerForbidden),
    ] {
        assert_eq!(outcome(body), Err(Some(expected)), "{:?}", body.escape_ascii().to_string());
    }
    // As large as it can be said, and far over the limit of a body.
    let limits = Limits { body: 1 << 40, ..Limits::default() };
    let huge = [HEAD, b"ffffffffffffffff\r\n"].concat();
    assert_eq!(read_in_pieces(&huge, &[], &limits).1, Some(Refusal::BodyTooLarge));
}

#[test]
fn trailers() {
    let body = b"1\r\na\r\n0\r\nX-Sum:  1 \r\nX-Sum: 2\r\n\r\n";
    let (seen, refusal) = read(&[HEAD, &body[..]].concat());
    assert_eq!(refusal, None);
    let expected = [(b"X-Sum".to_vec(), b"1".to_vec()), (b"X-Sum".to_vec(), b"2".to_vec())];
    assert_eq!(seen[0].trailers, expected);
    let mut decoder = BodyDecoder::new(BodyLength::Chunked, &Limits::default());
    decoder.decode(b"0\r\nA: b\r\n").expect("fine");
    assert_eq!(decoder.trailers().count(), 0);
}

#[test]
fn limits_of_what_surrounds_chunks() {
    let limits = Limits { chunk_extensions: 10, trailers: 12, headers: 4, ..Limits::default() };
    let refusal = |body: &[u8]| read_in_pieces(&[HEAD, body].concat(), &[1], &limits).1;
    assert_eq!(refusal(b"1;3456\r\na\r\n1;890\r\n"), None);
    assert_eq!(refusal(b"1;34567\r\na\r\n1;9012\r\n"), Some(Refusal::ChunkExtensionsTooLong));
    assert_eq!(refusal(b"0\r\nA: 45678901\r\n"), Some(Refusal::TrailersTooLarge));
    assert_eq!(refusal(b"0\r\nA: 4567890\r\n\r\n"), None);
    let limits = Limits { headers: 3, ..Limits::default() };
    let many = [HEAD, b"0\r\nA: 1\r\nA: 2\r\nA: 3\r\nA: 4\r\n"].concat();
    assert_eq!(read_in_pieces(&many, &[], &limits).1, Some(Refusal::TooManyHeaders));
}

#[test]
fn data_can_be_received_past_the_decoder() {
    let mut decoder = BodyDecoder::new(BodyLength::Chunked, &Limits::default());
    assert_eq!(decoder.contiguous(), 0);
    let decoded = decoder.decode(b"5\r\n").expect("fine");
    assert_eq!((decoded.consumed, decoded.data), (3, &b""[..]));
    assert_eq!(decoder.contiguous(), 5);
    decoder.skip(4);
    let decoded = decoder.decode(b"e\r\n0\r\n\r\nGET").expect("fine");
    assert_eq!((decoded.consumed, decoded.data), (1, &b"e"[..]));
    let decoded = decoder.decode(b"\r\n0\r\n\r\nGET").expect("fine");
    assert_eq!((decoded.consumed, decoded.data), (7, &b""[..]));
    assert!(decoder.is_finished());
    assert_eq!(decoder.total(), 5);
}

#[test]
#[should_panic(expected = "more than the data that comes next")]
fn no_more_is_received_past_the_decoder_than_comes() {
    BodyDecoder::new(BodyLength::Fixed(3), &Limits::default()).skip(4);
}
