//! The event loop under greenloop: descriptor readiness, timers, signals and wake-ups.
//!
//! A [`Reactor`] belongs to one thread. Its owner leaves a payload with every wait, watch, timer
//! and signal, calls [`Reactor::poll`], and gets back what fired. It runs no callbacks, knows no
//! greenlets and no Python, and drops no payload behind its owner's back.
//!
//! # Protocol
//!
//! * **Try first, then wait.** A socket object tries its nonblocking call, and on `EAGAIN` leaves
//!   a one-shot wait under its owner number ([`Reactor::wait_fd`]), with no poll in between. Its
//!   descriptor is registered once, edge-triggered for both directions, and kept, so that a wait
//!   costs no system call. Why no edge is lost is argued in the module `descriptors`. Who has just
//!   found a byte stream empty by a short read need not try ([`Reactor::note_exhausted`]).
//! * **Forget, then close.** [`Reactor::forget_fd`] comes before `close`.
//! * **Keys outlive what they name.** Every key is given once. One whose object has fired or was
//!   removed is refused with `None`, so a batch of fired things can be worked off while their
//!   callbacks cancel each other: a wait or timer in the batch is already over, a watch in it is
//!   looked up with [`Reactor::watch_data`], and `None` means that it was taken back meanwhile.
//! * **After a fork** the child calls [`Reactor::reinit_after_fork`] before anything else.
//!
//! # Parts
//!
//! `reactor` ties together `descriptors` (who waits on what, and how it is registered, over the
//! tables in `fdtable` and `arena`), `timers`, `signals` and `waker`, and what stands on these:
//! `children` (processes) and `periodic` (the wall clock). `paths` is for files, and stands apart.
//! `sys` holds the contract of the kernel interfaces and one file for each.

#![deny(clippy::undocumented_unsafe_blocks, unsafe_op_in_unsafe_fn)]
#![warn(missing_docs)]

mod arena;
mod children;
mod descriptors;
mod fdtable;
mod paths;
mod periodic;
mod reactor;
mod signals;
mod sys;
mod timers;
mod types;
mod waker;

pub use paths::PathHint;
pub use reactor::{Reactor, monotonic_ns};
pub use sys::Backend;
pub use types::{
    ChildKey, Fired, Interest, ParseBackendError, PeriodicKey, Polled, Ready, SignalKey, TimerKey,
    WaitKey, WatchKey,
};
pub use waker::Waker;
