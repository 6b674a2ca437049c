//! Stacks that run into their guards, and everything else that ends in the same signal.

mod common;

use common::{Co, Rig, SMALL, child};
use libc::{c_int, c_void, sigaction, siginfo_t, stack_t};
use std::cell::Cell;
use std::hint::black_box;
use std::mem::{MaybeUninit, zeroed};
use std::os::unix::process::ExitStatusExt;
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a child process wrote to its standard error, and which signal ended it.
struct End {
    told: String,
    signal: Option<i32>,
    code: Option<i32>,
}

impl End {
    /// Of this file's test of that name, run in a process of its own; None in that process.
    fn of(name: &str) -> Option<Self> {
        let output = child(name)?;
        let told = String::from_utf8_lossy(&output.stderr);
        // An emulator says something of its own when a signal ends the program.
        let told = told.split_inclusive('\n').filter(|line| !line.starts_with("qemu: uncaught"));
        Some(Self {
            told: told.collect(),
            signal: output.status.signal(),
            code: output.status.code(),
        })
    }

    fn overflows(&self) -> usize {
        self.told.matches("stack overflow in 0x").count()
    }

    fn check_died(&self, overflows: usize) {
        assert_eq!((self.signal, self.overflows()), (Some(libc::SIGSEGV), overflows), "{self}");
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "signal {:?}, status {:?}\n{}", self.signal, self.code, self.told)
    }
}

fn say(text: &str) {
    // SAFETY: the bytes are there. This is called in signal handlers.
    unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
}

#[expect(unconditional_recursion, reason = "it is to overflow")]
fn endless(depth: u64) -> u64 {
    let block = [depth; 64];
    black_box(&block);
    endless(depth + 1) + black_box(&block)[depth as usize % 64]
}

/// A coroutine that uses up its stack.
fn deep() -> Rc<Co> {
    Co::new(|rig, _| {
        let me = rig.running();
        eprintln!("runs: {:#018x}", ptr::from_ref(&me.co) as usize);
        black_box(endless(1));
        (rig.main(), 0)
    })
}

fn overflow() {
    let rig = Rig::new(SMALL);
    rig.switch(&deep(), 0);
}

/// Runs `body` once in a coroutine, so that everything is in place.
fn with_an_arena(body: impl FnOnce(&Rig)) {
    let rig = Rig::new(SMALL);
    let co = Co::new(|rig, _| (rig.main(), 0));
    rig.switch(&co, 0);
    body(&rig);
}

fn touch(address: usize) {
    // SAFETY: none; this is to fault.
    unsafe { ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(1) };
}

type Handler = unsafe extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

fn set_disposition(disposition: usize, flags: c_int) {
    // SAFETY: a whole structure.
    unsafe {
        let mut new: sigaction = zeroed();
        new.sa_sigaction = disposition;
        new.sa_flags = flags;
        assert_eq!(libc::sigaction(libc::SIGSEGV, &raw const new, ptr::null_mut()), 0);
    }
}

fn set_handler(handler: Handler, flags: c_int) {
    set_disposition(handler as usize, flags | libc::SA_SIGINFO | libc::SA_ONSTACK);
}

/// The state before Rust's runtime put its handler there.
fn set_default() {
    set_disposition(libc::SIG_DFL, 0);
}

fn signal_stack() -> stack_t {
    let mut current = MaybeUninit::<stack_t>::zeroed();
    // SAFETY: fills the structure in.
    unsafe {
        assert_eq!(libc::sigaltstack(ptr::null(), current.as_mut_ptr()), 0);
        current.assume_init()
    }
}

fn has_signal_stack() -> bool {
    signal_stack().ss_flags & libc::SS_DISABLE == 0
}

/// Runs `body` in a thread that Rust's runtime knows nothing of, hence without a signal stack.
fn in_bare_thread(body: fn()) {
    extern "C" fn start(body: *mut c_void) -> *mut c_void {
        // SAFETY: passed below.
        let body: fn() = unsafe { std::mem::transmute(body) };
        assert!(!has_signal_stack());
        body();
        ptr::null_mut()
    }
    let mut thread = MaybeUninit::uninit();
    // SAFETY: the thread is joined.
    unsafe {
        let status =
            libc::pthread_create(thread.as_mut_ptr(), ptr::null(), start, body as *mut c_void);
        assert_eq!(status, 0);
        assert_eq!(libc::pthread_join(thread.assume_init(), ptr::null_mut()), 0);
    }
}

