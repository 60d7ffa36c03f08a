//! Which server of a pool is next. One file per way to balance; all share the rotation.
//!
//! Picking and counting the session in happen under one lock per pool, so that the choice is
//! exact however many workers choose at the same moment.

mod least_conn;
mod round_robin;

use crate::record::EndReason;
use crate::server::{InFlight, Turn};
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

/// The next server of `pool`.
///
/// # Errors
/// Why there is none: every one is unusable, full or in `tried`.
pub(crate) fn pick<'a>(pool: &'a Pool, tried: &[usize]) -> Result<Picked<'a>, EndReason> {
    let turn = pool.rotation.lock();
    let (chosen, others) = choose(pool, &turn, tried)?;
    // A session has one turn, whatever it comes to. Were the server that takes it in another's
    // place charged as well, the one that fails would be next again, for every session.
    if tried.is_empty() {
        turn.took(&chosen.member.server, chosen.member.weight, others);
    }
    Ok(Picked {
        member: chosen.member,
        in_flight: chosen.member.server.claim(),
        index: chosen.index,
    })
}

/// The server of `pool` that [`pick`] would pick at this moment, if any.
pub(crate) fn foresee(pool: &Pool) -> Option<&Member> {
    let turn = pool.rotation.lock();
    choose(pool, &turn, &[])
        .ok()
        .map(|(chosen, _)| chosen.member)
}

/// Who is chosen, and the least pass of the others that are usable.
fn choose<'a>(
    pool: &'a Pool,
    turn: &Turn<'_>,
    tried: &[usize],
) -> Result<(Candidate<'a>, u64), EndReason> {
    // The two least passes of all that are usable. Those that were tried keep their places.
    let mut least = [u64::MAX; 2];
    let candidates = pool
        .members
        .iter()
        .enumerate()
        .filter_map(|(index, member)| {
            if !is_usable(member) || is_full(member) {
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
    let picked = match pool.balance {
        Balance::LeastConn => least_conn::pick(candidates),
        Balance::RoundRobin => round_robin::pick(candidates),
    };
    let chosen = picked.ok_or_else(|| why_none(pool))?;
    let others = if chosen.pass == least[0] {
        least[1]
    } else {
        least[0]
    };
    Ok((chosen, others))
}

/// Whether a server of `pool` could be picked at this moment.
///
/// # Errors
/// Why none could.
pub(crate) fn look(pool: &Pool) -> Result<(), EndReason> {
    let pickable = |member: &Member| is_usable(member) && !is_full(member);
    if pool.members.iter().any(pickable) {
        return Ok(());
    }
    Err(why_none(pool))
}

fn is_usable(member: &Member) -> bool {
    member.weight > 0 && member.server.state() == ServerState::Up
}

/// Exact while the rotation is locked: nobody else picks in the pool meanwhile.
fn is_full(member: &Member) -> bool {
    let now = member.server.in_flight();
    member.max_sessions.is_some_and(|most| now >= most)
}

/// What keeps every server of `pool` from being picked.
fn why_none(pool: &Pool) -> EndReason {
    let any = |is: &dyn Fn(&Member) -> bool| pool.members.iter().any(is);
    let in_state = |state| any(&|member| member.weight > 0 && member.server.state() == state);
    if any(&|member| is_usable(member) && is_full(member)) {
        EndReason::Full
    } else if in_state(ServerState::Drain) {
        EndReason::Draining
    } else if in_state(ServerState::Maint) {
        EndReason::Maintenance
    } else {
        EndReason::NoServer
    }
}

#[cfg(test)]
mod tests;
