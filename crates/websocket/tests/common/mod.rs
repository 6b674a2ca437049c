//! A client's side, written for the tests alone.
#![allow(dead_code, reason = "each test uses a part of it")]

use greenloop_websocket::{Agreed, Decoder, Event, Failure, Windows, negotiate};

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;
pub const FIN: u8 = 0x80;
pub const COMPRESSED: u8 = 0x40;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A masked frame with the shortest length. `first` is its first byte.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        len @ 0..126 => out.push(0x80 | len as u8),
        len @ 126..65_536 => {
            out.push(0x80 | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

pub fn agreed(offer: &str) -> Agreed {
    negotiate(offer, Windows::default()).expect("an offer that is taken")
}

/// Everything that input means, and what is wrong with it in the end.
pub type Outcome = (Vec<Event>, Option<Failure>);

pub fn read(decoder: &mut Decoder, mut input: &[u8]) -> Outcome {
    let mut events = Vec::new();
    loop {
        match decoder.decode(&mut input) {
            Ok(Some(event)) => events.push(event),
            Ok(None) => {
                assert!(input.is_empty(), "left over: {input:?}");
                return (events, None);
            }
            Err(failure) => return (events, Some(failure)),
        }
    }
}

pub fn read_in_pieces(decoder: &mut Decoder, input: &[u8], sizes: &[usize]) -> Outcome {
    let mut events = Vec::new();
    let mut rest = input;
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let (piece, later) = rest.split_at((*sizes.next().unwrap_or(&1)).clamp(1, rest.len()));
        let (more, failure) = read(decoder, piece);
        events.extend(more);
        if failure.is_some() {
            return (events, failure);
        }
        rest = later;
    }
    (events, None)
}

/// What a new decoder makes of frames.
pub fn decode(frames: &[Vec<u8>]) -> Outcome {
    read(&mut Decoder::new(1 << 20, None), &frames.concat())
}

pub fn decode_compressed(frames: &[Vec<u8>]) -> Outcome {
    let agreed = agreed("permessage-deflate; client_max_window_bits");
    read(&mut Decoder::new(1 << 20, Some(agreed)), &frames.concat())
}

/// The frames that a server has written: first byte and payload.
pub fn server_frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        let (length, rest) = match second {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => (u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize, &rest[8..]),
            length => (usize::from(*length), rest),
        };
        frames.push((*first, rest[..length].to_vec()));
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty());
    frames
}
