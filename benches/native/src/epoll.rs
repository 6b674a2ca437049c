//! epoll(7), level-triggered.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// What the program's standard input is registered under: its end is the sign to end.
pub const STDIN: u64 = u64::MAX;

const EVENTS_PER_WAIT: usize = 512;

pub struct Epoll {
    epoll: OwnedFd,
    buffer: Vec<libc::epoll_event>,
}

/// Which directions are of interest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    Read,
    ReadWrite,
}

impl Interest {
    fn bits(self) -> u32 {
        (match self {
            Interest::Read => libc::EPOLLIN,
            Interest::ReadWrite => libc::EPOLLIN | libc::EPOLLOUT,
        }) as u32
    }
}

impl Epoll {
    /// An instance on which the end of standard input is reported as [`STDIN`].
    pub fn new() -> io::Result<Self> {
        // SAFETY: a new descriptor, or -1.
        let epoll = unsafe {
            match libc::epoll_create1(libc::EPOLL_CLOEXEC) {
                -1 => return Err(io::Error::last_os_error()),
                fd => OwnedFd::from_raw_fd(fd),
            }
        };
        let empty = libc::epoll_event { events: 0, u64: 0 };
        let this = Epoll { epoll, buffer: vec![empty; EVENTS_PER_WAIT] };
        this.control(libc::EPOLL_CTL_ADD, &io::stdin(), STDIN, Interest::Read)?;
        Ok(this)
    }

    pub fn add(&self, file: &impl AsRawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, file, token, interest)
    }

    pub fn modify(&self, file: &impl AsRawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, file, token, interest)
    }

    fn control(
        &self,
        operation: i32,
        file: &impl AsRawFd,
        token: u64,
        interest: Interest,
    ) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest.bits(), u64: token };
        let (epoll, fd) = (self.epoll.as_raw_fd(), file.as_raw_fd());
        // SAFETY: a valid event, which the call reads.
        let status = unsafe { libc::epoll_ctl(epoll, operation, fd, &raw mut event) };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Waits for up to `timeout` milliseconds, for ever if it is -1; fills `tokens` with what is
    /// ready.
    pub fn wait(&mut self, timeout: i32, tokens: &mut Vec<u64>) -> io::Result<()> {
        tokens.clear();
        // SAFETY: the buffer has room for that many events.
        let count = unsafe {
            libc::epoll_wait(
                self.epoll.as_raw_fd(),
                self.buffer.as_mut_ptr(),
                EVENTS_PER_WAIT as i32,
                timeout,
            )
        };
        match usize::try_from(count) {
            Ok(count) => tokens.extend(self.buffer[..count].iter().map(|event| event.u64)),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
        Ok(())
    }
}
