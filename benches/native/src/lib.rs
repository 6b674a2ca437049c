//! What both programs need: epoll, the standard input as the sign to end, arguments.

pub mod arguments;
pub mod epoll;

use std::io;
use std::os::fd::AsRawFd;

/// Lets this process open as many files as it is allowed to.
pub fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid structure, read and written by the calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// Keeps this process on one CPU.
pub fn run_on(cpu: usize) -> io::Result<()> {
    // SAFETY: a set of CPUs is plain bits, and zero is an empty one; the call reads it.
    let status = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What a nonblocking call has done: `None` if it would block.
fn outcome(result: isize) -> io::Result<Option<usize>> {
    match usize::try_from(result) {
        Ok(count) => Ok(Some(count)),
        Err(_) => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            error => Err(error),
        },
    }
}

/// recv(2) on a nonblocking socket: `None` if nothing is there, 0 at the end.
pub fn receive(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: the buffer's own memory.
    outcome(unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) })
}

/// send(2) on a nonblocking socket: `None` if there is no room.
pub fn send(socket: &impl AsRawFd, data: &[u8]) -> io::Result<Option<usize>> {
    // SAFETY: the data's own memory.
    outcome(unsafe {
        libc::send(socket.as_raw_fd(), data.as_ptr().cast(), data.len(), libc::MSG_NOSIGNAL)
    })
}
