//! Primitives that greenlets and threads wait on.

pub mod links;
