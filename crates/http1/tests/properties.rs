//! What holds for every input.

mod common;

use common::{Outcome, read, read_in_pieces};
use greenloop_http1::{Delivery, Limits, Request, ResponseHead, Version, chunk_size};
use proptest::collection::vec;
use proptest::prelude::*;

/// Small enough to be met.
const TIGHT: Limits = Limits {
    request_line: 64,
    header: 48,
    head: 160,
    headers: 5,
    body: 64,
    chunk_extensions: 16,
    trailers: 32,
};

/// Bytes that look like requests, and then something is wrong with them.
fn nearly_requests() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just("GET"),
        Just("POST"),
        Just("CONNECT"),
        Just("OPTIONS"),
        Just(" "),
        Just(" /"),
        Just(" *"),
        Just(" http://h/"),
        Just(" HTTP/1.1\r\n"),
        Just(" HTTP/1.0\r\n"),
        Just(" HTTP/2.0\r\n"),
        Just("Host: a\r\n"),
        Just("Content-Length: 3\r\n"),
        Just("Content-Length: 70\r\n"),
        Just("Transfer-Encoding: chunked\r\n"),
        Just("Transfer-Encoding: gzip, chunked\r\n"),
        Just("Connection: close\r\n"),
        Just("Expect: 100-continue\r\n"),
        Just("X : y\r\n"),
        Just("X: y\r\n"),
        Just(" fold\r\n"),
        Just("\r\n"),
        Just("\r\n"),
        Just("\n"),
        Just("\r"),
        Just("3\r\nabc\r\n"),
        Just("0\r\n\r\n"),
        Just("0\r\nX: y\r\n\r\n"),
        Just("1;ext\r\na\r\n"),
        Just("abc"),
        Just("\0"),
        Just(":"),
        Just("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        Just("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Just("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"),
    ];
    let mutation = (any::<prop::sample::Index>(), any::<u8>());
    (vec(part, 0..12), vec(mutation, 0..2)).prop_map(|(parts, mutations)| {
        let mut bytes = parts.concat().into_bytes();
        for (index, byte) in mutations {
            if !bytes.is_empty() {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
        }
        bytes
    })
}

fn token() -> impl Strategy<Value = String> {
    "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}"
}

fn header_value() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![0x20..0x7fu8, 0x80..=0xffu8, Just(b'\t')], 0..20)
        .prop_map(|value| value.trim_ascii().to_vec())
}

proptest! {
    /// However the bytes are cut, the same comes of them.
    #[test]
    fn pieces_do_not_matter(
        bytes in nearly_requests(),
        sizes in vec(1..9usize, 0..20),
        tight in any::<bool>(),
    ) {
        let limits = if tight { TIGHT } else { Limits::default() };
        let whole = read_in_pieces(&bytes, &[], &limits);
        prop_assert_eq!(&whole, &read_in_pieces(&bytes, &[1], &limits));
        prop_assert_eq!(&whole, &read_in_pieces(&bytes, &sizes, &limits));
    }

    /// Any bytes at all end in requests or a refusal.
    #[test]
    fn no_bytes_are_a_problem(bytes in vec(any::<u8>(), 0..200)) {
        let _: Outcome = read(&bytes);
    }

    /// What is written as a request is read as that request.
    #[test]
    fn requests_come_back(
        method in token().prop_filter("has a target of its own", |method| method != "CONNECT"),
        path in "/[!-\"$-~]{0,30}",
        headers in vec((token(), header_value()), 0..20),
        body in vec(any::<u8>(), 0..50),
        cuts in vec(1..20usize, 0..5),
        chunked in any::<bool>(),
    ) {
        const MEANT: &[&str] =
            &["host", "expect", "upgrade", "connection", "content-length", "transfer-encoding"];
        let is_meant = |name: &str| MEANT.iter().any(|other| name.eq_ignore_ascii_case(other));
        prop_assume!(!headers.iter().any(|(name, _)| is_meant(name)));
        let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n").into_bytes();
        for (name, value) in &headers {
            bytes.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        if chunked {
            bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            let mut rest = &body[..];
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (chunk, left) = rest.split_at(cut.min(rest.len()));
                rest = left;
                if !chunk.is_empty() {
                    chunk_size(&mut bytes, chunk.len());
                    bytes.extend_from_slice(chunk);
                    bytes.extend_from_slice(b"\r\n");
                }
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        } else {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
            bytes.extend_from_slice(&body);
        }
        let (seen, refusal) = read(&bytes);
        prop_assert_eq!(refusal, None);
        prop_assert_eq!(seen.len(), 1);
        prop_assert_eq!(&seen[0].method, &method);
        prop_assert_eq!(&seen[0].target, &path);
        prop_assert_eq!(&seen[0].body, &body);
        prop_assert_eq!(&seen[0].headers[1..=headers.len()], &headers[..]);
    }

    /// Whatever an application gives, the client sees the headers it gave, and no others.
    #[test]
    fn responses_cannot_be_split(
        status in vec(any::<u8>(), 0..12),
        headers in vec((vec(any::<u8>(), 0..8), vec(any::<u8>(), 0..16)), 0..5),
        is_head in any::<bool>(),
        keep_alive in any::<bool>(),
        length in any::<Option<u64>>(),
    ) {
        let request = Request { version: Version::Http11, is_head, keep_alive };
        let status = if status.len() < 3 { b"200 OK".to_vec() } else { status };
        let Ok(mut head) = ResponseHead::new(Vec::new(), request, &status) else {
            return Ok(());
        };
        let taken: Vec<_> =
            headers.iter().filter(|(name, value)| head.header(name, value).is_ok()).collect();
        let (out, delivery, _) = head.finish(length, None, None);
        let mut slots = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut slots);
        let parsed = response.parse(&out);
        prop_assert_eq!(parsed, Ok(httparse::Status::Complete(out.len())));
        for ((name, value), seen) in taken.iter().zip(response.headers.iter()) {
            prop_assert_eq!(&name[..], seen.name.as_bytes());
            prop_assert_eq!(value.trim_ascii(), seen.value);
        }
        let is_chunked =
            response.headers.iter().any(|header| header.name == "Transfer-Encoding");
        prop_assert_eq!(is_chunked, delivery == Delivery::Chunked);
    }
}
