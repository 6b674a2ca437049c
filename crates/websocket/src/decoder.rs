//! Puts messages together from the frames of a client.

use crate::deflate::{Agreed, Inflater};
use crate::frame::{Head, LONGEST_HEAD, Opcode};
use crate::{Close, Failure, close, mask};

/// How much memory is taken for what a frame's head announces, before it has come.
const TRUSTED: u64 = 64 * 1024;

const NOT_UTF8: Failure = Failure::data("text is not UTF-8");

/// What was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Text(String),
    Binary(Vec<u8>),
    /// To be answered with a pong that has the same payload.
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// The last event; `None` if the frame is empty.
    Close(Option<Close>),
}

/// A message that has begun.
struct Message {
    text: bool,
    compressed: bool,
    payload: Vec<u8>,
    /// How much of a text is known to be UTF-8.
    valid: usize,
}

impl Message {
    /// Looks at what has come of a text that is not complete.
    fn check(&mut self) -> Result<(), Failure> {
        if !self.text {
            return Ok(());
        }
        match std::str::from_utf8(&self.payload[self.valid..]) {
            Ok(_) => self.valid = self.payload.len(),
            Err(error) if error.error_len().is_some() => return Err(NOT_UTF8),
            Err(error) => self.valid += error.valid_up_to(),
        }
        Ok(())
    }

    fn into_event(self) -> Result<Event, Failure> {
        if self.text {
            return String::from_utf8(self.payload).map(Event::Text).map_err(|_| NOT_UTF8);
        }
        Ok(Event::Binary(self.payload))
    }
}

enum State {
    /// So many bytes of a head are in `Decoder::head`.
    Head(usize),
    /// So many bytes of a frame's payload have come.
    Payload(Head, u64),
    /// A close frame has come, or a failure: nothing counts after it.
    Closed,
}

/// Decodes what one client sends.
pub struct Decoder {
    state: State,
    head: [u8; LONGEST_HEAD],
    message: Option<Message>,
    control: Vec<u8>,
    inflater: Option<Inflater>,
    /// The most bytes of a message, after decompression.
    limit: usize,
}

impl Decoder {
    /// `limit`: the most bytes of a message, after decompression. `agreed`: on compression, if it was.
    #[must_use]
    pub fn new(limit: usize, agreed: Option<Agreed>) -> Self {
        Self {
            state: State::Head(0),
            head: [0; LONGEST_HEAD],
            message: None,
            control: Vec::new(),
            inflater: agreed.map(Inflater::new),
            limit,
        }
    }

    /// Whether a close frame has come, or a failure.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Takes bytes off the input up to the end of the next message or control frame; `None` if the
    /// input is used up before.
    ///
    /// # Errors
    ///
    /// When the client breaks the protocol or a limit. Nothing that comes later is looked at.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Event>, Failure> {
        let decoded = self.advance(input);
        if matches!(decoded, Err(_) | Ok(Some(Event::Close(_)))) {
            self.state = State::Closed;
            self.message = None;
        }
        decoded
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Event>, Failure> {
        loop {
            match self.state {
                State::Closed => {
                    *input = &[];
                    return Ok(None);
                }
                State::Head(have) => {
                    let more = input.len().min(LONGEST_HEAD - have);
                    self.head[have..have + more].copy_from_slice(&input[..more]);
                    let Some((head, size)) = Head::parse(&self.head[..have + more])? else {
                        *input = &input[more..];
                        self.state = State::Head(have + more);
                        return Ok(None);
                    };
                    // What was there before was not enough.
                    *input = &input[size - have..];
                    self.begin_frame(&head)?;
                    self.state = State::Payload(head, 0);
                }
                State::Payload(head, come) => {
                    let piece = (head.length - come).min(input.len() as u64);
                    let (now, later) = input.split_at(piece as usize);
                    self.take_payload(&head, come, now)?;
                    *input = later;
                    if come + piece < head.length {
                        self.check_text()?;
                        self.state = State::Payload(head, come + piece);
                        return Ok(None);
                    }
                    self.state = State::Head(0);
                    if let Some(event) = self.end_frame(&head)? {
                        return Ok(Some(event));
                    }
                }
            }
        }
    }

    fn begin_frame(&mut self, head: &Head) -> Result<(), Failure> {
        if head.opcode.is_control() {
            self.control.clear();
            return Ok(());
        }
        if head.compressed && self.inflater.is_none() {
            return Err(Failure::protocol("reserved bits are set"));
        }
        match (head.opcode, &self.message) {
            (Opcode::Continuation, None) => {
                return Err(Failure::protocol("continuation of no message"));
            }
            (Opcode::Continuation, Some(_)) => {}
            (_, Some(_)) => return Err(Failure::protocol("a message within a message")),
            (opcode, None) => {
                self.message = Some(Message {
                    text: opcode == Opcode::Text,
                    compressed: head.compressed,
                    payload: Vec::new(),
                    valid: 0,
                });
            }
        }
        let Some(message) = &mut self.message else { return Ok(()) };
        // What is compressed is measured when it is not any more.
        if !message.compressed {
            let room = self.limit - message.payload.len();
            if head.length > room as u64 {
                return Err(Failure::too_big());
            }
            message.payload.reserve(head.length.min(TRUSTED) as usize);
        }
        Ok(())
    }

    /// Takes a piece of a frame's payload, before which `come` bytes of it have come.
    fn take_payload(&mut self, head: &Head, come: u64, piece: &[u8]) -> Result<(), Failure> {
        if head.opcode.is_control() {
            append_unmasked(&mut self.control, piece, head.mask, come);
            return Ok(());
        }
        let Some(message) = &mut self.message else { return Ok(()) };
        match &mut self.inflater {
            Some(inflater) if message.compressed => {
                let mut plain = Vec::with_capacity(piece.len());
                append_unmasked(&mut plain, piece, head.mask, come);
                inflater.inflate(&plain, &mut message.payload, self.limit)?;
            }
            _ => append_unmasked(&mut message.payload, piece, head.mask, come),
        }
        Ok(())
    }

    fn check_text(&mut self) -> Result<(), Failure> {
        self.message.as_mut().map_or(Ok(()), Message::check)
    }

    fn end_frame(&mut self, head: &Head) -> Result<Option<Event>, Failure> {
        match head.opcode {
            Opcode::Ping => return Ok(Some(Event::Ping(std::mem::take(&mut self.control)))),
            Opcode::Pong => return Ok(Some(Event::Pong(std::mem::take(&mut self.control)))),
            Opcode::Close => {
                return close::parse(&self.control).map(|said| Some(Event::Close(said)));
            }
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {}
        }
        if !head.last {
            self.check_text()?;
            return Ok(None);
        }
        let Some(mut message) = self.message.take() else { return Ok(None) };
        if let Some(inflater) = &mut self.inflater
            && message.compressed
        {
            inflater.end_message(&mut message.payload, self.limit)?;
        }
        message.into_event().map(Some)
    }
}

fn append_unmasked(to: &mut Vec<u8>, piece: &[u8], key: [u8; 4], offset: u64) {
    let start = to.len();
    to.extend_from_slice(piece);
    mask::apply(&mut to[start..], key, offset);
}
