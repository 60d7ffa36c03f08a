//! Which server of a pool is next. One file per way to balance.
//!
//! Picking and counting the session in happen under the lock of the pool's roster, so that the
//! choice is exact however many workers choose at the same moment. Every way to balance chooses
//! among the servers that can be picked at this moment: up, with room, not held back by slow
//! start, backups only where nobody else is in use.

mod least_conn;
mod least_load;
mod maglev;
mod overflow;
mod random_two;
mod round_robin;
mod source_hash;

use std::net::IpAddr;
use std::time::Instant;

use crate::moment::nanos;
use crate::record::EndReason;
use crate::roster::{InFlight, Seats, Waiting};
use crate::snapshot::{Choice, Member, Pool};
use crate::spec::ServerState;

pub(crate) use overflow::{InVain, foresee_anywhere, look_anywhere, pick_anywhere};

/// By hashes no server gets more than this times its share of all sessions. (Mirrokni, Thorup and
/// Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2018.)
const BOUND: (u64, u64) = (5, 4);

/// Who a server is picked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking<'a> {
    pub(crate) client: IpAddr,
    /// Indexes of members that this session has tried in vain.
    pub(crate) tried: &'a [usize],
    pub(crate) now: Instant,
}

/// A chosen server, with the session counted in.
#[derive(Debug)]
pub(crate) struct Picked<'a> {
    pub(crate) member: &'a Member,
    pub(crate) in_flight: InFlight,
    /// To be passed over when another one has to be found for the same session.
    pub(crate) index: usize,
}

/// The next server of `pool`.
///
/// # Errors
/// Why there is none: every one is unusable, full or was tried. [`EndReason::Full`] also where
/// others wait already.
pub(crate) fn pick<'a>(pool: &'a Pool, asking: &Asking<'_>) -> Result<Picked<'a>, EndReason> {
    let first = asking.tried.is_empty();
    let mut seats = pool.roster.lock();
    seats.refresh(nanos(asking.now), first);
    let choice = choose(pool, &mut seats, asking)?;
    let seat = choice.seat;
    // A session has one turn, whatever it comes to. Were the server that takes it in another's
    // place charged as well, the one that fails would be next again, for every session.
    seats.take(seat, first);
    let in_flight = pool.roster.guard(&seats, seat);
    drop(seats);
    if !choice.for_once {
        stays(pool, asking, &in_flight);
    }
    given(pool, in_flight)
}

/// The same for somebody who waited for it. A source whose own server was full as all were is at
/// another one for this once.
///
/// # Errors
/// As of [`given`].
pub(crate) fn given_after_waiting<'a>(
    pool: &'a Pool,
    asking: &Asking<'_>,
    in_flight: InFlight,
) -> Result<Picked<'a>, EndReason> {
    let own = own_seat(pool, &pool.roster.lock(), asking);
    if own.is_none_or(|seat| seat == in_flight.seat()) {
        stays(pool, asking, &in_flight);
    }
    given(pool, in_flight)
}

/// Notes that the client's source has a session with a server, where that counts.
fn stays(pool: &Pool, asking: &Asking<'_>, in_flight: &InFlight) {
    if let Some(sticky) = pool.sticky {
        let key = sticky.source.key(asking.client);
        let (server, now) = (in_flight.server().id, nanos(asking.now));
        pool.roster.sticky().note(key, server, now, sticky.ttl);
    }
}

/// The seat of the server that the client's source stays with, while it can.
fn own_seat(pool: &Pool, seats: &Seats, asking: &Asking<'_>) -> Option<usize> {
    let sticky = pool.sticky?;
    let key = sticky.source.key(asking.client);
    let own = pool.roster.sticky().find(key, nanos(asking.now))?;
    let seat = seats.seat_of(own)?;
    (seats.is_wanted(seat) && suits(pool, asking.tried, seat)).then_some(seat)
}

/// A place at a server of `pool`, as that of a member.
///
/// # Errors
/// Where the server is none, which only a bug can bring about.
pub(crate) fn given(pool: &Pool, in_flight: InFlight) -> Result<Picked<'_>, EndReason> {
    let index = pool.member_at(in_flight.seat());
    let index = index.ok_or(EndReason::NoServer)?;
    Ok(Picked {
        member: &pool.members[index],
        in_flight,
        index,
    })
}

/// What waiting for a server of `pool` comes down to: the seats that would do.
pub(crate) fn waiting(pool: &Pool, tried: &[usize]) -> Waiting {
    let seats = pool.members.iter().map(|member| member.seat + 1).max();
    let mut allowed = vec![false; seats.unwrap_or_default()];
    for (index, member) in pool.members.iter().enumerate() {
        allowed[member.seat] = !tried.contains(&index);
    }
    Waiting {
        allowed: allowed.into(),
        first: tried.is_empty(),
    }
}

