//! epoll(7).
//!
//! Timed waits use `epoll_pwait2` for its nanosecond timeout, and `epoll_wait`'s milliseconds,
//! rounded up, on kernels without it (before 5.11) or under a filter that refuses it. The choice
//! is made once, on the first timed wait.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use super::{Added, Event, Mode, Poller, borrow, timespec};
use crate::types::{Interest, Ready};

/// Reports taken in one wait; the kernel keeps the rest, in turn, for the next one.
const EVENTS_PER_WAIT: usize = 512;

const NANOS_PER_MILLI: u64 = 1_000_000;

pub(crate) struct Epoll {
    epoll: OwnedFd,
    buffer: Vec<epoll::Event>,
    precise: bool,
}

impl Epoll {
    pub(crate) fn open() -> io::Result<Epoll> {
        Ok(Epoll {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            buffer: Vec::with_capacity(EVENTS_PER_WAIT),
            precise: pwait2::AVAILABLE,
        })
    }

    /// Fills `self.buffer`.
    fn wait_into_buffer(&mut self, timeout: Option<u64>) -> io::Result<()> {
        self.buffer.clear();
        if let Some(nanos) = timeout
            && nanos > 0
            && self.precise
        {
            match pwait2::wait(self.epoll.as_fd(), self.buffer.spare_capacity_mut(), nanos) {
                Ok(count) => {
                    // SAFETY: the kernel has initialised `count` entries from the start of the
                    // spare capacity, which is the whole of the cleared buffer.
                    unsafe { self.buffer.set_len(count) };
                    return Ok(());
                }
                // Seccomp filters that predate the call answer EPERM, which is no error of its own.
                Err(Errno::NOSYS | Errno::PERM) => self.precise = false,
                Err(error) => return Err(error.into()),
            }
        }
        let timeout = timeout.map(|nanos| {
            let millis = nanos.div_ceil(NANOS_PER_MILLI).min(i32::MAX as u64);
            timespec(millis * NANOS_PER_MILLI)
        });
        epoll::wait(&self.epoll, spare_capacity(&mut self.buffer), timeout.as_ref())?;
        Ok(())
    }
}

/// The other side has finished sending; urgent data has come.
const UNUSUAL: EventFlags = EventFlags::RDHUP.union(EventFlags::PRI);

fn flags(mode: Mode) -> EventFlags {
    match mode {
        Mode::Edge => EventFlags::IN | EventFlags::OUT | UNUSUAL | EventFlags::ET,
        Mode::Level(interest) => {
            let mut flags = EventFlags::empty();
            flags.set(EventFlags::IN, interest.contains(Interest::READABLE));
            flags.set(EventFlags::OUT, interest.contains(Interest::WRITABLE));
            flags
        }
    }
}

impl Poller for Epoll {
    fn name(&self) -> &'static str {
        "epoll"
    }

    fn fd(&self) -> Option<RawFd> {
        Some(self.epoll.as_raw_fd())
    }

    #[inline]
    fn edge_triggered(&self) -> bool {
        true
    }

    fn add(&mut self, fd: RawFd, token: u64, mode: Mode) -> io::Result<Added> {
        // SAFETY: only lent to epoll_ctl, which reports a closed descriptor as EBADF.
        let fd = unsafe { borrow(fd) };
        let data = EventData::new_u64(token);
        match epoll::add(&self.epoll, fd, data, flags(mode)) {
            Ok(()) => Ok(Added::Pollable),
            Err(Errno::PERM) => Ok(Added::AlwaysReady),
            Err(Errno::EXIST) => {
                epoll::modify(&self.epoll, fd, data, flags(mode))?;
                Ok(Added::Pollable)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn modify(&mut self, fd: RawFd, token: u64, mode: Mode) -> io::Result<()> {
        // SAFETY: only lent to epoll_ctl, which reports a closed descriptor as EBADF.
        let fd = unsafe { borrow(fd) };
        match epoll::modify(&self.epoll, fd, EventData::new_u64(token), flags(mode)) {
            // The number now means a file that epoll cannot poll: not the registered one either.
            Err(Errno::PERM) => Err(Errno::NOENT.into()),
            result => Ok(result?),
        }
    }

    fn delete(&mut self, fd: RawFd) -> io::Result<()> {
        // SAFETY: only lent to epoll_ctl, which reports a closed descriptor as EBADF.
        let fd = unsafe { borrow(fd) };
        Ok(epoll::delete(&self.epoll, fd)?)
    }

    fn wait(&mut self, timeout: Option<u64>, events: &mut Vec<Event>) -> io::Result<()> {
        self.wait_into_buffer(timeout)?;
        events.extend(self.buffer.iter().map(|event| {
            let flags = event.flags;
            let mut ready = Ready::new(
                flags.contains(EventFlags::IN),
                flags.contains(EventFlags::OUT),
                flags.contains(EventFlags::ERR),
                flags.contains(EventFlags::HUP),
            );
            if flags.intersects(UNUSUAL) {
                ready = ready.and(Ready::UNUSUAL);
            }
            Event { token: event.data.u64(), ready }
        }));
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        // Nothing is deregistered from the old instance: after a fork it is the parent's too.
        self.epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(())
    }
}

/// `epoll_pwait2`, which the C libraries we must run on may lack and rustix uses for long
/// timeouts only.
#[cfg(not(any(
    target_arch = "mips",
    target_arch = "mips64",
    target_arch = "mips32r6",
    target_arch = "mips64r6",
    all(target_arch = "x86_64", target_pointer_width = "32"),
)))]
mod pwait2 {
    use std::ffi::{c_int, c_long};
    use std::os::fd::{AsRawFd, BorrowedFd};
    use std::ptr;

