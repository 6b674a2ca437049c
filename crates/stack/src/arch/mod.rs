//! The context switch, one file per architecture.
//!
//! Each file gives two functions:
//!
//! * `switch(save, to, arg)` stores the callee-saved registers on the running stack, its stack
//!   pointer in `*save`, takes `to` as the stack pointer, restores the registers found there and
//!   goes on where that stack was left. `arg` is what the resumed `switch` returns.
//! * `prepare(top, entry)` builds, below `top`, the picture of a stack that has been left by
//!   `switch` just before `entry`. The `arg` of the first `switch` to it is handed to `entry`.
//!
//! Floating point control words (mxcsr, x87, FPCR) are not saved: they are per thread here, as
//! they are in the greenlet package; saving them costs about 4 ns a switch.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::prepare;
#[cfg(target_arch = "aarch64")]
pub use aarch64::switch;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::prepare;
#[cfg(target_arch = "x86_64")]
pub use x86_64::switch;

/// The first function to run on a fresh stack. It never returns: a coroutine ends by switching
/// away for good.
///
/// A panic that leaves it ends the process: there is nothing above it. A forced unwinding
/// (`pthread_exit` in a daemon thread) passes through it, finds the end of the stack and ends the
/// thread, which is what it is for. Hence "C-unwind", and no `catch_unwind` around its body.
pub type Entry = unsafe extern "C-unwind" fn(arg: usize) -> !;
