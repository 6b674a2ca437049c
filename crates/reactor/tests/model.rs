//! Random sequences of everything one can do to a few descriptors, against a model that asks the
//! kernel directly what is ready.
//!
//! The model is exact: a poll reports every user whose direction is ready, and no other. That
//! covers lost edges, spurious reports, and every change between edge and level triggering.

mod common;

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use common::*;
use greenloop_reactor::{Backend, Fired, Interest, Reactor, WaitKey, WatchKey};
use proptest::prelude::*;
use proptest::sample::Index;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

#[derive(Clone, Debug)]
enum Step {
    /// Data arrives at the tested end.
    Arrive(Index),
    /// The tested end reads everything.
    Read(Index),
    /// The tested end writes until it would block.
    Fill(Index),
    /// The peer reads everything, making room.
    MakeRoom(Index),
    /// The socket object tries, and waits if it would block.
    WaitAsOwner(Index, Interest),
    /// From now on another socket object has the number.
    ChangeOwner(Index),
    WaitAsAnyone(Index, Interest),
    Watch(Index, Interest),
    Cancel(Index),
    Unwatch(Index),
    Forget(Index),
    Poll,
}

fn step() -> impl Strategy<Value = Step> {
    let which = || any::<Index>();
    let interest = || prop::sample::select(vec![READ, WRITE, READ | WRITE]);
    prop_oneof![
        3 => which().prop_map(Step::Arrive),
        3 => which().prop_map(Step::Read),
        3 => which().prop_map(Step::Fill),
        3 => which().prop_map(Step::MakeRoom),
        6 => (which(), interest()).prop_map(|(i, w)| Step::WaitAsOwner(i, w)),
        1 => which().prop_map(Step::ChangeOwner),
        3 => (which(), interest()).prop_map(|(i, w)| Step::WaitAsAnyone(i, w)),
        3 => (which(), interest()).prop_map(|(i, w)| Step::Watch(i, w)),
        2 => which().prop_map(Step::Cancel),
        3 => which().prop_map(Step::Unwatch),
        1 => which().prop_map(Step::Forget),
        8 => Just(Step::Poll),
    ]
}

/// A user of a descriptor; its name is its payload.
#[derive(Clone, Debug)]
struct User<K> {
    name: usize,
    key: K,
    interest: Interest,
    owner: u64,
}

struct Pair {
    here: OwnedFd,
    there: OwnedFd,
    /// The socket object that would wait next, and the one that the reactor knows.
    owner: u64,
    known_owner: u64,
    waits: Vec<User<WaitKey>>,
    watches: Vec<User<WatchKey>>,
}

impl Pair {
    fn is_ready(&self, interest: Interest) -> bool {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, interest.contains(READ));
        flags.set(PollFlags::OUT, interest.contains(WRITE));
        let mut polled = [PollFd::from_borrowed_fd(self.here.as_fd(), flags)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut polled, Some(&now)).unwrap() > 0
    }
}

struct World {
    reactor: Reactor<usize>,
    pairs: Vec<Pair>,
    /// Waits that lost their descriptor and have not been reported.
    orphans: VecDeque<User<WaitKey>>,
    /// Watches that were deactivated and not taken back.
    inactive: Vec<User<WatchKey>>,
    spent: Vec<WaitKey>,
    names: usize,
}

impl World {
    fn new(backend: Backend) -> World {
        let pairs = (0..3).map(|number| {
            let (here, there) = sockets();
            Pair {
                here,
                there,
                owner: number + 1,
                known_owner: 0,
                waits: Vec::new(),
                watches: Vec::new(),
            }
        });
        World {
            reactor: Reactor::new(backend).unwrap(),
            pairs: pairs.collect(),
            orphans: VecDeque::new(),
            inactive: Vec::new(),
            spent: Vec::new(),
            names: 0,
        }
    }

    fn wait(&mut self, which: usize, owner: u64, interest: Interest) {
        let pair = &mut self.pairs[which];
        self.names += 1;
        let name = self.names;
        let fd = raw(&pair.here);
        let key = self.reactor.wait_fd(fd, owner, interest, name).unwrap();
        if owner != 0 && owner != pair.known_owner {
            let known_owner = pair.known_owner;
            let orphans =
                pair.waits.extract_if(.., |wait| known_owner != 0 && wait.owner == known_owner);
            self.orphans.extend(orphans);
            pair.known_owner = owner;
        }
        pair.waits.push(User { name, key, interest, owner });
    }

    fn take(&mut self, step: Step) {
        let count = self.pairs.len();
        match step {
            Step::Arrive(which) => put(&self.pairs[which.index(count)].there),
            Step::Read(which) => empty(&self.pairs[which.index(count)].here),
            Step::Fill(which) => fill(&self.pairs[which.index(count)].here),
            Step::MakeRoom(which) => empty(&self.pairs[which.index(count)].there),
            Step::WaitAsOwner(which, interest) => {
                let which = which.index(count);
                if !self.pairs[which].is_ready(interest) {
                    self.wait(which, self.pairs[which].owner, interest);
                }
            }
            Step::ChangeOwner(which) => self.pairs[which.index(count)].owner += 100,
            Step::WaitAsAnyone(which, interest) => self.wait(which.index(count), 0, interest),
            Step::Watch(which, interest) => {
                let pair = &mut self.pairs[which.index(count)];
                self.names += 1;
                let name = self.names;
                let fd = raw(&pair.here);
                let key = self.reactor.watch(fd, interest, name).unwrap();
                pair.watches.push(User { name, key, interest, owner: 0 });
            }
            Step::Cancel(which) => self.cancel(which),
            Step::Unwatch(which) => self.unwatch(which),
            Step::Forget(which) => self.forget(which.index(count)),
            Step::Poll => self.poll(),
        }
        let attached: usize = self.pairs.iter().map(|pair| pair.waits.len()).sum();
        assert_eq!(self.reactor.wait_count(), attached + self.orphans.len());
        let watches: usize = self.pairs.iter().map(|pair| pair.watches.len()).sum();
        assert_eq!(self.reactor.watch_count(), watches);
        for pair in &self.pairs {
            for direction in [READ, WRITE] {
                let waits = &pair.waits;
                let expected = waits.iter().any(|wait| wait.interest.contains(direction));
                let fd = raw(&pair.here);
                assert_eq!(self.reactor.has_waiter(fd, direction), expected);
            }
        }
    }

