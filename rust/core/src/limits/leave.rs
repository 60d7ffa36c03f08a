//! When a session is to be cut because its server or the process drains, or because of its
//! age: the rule that keeps a message from coming twice. Pure; time is an argument.
//!
//! In a dialogue that can be read the place is between two commands: what the client says next is
//! answered by us, and isn't passed on. Whoever says nothing is cut there too, after a while.
//!
//! In one that can't be read, a session whose last byte came from the client may wait for the answer
//! to a final dot: a cut there sends the message again. One whose server spoke last has had every
//! answer, and once both have been silent for a while nothing is on its way either.

use std::time::{Duration, Instant};

use crate::record::{EndReason, Side};
use crate::spec::DrainSpec;

/// What a session may be cut for, beside its silence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leave {
    /// When its server or the process began to drain, if one does.
    pub(crate) drains: Option<Instant>,
    /// When it will have reached its age, if there is one.
    pub(crate) aged: Option<Instant>,
    /// Its place in the spread, from 0 to 1.
    pub(crate) share: f64,
}

/// What a session is doing, as far as it matters for a cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// When payload last went either way.
    pub(crate) since: Instant,
    pub(crate) spoke: Side,
    pub(crate) standing: Standing,
}

/// What is known of a session's dialogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Every command has its reply, and no message is under way.
    BetweenCommands,
    /// A message is under way.
    InMessage,
    /// A message was said, and its answer is due.
    AnswerDue,
    /// Neither.
    Unclear,
}

impl Leave {
    /// When the session is to be cut, and why; none if it isn't as things stand.
    pub(crate) fn limit(&self, spec: &DrainSpec, moment: Moment) -> Option<(Instant, EndReason)> {
        let quiet = match moment.standing {
            _ if moment.spoke == Side::Client => None,
            Standing::BetweenCommands => Some(spec.quiet),
            Standing::Unclear => Some(spec.quiet_opaque),
            Standing::InMessage | Standing::AnswerDue => None,
        };
        let when_quiet = |from: Instant, reason| {
            let quiet_at = from.max(moment.since + quiet?);
            Some((quiet_at, reason))
        };
        let drain = self.turn(spec);
        let drain = drain.and_then(|from| when_quiet(from, EndReason::Drain));
        let age = self.aged.and_then(|at| when_quiet(at, EndReason::Age));
        let limits = [drain, age, self.deadline(spec)].into_iter().flatten();
        limits.min_by_key(|(at, _)| *at)
    }

    /// When it is cut whatever it does, if it drains.
    pub(crate) fn deadline(&self, spec: &DrainSpec) -> Option<(Instant, EndReason)> {
        let began = self.drains?;
        Some((began + spec.deadline, EndReason::DrainDeadline))
    }

    /// Why the session is to be cut at the next place for it, if it is to be by `now`.
    pub(crate) fn is_due(&self, spec: &DrainSpec, now: Instant) -> Option<EndReason> {
        let drain = self.turn(spec).map(|at| (at, EndReason::Drain));
        let age = self.aged.map(|at| (at, EndReason::Age));
        let due = [drain, age]
            .into_iter()
            .flatten()
            .find(|(at, _)| *at <= now);
        due.map(|(_, reason)| reason)
    }

    /// When its turn in the spread comes.
    fn turn(&self, spec: &DrainSpec) -> Option<Instant> {
        let began = self.drains?;
        Some(began + spec.spread.mul_f64(self.share))
    }
}

/// The place of session number `id` in a spread: successive ones are far apart.
pub(crate) fn share(id: u64) -> f64 {
    // Multiples of the golden ratio are spread evenly (Knuth, vol. 3, 6.4).
    let mixed = id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    f64::from(u32::try_from(mixed).unwrap_or_default()) / f64::from(u32::MAX)
}

/// How long a cut that can't be made just now is put off.
pub(crate) const AGAIN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Standing::{BetweenCommands, InMessage, Unclear};
    use super::*;

    const SPEC: DrainSpec = DrainSpec {
        quiet: Duration::from_secs(5),
        quiet_opaque: Duration::from_secs(30),
        spread: Duration::from_secs(60),
        deadline: Duration::from_secs(1800),
    };

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn seconds(start: Instant, limit: Option<(Instant, EndReason)>) -> Option<(u64, EndReason)> {
        limit.map(|(at, reason)| ((at - start).as_secs(), reason))
    }

    #[test]
    fn a_session_is_cut_only_once_its_server_spoke_last() {
        let start = Instant::now();
        let leave = Leave {
            drains: Some(at(start, 100)),
            aged: None,
            share: 0.5,
        };
        let limit = |since, spoke, standing| {
            let moment = Moment {
                since: at(start, since),
                spoke,
                standing,
            };
            seconds(start, leave.limit(&SPEC, moment))
        };
        // Its share of the spread first, then silence.
        let drain = |at| Some((at, EndReason::Drain));
        assert_eq!(limit(0, Side::Server, BetweenCommands), drain(130));
        assert_eq!(limit(129, Side::Server, BetweenCommands), drain(134));
        assert_eq!(limit(129, Side::Server, Unclear), drain(159));
        let never = Some((1900, EndReason::DrainDeadline));
        assert_eq!(limit(0, Side::Server, InMessage), never);
        assert_eq!(limit(0, Side::Client, BetweenCommands), never);
        assert_eq!(limit(1890, Side::Client, Unclear), never);
    }

    #[test]
    fn a_command_finds_it_due_from_its_turn_on() {
        let start = Instant::now();
        let leave = Leave {
            drains: Some(at(start, 100)),
            aged: Some(at(start, 200)),
            share: 0.5,
        };
        let due = |leave: &Leave, seconds| leave.is_due(&SPEC, at(start, seconds));
        assert_eq!(due(&leave, 129), None);
        assert_eq!(due(&leave, 130), Some(EndReason::Drain));
        let aged = Leave {
            drains: None,
            ..leave
        };
        assert_eq!(due(&aged, 199), None);
        assert_eq!(due(&aged, 200), Some(EndReason::Age));
    }

    #[test]
    fn age_waits_for_the_same_moment_and_has_no_deadline() {
        let start = Instant::now();
        let leave = Leave {
            drains: None,
            aged: Some(at(start, 3600)),
            share: 0.5,
        };
        let limit = |since, spoke| {
            let moment = Moment {
                since: at(start, since),
                spoke,
                standing: BetweenCommands,
            };
            seconds(start, leave.limit(&SPEC, moment))
        };
        assert_eq!(limit(10, Side::Server), Some((3600, EndReason::Age)));
        assert_eq!(limit(3598, Side::Server), Some((3603, EndReason::Age)));
        assert_eq!(limit(10, Side::Client), None);
    }

    #[test]
    fn nothing_is_cut_without_a_cause() {
        let leave = Leave {
            drains: None,
            aged: None,
            share: 0.0,
        };
        let moment = Moment {
            since: Instant::now(),
            spoke: Side::Server,
            standing: BetweenCommands,
        };
        assert_eq!(leave.limit(&SPEC, moment), None);
        assert_eq!(leave.is_due(&SPEC, Instant::now()), None);
    }

    proptest! {
        /// Sessions that came one after the other are cut evenly over the spread.
        #[test]
        fn shares_are_even(first: u64) {
            let mut shares: Vec<f64> = (0..1000).map(|n| share(first.wrapping_add(n))).collect();
            shares.sort_by(f64::total_cmp);
            for (rank, share) in shares.into_iter().enumerate() {
                prop_assert!((share - rank as f64 / 1000.0).abs() < 0.01);
            }
        }
    }
}
