//! permessage-deflate.

mod common;

use common::{
    BINARY, COMPRESSED, FIN, PING, TEXT, agreed, decode_compressed, frame, read, server_frames,
};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use greenloop_websocket::{Decoder, Encoder, Event, Failure, Kind, Windows, negotiate};

/// Compresses as clients do.
fn squeeze(stream: &mut Compress, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(plain.len() * 2 + 100);
    stream.compress_vec(plain, &mut out, FlushCompress::Sync).unwrap();
    assert!(out.ends_with(&[0, 0, 255, 255]));
    out.truncate(out.len() - 4);
    out
}

fn client() -> Compress {
    Compress::new_with_window_bits(Compression::default(), false, 12)
}

fn unsqueeze(stream: &mut Decompress, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    let input = [payload, &[0, 0, 255, 255]].concat();
    stream.decompress_vec(&input, &mut out, FlushDecompress::Sync).unwrap();
    out
}

#[test]
fn offers() {
    let wanted = Windows::default();
    let take = |offer: &str| negotiate(offer, wanted).map(|agreed| agreed.header());
    let plain = "permessage-deflate; server_max_window_bits=12";
    for (offer, answer) in [
        ("permessage-deflate", plain),
        ("Permessage-Deflate", plain),
        ("x-webkit-deflate-frame, permessage-deflate", plain),
        // What is wrong with one offer does not matter to the next.
        ("permessage-deflate; surprise, permessage-deflate", plain),
        ("permessage-deflate; server_max_window_bits=8,permessage-deflate", plain),
        ("permessage-deflate; client_max_window_bits=7, permessage-deflate", plain),
        (
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
        ),
        (
            "permessage-deflate; client_max_window_bits = \"10\" ;server_max_window_bits=9",
            "permessage-deflate; server_max_window_bits=9; client_max_window_bits=10",
        ),
        (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
             server_max_window_bits=12",
        ),
    ] {
        assert_eq!(take(offer).as_deref(), Some(answer), "{offer}");
    }
    for offer in [
        "",
        ",",
        "permessage",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=09",
        "permessage-deflate; server_max_window_bits=\"9",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_max_window_bits; client_max_window_bits",
        "permessage-deflate;",
    ] {
        assert_eq!(take(offer), None, "{offer}");
    }
    let frugal = Windows { server_bits: 15, client_bits: 15, kept: false };
    assert_eq!(
        negotiate("permessage-deflate; client_max_window_bits", frugal).unwrap().header(),
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    );
}

#[test]
fn messages_with_a_window_that_is_kept() {
    let mut stream = client();
    let first = squeeze(&mut stream, b"the same words again and again");
    let second = squeeze(&mut stream, b"the same words again and again");
    assert!(second.len() < first.len());
    let frames = [
        frame(FIN | COMPRESSED | TEXT, &first),
        frame(FIN | TEXT, b"as it is"),
        // Cut anywhere, and only the first fragment says that it is compressed.
        frame(COMPRESSED | BINARY, &second[..2]),
        frame(FIN | PING, b""),
        frame(0, b""),
        frame(FIN, &second[2..]),
        frame(FIN | COMPRESSED | TEXT, &[0]),
    ];
    let words = "the same words again and again";
    let expected = vec![
        Event::Text(words.to_owned()),
        Event::Text("as it is".to_owned()),
        Event::Ping(vec![]),
        Event::Binary(words.into()),
        Event::Text(String::new()),
    ];
    assert_eq!(decode_compressed(&frames), (expected, None));
}

#[test]
fn messages_with_windows_of_their_own() {
    let offer = "permessage-deflate; client_no_context_takeover; server_no_context_takeover";
    let mut decoder = Decoder::new(100, Some(agreed(offer)));
    let mut encoder = Encoder::new(Some(agreed(offer)), 0);
    let mut out = Vec::new();
    for _ in 0..3 {
        let payload = squeeze(&mut client(), b"hello hello hello");
        let input = frame(FIN | COMPRESSED | BINARY, &payload);
        let expected = vec![Event::Binary(b"hello hello hello".to_vec())];
        assert_eq!(read(&mut decoder, &input), (expected, None));
        encoder.message(Kind::Binary, b"hello hello hello", &mut out);
    }
    for (first, payload) in server_frames(&out) {
        assert_eq!(first, FIN | COMPRESSED | BINARY);
        assert_eq!(unsqueeze(&mut Decompress::new(false), &payload), b"hello hello hello");
    }
}

