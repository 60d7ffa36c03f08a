//! Numbers of flows, and how many may be in use at a time.

use std::collections::VecDeque;

/// All that the tables have.
#[derive(Debug)]
pub(super) struct FlowNumbers {
    /// That aren't used, the next first.
    free: VecDeque<u32>,
    used: u32,
    /// That may be used at a time, and that are to be: those of an earlier process, with flows in
    /// them, may have fewer, or more.
    most: u32,
    wanted: u32,
}

impl FlowNumbers {
    /// Those below `all`, of which some are used.
    pub(super) fn new(all: u32, wanted: u32, is_used: impl Fn(u32) -> bool) -> Self {
        let free: VecDeque<u32> = (0..all).filter(|number| !is_used(*number)).collect();
        Self {
            used: all - free.len() as u32,
            free,
            most: wanted.min(all),
            wanted,
        }
    }

    /// The one that was freed first: late segments had the most time.
    pub(super) fn take(&mut self) -> Option<u32> {
        let number = if self.used < self.most {
            self.free.pop_front()
        } else {
            None
        };
        self.used += u32::from(number.is_some());
        number
    }

    pub(super) fn free(&mut self, number: u32) {
        self.used = self.used.saturating_sub(1);
        self.free.push_back(number);
    }

    pub(super) fn used(&self) -> u32 {
        self.used
    }

    pub(super) fn most(&self) -> u32 {
        self.most
    }

    pub(super) fn wanted(&self) -> u32 {
        self.wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_given_once() {
        let mut numbers = FlowNumbers::new(4, 9, |number| number == 1);
        assert_eq!(
            (numbers.most(), numbers.wanted(), numbers.used()),
            (4, 9, 1)
        );
        let taken: Vec<u32> = std::iter::from_fn(|| numbers.take()).collect();
        assert_eq!((taken, numbers.used()), (vec![0, 2, 3], 4));
        numbers.free(2);
        numbers.free(1);
        assert_eq!(
            [numbers.take(), numbers.take(), numbers.take()],
            [Some(2), Some(1), None]
        );
    }

    #[test]
    fn those_of_an_earlier_process_count_whatever_they_are() {
        // It was configured for more, and seven of its flows go on.
        let mut numbers = FlowNumbers::new(100, 5, |number| number >= 93);
        assert_eq!((numbers.used(), numbers.take()), (7, None));
        for number in 93..96 {
            numbers.free(number);
        }
        assert_eq!((numbers.take(), numbers.take()), (Some(0), None));
        for number in 96..100 {
            numbers.free(number);
        }
        let rest: Vec<u32> = std::iter::from_fn(|| numbers.take()).collect();
        assert_eq!((rest.len(), numbers.used()), (4, 5));
    }
}
