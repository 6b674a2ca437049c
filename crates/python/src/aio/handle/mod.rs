//! `Handle` and `TimerHandle`: a callback that a loop is to call.
//!
//! One is made for every `call_soon`, so they are written by hand: memory of freed ones is used
//! again, and a single argument, which most callbacks have, is kept without a tuple.
//!
//! Programs take them for `asyncio.Handle` and `asyncio.TimerHandle`: these are what `isinstance`
//! finds, by way of `__class__`. They could be derived from them, but would then have to be made,
//! filled and freed as objects of Python classes.
//!
//! * `object`: a handle's memory, and what the loop does with it
//! * `class`: what Python code sees of it

mod class;
mod object;

pub use class::register;
pub use object::{HandleObject, HandleRef, flag};
