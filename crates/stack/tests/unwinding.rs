//! What unwinders find: every walk ends at the bottom of the coroutine's stack.

mod common;

use common::TestHooks;
use common::{Co, Rig, SMALL};
use greenloop_stack::{Arena, Coroutine, Entry};
use libc::{c_int, c_void};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::ptr;

type Visit = extern "C" fn(*mut c_void, *mut c_void) -> c_int;

// Of the unwinder that Rust, C++ and glibc's backtrace share.
const URC_NO_REASON: c_int = 0;
const URC_END_OF_STACK: c_int = 5;

unsafe extern "C" {
    fn _Unwind_Backtrace(visit: Visit, data: *mut c_void) -> c_int;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
    fn _Unwind_GetCFA(context: *mut c_void) -> usize;
}

#[derive(Default)]
struct Walk {
    frames: usize,
    last_frame: usize,
}

extern "C" fn visit(context: *mut c_void, data: *mut c_void) -> c_int {
    // SAFETY: `walk` below passes its own local variable; the context is the unwinder's.
    unsafe {
        let walk = &mut *data.cast::<Walk>();
        walk.frames += 1;
        // The outermost frame is followed by an address of zero, which some unwinders show.
        if _Unwind_GetIP(context) != 0 {
            walk.last_frame = _Unwind_GetCFA(context);
        }
    }
    // A walk that goes round in circles is stopped, and does not report its end.
    // SAFETY: as above.
    if unsafe { (*data.cast::<Walk>()).frames } < 10_000 { URC_NO_REASON } else { 9 }
}

/// Walks the running stack; returns where its outermost frame lies.
fn walk() -> usize {
    let mut walk = Walk::default();
    // SAFETY: `visit` gets what it expects.
    let end = unsafe { _Unwind_Backtrace(visit, (&raw mut walk).cast()) };
    assert_eq!(end, URC_END_OF_STACK, "after {} frames", walk.frames);
    walk.last_frame
}

/// Whether an address lies where the outermost frame of a coroutine does.
fn is_bottom(co: &Co, address: usize) -> bool {
    let top = co.middle() as usize;
    (top - 160..=top).contains(&address)
}

#[test]
fn a_walk_ends_at_the_bottom_of_the_coroutine() {
    fn descend(depth: usize) -> usize {
        if depth == 0 { walk() } else { std::hint::black_box(descend(depth - 1)) }
    }
    let rig = Rig::new(SMALL);
    for depth in [0, 1, 100] {
        let co = Co::new(move |rig, _| {
            let me = rig.running();
            assert!(is_bottom(&me, descend(depth)));
            // Again after it was away, and its stack perhaps moved.
            rig.to_main(0);
            assert!(is_bottom(&me, descend(depth)));
            (rig.main(), 0)
        });
        rig.switch(&co, 0);
        rig.switch(&co, 0);
    }
}

