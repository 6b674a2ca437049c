//! Which stack a guard belongs to: where the fault handler finds it by an address.
//!
//! A handler may run at any moment, in the middle of whatever a thread was doing. So what it reads
//! is a list that only grows, made of records that are filled in and blanked by atomic stores:
//! there is no lock to wait for, and nothing that could have been freed.

use crate::coroutine::Coroutine;
use crate::fault::Report;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// Records that an arena takes at a time: as many as it has slots by default.
const CHUNK: usize = 64;

/// A slot, as the fault handler knows it.
pub(crate) struct Record {
    /// The guard's lowest address; 0 while the record stands for no slot.
    guard: AtomicUsize,
    /// The stack's lowest address, where the guard ends.
    low: AtomicUsize,
    /// Where the stack begins.
    middle: AtomicUsize,
    /// Whose bytes lie in the slot; null for nobody's.
    occupant: AtomicPtr<Coroutine>,
    report: AtomicPtr<Report>,
}

impl Record {
    const fn new() -> Self {
        Self {
            guard: AtomicUsize::new(0),
            low: AtomicUsize::new(0),
            middle: AtomicUsize::new(0),
            occupant: AtomicPtr::new(ptr::null_mut()),
            report: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Makes this the record of a slot, which nobody lies in.
    pub(crate) fn set(
        &self,
        guard: *mut u8,
        low: *mut u8,
        middle: *mut u8,
        report: &'static Report,
    ) {
        self.low.store(low as usize, Ordering::Relaxed);
        self.middle.store(middle as usize, Ordering::Relaxed);
        self.report.store(ptr::from_ref(report).cast_mut(), Ordering::Relaxed);
        self.guard.store(guard as usize, Ordering::Release);
    }

    fn clear(&self) {
        self.guard.store(0, Ordering::Relaxed);
        self.occupant.store(ptr::null_mut(), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn occupant(&self) -> *const Coroutine {
        self.occupant.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn set_occupant(&self, co: *const Coroutine) {
        self.occupant.store(co.cast_mut(), Ordering::Relaxed);
    }

    /// The stack, as its lowest address and where it begins.
    pub(crate) fn stack(&self) -> (usize, usize) {
        (self.low.load(Ordering::Relaxed), self.middle.load(Ordering::Relaxed))
    }

    pub(crate) fn report(&self) -> Option<&'static Report> {
        // SAFETY: null, or set from a reference of this type.
        unsafe { self.report.load(Ordering::Relaxed).as_ref() }
    }

    fn guards(&self, address: usize) -> bool {
        let guard = self.guard.load(Ordering::Acquire);
        guard != 0 && (guard..self.low.load(Ordering::Relaxed)).contains(&address)
    }
}

struct Chunk {
    /// Set before the chunk is published, never changed.
    next: *const Chunk,
    taken: AtomicBool,
    records: [Record; CHUNK],
}

// SAFETY: all that changes is atomic, and `next` leads to another such chunk or is null.
unsafe impl Sync for Chunk {}

static CHUNKS: AtomicPtr<Chunk> = AtomicPtr::new(ptr::null_mut());

/// The chunks there are. They live for ever.
fn chunks() -> impl Iterator<Item = &'static Chunk> {
    // SAFETY: chunks are published whole and never freed.
    let first = unsafe { CHUNKS.load(Ordering::Acquire).as_ref() };
    // SAFETY: as above.
    std::iter::successors(first, |chunk| unsafe { chunk.next.as_ref() })
}

/// The record of the slot whose lower guard the address lies in. Safe to call at any moment.
pub(crate) fn find(address: usize) -> Option<&'static Record> {
    chunks()
        .filter(|chunk| chunk.taken.load(Ordering::Relaxed))
        .flat_map(|chunk| &chunk.records)
        .find(|record| record.guards(address))
}

/// The records of an arena.
pub(crate) struct Records(Vec<&'static Chunk>);

impl Records {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// The record for the slot with this index.
    pub(crate) fn at(&mut self, index: usize) -> &'static Record {
        while self.0.len() <= index / CHUNK {
            self.0.push(take());
        }
        &self.0[index / CHUNK].records[index % CHUNK]
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        for chunk in &self.0 {
            chunk.records.iter().for_each(Record::clear);
            chunk.taken.store(false, Ordering::Release);
        }
    }
}

/// A chunk that nobody has: one that was given back, or a new one.
fn take() -> &'static Chunk {
    let is_free = |chunk: &&Chunk| {
        !chunk.taken.load(Ordering::Relaxed) && !chunk.taken.swap(true, Ordering::Acquire)
    };
    if let Some(chunk) = chunks().find(is_free) {
        return chunk;
    }
    let chunk = Box::leak(Box::new(Chunk {
        next: ptr::null(),
        taken: AtomicBool::new(true),
        records: [const { Record::new() }; CHUNK],
    }));
    let mut first = CHUNKS.load(Ordering::Relaxed);
    loop {
        chunk.next = first;
        match CHUNKS.compare_exchange_weak(first, chunk, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return chunk,
            Err(now) => first = now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> &'static Report {
        const REPORT: Report = |_, _| {};
        &REPORT
    }

    fn address(value: usize) -> *mut u8 {
        ptr::without_provenance_mut(value)
    }

    // Addresses that no mapping of this process has.
    const BASE: usize = usize::MAX / 4;

    #[test]
    fn an_address_in_a_guard_leads_to_its_record() {
        let mut records = Records::new();
        for index in 0..3 * CHUNK {
            let guard = BASE + index * 1000;
            records.at(index).set(
                address(guard),
                address(guard + 10),
                address(guard + 900),
                report(),
            );
        }
        for index in 0..3 * CHUNK {
            let guard = BASE + index * 1000;
            for inside in [guard, guard + 9] {
                let found = find(inside).expect("a guard");
                assert!(ptr::eq(found, records.at(index)));
                assert_eq!(found.stack(), (guard + 10, guard + 900));
            }
            for outside in [guard - 1, guard + 10, guard + 900] {
                assert!(find(outside).is_none());
            }
        }
    }

    #[test]
    fn records_are_used_again() {
        let place = BASE * 2;
        let mut seen = Vec::new();
        for _ in 0..200 {
            let mut records = Records::new();
            let record = records.at(0);
            record.set(address(place), address(place + 10), address(place + 20), report());
            record.set_occupant(ptr::dangling());
            assert!(ptr::eq(find(place).expect("it is there"), record));
            seen.push(ptr::from_ref(record) as usize);
            drop(records);
            assert!(find(place).is_none());
            assert!(record.occupant().is_null());
        }
        seen.sort_unstable();
        seen.dedup();
        // Other tests take chunks meanwhile.
        assert!(seen.len() < 20, "{}", seen.len());
    }

    #[test]
    fn arenas_of_many_threads_share_no_record() {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                std::thread::spawn(move || {
                    for round in 0..200 {
                        let mut records = Records::new();
                        let place = BASE * 3 + (thread * 1000 + round) * 100;
                        records.at(0).set(
                            address(place),
                            address(place + 1),
                            address(place + 2),
                            report(),
                        );
                        assert!(ptr::eq(find(place).expect("ours"), records.at(0)));
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no record was shared");
        }
    }
}
