//! Which server had a source's last session: a source stays with it.
//!
//! It is what greylisting, and postscreen's list of those that passed, ask for where servers don't
//! share what they know. Bounded: where there are too many sources, those whose time is over
//! soonest are forgotten.

use std::time::Duration;

use serde::Serialize;

use crate::bounded::{Bounded, Value};
use crate::metrics::Counter;
use crate::server::ServerId;

/// Enough for the sources of a busy day. All of them take 12 MB.
const PLACES: usize = 262_144;

/// The sources of a pool.
#[derive(Debug)]
pub(crate) struct Sticky {
    bonds: Bounded<Bond>,
    found: Counter,
    made: Counter,
    broken: Counter,
}

/// What a source stays with, and until when.
#[derive(Debug, Clone, Copy, Default)]
struct Bond {
    server: Option<ServerId>,
    until: u64,
}

impl Value for Bond {
    fn is_idle(&self, now: u64) -> bool {
        self.until <= now
    }

    fn is_pinned(&self) -> bool {
        false
    }

    fn worth(&self) -> u64 {
        self.until
    }
}

/// What a pool remembers of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StickyStats {
    /// Sources that stay with a server.
    pub entries: u64,
    /// Sessions that went to the server of the source's last one.
    pub found: u64,
    /// Sources that came to stay.
    pub made: u64,
    /// Sources that had to go to another server.
    pub broken: u64,
    /// Sources that were forgotten too early, for others.
    pub evicted: u64,
}

impl Sticky {
    pub(super) fn new() -> Self {
        Self {
            bonds: Bounded::new(PLACES),
            found: Counter::default(),
            made: Counter::default(),
            broken: Counter::default(),
        }
    }

    /// The server that a source stays with.
    pub(crate) fn find(&self, key: u128, now: u64) -> Option<ServerId> {
        let server = |bond: &mut Bond| bond.server.filter(|_| bond.until > now);
        self.bonds.find(key, server).flatten()
    }

    /// A source has a session with this server.
    pub(crate) fn note(&self, key: u128, server: ServerId, now: u64, ttl: Duration) {
        let ttl = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
        let before = self.bonds.with(key, now, |bond| {
            let before = bond.server.filter(|_| bond.until > now);
            *bond = Bond {
                server: Some(server),
                until: now.saturating_add(ttl),
            };
            before
        });
        match before.flatten() {
            Some(before) if before == server => self.found.add(1),
            Some(_) => self.broken.add(1),
            None => self.made.add(1),
        }
    }

    pub(crate) fn stats(&self, now: u64) -> StickyStats {
        StickyStats {
            entries: self.bonds.entries(now),
            found: self.found.value(),
            made: self.made.value(),
            broken: self.broken.value(),
            evicted: self.bonds.evicted(),
        }
    }
}
