//! Coroutines to test with: closures on arena stacks, in place of greenlets.

#![allow(dead_code, reason = "each test file uses its own subset")]

use greenloop_stack::{Arena, Config, Coroutine, Home, Hooks, Message, Overflow};
use std::any::Any;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Command, Output};
use std::ptr;
use std::rc::Rc;

/// Small slots, as few as may be: every test that parks four coroutines shares them.
pub const SMALL: Config =
    Config { stack_size: 128 << 10, least_stack_size: 128 << 10, data_size: 16 << 10, slots: 4 };

/// Where a body goes on when it is over: the coroutine, and what its `switch` returns.
pub type Next = (Rc<Co>, usize);

type Body = Box<dyn FnOnce(&Rig, usize) -> Next>;

/// A coroutine with what the hooks need to know about it.
#[repr(C)]
pub struct Co {
    /// First, so that the hooks find the rest.
    pub co: Coroutine,
    pub home: Cell<Option<Home>>,
    /// Bytes of the data area in use.
    pub used: Cell<usize>,
    /// Calls of the hooks, oldest first.
    pub moves: RefCell<Vec<Move>>,
    body: Cell<Option<Body>>,
}

/// A call of `moved_out` or `moved_in`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    pub out: bool,
    pub low: usize,
    pub high: usize,
    pub shift: isize,
}

pub struct TestHooks;

impl TestHooks {
    /// # Safety
    ///
    /// `co` is the first field of a `Co`.
    unsafe fn owner(co: &Coroutine) -> &Co {
        // SAFETY: as the caller guarantees; `Co` is `repr(C)`.
        unsafe { &*ptr::from_ref(co).cast() }
    }

    fn note(co: &Coroutine, out: bool, low: *mut u8, high: *mut u8, shift: isize) {
        // SAFETY: arenas of the tests hold nothing but `Co`s.
        let owner = unsafe { Self::owner(co) };
        owner.moves.borrow_mut().push(Move { out, low: low as usize, high: high as usize, shift });
        // Both places hold the same bytes at the time of the call.
        // SAFETY: the arena guarantees that the range and its copy are readable.
        unsafe {
            let len = high as usize - low as usize;
            let home = std::slice::from_raw_parts(low, len);
            let copy = std::slice::from_raw_parts(low.wrapping_offset(shift), len);
            assert_eq!(home, copy);
        }
    }
}

impl Hooks for TestHooks {
    unsafe fn used_end(co: &Coroutine) -> *mut u8 {
        // SAFETY: arenas of the tests hold nothing but `Co`s.
        unsafe {
            let owner = Self::owner(co);
            owner.home.get().expect("it is resident").middle.add(owner.used.get())
        }
    }

    unsafe fn moved_out(co: &Coroutine, low: *mut u8, high: *mut u8, shift: isize) {
        Self::note(co, true, low, high, shift);
    }

    unsafe fn moved_in(co: &Coroutine, low: *mut u8, high: *mut u8, shift: isize) {
        Self::note(co, false, low, high, shift);
    }

    unsafe fn overflowed(overflow: &Overflow<'_>, message: &mut Message) {
        message.text("stack overflow in ");
        message.address(overflow.coroutine.map_or(0, |co| ptr::from_ref(co) as usize), 16);
        message.text(" of ");
        message.decimal(overflow.high - overflow.low);
        message.text(" bytes\n");
    }
}

impl Co {
    pub fn new(body: impl FnOnce(&Rig, usize) -> Next + 'static) -> Rc<Self> {
        let co = Self::bare();
        co.body.set(Some(Box::new(body)));
        co
    }

    fn bare() -> Rc<Self> {
        Rc::new(Self {
            co: Coroutine::new(),
            home: Cell::new(None),
            used: Cell::new(0),
            moves: RefCell::new(Vec::new()),
            body: Cell::new(None),
        })
    }

    pub fn middle(&self) -> *mut u8 {
        self.home.get().expect("it has been settled").middle
    }
}

impl Drop for Co {
    fn drop(&mut self) {
        self.co.drop_copy();
    }
}

/// An arena, its thread's own stack and who runs.
pub struct Rig {
    pub arena: UnsafeCell<Arena<TestHooks>>,
    main: Rc<Co>,
    running: RefCell<Rc<Co>>,
    failure: Cell<Option<Box<dyn Any + Send>>>,
}

thread_local! {
    static RIG: Cell<*const Rig> = const { Cell::new(ptr::null()) };
}

impl Rig {
    pub fn new(config: Config) -> Box<Self> {
        let main = Co::bare();
        let rig = Box::new(Self {
            arena: UnsafeCell::new(Arena::new(config).expect("the sizes are fine")),
            running: RefCell::new(Rc::clone(&main)),
            main,
            failure: Cell::new(None),
        });
        RIG.set(&raw const *rig);
        rig
    }

    /// The arena, for calls that do not switch.
    #[allow(clippy::mut_from_ref, reason = "borrowed for one call at a time, on one thread")]
    pub fn arena(&self) -> &mut Arena<TestHooks> {
        // SAFETY: nobody keeps the borrow: each caller makes one call that does not switch.
        unsafe { &mut *self.arena.get() }
    }

