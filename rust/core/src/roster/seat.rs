//! One server in its pool: its settings, what is known of it, and whether it can be picked.

use std::sync::Arc;

use crate::server::Server;
use crate::spec::ServerState;

/// A server that is down and used all the same isn't tried again for so long after it failed a
/// session: most of those are dead, and each costs a session the time of a connect.
const REST: u64 = 10_000_000_000;

/// A server's settings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeatTerms {
    pub(crate) weight: u32,
    /// The most sessions at a time.
    pub(crate) most: Option<u64>,
    pub(crate) backup: bool,
}

/// One server in its pool. Moments are nanoseconds, as `moment::nanos` counts them.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) server: Arc<Server>,
    /// None where the current configuration hasn't this server.
    pub(super) terms: Option<SeatTerms>,
    pub(super) state: ServerState,
    pub(super) in_flight: u64,
    /// Since when it has been up, if it is.
    pub(super) up_since: Option<u64>,
    /// Whether it is in slow start, and turns that this owes it.
    pub(super) ramps: bool,
    pub(super) credit: f64,
    /// Until then it isn't tried although it is down.
    rests_until: u64,
}

impl Seat {
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self {
            server,
            terms: None,
            state: ServerState::Down,
            in_flight: 0,
            up_since: None,
            ramps: false,
            credit: 0.0,
            rests_until: 0,
        }
    }

    /// Whether neither a snapshot nor a session has its server any more.
    pub(super) fn is_left(&self) -> bool {
        Arc::strong_count(&self.server) == 1 && self.in_flight == 0
    }

    /// 0 where it takes no new sessions.
    pub(super) fn weight(&self) -> u32 {
        self.terms.map_or(0, |terms| terms.weight)
    }

    pub(super) fn is_backup(&self) -> bool {
        self.terms.is_some_and(|terms| terms.backup)
    }

    /// Whether it takes new sessions as long as it isn't full.
    pub(super) fn is_usable(&self, now: u64) -> bool {
        let in_use = match self.state {
            ServerState::Up => true,
            ServerState::Panic => now >= self.rests_until,
            ServerState::Down | ServerState::Drain | ServerState::Maint | ServerState::Ejected => {
                false
            }
        };
        in_use && self.weight() > 0
    }

    pub(super) fn is_full(&self) -> bool {
        let most = self.terms.and_then(|terms| terms.most);
        most.is_some_and(|most| self.in_flight >= most)
    }

    /// It failed a session.
    pub(super) fn failed(&mut self, now: u64) {
        if self.state == ServerState::Panic {
            self.rests_until = now + REST;
        }
    }

    /// Whether slow start keeps sessions off it at this moment.
    pub(super) fn is_held_back(&self) -> bool {
        self.ramps && self.credit < 1.0
    }

    /// Whether it has rested long enough.
    pub(super) fn is_awake(&self, now: u64) -> bool {
        self.state == ServerState::Panic && !self.rests(now)
    }

    pub(super) fn rests(&self, now: u64) -> bool {
        self.state == ServerState::Panic && now < self.rests_until
    }

    /// It is or isn't up from now on.
    pub(super) fn note_up(&mut self, now: u64) {
        if self.state == ServerState::Up && self.weight() > 0 {
            if self.up_since.is_none() {
                self.up_since = Some(now);
                self.credit = 0.0;
            }
        } else {
            self.up_since = None;
        }
        if self.state != ServerState::Panic {
            self.rests_until = 0;
        }
    }
}