    fn cancel(&mut self, which: Index) {
        if let Some(&key) = self.spent.last() {
            assert_eq!(self.reactor.wait_cancel(key), None);
        }
        let mut choices = Vec::new();
        for (number, pair) in self.pairs.iter().enumerate() {
            choices.extend((0..pair.waits.len()).map(|position| (Some(number), position)));
        }
        choices.extend((0..self.orphans.len()).map(|position| (None, position)));
        if choices.is_empty() {
            return;
        }
        let user = match choices[which.index(choices.len())] {
            (Some(number), position) => self.pairs[number].waits.remove(position),
            (None, position) => self.orphans.remove(position).unwrap(),
        };
        assert_eq!(self.reactor.wait_cancel(user.key), Some(user.name));
        self.spent.push(user.key);
    }

    fn unwatch(&mut self, which: Index) {
        let mut choices = Vec::new();
        for (number, pair) in self.pairs.iter().enumerate() {
            choices.extend((0..pair.watches.len()).map(|position| (Some(number), position)));
        }
        choices.extend((0..self.inactive.len()).map(|position| (None, position)));
        if choices.is_empty() {
            return;
        }
        let user = match choices[which.index(choices.len())] {
            (Some(number), position) => self.pairs[number].watches.remove(position),
            (None, position) => self.inactive.remove(position),
        };
        assert_eq!(self.reactor.watch_data(user.key), Some(&user.name));
        assert_eq!(self.reactor.unwatch(user.key), Some(user.name));
        assert_eq!(self.reactor.unwatch(user.key), None);
    }

    fn forget(&mut self, which: usize) {
        let pair = &mut self.pairs[which];
        let mut fired = Vec::new();
        self.reactor.forget_fd(raw(&pair.here), &mut fired);
        pair.known_owner = 0;
        let waits = pair.waits.drain(..).inspect(|wait| self.spent.push(wait.key));
        let mut expected: Vec<_> = waits.map(|wait| (wait.name, true)).collect();
        expected.extend(pair.watches.iter().map(|watch| (watch.name, true)));
        self.inactive.append(&mut pair.watches);
        assert_eq!(self.named(fired), expected);
    }

    fn poll(&mut self) {
        let fired = poll_now(&mut self.reactor);
        let mut reported = self.named(fired);
        let orphans: Vec<_> = self.orphans.drain(..).collect();
        self.spent.extend(orphans.iter().map(|orphan| orphan.key));
        let expected: Vec<_> = orphans.iter().map(|orphan| (orphan.name, true)).collect();
        // What is ready follows the kernel's order of descriptors.
        let (errors, ready): (Vec<_>, Vec<_>) = reported.drain(..).partition(|one| one.1);
        assert_eq!(errors, expected);
        let mut expected_ready = 0;
        for pair in &mut self.pairs {
            let readable = pair.is_ready(READ);
            let writable = pair.is_ready(WRITE);
            let is_ready = |interest: Interest| {
                interest.contains(READ) && readable || interest.contains(WRITE) && writable
            };
            let waits = pair.waits.extract_if(.., |wait| is_ready(wait.interest));
            let waits: Vec<_> = waits.collect();
            self.spent.extend(waits.iter().map(|wait| wait.key));
            let mut expected: Vec<_> = waits.iter().map(|wait| wait.name).collect();
            let watches = pair.watches.iter().filter(|watch| is_ready(watch.interest));
            expected.extend(watches.map(|watch| watch.name));
            expected_ready += expected.len();
            let of_this_pair: Vec<_> =
                ready.iter().map(|one| one.0).filter(|name| expected.contains(name)).collect();
            assert_eq!(of_this_pair, expected);
        }
        assert_eq!(ready.len(), expected_ready, "somebody fired without cause");
    }

    /// The names of what fired, and whether with an error.
    fn named(&self, fired: Vec<Fired<usize>>) -> Vec<(usize, bool)> {
        fired
            .into_iter()
            .map(|one| match one {
                Fired::Wait { ready, data, .. } => (data, ready.error()),
                Fired::Watch { key, ready } => {
                    (*self.reactor.watch_data(key).unwrap(), ready.error())
                }
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn epoll_reports_exactly_what_is_ready(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new(Backend::Epoll);
        for step in steps {
            world.take(step);
        }
        world.poll();
    }

    #[test]
    fn poll_reports_exactly_what_is_ready(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new(Backend::Poll);
        for step in steps {
            world.take(step);
        }
        world.poll();
    }
}
