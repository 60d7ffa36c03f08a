//! A long way: frames that come later, in the order of when that is.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use serde::Serialize;

/// Frames that are under way at a time. What comes on top is lost, as at a router.
const MOST: usize = 20_000;

/// Frames under way.
#[derive(Default)]
pub(crate) struct DelayLine {
    frames: BinaryHeap<Reverse<Due>>,
    passed: Delayed,
}

/// What it did.
#[derive(Default, Clone, Copy, Serialize)]
pub(crate) struct Delayed {
    frames: u64,
    /// Behind others that were sent later.
    overtaken: u64,
    lost: u64,
    /// The most that were under way at a time.
    most: usize,
    /// Of those that are through, the latest to be sent.
    newest: u64,
}

/// By when it comes; those of a moment keep their order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Instant,
    number: u64,
    frame: Vec<u8>,
}

impl DelayLine {
    pub(crate) fn hold(&mut self, at: Instant, frame: Vec<u8>) {
        if self.frames.len() >= MOST {
            self.passed.lost += 1;
            return;
        }
        self.passed.frames += 1;
        let number = self.passed.frames;
        self.frames.push(Reverse(Due { at, number, frame }));
        self.passed.most = self.passed.most.max(self.frames.len());
    }

    /// When the next one comes.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.frames.peek().map(|Reverse(due)| due.at)
    }

    /// Those whose time has come.
    pub(crate) fn take(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut come = vec![];
        while self.next().is_some_and(|at| at <= now)
            && let Some(Reverse(due)) = self.frames.pop()
        {
            self.passed.overtaken += u64::from(due.number < self.passed.newest);
            self.passed.newest = self.passed.newest.max(due.number);
            come.push(due.frame);
        }
        come
    }

    pub(crate) fn passed(&self) -> Delayed {
        self.passed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn frames_come_when_they_are_due_and_in_their_order() {
        let (now, mut line) = (Instant::now(), DelayLine::default());
        let later = |ms| now + Duration::from_millis(ms);
        for (ms, name) in [(5, 1), (3, 2), (5, 3), (9, 4)] {
            line.hold(later(ms), vec![name]);
        }
        assert_eq!(line.next(), Some(later(3)));
        assert_eq!(line.take(later(2)), Vec::<Vec<u8>>::new());
        assert_eq!(line.take(later(5)), [[2], [1], [3]]);
        assert_eq!(line.take(later(20)), [[4]]);
        let passed = line.passed();
        assert_eq!((passed.frames, passed.overtaken, passed.most), (4, 1, 4));
    }

    #[test]
    fn it_has_a_bound() {
        let (now, mut line) = (Instant::now(), DelayLine::default());
        for _ in 0..MOST + 3 {
            line.hold(now, vec![]);
        }
        assert_eq!((line.passed().lost, line.take(now).len()), (3, MOST));
    }
}
