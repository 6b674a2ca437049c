//! The sizes of greenlet stacks, as the environment or `greenloop.config` chooses them.

use super::thread::Thread;
use greenloop_stack::Config;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use std::env::{self, VarError};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Names of the environment variables.
pub const SIZE_VARIABLE: &str = "GREENLOOP_STACK_SIZE";
pub const SLOTS_VARIABLE: &str = "GREENLOOP_STACK_SLOTS";

/// The least that is accepted. Not all recursion inside the interpreter is limited by what there is
/// of the stack: the parser and marshal have limits of their own, and use up to 0.8 MiB.
const LEAST_STACK_SIZE: usize = 1 << 20;

/// What was chosen; 0 for nothing.
static CHOSEN_SIZE: AtomicUsize = AtomicUsize::new(0);
static CHOSEN_SLOTS: AtomicUsize = AtomicUsize::new(0);

/// The sizes for arenas.
pub fn config() -> Config {
    let default = Config::default();
    let mut config = match CHOSEN_SIZE.load(Ordering::Relaxed) {
        // A size that nobody asked for may be given up for a smaller one.
        0 => Config { least_stack_size: LEAST_STACK_SIZE, ..default },
        size => Config { stack_size: size, least_stack_size: size, ..default },
    };
    match CHOSEN_SLOTS.load(Ordering::Relaxed) {
        0 => {}
        slots => config.slots = slots,
    }
    config
}

/// Says that a stack could not be had, and what helps.
pub fn no_stack(error: &io::Error) -> String {
    let size = config().least_stack_size;
    let mut text =
        format!("no stack for a greenlet: {error}; it takes {size} bytes of address space");
    if size > LEAST_STACK_SIZE {
        text += &format!(", which a smaller {SIZE_VARIABLE} lowers");
    }
    text
}

/// A number of bytes: digits, and perhaps K, M or G for powers of 1024.
fn parse_bytes(text: &str) -> Option<usize> {
    let text = text.trim();
    let (digits, unit) = match text.chars().last()?.to_ascii_uppercase() {
        'K' => (&text[..text.len() - 1], 1 << 10),
        'M' => (&text[..text.len() - 1], 1 << 20),
        'G' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    parse_count(digits)?.checked_mul(unit)
}

fn parse_count(text: &str) -> Option<usize> {
    let text = text.trim();
    // `parse` would take a sign.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A size that is in range, rounded up to whole pages.
fn checked_size(name: &str, size: Option<usize>, shown: &str) -> PyResult<usize> {
    size.filter(|size| (LEAST_STACK_SIZE..=Config::MAX_STACK_SIZE).contains(size))
        .map(|size| size.next_multiple_of(rustix::param::page_size()))
        .ok_or_else(|| {
            PyValueError::new_err(format!(
                "{name} must be a number of bytes from 1M to 1G (K, M and G may follow the number), \
                 not {shown}"
            ))
        })
}

fn checked_slots(name: &str, slots: Option<usize>, shown: &str) -> PyResult<usize> {
    let range = Config::MIN_SLOTS..=Config::MAX_SLOTS;
    slots.filter(|slots| range.contains(slots)).ok_or_else(|| {
        PyValueError::new_err(format!(
            "{name} must be a whole number from {} to {}, not {shown}",
            range.start(),
            range.end()
        ))
    })
}

/// Takes over what the environment chooses.
fn read_environment() -> PyResult<()> {
    let variable = |name: &str| match env::var(name) {
        Ok(text) => Ok(Some(text).filter(|text| !text.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(error) => Err(PyValueError::new_err(format!("{name}: {error}"))),
    };
    if let Some(text) = variable(SIZE_VARIABLE)? {
        let size = checked_size(SIZE_VARIABLE, parse_bytes(&text), &format!("{text:?}"))?;
        CHOSEN_SIZE.store(size, Ordering::Relaxed);
    }
    if let Some(text) = variable(SLOTS_VARIABLE)? {
        let slots = checked_slots(SLOTS_VARIABLE, parse_count(&text), &format!("{text:?}"))?;
        CHOSEN_SLOTS.store(slots, Ordering::Relaxed);
    }
    Ok(())
}

/// The number that an object is or, as a text, says; None if it is negative or too large.
fn number(
    name: &str,
    value: &Bound<'_, PyAny>,
    parse: fn(&str) -> Option<usize>,
) -> PyResult<Option<usize>> {
    if let Ok(text) = value.extract::<String>() {
        return Ok(parse(&text));
    }
    let index = value.call_method0("__index__").map_err(|_| {
        PyTypeError::new_err(format!("{name} must be an int or a str, not {}", value.get_type()))
    })?;
    Ok(index.extract().ok())
}

/// Has the calling thread map its further stacks with the new sizes.
fn apply() -> PyResult<()> {
    let Some(thread) = Thread::try_get() else { return Ok(()) };
    // SAFETY: the arena is this thread's, and nobody borrows it: nothing called here switches.
    let arena = unsafe { &mut *thread.arena.get() };
    arena.set_config(config()).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// get_stack_size()
/// --
///
/// Bytes of address space for the C stack of a slot.
#[pyfunction]
fn get_stack_size() -> usize {
    config().stack_size
}

/// set_stack_size(size)
/// --
///
/// Set the bytes of address space for the C stack of a slot.
///
/// size: an int, or a str of digits with K, M or G perhaps; 1 MiB to 1 GiB.
/// Raises ValueError if it is out of range. Slots that are mapped already keep their size, and
/// other threads that use greenlets already go on with what they began with.
#[pyfunction]
fn set_stack_size(size: &Bound<'_, PyAny>) -> PyResult<()> {
    const NAME: &str = "stack_size";
    let chosen = checked_size(NAME, number(NAME, size, parse_bytes)?, &size.repr()?.to_string())?;
    CHOSEN_SIZE.store(chosen, Ordering::Relaxed);
    apply()
}

/// get_stack_slots()
/// --
///
/// The most stack slots that a thread maps.
#[pyfunction]
fn get_stack_slots() -> usize {
    config().slots
}

/// set_stack_slots(slots)
/// --
///
/// Set the most stack slots that a thread maps.
///
/// slots: an int, or a str of digits; 4 to 16384.
/// Raises ValueError if it is out of range. Slots that are mapped already stay, and other threads
/// that use greenlets already go on with what they began with.
#[pyfunction]
fn set_stack_slots(slots: &Bound<'_, PyAny>) -> PyResult<()> {
    const NAME: &str = "stack_slots";
    let chosen =
        checked_slots(NAME, number(NAME, slots, parse_count)?, &slots.repr()?.to_string())?;
    CHOSEN_SLOTS.store(chosen, Ordering::Relaxed);
    apply()
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    read_environment()?;
    module.add_function(wrap_pyfunction!(get_stack_size, module)?)?;
    module.add_function(wrap_pyfunction!(set_stack_size, module)?)?;
    module.add_function(wrap_pyfunction!(get_stack_slots, module)?)?;
    module.add_function(wrap_pyfunction!(set_stack_slots, module)?)
}