    use super::{Errno, MaybeUninit, epoll};
    use crate::sys::NANOS_PER_SECOND;

    pub(super) const AVAILABLE: bool = true;

    /// The same on every architecture that this module is compiled for.
    const SYS_EPOLL_PWAIT2: c_long = 441;

    /// The kernel's `__kernel_timespec`: 64 bits each on every architecture.
    #[repr(C)]
    struct KernelTimespec {
        seconds: i64,
        nanos: i64,
    }

    unsafe extern "C" {
        fn syscall(number: c_long, ...) -> c_long;
    }

    /// Waits for up to `nanos`; the first so many entries of `buffer` are initialised then.
    pub(super) fn wait(
        epoll: BorrowedFd<'_>,
        buffer: &mut [MaybeUninit<epoll::Event>],
        nanos: u64,
    ) -> Result<usize, Errno> {
        let timeout = KernelTimespec {
            seconds: (nanos / NANOS_PER_SECOND) as i64,
            nanos: (nanos % NANOS_PER_SECOND) as i64,
        };
        // SAFETY: the arguments are of the types that epoll_pwait2 takes. The kernel writes at
        // most `buffer.len()` events into `buffer` (rustix's `Event` is the kernel's
        // `epoll_event`), reads `timeout`, and takes a null signal mask as none.
        let result = unsafe {
            syscall(
                SYS_EPOLL_PWAIT2,
                epoll.as_raw_fd(),
                buffer.as_mut_ptr(),
                buffer.len() as c_int,
                &raw const timeout,
                ptr::null::<u8>(),
                0_usize,
            )
        };
        usize::try_from(result).map_err(|_| {
            Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
        })
    }
}

#[cfg(any(
    target_arch = "mips",
    target_arch = "mips64",
    target_arch = "mips32r6",
    target_arch = "mips64r6",
    all(target_arch = "x86_64", target_pointer_width = "32"),
))]
mod pwait2 {
    use std::os::fd::BorrowedFd;

    use super::{Errno, MaybeUninit, epoll};

    pub(super) const AVAILABLE: bool = false;

    pub(super) fn wait(
        _: BorrowedFd<'_>,
        _: &mut [MaybeUninit<epoll::Event>],
        _: u64,
    ) -> Result<usize, Errno> {
        Err(Errno::NOSYS)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Both kinds of timed wait sleep for at least the timeout, never rounding it down.
    #[test]
    fn timed_waits_are_not_short_with_or_without_pwait2() {
        for precise in [true, false] {
            let mut epoll = Epoll::open().unwrap();
            epoll.precise &= precise;
            for micros in [1, 300, 1_300] {
                let timeout = Duration::from_micros(micros);
                let start = Instant::now();
                let mut events = Vec::new();
                epoll.wait(Some(timeout.as_nanos() as u64), &mut events).unwrap();
                assert!(events.is_empty());
                assert!(start.elapsed() >= timeout);
            }
        }
    }

    #[test]
    fn a_timeout_of_zero_returns_at_once_and_a_huge_one_is_accepted() {
        let mut epoll = Epoll::open().unwrap();
        let mut events = Vec::new();
        epoll.wait(Some(0), &mut events).unwrap();
        assert!(events.is_empty());

        let (reader, writer) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&writer, b"x").unwrap();
        epoll.add(reader.as_raw_fd(), 9, Mode::Level(Interest::READABLE)).unwrap();
        for precise in [true, false] {
            epoll.precise &= precise;
            epoll.wait(Some(u64::MAX), &mut events).unwrap();
            assert_eq!(events.pop().unwrap().token, 9);
        }
    }
}
