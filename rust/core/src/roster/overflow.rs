//! Whether the sessions of a pool go to other pools, and when they come back. Pure.
//!
//! They go at once when no server of the pool is up. They come back once one has been up for
//! [`STEADY`] without a break, so that a server that comes and goes doesn't throw them to and fro;
//! and no faster than slow start has a server take its share, since a farm that comes back has cold
//! caches and hears from everybody who was turned away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

/// How long a server has to be up before sessions come back; nanoseconds, as all times here.
pub(crate) const STEADY: u64 = 10_000_000_000;

/// Where the sessions of a pool go.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    /// Elsewhere, since no server was up yet. That the first one comes up ends it: it isn't one
    /// that has failed.
    Before,
    Home,
    Elsewhere,
    /// A server has been up since then. Sessions come back as credit adds up to whole ones.
    ComingBack {
        since: u64,
        credit: f64,
    },
}

/// What is known of a pool that overflows into others.
#[derive(Debug)]
pub(crate) struct Overflow {
    stage: Stage,
    slow_start: u64,
    /// How often it has begun, because servers were gone.
    begun: u64,
    /// Sessions that other pools took, by the pool.
    taken: BTreeMap<Arc<str>, u64>,
}

/// Where the sessions of a pool go, as it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OverflowCourse {
    /// To the pool itself.
    Home,
    /// To other pools: no server of it is up, or hasn't been for long enough.
    Elsewhere,
    /// More and more of them to the pool itself again.
    ComingBack,
}

/// What a pool's overflow comes to at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct OverflowStats {
    /// Where its sessions go.
    pub course: OverflowCourse,
    /// Which share of its sessions it has, of those that it has room for; from 0 to 1.
    pub share: f64,
    /// How often its sessions began to go elsewhere because no server was up.
    pub begun: u64,
    /// Sessions that other pools took, ever, by the pool.
    pub sessions: BTreeMap<String, u64>,
}

