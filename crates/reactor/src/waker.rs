//! Waking a poll from another thread or from a signal handler.
//!
//! A nonblocking pipe, not an eventfd: C code that writes single bytes from signal handlers, as
//! CPython's `signal.set_wakeup_fd` does, can be handed the write end.
//!
//! A byte is written only if the poll sleeps, and by the first to wake it. A state says so: before
//! the poll waits it changes *awake* to *asleep*, and if that fails because it is *woken*, it does
//! not wait. A wake-up changes the state to *woken*, and writes if it was *asleep* before. After the
//! poll the state is *awake* again, and was it *woken*, that is reported; the read-modify-writes
//! make what the waking thread published before visible to the poll. When something else ends the
//! poll first, the byte may come after that: it ends the next poll early, once, which is reported
//! as a wake-up like any other byte in the pipe.
//!
//! Where something else waits on the poller's descriptor in the poll's place, nobody is asleep as
//! far as the state knows. Once that descriptor was asked for, the pipe is *observed*: every wake-up
//! that is the first since the last poll writes a byte.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

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
    state: AtomicU8,
    observed: AtomicBool,
}

/// No poll waits; it has to look at the state before it does.
const AWAKE: u8 = 0;
/// A poll waits, or is about to.
const ASLEEP: u8 = 1;
/// A wake-up has not been reported.
const WOKEN: u8 = 2;

fn new_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?)
}

impl Waker {
    pub(crate) fn new() -> io::Result<Waker> {
        let (reader, writer) = new_pipe()?;
        let (state, observed) = (AtomicU8::new(AWAKE), AtomicBool::new(false));
        Ok(Waker { pipe: Arc::new(WakePipe { reader, writer, state, observed }) })
    }

    /// Wakes the poll. Costs one atomic operation, and one system call if the poll waits and
    /// nobody has woken it. Async-signal-safe; never blocks.
    #[inline]
    pub fn wake(&self) {
        // In one order with what `observe` does: one of the two sees the other.
        match self.pipe.state.swap(WOKEN, Ordering::SeqCst) {
            ASLEEP => self.write_byte(),
            AWAKE if self.pipe.observed.load(Ordering::SeqCst) => self.write_byte(),
            _ => {}
        }
    }

    /// Has the pipe readable from now on whenever a wake-up has not been reported, whether or not
    /// a poll waits.
    pub(crate) fn observe(&self) {
        if !self.pipe.observed.swap(true, Ordering::SeqCst) {
            self.write_if_woken();
        }
    }

    fn write_if_woken(&self) {
        if self.pipe.state.load(Ordering::SeqCst) == WOKEN {
            self.write_byte();
        }
    }

