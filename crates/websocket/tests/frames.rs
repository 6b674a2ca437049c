//! Frames, alone and in order: what they mean, and what is refused.

mod common;

use common::{
    BINARY, CLOSE, COMPRESSED, FIN, PING, PONG, TEXT, decode, frame, read, read_in_pieces,
};
use greenloop_websocket::{Close, Decoder, Event, Failure};

fn text(text: &str) -> Event {
    Event::Text(text.to_owned())
}

/// The code that frames are refused with, after those events.
fn refused(frames: &[Vec<u8>]) -> (Vec<Event>, u16) {
    let (events, failure) = decode(frames);
    (events, failure.expect("a failure").code)
}

#[test]
fn messages_of_one_frame() {
    let long = "x".repeat(70_000);
    let frames = [
        frame(FIN | TEXT, "grün".as_bytes()),
        frame(FIN | BINARY, &[0, 255, 7]),
        frame(FIN | TEXT, b""),
        frame(FIN | BINARY, &[1; 126]),
        frame(FIN | TEXT, long.as_bytes()),
    ];
    let expected = vec![
        text("grün"),
        Event::Binary(vec![0, 255, 7]),
        text(""),
        Event::Binary(vec![1; 126]),
        text(&long),
    ];
    assert_eq!(decode(&frames), (expected, None));
}

#[test]
fn the_frame_that_the_rfc_shows() {
    let input = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(read(&mut Decoder::new(5, None), &input), (vec![text("Hello")], None));
}

#[test]
fn fragments_with_control_frames_in_between() {
    let frames = [
        frame(TEXT, b"one "),
        frame(FIN | PING, b"?"),
        frame(0, b""),
        frame(0, b"two "),
        frame(FIN | PONG, b""),
        frame(FIN, b"three"),
        frame(BINARY, b"a"),
        frame(FIN, b""),
    ];
    let expected = vec![
        Event::Ping(b"?".to_vec()),
        Event::Pong(vec![]),
        text("one two three"),
        Event::Binary(b"a".to_vec()),
    ];
    assert_eq!(decode(&frames), (expected, None));
}

#[test]
fn a_character_may_be_cut() {
    let bytes = "aé€😀".as_bytes();
    for cut in 0..=bytes.len() {
        let frames = [frame(TEXT, &bytes[..cut]), frame(FIN, &bytes[cut..])];
        assert_eq!(decode(&frames), (vec![text("aé€😀")], None), "cut at {cut}");
        for size in 1..4 {
            let read = read_in_pieces(&mut Decoder::new(100, None), &frames.concat(), &[size]);
            assert_eq!(read, (vec![text("aé€😀")], None));
        }
    }
}

#[test]
fn text_that_is_not_utf8_is_refused_as_soon_as_that_is_known() {
    let bad: [&[u8]; 5] =
        [b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"ok\xe2\x82 "];
    for bytes in bad {
        assert_eq!(refused(&[frame(FIN | TEXT, bytes)]), (vec![], Failure::BAD_DATA));
        // In a message that goes on.
        assert_eq!(refused(&[frame(TEXT, bytes)]), (vec![], Failure::BAD_DATA));
        // In a frame that goes on.
        let mut whole = frame(FIN | TEXT, &[bytes, b"rest"].concat());
        whole.truncate(whole.len() - 4);
        assert_eq!(refused(&[whole]), (vec![], Failure::BAD_DATA));
    }
    // Cut off at the end.
    assert_eq!(refused(&[frame(FIN | TEXT, b"\xe2\x82")]), (vec![], Failure::BAD_DATA));
    // Binary data are anything.
    assert_eq!(decode(&[frame(FIN | BINARY, b"\xff")]).1, None);
}

