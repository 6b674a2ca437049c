//! A body in chunks that is taken means the same to a second, simple decoder.

use greenloop_http1::{BodyDecoder, BodyLength, Limits};

/// Splits off a line.
fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n").expect("a line ends");
    (&bytes[..end], &bytes[end + 2..])
}

/// The data of a body that is well-formed, and what follows it.
fn simply(mut bytes: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut data = Vec::new();
    loop {
        let (first, rest) = line(bytes);
        let size = first.split(|&byte| byte == b';').next().expect("a size");
        let size = str::from_utf8(size).expect("digits");
        let size = usize::from_str_radix(size, 16).expect("a number");
        bytes = rest;
        if size == 0 {
            break;
        }
        data.extend_from_slice(&bytes[..size]);
        assert_eq!(&bytes[size..size + 2], b"\r\n");
        bytes = &bytes[size + 2..];
    }
    loop {
        let (trailer, rest) = line(bytes);
        bytes = rest;
        if trailer.is_empty() {
            return (data, bytes);
        }
    }
}

pub fn check(input: &[u8]) {
    let mut decoder = BodyDecoder::new(BodyLength::Chunked, &Limits::default());
    let mut data = Vec::new();
    let mut rest = input;
    while !decoder.is_finished() {
        let Ok(decoded) = decoder.decode(rest) else { return };
        rest = &rest[decoded.consumed..];
        if decoded.data.is_empty() && !decoder.is_finished() {
            assert!(rest.is_empty(), "input is left, and nothing came of it");
            return;
        }
        data.extend_from_slice(decoded.data);
    }
    let (expected, left) = simply(input);
    assert_eq!(data, expected);
    assert_eq!(rest, left);
    for (name, value) in decoder.trailers() {
        assert!(!name.is_empty());
        assert!(!value.contains(&b'\n'));
    }
}
