//! The context switch, one file per architecture.
//!
//! Each file gives three functions:
//!
//! * `switch(save, to, arg)` stores the callee-saved registers on the running stack, its stack
//!   pointer in `*save`, takes `to` as the stack pointer, restores the registers found there and
//!   goes on where that stack was left. `arg` is what the resumed `switch` returns.
//! * `prepare(top, entry)` builds, below `top`, the picture of a stack that has been left by
//!   `switch` just before `entry`. The `arg` of the first `switch` to it is handed to `entry`.
//! * `prefetch(start, len)` asks for memory to be brought into the caches.
//!
//! Both carry call frame information that holds at every instruction, so that debuggers, profilers
//! and the unwinders of C++ and Rust find their way up a stack and stop at its bottom, wherever they
//! look (`tests/unwinding.rs`).
//!
//! # What is not saved
//!
//! * Floating point control words (mxcsr and the x87 control word, FPCR): rounding mode, flushing of
//!   denormals, exception masks. They belong to the thread, as they do on AArch64 in the greenlet
//!   package, which saves them on x86-64. Saving them there costs 2.7 ns a switch (measured on an
//!   AMD EPYC, loading them only where they differ), as much as the rest of the swap, for what hardly
//!   any Python program changes; one that does must change it back before it switches.
//! * The shadow stack (x86-64's CET, AArch64's GCS), which would have to be swapped too: where it is
//!   active, returning on another stack than the call was made on is a fault. A C library turns it
//!   on only in a process all of whose objects are marked as made for it. The compiler does not mark
//!   Rust's objects, so with this one loaded it is off, or the C library refuses to load this one;
//!   see `glibc.cpu.x86_shstk` in the C library's manual. Nothing here may be built with
//!   `-Z cf-protection`.
//!
//! Signed return addresses (AArch64's PAC) are no concern: the functions above sign and check their
//! own, and `switch` keeps x30 as it gets it.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub use aarch64::switch;
#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::{prefetch, prepare};
#[cfg(target_arch = "x86_64")]
pub use x86_64::switch;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{prefetch, prepare};

/// Bytes from one prefetched line to the next: a line of most processors. On those with longer ones a
/// line is asked for twice, which does no harm.
const CACHE_LINE: usize = 64;

/// The first function to run on a fresh stack. It never returns: a coroutine ends by switching
/// away for good.
///
/// A panic that leaves it ends the process: there is nothing above it. A forced unwinding
/// (`pthread_exit` in a daemon thread) passes through it, finds the end of the stack and ends the
/// thread, which is what it is for. Hence "C-unwind", and no `catch_unwind` around its body.
pub type Entry = unsafe extern "C-unwind" fn(arg: usize) -> !;
