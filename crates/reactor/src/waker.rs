//! Waking a poll from another thread or from a signal handler.
//!
//! A nonblocking pipe, not an eventfd: C code that writes single bytes from signal handlers, as
//! CPython's `signal.set_wakeup_fd` does, can be handed the write end.
//!
//! A flag saves the write when a wake-up is pending already. The reader drains the pipe *first*
//! and clears the flag *after*: a wake-up between the two finds the flag set and writes nothing,
//! but it is covered by the `Woken` that the reader is about to report, and the read-modify-write
//! on the flag makes what its thread published before it visible to the reader. Were the flag
//! cleared first, the drain could swallow the byte of a newer wake-up and leave the flag set
//! over an empty pipe, and no wake-up would get through again.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{DupFlags, Errno, dup3, read, retry_on_intr, write};
use rustix::pipe::{PipeFlags, pipe_with};

/// Ends a poll that is under way in another thread, or makes the next one return at once.
///
/// May be cloned, sent anywhere, used from signal handlers, and outlive its reactor.
#[derive(Clone, Debug)]
pub struct Waker {
    pipe: Arc<WakePipe>,
}

#[derive(Debug)]
struct WakePipe {
    // The read end is held by the wakers too: a write to a pipe nobody can read would raise
    // SIGPIPE in a process that has not disabled it.
    reader: OwnedFd,
    writer: OwnedFd,
    pending: AtomicBool,
}

fn new_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?)
}

impl Waker {
    pub(crate) fn new() -> io::Result<Waker> {
        let (reader, writer) = new_pipe()?;
        Ok(Waker { pipe: Arc::new(WakePipe { reader, writer, pending: AtomicBool::new(false) }) })
    }

    /// Wakes the poll. Costs one atomic operation while an earlier wake-up is still pending,
    /// one system call otherwise. Async-signal-safe; never blocks.
    #[inline]
    pub fn wake(&self) {
        if !self.pipe.pending.swap(true, Ordering::AcqRel) {
            self.write_byte();
        }
    }

    fn write_byte(&self) {
        match retry_on_intr(|| write(&self.pipe.writer, &[0])) {
            // A full pipe wakes the poll as well as one byte more would.
            Ok(_) | Err(Errno::AGAIN) => {}
            // Someone closed our descriptor behind our back. There is nobody to tell in a signal
            // handler, and letting the flag stand would make the failure permanent.
            Err(_) => self.pipe.pending.store(false, Ordering::Release),
        }
    }

    /// The pipe's write end: nonblocking, valid as long as the reactor or any of its wakers
    /// lives, and across [`Reactor::reinit_after_fork`](crate::Reactor::reinit_after_fork). Any
    /// byte written to it wakes the poll.
    pub fn raw_fd(&self) -> RawFd {
        self.pipe.writer.as_raw_fd()
    }

    pub(crate) fn reader_fd(&self) -> RawFd {
        self.pipe.reader.as_raw_fd()
    }

    /// Takes back all wake-ups so far.
    pub(crate) fn consume(&self) {
        let mut buffer = [0; 512];
        // A short read has emptied the pipe; after a full one more may be waiting.
        while let Ok(count) = retry_on_intr(|| read(&self.pipe.reader, &mut buffer)) {
            if count < buffer.len() {
                break;
            }
        }
        self.pipe.pending.swap(false, Ordering::AcqRel);
    }

    /// In a forked child: a pipe of our own in place of the one shared with the parent, under the
    /// same descriptor numbers, so that every clone of this waker and every holder of
    /// [`raw_fd`](Self::raw_fd) goes on working. A wake-up that was pending stays pending.
    pub(crate) fn reinit_after_fork(&self) -> io::Result<()> {
        let (reader, writer) = new_pipe()?;
        replace(&reader, &self.pipe.reader)?;
        replace(&writer, &self.pipe.writer)?;
        if self.pipe.pending.load(Ordering::Acquire) {
            self.write_byte();
        }
        Ok(())
    }
}

/// Makes `target`'s number stand for the file of `source`.
fn replace(source: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    // SAFETY: `target` owns an open descriptor and stays borrowed for the whole block;
    // ManuallyDrop keeps this second handle from closing it.
    let mut alias = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(target.as_raw_fd()) });
    dup3(source.as_fd(), &mut alias, DupFlags::CLOEXEC)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_waiting(waker: &Waker) -> usize {
        let mut buffer = [0; 64];
        read(&waker.pipe.reader, &mut buffer).unwrap_or(0)
    }

    #[test]
    fn wake_ups_coalesce_until_consumed() {
        let waker = Waker::new().unwrap();
        for _ in 0..3 {
            waker.wake();
        }
        assert_eq!(bytes_waiting(&waker), 1);
        waker.wake();
        assert_eq!(bytes_waiting(&waker), 0, "still pending: no second byte");
        waker.consume();
        waker.wake();
        assert_eq!(bytes_waiting(&waker), 1);
    }

    #[test]
    fn a_full_pipe_neither_blocks_nor_loses_the_wake_up() {
        let waker = Waker::new().unwrap();
        while write(&waker.pipe.writer, &[7; 4096]).is_ok() {}
        waker.wake();
        waker.consume();
        assert_eq!(bytes_waiting(&waker), 0);
        waker.wake();
        assert_eq!(bytes_waiting(&waker), 1);
    }

    #[test]
    fn a_replaced_pipe_keeps_its_numbers_and_what_was_pending() {
        let waker = Waker::new().unwrap();
        let clone = waker.clone();
        let numbers = (waker.reader_fd(), waker.raw_fd());
        waker.wake();
        waker.reinit_after_fork().unwrap();
        assert_eq!((clone.reader_fd(), clone.raw_fd()), numbers);
        assert_eq!(bytes_waiting(&clone), 1);
        clone.consume();
        clone.wake();
        assert_eq!(bytes_waiting(&waker), 1);
    }
}