/// A profiler's signal may arrive between any two instructions of a switch, and a debugger stop
/// there. With its trap flag set, the processor has a handler called after every instruction.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_walk_ends_from_every_instruction_of_a_switch() {
    use greenloop_stack::switch;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    const SWITCH_SIZE: usize = 30;
    const START_SIZE: usize = 8;
    static START: AtomicUsize = AtomicUsize::new(0);
    /// Addresses seen, and how the walk from there ended.
    static SEEN: Mutex<Vec<(usize, c_int)>> = Mutex::new(Vec::new());

    extern "C" fn step(_signum: c_int, _info: *mut libc::siginfo_t, context: *mut c_void) {
        // SAFETY: the kernel passes the interrupted context.
        let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
        let address = registers[libc::REG_RIP as usize] as usize;
        let in_switch = address.wrapping_sub(switch as *const () as usize);
        let in_start = address.wrapping_sub(START.load(Relaxed));
        if in_switch >= SWITCH_SIZE && in_start >= START_SIZE {
            return;
        }
        let mut walk = Walk::default();
        // SAFETY: `visit` gets what it expects. In these two functions nobody holds a lock.
        let end = unsafe { _Unwind_Backtrace(visit, (&raw mut walk).cast()) };
        SEEN.lock().expect("nobody panicked").push((address, end));
    }

    /// Calls `switch` with the trap flag set.
    fn switch_in_steps(rig: &Rig, from: &Co, to: &std::rc::Rc<Co>) {
        rig.set_running(to);
        // SAFETY: `from` runs, `to` is suspended and in place. What is pushed is popped, there or
        // by the coroutine that comes here first.
        unsafe {
            let flags: usize;
            std::arch::asm!("pushfq", "pop {}", out(reg) flags);
            std::arch::asm!("push {}", "popfq", in(reg) flags | 0x100);
            switch(from.co.sp_cell(), to.co.sp(), 0);
            std::arch::asm!("push {}", "popfq", in(reg) flags & !0x100);
        }
    }

    let rig = Rig::new(SMALL);
    // SAFETY: the handler stays within the rules for handlers at the two places where it acts.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = step as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(libc::SIGTRAP, &raw const action, ptr::null_mut()), 0);
    }
    SEEN.lock().expect("nobody panicked").reserve(1_000);
    // The unwinder finds its tables.
    walk();
    let main = rig.main();
    let co = Co::new(|rig, _| {
        let (me, main) = (rig.running(), rig.main());
        switch_in_steps(rig, &me, &main);
        (rig.main(), 0)
    });
    rig.settle(&co).expect("a slot");
    // SAFETY: a fresh stack ends with six registers and the address to start at.
    START.store(unsafe { co.co.sp().cast::<usize>().add(6).read() }, Relaxed);
    switch_in_steps(&rig, &main, &co);
    switch_in_steps(&rig, &main, &co);

    let seen = SEEN.lock().expect("nobody panicked");
    let wrong: Vec<_> = seen.iter().filter(|(_, end)| *end != URC_END_OF_STACK).collect();
    assert!(wrong.is_empty(), "{wrong:x?}");
    let mut addresses: Vec<_> = seen.iter().map(|(address, _)| *address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    // 16 instructions of `switch`, two of `start`.
    assert_eq!(addresses.len(), 18, "{addresses:x?}");
}

/// Runs an entry function on a stack of its own.
fn run(entry: Entry) {
    let mut arena = Arena::<TestHooks>::new(SMALL).expect("the sizes are fine");
    let (main, co) = (Coroutine::new(), Coroutine::new());
    // SAFETY: `main` runs, and neither moves.
    unsafe {
        arena.settle(&co, &main, entry).expect("a slot");
        let failed = Arena::switch_to(&raw mut arena, &main, &co, 0, true);
        unreachable!("it came back: {failed:?}");
    }
}

/// As in any function that may not unwind, and not by a walk into whatever lies above.
#[test]
fn a_panic_that_leaves_a_coroutine_ends_the_process() {
    unsafe extern "C-unwind" fn panicking(_arg: usize) -> ! {
        panic!("nobody catches this");
    }

    const NAME: &str = "a_panic_that_leaves_a_coroutine_ends_the_process";
    const MARK: &str = "GREENLOOP_STACK_TEST_CHILD";
    if std::env::var_os(MARK).is_some() {
        run(panicking);
    }
    let program = std::env::current_exe().expect("the test binary");
    let output = Command::new(program)
        .args(["--exact", NAME, "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .output()
        .expect("the test binary runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{text}");
    assert!(text.contains("nobody catches this"), "{text}");
    assert!(text.contains("failed to initiate panic"), "{text}");
}

/// `pthread_exit` unwinds to the end of the stack it is called on, and ends the thread there. The
/// interpreter does that to daemon threads at exit.
#[test]
fn a_thread_can_end_in_a_coroutine() {
    unsafe extern "C-unwind" fn exiting(_arg: usize) -> ! {
        // SAFETY: nothing between here and the bottom of this stack has anything to drop.
        unsafe { libc::pthread_exit(ptr::without_provenance_mut(7)) }
    }

    extern "C" fn thread(_: *mut c_void) -> *mut c_void {
        run(exiting);
        ptr::null_mut()
    }

    let mut result = ptr::null_mut();
    // SAFETY: not one of Rust's threads, which may not be ended like that. The arena, on the
    // thread's own stack, is never dropped.
    unsafe {
        let mut id = std::mem::zeroed();
        assert_eq!(libc::pthread_create(&raw mut id, ptr::null(), thread, ptr::null_mut()), 0);
        assert_eq!(libc::pthread_join(id, &raw mut result), 0);
    }
    assert_eq!(result.addr(), 7);
}
