//! Switching between stacks: arguments, registers, ends.

mod common;

use common::{Co, Rig, SMALL};
use greenloop_stack::Config;
use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::panic::catch_unwind;
use std::rc::Rc;

#[test]
fn arguments_go_both_ways() {
    let rig = Rig::new(SMALL);
    let co = Co::new(|rig, first| {
        assert_eq!(first, 7);
        assert_eq!(rig.to_main(8), 9);
        assert_eq!(rig.to_main(usize::MAX), 0);
        (rig.main(), 11)
    });
    assert_eq!(rig.switch(&co, 7), 8);
    assert_eq!(rig.switch(&co, 9), usize::MAX);
    assert_eq!(rig.switch(&co, 0), 11);
    assert!(!co.co.has_home());
}

#[test]
fn ping_pong_keeps_both_stacks() {
    let rig = Rig::new(SMALL);
    let other: Rc<RefCell<Option<Rc<Co>>>> = Rc::default();
    let ping = Co::new({
        let other = Rc::clone(&other);
        move |rig, mut n| {
            let pong = other.borrow().clone().expect("set before the start");
            let mut sum = 0;
            while n < 10_000 {
                sum += n;
                n = rig.switch(&pong, n + 1);
            }
            assert_eq!(sum, (0..10_000).step_by(2).sum::<usize>());
            (rig.main(), sum)
        }
    });
    let pong = Co::new({
        let ping = Rc::clone(&ping);
        move |rig, mut n| loop {
            n = rig.switch(&ping, n + 1);
        }
    });
    *other.borrow_mut() = Some(Rc::clone(&pong));
    assert_eq!(rig.switch(&ping, 0), 24_995_000);
    rig.release(&pong);
    other.borrow_mut().take();
}

#[test]
fn a_fresh_coroutine_starts_from_another() {
    let rig = Rig::new(SMALL);
    let order = Rc::new(RefCell::new(Vec::new()));
    let inner = Co::new({
        let order = Rc::clone(&order);
        move |rig, arg| {
            order.borrow_mut().push(("inner", arg));
            (rig.main(), 3)
        }
    });
    let outer = Co::new({
        let (order, inner) = (Rc::clone(&order), Rc::clone(&inner));
        move |rig, arg| {
            order.borrow_mut().push(("outer", arg));
            let arg = rig.switch(&inner, 2);
            order.borrow_mut().push(("outer again", arg));
            (rig.main(), 5)
        }
    });
    assert_eq!(rig.switch(&outer, 1), 3);
    assert_eq!(rig.switch(&outer, 4), 5);
    assert_eq!(*order.borrow(), [("outer", 1), ("inner", 2), ("outer again", 4)]);
}

#[test]
fn the_end_of_one_is_the_start_of_the_next() {
    let rig = Rig::new(SMALL);
    let count = Rc::new(Cell::new(0));
    let mut next = None;
    let mut all = Vec::new();
    for _ in 0..1_000 {
        let count = Rc::clone(&count);
        let after: Option<Rc<Co>> = next.take();
        let co = Co::new(move |rig, arg| {
            count.set(count.get() + 1);
            (after.unwrap_or_else(|| rig.main()), arg + 1)
        });
        next = Some(Rc::clone(&co));
        all.push(co);
    }
    let first = next.expect("there are some");
    assert_eq!(rig.switch(&first, 0), 1_000);
    assert_eq!(count.get(), 1_000);
    // One ended in the slot in which the next one but one starts.
    assert!(rig.arena().mapped_slots() <= 2);
    assert!(all.iter().all(|co| !co.co.has_home()));
}

