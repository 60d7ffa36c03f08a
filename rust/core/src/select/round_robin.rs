//! In turn, by weight: whoever has waited longest for its share.

use crate::roster::Seats;

/// The next one; the first of equals.
pub(super) fn choose(seats: &Seats, may: impl Fn(usize) -> bool) -> Option<usize> {
    seats.next_in_turn(may)
}
