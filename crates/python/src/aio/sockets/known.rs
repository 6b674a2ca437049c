//! What a loop has of sockets that something was waited for on, and who waits for them.

use crate::aio::event_loop::AsyncioLoop;
use crate::aio::futures;
use crate::hub::event_loop::EventLoop;
use crate::net::attach::plain_state;
use crate::net::state::{new_owner, socket_option};
use greenloop_reactor::WaitKey;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyWeakrefMethods, PyWeakrefReference};
use pyo3::{PyTraverseError, PyVisit};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::os::fd::RawFd;

/// A coroutine that waits for a descriptor.
pub struct Waiting {
    pub future: Py<PyAny>,
    pub key: Option<WaitKey>,
    /// The socket, if it is held: see `hold`.
    pub held: Option<Py<PyAny>>,
}

/// A socket that something was waited for on.
#[derive(Clone, Copy)]
pub struct Known {
    /// The number that the reactor knows the socket object by.
    pub owner: u64,
    /// Reads that get less than they asked for have found it empty.
    pub is_tcp: bool,
    pub domain: c_int,
    /// Closing it wakes who waits for it.
    pub is_cooperative: bool,
}

struct Entry {
    socket: Py<PyWeakrefReference>,
    known: Known,
    /// The last read brought much.
    reads_much: Cell<bool>,
}

/// What a loop has of sockets.
#[derive(Default)]
pub struct Sockets {
    pub(super) waiting: RefCell<Slab<Waiting>>,
    /// By descriptor.
    entries: RefCell<Vec<Option<Entry>>>,
    /// The descriptors of transports: what is behind the loop's `_transports`.
    transports: RefCell<Option<Py<PyDict>>>,
}

impl Sockets {
    /// What is known of a socket. Finds it out if it is new.
    pub(super) fn know(&self, socket: &Bound<'_, PyAny>, fd: RawFd) -> PyResult<Known> {
        let py = socket.py();
        let index = fd as usize;
        if let Some(Some(entry)) = self.entries.borrow().get(index)
            && entry.socket.bind(py).upgrade().is_some_and(|known| known.is(socket))
        {
            return Ok(entry.known);
        }
        // A cooperative socket has a number of its own.
        let state = plain_state(socket);
        let is_cooperative = state.is_some();
        let owner = state.map(|state| state.get().owner()).filter(|&owner| owner > 0);
        let known = Known {
            is_cooperative,
            owner: owner.unwrap_or_else(new_owner),
            is_tcp: socket_option(fd, libc::SO_PROTOCOL) == Some(libc::IPPROTO_TCP),
            domain: socket_option(fd, libc::SO_DOMAIN).unwrap_or(-1),
        };
        let socket = PyWeakrefReference::new(socket)?.unbind();
        let mut entries = self.entries.borrow_mut();
        if entries.len() <= index {
            entries.resize_with(index + 1, || None);
        }
        let before = entries[index].replace(Entry { socket, known, reads_much: Cell::new(false) });
        drop(entries);
        drop(before);
        Ok(known)
    }

    /// Whether the last read of a descriptor brought much; sets it if told to.
    pub(super) fn reads_much(&self, fd: RawFd, now: Option<bool>) -> bool {
        match self.entries.borrow().get(fd as usize) {
            Some(Some(entry)) => match now {
                Some(now) => entry.reads_much.replace(now),
                None => entry.reads_much.get(),
            },
            _ => false,
        }
    }

    /// A wait's descriptor is ready, or gone: the coroutine tries again.
    pub fn ready(
        py: Python<'_>,
        hub_loop: &EventLoop,
        event_loop: &Py<AsyncioLoop>,
        index: usize,
        binding: u64,
    ) {
        let event_loop = event_loop.bind(py);
        let this = event_loop.get();
        this.count_gone(hub_loop, binding);
        if this.binding.get() != binding {
            return;
        }
        let waiting = this.sockets.waiting.borrow_mut().try_remove(index);
        if let Some(waiting) = waiting
            && let Err(error) = futures::complete(waiting.future.bind(py))
        {
            error.write_unraisable(py, Some(event_loop));
        }
    }

