//! Readers and writers: callbacks that are called as long as a descriptor is ready.
//!
//! Each direction of a descriptor is watched for itself, and its handle is what the reactor keeps, so
//! that nothing has to be looked up when it is ready. A handle whose callback is being called, because
//! that waits for something, is not called a second time: its descriptor is *set aside*, not watched
//! until the callback has returned. The same is done with descriptors that are ready while the loop
//! does not run, which would otherwise be reported in each round of the hub.

use super::event_loop::AsyncioLoop;
use super::handle::{HandleRef, flag};
use super::runner;
use crate::hub::event_loop::EventLoop;
use crate::hub::{Source, reactor_error};
use greenloop_reactor::{Interest, Ready, WatchKey};
use pyo3::prelude::*;
use std::cell::{Cell, RefCell};

/// One direction of a descriptor.
struct Watched {
    handle: HandleRef,
    key: Option<WatchKey>,
}

/// A loop's readers and writers, by descriptor.
pub struct Descriptors {
    table: RefCell<Vec<[Option<Watched>; 2]>>,
    /// There are some that are to be watched and are not.
    incomplete: Cell<bool>,
}

impl Descriptors {
    pub const fn new() -> Self {
        Self { table: RefCell::new(Vec::new()), incomplete: Cell::new(false) }
    }

    pub fn is_incomplete(&self) -> bool {
        self.incomplete.get()
    }

    /// Whether a descriptor has a reader or writer.
    pub fn has(&self, fd: i32) -> bool {
        let table = self.table.borrow();
        usize::try_from(fd)
            .ok()
            .and_then(|index| table.get(index))
            .is_some_and(|both| both.iter().any(Option::is_some))
    }

    fn replace(&self, fd: usize, writer: bool, new: Option<Watched>) -> Option<Watched> {
        let mut table = self.table.borrow_mut();
        if table.len() <= fd {
            new.as_ref()?;
            table.resize_with(fd + 1, || [None, None]);
        }
        std::mem::replace(&mut table[fd][usize::from(writer)], new)
    }

    /// Has a handle called whenever the descriptor is ready; it takes the place of the one before,
    /// which is cancelled.
    ///
    /// # Errors
    ///
    /// OSError if the descriptor cannot be watched.
    pub fn add(slf: &Bound<'_, AsyncioLoop>, fd: usize, handle: HandleRef) -> PyResult<()> {
        let this = slf.get();
        let writer = handle.has(flag::WRITER);
        let local = AsyncioLoop::local(slf)?;
        let old = this.descriptors.replace(fd, writer, None);
        let mut key = None;
        if let Some(old) = old {
            // The watch goes on for the new handle; only what it keeps is exchanged.
            Self::end(this, &old);
            old.handle.cancel(slf.py())?;
        }
        match local {
            Some(hub_loop) => key = Some(watch(this, hub_loop, &handle)?),
            None => this.descriptors.incomplete.set(true),
        }
        let displaced = this.descriptors.replace(fd, writer, Some(Watched { handle, key }));
        drop(displaced);
        if key.is_none() {
            runner::call_for(slf);
        }
        Ok(())
    }

    /// Removes a reader or writer. False if there was none.
    ///
    /// # Errors
    ///
    /// See `HandleObject::cancel`.
    pub fn remove(slf: &Bound<'_, AsyncioLoop>, fd: i32, writer: bool) -> PyResult<bool> {
        let this = slf.get();
        let Ok(fd) = usize::try_from(fd) else { return Ok(false) };
        let Some(old) = this.descriptors.replace(fd, writer, None) else { return Ok(false) };
        Self::end(this, &old);
        old.handle.cancel(slf.py())?;
        Ok(true)
    }

    /// Ends the watch, if there is one.
    fn end(this: &AsyncioLoop, watched: &Watched) {
        let Some(key) = watched.key else { return };
        if watched.handle.has(flag::SET_ASIDE) {
            return;
        }
        if let Some(hub_loop) = this.hub_loop()
            && hub_loop.is_local()
            && !hub_loop.is_closed()
        {
            let source = hub_loop.reactor(|reactor| reactor.unwatch(key));
            if source.is_some() {
                this.count(hub_loop, false);
            }
            drop(source);
        }
    }

