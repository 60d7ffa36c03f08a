//! The least work: sessions and bytes, by the time to greeting, for its weight; among equals, the
//! next one in turn.

use crate::roster::Seats;

/// The one with the least load as it was observed.
pub(super) fn choose(seats: &Seats, may: impl Fn(usize) -> bool) -> Option<usize> {
    seats.lightest(may)
}
