//! What servers write, without compression.

mod common;

use common::{BINARY, CLOSE, FIN, PING, PONG, TEXT, server_frames};
use greenloop_websocket::{Close, Encoder, Kind};

#[test]
fn lengths_take_as_few_bytes_as_they_can() {
    for (size, head) in [
        (0, vec![FIN | BINARY, 0]),
        (125, vec![FIN | BINARY, 125]),
        (126, vec![FIN | BINARY, 126, 0, 126]),
        (65_535, vec![FIN | BINARY, 126, 255, 255]),
        (65_536, vec![FIN | BINARY, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let payload = vec![9; size];
        let mut out = Vec::new();
        Encoder::new(None, 0).message(Kind::Binary, &payload, &mut out);
        assert_eq!(out[..head.len()], head);
        assert_eq!(out[head.len()..], payload);
    }
}

#[test]
fn frames_follow_one_another() {
    let mut out = Vec::new();
    Encoder::new(None, 0).message(Kind::Text, "grün".as_bytes(), &mut out);
    assert!(Encoder::ping(b"?", &mut out));
    assert!(Encoder::pong(&[1; 125], &mut out));
    assert!(Encoder::close(Some(&Close { code: 1001, reason: "going".to_owned() }), &mut out));
    assert!(Encoder::close(None, &mut out));
    let expected = vec![
        (FIN | TEXT, "grün".as_bytes().to_vec()),
        (FIN | PING, b"?".to_vec()),
        (FIN | PONG, vec![1; 125]),
        (FIN | CLOSE, b"\x03\xe9going".to_vec()),
        (FIN | CLOSE, vec![]),
    ];
    assert_eq!(server_frames(&out), expected);
}

#[test]
fn what_must_not_be_sent_is_not() {
    let mut out = Vec::new();
    assert!(!Encoder::ping(&[0; 126], &mut out));
    assert!(!Encoder::pong(&[0; 126], &mut out));
    for code in [0, 1005, 1006, 1015, 5000] {
        assert!(!Encoder::close(Some(&Close { code, reason: String::new() }), &mut out));
    }
    let reason = "x".repeat(124);
    assert!(!Encoder::close(Some(&Close { code: 1000, reason }), &mut out));
    assert_eq!(out, b"");
    let reason = "x".repeat(123);
    assert!(Encoder::close(Some(&Close { code: 1000, reason }), &mut out));
}