#[test]
fn closing() {
    let said = |code: u16, reason: &str| [&code.to_be_bytes(), reason.as_bytes()].concat();
    let close = |payload: &[u8]| decode(&[frame(FIN | CLOSE, payload), frame(FIN | TEXT, b"late")]);
    assert_eq!(close(b""), (vec![Event::Close(None)], None));
    for code in [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999] {
        let reason = "bye €".to_owned();
        let expected = vec![Event::Close(Some(Close { code, reason: reason.clone() }))];
        assert_eq!(close(&said(code, &reason)), (expected, None));
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        assert_eq!(refused(&[frame(FIN | CLOSE, &said(code, ""))]).1, Failure::PROTOCOL_ERROR);
    }
    assert_eq!(refused(&[frame(FIN | CLOSE, b"x")]).1, Failure::PROTOCOL_ERROR);
    assert_eq!(refused(&[frame(FIN | CLOSE, b"\x03\xe8\xff")]).1, Failure::BAD_DATA);
}

#[test]
fn what_clients_must_not_send() {
    let unmasked = vec![FIN | TEXT, 1, b'a'];
    let long_as_16_bits = [vec![FIN | TEXT, 0x80 | 126, 0, 125], vec![0; 129]].concat();
    let long_as_64_bits = vec![FIN | BINARY, 0x80 | 127, 0, 0, 0, 0, 0, 0, 255, 255];
    let negative = vec![FIN | BINARY, 0x80 | 127, 128, 0, 0, 0, 0, 0, 0, 0];
    let cases: &[&[Vec<u8>]] = &[
        &[unmasked],
        &[long_as_16_bits],
        &[long_as_64_bits],
        &[negative],
        &[frame(FIN | 0x20 | TEXT, b"")],
        &[frame(FIN | 0x10 | TEXT, b"")],
        // Nothing was agreed on.
        &[frame(FIN | COMPRESSED | TEXT, b"")],
        &[frame(FIN | COMPRESSED | PING, b"")],
        &[frame(FIN | 3, b"")],
        &[frame(FIN | 7, b"")],
        &[frame(FIN | 11, b"")],
        &[frame(FIN | 15, b"")],
        &[frame(PING, b"")],
        &[frame(CLOSE, b"")],
        &[frame(FIN | PING, &[0; 126])],
        &[frame(FIN, b"of nothing")],
        &[frame(0, b"of nothing")],
        &[frame(TEXT, b"a"), frame(FIN | TEXT, b"b")],
        &[frame(BINARY, b"a"), frame(FIN, b"b"), frame(FIN, b"c")],
    ];
    for case in cases {
        assert_eq!(refused(case).1, Failure::PROTOCOL_ERROR, "{case:?}");
    }
}

#[test]
fn a_failure_is_the_end() {
    let mut decoder = Decoder::new(100, None);
    assert_eq!(read(&mut decoder, &frame(0, b"")).1.map(|f| f.code), Some(1002));
    assert!(decoder.is_closed());
    assert_eq!(read(&mut decoder, &frame(FIN | TEXT, b"late")), (vec![], None));
}

#[test]
fn the_limit_holds_before_the_data_come() {
    let mut exact = Decoder::new(10, None);
    let frames = [frame(TEXT, &[b'a'; 6]), frame(FIN, &[b'b'; 4])].concat();
    assert_eq!(read(&mut exact, &frames), (vec![text("aaaaaabbbb")], None));

    let mut long = Decoder::new(10, None);
    assert_eq!(read(&mut long, &frame(FIN | TEXT, &[b'a'; 11])[..6]).1.unwrap().code, 1009);

    let mut fragments = Decoder::new(10, None);
    let frames = [frame(TEXT, &[b'a'; 6]), frame(0, &[b'b'; 5])[..6].to_vec()].concat();
    assert_eq!(read(&mut fragments, &frames).1.unwrap().code, Failure::TOO_BIG);

    // A head can announce anything; no memory is taken for it.
    let mut huge = Decoder::new(usize::MAX, None);
    let mut head = vec![FIN | BINARY, 0x80 | 127];
    head.extend((i64::MAX as u64).to_be_bytes());
    head.extend([0; 4]);
    assert_eq!(read(&mut huge, &head), (vec![], None));
}
