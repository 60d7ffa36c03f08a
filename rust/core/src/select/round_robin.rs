//! In turn, by weight: the candidate that has waited longest for its share.

use super::Candidate;

/// The next one; the first of equals.
pub(super) fn pick<'a>(candidates: impl Iterator<Item = Candidate<'a>>) -> Option<Candidate<'a>> {
    candidates.min_by_key(|candidate| candidate.pass)
}
