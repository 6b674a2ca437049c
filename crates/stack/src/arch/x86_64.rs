//! x86-64, System V calling convention.
//!
//! A stack that has been left looks like this (each line 8 bytes):
//!
//! ```text
//!   sp -> r15
//!         r14
//!         r13
//!         r12
//!         rbx
//!         rbp
//!         address to go on at
//! ```

use super::{CACHE_LINE, Entry};
use std::arch::naked_asm;
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

/// Leaves the running stack and goes on with another one; see the module above.
///
/// # Safety
///
/// `to` must have been stored by an earlier `switch` (or come from `prepare`) and not have been
/// used since; its stack memory must be in place. `save` must be writable. No Rust borrow, lock
/// guard or GIL-detached region may be alive across the call.
#[unsafe(naked)]
pub unsafe extern "C" fn switch(save: *mut *mut u8, to: *mut u8, arg: usize) -> usize {
    // The call frame information holds on both sides of the swap: a stack that has been left has
    // the same layout as the one being left.
    naked_asm!(
        ".cfi_startproc",
        "push rbp",
        ".cfi_adjust_cfa_offset 8",
        ".cfi_rel_offset rbp, 0",
        "push rbx",
        ".cfi_adjust_cfa_offset 8",
        ".cfi_rel_offset rbx, 0",
        "push r12",
        ".cfi_adjust_cfa_offset 8",
        ".cfi_rel_offset r12, 0",
        "push r13",
        ".cfi_adjust_cfa_offset 8",
        ".cfi_rel_offset r13, 0",
        "push r14",
        ".cfi_adjust_cfa_offset 8",
        ".cfi_rel_offset r14, 0",
        "push r15",
        ".cfi_adjust_cfa_offset 8",
        ".cfi_rel_offset r15, 0",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "mov rax, rdx",
        "pop r15",
        ".cfi_adjust_cfa_offset -8",
        ".cfi_restore r15",
        "pop r14",
        ".cfi_adjust_cfa_offset -8",
        ".cfi_restore r14",
        "pop r13",
        ".cfi_adjust_cfa_offset -8",
        ".cfi_restore r13",
        "pop r12",
        ".cfi_adjust_cfa_offset -8",
        ".cfi_restore r12",
        "pop rbx",
        ".cfi_adjust_cfa_offset -8",
        ".cfi_restore rbx",
        "pop rbp",
        ".cfi_adjust_cfa_offset -8",
        ".cfi_restore rbp",
        // A plain `ret`, although the processor's return predictor knows the stack being left:
        // nearly all switches come from and go to the same call site, through the same callers,
        // so its predictions are right on both sides. (With `pop rcx; jmp rcx` the predictor was
        // one call ahead afterwards, and every return up to the interpreter was mispredicted.)
        "ret",
        ".cfi_endproc",
    )
}

/// Builds a fresh stack below `top` (16-byte aligned) that starts with `entry`.
///
/// # Safety
///
/// The 72 bytes below `top` must be writable and unused.
pub(crate) unsafe fn prepare(top: *mut u8, entry: Entry) -> *mut u8 {
    debug_assert_eq!(top as usize % 16, 0);
    // Seven words are popped; the two above them leave the stack 16-byte aligned at `start`, whose
    // `nop` is one byte long.
    let words: [usize; 9] = [
        0,                               // r15
        0,                               // r14
        0,                               // r13
        entry as usize,                  // r12
        0,                               // rbx
        0,                               // rbp: ends frame-pointer walks
        start as *const () as usize + 1, // where the switch goes on
        0,
        0,
    ];
    // SAFETY: the caller guarantees the writable bytes below `top`.
    unsafe {
        let sp = top.sub(size_of_val(&words));
        sp.cast::<[usize; 9]>().write(words);
        sp
    }
}

/// The outermost frame of a fresh stack: hands `arg` to the entry function kept in r12.
#[unsafe(naked)]
unsafe extern "C" fn start() {
    naked_asm!(
        // The return address is undefined: unwinders and debuggers stop here.
        ".cfi_startproc",
        ".cfi_undefined rip",
        // Never executed. Unwinders take the address before the one to go on at for that of a
        // call: while `switch` takes the registers off a fresh stack, this is what they find.
        "nop",
        "mov rdi, rax",
        "call r12",
        "ud2",
        ".cfi_endproc",
    )
}

/// Asks for `len` bytes from `start` on to be brought into the caches.
#[inline]
pub fn prefetch(start: *const u8, len: usize) {
    for offset in (0..len).step_by(CACHE_LINE) {
        // SAFETY: a hint: it neither faults nor changes anything, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(offset).cast()) };
    }
}
