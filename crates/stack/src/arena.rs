//! Stack slots of one thread, and who lies in them.

use crate::arch::{self, Entry, switch};
use crate::coroutine::Coroutine;
use crate::fault::{self, Message, Overflow, Report};
use crate::guards::{Record, Records};
use crate::limits;
use crate::mapping::Mapping;
use crate::valgrind;
use std::io;
use std::marker::PhantomData;
use std::{mem, ptr};

/// The `slot` of a coroutine without a home.
pub(crate) const NO_SLOT: u32 = u32::MAX;

/// Slots that are always there: a pinned one (the hub), the running one, and two to share, so
/// that a fresh coroutine never has to start in the slot that is running.
const MIN_SLOTS: usize = 4;

/// The stack that copies run on when a coroutine's home is the slot that is running.
const SCRATCH_SIZE: usize = 64 * 1024;

/// Bytes at the top of a stack that `arch::prepare` may write to.
const FIRST_BYTES: usize = 256;

/// Stack tops are staggered by one cache line from slot to slot: with page-aligned tops the hot
/// ends of all stacks fall into the same few cache sets (215 ns against 132 ns a switch with
/// 1,000 hot slots).
const STAGGER: usize = 64;

/// Bytes at the top of a stack whose pages are kept. Deeper ones are given back once a deep excursion
/// is over.
const KEPT: usize = 64 * 1024;

/// Where an excursion is looked for: so many words, in so many bytes below what is kept. A word is
/// zero in a page that was not written to, and looking at it commits no memory. Many words and far
/// apart, since frames may have large holes: arrays that were not used.
const PROBES: usize = 64;
const PROBED: usize = 32 * 1024;

/// Sizes of an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bytes for the C stack of a slot; rounded up to whole pages, so that its top is aligned.
    pub stack_size: usize,
    /// Bytes to go down to for the stack of a slot that an arena needs and that cannot be mapped
    /// with `stack_size`; the same as that for not at all.
    pub least_stack_size: usize,
    /// Bytes for the data area of a slot.
    pub data_size: usize,
    /// The most slots that are mapped.
    pub slots: usize,
}

impl Default for Config {
    /// 256 slots of 8 MiB: address space, not memory. The size is that of a usual main thread, so
    /// code that recurses in C goes as deep in a coroutine as outside.
    fn default() -> Self {
        let stack_size = 8 << 20;
        Self { stack_size, least_stack_size: stack_size, data_size: 64 << 10, slots: 256 }
    }
}

impl Config {
    /// The smallest stack that is accepted.
    pub const MIN_STACK_SIZE: usize = 128 * 1024;

    /// The largest stack that is accepted.
    pub const MAX_STACK_SIZE: usize = 1 << 30;

    /// The fewest slots that an arena works with: it maps them however scarce address space is.
    pub const MIN_SLOTS: usize = MIN_SLOTS;

    /// The most slots that are accepted.
    pub const MAX_SLOTS: usize = 16_384;

    fn checked(self) -> io::Result<Self> {
        let invalid = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        let sizes = Self::MIN_STACK_SIZE..=Self::MAX_STACK_SIZE;
        if !sizes.contains(&self.stack_size) || !sizes.contains(&self.least_stack_size) {
            return invalid("stack size must lie between 128 KiB and 1 GiB");
        }
        if self.data_size < 16 << 10 || self.data_size > 1 << 30 {
            return invalid("data size must lie between 16 KiB and 1 GiB");
        }
        if self.slots < Self::MIN_SLOTS || self.slots > Self::MAX_SLOTS {
            return invalid("there must be 4 to 16384 stack slots");
        }
        let page = rustix::param::page_size();
        // Large pages leave room for the probes, too.
        let whole_pages = |size: usize| size.next_multiple_of(page).max(KEPT + PROBED + 2 * page);
        Ok(Self {
            stack_size: whole_pages(self.stack_size),
            least_stack_size: whole_pages(self.least_stack_size.min(self.stack_size)),
            ..self
        })
    }
}

