//! Why a request is refused.

use std::error::Error;
use std::fmt;

macro_rules! refusals {
    ($($name:ident = $status:literal, $text:literal;)*) => {
        /// What is wrong with a request. The connection cannot go on after any of these: where the
        /// next request would begin is not known, or not to be trusted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Refusal {
            $(#[doc = $text] $name,)*
        }

        impl Refusal {
            /// Each of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The status to answer with.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// What is wrong, for people.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

refusals! {
    NotHttp = 400, "the request line is not one of HTTP/1";
    Method = 400, "the method is not a token";
    Target = 400, "the request target is malformed";
    TargetForm = 400, "the form of the request target does not fit the method";
    Version = 505, "this version of HTTP is not supported";
    BareLineFeed = 400, "a line ends with LF alone";
    BareCarriageReturn = 400, "a line contains a lone CR";
    RequestLineTooLong = 414, "the request line is too long";
    HeaderTooLong = 431, "a header is too long";
    TooManyHeaders = 431, "there are too many headers";
    HeadTooLarge = 431, "the headers are too large together";
    HeaderName = 400, "the name of a header is not a token";
    HeaderValue = 400, "the value of a header has control characters";
    FoldedHeader = 400, "a header is folded over several lines";
    SpaceBeforeColon = 400, "there is space before the colon of a header";
    HostMissing = 400, "there is no Host header";
    HostRepeated = 400, "there is more than one Host header";
    HostInvalid = 400, "the Host header is malformed";
    ContentLength = 400, "the Content-Length is not a number";
    ContentLengthRepeated = 400, "there is more than one Content-Length";
    TwoLengths = 400, "there are both a Content-Length and a Transfer-Encoding";
    TransferEncoding = 400, "the Transfer-Encoding does not end with chunked, once";
    TransferEncodingUnknown = 501, "the Transfer-Encoding has more than chunked";
    TransferEncodingTooOld = 400, "HTTP/1.0 has no Transfer-Encoding";
    Expectation = 417, "only 100-continue can be expected";
    BodyTooLarge = 413, "the body is too large";
    ChunkSize = 400, "the size of a chunk is malformed";
    ChunkExtension = 400, "the extension of a chunk is malformed";
    ChunkExtensionsTooLong = 400, "the extensions of chunks are too long";
    ChunkEnd = 400, "a chunk does not end where it should";
    Trailer = 400, "a trailer is malformed";
    TrailerForbidden = 400, "a header that is not allowed there is among the trailers";
    TrailersTooLarge = 431, "the trailers are too large";
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text())
    }
}

impl Error for Refusal {}
