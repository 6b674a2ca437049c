//! Switching between greenlets.
//!
//! A switch has two halves, on two stacks. The half that leaves resolves who is to run, hands
//! over the payload through the thread's record, saves the interpreter's state into its greenlet
//! and swaps stacks. The half that arrives loads its own greenlet's state, drops the reference to
//! the one that left (which may collect it), and takes the payload. Each greenlet loads its
//! own state, on its own stack: only there is it certain that the stack is in place.
//!
//! References: the thread's record owns the running greenlet. A suspended greenlet is owned by
//! whoever will switch to it.

use super::asyncio;
use super::call;
use super::coverage;
use super::exceptions;
use super::methods::{ensure_run, other_thread_error};
use super::object::{Next, Payload, PyGreenlet, Status};
use super::stacks;
use super::thread::Thread;
use super::trace;
use crate::errors::{raise, set_memory_error, take_raised};
use crate::pystate::trace_object;

use crate::hub::methods::is_hub;
use greenloop_stack::Arena;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ptr;

/// Switches to `target` and returns what this greenlet is given when it is switched to again: a
/// new reference, or null with an exception set.
///
/// # Safety
///
/// The GIL is held, `thread` is the calling thread's record, and `target` belongs to it. The
/// caller keeps no borrow alive that code in another greenlet could reach.
// One frame less in every parked greenlet.
#[inline(always)]
pub unsafe fn switch(
    thread: &Thread,
    target: *mut PyGreenlet,
    payload: Payload,
) -> *mut ffi::PyObject {
    thread.bury_orphans();
    // SAFETY: passed on from the caller.
    let payload = unsafe { transfer(thread, target, payload) };
    thread.drop_leftovers();
    into_result(payload)
}

/// What a `switch()` that brings this payload returns: a new reference, or null with the
/// exception set. In a greenlet that had started, arguments become the only one of them, the
/// tuple of them, the dict of keywords, or a pair of both.
#[inline]
pub fn into_result(payload: Payload) -> *mut ffi::PyObject {
    match payload {
        Payload::Value(value) => value,
        Payload::Throw(error) => {
            raise(error);
            ptr::null_mut()
        }
        // SAFETY: an owned tuple, or null; the empty tuple lives forever.
        Payload::Args(args) => unsafe {
            if args.is_null() {
                return ffi::PyTuple_New(0);
            }
            if ffi::PyTuple_GET_SIZE(args) != 1 {
                return args;
            }
            let only = ffi::PyTuple_GET_ITEM(args, 0);
            ffi::Py_INCREF(only);
            ffi::Py_DECREF(args);
            only
        },
        // SAFETY: an owned pair of a tuple and a dict.
        Payload::Keywords(pair) => unsafe {
            if ffi::PyTuple_GET_SIZE(ffi::PyTuple_GET_ITEM(pair, 0)) != 0 {
                return pair;
            }
            let kwargs = ffi::PyTuple_GET_ITEM(pair, 1);
            ffi::Py_INCREF(kwargs);
            ffi::Py_DECREF(pair);
            kwargs
        },
    }
}

/// As `switch`, but hands the payload over as it is. A raw greenlet that begins so runs with the
/// running loop of whoever began it.
///
/// # Safety
///
/// As for `switch`.
#[inline]
pub unsafe fn transfer(thread: &Thread, target: *mut PyGreenlet, payload: Payload) -> Payload {
    // SAFETY: passed on from the caller.
    unsafe {
        ffi::Py_INCREF(target.cast());
        leave::<true>(thread, target, payload)
    }
}

/// As `transfer`, but takes over the reference to the target, and a greenlet that begins so has
/// no running loop: its turn has come, and who was left for it has nothing to do with it.
///
/// # Safety
///
/// As for `switch`; the reference is owned by the caller.
#[inline]
pub unsafe fn transfer_owned(
    thread: &Thread,
    target: *mut PyGreenlet,
    payload: Payload,
) -> Payload {
    // SAFETY: passed on from the caller.
    unsafe { leave::<false>(thread, target, payload) }
}