/// What must follow when a coroutine's bytes move. All three run on any stack but the
/// coroutine's own and must not switch.
pub trait Hooks {
    /// One past the last used byte of the data area of a suspended coroutine.
    ///
    /// # Safety
    ///
    /// `co` is suspended and resident.
    unsafe fn used_end(co: &Coroutine) -> *mut u8;

    /// Called after the bytes `low..high` were copied to the heap and before the home is used by
    /// another: what lay at an address in that range is now at the address plus `shift`.
    ///
    /// # Safety
    ///
    /// Called by the arena only.
    unsafe fn moved_out(co: &Coroutine, low: *mut u8, high: *mut u8, shift: isize);

    /// Called after the bytes were copied home to `low..high` and before the copy (at the home
    /// address plus `shift`) is freed.
    ///
    /// # Safety
    ///
    /// Called by the arena only.
    unsafe fn moved_in(co: &Coroutine, low: *mut u8, high: *mut u8, shift: isize);

    /// Composes the message about a stack that has run into its guard. The process ends after it,
    /// unless somebody else handles the signal.
    ///
    /// # Safety
    ///
    /// Called by the fault handler, on a stack of its own of which some 4 KiB may be used, in the
    /// middle of anything: nothing may be called that allocates, locks or is not reentrant.
    unsafe fn overflowed(overflow: &Overflow<'_>, message: &mut Message) {
        message.text("stack overflow in a coroutine with a stack of ");
        message.decimal(overflow.high - overflow.low);
        message.text(" bytes\n");
    }
}

/// A home: where the stack and the data area of a slot meet, and where the data area ends.
#[derive(Clone, Copy, Debug)]
pub struct Home {
    /// The stack grows down from here, the data area up.
    pub middle: *mut u8,
    /// One past the end of the data area.
    pub data_end: *mut u8,
    /// Bytes for the stack.
    pub stack_size: usize,
}

struct Slot {
    mapping: Mapping,
    middle: *mut u8,
    /// Whose bytes lie here, where the fault handler sees it.
    record: &'static Record,
    /// Whom not to move; null for nobody.
    pinned: *const Coroutine,
    /// Whether the free list names this slot. The list is checked when it is read: a slot that
    /// got an occupant back meanwhile is passed over.
    listed_free: bool,
    /// Pages below this are given back.
    kept: *mut u8,
    /// Which probe is looked at next.
    next_probe: usize,
}

impl Slot {
    fn new(
        index: usize,
        stack_size: usize,
        data_size: usize,
        record: &'static Record,
        report: &'static Report,
    ) -> io::Result<Self> {
        let mapping = Mapping::new(stack_size + data_size)?;
        let stagger = index * STAGGER % 4096;
        // SAFETY: the stack size is smaller than the mapping, the stagger smaller than the stack.
        let middle = unsafe { mapping.low().add(stack_size - stagger) };
        record.set(mapping.guard(), mapping.low(), middle, report);
        let page = rustix::param::page_size();
        let kept = middle.map_addr(|middle| (middle - KEPT) / page * page);
        debug_assert!(kept as usize - PROBED >= mapping.low() as usize);
        Ok(Self {
            mapping,
            middle,
            record,
            pinned: ptr::null(),
            listed_free: false,
            kept,
            next_probe: 0,
        })
    }

    #[inline]
    fn stack_size(&self) -> usize {
        self.middle as usize - self.mapping.low() as usize
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.record.occupant().is_null()
    }

