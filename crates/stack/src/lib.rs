//! Stackful coroutines on shared stack slots.
//!
//! A thread owns an [`Arena`] with a small number of *slots*. A slot is one mapping:
//!
//! ```text
//!   low addresses                                              high addresses
//!   +-------+----------------------------------+---------------------+-------+
//!   | guard |  ........  <- C stack grows down  | data area grows ->  | guard |
//!   +-------+----------------------------------+---------------------+-------+
//!                                            middle
//! ```
//!
//! A [`Coroutine`] gets a slot as its *home* when it first runs and keeps that address for life.
//! Homes are shared: when a coroutine must run and another one's bytes lie in its home, the
//! other's used range (from its stack pointer up to the end of its data area) is copied to the
//! heap, and copied back to the same address before it runs again. So a parked coroutine costs
//! its used bytes only, no matter how many there are, and the number of mappings stays small.
//!
//! The data area is there for whoever builds on this crate: the Python layer puts the
//! interpreter's frame stack into it, so that frames travel with the C stack in one copy.
//!
//! A stack that runs into its guard ends the process, as any stack would, but not without a message
//! that says what happened, see `fault`.
//!
//! Nothing here knows about Python. The crate moves bytes and swaps stack pointers; what else
//! has to follow (pointers into a moved range) is the business of [`Hooks`].

mod arch;
mod arena;
mod coroutine;
mod fault;
mod guards;
mod limits;
mod mapping;
mod valgrind;

pub use arch::{Entry, switch};
pub use arena::{Arena, Config, Home, Hooks};
pub use coroutine::Coroutine;
pub use fault::{Message, Overflow};