/// The leaving half.
///
/// # Safety
///
/// As for `switch`; the reference is owned by the caller.
#[inline(always)]
unsafe fn leave<const INHERIT: bool>(
    thread: &Thread,
    target: *mut PyGreenlet,
    payload: Payload,
) -> Payload {
    // SAFETY: the calling thread's record.
    if unsafe { thread.cxx.any() } {
        // SAFETY: passed on from the caller.
        return unsafe { leave_in_handler::<INHERIT>(thread, target, payload) };
    }
    let (target, payload) = if is_runnable(thread, target, &payload) {
        (target, payload)
    } else {
        resolve_to_parent(thread, target, payload)
    };
    let leaving = thread.current();
    // SAFETY: the target is a live greenlet of this thread; the rest is passed on.
    unsafe {
        if ptr::eq(target, leaving) {
            ffi::Py_DECREF(target.cast());
            if !thread.trace.get().is_null() {
                return trace::call(thread, leaving.as_greenlet(), leaving, payload);
            }
            return payload;
        }
        let target = &*target;
        if target.status.get() == Status::Unstarted
            && let Err(error) = settle(thread, leaving, target, INHERIT)
        {
            payload.discard();
            ffi::Py_DECREF(target.as_ptr());
            return error;
        }
        thread.payload.set(Some(payload));
        thread.origin.set(leaving.as_greenlet());
        thread.current.set(target.as_greenlet());
        leaving.py.save(thread.state());
        let arena = thread.arena.get();
        if let Err(error) = Arena::switch_to(arena, &leaving.co, &target.co, 0, true) {
            // Nobody left: undo, and report it here.
            thread.current.set(leaving.as_greenlet());
            thread.origin.set(ptr::null_mut());
            ffi::Py_DECREF(target.as_ptr());
            if let Some(payload) = thread.payload.take() {
                payload.discard();
            }
            leaving.py.load(thread.state());
            return memory_error(&error);
        }
        arrive(thread, leaving)
    }
}

/// As `leave`, while C++ exceptions are in flight or being handled.
///
/// # Safety
///
/// As for `leave`.
#[cold]
#[inline(never)]
unsafe fn leave_in_handler<const INHERIT: bool>(
    thread: &Thread,
    target: *mut PyGreenlet,
    payload: Payload,
) -> Payload {
    // SAFETY: passed on from the caller; the calling thread's record, and the same greenlet when
    // the switch has come back.
    unsafe {
        let saved = thread.cxx.take();
        let payload = leave::<INHERIT>(thread, target, payload);
        thread.cxx.put_back(saved);
        payload
    }
}

/// The arriving half: `here` was switched to.
///
/// # Safety
///
/// `here` is the running greenlet, its state is still in its object.
#[inline(always)]
unsafe fn arrive(thread: &Thread, here: &PyGreenlet) -> Payload {
    // SAFETY: `here` runs, so its stack is in place; the state of whoever left has been saved.
    unsafe {
        here.py.load(thread.state());
        let payload = thread.payload.take().expect("a switch brings a payload");
        if thread.trace.get().is_null()
            && trace_object(thread.state()).is_null()
            && !concerns_asyncio(thread, here)
        {
            return payload;
        }
        arrive_further(thread, here, payload)
    }
}

/// Whether a loop may be running where the switch comes from, or where it goes to.
#[inline(always)]
fn concerns_asyncio(thread: &Thread, here: &PyGreenlet) -> bool {
    !here.asyncio.is_empty() || thread.asyncio.watch.notices()
}

/// What few switches have to do on arrival.
///
/// # Safety
///
/// As for `arrive`.
#[cold]
#[inline(never)]
unsafe fn arrive_further(thread: &Thread, here: &PyGreenlet, mut payload: Payload) -> Payload {
    let origin = thread.origin.get();
    // SAFETY: `here` was just switched to from `origin`, which the record owns.
    unsafe {
        if concerns_asyncio(thread, here)
            && let Err(error) = asyncio::exchange(thread, &*origin, here)
        {
            payload.leave_over(thread);
            payload = Payload::Throw(error);
        }
        payload = coverage::arrived(thread, payload);
        if thread.trace.get().is_null() {
            return payload;
        }
        // The trace function may switch, too, which would put another in its place.
        let origin = thread.origin.replace(ptr::null_mut());
        let payload = trace::call(thread, origin, here, payload);
        thread.leave_over(origin.cast());
        payload
    }
}

