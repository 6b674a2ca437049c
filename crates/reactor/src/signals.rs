//! Signals, by the self-pipe method: the handler sets a bit and wakes the poll, which reports
//! the signals whose bits are set.
//!
//! The handler is signal-hook-registry's; it runs the handler that it found installed before it,
//! too. Bits coalesce: a signal that arrives several times between two polls is reported once.
//!
//! A signal's disposition is the process's, so it is handled here for all reactors together. The
//! first registration for a signal installs the handler; the last one's end puts back what was
//! there before, the default action for instance, unless someone has put yet another handler in
//! our place meanwhile. The registry alone would leave its handler in place for good, and would
//! not notice when it is displaced.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use signal_hook_registry::SigId;

use crate::arena::{Handle, Serials};
use crate::types::{Fired, SignalKey};
use crate::waker::Waker;

const MAX_SIGNUM: i32 = 64;

const SIGCHLD: i32 = rustix::process::Signal::CHILD.as_raw();

/// What the handler touches.
struct Arrivals {
    /// Bit `n - 1` for signal `n`.
    pending: AtomicU64,
    waker: Waker,
}

struct Registration<T> {
    handle: Handle,
    signum: i32,
    data: T,
}

pub(crate) struct Signals<T> {
    /// In the order in which they were added. There are a handful at most.
    registrations: Vec<Registration<T>>,
    hooks: Vec<Hook>,
    /// The hook is kept although there may be no registration: for child processes.
    holds_sigchld: bool,
    arrivals: Arc<Arrivals>,
    serials: Serials,
}

impl<T> Signals<T> {
    pub(crate) fn new(waker: Waker) -> Self {
        Signals {
            registrations: Vec::new(),
            hooks: Vec::new(),
            holds_sigchld: false,
            arrivals: Arc::new(Arrivals { pending: AtomicU64::new(0), waker }),
            serials: Serials::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.registrations.len()
    }

    pub(crate) fn add(&mut self, signum: i32, data: T) -> io::Result<SignalKey> {
        self.hook(signum)?;
        let handle = Handle { serial: self.serials.next(), index: 0 };
        self.registrations.push(Registration { handle, signum, data });
        Ok(SignalKey(handle))
    }

    pub(crate) fn remove(&mut self, SignalKey(handle): SignalKey) -> Option<T> {
        let position =
            self.registrations.iter().position(|registration| registration.handle == handle)?;
        let removed = self.registrations.remove(position);
        self.unhook(removed.signum);
        Some(removed.data)
    }

    fn hook(&mut self, signum: i32) -> io::Result<()> {
        if !self.hooks.iter().any(|hook| hook.signum == signum) {
            self.hooks.push(Hook::new(signum, &self.arrivals)?);
        }
        Ok(())
    }

    /// Takes the handler away if nobody needs it any more.
    fn unhook(&mut self, signum: i32) {
        let needed = self.registrations.iter().any(|registration| registration.signum == signum)
            || (signum == SIGCHLD && self.holds_sigchld);
        if !needed {
            self.hooks.retain(|hook| hook.signum != signum);
        }
    }

    /// Keeps a handler of SIGCHLD in place, whose arrivals `report` tells.
    pub(crate) fn hold_sigchld(&mut self) -> io::Result<()> {
        self.hook(SIGCHLD)?;
        self.holds_sigchld = true;
        Ok(())
    }

    /// The opposite of `hold_sigchld`.
    pub(crate) fn release_sigchld(&mut self) {
        self.holds_sigchld = false;
        self.unhook(SIGCHLD);
    }

    /// Whether a signal has arrived that no poll has reported yet.
    pub(crate) fn is_pending(&self) -> bool {
        self.arrivals.pending.load(Ordering::Acquire) != 0
    }

    pub(crate) fn data(&self, SignalKey(handle): SignalKey) -> Option<&T> {
        self.registrations
            .iter()
            .find(|registration| registration.handle == handle)
            .map(|registration| &registration.data)
    }

    /// Reports what has arrived. To be called after the wake-ups so far were consumed: an
    /// arrival after that wakes the next poll. Returns whether SIGCHLD was among it.
    pub(crate) fn report(&self, fired: &mut Vec<Fired<T>>) -> bool {
        if self.arrivals.pending.load(Ordering::Acquire) == 0 {
            return false;
        }
        let pending = self.arrivals.pending.swap(0, Ordering::AcqRel);
        fired.extend(
            self.registrations
                .iter()
                .filter(|registration| pending & bit(registration.signum) != 0)
                .map(|registration| Fired::Signal {
                    key: SignalKey(registration.handle),
                    signum: registration.signum,
                }),
        );
        pending & bit(SIGCHLD) != 0
    }

    /// Removes everything.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.hooks.clear();
        self.holds_sigchld = false;
        self.registrations.drain(..).map(|registration| registration.data)
    }
}

