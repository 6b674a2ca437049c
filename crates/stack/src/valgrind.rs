//! What valgrind has to be told of stacks that it did not see made.
//!
//! A request is a sequence of instructions that does nothing, but for valgrind, which recognises
//! it. It costs a nanosecond or two where no valgrind runs.

use std::arch::asm;

/// Of the core.
const RUNNING_ON_VALGRIND: usize = 0x1001;
const STACK_REGISTER: usize = 0x1501;
const STACK_DEREGISTER: usize = 0x1502;
/// Of memcheck, whose requests start with its initials.
const MAKE_MEM_UNDEFINED: usize = (b'M' as usize) << 24 | (b'C' as usize) << 16 | 1;

/// Makes a request with up to two arguments; without valgrind the answer is 0.
#[cold]
#[inline(never)]
fn request(number: usize, first: usize, second: usize) -> usize {
    let words: [usize; 6] = [number, first, second, 0, 0, 0];
    let answer: usize;
    // SAFETY: the registers named change, or are rotated by twice their width altogether.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") &raw const words,
            inlateout("rdx") 0_usize => answer,
            options(nostack),
        );
        #[cfg(target_arch = "aarch64")]
        asm!(
            "ror x12, x12, #3",
            "ror x12, x12, #13",
            "ror x12, x12, #51",
            "ror x12, x12, #61",
            "orr x10, x10, x10",
            in("x4") &raw const words,
            inlateout("x3") 0_usize => answer,
            options(nostack),
        );
    }
    answer
}

/// Whether this process runs under valgrind.
pub(crate) fn is_running() -> bool {
    request(RUNNING_ON_VALGRIND, 0, 0) != 0
}

/// Declares that the bytes may be written: a stack left behind by a switch looks to memcheck as if
/// the part below its last stack pointer were out of use.
#[cold]
#[inline(never)]
pub(crate) fn make_writable(low: *mut u8, len: usize) {
    request(MAKE_MEM_UNDEFINED, low as usize, len);
}

/// A stack that valgrind knows of.
pub(crate) struct Stack(Option<usize>);

impl Stack {
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    pub(crate) fn register(low: *mut u8, high: *mut u8) -> Self {
        Self(is_running().then(|| request(STACK_REGISTER, low as usize, high as usize)))
    }

    pub(crate) fn deregister(&mut self) {
        if let Some(id) = self.0.take() {
            request(STACK_DEREGISTER, id, 0);
        }
    }
}