/// Whether a switch with this payload goes to the target itself: one that is dead stands for its
/// parent, and so does one that would begin with an exception, unless a trace function has to see
/// it come and go. A hub reports exceptions, and cannot be done without.
#[inline(always)]
fn is_runnable(thread: &Thread, target: *mut PyGreenlet, payload: &Payload) -> bool {
    // SAFETY: owned by the caller.
    let greenlet = unsafe { &*target };
    if !ptr::eq(greenlet.thread.get(), thread) {
        return false;
    }
    match greenlet.status.get() {
        Status::Active => true,
        Status::Unstarted => {
            !payload.is_throw() || !thread.trace.get().is_null() || is_hub(target.cast())
        }
        Status::Dead => false,
    }
}

/// Follows greenlets to their parents until there is one that can run. Throwing into one that has
/// not started finishes it, as if it had raised at once. Takes and gives an owned reference.
#[cold]
#[inline(never)]
fn resolve_to_parent(thread: &Thread, mut target: *mut PyGreenlet, mut payload: Payload) -> Next {
    loop {
        // SAFETY: owned. The chain of parents ends at a main greenlet, which is active as long
        // as its thread runs.
        let greenlet = unsafe { &*target };
        Thread::follow_ancestors(greenlet);
        if is_runnable(thread, target, &payload) {
            return (target, payload);
        }
        let mut parent = parent_or_main(greenlet, thread);
        if !ptr::eq(greenlet.thread.get(), thread) {
            // Its thread was changed after it had become somebody's parent, or ready.
            payload.leave_over(thread);
            // SAFETY: the GIL is held.
            let py = unsafe { Python::assume_attached() };
            let error = other_thread_error(py, greenlet);
            payload = Payload::Throw(error.into_value(py).into_ptr());
            parent = thread.main();
        } else if greenlet.status.get() == Status::Unstarted {
            finish_unstarted(thread, greenlet);
        }
        if let Payload::Throw(error) = payload {
            payload = exit_to_value(error);
        }
        // SAFETY: the parent's new reference is taken before the child's is given away.
        unsafe { ffi::Py_INCREF(parent.cast()) };
        thread.leave_over(target.cast());
        target = parent;
    }
}

/// The parent, or the main greenlet if the collector has cleared it: borrowed.
fn parent_or_main(greenlet: &PyGreenlet, thread: &Thread) -> *mut PyGreenlet {
    let parent = greenlet.parent.get();
    if parent.is_null() { thread.main() } else { parent }
}

fn finish_unstarted(thread: &Thread, greenlet: &PyGreenlet) {
    greenlet.status.set(Status::Dead);
    let run = greenlet.run.replace(ptr::null_mut());
    if !run.is_null() {
        thread.leave_over(run);
    }
}

/// `GreenletExit` that leaves a greenlet is its parent's result, not an error. Takes and gives an
/// owned reference.
#[inline(never)]
pub fn exit_to_value(error: *mut ffi::PyObject) -> Payload {
    if exceptions::is_greenlet_exit(error) { Payload::Value(error) } else { Payload::Throw(error) }
}

/// Gives a fresh greenlet its home and the state it starts with, a raw one also the running loop
/// of the one that is left if it is to inherit that.
///
/// # Safety
///
/// `leaving` runs; `fresh` has not started.
#[inline(never)]
unsafe fn settle(
    thread: &Thread,
    leaving: &PyGreenlet,
    fresh: &PyGreenlet,
    inherit: bool,
) -> Result<(), Payload> {
    // SAFETY: the arena is this thread's, and no borrow of it is alive elsewhere: nothing called
    // from it switches. A greenlet does not move.
    unsafe {
        let arena = &mut *thread.arena.get();
        let home =
            arena.settle(&fresh.co, &leaving.co, enter).map_err(|error| memory_error(&error))?;
        fresh.py.begin(thread.state(), home);
    }
    fresh.status.set(Status::Active);
    if inherit && thread.asyncio.watch.notices() && fresh.is_raw() {
        fresh.asyncio.inherit();
    }
    thread.alive.set(thread.alive.get() + 1);
    Ok(())
}

