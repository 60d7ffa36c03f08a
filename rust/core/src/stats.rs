//! What a data plane says of itself, as plain values: counters and gauges of one moment.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};

use crate::conduct::{GreetingFailure, Spoiled};
use crate::holdings::Holdings;
use crate::kernel_path::KernelPathStats;
use crate::metrics::{BoundsStats, HistogramStats, PerWorker, WorkerCounters};
use crate::moment::nanos;
use crate::record::{EndReason, LogStats, Path, Side, WouldRefuse};
use crate::roster::{OverflowStats, QueueEnd, StickyStats};
use crate::server::{ConnectFailure, ServerCounters};
use crate::snapshot::{BindKey, Listener, Member, Pool};
use crate::sources::SourcesStats;
use crate::spec::{ServerState, wire};

/// A data plane at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Stats {
    /// The number of the snapshot that runs; 0 before the first.
    pub generation: u64,
    /// Worker threads, by number.
    pub workers: Vec<WorkerStats>,
    /// Whether it has stopped listening.
    pub draining: bool,
    /// Sessions now, those of removed listeners included.
    pub active: u64,
    /// The most there may be.
    pub max_sessions: u64,
    /// What there is of what takes descriptors and memory.
    pub room: RoomStats,
    /// Of all histograms below, and of servers' ones.
    pub bounds: BoundsStats,
    /// In the specification's order.
    pub listeners: Vec<ListenerStats>,
    /// In the specification's order.
    pub pools: Vec<PoolStats>,
    /// The user-space path.
    pub relay: RelayStats,
    /// The kernel path, where it runs.
    pub kernel_path: Option<KernelPathStats>,
    /// Why it doesn't, where it is wanted.
    pub no_kernel_path: Option<NoKernelPathStats>,
    /// The session log.
    pub log: LogStats,
}

/// Why there is no kernel path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NoKernelPathStats {
    /// A word of a closed list.
    pub reason: &'static str,
    /// The same for people.
    pub told: String,
}

/// What would become of a client at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Admission {
    /// Why it would be refused.
    pub refused: Option<EndReason>,
    /// What would refuse it, were it more than tried out.
    pub would_refuse: Vec<WouldRefuse>,
}

/// What takes descriptors and memory at one moment, and how much there may be.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct RoomStats {
    /// Sessions that there is room for, those on the kernel path not counted.
    pub sessions: u64,
    /// How many of those there are.
    pub held: u64,
    /// The most of each of the next two.
    pub spare: u64,
    /// Connections that are over and wait for the other end to read the last words.
    pub lingering: u64,
    /// Servers that are waited for although their time-out is over.
    pub overdue: u64,
    /// Connections that were closed at once, for want of room to linger.
    pub hurried: u64,
}

/// A worker thread at one moment.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct WorkerStats {
    /// Since it last showed that it moves.
    #[serde(with = "wire::seconds")]
    pub lag: Duration,
    /// Whether its listeners are out of use because it doesn't.
    pub stuck: bool,
}

/// A listener at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct ListenerStats {
    /// Its name.
    pub name: String,
    /// As bound: a configured port 0 shows as the port that was given.
    pub addresses: Vec<SocketAddr>,
    /// Connections accepted.
    pub accepted: u64,
    /// Sessions now.
    pub active: u64,
    /// Places that are taken now: those of the process before this one count, those that were left
    /// to the next process don't.
    pub places: u64,
    /// From clients.
    pub received_bytes: u64,
    /// To clients.
    pub sent_bytes: u64,
    /// Times that accepting paused because descriptors or memory ran out.
    pub accept_pauses: u64,
    /// Whether new sessions are refused, since an operator said so.
    pub paused: bool,
    /// Sessions that would have been refused, by what is only tried out; all of it is there.
    #[serde(serialize_with = "wire::counts")]
    pub would_refuse: Vec<(WouldRefuse, u64)>,
    /// What it remembers of sources, where these are limited.
    pub sources: Option<SourcesStats>,
    /// Sessions ended, by reason; every reason is there.
    #[serde(serialize_with = "wire::counts")]
    pub ended: Vec<(EndReason, u64)>,
    /// How long sessions lasted.
    pub session_time: HistogramStats,
}

/// A pool at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct PoolStats {
    /// Its name.
    pub name: String,
    /// Sessions that wait for a server.
    pub waiting: u64,
    /// Sessions that waited, ever.
    pub queued: u64,
    /// How their waiting ended; every way is there.
    #[serde(serialize_with = "wire::counts")]
    pub queue_ends: Vec<(QueueEnd, u64)>,
    /// How long they waited.
    pub queue_time: HistogramStats,
    /// What it remembers of sources, where that is wanted.
    pub sticky: Option<StickyStats>,
    /// What becomes of sessions that it can't take, where other pools may have them.
    pub overflow: Option<OverflowStats>,
}

