//! Seconds as Python gives them, and deadlines on the monotonic clock.

use greenloop_reactor::monotonic_ns;

/// The time `seconds` from now, in nanoseconds of the monotonic clock. Beyond what the clock can
/// count it is never.
#[inline]
pub fn deadline_after(seconds: f64) -> u64 {
    // The cast saturates.
    monotonic_ns().saturating_add((seconds.max(0.0) * 1e9) as u64)
}
