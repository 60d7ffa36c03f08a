//! Records that aren't in the log yet, and their claim to the places of their flows.
//!
//! A place is kept until its record is in the log, so that the next process can write that where this
//! one dies before. A log that takes nothing must not keep new sessions from their places, though: where
//! these find none, records that should have been written long ago give theirs up. They are written
//! when they can be, by this process alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A log that is well has a record sooner.
const PATIENCE: Duration = Duration::from_secs(1);

/// Records by the numbers of their flows.
#[derive(Debug, Default)]
pub(super) struct Owed(HashMap<u32, (Instant, Claim)>);

/// A record's claim to a place. Shared by the record and whoever may take the place away.
#[derive(Debug, Clone)]
pub(super) struct Claim(Arc<Mutex<bool>>);

impl Claim {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(true)))
    }

    /// Does something to the place, which is the record's until that is done; nothing where it was
    /// given up.
    pub(super) fn with_place(&self, act: impl FnOnce()) {
        let holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *holds {
            act();
        }
    }

    fn give_up(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

impl Owed {
    /// From now on.
    pub(super) fn begin(&mut self, now: Instant, number: u32, claim: Claim) {
        self.0.insert(number, (now, claim));
    }

    /// No more.
    pub(super) fn end(&mut self, number: u32) {
        self.0.remove(&number);
    }

    /// This one gives up its place, wherever it is.
    pub(super) fn give_up_one(&mut self, number: u32) {
        if let Some((_, claim)) = self.0.remove(&number) {
            claim.give_up();
        }
    }

    /// Those that should be in the log long since give up their places: their numbers.
    pub(super) fn give_up(&mut self, now: Instant) -> Vec<u32> {
        let given_up = self.0.extract_if(|_, (since, _)| now >= *since + PATIENCE);
        let numbers = given_up.map(|(number, (_, claim))| {
            claim.give_up();
            number
        });
        numbers.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_place_is_given_up_after_a_while_and_touched_no_more() {
        let (now, mut owed) = (Instant::now(), Owed::default());
        let claims = [Claim::new(), Claim::new(), Claim::new()];
        for (number, claim) in (7..).zip(&claims) {
            let late = Duration::from_millis(100) * (number - 7);
            owed.begin(now + late, number, claim.clone());
        }
        owed.end(7);
        owed.give_up_one(7);
        owed.give_up_one(9);
        assert!(owed.give_up(now + Duration::from_millis(1099)).is_empty());
        assert_eq!(owed.give_up(now + Duration::from_millis(1100)), [8]);
        assert!(owed.give_up(now + Duration::from_millis(1100)).is_empty());
        let touched = claims.map(|claim| {
            let touched = Cell::new(false);
            claim.with_place(|| touched.set(true));
            touched.get()
        });
        assert_eq!(touched, [true, false, false]);
    }
}