/// A server at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct ServerStats {
    /// Its pool's name.
    pub pool: String,
    /// Its name.
    pub name: String,
    /// Where it is reached.
    pub address: SocketAddr,
    /// Its share.
    pub weight: u32,
    /// What it may be used for.
    pub state: ServerState,
    /// Whether it is used only while no other server of the pool can be.
    pub backup: bool,
    /// Which share of its weight slow start allows it, from 0 to 1.
    pub ramp: f64,
    /// Sessions now, those still connecting included.
    pub active: u64,
    /// Sessions that it took: it was connected to and, where it greets, greeted.
    pub sessions: u64,
    /// Failed connects, by cause; every cause is there.
    #[serde(serialize_with = "wire::counts")]
    pub connect_failures: Vec<(ConnectFailure, u64)>,
    /// Greetings that were no use, by cause; every cause is there.
    #[serde(serialize_with = "wire::counts")]
    pub greeting_failures: Vec<(GreetingFailure, u64)>,
    /// Sessions that it didn't take and another one did, and those that it cut off in a message, by
    /// what it did; all of it is there.
    #[serde(serialize_with = "wire::counts")]
    pub spoiled: Vec<(Spoiled, u64)>,
    /// Sessions that it took and that ended, by reason; those alone that there were, since there may
    /// be thousands of servers.
    #[serde(serialize_with = "wire::counts")]
    pub ended: Vec<(EndReason, u64)>,
    /// How long those lasted together, each from its client's connect.
    #[serde(with = "wire::seconds")]
    pub session_time: Duration,
    /// From the server.
    pub received_bytes: u64,
    /// To the server.
    pub sent_bytes: u64,
    /// How long things took; none where nobody asked for it.
    pub times: Option<ServerTimes>,
}

/// What the servers of a pool have done to sessions by one moment.
#[derive(Debug, Clone, Serialize)]
pub struct PoolConduct {
    /// The pool's name.
    pub name: String,
    /// Of all its servers `refused`, `cut` and `in_vain` together: as long as that stays, nothing
    /// but good sessions came.
    pub bad: u64,
    /// In the specification's order.
    pub servers: Vec<ServerConduct>,
}

/// What a server has done to sessions by one moment.
#[derive(Debug, Clone, Serialize)]
pub struct ServerConduct {
    /// Its name.
    pub name: String,
    /// Sessions that it took.
    pub taken: u64,
    /// Those that it didn't take, and another one did.
    pub refused: u64,
    /// Those that it cut off in a message.
    pub cut: u64,
    /// Those that it didn't take, and nor did any other; but for those that it said 5yz to.
    pub in_vain: u64,
    /// How many it has refused or cut in a row by now.
    pub in_a_row: u32,
}

/// How long a server took to do what it does for each session.
#[derive(Debug, Clone, Serialize)]
pub struct ServerTimes {
    /// To accept.
    pub connect: HistogramStats,
    /// To greet after that.
    pub greeting: HistogramStats,
}

/// The user-space path at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct RelayStats {
    /// Bytes that went through a buffer.
    pub copied_bytes: u64,
    /// Bytes that went through a pipe.
    pub spliced_bytes: u64,
    /// Pipes that exist, lent and idle.
    pub pipes: u64,
    /// The most pipes that are ever made; 0 where the system refuses splice(2).
    pub pipe_budget: u64,
    /// Times that no usable pipe was to be had and bytes were copied instead.
    pub pipe_fallbacks: u64,
}

/// What logs have a word for is told by that one.
macro_rules! told_by_label {
    ($($kind:ty),*) => {$(
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.label())
            }
        }
    )*};
}

told_by_label!(
    EndReason,
    ConnectFailure,
    GreetingFailure,
    Spoiled,
    Path,
    Side
);

impl RoomStats {
    pub(crate) fn read(holdings: &Holdings) -> Self {
        let room = holdings.room();
        let [lingering, overdue] = holdings.spare_now();
        Self {
            sessions: room.sessions,
            held: holdings.sessions_now(),
            spare: room.spare,
            lingering,
            overdue,
            hurried: holdings.hurried.value(),
        }
    }
}

impl WorkerStats {
    pub(crate) fn read(workers: &PerWorker<WorkerCounters>) -> Vec<Self> {
        let now = Instant::now();
        let read = |one: &WorkerCounters| Self {
            lag: now.saturating_duration_since(one.moved.read().unwrap_or(now)),
            stuck: one.stuck.load(Relaxed),
        };
        workers.iter().map(read).collect()
    }
}

impl ListenerStats {
    /// `bound` says where a key's sockets are, if it has any.
    pub(crate) fn read(
        listener: &Listener,
        bound: impl Fn(&BindKey) -> Option<SocketAddr>,
    ) -> Self {
        let counters = &listener.state.counters;
        let ended = EndReason::ALL.map(|reason| {
            let count = counters.iter().map(|one| one.ended(reason)).sum();
            (reason, count)
        });
        let would_refuse = WouldRefuse::ALL.map(|what| {
            let count = counters.iter().map(|one| one.would_refuse(what)).sum();
            (what, count)
        });
        // Ends first: read in between, a session would count as ended and not as accepted.
        let all_ended: u64 = ended.iter().map(|(_, count)| count).sum();
        let accepted = counters.sum(|one| &one.accepted);
        let times = counters.iter().map(|one| &one.session_time);
        Self {
            name: listener.state.name.to_string(),
            addresses: listener.bind.iter().filter_map(bound).collect(),
            accepted,
            active: accepted.saturating_sub(all_ended),
            places: listener.state.occupancy.now(),
            received_bytes: counters.sum(|one| &one.received_bytes),
            sent_bytes: counters.sum(|one| &one.sent_bytes),
            accept_pauses: counters.sum(|one| &one.accept_pauses),
            paused: listener.paused,
            would_refuse: would_refuse.into(),
            sources: listener
                .limits_sources()
                .then(|| listener.state.sources().stats(nanos(Instant::now()))),
            ended: ended.into(),
            session_time: HistogramStats::read(&times),
        }
    }
}

