//! What is asked of the data plane, and changes nothing.

use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::{DataPlane, lock};
use crate::admission::{self, Applicant};
use crate::metrics::BoundsStats;
use crate::record::{RefusedSource, SessionFilter, SessionStats, most_refused};
use crate::select;
use crate::snapshot::{BindKey, Pool};
use crate::stats::{
    Admission, ListenerStats, PoolConduct, PoolStats, RelayStats, RoomStats, ServerStats, Stats,
    WorkerStats,
};

impl DataPlane {
    /// Counters and gauges of this moment, but those of servers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &*self.shared;
        let current = shared.current.load();
        let bound = lock(&shared.bound);
        // Ends first, so that the difference is never below zero.
        let ended = shared.counters.sum(|one| &one.ended);
        let begun = shared.counters.sum(|one| &one.begun);
        let address = |key: &BindKey| bound.get(key).copied();
        let listener = |listener| ListenerStats::read(listener, address);
        Stats {
            bounds: BoundsStats::read(),
            generation: current.generation,
            workers: WorkerStats::read(&shared.counters),
            draining: shared.draining.load(Relaxed),
            active: begun.saturating_sub(ended),
            max_sessions: current.max_sessions,
            room: RoomStats::read(&shared.holdings),
            listeners: current.listeners.iter().map(listener).collect(),
            pools: current
                .pools
                .iter()
                .map(|pool| PoolStats::read(pool))
                .collect(),
            relay: RelayStats::read(&shared.counters, shared.pipe_budget),
            kernel_path: shared.kernel.get().map(|path| path.stats(&shared.counters)),
            no_kernel_path: lock(&shared.kernel_start).why_failed(),
            log: shared.log.stats(),
        }
    }

    /// Servers at this moment, in the specification's order, pool by pool. There may be thousands:
    /// `with_times` asks for what takes the longest.
    #[must_use]
    pub fn servers(&self, with_times: bool) -> Vec<ServerStats> {
        let current = self.shared.current.load();
        let servers = current.pools.iter().flat_map(|pool| {
            let of_pool = pool.members.iter();
            of_pool.map(|member| ServerStats::read(pool, member, with_times))
        });
        servers.collect()
    }

    /// What servers have done to sessions, pool by pool in the specification's order. Asked each
    /// second: ten times as fast as the whole of their figures.
    #[must_use]
    pub fn conduct(&self) -> Vec<PoolConduct> {
        let current = self.shared.current.load();
        current
            .pools
            .iter()
            .map(|pool| PoolConduct::read(pool))
            .collect()
    }

    /// Live sessions that `filter` takes, the oldest first, at most `limit`.
    #[must_use]
    pub fn sessions(&self, filter: SessionFilter<'_>, limit: usize) -> Vec<SessionStats> {
        let mut found = self.shared.live.read(filter, limit);
        if let Some(path) = self.shared.kernel.get() {
            let sources = path.sources();
            for one in &mut found {
                one.source = sources.get(&one.id).copied();
            }
        }
        found
    }

    /// The server that the next session of a client in `pool` would get at this moment, if any, by
    /// its pool and its name; not certain where lots are drawn, nor while sessions come back to a
    /// pool.
    #[must_use]
    pub fn next_server(&self, pool: &str, client: IpAddr) -> Option<(String, String)> {
        let current = self.shared.current.load();
        let own = current.pool(pool)?;
        let others: Vec<&Pool> = own
            .overflow
            .iter()
            .filter_map(|name| current.pool(name))
            .collect();
        let (of, member) = select::foresee_anywhere(own, &others, client)?;
        Some((of.name.to_string(), member.name.to_string()))
    }

    /// The sources that listeners refused most, `limit` at most; of the listener of that name, or
    /// of all.
    #[must_use]
    pub fn refused(&self, listener: Option<&str>, limit: usize) -> Vec<RefusedSource> {
        let (snapshot, now) = (self.shared.current.load(), Instant::now());
        let listeners = snapshot.listeners.iter().map(|one| &one.state);
        let wanted = listeners.filter(|one| listener.is_none_or(|name| *one.name == *name));
        most_refused(
            wanted.flat_map(|one| one.read_refused(now)).collect(),
            limit,
        )
    }

    /// What would become of a client at a listener at this moment; nothing where there is none of
    /// that name.
    #[must_use]
    pub fn admission(&self, listener: &str, client: IpAddr) -> Admission {
        let snapshot = self.shared.current.load();
        let mut listeners = snapshot.listeners.iter();
        let Some(listener) = listeners.find(|one| *one.state.name == *listener) else {
            return Admission::default();
        };
        let (refused, tried_out) = admission::foresee(&Applicant {
            client,
            snapshot: &snapshot,
            listener,
            process: &self.shared.occupancy,
            holdings: &self.shared.holdings,
        });
        Admission {
            refused,
            would_refuse: tried_out.each().collect(),
        }
    }
}
