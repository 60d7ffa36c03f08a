//! By the source: of the servers that can be picked and are within the bound, whose claim is
//! highest. Each takes a look at every server, and moves nobody but whom it must.

use crate::hashing::Rendezvous;
use crate::roster::Seats;
use crate::snapshot::Pool;

use super::BOUND;

/// Whose the source with this hash is.
pub(super) fn choose(
    pool: &Pool,
    seats: &Seats,
    claims: &Rendezvous,
    hash: u64,
    may: impl Fn(usize) -> bool,
) -> Option<usize> {
    let fits = |seat: usize| may(seat) && seats.is_pickable(seat) && seats.is_within(seat, BOUND);
    let members = pool.members.iter().enumerate();
    members
        .filter(|(_, member)| fits(member.seat))
        .map(|(index, member)| (claims.claim(index, member.weight, hash), member.seat))
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, seat)| seat)
}
