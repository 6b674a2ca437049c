//! AArch64, AAPCS64 calling convention.
//!
//! A stack that has been left holds 160 bytes from its stack pointer up: x19..x28, x29 (frame
//! pointer), x30 (where to go on), d8..d15.

use super::{CACHE_LINE, Entry};
use std::arch::{asm, naked_asm};

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
    // the same layout as the one being left. Registers stay described as saved while they are
    // loaded, which is as true as that they are back in place.
    naked_asm!(
        ".cfi_startproc",
        "sub sp, sp, #160",
        ".cfi_adjust_cfa_offset 160",
        "stp x19, x20, [sp, #0]",
        "stp x21, x22, [sp, #16]",
        "stp x23, x24, [sp, #32]",
        "stp x25, x26, [sp, #48]",
        "stp x27, x28, [sp, #64]",
        "stp x29, x30, [sp, #80]",
        "stp d8, d9, [sp, #96]",
        "stp d10, d11, [sp, #112]",
        "stp d12, d13, [sp, #128]",
        "stp d14, d15, [sp, #144]",
        ".cfi_rel_offset x19, 0",
        ".cfi_rel_offset x20, 8",
        ".cfi_rel_offset x21, 16",
        ".cfi_rel_offset x22, 24",
        ".cfi_rel_offset x23, 32",
        ".cfi_rel_offset x24, 40",
        ".cfi_rel_offset x25, 48",
        ".cfi_rel_offset x26, 56",
        ".cfi_rel_offset x27, 64",
        ".cfi_rel_offset x28, 72",
        ".cfi_rel_offset x29, 80",
        ".cfi_rel_offset x30, 88",
        ".cfi_rel_offset d8, 96",
        ".cfi_rel_offset d9, 104",
        ".cfi_rel_offset d10, 112",
        ".cfi_rel_offset d11, 120",
        ".cfi_rel_offset d12, 128",
        ".cfi_rel_offset d13, 136",
        ".cfi_rel_offset d14, 144",
        ".cfi_rel_offset d15, 152",
        "mov x9, sp",
        "str x9, [x0]",
        "mov sp, x1",
        "mov x0, x2",
        "ldp x19, x20, [sp, #0]",
        "ldp x21, x22, [sp, #16]",
        "ldp x23, x24, [sp, #32]",
        "ldp x25, x26, [sp, #48]",
        "ldp x27, x28, [sp, #64]",
        "ldp x29, x30, [sp, #80]",
        "ldp d8, d9, [sp, #96]",
        "ldp d10, d11, [sp, #112]",
        "ldp d12, d13, [sp, #128]",
        "ldp d14, d15, [sp, #144]",
        "add sp, sp, #160",
        ".cfi_adjust_cfa_offset -160",
        ".cfi_restore x19",
        ".cfi_restore x20",
        ".cfi_restore x21",
        ".cfi_restore x22",
        ".cfi_restore x23",
        ".cfi_restore x24",
        ".cfi_restore x25",
        ".cfi_restore x26",
        ".cfi_restore x27",
        ".cfi_restore x28",
        ".cfi_restore x29",
        ".cfi_restore x30",
        ".cfi_restore d8",
        ".cfi_restore d9",
        ".cfi_restore d10",
        ".cfi_restore d11",
        ".cfi_restore d12",
        ".cfi_restore d13",
        ".cfi_restore d14",
        ".cfi_restore d15",
        // A `ret`, for the return predictor's sake: see the x86-64 file.
        "ret",
        ".cfi_endproc",
    )
}

/// Builds a fresh stack below `top` (16-byte aligned) that starts with `entry`.
///
/// # Safety
///
/// The 160 bytes below `top` must be writable and unused.
pub(crate) unsafe fn prepare(top: *mut u8, entry: Entry) -> *mut u8 {
    debug_assert_eq!(top as usize % 16, 0);
    let mut words = [0usize; 20];
    words[0] = entry as usize; // x19
    words[11] = start as *const () as usize + 4; // x30: past the `nop`
    // SAFETY: the caller guarantees 160 writable bytes below `top`.
    unsafe {
        let sp = top.sub(size_of_val(&words));
        sp.cast::<[usize; 20]>().write(words);
        sp
    }
}

/// The outermost frame of a fresh stack: hands `arg` (in x0) to the entry function kept in x19.
#[unsafe(naked)]
unsafe extern "C" fn start() {
    naked_asm!(
        // The return address is undefined: unwinders and debuggers stop here.
        ".cfi_startproc",
        ".cfi_undefined x30",
        // Never executed, for unwinders: see the x86-64 file.
        "nop",
        "blr x19",
        "brk #1",
        ".cfi_endproc",
    )
}

/// Asks for `len` bytes from `start` on to be brought into the caches.
#[inline]
pub fn prefetch(start: *const u8, len: usize) {
    for offset in (0..len).step_by(CACHE_LINE) {
        // SAFETY: a hint: it neither faults nor changes anything, whatever the address.
        unsafe {
            asm!(
                "prfm pldl1keep, [{}]",
                in(reg) start.wrapping_add(offset),
                options(nostack, preserves_flags, readonly),
            );
        }
    }
}