#[test]
fn stacks_are_aligned_as_the_calling_convention_says() {
    #[repr(align(16))]
    struct Aligned([u8; 16]);
    // Tops of all slots, which are staggered, and a size that is no multiple of anything.
    for stack_size in [128 << 10, (128 << 10) + 8, (1 << 20) + 4097] {
        let rig = Rig::new(Config { stack_size, data_size: (16 << 10) + 3, slots: 80, ..SMALL });
        let mut parked = Vec::new();
        for _ in 0..80 {
            let co = Co::new(|rig, _| {
                let local = black_box(Aligned([1; 16]));
                assert_eq!((&raw const local) as usize % 16, 0);
                #[cfg(target_arch = "x86_64")]
                // SAFETY: reads 16 bytes of a local variable; faults if it is not aligned.
                unsafe {
                    std::arch::asm!(
                        "movaps {x}, [{p}]",
                        x = out(xmm_reg) _,
                        p = in(reg) &raw const local.0,
                    );
                }
                // Formatting floats uses aligned vector moves deep in the library.
                assert_eq!(format!("{:.3}", black_box(1.5_f64)), "1.500");
                rig.to_main(local.0[3].into());
                (rig.main(), 0)
            });
            assert_eq!(rig.switch(&co, 0), 1);
            let home = co.home.get().expect("it runs");
            assert_eq!(home.middle as usize % 64, 0);
            let low = home.data_end as usize - home.middle as usize;
            assert!(low >= 16 << 10);
            parked.push(co);
        }
        for co in &parked {
            rig.switch(co, 0);
        }
    }
}

#[test]
fn slot_tops_lie_in_different_cache_sets() {
    let rig = Rig::new(Config { slots: 64, ..SMALL });
    let mut tops = Vec::new();
    let mut all = Vec::new();
    for _ in 0..64 {
        let co = Co::new(|rig, _| (rig.main(), 0));
        tops.push(rig.settle(&co).expect("a slot").middle as usize % 4096);
        all.push(co);
    }
    tops.sort_unstable();
    tops.dedup();
    assert_eq!(tops.len(), 64);
}

#[test]
fn floating_point_and_many_live_values_survive() {
    let rig = Rig::new(SMALL);
    let mut all = Vec::new();
    for index in 0..12_u32 {
        let co = Co::new(move |rig, _| {
            let x = f64::from(black_box(index)) + 0.25;
            let (mut a, mut b, mut c, mut d) = (x, x * 2.0, x * 3.0, x * 5.0);
            let (mut e, mut f) = (u64::from(index), u64::from(index) << 32);
            for round in 0..20_u32 {
                assert_eq!(rig.to_main(0), round as usize);
                a += b;
                b += 1.0;
                c = c.mul_add(0.5, d);
                d -= 1.0;
                e = e.wrapping_mul(31).wrapping_add(f);
                f ^= e >> 7;
            }
            let mut expected = (x, x * 2.0, x * 3.0, x * 5.0);
            let mut words = (u64::from(index), u64::from(index) << 32);
            for _ in 0..20 {
                expected.0 += expected.1;
                expected.1 += 1.0;
                expected.2 = expected.2.mul_add(0.5, expected.3);
                expected.3 -= 1.0;
                words.0 = words.0.wrapping_mul(31).wrapping_add(words.1);
                words.1 ^= words.0 >> 7;
            }
            assert_eq!((a, b, c, d), expected);
            assert_eq!((e, f), words);
            (rig.main(), 1)
        });
        rig.switch(&co, 0);
        all.push(co);
    }
    for round in 0..20 {
        for co in &all {
            let done = rig.switch(co, round);
            assert_eq!(done, usize::from(round == 19));
        }
    }
}

/// Switches to main with known values in all registers that a call preserves, and compares. By
/// `switch` itself: any Rust function in between would save them too.
#[cfg(target_arch = "x86_64")]
fn churn(rig: &Rig, seed: u64) {
    let (me, main) = (rig.running(), rig.main());
    rig.set_running(&main);
    let (rbx, rbp): (u64, u64);
    let (mut r12, mut r13, mut r14, mut r15) = (seed + 3, seed + 4, seed + 5, seed + 6);
    // SAFETY: a call by the C convention with three arguments, on a stack that the two pushes
    // leave aligned. Main's stack is always in place.
    unsafe {
        std::arch::asm!(
            "push rbx",
            "push rbp",
            "lea rbx, [rdx + 1]",
            "lea rbp, [rdx + 2]",
            "call {switch}",
            "mov rax, rbx",
            "mov rcx, rbp",
            "pop rbp",
            "pop rbx",
            switch = sym greenloop_stack::switch,
            in("rdi") me.co.sp_cell(),
            in("rsi") main.co.sp(),
            in("rdx") seed,
            lateout("rax") rbx,
            lateout("rcx") rbp,
            inout("r12") r12,
            inout("r13") r13,
            inout("r14") r14,
            inout("r15") r15,
            clobber_abi("C"),
        );
    }
    let found = [rbx, rbp, r12, r13, r14, r15];
    assert_eq!(found, [1, 2, 3, 4, 5, 6].map(|offset| seed + offset));
}

