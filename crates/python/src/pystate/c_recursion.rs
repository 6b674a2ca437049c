//! Limits of recursion in C, for interpreters that count it: up to CPython 3.13. Later ones look at
//! the stack pointer.

/// The stack that CPython's limits are made for: a usual main thread's, but for what the tops of
/// slots are staggered by.
pub const USUAL_STACK: usize = (8 << 20) - 4096;

/// What one level takes at most. The most that was found is 2.5 KiB, for a sort whose key function
/// sorts.
const DEEPEST_LEVEL: usize = 3 << 10;

/// Kept back for what does not recurse, or has limits of its own.
const RESERVE: usize = 128 << 10;

/// A limit for a stack that may be smaller than usual.
pub fn scaled(limit: i32, stack_size: usize) -> i32 {
    if stack_size >= USUAL_STACK {
        return limit;
    }
    let levels = stack_size.saturating_sub(RESERVE) / DEEPEST_LEVEL;
    i32::try_from(levels).unwrap_or(limit).min(limit)
}