    /// The loop has gone to another hub: who waits tries again, and waits there.
    pub fn moved(&self, py: Python<'_>) -> PyResult<()> {
        let waiting: Vec<Waiting> = self.waiting.borrow_mut().drain().collect();
        for one in waiting {
            futures::complete(one.future.bind(py))?;
        }
        Ok(())
    }

    /// Lets go of all, when the loop is closed.
    pub fn close(event_loop: &AsyncioLoop) {
        let this = &event_loop.sockets;
        let waiting: Vec<Waiting> = this.waiting.borrow_mut().drain().collect();
        for one in &waiting {
            event_loop.stop_waiting(one.key);
        }
        // SAFETY: loops are closed with the GIL held.
        let py = unsafe { Python::assume_attached() };
        for socket in waiting.iter().filter_map(|one| one.held.as_ref()) {
            if let Err(error) = release(socket.bind(py)) {
                error.write_unraisable(py, Some(socket.bind(py)));
            }
        }
        let (entries, transports) = (this.entries.take(), this.transports.take());
        drop((waiting, entries, transports));
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(waiting) = self.waiting.try_borrow() {
            for (_, one) in &*waiting {
                visit.call(&one.future)?;
            }
        }
        if let Ok(transports) = self.transports.try_borrow() {
            visit.call(&*transports)?;
        }
        Ok(())
    }
}

/// Has a socket stay open that a coroutine waits for, if it is closed meanwhile, until `release`: as
/// `makefile` does. Otherwise nobody would ever wake the coroutine, and the number of the descriptor
/// could become another socket's under its hands. False if that is not for this socket.
pub fn hold(socket: &Bound<'_, PyAny>) -> PyResult<bool> {
    let name = intern!(socket.py(), "_io_refs");
    match socket.getattr_opt(name)? {
        Some(count) => socket.setattr(name, count.extract::<isize>()? + 1).map(|()| true),
        None => Ok(false),
    }
}

/// Lets go of a socket that was held, and closes it if the program has done so.
pub fn release(socket: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = socket.py();
    let name = intern!(py, "_io_refs");
    let count: isize = socket.getattr(name)?.extract()?;
    socket.setattr(name, (count - 1).max(0))?;
    if socket.getattr(intern!(py, "_closed"))?.is_truthy()? {
        socket.call_method0(intern!(py, "close"))?;
    }
    Ok(())
}

impl AsyncioLoop {
    /// Takes a wait for a descriptor back.
    pub(super) fn stop_waiting(&self, key: Option<WaitKey>) {
        if let Some(key) = key
            && let Some(hub_loop) = self.hub_loop()
            && hub_loop.is_local()
            && !hub_loop.is_closed()
        {
            let source = hub_loop.reactor(|reactor| reactor.wait_cancel(key));
            if source.is_some() {
                self.count(hub_loop, false);
            }
            drop(source);
        }
    }

    /// # Errors
    ///
    /// RuntimeError if a transport uses the descriptor.
    pub(super) fn check_no_transport(slf: &Bound<'_, Self>, fd: RawFd) -> PyResult<()> {
        let py = slf.py();
        let place = &slf.get().sockets.transports;
        let transports = place.borrow().as_ref().map(|transports| transports.clone_ref(py));
        let transports = match transports {
            Some(transports) => transports.into_bound(py),
            None => {
                let transports = slf.getattr(intern!(py, "_transports"))?;
                let transports = transports.getattr(intern!(py, "data"))?.cast_into::<PyDict>()?;
                *place.borrow_mut() = Some(transports.clone().unbind());
                transports
            }
        };
        if transports.contains(fd)? {
            slf.call_method1(intern!(py, "_ensure_fd_no_transport"), (fd,))?;
        }
        Ok(())
    }
}