/// As above: x19 to x29 and the lower halves of v8 to v15.
#[cfg(target_arch = "aarch64")]
fn churn(rig: &Rig, seed: u64) {
    let (me, main) = (rig.running(), rig.main());
    rig.set_running(&main);
    let (x19, x29): (u64, u64);
    let mut x: [u64; 9] = std::array::from_fn(|index| seed + 3 + index as u64);
    let mut d: [u64; 8] = std::array::from_fn(|index| seed + 12 + index as u64);
    // SAFETY: a call by the C convention with three arguments, on an aligned stack. Main's stack
    // is always in place.
    unsafe {
        std::arch::asm!(
            "stp x19, x29, [sp, #-16]!",
            "add x19, x2, #1",
            "add x29, x2, #2",
            "bl {switch}",
            "mov x0, x19",
            "mov x1, x29",
            "ldp x19, x29, [sp], #16",
            switch = sym greenloop_stack::switch,
            inout("x0") me.co.sp_cell() => x19,
            inout("x1") main.co.sp() => x29,
            in("x2") seed,
            inout("x20") x[0],
            inout("x21") x[1],
            inout("x22") x[2],
            inout("x23") x[3],
            inout("x24") x[4],
            inout("x25") x[5],
            inout("x26") x[6],
            inout("x27") x[7],
            inout("x28") x[8],
            inout("d8") d[0],
            inout("d9") d[1],
            inout("d10") d[2],
            inout("d11") d[3],
            inout("d12") d[4],
            inout("d13") d[5],
            inout("d14") d[6],
            inout("d15") d[7],
            clobber_abi("C"),
        );
    }
    let found: Vec<u64> = [x19, x29].into_iter().chain(x).chain(d).collect();
    assert_eq!(found, (1..20).map(|offset| seed + offset).collect::<Vec<_>>());
}

#[test]
fn callee_saved_registers_are_saved() {
    let rig = Rig::new(SMALL);
    let all: Vec<_> = (1..11_u64)
        .map(|index| {
            Co::new(move |rig, _| {
                for round in 0..5 {
                    churn(rig, (index << 40) + (round << 20));
                }
                (rig.main(), 1)
            })
        })
        .collect();
    for _ in 0..5 {
        for co in &all {
            assert_ne!(rig.switch(co, 0), 1);
        }
    }
    for co in &all {
        assert_eq!(rig.switch(co, 0), 1);
    }
}

#[test]
fn panics_are_caught_on_the_stack_they_happen_on() {
    let rig = Rig::new(SMALL);
    let mut all = Vec::new();
    for index in 0..8_usize {
        let co = Co::new(move |rig, _| {
            let dropped = Rc::new(Cell::new(false));
            struct Guard(Rc<Cell<bool>>);
            impl Drop for Guard {
                fn drop(&mut self) {
                    self.0.set(true);
                }
            }
            let guard = Guard(Rc::clone(&dropped));
            let caught = catch_unwind(std::panic::AssertUnwindSafe(|| {
                let _guard = guard;
                rig.to_main(index);
                // Not panic!: its message would be printed for every coroutine.
                std::panic::resume_unwind(Box::new(index));
            }));
            let payload = caught.expect_err("it panicked");
            assert_eq!(payload.downcast_ref::<usize>(), Some(&index));
            assert!(dropped.get());
            rig.to_main(100 + index);
            (rig.main(), 200 + index)
        });
        assert_eq!(rig.switch(&co, 0), index);
        all.push(co);
    }
    for base in [100, 200] {
        for (index, co) in all.iter().enumerate() {
            assert_eq!(rig.switch(co, 0), base + index);
        }
    }
}

#[test]
fn backtraces_end_at_the_bottom_of_the_stack() {
    let rig = Rig::new(SMALL);
    let co = Co::new(|rig, _| {
        let trace = std::backtrace::Backtrace::force_capture().to_string();
        assert!(!trace.is_empty());
        (rig.main(), trace.lines().count())
    });
    // A walk that runs off the stack crashes, or goes round for ever.
    assert!(rig.switch(&co, 0) < 1_000);
}