    /// Removes all.
    pub fn remove_all(slf: &Bound<'_, AsyncioLoop>) {
        let this = slf.get();
        let table = this.descriptors.table.take();
        for watched in table.into_iter().flatten().flatten() {
            Self::end(this, &watched);
            watched.handle.set(flag::CANCELLED);
            watched.handle.release();
        }
    }

    /// Watches all, in a hub that the loop has just been bound to.
    pub fn add_all(slf: &Bound<'_, AsyncioLoop>, hub_loop: &EventLoop) -> PyResult<()> {
        let this = slf.get();
        this.descriptors.incomplete.set(false);
        this.descriptors.each(|watched| {
            watched.handle.clear_flag(flag::SET_ASIDE);
            watched.key = None;
        });
        Self::complete(slf, hub_loop)
    }

    /// Watches those that were added by another thread, or set aside before the loop ran.
    pub fn complete(slf: &Bound<'_, AsyncioLoop>, hub_loop: &EventLoop) -> PyResult<()> {
        let this = slf.get();
        this.descriptors.incomplete.set(false);
        let mut failed = None;
        this.descriptors.each(|watched| {
            let idle = !watched.handle.has(flag::RUNNING);
            if watched.key.is_none() || (watched.handle.has(flag::SET_ASIDE) && idle) {
                watched.handle.clear_flag(flag::SET_ASIDE);
                match watch(this, hub_loop, &watched.handle) {
                    Ok(key) => watched.key = Some(key),
                    Err(error) => failed = Some(error),
                }
            }
        });
        failed.map_or(Ok(()), Err)
    }

    fn each(&self, mut f: impl FnMut(&mut Watched)) {
        for watched in self.table.borrow_mut().iter_mut().flatten().flatten() {
            f(watched);
        }
    }

    /// A descriptor is ready that `hub_loop` watches.
    pub fn ready(
        py: Python<'_>,
        hub_loop: &EventLoop,
        (key, ready): (WatchKey, Ready),
        handle: HandleRef,
        binding: u64,
    ) {
        let event_loop = handle.event_loop(py);
        let this = event_loop.get();
        if this.binding.get() != binding || handle.has(flag::CANCELLED) {
            // The loop has gone to another hub, or it was removed in another thread.
            let source = hub_loop.reactor(|reactor| reactor.unwatch(key));
            this.count_gone(hub_loop, binding);
            drop(source);
            return;
        }
        if handle.has(flag::QUEUED) {
            return;
        }
        if handle.has(flag::RUNNING) || !this.running.get() {
            handle.set(flag::SET_ASIDE);
            if !this.running.get() {
                this.descriptors.incomplete.set(true);
            }
            let source = hub_loop.reactor(|reactor| reactor.unwatch(key));
            this.count(hub_loop, false);
            drop(source);
            return;
        }
        // SAFETY: asks whether the number is an open descriptor, and nothing else.
        if ready.error() && unsafe { libc::fcntl(handle.fd.get(), libc::F_GETFD) } < 0 {
            // Closed without being removed: it is not reported again.
            return;
        }
        AsyncioLoop::push(&event_loop, handle);
    }

    /// A callback has returned whose descriptor was set aside meanwhile.
    #[cold]
    pub fn take_up(slf: &Bound<'_, AsyncioLoop>, handle: &HandleRef) -> PyResult<()> {
        let this = slf.get();
        if handle.has(flag::CANCELLED) || !this.running.get() {
            this.descriptors.incomplete.set(true);
            return Ok(());
        }
        match AsyncioLoop::local(slf)? {
            Some(hub_loop) => Self::complete(slf, hub_loop),
            None => Ok(()),
        }
    }
}

fn watch(this: &AsyncioLoop, hub_loop: &EventLoop, handle: &HandleRef) -> PyResult<WatchKey> {
    let interest = if handle.has(flag::WRITER) { Interest::WRITABLE } else { Interest::READABLE };
    let source = Source::AsyncioWatch { handle: handle.clone(), binding: this.binding.get() };
    let key = hub_loop
        .reactor(|reactor| reactor.watch(handle.fd.get(), interest, source))
        // SAFETY: the GIL is held.
        .map_err(|error| reactor_error(unsafe { Python::assume_attached() }, &error))?;
    this.count(hub_loop, true);
    Ok(key)
}
