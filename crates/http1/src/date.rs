//! The time for the header Date.

use httpdate::HttpDate;
use std::time::{Duration, SystemTime};

/// The text of the header Date, written out once a second.
#[derive(Debug)]
pub struct DateCache {
    second: u64,
    text: String,
}

impl DateCache {
    /// Nothing is written out yet.
    #[must_use]
    pub fn new() -> Self {
        Self { second: u64::MAX, text: String::new() }
    }

    /// The date for a time, in seconds since 1970: `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub fn get(&mut self, second: u64) -> &[u8] {
        if second != self.second {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            self.text = HttpDate::from(time).to_string();
            self.second = second;
        }
        self.text.as_bytes()
    }
}

impl Default for DateCache {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let mut cache = DateCache::new();
        assert_eq!(cache.get(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(cache.get(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(cache.get(0), b"Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
