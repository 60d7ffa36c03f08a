//! When each flow is to be looked at, whether or not it moves, to the second. Pure.
//!
//! Those of one second are looked at over that second, a few with each tick: to look at a flow may be
//! to ask its peers whether they are there, and both answer at once.

use std::collections::{BTreeMap, VecDeque};

/// So many are looked at with a tick at least.
const FEW: usize = 20;
/// A few more than that may pass in a second.
const TICKS: usize = 50;

/// Numbers of flows by seconds.
#[derive(Debug, Default)]
pub(super) struct Calendar {
    /// A flow may stand at several seconds; which of them counts is for whoever has the flow.
    due: BTreeMap<u64, Vec<u32>>,
    /// Those whose second has come, the first first.
    waiting: VecDeque<u32>,
    /// How many of these are looked at with each tick.
    at_a_time: usize,
}

impl Calendar {
    /// To be looked at in that second.
    pub(super) fn put(&mut self, second: u64, number: u32) {
        self.due.entry(second).or_default().push(number);
    }

    /// That second has come. `takes` is told each flow whose time has come and the second that it
    /// stands at, and says whether it is to be looked at.
    pub(super) fn reach(&mut self, second: u64, mut takes: impl FnMut(u32, u64) -> bool) {
        while let Some(first) = self.due.first_entry()
            && *first.key() <= second
        {
            let (at, numbers) = first.remove_entry();
            let taken = numbers.into_iter().filter(|number| takes(*number, at));
            self.waiting.extend(taken);
        }
        self.at_a_time = FEW.max(self.waiting.len().div_ceil(TICKS));
    }

    /// Those to be looked at with this tick.
    pub(super) fn tick(&mut self) -> impl Iterator<Item = u32> {
        let few = self.at_a_time.min(self.waiting.len());
        self.waiting.drain(..few)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_a_second_are_spread_over_it() {
        let mut calendar = Calendar::default();
        for number in 0..2_345 {
            calendar.put(7, number);
            calendar.put(8, number);
        }
        calendar.reach(6, |_, _| true);
        assert_eq!(calendar.tick().count(), 0);
        calendar.reach(7, |_, at| at == 7);
        let ticks: Vec<Vec<u32>> = (0..TICKS).map(|_| calendar.tick().collect()).collect();
        assert!(ticks.iter().all(|tick| tick.len() <= 47));
        assert_eq!(ticks.concat(), (0..2_345).collect::<Vec<_>>());
        calendar.reach(8, |number, _| number < 25);
        assert_eq!([calendar.tick().count(), calendar.tick().count()], [20, 5]);
    }

    /// Where a second's ticks weren't enough, they are made up for.
    #[test]
    fn those_of_seconds_that_were_missed_come_first() {
        let mut calendar = Calendar::default();
        for (second, number) in [(3, 1), (2, 0), (9, 2)] {
            calendar.put(second, number);
        }
        calendar.reach(9, |_, _| true);
        assert_eq!(calendar.tick().collect::<Vec<_>>(), [0, 1, 2]);
        for number in 0..1000 {
            calendar.put(10 + u64::from(number) % 2, number);
        }
        calendar.reach(10, |_, _| true);
        assert_eq!(calendar.tick().count(), FEW);
        calendar.reach(11, |_, _| true);
        let left: usize = (0..TICKS).map(|_| calendar.tick().count()).sum();
        assert_eq!(left, 980);
    }
}