#[test]
fn an_overflow_is_told_and_ends_the_process() {
    let Some(end) = End::of("an_overflow_is_told_and_ends_the_process") else {
        return overflow();
    };
    end.check_died(1);
    let who = end.told.split_once("runs: ").expect("it ran").1.lines().next().expect("a line");
    let told = format!("stack overflow in {who} of {} bytes", SMALL.stack_size);
    assert!(end.told.contains(&told), "{end}");
}

#[test]
fn also_where_nothing_handled_the_signal_before() {
    let Some(end) = End::of("also_where_nothing_handled_the_signal_before") else {
        set_default();
        return overflow();
    };
    end.check_died(1);
}

#[test]
fn also_in_a_thread_that_had_no_signal_stack() {
    let Some(end) = End::of("also_in_a_thread_that_had_no_signal_stack") else {
        return in_bare_thread(overflow);
    };
    end.check_died(1);
}

#[test]
fn also_of_one_that_came_back_from_the_heap() {
    let Some(end) = End::of("also_of_one_that_came_back_from_the_heap") else {
        let rig = Rig::new(SMALL);
        let all: Vec<_> = (0..12)
            .map(|_| {
                Co::new(|rig, _| {
                    rig.to_main(0);
                    let me = rig.running();
                    eprintln!("runs: {:#018x}", ptr::from_ref(&me.co) as usize);
                    black_box(endless(1));
                    (rig.main(), 0)
                })
            })
            .collect();
        for co in &all {
            rig.switch(co, 0);
        }
        let evicted = all.iter().find(|co| co.co.is_evicted()).expect("slots are few");
        rig.switch(evicted, 0);
        return;
    };
    end.check_died(1);
    let who = end.told.split_once("runs: ").expect("it ran").1.lines().next().expect("a line");
    assert!(end.told.contains(&format!("stack overflow in {who}")), "{end}");
}

#[test]
fn also_when_a_frame_is_larger_than_a_page() {
    let Some(end) = End::of("also_when_a_frame_is_larger_than_a_page") else {
        let rig = Rig::new(SMALL);
        let co = Co::new(|rig, _| {
            touch(rig.running().middle() as usize - SMALL.stack_size - (60 << 10));
            (rig.main(), 0)
        });
        rig.switch(&co, 0);
        return;
    };
    end.check_died(1);
}

#[test]
fn the_data_area_ends_in_a_guard() {
    let Some(end) = End::of("the_data_area_ends_in_a_guard") else {
        let rig = Rig::new(SMALL);
        let co = Co::new(|rig, _| {
            let end = rig.running().home.get().expect("it runs").data_end as usize;
            touch(end - 1);
            say("up to the end\n");
            touch(end);
            (rig.main(), 0)
        });
        rig.switch(&co, 0);
        return;
    };
    end.check_died(0);
    assert!(end.told.contains("up to the end"), "{end}");
}

#[test]
fn touching_a_guard_from_another_stack_is_no_overflow() {
    let Some(end) = End::of("touching_a_guard_from_another_stack_is_no_overflow") else {
        let rig = Rig::new(SMALL);
        let co = Co::new(|rig, _| {
            rig.to_main(0);
            (rig.main(), 0)
        });
        rig.switch(&co, 0);
        touch(co.middle() as usize - SMALL.stack_size - 8);
        return;
    };
    end.check_died(0);
}

#[test]
fn other_faults_end_the_process_without_a_word() {
    let Some(end) = End::of("other_faults_end_the_process_without_a_word") else {
        set_default();
        return with_an_arena(|_| touch(8));
    };
    end.check_died(0);
    assert_eq!(end.told, "");
}

#[test]
fn so_does_the_signal_when_it_is_sent() {
    let Some(end) = End::of("so_does_the_signal_when_it_is_sent") else {
        set_default();
        return with_an_arena(|_| {
            // SAFETY: ends the process.
            unsafe { libc::raise(libc::SIGSEGV) };
            say("went on\n");
        });
    };
    end.check_died(0);
    assert_eq!(end.told, "");
}

#[test]
fn the_signal_sent_from_outside_ends_the_process() {
    let Some(end) = End::of("the_signal_sent_from_outside_ends_the_process") else {
        set_default();
        return with_an_arena(|_| {
            // SAFETY: a child that signals its parent and ends.
            unsafe {
                let parent = libc::getpid();
                if libc::fork() == 0 {
                    libc::kill(parent, libc::SIGSEGV);
                    libc::_exit(0);
                }
                libc::sleep(30);
            }
        });
    };
    end.check_died(0);
    assert_eq!(end.told, "");
}

