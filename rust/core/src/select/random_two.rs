//! Of two drawn by weight the one with fewer sessions for its weight. Several balancers that see
//! only their own sessions don't all send the next one to the same server, as they do where each
//! takes the least loaded of all. (Mitzenmacher, "The Power of Two Choices in Randomized Load
//! Balancing", 2001.)

use crate::roster::Seats;

/// The better of two; of equals the next in turn. None where nothing drawn suits.
pub(super) fn choose(seats: &mut Seats, may: impl Fn(usize) -> bool) -> Option<usize> {
    let drawn = [seats.draw(), seats.draw()];
    let suiting = drawn.into_iter().flatten().filter(|seat| may(*seat));
    suiting
        .min_by_key(|seat| seats.rank(*seat))
        .or_else(|| seats.least(may))
}
