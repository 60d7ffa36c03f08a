//! A pool while it lives: its servers as picking sees them, and who waits for one.
//!
//! All of it outlives snapshots; a server is found again by its name. Picking, counting in and
//! counting out happen under one lock per pool, so that choices and limits are exact however many
//! workers choose at the same moment, and so that a place that gets free goes to whoever has
//! waited longest. What is done under it takes well below a microsecond for a thousand servers.

mod overflow;
mod pace;
mod queue;
mod ranking;
mod seat;
mod seats;
mod sticky;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::conduct::Spoiled;
use crate::moment::nanos;
use crate::record::{End, Record, Served};
use crate::server::Server;
use crate::spec::ServerState;

pub use overflow::{OverflowCourse, OverflowStats};
pub use queue::QueueEnd;
pub(crate) use queue::Waiting;
pub(crate) use seat::SeatTerms;
pub(crate) use seats::Seats;
pub(crate) use sticky::Sticky;
pub use sticky::StickyStats;

use queue::QueueCounters;

/// A pool's servers and its queue.
#[derive(Debug)]
pub(crate) struct Roster {
    seats: Mutex<Seats>,
    pub(crate) counters: QueueCounters,
    /// Whether picking goes by how fast servers are.
    by_load: AtomicBool,
    /// Made where sources first stay with servers.
    sticky: OnceLock<Sticky>,
}

/// How the servers of a pool are configured now.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) slow_start: Duration,
    /// Whether its sessions go to other pools where it can't take them.
    pub(crate) overflows: bool,
    /// Whether picking goes by how fast servers are.
    pub(crate) by_load: bool,
    /// Each with its place in the roster.
    pub(crate) servers: Vec<(usize, SeatTerms, ServerState)>,
}

impl Roster {
    pub(crate) fn new() -> Self {
        Self {
            seats: Mutex::new(Seats::new()),
            counters: QueueCounters::default(),
            by_load: AtomicBool::new(false),
            sticky: OnceLock::new(),
        }
    }

