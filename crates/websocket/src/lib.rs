//! The server's side of WebSocket (RFC 6455) with permessage-deflate (RFC 7692), without input and
//! output.
//!
//! The owner of a connection reads bytes and hands them over; what comes back are messages, or a
//! [`Failure`] with the code to close with. Nothing here reads, waits, or keeps a connection.
//!
//! # Protocol
//!
//! 1. A [`Handshake`] makes sense of the headers of a request to upgrade, or refuses it with a
//!    status. Compression is agreed on by [`negotiate`].
//! 2. A [`Decoder`] is given what was received, wherever the pieces are cut, until it is used up.
//!    It gives [`Event`]s: whole messages, and the control frames in between.
//! 3. An [`Encoder`] writes messages and control frames.
//!
//! Answering a ping with a pong, and a close with a close, is the owner's part.
//!
//! # Strictness
//!
//! Whatever RFC 6455 says an endpoint must not send is refused when it comes: frames without a mask,
//! reserved bits and opcodes, lengths in more bytes than they need, fragments out of order,
//! fragmented or long control frames, codes that must not be sent, text that is not UTF-8 (as soon
//! as that can be known, not when the message ends). Limits hold before memory is taken: for the
//! length that a frame's head announces, and while a message is decompressed.

mod close;
mod decoder;
mod deflate;
mod encoder;
mod frame;
mod handshake;
mod mask;

pub use close::{Close, Failure, may_be_sent};
pub use decoder::{Decoder, Event};
pub use deflate::{Agreed, Windows, negotiate};
pub use encoder::{Encoder, Kind};
pub use handshake::{Handshake, Refused, accept_key};