    /// Gives deep pages back if the stack has been used deeper than what is kept.
    ///
    /// One word is looked at per call, in turn: one load on the paths that every coroutine takes.
    /// An excursion leaves few of them zero, so its pages are given back within a few calls. (Not
    /// under valgrind, to which a look below a stack is an error.)
    ///
    /// # Safety
    ///
    /// Nothing of value lies in this slot's stack deeper than KEPT below its top.
    #[inline]
    unsafe fn trim(&mut self) {
        let index = self.next_probe;
        // Odd, so that all have their turn; large, so that the next is far away.
        self.next_probe = (index + 37) % PROBES;
        // Not all at the same distance from each other, as frames in a recursion are.
        let stride = PROBED / PROBES;
        let offset = index * stride + index * 40 % stride + size_of::<usize>();
        // SAFETY: the offset is a multiple of 8 and at most PROBED, which the stack extends
        // below `kept`.
        if unsafe { self.kept.sub(offset).cast::<usize>().read() } != 0 {
            // SAFETY: as the caller guarantees.
            unsafe { self.give_back() };
        }
    }

    /// # Safety
    ///
    /// As for `trim`.
    #[cold]
    unsafe fn give_back(&mut self) {
        // SAFETY: the caller guarantees that nothing of value lies there.
        unsafe { self.mapping.discard_below(self.kept) };
    }
}

/// What the scratch stack has to do; lives in the arena because both ends of the switch may have
/// their stacks copied meanwhile.
struct Exchange {
    to: *const Coroutine,
    keep_from: bool,
    arg: usize,
}

/// The slots of one thread. Belongs to that thread: only it may call anything here.
///
/// Methods that switch or copy take `*mut Self` so that no Rust borrow is alive meanwhile.
pub struct Arena<H: Hooks> {
    config: Config,
    /// Given back before the slots they stand for are unmapped.
    records: Records,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The next slot to look at for a victim.
    clock: usize,
    /// The slot that `leave` took from the running coroutine, which still runs on it.
    left: u32,
    scratch: Option<Mapping>,
    exchange: Exchange,
    /// Whether valgrind watches.
    watched: bool,
    hooks: PhantomData<H>,
}

impl<H: Hooks> Arena<H> {
    const REPORT: Report = H::overflowed;

    /// An arena without slots yet: they are mapped as they are wanted.
    pub fn new(config: Config) -> io::Result<Self> {
        Ok(Self {
            config: config.checked()?,
            records: Records::new(),
            slots: Vec::new(),
            free: Vec::new(),
            clock: 0,
            left: NO_SLOT,
            scratch: None,
            exchange: Exchange { to: ptr::null(), keep_from: false, arg: 0 },
            watched: valgrind::is_running(),
            hooks: PhantomData,
        })
    }

    /// The sizes that slots are mapped with.
    pub fn config(&self) -> Config {
        self.config
    }

    /// Changes the sizes for slots that are mapped from now on. Those there are stay.
    ///
    /// # Errors
    ///
    /// InvalidInput for sizes out of range.
    pub fn set_config(&mut self, config: Config) -> io::Result<()> {
        self.config = config.checked()?;
        Ok(())
    }

    /// Slots mapped so far.
    pub fn mapped_slots(&self) -> usize {
        self.slots.len()
    }

    /// Gives `co` a home and builds a stack in it that starts with `entry`.
    ///
    /// `running` is the coroutine that calls; its home is not given away.
    ///
    /// # Errors
    ///
    /// When no slot is free and not even the smallest number of slots can be mapped, or every slot
    /// but the running one is pinned.
    ///
    /// # Safety
    ///
    /// `co` must be homeless, stay at its address until it is released, and `running` must be
    /// the coroutine that runs on this thread.
    pub unsafe fn settle(
        &mut self,
        co: &Coroutine,
        running: &Coroutine,
        entry: Entry,
    ) -> io::Result<Home> {
        debug_assert!(!co.has_home());
        let index = match self.take_free() {
            Some(index) => index,
            // SAFETY: passed on from the caller.
            None => unsafe { self.make_room(running)? },
        };
        let slot = &mut self.slots[index as usize];
        debug_assert!(slot.is_empty());
        slot.record.set_occupant(co);
        co.slot.set(index);
        let home = Home {
            middle: slot.middle,
            data_end: slot.mapping.high(),
            stack_size: slot.stack_size(),
        };
        if self.watched {
            valgrind::make_writable(slot.middle.wrapping_sub(FIRST_BYTES), FIRST_BYTES);
        }
        // SAFETY: the slot is nobody's, so the memory below its top is unused.
        co.sp.set(unsafe { arch::prepare(slot.middle, entry) });
        Ok(home)
    }

