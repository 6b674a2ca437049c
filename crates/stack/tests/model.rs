//! Random histories: whatever is started, resumed, evicted, ended and given up in whatever order,
//! everybody finds on its stack and in its data area what it left there.

mod common;

use common::{Co, Next, Rig, SMALL, mix};
use greenloop_stack::Config;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::rc::Rc;

/// What a coroutine is told when it is resumed.
#[derive(Clone, Copy, Debug)]
enum Command {
    /// Check everything and park again.
    Check,
    /// Go a few calls deeper, and park there.
    Deeper(usize),
    /// Return from a few calls, and park there.
    Shallower(usize),
    /// Make a deep excursion, and park where it was.
    Excursion,
    /// Use so many words of the data area from now on.
    Data(usize),
    /// Switch straight to another one, which checks and parks.
    Hop,
    /// End, and go on with main.
    End,
    /// End, and go on with another one, which checks and parks.
    EndInto,
}

#[derive(Clone, Debug)]
enum Step {
    /// Tell a coroutine, which starts if it has not, with another one for `Hop` and `EndInto`.
    Tell(usize, Command, usize),
    /// Give one a stack without running it.
    Settle(usize),
    /// Take one's stack away.
    GiveUp(usize),
    /// Pin one, and unpin the one that was.
    Pin(usize),
    Unpin,
    /// Map further slots with so many 16 KiB of stack beyond the least, and have so many.
    Resize(usize, usize),
}

const COUNT: usize = 12;

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        5 => Just(Command::Check),
        2 => (1..20_usize).prop_map(Command::Deeper),
        2 => (1..20_usize).prop_map(Command::Shallower),
        1 => Just(Command::Excursion),
        2 => (0..2000_usize).prop_map(Command::Data),
        4 => Just(Command::Hop),
        1 => Just(Command::End),
        2 => Just(Command::EndInto),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => (0..COUNT, command(), 0..COUNT).prop_map(|(who, what, other)| {
            Step::Tell(who, what, other)
        }),
        1 => (0..COUNT).prop_map(Step::Settle),
        1 => (0..COUNT).prop_map(Step::GiveUp),
        1 => (0..COUNT).prop_map(Step::Pin),
        1 => Just(Step::Unpin),
        1 => (0..8_usize, 4..10_usize).prop_map(|(size, slots)| Step::Resize(size, slots)),
    ]
}

/// Shared by the driver and the coroutines of one history.
#[derive(Default)]
struct Board {
    command: Cell<Option<Command>>,
    /// Whom to hop to.
    other: RefCell<Option<Rc<Co>>>,
    checks: Cell<usize>,
}

struct Keeper {
    board: Rc<Board>,
    seed: u64,
    /// How often the data area was filled, and with how many words.
    data: Cell<(u64, usize)>,
}

enum Way {
    /// Return from so many more calls.
    Up(usize),
    End,
    EndInto(Rc<Co>),
}

impl Keeper {
    fn fill_data(&self, rig: &Rig, words: usize) {
        let me = rig.running();
        let (generation, _) = self.data.get();
        self.data.set((generation + 1, words));
        let base = me.middle().cast::<u64>();
        for index in 0..words {
            // SAFETY: the data area is 16 KiB and aligned.
            unsafe { base.add(index).write(mix(self.seed ^ (generation + 1), index as u64)) };
        }
        me.used.set(words * 8);
    }

    fn check_data(&self, rig: &Rig) {
        let base = rig.running().middle().cast::<u64>();
        let (generation, words) = self.data.get();
        for index in 0..words {
            // SAFETY: as above.
            let word = unsafe { base.add(index).read() };
            assert_eq!(word, mix(self.seed ^ generation, index as u64));
        }
    }

    /// One call deep: parks, does what it is told, and returns when it is told to.
    #[inline(never)]
    fn level(&self, rig: &Rig, depth: usize, mut deeper: usize) -> Way {
        let mut words = [0_u64; 24];
        for (index, word) in words.iter_mut().enumerate() {
            *word = mix(self.seed + depth as u64, index as u64);
        }
        black_box(&words);
        let check = || {
            for (index, word) in words.iter().enumerate() {
                assert_eq!(*word, mix(self.seed + depth as u64, index as u64));
            }
            self.check_data(rig);
            self.board.checks.set(self.board.checks.get() + 1);
        };
        loop {
            if deeper > 0 && depth < 60 {
                let way = self.level(rig, depth + 1, deeper - 1);
                deeper = 0;
                check();
                match way {
                    Way::Up(0) => {}
                    Way::Up(_) if depth == 0 => {}
                    Way::Up(more) => return Way::Up(more - 1),
                    end => return end,
                }
            }
            let command = match rig.to_main(0) {
                // Hopped to, or main says so.
                1 => Command::Check,
                _ => self.board.command.take().expect("main says what"),
            };
            check();
            match command {
                Command::Check => {}
                Command::Deeper(count) => deeper = count,
                Command::Shallower(count) if depth > 0 => return Way::Up(count - 1),
                Command::Shallower(_) => {}
                Command::Excursion => drop(black_box(excursion(80))),
                Command::Data(words) => self.fill_data(rig, words),
                Command::Hop => {
                    let other = self.board.other.take();
                    if let Some(other) = other {
                        // It parks in main; whoever resumes this one says 2 with a command, or 1.
                        let told = rig.switch(&other, 1);
                        check();
                        if told != 1 {
                            // The command was for a parked one; this one only checks.
                            self.board.command.take();
                        }
                    }
                }
                Command::End => return Way::End,
                Command::EndInto => {
                    return match self.board.other.take() {
                        Some(other) => Way::EndInto(other),
                        None => Way::End,
                    };
                }
            }
        }
    }
}