    /// Which servers sources stay with.
    pub(crate) fn sticky(&self) -> &Sticky {
        self.sticky.get_or_init(Sticky::new)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Seats> {
        // Nothing under it panics half-way but for a bug, and what that leaves is a wrong count.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server of this name, made where there is none, and its place.
    pub(crate) fn server(&self, name: &str, workers: usize) -> (Arc<Server>, usize) {
        self.lock().find_or_add(name, workers)
    }

    /// Goes by these settings from now on; servers that aren't in them take no new sessions.
    pub(crate) fn apply(self: &Arc<Self>, settings: &Settings) {
        self.by_load.store(settings.by_load, Relaxed);
        let mut seats = self.lock();
        seats.apply(settings, nanos(Instant::now()));
        self.serve(&mut seats);
    }

    /// Changes what servers may be used for, all at once: where one takes the place of another,
    /// nobody sees the pool without either.
    pub(crate) fn set_states(self: &Arc<Self>, states: &[(usize, ServerState)]) {
        self.set_states_at(states, nanos(Instant::now()));
    }

    /// The same at a moment.
    pub(crate) fn set_states_at(self: &Arc<Self>, states: &[(usize, ServerState)], now: u64) {
        let mut seats = self.lock();
        seats.set_states(states, now);
        self.serve(&mut seats);
    }

    /// Counts a session in that an earlier process began.
    pub(crate) fn adopt(self: &Arc<Self>, seat: usize) -> InFlight {
        let mut seats = self.lock();
        seats.take(seat, false);
        seats.greeted_before(seat);
        let mut in_flight = self.guard(&seats, seat);
        in_flight.awaits = false;
        in_flight
    }

    /// A guard for a session that was counted in, and waits for a greeting.
    pub(crate) fn guard(self: &Arc<Self>, seats: &Seats, seat: usize) -> InFlight {
        InFlight {
            roster: Some(Arc::clone(self)),
            // Of fewer than 2^16 servers.
            seat: seat as u32,
            awaits: true,
            server: Arc::clone(seats.server(seat)),
        }
    }

    /// Which share of its weight slow start allows a server at this moment, from 0 to 1.
    pub(crate) fn ramp(&self, seat: usize) -> f64 {
        self.lock().ramp(seat, nanos(Instant::now()))
    }

    /// Whether a session that comes now is this pool's own, not one of those that it overflows
    /// into.
    pub(crate) fn keeps(&self, now: Instant) -> bool {
        self.lock().keeps(nanos(now))
    }

    /// Whether most of its sessions are its own.
    pub(crate) fn mostly_keeps(&self, now: Instant) -> bool {
        let seats = self.lock();
        let overflow = seats.overflow.as_ref();
        overflow.is_none_or(|one| one.share(nanos(now)) >= 0.5)
    }

    /// Whether a server is up, full or not.
    pub(crate) fn is_up(&self, now: Instant) -> bool {
        let mut seats = self.lock();
        seats.refresh(nanos(now), false);
        seats.is_up()
    }

    /// Another pool took one of its sessions.
    pub(crate) fn overflowed(&self, pool: &Arc<str>) {
        if let Some(overflow) = &mut self.lock().overflow {
            overflow.took(pool);
        }
    }

    /// What its overflow comes to; None where it has none.
    pub(crate) fn overflow(&self) -> Option<OverflowStats> {
        let mut seats = self.lock();
        let overflow = seats.overflow.as_mut()?;
        Some(overflow.stats(nanos(Instant::now())))
    }

    /// Forgets servers that nobody uses any more.
    pub(crate) fn prune(&self) {
        self.lock().prune();
    }

    /// A session at `seat` ended; perhaps while it still awaited a greeting.
    fn leave(self: &Arc<Self>, seat: usize, awaited: bool) {
        let mut seats = self.lock();
        seats.leave(seat, awaited);
        self.serve(&mut seats);
    }
}

/// What came of a session that waited for a server's greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GreetingOutcome {
    Greeted,
    /// It won't have this client, which is no failure of the server.
    Refused,
    Failed,
}

/// A session's place at a server, until it is dropped. Small: idle sessions are many.
#[derive(Debug)]
pub(crate) struct InFlight {
    /// None where the server is in none, or the place was taken back.
    roster: Option<Arc<Roster>>,
    seat: u32,
    /// Whether a greeting is waited for.
    awaits: bool,
    server: Arc<Server>,
}

impl InFlight {
    /// Of a server that isn't configured any more: counted where nobody looks.
    pub(crate) fn apart(server: Server) -> Self {
        server.in_flight.enter();
        Self {
            roster: None,
            seat: 0,
            awaits: false,
            server: Arc::new(server),
        }
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Its session ended so: for what is counted of the server, and what is held against it or isn't
    /// any more.
    pub(crate) fn ended(&self, record: &Record, end: End) {
        let counters = self.server.counters.of(record.worker());
        counters.count_end(record.reason(end), record.began().elapsed());
        match record.served(end, Instant::now()) {
            Served::Well { taken } => self.server.conduct.kept(taken),
            Served::CutOff => self.server.spoiled(record.worker(), Spoiled::CutInData),
            Served::Unclear => {}
        }
    }

    /// The server's place in its roster.
    pub(crate) fn seat(&self) -> usize {
        self.seat as usize
    }

    /// The server greeted, or failed to, after this time. What comes after that counts no more.
    pub(crate) fn took(&mut self, time: Duration, outcome: GreetingOutcome) {
        let awaited = std::mem::take(&mut self.awaits);
        if let Some(roster) = &self.roster
            && awaited
            && (outcome != GreetingOutcome::Greeted || roster.by_load.load(Relaxed))
        {
            let mut seats = roster.lock();
            seats.observe(self.seat as usize, time, outcome, nanos(Instant::now()));
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(roster) = self.roster.take() {
            roster.leave(self.seat as usize, self.awaits);
        }
    }
}