    fn take_free(&mut self) -> Option<u32> {
        while let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.listed_free = false;
            if slot.is_empty() {
                return Some(index);
            }
        }
        None
    }

    /// Maps another slot or empties one, and returns its index.
    #[cold]
    unsafe fn make_room(&mut self, running: &Coroutine) -> io::Result<u32> {
        if let Some(index) = self.grow()? {
            return Ok(index);
        }
        for _ in 0..self.slots.len() {
            self.clock = (self.clock + 1) % self.slots.len();
            let index = self.clock;
            if self.slots[index].pinned.is_null() && index as u32 != running.slot.get() {
                // SAFETY: the occupant is not the running coroutine, so it is suspended.
                unsafe { self.evict(index) };
                return Ok(index as u32);
            }
        }
        Err(io::Error::new(io::ErrorKind::OutOfMemory, "all stack slots are pinned"))
    }

    /// Maps another slot if there may be more, and returns its index.
    fn grow(&mut self) -> io::Result<Option<u32>> {
        let index = self.slots.len();
        let Config { stack_size, data_size, slots, .. } = self.config;
        let needed = index < MIN_SLOTS;
        let extent = Mapping::extent(stack_size + data_size);
        if index >= slots || (!needed && !limits::leave_room_for(extent)) {
            return Ok(None);
        }
        fault::prepare()?;
        match self.map(index, stack_size) {
            Ok(slot) => self.slots.push(slot),
            // Address space is scarce. Go on with the slots there are.
            Err(_) if !needed => return Ok(None),
            Err(error) => self.map_least(error)?,
        }
        // A release must not allocate.
        self.free.reserve(self.slots.len());
        Ok(Some(index as u32))
    }

    fn map(&mut self, index: usize, stack_size: usize) -> io::Result<Slot> {
        let record = self.records.at(index);
        Slot::new(index, stack_size, self.config.data_size, record, &Self::REPORT)
    }

    /// Maps what is missing of the least number of slots, with smaller stacks. All at once, so that
    /// the first does not take what the last would need.
    #[cold]
    fn map_least(&mut self, mut error: io::Error) -> io::Result<()> {
        let Config { mut stack_size, least_stack_size, .. } = self.config;
        let first = self.slots.len();
        while stack_size > least_stack_size {
            let half = (stack_size / 2).next_multiple_of(rustix::param::page_size());
            stack_size = half.max(least_stack_size);
            let made: io::Result<Vec<Slot>> =
                (first..MIN_SLOTS).map(|index| self.map(index, stack_size)).collect();
            match made {
                Ok(made) => {
                    self.slots.extend(made);
                    for index in (first + 1..MIN_SLOTS).rev() {
                        self.slots[index].listed_free = true;
                        self.free.push(index as u32);
                    }
                    return Ok(());
                }
                Err(failure) => error = failure,
            }
        }
        Err(error)
    }

    /// Copies the occupant of a slot, if any, to the heap.
    ///
    /// # Safety
    ///
    /// The occupant must be suspended.
    unsafe fn evict(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let occupant = slot.record.occupant();
        slot.record.set_occupant(ptr::null());
        if occupant.is_null() {
            return;
        }
        // SAFETY: an occupant stays at its address until it is released; it is suspended, so its
        // bytes lie between its stack pointer and the used end of the data area; once they are
        // copied nothing of value is left in the slot.
        unsafe {
            let co = &*occupant;
            let low = co.sp.get();
            let high = H::used_end(co);
            co.store_copy(low, high as usize - low as usize);
            H::moved_out(co, low, high, co.copy_shift());
            if !self.watched {
                slot.trim();
            }
        }
    }

    /// Copies `co` home. Its slot must be empty and not running.
    unsafe fn restore(&mut self, co: &Coroutine) {
        let slot = &self.slots[co.slot.get() as usize];
        debug_assert!(slot.is_empty());
        slot.record.set_occupant(co);
        let low = co.sp.get();
        let len = co.copied_bytes();
        if self.watched {
            valgrind::make_writable(low, len);
        }
        // SAFETY: the copy holds `len` bytes that were taken from `low` of this slot, which holds
        // nothing of value now.
        unsafe {
            ptr::copy_nonoverlapping(co.copy.get(), low, len);
            H::moved_in(co, low, low.add(len), co.copy_shift());
        }
        co.drop_copy();
    }

    /// Switches from the running coroutine `from` to the suspended `to`, wherever `to`'s bytes
    /// are, and returns the `arg` of the switch that comes back. With `keep_from` false, `from`
    /// has been released and the call does not return.
    ///
    /// # Errors
    ///
    /// When `to` lies evicted from the very slot that runs and the scratch stack for that case
    /// cannot be mapped. Nothing has happened then.
    ///
    /// # Safety
    ///
    /// `this` belongs to the running thread, `from` runs, `to` is suspended and both stay at
    /// their addresses. No borrow of the arena may be alive. The rules of [`switch`] hold.
    #[inline]
    pub unsafe fn switch_to(
        this: *mut Self,
        from: &Coroutine,
        to: &Coroutine,
        arg: usize,
        keep_from: bool,
    ) -> io::Result<usize> {
        // SAFETY: passed on from the caller; `to` is resident after `bring_home` says so.
        unsafe {
            if to.is_evicted() && !(*this).bring_home(to, from, keep_from)? {
                return Ok(Self::switch_by_scratch(this, from, to, arg, keep_from));
            }
            Ok(switch(from.sp_cell(), to.sp(), arg))
        }
    }

    /// Makes an evicted coroutine resident; false when that has to be done from the scratch
    /// stack, which is mapped then.
    #[cold]
    unsafe fn bring_home(
        &mut self,
        co: &Coroutine,
        running: &Coroutine,
        keep_running: bool,
    ) -> io::Result<bool> {
        let index = co.slot.get();
        if index == running.slot.get() || (!keep_running && index == self.left) {
            if self.scratch.is_none() {
                self.scratch = Some(Mapping::new(SCRATCH_SIZE)?);
            }
            return Ok(false);
        }
        // The copy has often left the caches: it comes while the occupant is copied (170 ns for 210 a
        // switch and back with 100,000 coroutines resumed in turn).
        arch::prefetch(co.copy.get(), co.copied_bytes());
        // SAFETY: the slot's occupant, if any, is not running, so it is suspended.
        unsafe {
            self.evict(index as usize);
            self.restore(co);
        }
        Ok(true)
    }

    /// # Safety
    ///
    /// As for `switch_to`; the scratch stack is mapped and both homes are the same slot.
    unsafe fn switch_by_scratch(
        this: *mut Self,
        from: &Coroutine,
        to: &Coroutine,
        arg: usize,
        keep_from: bool,
    ) -> usize {
        // SAFETY: `this` is ours alone; the scratch stack is used by nobody: each use ends with
        // the switch to `to`.
        unsafe {
            (*this).exchange = Exchange { to, keep_from, arg };
            let scratch = (*this).scratch.as_ref().expect("mapped by bring_home");
            let sp = arch::prepare(scratch.high(), exchange::<H>);
            switch(from.sp_cell(), sp, this as usize)
        }
    }

    /// Keeps a coroutine's bytes where they are when room has to be made. They are copied only for
    /// one that had its home in the same slot before and comes back to it. Of several in one slot
    /// the last counts.
    pub fn pin(&mut self, co: &Coroutine) {
        if let Some(slot) = self.slots.get_mut(co.slot.get() as usize) {
            slot.pinned = co;
        }
    }

    /// Undoes `pin`.
    pub fn unpin(&mut self, co: &Coroutine) {
        self.unpin_in(co.slot.get(), co);
    }

    fn unpin_in(&mut self, index: u32, co: &Coroutine) {
        if let Some(slot) = self.slots.get_mut(index as usize)
            && ptr::eq(slot.pinned, co)
        {
            slot.pinned = ptr::null();
        }
    }

    /// Takes the home of a coroutine that does not run away: it is given up.
    ///
    /// # Safety
    ///
    /// `co` does not run, and what lies in its stack is not needed any more.
    pub unsafe fn release(&mut self, co: &Coroutine) {
        let index = co.slot.replace(NO_SLOT);
        if co.is_evicted() {
            self.unpin_in(index, co);
            co.drop_copy();
        } else if index != NO_SLOT {
            // SAFETY: passed on from the caller.
            unsafe { self.vacate(index, co) };
        }
    }

    /// Gives all slots back, at the end of the thread. What suspended coroutines have in them is
    /// copied to the heap, where it can still be looked at; they will not run again.
    ///
    /// # Safety
    ///
    /// No coroutine of this arena runs, now or later.
    pub unsafe fn close(&mut self) {
        for index in 0..self.slots.len() {
            // SAFETY: all occupants are suspended.
            unsafe { self.evict(index) };
        }
        self.free.clear();
        // Before the slots they stand for are unmapped.
        drop(mem::replace(&mut self.records, Records::new()));
        self.slots.clear();
        self.scratch = None;
    }

    /// Takes the home of the running coroutine away: it has finished. Its stack stays usable
    /// until it has switched away by [`switch_to`](Self::switch_to) with `keep_from` false,
    /// which must be the next thing that happens to this arena.
    ///
    /// # Safety
    ///
    /// `co` runs, in its outermost function.
    pub unsafe fn leave(&mut self, co: &Coroutine) {
        let index = co.slot.replace(NO_SLOT);
        debug_assert_ne!(index, NO_SLOT);
        self.left = index;
        // SAFETY: the outermost function lies at the top.
        unsafe { self.vacate(index, co) };
    }

    /// # Safety
    ///
    /// `co` is the resident occupant, and its bytes deeper than KEPT are of no value.
    unsafe fn vacate(&mut self, index: u32, co: &Coroutine) {
        let slot = &mut self.slots[index as usize];
        debug_assert_eq!(slot.record.occupant(), ptr::from_ref(co));
        slot.record.set_occupant(ptr::null());
        if ptr::eq(slot.pinned, co) {
            slot.pinned = ptr::null();
        }
        if !slot.listed_free {
            slot.listed_free = true;
            self.free.push(index);
        }
        if !self.watched {
            // SAFETY: passed on from the caller.
            unsafe { slot.trim() };
        }
    }
}

/// Runs on the scratch stack: swaps the occupants of one slot and goes on with the new one.
unsafe extern "C-unwind" fn exchange<H: Hooks>(arena: usize) -> ! {
    let arena = arena as *mut Arena<H>;
    // SAFETY: `switch_by_scratch` passes its arena; `from` has been left by the switch to here,
    // so it is suspended, and nobody runs in the slot while this stack runs.
    unsafe {
        let Exchange { to, keep_from, arg } = ptr::read(&raw const (*arena).exchange);
        let index = (*to).slot.get();
        if keep_from {
            (*arena).evict(index as usize);
        }
        (*arena).restore(&*to);
        let mut unused = ptr::null_mut();
        switch(&raw mut unused, (*to).sp(), arg);
    }
    unreachable!("the scratch stack is left for good")
}
