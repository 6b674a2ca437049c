//! The table of descriptors: one slot per number, saying who waits on it and how it is registered.

use std::os::fd::RawFd;

use crate::arena::List;
use crate::sys::Mode;
use crate::types::Interest;

/// What the poller knows of a descriptor.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Nothing.
    Unregistered,
    /// It is registered in this mode.
    Registered(Mode),
    /// It cannot be polled because it is always ready; the reactor itself fires its users.
    AlwaysReady,
}

/// How many users ask for each direction.
#[derive(Copy, Clone, Default, Debug)]
struct Tally {
    readers: u32,
    writers: u32,
}

impl Tally {
    #[inline]
    fn add(&mut self, interest: Interest) {
        self.readers += u32::from(interest.contains(Interest::READABLE));
        self.writers += u32::from(interest.contains(Interest::WRITABLE));
    }

    #[inline]
    fn subtract(&mut self, interest: Interest) {
        self.readers -= u32::from(interest.contains(Interest::READABLE));
        self.writers -= u32::from(interest.contains(Interest::WRITABLE));
    }

    #[inline]
    fn union(self) -> Interest {
        let mut union = Interest::EMPTY;
        if self.readers > 0 {
            union |= Interest::READABLE;
        }
        if self.writers > 0 {
            union |= Interest::WRITABLE;
        }
        union
    }
}

/// One descriptor number. The counts say without a walk over the lists what must be registered.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Slot {
    /// The open socket object whose waits these are; 0 if none is known. Every wait in `waits`
    /// has this owner or none.
    pub(crate) owner: u64,
    pub(crate) state: State,
    /// Part of the token: tells reports of this registration from those of an earlier one.
    pub(crate) stamp: u32,
    pub(crate) waits: List,
    pub(crate) watches: List,
    waiting: Tally,
    watching: Tally,
    /// Waits without an owner: they have not tried the call first, so need level semantics.
    ownerless: u32,
    /// The owner has read all there was, and nothing was reported since then.
    pub(crate) is_exhausted: bool,
    /// A report has told of the end of the stream, of urgent data or of an error: a short read
    /// does not mean any more that nothing is left.
    pub(crate) is_unusual: bool,
}

impl Slot {
    pub(crate) const EMPTY: Slot = Slot {
        owner: 0,
        state: State::Unregistered,
        stamp: 0,
        waits: List::EMPTY,
        watches: List::EMPTY,
        waiting: Tally { readers: 0, writers: 0 },
        watching: Tally { readers: 0, writers: 0 },
        ownerless: 0,
        is_exhausted: false,
        is_unusual: false,
    };

    /// Drops owner and users. The stamp stays: it outlives them in reports.
    pub(crate) fn clear(&mut self) {
        *self = Slot { stamp: self.stamp, ..Slot::EMPTY };
    }

    /// Sets the owner, when a registration has been made or renewed. It reports what is so now:
    /// what was reported to another owner is forgotten.
    pub(crate) fn own(&mut self, owner: u64) {
        if owner != self.owner {
            self.owner = owner;
            self.is_exhausted = false;
            self.is_unusual = false;
        }
    }

    /// Counts a wait that has joined `waits`.
    #[inline]
    pub(crate) fn wait_joined(&mut self, owner: u64, interest: Interest) {
        self.waiting.add(interest);
        self.ownerless += u32::from(owner == 0);
    }

    /// Uncounts a wait that has left `waits`.
    #[inline]
    pub(crate) fn wait_left(&mut self, owner: u64, interest: Interest) {
        self.waiting.subtract(interest);
        self.ownerless -= u32::from(owner == 0);
    }

    /// Counts a watch that has joined `watches`.
    pub(crate) fn watch_joined(&mut self, interest: Interest) {
        self.watching.add(interest);
    }

    /// Uncounts a watch that has left `watches`.
    pub(crate) fn watch_left(&mut self, interest: Interest) {
        self.watching.subtract(interest);
    }

    /// The directions that one-shot waits ask for.
    #[inline]
    pub(crate) fn waited_for(&self) -> Interest {
        self.waiting.union()
    }

    /// The directions that anyone asks for.
    #[inline]
    pub(crate) fn wanted(&self) -> Interest {
        self.waiting.union() | self.watching.union()
    }

    #[inline]
    pub(crate) fn has_users(&self) -> bool {
        !self.waits.is_empty() || !self.watches.is_empty()
    }

    #[inline]
    pub(crate) fn is_registered(&self) -> bool {
        matches!(self.state, State::Registered(_))
    }

    /// The registration that would serve exactly the present users.
    #[inline]
    pub(crate) fn target(&self, edge_triggered: bool) -> Option<Mode> {
        self.target_with(self.owner, Interest::EMPTY, false, edge_triggered)
    }

    /// The registration that would serve the present users, were `owner` the owner, and one user
    /// more who asks for `interest`, with level semantics if `level`.
    #[inline]
    pub(crate) fn target_with(
        &self,
        owner: u64,
        interest: Interest,
        level: bool,
        edge_triggered: bool,
    ) -> Option<Mode> {
        let level = level || self.ownerless > 0 || !self.watches.is_empty();
        if edge_triggered && owner != 0 && !level {
            return Some(Mode::Edge);
        }
        let wanted = self.wanted() | interest;
        if owner == 0 && wanted.is_empty() { None } else { Some(Mode::Level(wanted)) }
    }

    #[inline]
    pub(crate) fn token(&self, fd: RawFd) -> u64 {
        u64::from(fd as u32) | u64::from(self.stamp) << 32
    }
}

/// Takes a token apart: the descriptor and the stamp.
#[inline]
pub(crate) fn parse_token(token: u64) -> (RawFd, u32) {
    (token as u32 as RawFd, (token >> 32) as u32)
}

/// Slots by descriptor number. Grows only for numbers that the kernel has accepted, so its size
/// is bounded by the process's descriptor limit.
#[derive(Debug)]
pub(crate) struct FdTable {
    slots: Vec<Slot>,
}

impl FdTable {
    pub(crate) const fn new() -> Self {
        FdTable { slots: Vec::new() }
    }

    #[inline]
    pub(crate) fn get(&self, fd: RawFd) -> Option<&Slot> {
        self.slots.get(usize::try_from(fd).ok()?)
    }

    /// The slot of a number that is known to be in the table.
    #[inline]
    pub(crate) fn slot(&mut self, fd: RawFd) -> &mut Slot {
        &mut self.slots[fd as usize]
    }

    /// The slot of a number that the kernel has accepted.
    pub(crate) fn grow_to(&mut self, fd: RawFd) -> &mut Slot {
        let index = fd as usize;
        if index >= self.slots.len() {
            self.slots.resize(index + 1, Slot::EMPTY);
        }
        &mut self.slots[index]
    }

    /// All numbers in the table.
    pub(crate) fn numbers(&self) -> std::ops::Range<RawFd> {
        0..self.slots.len() as RawFd
    }
}