#[cold]
#[inline(never)]
fn memory_error(error: &std::io::Error) -> Payload {
    set_memory_error(&stacks::no_stack(error));
    Payload::Throw(take_raised())
}

/// The outermost function on every greenlet's stack.
unsafe extern "C-unwind" fn enter(_arg: usize) -> ! {
    let thread = Thread::try_get().expect("a greenlet runs in a thread with a record");
    let here = thread.current();
    // SAFETY: this greenlet was just switched to for the first time. When its body is over,
    // nothing on this stack has anything left to drop.
    unsafe {
        let first = arrive(thread, here);
        thread.drop_leftovers();
        let body = here.body.get();
        let (target, payload) = body(here, first);
        leave_for_good(thread, here, target, payload)
    }
}

/// The end of a greenlet: goes on with `target` and never comes back.
///
/// # Safety
///
/// `here` runs and its body has returned.
unsafe fn leave_for_good(
    thread: &Thread,
    here: &PyGreenlet,
    target: *mut PyGreenlet,
    payload: Payload,
) -> ! {
    let mut next = pass_by_hub(thread, here, target, payload);
    thread.alive.set(thread.alive.get() - 1);
    // SAFETY: as for `transfer`; the greenlet's own stack stays usable after `leave` until the
    // switch. A target that cannot be given a stack is finished with a MemoryError, which goes to
    // its parent, as if the target had raised it.
    unsafe {
        // The greenlet's share of the thread state ends with it. What is left is its context, which
        // can be asked for afterwards.
        here.py.save(thread.state());
        loop {
            let (target, payload) = resolve_to_parent(thread, next.0, next.1);
            let target = &*target;
            // Not if it is just the next in the ready queue.
            let begun_by_end = ptr::eq(target, here.parent.get());
            if target.status.get() == Status::Unstarted
                && let Err(error) = settle(thread, here, target, begun_by_end)
            {
                payload.leave_over(thread);
                finish_unstarted(thread, target);
                next = (target.as_greenlet(), error);
                continue;
            }
            thread.payload.set(Some(payload));
            thread.origin.set(here.as_greenlet());
            thread.current.set(target.as_greenlet());
            let arena = thread.arena.get();
            (*arena).leave(&here.co);
            if let Err(error) = Arena::switch_to(arena, &here.co, &target.co, 0, false) {
                eprintln!(
                    "greenloop: no memory for the stack that greenlets are moved with: {error}"
                );
                std::process::abort();
            }
            unreachable!("a finished greenlet was switched to");
        }
    }
}

/// Marks a greenlet as ended. One that leaves its hub a value leaves it nothing to do: the next in
/// the ready queue can go on at once.
#[inline]
fn pass_by_hub(
    thread: &Thread,
    here: &PyGreenlet,
    target: *mut PyGreenlet,
    payload: Payload,
) -> Next {
    if !ptr::eq(target.cast(), thread.hub.get()) || payload.is_throw() {
        here.status.set(Status::Dead);
        return (target, payload);
    }
    // While the greenlet can still be switched to: dropping may run code that waits.
    payload.discard();
    here.status.set(Status::Dead);
    // SAFETY: the hub may have been taken away meanwhile.
    match unsafe { thread.hub.get().as_ref() } {
        Some(hub) if ptr::eq(target.cast(), hub) => {
            // Not the last reference: the thread's record has one.
            // SAFETY: ours.
            unsafe { ffi::Py_DECREF(target.cast()) };
            hub.next(thread)
        }
        _ => (target, Payload::none()),
    }
}