impl Overflow {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Before,
            slow_start: 0,
            begun: 0,
            taken: BTreeMap::new(),
        }
    }

    /// Over this time sessions come back.
    pub(super) fn set_slow_start(&mut self, time: Duration) {
        self.slow_start = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    }

    /// Whether a server of the pool is up, from now on.
    pub(super) fn note(&mut self, is_up: bool, now: u64) {
        self.look(now);
        self.stage = match (self.stage, is_up) {
            (Stage::Before | Stage::Home, true) => Stage::Home,
            (Stage::Before, false) => Stage::Before,
            (Stage::Home, false) => {
                self.begun += 1;
                Stage::Elsewhere
            }
            (Stage::ComingBack { .. }, false) => Stage::Elsewhere,
            (Stage::Elsewhere, true) => Stage::ComingBack {
                since: now,
                credit: 0.0,
            },
            (other, _) => other,
        };
    }

    /// Whether a session that comes now is the pool's own.
    pub(super) fn keeps(&mut self, now: u64) -> bool {
        self.look(now);
        let share = self.share(now);
        match &mut self.stage {
            Stage::Home => true,
            Stage::Before | Stage::Elsewhere => false,
            Stage::ComingBack { credit, .. } => {
                *credit += share;
                let comes = *credit >= 1.0;
                if comes {
                    *credit -= 1.0;
                }
                comes
            }
        }
    }

    /// Which share of the sessions are the pool's own, from 0 to 1.
    pub(super) fn share(&self, now: u64) -> f64 {
        match self.stage {
            Stage::Home => 1.0,
            Stage::Before | Stage::Elsewhere => 0.0,
            Stage::ComingBack { since, .. } => {
                let steady = now.saturating_sub(since);
                match steady.checked_sub(STEADY) {
                    None => 0.0,
                    Some(back) if back >= self.slow_start => 1.0,
                    Some(back) => back as f64 / self.slow_start as f64,
                }
            }
        }
    }

    /// Another pool took a session.
    pub(super) fn took(&mut self, pool: &Arc<str>) {
        *self.taken.entry(Arc::clone(pool)).or_default() += 1;
    }

    pub(super) fn stats(&mut self, now: u64) -> OverflowStats {
        self.look(now);
        let share = self.share(now);
        OverflowStats {
            course: match self.stage {
                Stage::Home => OverflowCourse::Home,
                Stage::ComingBack { .. } if share > 0.0 => OverflowCourse::ComingBack,
                _ => OverflowCourse::Elsewhere,
            },
            share,
            begun: self.begun,
            sessions: self
                .taken
                .iter()
                .map(|(pool, sessions)| (pool.to_string(), *sessions))
                .collect(),
        }
    }

    /// Brings up to date what time changes.
    fn look(&mut self, now: u64) {
        if let Stage::ComingBack { since, .. } = self.stage
            && now.saturating_sub(since) >= STEADY.saturating_add(self.slow_start)
        {
            self.stage = Stage::Home;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn overflow(slow_start: u64) -> Overflow {
        let mut made = Overflow::new();
        made.set_slow_start(Duration::from_secs(slow_start));
        made
    }

    #[test]
    fn before_the_first_server_is_up_sessions_go_elsewhere_and_come_at_once() {
        let mut overflow = overflow(60);
        overflow.note(false, 0);
        assert!(!overflow.keeps(1));
        overflow.note(true, 2);
        assert!(overflow.keeps(2));
        assert_eq!(overflow.stats(2).begun, 0);
    }

    #[test]
    fn sessions_come_back_when_a_server_has_been_up_for_a_while() {
        let mut overflow = overflow(0);
        overflow.note(true, 0);
        overflow.note(false, SECOND);
        assert_eq!(overflow.stats(SECOND).course, OverflowCourse::Elsewhere);
        overflow.note(true, 2 * SECOND);
        assert!(!overflow.keeps(2 * SECOND + STEADY - 1));
        assert!(overflow.keeps(2 * SECOND + STEADY));
        assert_eq!(
            overflow.stats(2 * SECOND + STEADY).course,
            OverflowCourse::Home
        );
    }

    #[test]
    fn a_server_that_comes_and_goes_brings_none_back() {
        let mut overflow = overflow(0);
        overflow.note(true, 0);
        for at in 1..100 {
            overflow.note(at % 2 == 0, at * 6 * SECOND);
            assert!(!overflow.keeps(at * 6 * SECOND + 5 * SECOND));
        }
        assert_eq!(overflow.stats(600 * SECOND).begun, 1);
    }

    #[test]
    fn they_come_back_over_slow_start() {
        let mut overflow = overflow(100);
        overflow.note(true, 0);
        overflow.note(false, 1);
        overflow.note(true, 1);
        let of_1000 = |overflow: &mut Overflow, at: u64| {
            let now = 1 + STEADY + at * SECOND;
            (0..1000).filter(|_| overflow.keeps(now)).count()
        };
        assert_eq!(of_1000(&mut overflow, 0), 0);
        assert!(of_1000(&mut overflow, 25).abs_diff(250) <= 1);
        assert!(of_1000(&mut overflow, 80).abs_diff(800) <= 1);
        assert_eq!(of_1000(&mut overflow, 100), 1000);
    }

    proptest! {
        /// Never while no server is up, nor before one has been up long enough; always after
        /// that and slow start.
        #[test]
        fn keeps_only_when_it_may(
            slow_start in 0_u64..30,
            steps in prop::collection::vec((0_u64..20, any::<bool>()), 1..60),
        ) {
            let mut overflow = overflow(slow_start);
            let mut now = 0;
            overflow.note(true, now);
            // Since when a server is up without a break, and whether it was ever gone.
            let mut up_since = Some(0);
            let mut was_gone = false;
            for (wait, is_up) in steps {
                now += wait * SECOND;
                overflow.note(is_up, now);
                up_since = if is_up { up_since.or(Some(now)) } else { None };
                was_gone |= !is_up;
                // Once home, it was never gone.
                let steady = up_since.map(|since| now - since);
                if was_gone && steady.is_some_and(|it| it >= STEADY + slow_start * SECOND) {
                    was_gone = false;
                }
                let keeps = overflow.keeps(now);
                match steady {
                    None => prop_assert!(!keeps),
                    Some(_) if !was_gone => prop_assert!(keeps),
                    Some(it) if it < STEADY => prop_assert!(!keeps),
                    Some(_) => {}
                }
            }
        }
    }
}
