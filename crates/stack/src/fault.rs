//! What happens when a stack runs into its guard: a message, then what would have happened anyway.
//!
//! The handler for SIGSEGV looks whether the fault is that, writes the message, and hands the
//! signal on to whoever had it before, or to the system, which ends the process. For any other
//! fault it does the latter only.
//!
//! It cannot run on the stack that is used up. Threads with an arena get an alternate stack for
//! signals, unless they have one.
//!
//! All that runs in the handler is safe at any moment: it reads memory that stays in place, writes
//! to the standard error descriptor, and neither allocates nor locks.

use crate::coroutine::Coroutine;
use crate::guards::{self, Record};
use crate::mapping::Mapping;
use libc::{c_int, c_void, mcontext_t, sigaction, sighandler_t, siginfo_t, stack_t};
use std::cell::Cell;
use std::io;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Once, OnceLock};

/// Composes the message about an overflow. Runs in the signal handler.
pub(crate) type Report = unsafe fn(overflow: &Overflow<'_>, message: &mut Message);

/// A stack that has run into its guard.
pub struct Overflow<'a> {
    /// Whose stack it is, if anybody's.
    pub coroutine: Option<&'a Coroutine>,
    /// The lowest address of the stack.
    pub low: usize,
    /// The address it grew down from.
    pub high: usize,
}

/// A message that is put together without allocating; what does not fit is left out.
pub struct Message {
    text: [u8; Self::ROOM],
    len: usize,
}

impl Message {
    const ROOM: usize = 640;

    const fn new() -> Self {
        Self { text: [0; Self::ROOM], len: 0 }
    }

    /// Appends a text as it is.
    pub fn text(&mut self, text: &str) {
        text.bytes().for_each(|byte| self.byte(byte));
    }

    /// Appends a character of a text that may hold anything: what is not printable ASCII is shown
    /// as a question mark.
    pub fn character(&mut self, code: u32) {
        match u8::try_from(code) {
            Ok(byte @ b' '..=b'~') => self.byte(byte),
            _ => self.byte(b'?'),
        }
    }

    /// Appends a number.
    pub fn decimal(&mut self, number: usize) {
        self.digits(number, 10, 1);
    }

    /// Appends an address, as "0x" and at least `width` hexadecimal digits, of 16 at most.
    pub fn address(&mut self, address: usize, width: usize) {
        self.text("0x");
        self.digits(address, 16, width);
    }

    fn digits(&mut self, mut number: usize, base: usize, width: usize) {
        let mut digits = [b'0'; 20];
        let mut start = digits.len();
        let least = start - width.min(16);
        while number > 0 || start > least {
            start -= 1;
            digits[start] = b"0123456789abcdef"[number % base];
            number /= base;
        }
        digits[start..].iter().for_each(|&digit| self.byte(digit));
    }

    fn byte(&mut self, byte: u8) {
        if let Some(place) = self.text.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }

    fn write(&self) {
        let mut rest = &self.text[..self.len];
        while !rest.is_empty() {
            // SAFETY: the bytes are there.
            let written =
                unsafe { libc::write(libc::STDERR_FILENO, rest.as_ptr().cast(), rest.len()) };
            match usize::try_from(written) {
                Ok(written) if written > 0 => rest = &rest[written..],
                _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    }
}

/// Prepares the calling thread, and the first time the process, for overflows.
///
/// # Errors
///
/// When memory for the thread's alternate signal stack is not to be had.
pub(crate) fn prepare() -> io::Result<()> {
    static ONCE: Once = Once::new();
    ONCE.call_once(install);
    SignalStack::ensure()
}

/// How SIGSEGV was handled before.
static PREVIOUS: OnceLock<sigaction> = OnceLock::new();

/// Installs the handler, with the mask and the flags of the one that was there: they apply to that
/// one too, which is called from ours.
///
/// This is done once. If somebody takes the signal over later, it is theirs, and they may call us.
fn install() {
    let mut previous = MaybeUninit::<sigaction>::zeroed();
    // SAFETY: reads the disposition into a structure of that type.
    let previous = unsafe {
        if libc::sigaction(libc::SIGSEGV, ptr::null(), previous.as_mut_ptr()) != 0 {
            return;
        }
        previous.assume_init()
    };
    let mut ours = previous;
    ours.sa_sigaction = handle as *const () as sighandler_t;
    ours.sa_flags = previous.sa_flags & !libc::SA_RESETHAND | libc::SA_SIGINFO | libc::SA_ONSTACK;
    if PREVIOUS.set(previous).is_ok() {
        // SAFETY: a handler that may be called at any moment; what it needs is set.
        unsafe { libc::sigaction(libc::SIGSEGV, &raw const ours, ptr::null_mut()) };
    }
}

unsafe extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: as the kernel calls handlers, with information and context of the signal.
    unsafe {
        let errno = *libc::__errno_location();
        if let Some((address, record)) = overflow(info, context) {
            tell(address, record);
        }
        *libc::__errno_location() = errno;
        forward(signal, info, context);
    }
}

/// Whether somebody sent the signal; otherwise an instruction raised it, and will do so again if it
/// is gone on with.
unsafe fn is_sent(info: *const siginfo_t) -> bool {
    // SAFETY: passed on from the caller.
    unsafe { (*info).si_code <= 0 }
}

/// An address in a guard, and the slot that the running stack has grown out of.
type Fault = (usize, &'static Record);

/// The overflow that the signal means, if it means one.
unsafe fn overflow(info: *const siginfo_t, context: *const c_void) -> Option<Fault> {
    // SAFETY: passed on from the caller.
    unsafe {
        let context = &*context.cast::<libc::ucontext_t>();
        if !is_sent(info) {
            // A signal that was not sent comes with an address.
            let address = (*info).si_addr() as usize;
            return fault_at(address, stack_pointer(&context.uc_mcontext));
        }
        // Python's faulthandler, if it was enabled after us, comes first, and when it is done it
        // raises the signal once more.
        if (*info).si_pid() != libc::getpid() {
            return None;
        }
        interrupted_fault(context)
    }
}

/// Frames larger than this are not taken for the reason of a fault so far below the stack.
const LARGEST_FRAME: usize = 16 << 20;

/// The overflow that touching `address` with such a stack pointer is, if it is one: the stack
/// pointer belongs to the slot's stack, or to a frame that reaches out of it.
fn fault_at(address: usize, stack_pointer: usize) -> Option<Fault> {
    let record = guards::find(address)?;
    let (low, middle) = record.stack();
    let runs_on = (low.saturating_sub(LARGEST_FRAME)..middle).contains(&stack_pointer);
    runs_on.then_some((address, record))
}

/// The overflow that called a handler which has raised the signal that is being handled now.
///
/// The kernel left the registers at the fault further up on the alternate stack. (The same for its
/// other information only if that handler takes it, and faulthandler's does not.)
unsafe fn interrupted_fault(context: &libc::ucontext_t) -> Option<Fault> {
    let alternate = context.uc_stack;
    let low = alternate.ss_sp as usize;
    let high = low + alternate.ss_size;
    let from = stack_pointer(&context.uc_mcontext).next_multiple_of(REGISTERS_ALIGN);
    if alternate.ss_flags & libc::SS_DISABLE != 0 || !(low..high).contains(&from) {
        return None;
    }
    (from..high.saturating_sub(size_of::<mcontext_t>())).step_by(REGISTERS_ALIGN).find_map(
        |place| {
            // SAFETY: the kernel notes in the context where the thread's alternate stack is. What lies
            // between the stack pointer and its end is in use, hence readable.
            let registers = unsafe { &*ptr::with_exposed_provenance::<mcontext_t>(place) };
            fault_at(fault_address(registers)?, stack_pointer(registers))
        },
    )
}

/// How the kernel aligns the registers at least.
const REGISTERS_ALIGN: usize = align_of::<mcontext_t>();

#[cfg(target_arch = "x86_64")]
fn stack_pointer(registers: &mcontext_t) -> usize {
    registers.gregs[libc::REG_RSP as usize] as usize
}

#[cfg(target_arch = "aarch64")]
fn stack_pointer(registers: &mcontext_t) -> usize {
    registers.sp as usize
}

/// The address that was touched, if the registers are those at such a fault.
#[cfg(target_arch = "x86_64")]
fn fault_address(registers: &mcontext_t) -> Option<usize> {
    const PAGE_FAULT: i64 = 14;
    (registers.gregs[libc::REG_TRAPNO as usize] == PAGE_FAULT)
        .then(|| registers.gregs[libc::REG_CR2 as usize] as usize)
}

#[cfg(target_arch = "aarch64")]
fn fault_address(registers: &mcontext_t) -> Option<usize> {
    Some(registers.fault_address as usize)
}

#[cold]
unsafe fn tell(address: usize, record: &Record) {
    // A handler that does nothing about it and returns has the fault happen over and over.
    static TOLD: AtomicUsize = AtomicUsize::new(0);
    if TOLD.swap(address, Ordering::Relaxed) == address {
        return;
    }
    let (low, high) = record.stack();
    let mut message = Message::new();
    // SAFETY: the stack's thread is this one, so whoever lies there stays while this runs.
    unsafe {
        let overflow = Overflow { coroutine: record.occupant().as_ref(), low, high };
        if let Some(report) = record.report() {
            report(&overflow, &mut message);
        }
    }
    message.write();
}

/// Does with the signal what would be done with it if we were not there.
unsafe fn forward(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let Some(previous) = PREVIOUS.get() else { return };
    // SAFETY: passed on from the caller; the functions called are those that the disposition named.
    unsafe {
        let mut default = *previous;
        default.sa_sigaction = libc::SIG_DFL;
        match previous.sa_sigaction {
            libc::SIG_IGN if is_sent(info) => {}
            libc::SIG_DFL | libc::SIG_IGN => {
                // A fault cannot be ignored. It happens again, and ends the process as it stands.
                libc::sigaction(signal, &raw const default, ptr::null_mut());
                if is_sent(info) {
                    // With the sender's information.
                    libc::syscall(
                        libc::SYS_rt_tgsigqueueinfo,
                        libc::getpid(),
                        libc::syscall(libc::SYS_gettid),
                        signal,
                        info,
                    );
                }
            }
            function => {
                if previous.sa_flags & libc::SA_RESETHAND != 0 {
                    libc::sigaction(signal, &raw const default, ptr::null_mut());
                }
                if previous.sa_flags & libc::SA_SIGINFO != 0 {
                    let function: unsafe extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                        std::mem::transmute(function);
                    function(signal, info, context);
                } else {
                    let function: unsafe extern "C" fn(c_int) = std::mem::transmute(function);
                    function(signal);
                }
            }
        }
    }
}

/// Room for the frames of handlers: ours, and one that prints a traceback, as faulthandler's.
const SIGNAL_STACK_SIZE: usize = 64 << 10;

/// The alternate signal stack that a thread has from us.
struct SignalStack(ManuallyDrop<Mapping>);

thread_local! {
    static OWN: Cell<Option<SignalStack>> = const { Cell::new(None) };
}

impl SignalStack {
    /// Gives the thread an alternate signal stack if it has none.
    fn ensure() -> io::Result<()> {
        let current = Self::exchange(None)?;
        if current.ss_flags & libc::SS_DISABLE == 0 {
            return Ok(());
        }
        // What the kernel stores with a signal depends on the processor's registers.
        let size = SIGNAL_STACK_SIZE + rustix::param::linux_minsigstksz();
        let own = Self(ManuallyDrop::new(Mapping::new(size)?));
        let low = own.0.low();
        let new = stack_t {
            ss_sp: low.cast(),
            ss_flags: 0,
            ss_size: own.0.high() as usize - low as usize,
        };
        // A thread that is ending has no place to keep it, and needs it no more.
        if OWN.try_with(|place| place.set(Some(own))).is_ok() {
            Self::exchange(Some(&new))?;
        }
        Ok(())
    }

    /// Sets the thread's alternate stack, if there is a new one, and returns what it was.
    fn exchange(new: Option<&stack_t>) -> io::Result<stack_t> {
        let mut old = MaybeUninit::<stack_t>::zeroed();
        let new = new.map_or(ptr::null(), ptr::from_ref);
        // SAFETY: a stack that stays mapped until it is taken back, or none.
        unsafe {
            if libc::sigaltstack(new, old.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(old.assume_init())
        }
    }
}

impl Drop for SignalStack {
    fn drop(&mut self) {
        let none = stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        let is_set =
            Self::exchange(None).is_ok_and(|current| ptr::eq(current.ss_sp.cast(), self.0.low()));
        // Otherwise it stays: somebody has set another in its place, and may set this one back, or
        // a handler runs on it that ends the thread.
        if is_set && Self::exchange(Some(&none)).is_ok() {
            // SAFETY: dropped once, here; the kernel does not use it any more.
            unsafe { ManuallyDrop::drop(&mut self.0) };
        }
    }
}
