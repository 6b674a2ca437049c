//! What holds for every input.

mod common;

use common::{BINARY, CLOSE, COMPRESSED, FIN, PING, TEXT, agreed, frame, read, read_in_pieces};
use greenloop_websocket::{Decoder, Encoder, Event, Kind};
use proptest::collection::vec;
use proptest::prelude::*;

const LIMIT: usize = 300;

/// Frames of every kind, good and bad, in any order.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        4 => Just(FIN | TEXT),
        4 => Just(FIN | BINARY),
        2 => Just(TEXT),
        2 => Just(BINARY),
        4 => Just(FIN),
        2 => Just(0),
        2 => Just(FIN | PING),
        1 => Just(FIN | CLOSE),
        1 => Just(FIN | COMPRESSED | TEXT),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        "\\PC{0,60}".prop_map(String::into_bytes),
        vec(any::<u8>(), 0..200),
        Just(vec![]),
    ];
    let one = (first, payload).prop_map(|(first, payload)| frame(first, &payload));
    let any = vec(any::<u8>(), 0..20);
    vec(prop_oneof![20 => one, 1 => any], 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn it_does_not_matter_where_the_input_is_cut(
        input in frames(),
        sizes in vec(1..40_usize, 1..8),
        compressed in any::<bool>(),
    ) {
        let agreed = compressed.then(|| agreed("permessage-deflate"));
        let whole = read(&mut Decoder::new(LIMIT, agreed), &input);
        let pieces = read_in_pieces(&mut Decoder::new(LIMIT, agreed), &input, &sizes);
        prop_assert_eq!(&whole.0, &pieces.0);
        prop_assert_eq!(whole.1.is_some(), pieces.1.is_some());
        for event in whole.0 {
            let size = match event {
                Event::Text(text) => text.len(),
                Event::Binary(data) => data.len(),
                Event::Ping(_) | Event::Pong(_) | Event::Close(_) => 0,
            };
            prop_assert!(size <= LIMIT);
        }
    }

    #[test]
    fn what_a_server_sends_is_what_a_client_would_read(
        messages in vec((any::<bool>(), "\\PC{0,200}", 1..20_usize), 1..6),
        keeps in any::<bool>(),
        threshold in 0..100_usize,
    ) {
        let offer = if keeps {
            "permessage-deflate; client_max_window_bits"
        } else {
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        };
        let mut encoder = Encoder::new(Some(agreed(offer)), threshold);
        // A decoder reads what clients send: masked. Windows are the same both ways.
        let mut decoder = Decoder::new(1 << 20, Some(agreed(offer)));
        for (text, words, times) in messages {
            let payload = words.repeat(times);
            let kind = if text { Kind::Text } else { Kind::Binary };
            let mut out = Vec::new();
            encoder.message(kind, payload.as_bytes(), &mut out);
            let sent = common::server_frames(&out);
            prop_assert_eq!(sent.len(), 1);
            let event = if text { Event::Text(payload) } else { Event::Binary(payload.into()) };
            let seen = read(&mut decoder, &frame(sent[0].0, &sent[0].1));
            prop_assert_eq!(seen, (vec![event], None));
        }
    }
}
