//! A stub resolver: finds hosts as the C library does, without input and output of its own.
//!
//! * `lookup` is the way from a host's name to its addresses, and back: through the sources that
//!   nsswitch.conf names and the domains of the search list. It asks for one full name after the
//!   other through the trait [`lookup::Ask`], whose implementation may wait.
//! * `exchange` is one such question: which server to send it to, for how long to wait, what to do
//!   next. Its owner does the sending.
//! * `message` has the questions and answers themselves, by hickory-proto; `name` the names in them.
//! * `cache` keeps answers as long as they hold.
//! * `order` sorts addresses (RFC 6724).
//! * `hosts`, `resolv_conf`, `nsswitch` read the texts of the files in `/etc`; `files` reads the
//!   files, when they have changed. `system` asks the system for the rest.
//!
//! Why not hickory-resolver: it runs on an asynchronous runtime and has tasks of its own, where
//! here greenlets wait on the hub's reactor; and it goes its own way where programs expect what
//! the C library does.

#![warn(missing_docs)]

pub mod cache;
pub mod exchange;
pub mod files;
pub mod hosts;
pub mod lookup;
pub mod message;
pub mod name;
pub mod nsswitch;
pub mod order;
pub mod resolv_conf;
pub mod system;
