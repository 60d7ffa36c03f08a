//! By the source: whose row of the table it falls on; where that one can't be picked or is beyond
//! the bound, the next of the source's own order of rows.

use crate::hashing::Maglev;
use crate::roster::Seats;
use crate::snapshot::Pool;

use super::BOUND;

/// Rows that are looked at. With half of all servers out of use, one source in 4 billion finds
/// none; it takes the least loaded.
const ATTEMPTS: u64 = 32;

/// Whose the source with this hash is; `table` has the member of each of its servers beside it.
pub(super) fn choose(
    pool: &Pool,
    seats: &Seats,
    table: (&Maglev, &[usize]),
    hash: u64,
    may: impl Fn(usize) -> bool,
) -> Option<usize> {
    let fits = |seat: &usize| {
        let seat = *seat;
        may(seat) && seats.is_pickable(seat) && seats.is_within(seat, BOUND)
    };
    let (table, members) = table;
    (0..ATTEMPTS)
        .filter_map(|attempt| table.find(hash, attempt))
        .map(|number| pool.members[members[number]].seat)
        .find(fits)
        .or_else(|| seats.least(may))
}
