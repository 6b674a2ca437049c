//! What is known for some time: outcomes of questions, until they expire.

use crate::message::{Outcome, Question};
use std::collections::{BTreeMap, HashMap};

struct Entry {
    outcome: Outcome,
    /// Where it stands in the order in which entries expire.
    place: (u64, u64),
}

/// Outcomes by question: a limited number, of which those that expire first make room.
pub struct Cache {
    entries: HashMap<Question, Entry>,
    /// When each expires, with a number that tells apart those that do at the same time.
    expiry: BTreeMap<(u64, u64), Question>,
    next: u64,
    limit: usize,
}

impl Cache {
    /// One with room for `limit` outcomes.
    pub fn new(limit: usize) -> Self {
        Self { entries: HashMap::new(), expiry: BTreeMap::new(), next: 0, limit }
    }

    /// How many outcomes there are, expired ones included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What is known at a time: nanoseconds of any clock that does not go back.
    pub fn get(&mut self, question: &Question, now: u64) -> Option<Outcome> {
        let entry = self.entries.get(question)?;
        if entry.place.0 > now {
            return Some(entry.outcome.clone());
        }
        self.remove(question);
        None
    }

    /// Keeps an outcome for so many seconds; not at all for none.
    pub fn put(&mut self, question: Question, outcome: Outcome, ttl: u32, now: u64) {
        self.remove(&question);
        if ttl == 0 || self.limit == 0 {
            return;
        }
        while self.entries.len() >= self.limit
            && let Some((_, first)) = self.expiry.pop_first()
        {
            self.entries.remove(&first);
        }
        let place = (now.saturating_add(u64::from(ttl) * 1_000_000_000), self.next);
        self.next += 1;
        self.expiry.insert(place, question.clone());
        self.entries.insert(question, Entry { outcome, place });
    }

    fn remove(&mut self, question: &Question) {
        if let Some(entry) = self.entries.remove(question) {
            self.expiry.remove(&entry.place);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.expiry.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Absence, Failure, Kind};
    use crate::name::parse;

    const SECOND: u64 = 1_000_000_000;
    const NO_NAME: Outcome = Outcome::Absent(Absence::Name);
    const NO_DATA: Outcome = Outcome::Absent(Absence::Data);

    fn question(text: &str) -> Question {
        Question { name: parse(text.as_bytes()).unwrap(), kind: Kind::A }
    }

    #[test]
    fn outcomes_expire() {
        let mut cache = Cache::new(10);
        cache.put(question("a"), NO_NAME, 2, 5 * SECOND);
        assert_eq!(cache.get(&question("A"), 5 * SECOND), Some(NO_NAME));
        assert_eq!(cache.get(&question("a"), 7 * SECOND - 1), Some(NO_NAME));
        assert_eq!(cache.get(&question("a"), 7 * SECOND), None);
        assert!(cache.is_empty());
        assert!(cache.expiry.is_empty());
    }

    #[test]
    fn kinds_are_apart() {
        let mut cache = Cache::new(10);
        cache.put(question("a"), NO_NAME, 2, 0);
        assert_eq!(cache.get(&Question { kind: Kind::Aaaa, ..question("a") }, 0), None);
    }

    #[test]
    fn what_holds_for_no_time_is_not_kept_and_replaces_what_is() {
        let mut cache = Cache::new(10);
        cache.put(question("a"), NO_NAME, 9, 0);
        cache.put(question("a"), NO_DATA, 9, 0);
        assert_eq!(cache.get(&question("a"), 1), Some(NO_DATA));
        cache.put(question("a"), Outcome::Failed(Failure::Server), 0, 0);
        assert_eq!(cache.get(&question("a"), 1), None);
        assert!(cache.expiry.is_empty());
    }

    #[test]
    fn those_that_expire_first_make_room() {
        let mut cache = Cache::new(2);
        cache.put(question("a"), NO_NAME, 9, 0);
        cache.put(question("b"), NO_NAME, 3, 0);
        cache.put(question("c"), NO_NAME, 3, 0);
        assert_eq!(cache.len(), 2);
        assert_eq!(cache.get(&question("b"), 1), None);
        cache.put(question("d"), NO_NAME, 1, 0);
        assert_eq!(cache.get(&question("c"), 1), None);
        assert_eq!(cache.get(&question("a"), 1), Some(NO_NAME));
        assert_eq!((cache.len(), cache.expiry.len()), (2, 2));
        cache.clear();
        assert!(cache.is_empty());
    }
}
