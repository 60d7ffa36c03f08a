//! How many sessions each source has, and how quickly it may begin new ones.
//!
//! Admission asks here, once for each session. What is remembered is [`bounded`](crate::bounded):
//! where there is no place for a source, its sessions are let in.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::bounded::{Bounded, Value};

/// Enough for the sources of a busy day. All of them take 12 MB.
const PLACES: usize = 262_144;

/// What each source may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SourceLimits {
    /// Sessions at a time, at least one.
    pub(crate) sessions: Option<u32>,
    pub(crate) rate: Option<Rate>,
}

/// So many sessions at once, and one more each interval.
///
/// The generic cell rate algorithm (ITU-T I.371): a source has a moment at which it will have used
/// up nothing. Each session moves that on by an interval, and is refused where it lies too far
/// ahead. It is a bucket of tokens in one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Nanoseconds between two sessions in the long run.
    interval: u64,
    /// How far ahead that moment may lie.
    tolerance: u64,
    /// Tells rates apart, as good as always.
    mark: u16,
}

impl Rate {
    /// `count` sessions each `period`, `burst` of them at once; both at least one.
    pub(crate) fn new(count: u32, period: Duration, burst: u32) -> Self {
        let period = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        // Rather a nanosecond too long: there are never more than `count`.
        let interval = period.div_ceil(count.max(1).into()).max(1);
        let tolerance = interval.saturating_mul(u64::from(burst.saturating_sub(1)));
        let mixed = (interval ^ tolerance.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            interval,
            tolerance,
            mark: (mixed >> 48) as u16,
        }
    }
}

/// Some of the limits of a source: those that are met, say, or those that are only tried out.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Met {
    /// It has as many sessions as it may.
    pub(crate) sessions: bool,
    /// It began too many lately.
    pub(crate) rate: bool,
}

impl Met {
    /// Whether some are that aren't among the others.
    pub(crate) fn beyond(self, others: Self) -> bool {
        self.sessions && !others.sessions || self.rate && !others.rate
    }
}

/// How full the table of sources is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SourcesStats {
    /// Sources that something is remembered of.
    pub entries: u64,
    /// The most there can be.
    pub places: u64,
    /// Those that were forgotten too early, for others.
    pub evicted: u64,
    /// Sessions that were let in, since there was no place for their source.
    pub untracked: u64,
}

/// The sources of a listener. Moments are nanoseconds, from whenever its owner likes; threads
/// needn't agree exactly which one it is.
#[derive(Debug)]
pub(crate) struct Sources(Bounded<Source>);

/// What is remembered of a source.
#[derive(Debug, Default, Clone, Copy)]
struct Source {
    used: Used,
    sessions: u32,
}

/// How much of its rate a source has used up.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Used {
    /// The moment from which on it is nothing.
    until: u64,
    /// By which rate.
    mark: u16,
}

impl Value for Source {
    fn is_idle(&self, now: u64) -> bool {
        self.sessions == 0 && self.used.until <= now
    }

    fn is_pinned(&self) -> bool {
        self.sessions > 0
    }

    fn worth(&self) -> u64 {
        self.used.until
    }
}

impl Sources {
    pub(crate) fn new() -> Self {
        Self::with_places(PLACES)
    }

    fn with_places(places: usize) -> Self {
        Self(Bounded::new(places))
    }

    /// Counts a session of the source `key` in, unless that is above limits that aren't only
    /// `tried` out. By each limit by itself: one that is tried out and met counts nothing, so that
    /// it meets as many as it would, and takes nothing from the other one.
    ///
    /// # Errors
    /// The limits that are met, tried out or not. Who is refused has used up nothing.
    pub(crate) fn enter(
        self: &Arc<Self>,
        key: u128,
        limits: &SourceLimits,
        tried: Met,
        now: u64,
    ) -> Result<(SourcePlace, Met), Met> {
        let entered = self
            .0
            .with(key, now, |source| source.enter(limits, tried, now));
        let met = entered.transpose()?;
        let is_counted = met.is_some_and(|met| !met.sessions);
        Ok((self.place(key, is_counted), met.unwrap_or_default()))
    }

    /// The limits that a session of the source `key` would meet now.
    pub(crate) fn look(&self, key: u128, limits: &SourceLimits, now: u64) -> Met {
        let met = |source: &mut Source| source.after(limits, now).0;
        self.0.find(key, met).unwrap_or_default()
    }

    /// Counts a session in that an earlier process let in, whatever the limits are.
    pub(crate) fn adopt(self: &Arc<Self>, key: u128, now: u64) -> SourcePlace {
        let adopted = self.0.with(key, now, |source| source.sessions += 1);
        self.place(key, adopted.is_some())
    }

    fn place(self: &Arc<Self>, key: u128, tracked: bool) -> SourcePlace {
        SourcePlace {
            sources: tracked.then(|| Arc::clone(self)),
            key,
        }
    }

    pub(crate) fn stats(&self, now: u64) -> SourcesStats {
        SourcesStats {
            entries: self.0.entries(now),
            places: self.0.places(),
            evicted: self.0.evicted(),
            untracked: self.0.untracked(),
        }
    }
}

impl Source {
    fn enter(&mut self, limits: &SourceLimits, tried: Met, now: u64) -> Result<Met, Met> {
        let (met, used) = self.after(limits, now);
        if met.beyond(tried) {
            return Err(met);
        }
        self.used = used;
        self.sessions += u32::from(!met.sessions);
        Ok(met)
    }

    /// The limits that one more session meets, and what is used up after it.
    fn after(&self, limits: &SourceLimits, now: u64) -> (Met, Used) {
        let used = limits
            .rate
            .map_or(Some(self.used), |rate| self.used_after(rate, now));
        let met = Met {
            sessions: limits.sessions.is_some_and(|most| self.sessions >= most),
            rate: used.is_none(),
        };
        (met, used.unwrap_or(self.used))
    }

    /// What is used up after one more session; none where the rate is met.
    fn used_after(&self, rate: Rate, now: u64) -> Option<Used> {
        let latest = now.saturating_add(rate.tolerance);
        let mut until = self.used.until;
        if self.used.mark != rate.mark {
            // By another rate it may be days ahead. Who used that up has one session left of this
            // one's burst, since nothing is noted of refusals that could bring it nearer.
            until = until.min(latest);
        }
        (until <= latest).then(|| Used {
            until: until.max(now).saturating_add(rate.interval),
            mark: rate.mark,
        })
    }
}

/// A session's place at its source; dropped, it is counted out.
#[derive(Debug)]
pub(crate) struct SourcePlace {
    /// None where the source isn't tracked.
    sources: Option<Arc<Sources>>,
    key: u128,
}

impl Drop for SourcePlace {
    fn drop(&mut self) {
        if let Some(sources) = &self.sources {
            // It is there: who has sessions is pinned.
            sources.0.find(self.key, |source| source.sessions -= 1);
        }
    }
}

#[cfg(test)]
mod tests;
