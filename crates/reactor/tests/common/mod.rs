//! What the integration tests share. Each test binary uses its part of it.
#![allow(dead_code)]

use std::fmt::Debug;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use greenloop_reactor::{Backend, Fired, Interest, Reactor};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};

pub const READ: Interest = Interest::READABLE;
pub const WRITE: Interest = Interest::WRITABLE;

/// Long enough that only a lost event lets it pass.
pub const HANG: Duration = Duration::from_secs(60);

/// Tests of one binary share the process's descriptor numbers, and some reuse them on purpose.
pub fn one_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a test with each backend, with no other test of the binary beside it.
pub fn each_backend<T>(test: impl Fn(&mut Reactor<T>)) {
    let _turn = one_at_a_time();
    for &backend in Backend::SUPPORTED {
        println!("with {backend}");
        test(&mut Reactor::new(backend).unwrap());
    }
}

pub fn pipe() -> (OwnedFd, OwnedFd) {
    pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap()
}

pub fn sockets() -> (OwnedFd, OwnedFd) {
    socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .unwrap()
}

pub fn raw(fd: &impl AsRawFd) -> RawFd {
    fd.as_raw_fd()
}

pub fn put(fd: impl AsFd) {
    assert_eq!(rustix::io::write(fd, b"x"), Ok(1));
}

/// Writes until the kernel takes no more.
pub fn fill(fd: impl AsFd) {
    loop {
        match rustix::io::write(&fd, &[0; 4096]) {
            Ok(_) => {}
            Err(Errno::AGAIN) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Reads until there is no more.
pub fn empty(fd: impl AsFd) {
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::read(&fd, &mut buffer) {
            Ok(0) | Err(Errno::AGAIN) => return,
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Everything that is ready now.
pub fn poll_now<T: Debug>(reactor: &mut Reactor<T>) -> Vec<Fired<T>> {
    let mut fired = Vec::new();
    let polled = reactor.poll(Some(Duration::ZERO), &mut fired).unwrap();
    assert!(!polled.interrupted);
    fired
}

/// Polls until something fires, as an event loop would.
pub fn poll_until_fired<T: Debug>(reactor: &mut Reactor<T>) -> Vec<Fired<T>> {
    let start = Instant::now();
    let mut fired = Vec::new();
    while fired.is_empty() {
        assert!(start.elapsed() < HANG, "nothing fires");
        reactor.poll(Some(HANG), &mut fired).unwrap();
    }
    fired
}

/// What fired, in brief: waits as `wait DATA FLAGS`, watches as `watch DATA FLAGS`, and so on.
pub fn brief(reactor: &Reactor<&'static str>, fired: &[Fired<&'static str>]) -> Vec<String> {
    let flags = |ready: greenloop_reactor::Ready| {
        let mut flags = String::new();
        for (set, letter) in [
            (ready.readable(), 'r'),
            (ready.writable(), 'w'),
            (ready.error(), 'e'),
            (ready.hangup(), 'h'),
        ] {
            if set {
                flags.push(letter);
            }
        }
        flags
    };
    fired
        .iter()
        .map(|one| match one {
            Fired::Wait { ready, data, .. } => format!("wait {data} {}", flags(*ready)),
            Fired::Watch { key, ready } => {
                let data = reactor.watch_data(*key).unwrap();
                format!("watch {data} {}", flags(*ready))
            }
            Fired::Timer { data, .. } => format!("timer {data}"),
            Fired::Signal { key, signum } => {
                let data = reactor.signal_data(*key).unwrap();
                format!("signal {data} {signum}")
            }
            Fired::Periodic { key } => {
                format!("periodic {}", reactor.periodic_data(*key).unwrap())
            }
            Fired::Child { key, status, .. } => {
                let data = reactor.child_data(*key).unwrap();
                let status = status.map_or("unknown".to_owned(), |status| status.to_string());
                format!("child {data} {status}")
            }
            Fired::Woken => "woken".to_owned(),
        })
        .collect()
}

/// What is ready now, in brief.
pub fn brief_now(reactor: &mut Reactor<&'static str>) -> Vec<String> {
    let fired = poll_now(reactor);
    brief(reactor, &fired)
}

pub fn errno<T>(result: io::Result<T>) -> Option<Errno> {
    result.err().map(|error| Errno::from_io_error(&error).unwrap())
}