#[test]
fn an_ignored_signal_stays_ignored_and_a_fault_does_not() {
    let Some(end) = End::of("an_ignored_signal_stays_ignored_and_a_fault_does_not") else {
        set_disposition(libc::SIG_IGN, 0);
        return with_an_arena(|_| {
            // SAFETY: does nothing.
            unsafe { libc::raise(libc::SIGSEGV) };
            say("ignored\n");
            touch(8);
        });
    };
    end.check_died(0);
    assert_eq!(end.told, "ignored\n");
}

static SEEN: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn leave(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    say("previous handler\n");
    // SAFETY: given by the kernel.
    unsafe {
        let address = (*info).si_addr() as usize;
        libc::_exit(if address == SEEN.load(Ordering::Relaxed) || address > 1 << 20 {
            7
        } else {
            8
        });
    }
}

#[test]
fn the_handler_that_was_there_comes_after_the_message() {
    let Some(end) = End::of("the_handler_that_was_there_comes_after_the_message") else {
        set_handler(leave, 0);
        return overflow();
    };
    assert_eq!((end.code, end.overflows()), (Some(7), 1), "{end}");
    let (before, after) = end.told.split_once("stack overflow in").expect("the message");
    assert!(!before.contains("previous handler") && after.contains("previous handler"), "{end}");
}

#[test]
fn it_is_told_the_address_of_other_faults() {
    let Some(end) = End::of("it_is_told_the_address_of_other_faults") else {
        set_handler(leave, 0);
        SEEN.store(24, Ordering::Relaxed);
        return with_an_arena(|_| touch(24));
    };
    assert_eq!((end.code, end.overflows()), (Some(7), 0), "{end}");
}

/// Makes the page that was touched accessible: what handlers of virtual machines do.
unsafe extern "C" fn repair(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    say("repaired\n");
    // SAFETY: a page of the test's own.
    unsafe {
        let page = ((*info).si_addr() as usize & !4095) as *mut c_void;
        libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_WRITE);
    }
}

#[test]
fn a_handler_that_repairs_a_fault_is_left_to_it() {
    let Some(end) = End::of("a_handler_that_repairs_a_fault_is_left_to_it") else {
        set_handler(repair, 0);
        return with_an_arena(|_| {
            for _ in 0..3 {
                // SAFETY: a fresh mapping.
                let page = unsafe {
                    libc::mmap(
                        ptr::null_mut(),
                        4096,
                        libc::PROT_NONE,
                        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                        -1,
                        0,
                    )
                };
                touch(page as usize);
            }
        });
    };
    assert_eq!((end.code, end.told.matches("repaired").count()), (Some(0), 3), "{end}");
}

unsafe extern "C" fn plain(signal: c_int) {
    say(if signal == libc::SIGSEGV { "plain handler\n" } else { "wrong signal\n" });
}

#[test]
fn a_handler_for_one_time_is_called_once() {
    let Some(end) = End::of("a_handler_for_one_time_is_called_once") else {
        set_disposition(plain as *const () as usize, libc::SA_RESETHAND);
        return with_an_arena(|_| touch(8));
    };
    end.check_died(0);
    assert_eq!(end.told, "plain handler\n");
}

#[test]
fn a_handler_that_does_nothing_gets_one_message() {
    unsafe extern "C" fn third(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
        if SEEN.fetch_add(1, Ordering::Relaxed) == 3 {
            // SAFETY: ends the process.
            unsafe { libc::_exit(9) };
        }
    }
    let Some(end) = End::of("a_handler_that_does_nothing_gets_one_message") else {
        set_handler(third, 0);
        return overflow();
    };
    assert_eq!((end.code, end.overflows()), (Some(9), 1), "{end}");
}

/// The disposition that `set_later` replaced.
static mut REPLACED: MaybeUninit<sigaction> = MaybeUninit::zeroed();

/// As Python's faulthandler: puts back what was there, says something, raises the signal again.
unsafe extern "C" fn raise_again(signal: c_int) {
    // SAFETY: set by `set_later`.
    unsafe {
        libc::sigaction(signal, (&raw const REPLACED).cast(), ptr::null_mut());
        say("later handler\n");
        libc::raise(signal);
    }
}

