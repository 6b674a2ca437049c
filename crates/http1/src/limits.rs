//! How much of each part of a request is accepted.

/// What may come in, in bytes where nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The request line, without its line end.
    pub request_line: usize,
    /// One header, without its line end.
    pub header: usize,
    /// Request line and headers together.
    pub head: usize,
    /// The number of headers; of trailers as well.
    pub headers: usize,
    /// The body, without the framing of chunks.
    pub body: u64,
    /// The extensions of all chunks of a body together: they mean nothing, and cost time.
    pub chunk_extensions: usize,
    /// The trailers of a chunked body together.
    pub trailers: usize,
}

impl Default for Limits {
    /// As large as what browsers and proxies send, and common servers take: 8 KiB for a line,
    /// 100 headers, 64 KiB for all. The body is not limited.
    fn default() -> Self {
        Self {
            request_line: 8192,
            header: 8192,
            head: 65536,
            headers: 100,
            body: u64::MAX,
            chunk_extensions: 4096,
            trailers: 8192,
        }
    }
}
