//! The server's side of HTTP/1.1, without input and output.
//!
//! The owner of a connection reads bytes and hands them over; what comes back is what they mean,
//! or a [`Refusal`] with the status to answer with. Nothing here reads, waits, or keeps a
//! connection.
//!
//! # Protocol
//!
//! 1. A [`HeadScanner`] is given the bytes received so far, again and again as they grow, until it
//!    finds the end of a request's head. It looks at each byte once, and refuses what is too long
//!    while it comes in.
//! 2. [`Head::parse`] makes sense of the head, and decides how the body is delimited.
//! 3. A [`BodyDecoder`] takes the framing off the body, wherever the pieces are cut. What it leaves
//!    in the input belongs to the next request.
//! 4. A [`ResponseHead`] writes status and headers, and decides how the response's body is
//!    delimited: see [`Delivery`].
//!
//! # Strictness
//!
//! Two parsers that read the same bytes differently let a request be smuggled past one of them. So
//! whatever RFC 9112 leaves to the recipient's judgement is refused here: lines that end with LF
//! alone, a lone CR, folded headers, space before a colon, more than one Content-Length, any
//! Transfer-Encoding but `chunked` alone, sizes of chunks with anything around them, malformed
//! extensions of chunks, headers of framing among trailers. The one thing it is lenient about is empty lines before a request, as
//! the RFC asks for.

mod authority;
mod body;
mod date;
mod extension;
mod head;
mod limits;
mod refusal;
mod response;
mod scan;
mod target;

pub use body::{BodyDecoder, Decoded};
pub use date::DateCache;
pub use head::{BodyLength, Head, Header, Version};
pub use limits::Limits;
pub use refusal::Refusal;
pub use response::{
    BadResponse, CONTINUE, Delivery, LAST_CHUNK, Request, ResponseHead, chunk_size, reason,
    write_error, write_refusal, write_trailer,
};
pub use scan::{HeadScanner, HeadSpan};
pub use target::{Form, Target};
