//! What is said when a greenlet has used up its stack, before the process dies of it.
//!
//! All of it runs in a signal handler, in the middle of anything: objects are looked at as they lie
//! in memory, and nothing of the interpreter is called that could do more than look.

use super::object::PyGreenlet;
use super::stacks::SIZE_VARIABLE;
use crate::task::types::is_task;
use greenloop_stack::{Config, Message, Overflow};
use pyo3::ffi;
use std::ffi::c_char;

/// Characters of a name that are shown at most.
const SHOWN: usize = 80;

/// Composes the message.
///
/// # Safety
///
/// Called by the fault handler in the thread whose stack it is. `greenlet` lies in that stack, if
/// it is anybody's.
pub unsafe fn describe(
    overflow: &Overflow<'_>,
    greenlet: Option<&PyGreenlet>,
    message: &mut Message,
) {
    // Whole pages, as it was asked for: the tops of stacks are staggered.
    let size = (overflow.high - overflow.low).next_multiple_of(4096);
    message.text("greenloop: greenlet stack overflow in ");
    match greenlet {
        // SAFETY: the greenlet runs, so it is alive and whole.
        Some(greenlet) => unsafe { describe_greenlet(greenlet, message) },
        None => message.text("a greenlet that has ended"),
    }
    message.text(", ");
    describe_thread(message);
    message.text("\ngreenloop: its C stack of ");
    message.decimal(size);
    message.text(" bytes is used up");
    let larger = (2 * size).next_multiple_of(1 << 20);
    if larger <= Config::MAX_STACK_SIZE {
        message.text(": ");
        message.text(SIZE_VARIABLE);
        message.text("=");
        message.decimal(larger >> 20);
        message.text("M in the environment makes it larger");
    }
    message.text(". The process ends.\n");
}

/// As `repr` begins: `<Greenlet "name" at 0x...>`.
///
/// # Safety
///
/// As for `describe`.
unsafe fn describe_greenlet(greenlet: &PyGreenlet, message: &mut Message) {
    let object = greenlet.as_ptr();
    message.text("<");
    // SAFETY: type names are C strings.
    unsafe { describe_type((*ffi::Py_TYPE(object)).tp_name, message) };
    if is_task(object) {
        // SAFETY: a task, as was just found.
        let task = unsafe { &*object.cast::<crate::task::object::TaskObject>() };
        let name = task.name.get();
        // SAFETY: owned by the task, or null.
        if !name.is_null() && unsafe { ffi::PyUnicode_Check(name) } != 0 {
            message.text(" \"");
            // SAFETY: as above.
            unsafe { describe_text(name, message) };
            message.text("\"");
        } else if let Some(ident) = task.ident.get().checked_sub(1) {
            message.text(" \"Greenlet-");
            message.decimal(ident as usize);
            message.text("\"");
        }
    }
    message.text(" at ");
    message.address(object as usize, 1);
    message.text(">");
}

/// The last part of a type's dotted name.
///
/// # Safety
///
/// `name` is a C string.
unsafe fn describe_type(name: *const c_char, message: &mut Message) {
    let mut start = name.cast::<u8>();
    let mut end = start;
    // SAFETY: read up to the zero at the end.
    unsafe {
        while *end != 0 {
            if *end == b'.' {
                start = end.add(1);
            }
            end = end.add(1);
        }
        let mut shown = 0;
        while start < end && shown < SHOWN {
            message.character(u32::from(*start));
            start = start.add(1);
            shown += 1;
        }
    }
}

/// # Safety
///
/// `text` is a str.
unsafe fn describe_text(text: *mut ffi::PyObject, message: &mut Message) {
    // SAFETY: these look at the object's header. Its characters are one, two or four bytes wide.
    unsafe {
        let data = ffi::PyUnicode_DATA(text);
        let kind = ffi::PyUnicode_KIND(text);
        for index in 0..(ffi::PyUnicode_GET_LENGTH(text) as usize).min(SHOWN) {
            message.character(match kind {
                1 => u32::from(*data.cast::<u8>().add(index)),
                2 => u32::from(*data.cast::<u16>().add(index)),
                _ => *data.cast::<u32>().add(index),
            });
        }
    }
}

/// The thread as faulthandler and as the system name it.
fn describe_thread(message: &mut Message) {
    let mut name = [0_u8; 16];
    // SAFETY: these ask for numbers; the name takes 16 bytes at most.
    let (ident, number) = unsafe {
        libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr());
        (libc::pthread_self(), libc::syscall(libc::SYS_gettid))
    };
    message.text("thread ");
    message.address(ident as usize, 16);
    message.text(" (");
    for byte in name.into_iter().take_while(|&byte| byte != 0) {
        message.character(u32::from(byte));
    }
    message.text(", ");
    message.decimal(usize::try_from(number).unwrap_or(0));
    message.text(")");
}
