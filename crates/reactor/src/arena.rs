//! A slab with keys that are never reused, whose entries can be chained into lists.
//!
//! The descriptor table keeps the waits and the watches of each descriptor as doubly linked lists
//! through one arena, so that any number of them per descriptor cost no allocation of their own,
//! keep their order, and leave in constant time.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use slab::Slab;

/// An entry's place, and the serial number that tells it from later entries in that place.
/// 64 bits of serial do not run out, so a stale handle can never name a newer entry.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Handle {
    pub(crate) serial: NonZeroU64,
    pub(crate) index: u32,
}

/// Hands out serial numbers, growing ones that nobody else in the process has: a key that is used
/// with another reactor than the one that gave it names nothing there.
#[derive(Debug)]
pub(crate) struct Serials {
    next: u64,
    end: u64,
}

/// Numbers that are taken from the process' stock at once.
const LEASE: u64 = 1 << 16;

static STOCK: AtomicU64 = AtomicU64::new(1);

impl Serials {
    pub(crate) const fn new() -> Self {
        Serials { next: 0, end: 0 }
    }

    #[inline]
    pub(crate) fn next(&mut self) -> NonZeroU64 {
        if self.next == self.end {
            self.lease();
        }
        let serial = NonZeroU64::new(self.next).expect("the stock begins at 1");
        self.next += 1;
        serial
    }

    #[cold]
    fn lease(&mut self) {
        self.next = STOCK.fetch_add(LEASE, Ordering::Relaxed);
        self.end = self.next + LEASE;
    }
}

const NIL: u32 = u32::MAX;

/// The ends of a chain of entries of one [`Arena`].
#[derive(Copy, Clone, Debug)]
pub(crate) struct List {
    head: u32,
    tail: u32,
}

impl List {
    pub(crate) const EMPTY: List = List { head: NIL, tail: NIL };

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head == NIL
    }

    /// The first entry's index, to walk the list with [`Arena::after`].
    #[inline]
    pub(crate) fn first(&self) -> Option<u32> {
        (self.head != NIL).then_some(self.head)
    }
}

struct Node<P> {
    serial: NonZeroU64,
    prev: u32,
    next: u32,
    item: P,
}

pub(crate) struct Arena<P> {
    nodes: Slab<Node<P>>,
    serials: Serials,
}

impl<P> Arena<P> {
    pub(crate) const fn new() -> Self {
        Arena { nodes: Slab::new(), serials: Serials::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Adds `item` at the end of `list`.
    #[inline]
    pub(crate) fn push_back(&mut self, list: &mut List, item: P) -> Handle {
        let serial = self.serials.next();
        let index = self.nodes.insert(Node { serial, prev: list.tail, next: NIL, item });
        let index = u32::try_from(index).expect("fewer than 2^32 entries fit in memory");
        if list.tail == NIL {
            list.head = index;
        } else {
            self.nodes[list.tail as usize].next = index;
        }
        list.tail = index;
        Handle { serial, index }
    }

    #[inline]
    pub(crate) fn get(&self, handle: Handle) -> Option<&P> {
        self.nodes
            .get(handle.index as usize)
            .filter(|node| node.serial == handle.serial)
            .map(|node| &node.item)
    }

    /// The entry at an index that is known to be occupied.
    #[inline]
    pub(crate) fn at(&self, index: u32) -> &P {
        &self.nodes[index as usize].item
    }

    #[inline]
    pub(crate) fn at_mut(&mut self, index: u32) -> &mut P {
        &mut self.nodes[index as usize].item
    }

    #[inline]
    pub(crate) fn handle(&self, index: u32) -> Handle {
        Handle { serial: self.nodes[index as usize].serial, index }
    }

    /// The entry after `index` in its list.
    #[inline]
    pub(crate) fn after(&self, index: u32) -> Option<u32> {
        let next = self.nodes[index as usize].next;
        (next != NIL).then_some(next)
    }

    /// Takes the entry out of the list it is in; the entry itself stays.
    #[inline]
    pub(crate) fn unlink(&mut self, list: &mut List, index: u32) {
        let node = &mut self.nodes[index as usize];
        let (prev, next) = (node.prev, node.next);
        node.prev = NIL;
        node.next = NIL;
        if prev == NIL {
            list.head = next;
        } else {
            self.nodes[prev as usize].next = next;
        }
        if next == NIL {
            list.tail = prev;
        } else {
            self.nodes[next as usize].prev = prev;
        }
    }

    /// Removes an entry that is in no list.
    #[inline]
    pub(crate) fn remove(&mut self, index: u32) -> P {
        let node = self.nodes.remove(index as usize);
        debug_assert!(node.prev == NIL && node.next == NIL);
        node.item
    }

    /// The handles of all entries that a question is answered with yes for.
    pub(crate) fn handles(&self, mut wanted: impl FnMut(&P) -> bool) -> Vec<Handle> {
        self.nodes
            .iter()
            .filter(|(_, node)| wanted(&node.item))
            .map(|(index, node)| Handle { serial: node.serial, index: index as u32 })
            .collect()
    }

    /// Removes everything. Lists that pointed here must be dropped by the caller.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = P> + '_ {
        self.nodes.drain().map(|node| node.item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(arena: &Arena<u32>, list: &List) -> Vec<u32> {
        std::iter::successors(list.first(), |&index| arena.after(index))
            .map(|index| *arena.at(index))
            .collect()
    }

    #[test]
    fn lists_keep_order_through_removal_anywhere() {
        let mut arena = Arena::new();
        let mut list = List::EMPTY;
        let handles: Vec<_> = (0..5).map(|i| arena.push_back(&mut list, i)).collect();
        assert_eq!(contents(&arena, &list), [0, 1, 2, 3, 4]);
        for (victim, rest) in
            [(2, vec![0, 1, 3, 4]), (0, vec![1, 3, 4]), (4, vec![1, 3]), (1, vec![3]), (3, vec![])]
        {
            arena.unlink(&mut list, handles[victim].index);
            assert_eq!(arena.remove(handles[victim].index), victim as u32);
            assert_eq!(contents(&arena, &list), rest);
        }
        assert!(list.is_empty());
        assert_eq!(arena.len(), 0);
    }

    #[test]
    fn a_stale_handle_does_not_name_the_next_entry_in_its_place() {
        let mut arena = Arena::new();
        let mut list = List::EMPTY;
        let old = arena.push_back(&mut list, 1);
        arena.unlink(&mut list, old.index);
        arena.remove(old.index);
        let new = arena.push_back(&mut list, 2);
        assert_eq!(new.index, old.index);
        assert_eq!(arena.get(old), None);
        assert_eq!(arena.get(new), Some(&2));
    }
}