#[test]
fn what_the_rfc_shows() {
    // Section 7.2.3: one block, a shared window, no compression, a final block, two blocks.
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
    let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    let two = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    let payloads: [&[u8]; 5] = [&hello, &again, &stored, &last, &two];
    let frames: Vec<_> =
        payloads.iter().map(|payload| frame(FIN | COMPRESSED | TEXT, payload)).collect();
    let expected = vec![Event::Text("Hello".to_owned()); 5];
    assert_eq!(decode_compressed(&frames), (expected, None));
}

#[test]
fn compressed_data_that_are_none() {
    for payload in [&[0xff_u8; 20][..], &[0x06, 1, 2, 3], b"\x00\x05\x00\xfa\xfeHello"] {
        let (events, failure) = decode_compressed(&[frame(FIN | COMPRESSED | BINARY, payload)]);
        assert_eq!((events, failure.unwrap().code), (vec![], Failure::BAD_DATA), "{payload:?}");
    }
    let (_, failure) = decode_compressed(&[frame(BINARY, b"a"), frame(FIN | COMPRESSED, b"b")]);
    assert_eq!(failure.unwrap().code, Failure::PROTOCOL_ERROR);
    // Text is looked at as it is decompressed.
    let payload = squeeze(&mut client(), b"\xff and more");
    let (_, failure) = decode_compressed(&[frame(COMPRESSED | TEXT, &payload)]);
    assert_eq!(failure.unwrap().code, Failure::BAD_DATA);
}

#[test]
fn the_limit_is_for_what_comes_out() {
    let bomb = squeeze(&mut client(), &vec![0; 50_000_000]);
    assert!(bomb.len() < 100_000);
    let offer = agreed("permessage-deflate");
    let mut decoder = Decoder::new(1_000_000, Some(offer));
    let (events, failure) = read(&mut decoder, &frame(FIN | COMPRESSED | BINARY, &bomb));
    assert_eq!((events, failure.unwrap().code), (vec![], Failure::TOO_BIG));

    for (size, fits) in [(999, true), (1000, true), (1001, false)] {
        let mut decoder = Decoder::new(1000, Some(offer));
        let payload = squeeze(&mut client(), &vec![7; size]);
        let (events, failure) = read(&mut decoder, &frame(FIN | COMPRESSED | BINARY, &payload));
        assert_eq!((events.len(), failure.is_none()), (usize::from(fits), fits), "{size}");
    }
}

#[test]
fn what_is_sent() {
    let mut encoder = Encoder::new(Some(agreed("permessage-deflate")), 10);
    let mut out = Vec::new();
    let long: Vec<u8> = (0..300_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
    encoder.message(Kind::Text, b"short", &mut out);
    encoder.message(Kind::Text, &[b'x'; 100], &mut out);
    encoder.message(Kind::Binary, &long, &mut out);
    encoder.message(Kind::Text, &[b'x'; 100], &mut out);
    let frames = server_frames(&out);
    let mut stream = Decompress::new_with_window_bits(false, 12);
    assert_eq!(frames[0], (FIN | TEXT, b"short".to_vec()));
    assert_eq!(frames[1].0, FIN | COMPRESSED | TEXT);
    assert_eq!(unsqueeze(&mut stream, &frames[1].1), [b'x'; 100]);
    assert!(frames[1].1.len() < 20);
    let mut plain = Vec::with_capacity(long.len() + 1);
    let input = [&frames[2].1[..], &[0, 0, 255, 255]].concat();
    stream.decompress_vec(&input, &mut plain, FlushDecompress::Sync).unwrap();
    assert!(plain == long);
    assert_eq!(unsqueeze(&mut stream, &frames[3].1), [b'x'; 100]);

    let mut always = Encoder::new(Some(agreed("permessage-deflate")), 0);
    let mut out = Vec::new();
    always.message(Kind::Text, b"", &mut out);
    let frames = server_frames(&out);
    assert_eq!(unsqueeze(&mut Decompress::new(false), &frames[0].1), b"");
    assert!(!frames[0].1.is_empty());
}
