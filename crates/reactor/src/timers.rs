//! Timers: a 4-ary heap ordered by deadline, then by age, over a slab of payloads.
//!
//! Each payload's slot knows its entry's position in the heap, so that a timer leaves in
//! O(log n) wherever it is. Four children per node halve the depth of a binary heap and keep
//! siblings in one or two cache lines; the keys compared live in the heap itself, never behind
//! an index.

use std::num::NonZeroU64;

use slab::Slab;

use crate::arena::{Handle, Serials};
use crate::types::TimerKey;

const ARITY: usize = 4;

#[derive(Copy, Clone)]
struct Entry {
    deadline: u64,
    /// The timer's age: breaks ties first in, first out, and tells a slot's tenants apart.
    serial: NonZeroU64,
    slot: u32,
}

impl Entry {
    #[inline]
    fn before(&self, other: &Entry) -> bool {
        (self.deadline, self.serial) < (other.deadline, other.serial)
    }
}

struct Slot<T> {
    serial: NonZeroU64,
    position: u32,
    data: T,
}

pub(crate) struct Timers<T> {
    heap: Vec<Entry>,
    slots: Slab<Slot<T>>,
    serials: Serials,
}

impl<T> Timers<T> {
    pub(crate) const fn new() -> Self {
        Timers { heap: Vec::new(), slots: Slab::new(), serials: Serials::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.heap.first().map(|entry| entry.deadline)
    }

    pub(crate) fn add(&mut self, deadline: u64, data: T) -> TimerKey {
        let position = self.heap.len();
        let serial = self.serials.next();
        let slot = self.slots.insert(Slot { serial, position: position as u32, data });
        let slot = u32::try_from(slot).expect("fewer than 2^32 timers fit in memory");
        let entry = Entry { deadline, serial, slot };
        self.heap.push(entry);
        self.sift_up(position, entry);
        TimerKey(Handle { serial, index: slot })
    }

    pub(crate) fn deadline(&self, key: TimerKey) -> Option<u64> {
        self.position(key).map(|position| self.heap[position].deadline)
    }

    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<T> {
        let position = self.position(key)?;
        Some(self.remove_at(position))
    }

    /// Takes the earliest timer if its deadline is `now` or earlier.
    #[inline]
    pub(crate) fn pop_expired(&mut self, now: u64) -> Option<(TimerKey, T)> {
        let first = *self.heap.first()?;
        if first.deadline > now {
            return None;
        }
        let key = TimerKey(Handle { serial: first.serial, index: first.slot });
        Some((key, self.remove_at(0)))
    }

    /// Removes the timers whose payloads are `unwanted`.
    pub(crate) fn remove_if(&mut self, mut unwanted: impl FnMut(&T) -> bool, out: &mut Vec<T>) {
        let slots: Vec<usize> =
            self.slots.iter().filter(|(_, slot)| unwanted(&slot.data)).map(|(at, _)| at).collect();
        for slot in slots {
            out.push(self.remove_at(self.slots[slot].position as usize));
        }
    }

    /// Removes everything.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.heap.clear();
        self.slots.drain().map(|slot| slot.data)
    }

    #[inline]
    fn position(&self, TimerKey(handle): TimerKey) -> Option<usize> {
        self.slots
            .get(handle.index as usize)
            .filter(|slot| slot.serial == handle.serial)
            .map(|slot| slot.position as usize)
    }

    fn remove_at(&mut self, position: usize) -> T {
        let removed = self.heap[position];
        let last = self.heap.pop().expect("the heap holds the removed entry");
        if position < self.heap.len() {
            if last.before(&removed) {
                self.sift_up(position, last);
            } else {
                self.sift_down(position, last);
            }
        }
        self.slots.remove(removed.slot as usize).data
    }

    #[inline]
    fn place(&mut self, position: usize, entry: Entry) {
        self.heap[position] = entry;
        self.slots[entry.slot as usize].position = position as u32;
    }

    /// Puts `entry` where it belongs between the hole at `position` and the root.
    fn sift_up(&mut self, mut position: usize, entry: Entry) {
        while position > 0 {
            let parent_position = (position - 1) / ARITY;
            let parent = self.heap[parent_position];
            if !entry.before(&parent) {
                break;
            }
            self.place(position, parent);
            position = parent_position;
        }
        self.place(position, entry);
    }

    /// Puts `entry` where it belongs between the hole at `position` and the leaves.
    fn sift_down(&mut self, mut position: usize, entry: Entry) {
        loop {
            let first_child = position * ARITY + 1;
            let end = (first_child + ARITY).min(self.heap.len());
            if first_child >= end {
                break;
            }
            let mut least_position = first_child;
            let mut least = self.heap[first_child];
            for child in first_child + 1..end {
                if self.heap[child].before(&least) {
                    least_position = child;
                    least = self.heap[child];
                }
            }
            if !least.before(&entry) {
                break;
            }
            self.place(position, least);
            position = least_position;
        }
        self.place(position, entry);
    }
}
