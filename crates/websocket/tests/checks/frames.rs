//! Frames that clients of a WebSocket may send, compressed and not. What is read must not depend on
//! where the input is cut, nor be larger than is allowed.

use greenloop_websocket::{Decoder, Event, Windows, negotiate};

const LIMIT: usize = 4096;

fn read(decoder: &mut Decoder, mut input: &[u8], events: &mut Vec<Event>) -> bool {
    loop {
        match decoder.decode(&mut input) {
            Ok(Some(event)) => events.push(event),
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

pub fn check(data: &[u8]) {
    let [first, input @ ..] = data else { return };
    let offer = if first & 1 == 0 { "permessage-deflate" } else { "" };
    let agreed = negotiate(offer, Windows::default());
    let cut = usize::from(first >> 1).min(input.len());

    let (mut whole, mut pieces) = (Vec::new(), Vec::new());
    let is_good = read(&mut Decoder::new(LIMIT, agreed), input, &mut whole);
    let mut decoder = Decoder::new(LIMIT, agreed);
    let still_good = read(&mut decoder, &input[..cut], &mut pieces)
        && read(&mut decoder, &input[cut..], &mut pieces);
    assert_eq!(whole, pieces);
    assert_eq!(is_good, still_good);
    for event in whole {
        let size = match event {
            Event::Text(text) => text.len(),
            Event::Binary(data) => data.len(),
            Event::Ping(data) | Event::Pong(data) => data.len(),
            Event::Close(said) => said.map_or(0, |said| said.reason.len()),
        };
        assert!(size <= LIMIT);
    }
}
