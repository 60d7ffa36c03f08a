//! Flows that have ended: their places are kept until no late segment of them can come any more,
//! and noted once their records are in the log: if the process ends before, the next one writes them.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::passage::Passage;

/// How long a place is kept once its flow has ended: as long as a server's TIME_WAIT, so that
/// late repetitions find it and its port isn't used too soon.
const LINGER: Duration = if cfg!(feature = "failpoints") {
    // For tests, which wait for it.
    Duration::from_secs(1)
} else {
    Duration::from_secs(60)
};

/// The places of flows that have ended.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    places: HashMap<u32, (Instant, Passage)>,
    /// When each ended, the first first; those that are gone as well.
    ended: VecDeque<(Instant, u32)>,
}

impl Lingering {
    pub(super) fn add(&mut self, now: Instant, passage: Passage) {
        self.ended.push_back((now, passage.number));
        self.places.insert(passage.number, (now, passage));
    }

    /// The record of the one that ended then is in the log.
    pub(super) fn note_written(&self, number: u32, ended: Instant) {
        let passage = self.places.get(&number);
        // Its place may be another one's by now.
        if let Some((_, passage)) = passage.filter(|(place, _)| *place == ended) {
            passage.gate().set_recorded();
        }
    }

    /// Gives up those that have lingered.
    pub(super) fn give_up(&mut self, now: Instant) {
        while let Some((ended, number)) = self.ended.front().copied() {
            let is_same = |(place, _): &(Instant, Passage)| *place == ended;
            let there = self.places.get(&number).is_some_and(is_same);
            if there && now.duration_since(ended) < LINGER {
                break;
            }
            self.ended.pop_front();
            if there {
                self.places.remove(&number);
            }
        }
    }

    /// Gives one up before its time, if its record is in the log; whether it was there.
    pub(super) fn forget(&mut self, number: u32) -> bool {
        let Some((_, passage)) = self.places.get(&number) else {
            return false;
        };
        if !passage.gate().owes_record() {
            self.places.remove(&number);
        }
        true
    }
}