impl PoolStats {
    pub(crate) fn read(pool: &Pool) -> Self {
        let counters = &pool.roster.counters;
        // Before the rest: what is asked there locks the roster as well.
        let waiting = pool.roster.lock().waiting() as u64;
        Self {
            name: pool.name.to_string(),
            waiting,
            queued: counters.queued.value(),
            queue_ends: QueueEnd::ALL.map(|end| (end, counters.ends(end))).into(),
            queue_time: HistogramStats::read(&[&counters.time].into_iter()),
            sticky: pool
                .sticky
                .map(|_| pool.roster.sticky().stats(nanos(Instant::now()))),
            overflow: pool.roster.overflow(),
        }
    }
}

impl ServerStats {
    pub(crate) fn read(pool: &Pool, member: &Member, with_times: bool) -> Self {
        let counters = &member.server.counters;
        let connect_failures = ConnectFailure::ALL.map(|cause| {
            let count = counters.iter().map(|one| one.connect_failures(cause)).sum();
            (cause, count)
        });
        let greeting_failures = GreetingFailure::ALL.map(|cause| {
            let count = counters
                .iter()
                .map(|one| one.greeting_failures(cause))
                .sum();
            (cause, count)
        });
        let ended = EndReason::ALL.into_iter().filter_map(|reason| {
            let count = counters.iter().map(|one| one.ended(reason)).sum();
            (count > 0).then_some((reason, count))
        });
        Self {
            pool: pool.name.to_string(),
            name: member.name.to_string(),
            address: member.address,
            weight: member.weight,
            state: member.server.state(),
            backup: member.backup,
            ramp: pool.roster.ramp(member.seat),
            active: member.server.in_flight.now(),
            sessions: counters.sum(|one| &one.sessions),
            connect_failures: connect_failures.into(),
            greeting_failures: greeting_failures.into(),
            spoiled: Spoiled::ALL
                .map(|what| {
                    let counts = counters.iter().map(|one| one.conduct.spoiled(what));
                    (what, counts.sum())
                })
                .into(),
            ended: ended.collect(),
            session_time: counters.iter().map(ServerCounters::session_time).sum(),
            received_bytes: counters.sum(|one| &one.received_bytes),
            sent_bytes: counters.sum(|one| &one.sent_bytes),
            times: with_times.then(|| ServerTimes {
                connect: HistogramStats::read(&counters.iter().map(|one| &one.connect_time)),
                greeting: HistogramStats::read(&counters.iter().map(|one| &one.greeting_time)),
            }),
        }
    }
}

impl PoolConduct {
    pub(crate) fn read(pool: &Pool) -> Self {
        let servers: Vec<_> = pool.members.iter().map(ServerConduct::read).collect();
        let bad = servers
            .iter()
            .map(|one| one.refused + one.cut + one.in_vain);
        Self {
            name: pool.name.to_string(),
            bad: bad.sum(),
            servers,
        }
    }
}

impl ServerConduct {
    fn read(member: &Member) -> Self {
        let counters = &member.server.counters;
        let spoiled = |what| counters.iter().map(move |one| one.conduct.spoiled(what));
        let refused = Spoiled::ALL
            .into_iter()
            .filter(|what| *what != Spoiled::CutInData);
        Self {
            name: member.name.to_string(),
            taken: counters.sum(|one| &one.sessions),
            refused: refused.flat_map(spoiled).sum(),
            cut: spoiled(Spoiled::CutInData).sum(),
            in_vain: counters.sum(|one| &one.conduct.in_vain),
            in_a_row: member.server.conduct.in_a_row(),
        }
    }
}

impl RelayStats {
    /// `budget` is each worker's.
    pub(crate) fn read(workers: &PerWorker<WorkerCounters>, budget: usize) -> Self {
        let splicing = workers
            .iter()
            .filter(|one| !one.splice_refused.load(Relaxed));
        let closed = workers.sum(|one| &one.pipes_closed);
        Self {
            copied_bytes: workers.sum(|one| &one.copied_bytes),
            spliced_bytes: workers.sum(|one| &one.spliced_bytes),
            pipes: workers.sum(|one| &one.pipes_made).saturating_sub(closed),
            pipe_budget: (splicing.count() * budget) as u64,
            pipe_fallbacks: workers.sum(|one| &one.pipe_fallbacks),
        }
    }
}
