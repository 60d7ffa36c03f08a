//! A server for a session of a listener: of its pool or, where that has none for it, of a pool that
//! it overflows into.

use std::net::IpAddr;
use std::time::Instant;

use crate::record::EndReason;
use crate::snapshot::{Listener, Member, Pool};

use super::{Asking, Picked, foresee, look, pick};

/// What a session has tried in vain.
#[derive(Debug, Default)]
pub(crate) struct InVain {
    /// By the pool, the listener's own first: indexes of members.
    members: Vec<Vec<usize>>,
    /// Whether it is one of those that the listener's pool keeps, once that is decided.
    is_kept: Option<bool>,
}

impl InVain {
    /// Of the listener's own pool.
    pub(crate) fn own(&self) -> &[usize] {
        self.of(0)
    }

    pub(crate) fn add(&mut self, pool: usize, member: usize) {
        if self.members.len() <= pool {
            self.members.resize_with(pool + 1, Vec::new);
        }
        self.members[pool].push(member);
    }

    fn of(&self, pool: usize) -> &[usize] {
        self.members.get(pool).map_or(&[], Vec::as_slice)
    }
}

/// The next server for a session, and the number of its pool among the listener's.
///
/// While the listener's pool keeps the session, its servers come first; then those of pools where a
/// server is up, in their order; at last all that can be tried at all.
///
/// # Errors
/// Why the listener's own pool has none, where no other has.
pub(crate) fn pick_anywhere<'a>(
    listener: &'a Listener,
    client: IpAddr,
    tried: &mut InVain,
    now: Instant,
) -> Result<(Picked<'a>, usize), EndReason> {
    let own = &listener.pool;
    let from = |pool: &'a Pool, number: usize, tried: &InVain| {
        let tried = tried.of(number);
        let asking = Asking { client, tried, now };
        pick(pool, &asking).map(|picked| (picked, number))
    };
    if listener.overflow.is_empty() {
        return from(own, 0, tried);
    }
    let keeps = *tried.is_kept.get_or_insert_with(|| own.roster.keeps(now));
    if keeps && let Ok(found) = from(own, 0, tried) {
        return Ok(found);
    }
    for must_be_up in [true, false] {
        for (number, pool) in listener.pools().enumerate() {
            // The own one's turn was before, or is behind those that are up.
            let is_next = (number > 0 && pool.roster.is_up(now)) == must_be_up;
            if is_next && let Ok(found) = from(pool, number, tried) {
                return Ok(found);
            }
        }
    }
    from(own, 0, tried)
}

/// Whether a server could be picked at this moment for a session of a listener, or waited for.
///
/// # Errors
/// Why its own pool has none.
pub(crate) fn look_anywhere(listener: &Listener) -> Result<(), EndReason> {
    look(&listener.pool).or_else(|why| {
        let found = listener.pools().skip(1).any(|pool| look(pool).is_ok());
        if found { Ok(()) } else { Err(why) }
    })
}

/// The server that the next session of a client with a listener's pool would get at this moment, if
/// any, and its pool; not certain where lots are drawn, nor while sessions come back to the pool.
pub(crate) fn foresee_anywhere<'a>(
    own: &'a Pool,
    others: &[&'a Pool],
    client: IpAddr,
) -> Option<(&'a Pool, &'a Member)> {
    let now = Instant::now();
    let from = |pool: &'a Pool| foresee(pool, client).map(|member| (pool, member));
    if own.roster.mostly_keeps(now)
        && let Some(found) = from(own)
    {
        return Some(found);
    }
    let up = others.iter().filter(|pool| pool.roster.is_up(now));
    let all = up.chain([&own]).chain(others);
    all.copied().find_map(from)
}
