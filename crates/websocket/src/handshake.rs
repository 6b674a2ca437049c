//! The request that a WebSocket begins with.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// What RFC 6455 has servers append to the key.
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Bytes that a key stands for.
const KEY_LEN: usize = 16;

/// A request to upgrade that is not answered with 101.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub status: u16,
    pub reason: &'static str,
}

impl Refused {
    const fn bad(reason: &'static str) -> Self {
        Self { status: 400, reason }
    }
}

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handshake {
    /// The value of Sec-WebSocket-Accept in the answer.
    pub accept: String,
    /// The subprotocols that the client offers, the one it likes best first.
    pub protocols: Vec<String>,
    /// The values of Sec-WebSocket-Extensions, joined by commas.
    pub extensions: String,
}

impl Handshake {
    /// Reads the headers of a request. `None` if it does not ask for a WebSocket.
    ///
    /// # Errors
    ///
    /// When it does, but not as it must: the status to answer with. 426 goes with a header
    /// `Sec-WebSocket-Version: 13`.
    pub fn read<'a>(
        method: &[u8],
        headers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<Option<Self>, Refused> {
        let mut upgrade = false;
        let mut connection = false;
        let mut version = None;
        let mut key = None;
        let mut this = Self::default();
        for (name, value) in headers {
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            if is("upgrade") {
                upgrade |= tokens(value).any(|token| token.eq_ignore_ascii_case(b"websocket"));
            } else if is("connection") {
                connection |= tokens(value).any(|token| token.eq_ignore_ascii_case(b"upgrade"));
            } else if is("sec-websocket-version") {
                if version.replace(value.trim_ascii()).is_some() {
                    return Err(Refused::bad("more than one Sec-WebSocket-Version"));
                }
            } else if is("sec-websocket-key") {
                if key.replace(value.trim_ascii()).is_some() {
                    return Err(Refused::bad("more than one Sec-WebSocket-Key"));
                }
            } else if is("sec-websocket-protocol") {
                for token in tokens(value) {
                    let token = token_text(token)
                        .ok_or(Refused::bad("bad Sec-WebSocket-Protocol"))?
                        .to_owned();
                    if this.protocols.contains(&token) {
                        return Err(Refused::bad("a subprotocol is offered twice"));
                    }
                    this.protocols.push(token);
                }
            } else if is("sec-websocket-extensions") {
                let value = std::str::from_utf8(value)
                    .map_err(|_| Refused::bad("bad Sec-WebSocket-Extensions"))?;
                if !this.extensions.is_empty() {
                    this.extensions.push(',');
                }
                this.extensions.push_str(value);
            }
        }
        if !upgrade || !connection {
            return Ok(None);
        }
        if method != b"GET" {
            return Err(Refused::bad("a WebSocket begins with GET"));
        }
        if version != Some(b"13") {
            return Err(Refused { status: 426, reason: "unknown version of WebSocket" });
        }
        let key = key.ok_or(Refused::bad("no Sec-WebSocket-Key"))?;
        this.accept = accept_key(key).ok_or(Refused::bad("bad Sec-WebSocket-Key"))?;
        Ok(Some(this))
    }
}

/// The value of Sec-WebSocket-Accept that answers a key; `None` for what is no key: 16 bytes in
/// base64.
#[must_use]
pub fn accept_key(key: &[u8]) -> Option<String> {
    let mut bytes = [0; KEY_LEN + 2];
    if STANDARD.decode_slice(key, &mut bytes).ok()? != KEY_LEN {
        return None;
    }
    Some(STANDARD.encode(Sha1::new().chain_update(key).chain_update(MAGIC).finalize()))
}

/// The elements of a header that is a list.
fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// A token of RFC 9110.
fn token_text(token: &[u8]) -> Option<&str> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    std::str::from_utf8(token).ok().filter(|text| text.as_bytes().iter().all(is_part))
}