/// The server of `pool` that [`pick`] would pick at this moment, if any; not certain where that
/// draws lots.
pub(crate) fn foresee(pool: &Pool, client: IpAddr) -> Option<&Member> {
    let asking = Asking {
        client,
        tried: &[],
        now: Instant::now(),
    };
    let mut seats = pool.roster.lock();
    seats.refresh(nanos(asking.now), false);
    let choice = choose(pool, &mut seats, &asking).ok()?;
    pool.member_at(choice.seat)
        .map(|index| &pool.members[index])
}

/// What was chosen.
struct Choosing {
    seat: usize,
    /// The source's own server is full: the next session is for that one again.
    for_once: bool,
}

fn choose(pool: &Pool, seats: &mut Seats, asking: &Asking<'_>) -> Result<Choosing, EndReason> {
    // They come first, where there is anything to wait for.
    if seats.somebody_waits() && asking.tried.len() < pool.members.len() {
        return Err(EndReason::Full);
    }
    let own = own_seat(pool, seats, asking);
    if let Some(seat) = own
        && !seats.is_full(seat)
    {
        return Ok(Choosing {
            seat,
            for_once: false,
        });
    }
    anyone(pool, seats, asking).map(|seat| Choosing {
        seat,
        for_once: own.is_some(),
    })
}

/// The seat of whoever the pool's way to balance comes to.
fn anyone(pool: &Pool, seats: &mut Seats, asking: &Asking<'_>) -> Result<usize, EndReason> {
    let all = |_: usize| true;
    // Mostly nothing is against the first choice among all.
    let chosen = by_choice(pool, seats, asking.client, all);
    if let Some(seat) = chosen
        && suits(pool, asking.tried, seat)
    {
        return Ok(seat);
    }
    let may = |seat: usize| suits(pool, asking.tried, seat);
    by_choice(pool, seats, asking.client, may)
        .or_else(|| seats.least_of_all(may))
        .ok_or_else(|| why_none(pool, seats, asking.tried))
}

/// Whether a session that tried some members may have this seat.
fn suits(pool: &Pool, tried: &[usize], seat: usize) -> bool {
    pool.member_at(seat)
        .is_some_and(|index| !tried.contains(&index))
}

fn by_choice(
    pool: &Pool,
    seats: &mut Seats,
    client: IpAddr,
    may: impl Fn(usize) -> bool,
) -> Option<usize> {
    match &pool.choice {
        Choice::LeastConn => least_conn::choose(seats, may),
        Choice::RoundRobin => round_robin::choose(seats, may),
        Choice::RandomTwo => random_two::choose(seats, may),
        Choice::LeastLoad => least_load::choose(seats, may),
        Choice::SourceHash {
            source,
            hashing,
            claims,
        } => {
            let hash = hashing.source(source.key(client));
            source_hash::choose(pool, seats, claims, hash, may)
        }
        Choice::Maglev {
            source,
            hashing,
            table,
            members,
        } => {
            let hash = hashing.source(source.key(client));
            maglev::choose(pool, seats, (table, members), hash, may)
        }
    }
}

/// Whether a server of `pool` could be picked at this moment, or waited for.
///
/// # Errors
/// Why none could.
pub(crate) fn look(pool: &Pool) -> Result<(), EndReason> {
    let mut seats = pool.roster.lock();
    seats.refresh(nanos(Instant::now()), false);
    if let Some(queue) = pool.queue
        && seats.waiting() < queue.length
    {
        return match why_none(pool, &seats, &[]) {
            EndReason::Full => Ok(()),
            _ if seats.least_of_all(|_| true).is_some() => Ok(()),
            why => Err(why),
        };
    }
    if !seats.somebody_waits() && seats.least_of_all(|_| true).is_some() {
        return Ok(());
    }
    Err(why_none(pool, &seats, &[]))
}

/// What keeps every server of `pool` from being picked by a session that tried some: those aren't
/// waited for.
fn why_none(pool: &Pool, seats: &Seats, tried: &[usize]) -> EndReason {
    let any = |is: &dyn Fn(usize) -> bool| pool.members.iter().any(|member| is(member.seat));
    let in_state = |state| any(&|seat| seats.is_in_state(seat, state));
    let may_wait = |seat| suits(pool, tried, seat) && seats.is_usable(seat) && seats.is_full(seat);
    let line = seats.somebody_waits() && tried.len() < pool.members.len();
    if line || any(&may_wait) {
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