/// The body of a raw greenlet: calls `run` and goes on with the parent.
///
/// # Safety
///
/// Called by `enter` only.
pub unsafe fn run_body(here: &PyGreenlet, first: Payload) -> Next {
    // SAFETY: owned references throughout. What is called stays in the greenlet meanwhile, so that
    // it is not lost with a stack that is given up.
    let payload = unsafe {
        let mut run = here.run.get();
        if run.is_null() && !first.is_throw() {
            // Not started by its own `switch`, which looks before it starts: as somebody's parent.
            run = ffi::PyObject_GetAttrString(here.as_ptr(), c"run".as_ptr());
            if run.is_null() {
                first.discard();
                return go_on_with_parent(here, raised_payload());
            }
            here.run.set(run);
        }
        let payload = match first {
            // Thrown by a trace function before anything ran.
            Payload::Throw(error) => exit_to_value(error),
            first => finished(call_run(run, first)),
        };
        ffi::Py_XDECREF(here.run.replace(ptr::null_mut()));
        payload
    };
    go_on_with_parent(here, payload)
}

/// The parent and what it is to get, or, if the parent has not started and its `run` cannot be
/// looked up, its own parent and that error. The parent is then as it was before.
#[inline(always)]
fn go_on_with_parent(here: &PyGreenlet, payload: Payload) -> Next {
    let parent = parent_of(here);
    // SAFETY: an owned reference.
    if unsafe { (*parent).status.get() } == Status::Active {
        return (parent, payload);
    }
    find_ancestor(here, parent, payload)
}

/// As `go_on_with_parent`, if the parent is not suspended in the middle. Takes over the reference.
#[cold]
#[inline(never)]
fn find_ancestor(here: &PyGreenlet, mut next: *mut PyGreenlet, mut payload: Payload) -> Next {
    loop {
        // SAFETY: an owned reference, as all that follow; a greenlet that ran has a thread.
        let (parent, thread) = unsafe { (&*next, &*here.thread.get()) };
        match parent.status.get() {
            Status::Active => return (next, payload),
            Status::Unstarted => {
                Thread::follow_ancestors(parent);
                if !ptr::eq(parent.thread.get(), thread) {
                    return (next, payload);
                }
                // SAFETY: the GIL is held.
                let py = unsafe { Python::assume_attached() };
                match ensure_run(py, thread, parent) {
                    Ok(()) if parent.status.get() == Status::Unstarted => return (next, payload),
                    // The look-up ran code that started it.
                    Ok(()) => continue,
                    Err(error) => {
                        payload.discard();
                        payload = exit_to_value(error.into_value(py).into_ptr());
                    }
                }
            }
            Status::Dead => {}
        }
        let ancestor = parent_or_main(parent, thread);
        // SAFETY: the new reference is taken before the old one is given away.
        unsafe {
            ffi::Py_INCREF(ancestor.cast());
            ffi::Py_DECREF(next.cast());
        }
        next = ancestor;
    }
}

/// The payload for the parent, from what the call of `run` returned.
#[inline]
fn finished(result: *mut ffi::PyObject) -> Payload {
    if result.is_null() { raised_payload() } else { Payload::Value(result) }
}

#[cold]
#[inline(never)]
fn raised_payload() -> Payload {
    exit_to_value(take_raised())
}

/// The greenlet to go on with after this one: an owned reference.
pub fn parent_of(here: &PyGreenlet) -> *mut PyGreenlet {
    // SAFETY: a greenlet that ran has a thread; parents are alive.
    unsafe {
        let parent = parent_or_main(here, &*here.thread.get());
        ffi::Py_INCREF(parent.cast());
        parent
    }
}

/// Calls `run` with what the first switch brought.
///
/// # Safety
///
/// `run` is a callable or null.
unsafe fn call_run(run: *mut ffi::PyObject, first: Payload) -> *mut ffi::PyObject {
    // SAFETY: owned references, dropped after the call.
    unsafe {
        match first {
            Payload::Value(value) => {
                let result = ffi::PyObject_CallOneArg(run, value);
                ffi::Py_DECREF(value);
                result
            }
            Payload::Args(args) => {
                if args.is_null() {
                    return call::no_args(run);
                }
                let result = call::with_args(run, args);
                ffi::Py_DECREF(args);
                result
            }
            Payload::Keywords(pair) => {
                let args = ffi::PyTuple_GET_ITEM(pair, 0);
                let result = ffi::PyObject_Call(run, args, ffi::PyTuple_GET_ITEM(pair, 1));
                ffi::Py_DECREF(pair);
                result
            }
            Payload::Throw(_) => unreachable!("handled by the caller"),
        }
    }
}
