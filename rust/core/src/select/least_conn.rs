//! The fewest sessions for its weight; among equals, the next one in turn.
//!
//! Equals are common: on a quiet farm all are at 0, and without the turn the first server
//! would get everything.

use crate::roster::Seats;

/// The least loaded one; the next in turn of equals.
pub(super) fn choose(seats: &Seats, may: impl Fn(usize) -> bool) -> Option<usize> {
    seats.least(may)
}
