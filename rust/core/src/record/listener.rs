//! What is counted of a listener while it lives.

use std::net::IpAddr;
use std::num::NonZeroU8;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use serde::Serialize;

use crate::metrics::{Counter, Histogram, PerWorker, Tally};
use crate::moment::AtomicMoment;
use crate::occupancy::Occupancy;
use crate::sources::Sources;
use crate::spec::SourceSpec;

use super::EndReason;
use super::refused::{Refused, RefusedSource};

/// What a worker counts of a listener.
#[derive(Debug, Default)]
pub(crate) struct ListenerCounters {
    pub(crate) accepted: Counter,
    /// From clients.
    pub(crate) received_bytes: Counter,
    /// To clients.
    pub(crate) sent_bytes: Counter,
    pub(crate) accept_pauses: Counter,
    pub(crate) session_time: Histogram,
    ended: Tally<{ EndReason::ALL.len() }>,
    would_refuse: Tally<{ WouldRefuse::ALL.len() }>,
}

/// What would have refused a session, were it more than tried out. A closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WouldRefuse {
    /// The listener's prefixes.
    Access,
    /// The sessions of its source.
    SourceSessions,
    /// The rate of its source.
    SourceRate,
    /// The sessions of the listener.
    Sessions,
}

impl WouldRefuse {
    /// Everything there is.
    pub const ALL: [Self; 4] = [
        Self::Access,
        Self::SourceSessions,
        Self::SourceRate,
        Self::Sessions,
    ];
}

impl WouldRefuse {
    /// As logs write it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::SourceSessions => "source_sessions",
            Self::SourceRate => "source_rate",
            Self::Sessions => "sessions",
        }
    }
}

/// What of it would have refused one session. A bit each, and one that is always there, so that none
/// of it takes no more room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TriedOut(NonZeroU8);

const NOTHING: NonZeroU8 = NonZeroU8::MIN.saturating_add(0x7f);

impl Default for TriedOut {
    fn default() -> Self {
        Self(NOTHING)
    }
}

impl TriedOut {
    pub(crate) fn add(&mut self, what: WouldRefuse) {
        self.0 |= 1 << what as u8;
    }

    pub(crate) fn each(self) -> impl Iterator<Item = WouldRefuse> {
        let has = move |what: &WouldRefuse| self.0.get() & (1 << *what as u8) > 0;
        WouldRefuse::ALL.into_iter().filter(has)
    }
}

impl ListenerCounters {
    /// Sessions that ended for this reason.
    pub(crate) fn ended(&self, reason: EndReason) -> u64 {
        self.ended.value(reason as usize)
    }

    pub(super) fn count_end(&self, reason: EndReason) {
        self.ended.count(reason as usize);
    }

    /// Sessions that this would have refused.
    pub(crate) fn would_refuse(&self, what: WouldRefuse) -> u64 {
        self.would_refuse.value(what as usize)
    }

    pub(crate) fn count_dry_run(&self, what: WouldRefuse) {
        self.would_refuse.count(what as usize);
    }
}

/// What is known of a listener while it lives; outlives snapshots.
#[derive(Debug)]
pub(crate) struct ListenerState {
    pub(crate) name: Arc<str>,
    pub(crate) counters: PerWorker<ListenerCounters>,
    /// Sessions that were admitted and haven't ended.
    pub(crate) occupancy: Occupancy,
    /// Since when it isn't configured any more.
    pub(crate) drains: AtomicMoment,
    /// Made where sources are first limited.
    sources: OnceLock<Arc<Sources>>,
    /// Made where somebody is first refused.
    refused: OnceLock<Refused>,
}

impl ListenerState {
    pub(crate) fn new(name: &str, workers: usize) -> Self {
        Self {
            name: name.into(),
            counters: PerWorker::new(workers),
            occupancy: Occupancy::default(),
            drains: AtomicMoment::default(),
            sources: OnceLock::new(),
            refused: OnceLock::new(),
        }
    }

    /// What each source has of it.
    pub(crate) fn sources(&self) -> &Arc<Sources> {
        self.sources.get_or_init(|| Arc::new(Sources::new()))
    }

    /// A client was refused, if that is what `why` means.
    pub(crate) fn refused(&self, client: IpAddr, source: SourceSpec, why: EndReason) {
        let refused = self.refused.get_or_init(Refused::new);
        refused.note(client, source, why, Instant::now());
    }

    /// Whom it refused, in no order.
    pub(crate) fn read_refused(&self, now: Instant) -> Vec<RefusedSource> {
        let refused = self.refused.get();
        refused.map_or_else(Vec::new, |refused| refused.read(&self.name, now))
    }
}
