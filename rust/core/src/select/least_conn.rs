//! The fewest sessions for its weight; among equals, the next one in turn.
//!
//! Equals are common: on a quiet farm all are at 0, and without the turn the first server
//! would get everything.

use std::cmp::Ordering;

use super::Candidate;

/// The least loaded one; the next in turn of equals.
pub(super) fn pick<'a>(candidates: impl Iterator<Item = Candidate<'a>>) -> Option<Candidate<'a>> {
    candidates.min_by(|a, b| load(a, b).then(a.pass.cmp(&b.pass)))
}

/// Compares sessions per weight, without dividing.
fn load(a: &Candidate<'_>, b: &Candidate<'_>) -> Ordering {
    let crossed = |one: &Candidate<'_>, other: &Candidate<'_>| {
        one.member
            .server
            .in_flight()
            .saturating_mul(u64::from(other.member.weight))
    };
    crossed(a, b).cmp(&crossed(b, a))
}
