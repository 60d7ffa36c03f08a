//! What is known of a server while it lives: state, sessions, figures.
//!
//! All of it outlives snapshots. A server is who its pool and name say, so that a reload
//! that changes its address or weight loses none of it; see [`roster`](crate::roster).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::answers::Answers;
use crate::conduct::{Conduct, ConductCounters, GreetingFailure, Spoiled};
use crate::doors::Whose;
use crate::metrics::{Counter, Histogram, PerWorker, Tally, WorkerId};
use crate::moment::AtomicMoment;
use crate::occupancy::Occupancy;
use crate::record::EndReason;
use crate::scales::HeardScale;
use crate::spec::ServerState;

/// Why a server couldn't be connected to. A closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectFailure {
    /// It answered with a reset: nothing listens there.
    Refused,
    /// It didn't answer in time.
    Timeout,
    /// The network says that it can't be reached.
    Unreachable,
    /// Nothing of the server's: no descriptor, source address or port is left here.
    Local,
    /// It is a listener of this process: the session would come back.
    Loop,
    /// Anything else.
    Other,
}

impl ConnectFailure {
    /// Every cause there is.
    pub const ALL: [Self; 6] = [
        Self::Refused,
        Self::Timeout,
        Self::Unreachable,
        Self::Local,
        Self::Loop,
        Self::Other,
    ];

    /// As metrics and logs write it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Local => "local",
            Self::Loop => "loop",
            Self::Other => "other",
        }
    }
}

/// What a worker counts of a server.
#[derive(Debug, Default)]
pub(crate) struct ServerCounters {
    /// Sessions that it took: it was connected to and, where it greets, greeted.
    pub(crate) sessions: Counter,
    /// From the server.
    pub(crate) received_bytes: Counter,
    /// To the server.
    pub(crate) sent_bytes: Counter,
    pub(crate) connect_time: Histogram,
    /// From being connected to a greeting that takes the session.
    pub(crate) greeting_time: Histogram,
    connect_failures: Tally<{ ConnectFailure::ALL.len() }>,
    greeting_failures: Tally<{ GreetingFailure::ALL.len() }>,
    pub(crate) conduct: ConductCounters,
    /// Of sessions that it took.
    ended: Tally<{ EndReason::ALL.len() }>,
    /// How long those lasted, together.
    session_nanos: Counter,
}

impl ServerCounters {
    /// A session that it took ended so, after so long a time.
    pub(crate) fn count_end(&self, reason: EndReason, lasted: Duration) {
        self.ended.count(reason as usize);
        self.session_nanos
            .add(u64::try_from(lasted.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn ended(&self, reason: EndReason) -> u64 {
        self.ended.value(reason as usize)
    }

    pub(crate) fn session_time(&self) -> Duration {
        Duration::from_nanos(self.session_nanos.value())
    }

    pub(crate) fn count_connect_failure(&self, cause: ConnectFailure) {
        self.connect_failures.count(cause as usize);
    }

    pub(crate) fn connect_failures(&self, cause: ConnectFailure) -> u64 {
        self.connect_failures.value(cause as usize)
    }

    pub(crate) fn count_greeting_failure(&self, cause: GreetingFailure) {
        self.greeting_failures.count(cause as usize);
    }

    pub(crate) fn greeting_failures(&self, cause: GreetingFailure) -> u64 {
        self.greeting_failures.value(cause as usize)
    }
}

/// A server while it lives.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) id: ServerId,
    pub(crate) name: Arc<str>,
    pub(crate) counters: PerWorker<ServerCounters>,
    state: AtomicU8,
    /// Since when it drains, if it does.
    pub(crate) drains: AtomicMoment,
    /// Sessions that were given to it and haven't ended, those still connecting included.
    pub(crate) in_flight: Occupancy,
    /// Which of its source addresses is next.
    next_source: AtomicUsize,
    /// The window scale that it announces.
    pub(crate) scale: HeardScale,
    /// The options that it takes.
    pub(crate) answers: Answers,
    /// Whether its address is this machine's, as was seen last.
    pub(crate) whose: Whose,
    pub(crate) conduct: Conduct,
    /// A failure was reported and isn't looked at yet.
    suspect: AtomicBool,
}

/// Sets a server apart from all others that this process ever had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerId(u32);

static NEXT_ID: AtomicU32 = AtomicU32::new(1);

impl Server {
    pub(crate) fn new(name: &str, workers: usize) -> Self {
        Self {
            id: ServerId(NEXT_ID.fetch_add(1, Relaxed)),
            name: name.into(),
            counters: PerWorker::new(workers),
            state: AtomicU8::new(ServerState::Down as u8),
            drains: AtomicMoment::default(),
            in_flight: Occupancy::default(),
            next_source: AtomicUsize::new(0),
            scale: HeardScale::default(),
            answers: Answers::default(),
            whose: Whose::default(),
            conduct: Conduct::default(),
            suspect: AtomicBool::new(false),
        }
    }

    pub(crate) fn state(&self) -> ServerState {
        ServerState::ALL[usize::from(self.state.load(Relaxed))]
    }

    /// Called by its roster, which goes by the state as well.
    pub(crate) fn set_state(&self, state: ServerState) {
        self.state.store(state as u8, Relaxed);
        if state.drains() {
            self.drains.set_first(Instant::now());
        } else {
            self.drains.clear();
        }
    }

    /// Which of `number` source addresses is next; they take turns.
    pub(crate) fn next_source(&self, number: usize) -> usize {
        self.next_source.fetch_add(1, Relaxed) % number.max(1)
    }

    /// It spoiled a session of `worker`.
    pub(crate) fn spoiled(&self, worker: WorkerId, what: Spoiled) {
        let counters = &self.counters.of(worker).conduct;
        self.conduct.spoiled(counters, what, Instant::now());
    }

    /// Whether a failure is the first since the last one was looked at.
    pub(crate) fn suspect(&self) -> bool {
        !self.suspect.load(Relaxed) && !self.suspect.swap(true, Relaxed)
    }

    /// The failure was looked at.
    pub(crate) fn looked_at(&self) {
        self.suspect.store(false, Relaxed);
    }
}
