//! A moment that one thread sets and any may read: an `Instant` in an atomic. And a short time in
//! few bytes.

use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Moments are counted from here. Nothing that is timed happened before it.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// None until it is set. Nanoseconds since the epoch, plus one; 0 is none.
#[derive(Debug, Default)]
pub(crate) struct AtomicMoment(AtomicU64);

impl AtomicMoment {
    pub(crate) fn set(&self, moment: Instant) {
        self.0.store(number(moment), Relaxed);
    }

    /// Sets it unless it is set.
    pub(crate) fn set_first(&self, moment: Instant) {
        // Somebody else's moment is as good.
        let _ = self.0.compare_exchange(0, number(moment), Relaxed, Relaxed);
    }

    pub(crate) fn clear(&self) {
        self.0.store(0, Relaxed);
    }

    pub(crate) fn read(&self) -> Option<Instant> {
        let nanos = self.0.load(Relaxed).checked_sub(1)?;
        Some(*EPOCH + Duration::from_nanos(nanos))
    }
}

/// Since when the process drains, if it does.
#[derive(Debug, Default)]
pub(crate) struct ProcessDrain {
    pub(crate) since: AtomicMoment,
    /// Sessions don't wait for their turn in a spread.
    hurries: AtomicBool,
}

impl ProcessDrain {
    pub(crate) fn hurry(&self) {
        self.hurries.store(true, Relaxed);
    }

    pub(crate) fn hurries(&self) -> bool {
        self.hurries.load(Relaxed)
    }
}

/// Nanoseconds since the epoch, for what is compared often.
pub(crate) fn nanos(moment: Instant) -> u64 {
    number(moment) - 1
}

fn number(moment: Instant) -> u64 {
    let since = moment.saturating_duration_since(*EPOCH).as_nanos();
    u64::try_from(since).map_or(u64::MAX, |nanos| nanos.saturating_add(1))
}

/// A moment by the wall clock, in eight bytes: microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WallMoment(u64);

impl From<SystemTime> for WallMoment {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}

impl From<WallMoment> for SystemTime {
    fn from(WallMoment(micros): WallMoment) -> Self {
        UNIX_EPOCH + Duration::from_micros(micros)
    }
}

/// A time in microseconds, in four bytes, also where there may be none. One of more than 71 minutes
/// is that long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Micros(NonZeroU32);

impl From<Duration> for Micros {
    fn from(time: Duration) -> Self {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        // One more, so that none has a number as well.
        Self(NonZeroU32::MIN.saturating_add(micros))
    }
}

impl From<Micros> for Duration {
    fn from(Micros(number): Micros) -> Self {
        Self::from_micros(u64::from(number.get()) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_read() {
        let moment = AtomicMoment::default();
        assert_eq!(moment.read(), None);
        LazyLock::force(&EPOCH);
        let (first, second) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        moment.set_first(first);
        moment.set_first(second);
        assert_eq!(moment.read(), Some(first));
        moment.set(second);
        assert_eq!(moment.read(), Some(second));
        moment.clear();
        assert_eq!(moment.read(), None);
    }

    #[test]
    fn short_times_come_back() {
        assert_eq!(size_of::<Option<Micros>>(), 4);
        for micros in [0, 1, 1_000_000, u64::from(u32::MAX) - 1] {
            let time = Duration::from_micros(micros);
            assert_eq!(Duration::from(Micros::from(time)), time);
        }
        let longest = Duration::from(Micros::from(Duration::MAX));
        assert_eq!(longest, Duration::from_micros(u64::from(u32::MAX) - 1));
    }
}
