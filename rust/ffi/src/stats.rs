//! What the data plane says of itself: from the core's values to Python's.

use std::collections::BTreeMap;

use mailweir_core as core;
use pyo3::prelude::*;

/// Durations by size, in seconds.
#[pyclass(frozen, get_all, module = "mailweir._dataplane")]
#[derive(Clone)]
pub(crate) struct Histogram {
    bounds: Vec<f64>,
    counts: Vec<u64>,
    sum: f64,
}

/// A listener at one moment.
#[pyclass(frozen, get_all, module = "mailweir._dataplane")]
#[derive(Clone)]
pub(crate) struct ListenerStats {
    name: String,
    addresses: Vec<String>,
    accepted: u64,
    active: u64,
    received_bytes: u64,
    sent_bytes: u64,
    accept_pauses: u64,
    paused: bool,
    would_refuse: BTreeMap<&'static str, u64>,
    sources: Option<SourcesStats>,
    ended: BTreeMap<&'static str, u64>,
    session_seconds: Histogram,
}

/// What a listener remembers of sources at one moment.
#[pyclass(frozen, get_all, module = "mailweir._dataplane")]
#[derive(Clone)]
pub(crate) struct SourcesStats {
    entries: u64,
    places: u64,
    evicted: u64,
    untracked: u64,
}

/// A pool at one moment.
#[pyclass(frozen, get_all, module = "mailweir._dataplane")]
#[derive(Clone)]
pub(crate) struct PoolStats {
    name: String,
    waiting: u64,
    queued: u64,
    queue_ends: BTreeMap<&'static str, u64>,
    queue_seconds: Histogram,
    sticky: Option<StickyStats>,
}

/// What a pool remembers of sources at one moment.
#[pyclass(frozen, get_all, module = "mailweir._dataplane")]
#[derive(Clone)]
pub(crate) struct StickyStats {
    entries: u64,
    found: u64,
    made: u64,
    broken: u64,
    evicted: u64,
}

/// A server at one moment.
#[pyclass(frozen, get_all, module = "mailweir._dataplane")]
#[derive(Clone)]
pub(crate) struct ServerStats {
    pool: String,
    name: String,
    address: String,
    weight: u32,
    state: &'static str,
    backup: bool,
    ramp: f64,
    active: u64,
    sessions: u64,
    connect_failures: BTreeMap<&'static str, u64>,
    greeting_failures: BTreeMap<&'static str, u64>,
    received_bytes: u64,
    sent_bytes: u64,
    connect_seconds: Histogram,
    greeting_seconds: Histogram,
}

/// The user-space path at one moment.
#[pyclass(frozen, get_all, module = "mailweir._dataplane")]
#[derive(Clone)]
pub(crate) struct RelayStats {
    copied_bytes: u64,
    spliced_bytes: u64,
    pipes: u64,
    pipe_budget: u64,
    pipe_fallbacks: u64,
}

/// The kernel path at one moment.
#[pyclass(frozen, get_all, module = "mailweir._dataplane")]
#[derive(Clone)]
pub(crate) struct KernelPathStats {
    flows: u64,
    taken: u64,
    max_flows: u64,
    handed_over: u64,
    adopted: u64,
    taken_off: u64,
    earlier: u64,
    unpinned: u64,
    moved: u64,
    not_at: BTreeMap<String, String>,
    ends_with_process: Option<String>,
    bytes: u64,
    refusals: BTreeMap<&'static str, u64>,
    segments: BTreeMap<&'static str, u64>,
}

/// The session log at one moment.
#[pyclass(frozen, get_all, module = "mailweir._dataplane")]
#[derive(Clone)]
pub(crate) struct LogStats {
    lines: u64,
    dropped: u64,
    errors: u64,
    last_error: String,
}

/// What takes descriptors and memory at one moment, and how much there may be.
#[pyclass(frozen, get_all, module = "mailweir._dataplane")]
#[derive(Clone)]
pub(crate) struct RoomStats {
    sessions: u64,
    held: u64,
    spare: u64,
    lingering: u64,
    overdue: u64,
    hurried: u64,
}

/// A data plane at one moment.
#[pyclass(frozen, get_all, module = "mailweir._dataplane")]
pub(crate) struct Stats {
    generation: u64,
    workers: usize,
    stuck_workers: Vec<usize>,
    worker_lags: Vec<f64>,
    max_sessions: u64,
    room: RoomStats,
    draining: bool,
    active: u64,
    listeners: Vec<ListenerStats>,
    pools: Vec<PoolStats>,
    servers: Vec<ServerStats>,
    relay: RelayStats,
    kernel_path: Option<KernelPathStats>,
    no_kernel_path: Option<String>,
    log: LogStats,
}

