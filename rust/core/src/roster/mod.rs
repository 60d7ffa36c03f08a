//! A pool while it lives: its servers as picking sees them, and who waits for one.
//!
//! All of it outlives snapshots; a server is found again by its name. Picking, counting in and
//! counting out happen under one lock per pool, so that choices and limits are exact however many
//! workers choose at the same moment, and so that a place that gets free goes to whoever has
//! waited longest. What is done under it takes well below a microsecond for a thousand servers.

mod pace;
mod queue;
mod ranking;
mod seat;
mod seats;
mod sticky;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::moment::nanos;
use crate::server::Server;
use crate::spec::ServerState;

pub use queue::QueueEnd;
pub(crate) use queue::Waiting;
pub(crate) use seat::Terms;
pub(crate) use seats::Seats;
pub(crate) use sticky::Sticky;
pub use sticky::StickyStats;

use queue::QueueCounters;

/// A pool's servers and its queue.
#[derive(Debug)]
pub(crate) struct Roster {
    seats: Mutex<Seats>,
    pub(crate) counters: QueueCounters,
    /// Made where sources first stay with servers.
    sticky: OnceLock<Sticky>,
}

/// How the servers of a pool are configured now.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) slow_start: Duration,
    /// Whether picking goes by how fast servers are.
    pub(crate) by_load: bool,
    /// Each with its place in the roster.
    pub(crate) servers: Vec<(usize, Terms, ServerState)>,
}

impl Roster {
    pub(crate) fn new() -> Self {
        Self {
            seats: Mutex::new(Seats::new()),
            counters: QueueCounters::default(),
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
        let mut seats = self.lock();
        seats.apply(settings, nanos(Instant::now()));
        self.serve(&mut seats);
    }

    /// Changes what a server may be used for.
    pub(crate) fn set_state(self: &Arc<Self>, seat: usize, state: ServerState) {
        self.set_state_at(seat, state, nanos(Instant::now()));
    }

    /// The same at a moment.
    pub(crate) fn set_state_at(self: &Arc<Self>, seat: usize, state: ServerState, now: u64) {
        let mut seats = self.lock();
        seats.set_state(seat, state, now);
        self.serve(&mut seats);
    }

    /// Counts a session in that an earlier process began.
    pub(crate) fn adopt(self: &Arc<Self>, seat: usize) -> InFlight {
        let mut seats = self.lock();
        seats.take(seat, false);
        self.guard(&seats, seat)
    }

    /// A guard for a session that was counted in.
    pub(crate) fn guard(self: &Arc<Self>, seats: &Seats, seat: usize) -> InFlight {
        InFlight {
            place: Some((Arc::clone(self), seat)),
            server: Arc::clone(seats.server(seat)),
        }
    }

    /// Which share of its weight slow start allows a server at this moment, from 0 to 1.
    pub(crate) fn ramp(&self, seat: usize) -> f64 {
        self.lock().ramp(seat, nanos(Instant::now()))
    }

    /// Forgets servers that nobody uses any more.
    pub(crate) fn prune(&self) {
        self.lock().prune();
    }

    /// A session at `seat` ended.
    fn leave(self: &Arc<Self>, seat: usize) {
        let mut seats = self.lock();
        seats.leave(seat);
        self.serve(&mut seats);
    }
}

/// A session's place at a server, until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    /// None where the server is in no roster, or the place was taken back.
    place: Option<(Arc<Roster>, usize)>,
    server: Arc<Server>,
}

impl InFlight {
    /// Of a server that isn't configured any more: counted where nobody looks.
    pub(crate) fn apart(server: Server) -> Self {
        server.in_flight.enter();
        Self {
            place: None,
            server: Arc::new(server),
        }
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// The server's place in its roster, where it has one.
    pub(crate) fn seat(&self) -> Option<usize> {
        self.place.as_ref().map(|(_, seat)| *seat)
    }

    /// The server greeted, or failed to, after this time.
    pub(crate) fn took(&self, time: Duration, failed: bool) {
        if let Some((roster, seat)) = &self.place {
            let mut seats = roster.lock();
            seats.observe(*seat, time, failed, nanos(Instant::now()));
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some((roster, seat)) = self.place.take() {
            roster.leave(seat);
        }
    }
}
