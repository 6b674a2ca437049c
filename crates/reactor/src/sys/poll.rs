//! poll(2): the portable backend.
//!
//! Linear in the number of descriptors with a waiter, but free of system calls for changing
//! interest, so the reactor keeps the interests exact. A descriptor whose interest is empty stays
//! known but out of the polled array: poll reports hang-ups even of entries that ask for nothing.

use std::io;
use std::os::fd::RawFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, fcntl_getfd};

use super::{Added, Event, Mode, Poller, borrow, timespec};
use crate::types::{Interest, Ready};

/// What is known of one descriptor number.
#[derive(Copy, Clone)]
enum Entry {
    Absent,
    /// Registered with an empty interest.
    Parked,
    /// At this position of the polled array.
    Polled(usize),
}

pub(crate) struct Poll {
    entries: Vec<Entry>,
    // `polled`, `tokens` and `numbers` run in parallel; `polled` is what the kernel sees.
    polled: Vec<PollFd<'static>>,
    tokens: Vec<u64>,
    numbers: Vec<RawFd>,
}

impl Poll {
    fn new() -> Poll {
        Poll { entries: Vec::new(), polled: Vec::new(), tokens: Vec::new(), numbers: Vec::new() }
    }

    /// Opens nothing, so it cannot fail.
    pub(crate) fn open() -> io::Result<Poll> {
        Ok(Poll::new())
    }

    fn set(&mut self, fd: RawFd, token: u64, interest: Interest) {
        let index = fd as usize;
        if interest.is_empty() {
            self.unpoll(fd);
            self.entries[index] = Entry::Parked;
            return;
        }
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, interest.contains(Interest::READABLE));
        flags.set(PollFlags::OUT, interest.contains(Interest::WRITABLE));
        // SAFETY: only lent to poll(2), which reports a closed descriptor as POLLNVAL, and
        // dropped with the registration.
        let polled = PollFd::from_borrowed_fd(unsafe { borrow(fd) }, flags);
        if let Entry::Polled(position) = self.entries[index] {
            self.polled[position] = polled;
            self.tokens[position] = token;
        } else {
            self.entries[index] = Entry::Polled(self.polled.len());
            self.polled.push(polled);
            self.tokens.push(token);
            self.numbers.push(fd);
        }
    }

    fn unpoll(&mut self, fd: RawFd) {
        if let Entry::Polled(position) = self.entries[fd as usize] {
            self.polled.swap_remove(position);
            self.tokens.swap_remove(position);
            self.numbers.swap_remove(position);
            if let Some(&moved) = self.numbers.get(position) {
                self.entries[moved as usize] = Entry::Polled(position);
            }
        }
    }

    fn is_registered(&self, fd: RawFd) -> bool {
        !matches!(self.entries.get(fd as usize), None | Some(Entry::Absent))
    }
}

fn level(mode: Mode) -> Interest {
    match mode {
        Mode::Level(interest) => interest,
        // Not asked for by a caller that heeds `edge_triggered`; level readiness of both
        // directions reports at least as much.
        Mode::Edge => Interest::BOTH,
    }
}

impl Poller for Poll {
    fn name(&self) -> &'static str {
        "poll"
    }

    #[inline]
    fn edge_triggered(&self) -> bool {
        false
    }

    fn add(&mut self, fd: RawFd, token: u64, mode: Mode) -> io::Result<Added> {
        // SAFETY: only lent to fcntl, which reports a closed descriptor as EBADF.
        fcntl_getfd(unsafe { borrow(fd) })?;
        // The number is open, so it is small enough to index a table with.
        let index = fd as usize;
        if index >= self.entries.len() {
            self.entries.resize(index + 1, Entry::Absent);
        }
        self.set(fd, token, level(mode));
        Ok(Added::Pollable)
    }

    fn modify(&mut self, fd: RawFd, token: u64, mode: Mode) -> io::Result<()> {
        if !self.is_registered(fd) {
            return Err(Errno::NOENT.into());
        }
        self.set(fd, token, level(mode));
        Ok(())
    }

    fn delete(&mut self, fd: RawFd) -> io::Result<()> {
        if !self.is_registered(fd) {
            return Err(Errno::NOENT.into());
        }
        self.unpoll(fd);
        self.entries[fd as usize] = Entry::Absent;
        Ok(())
    }

    fn wait(&mut self, timeout: Option<u64>, events: &mut Vec<Event>) -> io::Result<()> {
        let timeout = timeout.map(timespec);
        let mut left = poll(&mut self.polled, timeout.as_ref())?;
        for (polled, &token) in self.polled.iter().zip(&self.tokens) {
            if left == 0 {
                break;
            }
            let flags = polled.revents();
            if flags.is_empty() {
                continue;
            }
            left -= 1;
            let ready = if flags.contains(PollFlags::NVAL) {
                Ready::CLOSED
            } else {
                Ready::new(
                    flags.contains(PollFlags::IN),
                    flags.contains(PollFlags::OUT),
                    flags.contains(PollFlags::ERR),
                    flags.contains(PollFlags::HUP),
                )
            };
            events.push(Event { token, ready });
        }
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        *self = Poll::new();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_bad_number_is_refused_without_growing_the_table() {
        let mut poll = Poll::new();
        let error = poll.add(i32::MAX, 1, Mode::Level(Interest::READABLE)).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::BADF));
        assert!(poll.entries.is_empty());
    }

    #[test]
    fn removal_from_the_middle_keeps_the_tables_in_step() {
        let mut poll = Poll::new();
        let pipes: Vec<_> = (0..4).map(|_| rustix::pipe::pipe().unwrap()).collect();
        for (number, (reader, writer)) in pipes.iter().enumerate() {
            rustix::io::write(writer, b"x").unwrap();
            poll.add(reader.as_raw_fd(), number as u64, Mode::Level(Interest::READABLE)).unwrap();
        }
        poll.delete(pipes[1].0.as_raw_fd()).unwrap();
        poll.modify(pipes[3].0.as_raw_fd(), 30, Mode::Level(Interest::READABLE)).unwrap();
        poll.modify(pipes[0].0.as_raw_fd(), 0, Mode::Level(Interest::EMPTY)).unwrap();
        let mut events = Vec::new();
        poll.wait(Some(0), &mut events).unwrap();
        let mut tokens: Vec<_> = events.iter().map(|event| event.token).collect();
        tokens.sort_unstable();
        assert_eq!(tokens, [2, 30]);
        assert!(poll.delete(pipes[1].0.as_raw_fd()).is_err());
    }
}
