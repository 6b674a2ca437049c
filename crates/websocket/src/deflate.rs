//! permessage-deflate: what is agreed on, and compression itself.

use crate::Failure;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// What ends a message's last block, and is left out when it is sent.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// How much room for output is made at a time, at least.
const STEP: usize = 1024;

/// zlib cannot compress with a window of 256 bytes.
const LEAST_BITS: u8 = 9;
const MOST_BITS: u8 = 15;

/// The sizes of window that a server wants, as powers of two from 9 to 15, and whether windows are
/// to be kept from one message to the next. The compressor of a connection takes some 11 KiB and
/// four times its window, the decompressor its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    pub server_bits: u8,
    pub client_bits: u8,
    pub kept: bool,
}

impl Default for Windows {
    /// 4 KiB each way, kept: a third less memory than with 32 KiB, and nearly as dense.
    fn default() -> Self {
        Self { server_bits: 12, client_bits: 12, kept: true }
    }
}

/// What a server and a client have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    pub server_bits: u8,
    pub client_bits: u8,
    /// Whether the server goes on with the window of its last message.
    pub server_keeps: bool,
    pub client_keeps: bool,
    /// Whether the client's window is to be named in the answer: it may only be if the client did.
    names_client_bits: bool,
}

impl Agreed {
    /// The value of Sec-WebSocket-Extensions in the answer.
    #[must_use]
    pub fn header(&self) -> String {
        let mut text = String::from("permessage-deflate");
        if !self.server_keeps {
            text.push_str("; server_no_context_takeover");
        }
        if !self.client_keeps {
            text.push_str("; client_no_context_takeover");
        }
        if self.server_bits < MOST_BITS {
            text.push_str(&format!("; server_max_window_bits={}", self.server_bits));
        }
        if self.names_client_bits && self.client_bits < MOST_BITS {
            text.push_str(&format!("; client_max_window_bits={}", self.client_bits));
        }
        text
    }
}

/// Picks the first offer in a value of Sec-WebSocket-Extensions that can be taken.
#[must_use]
pub fn negotiate(offers: &str, wanted: Windows) -> Option<Agreed> {
    offers.split(',').find_map(|offer| accept(offer, wanted))
}

fn accept(offer: &str, wanted: Windows) -> Option<Agreed> {
    let mut parts = offer.split(';').map(|part| part.trim_matches([' ', '\t']));
    if !parts.next()?.eq_ignore_ascii_case("permessage-deflate") {
        return None;
    }
    let mut agreed = Agreed {
        server_bits: wanted.server_bits,
        client_bits: MOST_BITS,
        server_keeps: wanted.kept,
        client_keeps: wanted.kept,
        names_client_bits: false,
    };
    let mut seen: Vec<&str> = Vec::new();
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(value.trim_start())),
            None => (part, None),
        };
        if seen.contains(&name) {
            return None;
        }
        seen.push(name);
        match (name, value) {
            ("server_no_context_takeover", None) => agreed.server_keeps = false,
            ("client_no_context_takeover", None) => agreed.client_keeps = false,
            ("server_max_window_bits", Some(value)) => {
                let bits = window_bits(value).filter(|bits| *bits >= LEAST_BITS)?;
                agreed.server_bits = agreed.server_bits.min(bits);
            }
            ("client_max_window_bits", value) => {
                let most = value.map_or(Some(MOST_BITS), window_bits)?;
                agreed.client_bits = wanted.client_bits.min(most);
                agreed.names_client_bits = true;
            }
            _ => return None,
        }
    }
    Some(agreed)
}

/// 8 to 15, perhaps in quotes.
fn window_bits(value: &str) -> Option<u8> {
    let value = value.strip_prefix('"').map_or(Some(value), |rest| rest.strip_suffix('"'))?;
    match value {
        "8" => Some(8),
        "9" => Some(9),
        "10" => Some(10),
        "11" => Some(11),
        "12" => Some(12),
        "13" => Some(13),
        "14" => Some(14),
        "15" => Some(15),
        _ => None,
    }
}

pub(crate) struct Inflater {
    stream: Decompress,
    keeps: bool,
}

impl Inflater {
    pub fn new(agreed: Agreed) -> Self {
        // zlib takes 9 bits at least; a larger window reads what was made for a smaller one.
        let bits = agreed.client_bits.max(LEAST_BITS);
        Self { stream: Decompress::new_with_window_bits(false, bits), keeps: agreed.client_keeps }
    }

    /// Appends to `out`, which must not grow beyond `limit`, what the input stands for.
    pub fn inflate(
        &mut self,
        mut input: &[u8],
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), Failure> {
        const BAD: Failure = Failure::data("bad compressed data");
        loop {
            if out.len() == out.capacity() {
                // One byte beyond the limit shows that it is passed.
                let room = (limit - out.len()).saturating_add(1);
                out.reserve_exact(room.min(out.len().max(STEP)));
            }
            let (read, written) = (self.stream.total_in(), self.stream.total_out());
            let status =
                self.stream.decompress_vec(input, out, FlushDecompress::Sync).map_err(|_| BAD)?;
            if out.len() > limit {
                return Err(Failure::too_big());
            }
            let read = (self.stream.total_in() - read) as usize;
            let progress = read > 0 || self.stream.total_out() > written;
            input = &input[read..];
            match status {
                // A final block: RFC 7692 allows it, and that others follow.
                Status::StreamEnd => self.stream.reset(false),
                // All is read, and there was room for more output than there is.
                _ if input.is_empty() && out.len() < out.capacity() => return Ok(()),
                _ if progress || out.len() == out.capacity() => {}
                _ => return Err(BAD),
            }
        }
    }

    pub fn end_message(&mut self, out: &mut Vec<u8>, limit: usize) -> Result<(), Failure> {
        self.inflate(&TAIL, out, limit)?;
        if !self.keeps {
            self.stream.reset(false);
        }
        Ok(())
    }
}

pub(crate) struct Deflater {
    stream: Compress,
    keeps: bool,
}

impl Deflater {
    pub fn new(agreed: Agreed) -> Self {
        let bits = agreed.server_bits;
        Self {
            stream: Compress::new_with_window_bits(Compression::fast(), false, bits),
            keeps: agreed.server_keeps,
        }
    }

    /// Appends a compressed message.
    pub fn deflate(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        loop {
            if out.capacity() - out.len() < STEP {
                out.reserve(STEP.max(input.len() / 4));
            }
            let read = self.stream.total_in();
            // It fails for states that the stream never is in.
            let status = self.stream.compress_vec(input, out, FlushCompress::Sync);
            debug_assert!(status.is_ok(), "{status:?}");
            input = &input[(self.stream.total_in() - read) as usize..];
            if input.is_empty() && out.len() < out.capacity() {
                break;
            }
        }
        debug_assert!(out[start..].ends_with(&TAIL));
        out.truncate((out.len() - TAIL.len()).max(start));
        if out.len() == start {
            // An empty block: a message is never without one.
            out.push(0);
        }
        if !self.keeps {
            self.stream.reset();
        }
    }
}