fn bit(signum: i32) -> u64 {
    1 << (signum - 1)
}

/// A reactor's share in the handler of a signal; dropping it gives the share back.
struct Hook {
    signum: i32,
    id: SigId,
}

impl Hook {
    fn new(signum: i32, arrivals: &Arc<Arrivals>) -> io::Result<Hook> {
        // The registry panics for the signals that it refuses.
        if !(1..=MAX_SIGNUM).contains(&signum) || signal_hook_registry::FORBIDDEN.contains(&signum)
        {
            return Err(Errno::INVAL.into());
        }
        let arrivals = Arc::clone(arrivals);
        let action = move || {
            arrivals.pending.fetch_or(bit(signum), Ordering::AcqRel);
            arrivals.waker.wake();
        };
        let mut installed = lock_installed();
        let before = Disposition::present(signum)?;
        // SAFETY: the action only works on atomics and writes to a nonblocking pipe, which is
        // async-signal-safe. It cannot panic: the signal number was checked.
        let id = unsafe { signal_hook_registry::register(signum, action)? };
        if let Err(error) = installed.share(signum, before) {
            signal_hook_registry::unregister(id);
            return Err(error);
        }
        Ok(Hook { signum, id })
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        let mut installed = lock_installed();
        signal_hook_registry::unregister(self.id);
        installed.unshare(self.signum);
    }
}

/// What has been done about a signal in this process.
struct Handler {
    /// Reactors with a registration for the signal.
    shares: usize,
    before: Disposition,
    ours: Disposition,
}

/// The signals that have ever had our handler.
struct Installed(BTreeMap<i32, Handler>);

static INSTALLED: Mutex<Installed> = Mutex::new(Installed(BTreeMap::new()));

fn lock_installed() -> MutexGuard<'static, Installed> {
    // Nothing in here panics half-way.
    INSTALLED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Installed {
    /// Counts one more reactor, after the registry has got its action; `before` is what was
    /// installed until then.
    fn share(&mut self, signum: i32, before: Disposition) -> io::Result<()> {
        if let Some(handler) = self.0.get_mut(&signum) {
            // The registry believes its handler to have been in place ever since the first time.
            if !before.same_handler(&handler.ours) {
                handler.ours.install(signum)?;
                handler.before = before;
            }
            handler.shares += 1;
        } else {
            let ours = Disposition::present(signum)?;
            let handler = Handler { shares: 1, before, ours };
            self.0.insert(signum, handler);
        }
        Ok(())
    }

    /// Counts one reactor less.
    fn unshare(&mut self, signum: i32) {
        let Some(handler) = self.0.get_mut(&signum) else {
            return;
        };
        handler.shares -= 1;
        if handler.shares == 0
            && Disposition::present(signum).is_ok_and(|present| present.same_handler(&handler.ours))
        {
            // Cannot fail: this very value came from the kernel for this very signal.
            let _ = handler.before.install(signum);
        }
    }
}

/// A signal's `struct sigaction`, passed back and forth unread but for the handler's address.
#[derive(Clone)]
#[repr(C, align(16))]
struct Disposition([usize; Disposition::WORDS]);

unsafe extern "C" {
    fn sigaction(signum: c_int, new: *const Disposition, old: *mut Disposition) -> c_int;
}

impl Disposition {
    /// More than the structure takes with any C library: 152 bytes with glibc and musl.
    const WORDS: usize = 64;

    /// Where the handler's address is. On MIPS the flags come first.
    const HANDLER_WORD: usize = cfg!(any(
        target_arch = "mips",
        target_arch = "mips64",
        target_arch = "mips32r6",
        target_arch = "mips64r6"
    )) as usize;

    fn present(signum: i32) -> io::Result<Disposition> {
        let mut present = Disposition([0; Disposition::WORDS]);
        // SAFETY: a null `new` changes nothing, and `old` is aligned and large enough for any
        // platform's structure.
        match unsafe { sigaction(signum, ptr::null(), &raw mut present) } {
            0 => Ok(present),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn install(&self, signum: i32) -> io::Result<()> {
        // SAFETY: `self` was filled by sigaction for the same signal, so it is a whole structure
        // and its handler is one that this process installed; `old` may be null.
        match unsafe { sigaction(signum, self, ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Compares the handlers alone: glibc leaves parts of the mask undefined.
    fn same_handler(&self, other: &Disposition) -> bool {
        self.0[Disposition::HANDLER_WORD] == other.0[Disposition::HANDLER_WORD]
    }
}