/// Goes far deeper than the stack is kept.
#[inline(never)]
fn excursion(levels: usize) -> u64 {
    let block = [levels as u64; 128];
    black_box(&block);
    if levels == 0 { block[1] } else { excursion(levels - 1) + block[levels] }
}

fn keeper(board: &Rc<Board>, seed: u64) -> Rc<Co> {
    let keeper = Keeper { board: Rc::clone(board), seed, data: Cell::new((0, 0)) };
    Co::new(move |rig, _| -> Next {
        match keeper.level(rig, 0, 0) {
            Way::EndInto(other) => (other, 1),
            Way::End | Way::Up(_) => (rig.main(), 0),
        }
    })
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Fresh,
    Settled,
    Parked,
}

struct Driver {
    rig: Box<Rig>,
    board: Rc<Board>,
    all: Vec<(Rc<Co>, State)>,
    seeds: u64,
    /// Two slots stay to share beside the pinned one and the running one.
    pinned: Option<Rc<Co>>,
    /// The most slots there may be, by any of the configurations so far.
    most_slots: usize,
    /// Ended or given up; a stack that was given up may name others.
    graves: Vec<Rc<Co>>,
}

impl Driver {
    fn new(slots: usize) -> Self {
        let board = Rc::new(Board::default());
        let all = (0..COUNT).map(|i| (keeper(&board, i as u64), State::Fresh)).collect();
        let rig = Rig::new(Config { slots, ..SMALL });
        Self {
            rig,
            board,
            all,
            seeds: COUNT as u64,
            pinned: None,
            most_slots: slots,
            graves: Vec::new(),
        }
    }

    /// Puts a fresh coroutine in the place of one that is over.
    fn replace(&mut self, who: usize) {
        self.seeds += 1;
        let fresh = (keeper(&self.board, self.seeds << 20), State::Fresh);
        let (old, _) = std::mem::replace(&mut self.all[who], fresh);
        assert!(!old.co.has_home() && !old.co.is_evicted());
        self.graves.push(old);
    }

    /// Runs one up to where it parks first.
    fn begin(&mut self, who: usize) {
        let co = Rc::clone(&self.all[who].0);
        if self.all[who].1 != State::Parked {
            self.rig.switch(&co, 0);
            self.all[who].1 = State::Parked;
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Tell(who, command, other) => {
                self.begin(who);
                if matches!(command, Command::Hop | Command::EndInto) && other != who {
                    self.begin(other);
                    *self.board.other.borrow_mut() = Some(Rc::clone(&self.all[other].0));
                }
                self.board.command.set(Some(command));
                let co = Rc::clone(&self.all[who].0);
                self.rig.switch(&co, 2);
                self.board.other.take();
                if matches!(command, Command::End | Command::EndInto) && !co.co.has_home() {
                    self.replace(who);
                }
            }
            Step::Settle(who) => {
                if self.all[who].1 == State::Fresh {
                    self.rig.settle(&self.all[who].0).expect("a slot");
                    self.all[who].1 = State::Settled;
                }
            }
            Step::GiveUp(who) => {
                self.rig.release(&self.all[who].0);
                self.replace(who);
            }
            Step::Pin(who) => {
                if self.all[who].1 == State::Parked {
                    self.unpin();
                    let co = Rc::clone(&self.all[who].0);
                    self.rig.arena().pin(&co.co);
                    self.pinned = Some(co);
                }
            }
            Step::Unpin => self.unpin(),
            Step::Resize(size, slots) => {
                let stack_size = SMALL.stack_size + size * (16 << 10);
                let config = Config { stack_size, least_stack_size: stack_size, slots, ..SMALL };
                self.rig.arena().set_config(config).expect("sizes in range");
                self.most_slots = self.most_slots.max(slots);
            }
        }
    }

    fn unpin(&mut self) {
        if let Some(co) = self.pinned.take() {
            self.rig.arena().unpin(&co.co);
        }
    }

    /// No two residents in one home; sizes that fit the state.
    fn check(&self) {
        assert!(self.rig.arena().mapped_slots() <= self.most_slots);
        let mut homes = Vec::new();
        for (co, state) in &self.all {
            assert_eq!(co.co.has_home(), *state != State::Fresh);
            assert_eq!(co.co.is_evicted(), co.co.copied_bytes() > 0);
            if co.co.has_home() && !co.co.is_evicted() {
                homes.push(co.middle());
            }
            let moves = co.moves.borrow();
            assert!(moves.iter().enumerate().all(|(index, m)| m.out == (index % 2 == 0)));
            assert_eq!(moves.len() % 2 == 1, co.co.is_evicted());
        }
        homes.sort_unstable();
        let count = homes.len();
        homes.dedup();
        assert_eq!(homes.len(), count);
    }
}

/// 500 histories, or as many as PROPTEST_CASES says.
fn config() -> ProptestConfig {
    let chosen = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig {
        cases: chosen.unwrap_or(500),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn everybody_finds_what_it_left(
        slots in 4..8_usize,
        steps in prop::collection::vec(step(), 1..250),
    ) {
        let mut driver = Driver::new(slots);
        for step in &steps {
            driver.take(step);
            driver.check();
        }
        for who in 0..COUNT {
            driver.take(&Step::Tell(who, Command::Check, who));
            driver.take(&Step::Tell(who, Command::End, who));
        }
        assert!(driver.board.checks.get() >= 2 * COUNT);
    }
}
