//! How many there are of something in one place, exactly, whichever workers they are on: sessions,
//! connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

/// A number of sessions or connections; the process, a listener and a server have theirs.
#[derive(Debug, Default)]
pub(crate) struct Occupancy(CachePadded<AtomicU64>);

impl Occupancy {
    pub(crate) fn now(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Counts one in.
    pub(crate) fn enter(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Counts one in unless `limit` is reached; whether it did.
    pub(crate) fn try_enter(&self, limit: Option<u64>) -> bool {
        let Some(limit) = limit else {
            self.enter();
            return true;
        };
        // Not added first and taken back: another one would meanwhile see one too many.
        let more = |now| (now < limit).then_some(now + 1);
        self.0.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// Counts one out that was counted in.
    pub(crate) fn leave(&self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// One that is counted in, until it is dropped.
#[derive(Debug)]
pub(crate) struct Occupied(Arc<Occupancy>);

impl Occupied {
    /// Unless `limit` is reached.
    pub(crate) fn take(of: &Arc<Occupancy>, limit: Option<u64>) -> Option<Self> {
        of.try_enter(limit).then(|| Self(Arc::clone(of)))
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_limit_is_exact_whoever_comes_at_once() {
        let place = Occupancy::default();
        let entered: usize = thread::scope(|scope| {
            let enter = || (0..1000).filter(|_| place.try_enter(Some(1500))).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(enter)).collect();
            threads.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(entered, 1500);
        assert_eq!(place.now(), 1500);
        assert!(!place.try_enter(Some(1500)));
        place.leave();
        assert!(place.try_enter(Some(1500)));
        assert!(place.try_enter(None));
        assert_eq!(place.now(), 1501);
    }
}