    fn write_byte(&self) {
        match retry_on_intr(|| write(&self.pipe.writer, &[0])) {
            // A full pipe wakes the poll as well as one byte more would.
            Ok(_) | Err(Errno::AGAIN) => {}
            // Someone closed our descriptor behind our back. There is nobody to tell in a signal
            // handler, and letting the flag stand would make the failure permanent.
            Err(_) => self.pipe.state.store(AWAKE, Ordering::Release),
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

    /// To be called before the poll waits. False if it has been woken already and must not.
    #[inline]
    pub(crate) fn fall_asleep(&self) -> bool {
        let state = &self.pipe.state;
        state.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// To be called after the poll, and after `drain`: what wakes from then on may have to leave a
    /// byte. Whether the poll has been woken; those wake-ups are taken back.
    #[inline]
    pub(crate) fn get_up(&self) -> bool {
        // Nobody else makes it awake: what is awake is left alone, without an atomic exchange.
        self.pipe.state.load(Ordering::Relaxed) != AWAKE
            && self.pipe.state.swap(AWAKE, Ordering::AcqRel) == WOKEN
    }

    /// Empties the pipe. Whether somebody else's bytes were in it: the numbers of signals, which are
    /// never zero.
    pub(crate) fn drain(&self) -> bool {
        let mut buffer = [0; 512];
        let mut foreign = false;
        // A short read has emptied the pipe; after a full one more may be waiting.
        while let Ok(count) = retry_on_intr(|| read(&self.pipe.reader, &mut buffer)) {
            foreign |= buffer[..count].iter().any(|&byte| byte != 0);
            if count < buffer.len() {
                break;
            }
        }
        foreign
    }

    /// In a forked child: a pipe of our own in place of the one shared with the parent, under the
    /// same descriptor numbers, so that every clone of this waker and every holder of
    /// [`raw_fd`](Self::raw_fd) goes on working. A wake-up that was pending stays pending.
    pub(crate) fn reinit_after_fork(&self) -> io::Result<()> {
        let (reader, writer) = new_pipe()?;
        replace(&reader, &self.pipe.reader)?;
        replace(&writer, &self.pipe.writer)?;
        if self.pipe.observed.load(Ordering::Relaxed) {
            self.write_if_woken();
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
    fn only_a_sleeper_is_sent_a_byte_and_only_one() {
        let waker = Waker::new().unwrap();
        waker.wake();
        assert_eq!(bytes_waiting(&waker), 0, "nobody sleeps");
        assert!(!waker.fall_asleep(), "woken before");
        assert!(waker.get_up());
        assert!(!waker.get_up(), "reported once");
        assert!(waker.fall_asleep());
        for _ in 0..3 {
            waker.wake();
        }
        assert_eq!(bytes_waiting(&waker), 1);
        assert!(waker.get_up());
        assert!(waker.fall_asleep());
        assert!(!waker.get_up(), "something else ended the poll");
    }

    #[test]
    fn an_observed_pipe_has_a_byte_for_every_wake_up_that_is_not_reported() {
        let waker = Waker::new().unwrap();
        waker.wake();
        waker.observe();
        assert_eq!(bytes_waiting(&waker), 1, "woken before");
        waker.observe();
        assert_eq!(bytes_waiting(&waker), 0, "told once");
        assert!(waker.get_up());
        for _ in 0..3 {
            waker.wake();
        }
        assert_eq!(bytes_waiting(&waker), 1, "nobody sleeps");
        waker.reinit_after_fork().unwrap();
        assert_eq!(bytes_waiting(&waker), 1, "the one pending goes on to be told");
        assert!(waker.get_up());
        waker.reinit_after_fork().unwrap();
        assert_eq!(bytes_waiting(&waker), 0);
    }

    #[test]
    fn a_full_pipe_neither_blocks_nor_loses_the_wake_up() {
        let waker = Waker::new().unwrap();
        while write(&waker.pipe.writer, &[7; 4096]).is_ok() {}
        assert!(waker.fall_asleep());
        waker.wake();
        assert!(waker.get_up());
        waker.drain();
        assert_eq!(bytes_waiting(&waker), 0);
        assert!(waker.fall_asleep());
        waker.wake();
        assert_eq!(bytes_waiting(&waker), 1);
    }

    #[test]
    fn what_others_have_written_is_told_from_wake_ups() {
        let waker = Waker::new().unwrap();
        assert!(waker.fall_asleep());
        waker.wake();
        assert!(!waker.drain());
        assert!(waker.get_up() && waker.fall_asleep());
        waker.wake();
        assert_eq!(write(&waker.pipe.writer, &[15]), Ok(1));
        assert!(waker.drain());
        assert!(!waker.drain(), "told once");
    }

    #[test]
    fn a_replaced_pipe_keeps_its_numbers_and_what_was_pending() {
        let waker = Waker::new().unwrap();
        let clone = waker.clone();
        let numbers = (waker.reader_fd(), waker.raw_fd());
        waker.wake();
        waker.reinit_after_fork().unwrap();
        assert_eq!((clone.reader_fd(), clone.raw_fd()), numbers);
        assert!(clone.get_up());
        assert!(waker.fall_asleep());
        clone.wake();
        assert_eq!(bytes_waiting(&waker), 1);
    }
}
