//! Counters and histograms that one worker writes and anybody reads.
//!
//! Each worker has its own, on cache lines of its own, so that counting costs no traffic
//! between cores; reading sums them up.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use serde::Serialize;

use crate::moment::AtomicMoment;
use crate::spec::wire;

/// The number of a worker, from 0. In few bytes: each session has some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorkerId(u32);

impl WorkerId {
    pub(crate) fn new(index: usize) -> Self {
        Self(index as u32)
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// One `T` for each worker.
#[derive(Debug)]
pub(crate) struct PerWorker<T>(Box<[CachePadded<T>]>);

impl<T: Default> PerWorker<T> {
    pub(crate) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| CachePadded::default()).collect())
    }
}

impl<T> PerWorker<T> {
    /// What `worker` writes.
    pub(crate) fn of(&self, worker: WorkerId) -> &T {
        &self.0[worker.index()]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.0.iter().map(|one| &**one)
    }

    /// The sum of one counter over all workers.
    pub(crate) fn sum(&self, counter: impl Fn(&T) -> &Counter) -> u64 {
        self.iter().map(|one| counter(one).value()).sum()
    }
}

/// Only ever grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, number: u64) {
        self.0.fetch_add(number, Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One counter for each member of a closed list with `N` members.
#[derive(Debug)]
pub(crate) struct Tally<const N: usize>([Counter; N]);

impl<const N: usize> Default for Tally<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl<const N: usize> Tally<N> {
    pub(crate) fn count(&self, member: usize) {
        self.0[member].add(1);
    }

    pub(crate) fn value(&self, member: usize) -> u64 {
        self.0[member].value()
    }
}

const BUCKETS: usize = 16;

/// The upper bounds of a histogram's buckets, without the last (infinite) one.
pub(crate) type Bounds = [Duration; BUCKETS - 1];

/// For how long a server took to accept: a local one takes 50 us, a lost SYN 1 s.
pub(crate) const CONNECT_BOUNDS: Bounds = millis([
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2000.0, 3000.0,
]);

/// For how long a server took to greet: from a local one to postscreen's 6 s and the limit.
pub(crate) const GREETING_BOUNDS: Bounds = millis([
    0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 7.5e3, 15e3,
]);

/// For how long sessions lasted: from a check to a mailing over a slow line.
pub(crate) const SESSION_BOUNDS: Bounds = millis([
    1.0, 5.0, 25.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 10e3, 30e3, 60e3, 300e3, 900e3, 3600e3,
]);

/// For how long sessions waited for a place at a server: from a place that gets free at once to
/// the longest that may be configured.
pub(crate) const QUEUE_BOUNDS: Bounds = millis([
    1.0, 5.0, 25.0, 100.0, 250.0, 500.0, 1e3, 2e3, 5e3, 10e3, 15e3, 20e3, 30e3, 60e3, 240e3,
]);

const fn millis(bounds: [f64; BUCKETS - 1]) -> Bounds {
    let mut result = [Duration::ZERO; BUCKETS - 1];
    let mut at = 0;
    while at < bounds.len() {
        result[at] = Duration::from_micros((bounds[at] * 1000.0) as u64);
        at += 1;
    }
    result
}

/// Durations by size.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    counts: Tally<BUCKETS>,
    nanos: Counter,
}

impl Histogram {
    pub(crate) fn observe(&self, bounds: &Bounds, time: Duration) {
        self.counts
            .count(bounds.partition_point(|bound| *bound < time));
        self.nanos
            .add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// The upper bounds of histograms, each without its last (infinite) one. They are told once: a farm
/// has tens of thousands of histograms.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BoundsStats {
    /// Of how long sessions lasted.
    #[serde(serialize_with = "wire::all_seconds")]
    pub session: Vec<Duration>,
    /// Of how long servers took to accept.
    #[serde(serialize_with = "wire::all_seconds")]
    pub connect: Vec<Duration>,
    /// Of how long servers took to greet after that.
    #[serde(serialize_with = "wire::all_seconds")]
    pub greeting: Vec<Duration>,
    /// Of how long sessions waited for a server.
    #[serde(serialize_with = "wire::all_seconds")]
    pub queue: Vec<Duration>,
}

impl BoundsStats {
    pub(crate) fn read() -> Self {
        Self {
            session: SESSION_BOUNDS.to_vec(),
            connect: CONNECT_BOUNDS.to_vec(),
            greeting: GREETING_BOUNDS.to_vec(),
            queue: QUEUE_BOUNDS.to_vec(),
        }
    }
}

/// A histogram of all workers, as it was read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HistogramStats {
    /// Observations per bucket, not summed up; one more than there are bounds.
    pub counts: Vec<u64>,
    /// Of everything observed.
    #[serde(with = "wire::seconds")]
    pub sum: Duration,
}

impl HistogramStats {
    pub(crate) fn read<'a>(histograms: &(impl Iterator<Item = &'a Histogram> + Clone)) -> Self {
        let count = |bucket| histograms.clone().map(|h| h.counts.value(bucket)).sum();
        Self {
            counts: (0..BUCKETS).map(count).collect(),
            sum: Duration::from_nanos(histograms.clone().map(|h| h.nanos.value()).sum()),
        }
    }
}

/// What a worker counts of its own doings.
#[derive(Debug, Default)]
pub(crate) struct WorkerCounters {
    /// Sessions begun and ended; the difference is how many there are now.
    pub(crate) begun: Counter,
    pub(crate) ended: Counter,
    pub(crate) copied_bytes: Counter,
    pub(crate) spliced_bytes: Counter,
    /// Bytes that the kernel path carried.
    pub(crate) kernel_bytes: Counter,
    /// Pipes made and closed.
    pub(crate) pipes_made: Counter,
    pub(crate) pipes_closed: Counter,
    pub(crate) pipe_fallbacks: Counter,
    /// Whether the system refuses splice(2): then everything is copied.
    pub(crate) splice_refused: AtomicBool,
    /// When the worker last showed that it moves.
    pub(crate) moved: AtomicMoment,
    /// Whether its listeners were taken out of use because it didn't.
    pub(crate) stuck: AtomicBool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observations_land_in_their_buckets() {
        let histograms: PerWorker<Histogram> = PerWorker::new(2);
        let ms = Duration::from_millis;
        for (worker, time) in [(0, ms(1)), (1, ms(1)), (1, ms(2)), (0, ms(7_200_000))] {
            histograms
                .of(WorkerId::new(worker))
                .observe(&SESSION_BOUNDS, time);
        }
        let stats = HistogramStats::read(&histograms.iter());
        assert_eq!(BoundsStats::read().session.len() + 1, stats.counts.len());
        // A bound belongs to its bucket, as Prometheus' `le` has it.
        assert_eq!(stats.counts[..2], [2, 1]);
        assert_eq!(stats.counts.last(), Some(&1));
        assert_eq!(stats.counts.iter().sum::<u64>(), 4);
        assert_eq!(stats.sum, ms(7_200_004));
    }

    #[test]
    fn bounds_rise() {
        assert!(CONNECT_BOUNDS.is_sorted_by(|a, b| a < b));
        assert!(GREETING_BOUNDS.is_sorted_by(|a, b| a < b));
        assert!(SESSION_BOUNDS.is_sorted_by(|a, b| a < b));
        assert_eq!(CONNECT_BOUNDS[0], Duration::from_micros(100));
    }
}