fn set_later() {
    // SAFETY: one thread; a whole structure.
    unsafe {
        let mut new: sigaction = zeroed();
        new.sa_sigaction = raise_again as *const () as usize;
        new.sa_flags = libc::SA_NODEFER | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGSEGV, &raw const new, (&raw mut REPLACED).cast());
    }
}

#[test]
fn a_later_handler_that_raises_again_is_followed_by_the_message() {
    let name = "a_later_handler_that_raises_again_is_followed_by_the_message";
    let Some(end) = End::of(name) else {
        set_default();
        with_an_arena(|_| {});
        set_later();
        return overflow();
    };
    end.check_died(1);
    assert!(end.told.contains("later handler\nstack overflow in 0x"), "{end}");
}

#[test]
fn such_a_handler_for_another_fault_is_not() {
    let Some(end) = End::of("such_a_handler_for_another_fault_is_not") else {
        set_default();
        return with_an_arena(|rig| {
            set_later();
            let co = Co::new(|rig, _| {
                touch(8);
                (rig.main(), 0)
            });
            rig.switch(&co, 0);
        });
    };
    end.check_died(0);
    assert_eq!(end.told, "later handler\n");
}

#[test]
fn nor_for_a_signal_that_was_sent() {
    let Some(end) = End::of("nor_for_a_signal_that_was_sent") else {
        set_default();
        return with_an_arena(|_| {
            set_later();
            // SAFETY: ends the process.
            unsafe { libc::raise(libc::SIGSEGV) };
            say("went on\n");
        });
    };
    end.check_died(0);
    assert_eq!(end.told, "later handler\n");
}

#[test]
fn the_signal_stack_lives_as_long_as_its_thread() {
    static PLACE: AtomicUsize = AtomicUsize::new(0);
    let is_mapped = |address: usize| {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("it can be read");
        maps.lines().any(|line| line.starts_with(&format!("{address:x}-")))
    };
    if let Some(end) = End::of("the_signal_stack_lives_as_long_as_its_thread") {
        assert_eq!(end.code, Some(0), "{end}");
        return;
    }
    in_bare_thread(|| {
        with_an_arena(|_| {
            assert!(has_signal_stack());
            PLACE.store(signal_stack().ss_sp as usize, Ordering::Relaxed);
        });
        // A second arena, after the first has gone.
        with_an_arena(|_| {
            assert_eq!(signal_stack().ss_sp as usize, PLACE.load(Ordering::Relaxed));
        });
        assert!(has_signal_stack());
    });
    assert!(!is_mapped(PLACE.load(Ordering::Relaxed)));
}

#[test]
fn a_signal_stack_that_is_there_stays() {
    let before = signal_stack();
    assert!(has_signal_stack(), "Rust's runtime gives its threads one");
    with_an_arena(|_| {
        assert_eq!(signal_stack().ss_sp, before.ss_sp);
    });
    assert_eq!(signal_stack().ss_sp, before.ss_sp);
}

#[test]
fn one_that_was_replaced_is_not_taken_away() {
    static OTHER: AtomicUsize = AtomicUsize::new(0);
    const SIZE: usize = 64 << 10;
    let Some(end) = End::of("one_that_was_replaced_is_not_taken_away") else {
        in_bare_thread(|| {
            thread_local! {
                static LAST: Cell<Option<Check>> = const { Cell::new(None) };
            }
            struct Check;
            impl Drop for Check {
                fn drop(&mut self) {
                    let current = signal_stack().ss_sp as usize;
                    say(if current == OTHER.load(Ordering::Relaxed) {
                        "stays\n"
                    } else {
                        "gone\n"
                    });
                }
            }
            // Dropped after what was made later.
            LAST.set(Some(Check));
            with_an_arena(|_| {});
            let room = Box::leak(vec![0_u8; SIZE].into_boxed_slice());
            OTHER.store(room.as_ptr() as usize, Ordering::Relaxed);
            let new = stack_t { ss_sp: room.as_mut_ptr().cast(), ss_flags: 0, ss_size: SIZE };
            // SAFETY: memory that stays.
            assert_eq!(unsafe { libc::sigaltstack(&raw const new, ptr::null_mut()) }, 0);
        });
        return;
    };
    assert_eq!((end.code, end.told.as_str()), (Some(0), "stays\n"), "{end}");
}