    pub fn main(&self) -> Rc<Co> {
        Rc::clone(&self.main)
    }

    pub fn running(&self) -> Rc<Co> {
        Rc::clone(&self.running.borrow())
    }

    /// Notes who is about to be switched to by other means than `switch`.
    pub fn set_running(&self, co: &Rc<Co>) {
        *self.running.borrow_mut() = Rc::clone(co);
    }

    /// Gives a coroutine its stack.
    pub fn settle(&self, co: &Rc<Co>) -> io::Result<Home> {
        let running = self.running();
        // SAFETY: an `Rc` does not move, and `running` runs.
        let home = unsafe { self.arena().settle(&co.co, &running.co, enter)? };
        co.home.set(Some(home));
        co.used.set(0);
        Ok(home)
    }

    /// Switches, to a coroutine without a stack too. A failed assertion in any coroutine fails the
    /// test when main comes back.
    pub fn switch(&self, to: &Rc<Co>, arg: usize) -> usize {
        self.try_switch(to, arg).expect("memory for the switch")
    }

    pub fn try_switch(&self, to: &Rc<Co>, arg: usize) -> io::Result<usize> {
        let from = self.running();
        if !to.co.has_home() && !Rc::ptr_eq(to, &self.main) {
            self.settle(to)?;
        }
        *self.running.borrow_mut() = Rc::clone(to);
        // SAFETY: `from` runs, `to` is suspended or fresh, both are kept by `Rc`s that are alive
        // on the stack being left or held by the test.
        let back = unsafe { Arena::switch_to(self.arena.get(), &from.co, &to.co, arg, true) };
        if back.is_err() {
            *self.running.borrow_mut() = Rc::clone(&from);
        }
        if Rc::ptr_eq(&from, &self.main)
            && let Some(failure) = self.failure.take()
        {
            resume_unwind(failure);
        }
        back
    }

    /// Switches to the thread's own stack.
    pub fn to_main(&self, arg: usize) -> usize {
        let main = self.main();
        self.switch(&main, arg)
    }

    /// Takes the stack of a coroutine that does not run away.
    pub fn release(&self, co: &Co) {
        // SAFETY: the test gives it up; its frames own nothing that is missed.
        unsafe { self.arena().release(&co.co) };
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        RIG.set(ptr::null());
    }
}

/// The outermost function of every test coroutine.
unsafe extern "C-unwind" fn enter(arg: usize) -> ! {
    // SAFETY: set by `Rig::new` in this thread, and alive while its coroutines run.
    let rig = unsafe { &*RIG.get() };
    let (me, to, arg) = {
        let me = rig.running();
        let body = me.body.take().expect("a coroutine starts once");
        let outcome = catch_unwind(AssertUnwindSafe(|| body(rig, arg)));
        let (to, arg) = outcome.unwrap_or_else(|failure| {
            rig.failure.set(Some(failure));
            (rig.main(), usize::MAX)
        });
        *rig.running.borrow_mut() = Rc::clone(&to);
        // This stack is left for good: nothing on it may own anything. The test holds both.
        (Rc::as_ptr(&me), Rc::as_ptr(&to), arg)
    };
    // SAFETY: the test keeps the `Rc`s of whatever it runs. `to` has a stack already, or is main.
    unsafe {
        let target = &*to;
        if !target.co.has_home() && to != Rc::as_ptr(&rig.main) {
            let home = rig.arena().settle(&target.co, &(*me).co, enter).expect("a slot");
            target.home.set(Some(home));
            target.used.set(0);
        }
        rig.arena().leave(&(*me).co);
        let failed = Arena::switch_to(rig.arena.get(), &(*me).co, &target.co, arg, false);
        eprintln!("a finished coroutine went on: {failed:?}");
    }
    std::process::abort();
}

/// A word that depends on all of its arguments.
pub fn mix(seed: u64, index: u64) -> u64 {
    let mut word = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ index.wrapping_add(0x5851_F42D);
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word ^ (word >> 27)
}

/// Runs the test of this name in a process of its own, alone, and returns how that ended. In that
/// process there is none to return.
pub fn child(name: &str) -> Option<Output> {
    const MARK: &str = "GREENLOOP_STACK_TEST_CHILD";
    if std::env::var_os(MARK).is_some() {
        return None;
    }
    let program = std::env::current_exe().expect("the test binary");
    let mut command = match emulator() {
        None => Command::new(program),
        Some(emulator) => {
            let mut words = emulator.split_whitespace();
            let mut command = Command::new(words.next().expect("a program"));
            command.args(words).arg(program);
            command
        }
    };
    let output = command
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .output()
        .expect("the test binary runs");
    Some(output)
}

/// What cargo was told to run tests of this architecture with, on a machine of another one.
pub fn emulator() -> Option<String> {
    let architecture = std::env::consts::ARCH.to_uppercase();
    std::env::var(format!("CARGO_TARGET_{architecture}_UNKNOWN_LINUX_GNU_RUNNER")).ok()
}