impl From<core::Stats> for Stats {
    fn from(stats: core::Stats) -> Self {
        let workers = stats.workers.iter();
        let stuck = workers.clone().enumerate().filter(|(_, one)| one.stuck);
        Self {
            generation: stats.generation,
            workers: stats.workers.len(),
            stuck_workers: stuck.map(|(number, _)| number).collect(),
            worker_lags: workers.map(|one| one.lag.as_secs_f64()).collect(),
            max_sessions: stats.max_sessions,
            room: RoomStats {
                sessions: stats.room.sessions,
                held: stats.room.held,
                spare: stats.room.spare,
                lingering: stats.room.lingering,
                overdue: stats.room.overdue,
                hurried: stats.room.hurried,
            },
            draining: stats.draining,
            active: stats.active,
            listeners: stats.listeners.into_iter().map(Into::into).collect(),
            pools: stats.pools.into_iter().map(Into::into).collect(),
            servers: stats.servers.into_iter().map(Into::into).collect(),
            relay: RelayStats {
                copied_bytes: stats.relay.copied_bytes,
                spliced_bytes: stats.relay.spliced_bytes,
                pipes: stats.relay.pipes,
                pipe_budget: stats.relay.pipe_budget,
                pipe_fallbacks: stats.relay.pipe_fallbacks,
            },
            kernel_path: stats.kernel_path.map(Into::into),
            no_kernel_path: stats.no_kernel_path,
            log: LogStats {
                lines: stats.log.lines,
                dropped: stats.log.dropped,
                errors: stats.log.errors,
                last_error: stats.log.last_error,
            },
        }
    }
}

impl From<core::KernelPathStats> for KernelPathStats {
    fn from(stats: core::KernelPathStats) -> Self {
        let refusals = stats.refusals.into_iter();
        let segments = stats.segments.into_iter();
        Self {
            flows: stats.flows,
            taken: stats.taken,
            max_flows: stats.max_flows,
            handed_over: stats.handed_over,
            adopted: stats.adopted,
            taken_off: stats.taken_off,
            earlier: stats.earlier,
            unpinned: stats.unpinned,
            moved: stats.moved,
            not_at: stats.not_at,
            ends_with_process: stats.ends_with_process,
            bytes: stats.bytes,
            refusals: refusals.map(|(why, count)| (why.label(), count)).collect(),
            segments: segments
                .map(|(what, count)| (what.label(), count))
                .collect(),
        }
    }
}

impl From<core::ListenerStats> for ListenerStats {
    fn from(stats: core::ListenerStats) -> Self {
        let ended = stats.ended.into_iter();
        let would_refuse = stats.would_refuse.into_iter();
        Self {
            name: stats.name,
            addresses: stats.addresses.iter().map(ToString::to_string).collect(),
            accepted: stats.accepted,
            active: stats.active,
            received_bytes: stats.received_bytes,
            sent_bytes: stats.sent_bytes,
            accept_pauses: stats.accept_pauses,
            paused: stats.paused,
            would_refuse: would_refuse
                .map(|(what, count)| (what.label(), count))
                .collect(),
            sources: stats.sources.map(Into::into),
            ended: ended
                .map(|(reason, count)| (reason.label(), count))
                .collect(),
            session_seconds: stats.session_time.into(),
        }
    }
}

impl From<core::SourcesStats> for SourcesStats {
    fn from(stats: core::SourcesStats) -> Self {
        Self {
            entries: stats.entries,
            places: stats.places,
            evicted: stats.evicted,
            untracked: stats.untracked,
        }
    }
}

impl From<core::PoolStats> for PoolStats {
    fn from(stats: core::PoolStats) -> Self {
        let ends = stats.queue_ends.into_iter();
        Self {
            name: stats.name,
            waiting: stats.waiting,
            queued: stats.queued,
            queue_ends: ends.map(|(end, count)| (end.label(), count)).collect(),
            queue_seconds: stats.queue_time.into(),
            sticky: stats.sticky.map(Into::into),
        }
    }
}

impl From<core::StickyStats> for StickyStats {
    fn from(stats: core::StickyStats) -> Self {
        Self {
            entries: stats.entries,
            found: stats.found,
            made: stats.made,
            broken: stats.broken,
            evicted: stats.evicted,
        }
    }
}

impl From<core::ServerStats> for ServerStats {
    fn from(stats: core::ServerStats) -> Self {
        let connect_failures = stats.connect_failures.into_iter();
        let greeting_failures = stats.greeting_failures.into_iter();
        Self {
            pool: stats.pool,
            name: stats.name,
            address: stats.address.to_string(),
            weight: stats.weight,
            state: stats.state.label(),
            backup: stats.backup,
            ramp: stats.ramp,
            active: stats.active,
            sessions: stats.sessions,
            connect_failures: connect_failures
                .map(|(cause, count)| (cause.label(), count))
                .collect(),
            greeting_failures: greeting_failures
                .map(|(cause, count)| (cause.label(), count))
                .collect(),
            received_bytes: stats.received_bytes,
            sent_bytes: stats.sent_bytes,
            connect_seconds: stats.connect_time.into(),
            greeting_seconds: stats.greeting_time.into(),
        }
    }
}

impl From<core::HistogramStats> for Histogram {
    fn from(stats: core::HistogramStats) -> Self {
        Self {
            bounds: stats
                .bounds
                .iter()
                .map(|bound| bound.as_secs_f64())
                .collect(),
            counts: stats.counts,
            sum: stats.sum.as_secs_f64(),
        }
    }
}
