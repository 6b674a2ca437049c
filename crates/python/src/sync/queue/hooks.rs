//! Which methods of a queue a subclass has replaced.

use pyo3::prelude::*;
use pyo3::types::PyType;

/// A method that subclasses may replace to keep the items in their own way.
#[derive(Clone, Copy)]
pub enum Hook {
    Init,
    CreateQueue,
    Put,
    Get,
    Peek,
    Qsize,
    Format,
}

const ALL: [(Hook, &str); 7] = [
    (Hook::Init, "_init"),
    (Hook::CreateQueue, "_create_queue"),
    (Hook::Put, "_put"),
    (Hook::Get, "_get"),
    (Hook::Peek, "_peek"),
    (Hook::Qsize, "_qsize"),
    (Hook::Format, "_format"),
];

/// A set of hooks.
#[derive(Clone, Copy, Default)]
pub struct Hooks(u8);

impl Hooks {
    /// The methods of `base` that `class`, a subclass or the class itself, has its own of.
    pub fn of(class: &Bound<'_, PyType>, base: &Bound<'_, PyType>) -> PyResult<Self> {
        let mut hooks = Self::default();
        if !class.is(base) {
            for (hook, name) in ALL {
                if !class.getattr(name)?.is(&base.getattr(name)?) {
                    hooks.0 |= 1 << hook as u8;
                }
            }
        }
        Ok(hooks)
    }

    #[inline]
    pub fn has(self, hook: Hook) -> bool {
        self.0 & (1 << hook as u8) != 0
    }
}
