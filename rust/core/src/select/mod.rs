//! Which server of a pool is next. One file per way to balance; all share the rotation.
//!
//! Picking and counting the session in happen under one lock per pool, so that the choice is
//! exact however many workers choose at the same moment.

mod least_conn;
mod round_robin;

use crate::server::InFlight;
use crate::snapshot::{Member, Pool};
use crate::spec::{Balance, ServerState};

/// A chosen server, with the session counted in.
#[derive(Debug)]
pub(crate) struct Picked<'a> {
    pub(crate) member: &'a Member,
    pub(crate) in_flight: InFlight,
    /// To be passed over when another one has to be found for the same session.
    pub(crate) index: usize,
}

/// A server that could be picked.
#[derive(Debug)]
struct Candidate<'a> {
    index: usize,
    member: &'a Member,
    /// Its place in the rotation.
    pass: u64,
}

/// The next server of `pool`, or none if every one is unusable or in `tried`.
pub(crate) fn pick<'a>(pool: &'a Pool, tried: &[usize]) -> Option<Picked<'a>> {
    let turn = pool.rotation.lock();
    // The two least passes of all that are usable. Those that were tried keep their places.
    let mut least = [u64::MAX; 2];
    let candidates = pool
        .members
        .iter()
        .enumerate()
        .filter_map(|(index, member)| {
            if member.weight == 0 || member.server.state() != ServerState::Up {
                return None;
            }
            let pass = turn.pass(&member.server);
            if pass < least[0] {
                least = [pass, least[0]];
            } else {
                least[1] = least[1].min(pass);
            }
            let candidate = Candidate {
                index,
                member,
                pass,
            };
            (!tried.contains(&index)).then_some(candidate)
        });
    let Candidate {
        index,
        member,
        pass,
    } = match pool.balance {
        Balance::LeastConn => least_conn::pick(candidates),
        Balance::RoundRobin => round_robin::pick(candidates),
    }?;
    let others = if pass == least[0] { least[1] } else { least[0] };
    turn.took(&member.server, member.weight, others);
    Some(Picked {
        member,
        in_flight: member.server.claim(),
        index,
    })
}

#[cfg(test)]
mod tests;
