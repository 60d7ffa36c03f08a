//! What runs: immutable, checked and numbered. Holding a snapshot means that it is runnable.
//!
//! A session takes the current one when it is accepted and keeps it to its end.

mod access;
mod pool;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mailweir_flow::Without;

use crate::prefixes::Prefixes;
use crate::record::ListenerState;
use crate::registry::Registry;
use crate::scales;
use crate::spec::{
    DenyCode, DrainSpec, DryRun, Forwarding, ListenerSpec, PlaneSpec, Protocol, Refuse,
    ServerState, SourceSpec, SpecError, Timeouts, check,
};

use access::Access;
pub(crate) use access::SourceTerms;
pub(crate) use pool::{Choice, Member, Pool};

/// One configuration as it runs.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Counts snapshots from 1; 0 is [`Snapshot::empty`].
    pub(crate) generation: u64,
    pub(crate) hostname: Box<str>,
    pub(crate) max_sessions: u64,
    /// Whether sessions on the kernel path are among those.
    pub(crate) counts_flows: bool,
    pub(crate) drain: DrainSpec,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) pools: Vec<Arc<Pool>>,
    /// Let in at no listener, by an operator's word.
    denied: Prefixes<()>,
    /// The listener (by its index) that each address belongs to.
    bound: HashMap<BindKey, usize>,
}

/// An address to listen at. The identity of its sockets, whatever the listener is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BindKey {
    pub(crate) address: SocketAddr,
    /// Which of several with that address: only port 0 can be asked for more than once.
    nth: usize,
}

/// A listener's settings.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) bind: Vec<BindKey>,
    pub(crate) protocol: Protocol,
    pub(crate) timeouts: Timeouts,
    pub(crate) max_sessions: Option<u64>,
    pub(crate) max_age: Option<Duration>,
    pub(crate) forwarding: Forwarding,
    pub(crate) paused: bool,
    pub(crate) access: Access,
    pub(crate) deny_code: DenyCode,
    pub(crate) refuse: Refuse,
    per_source: Option<SourceTerms>,
    pub(crate) dry_run: DryRun,
    pub(crate) pool: Arc<Pool>,
    /// Those that the pool overflows into, in order.
    pub(crate) overflow: Box<[Arc<Pool>]>,
    pub(crate) state: Arc<ListenerState>,
}

impl Snapshot {
    /// What runs before the first one: nothing.
    pub(crate) fn empty() -> Self {
        Self {
            generation: 0,
            hostname: Box::default(),
            max_sessions: 0,
            counts_flows: false,
            drain: DrainSpec::default(),
            listeners: vec![],
            pools: vec![],
            denied: Prefixes::new([]),
            bound: HashMap::new(),
        }
    }

    /// A runnable snapshot. Doesn't touch the servers' states: see [`Snapshot::take_states`].
    ///
    /// # Errors
    /// The first contradiction that [`check`](crate::spec::check) finds.
    pub(crate) fn build(
        spec: &PlaneSpec,
        generation: u64,
        registry: &mut Registry,
    ) -> Result<Self, SpecError> {
        check(spec)?;
        let pools: HashMap<&str, Arc<Pool>> = spec
            .pools
            .iter()
            .map(|pool| (pool.name.as_str(), Arc::new(Pool::build(pool, registry))))
            .collect();
        let mut times_seen = HashMap::new();
        let listeners: Vec<Listener> = spec
            .listeners
            .iter()
            .map(|listener| Listener::build(listener, &pools, registry, &mut times_seen))
            .collect();
        let bound = listeners
            .iter()
            .enumerate()
            .flat_map(|(index, listener)| listener.bind.iter().map(move |key| (*key, index)))
            .collect();
        Ok(Self {
            generation,
            hostname: spec.hostname.as_str().into(),
            max_sessions: spec.max_sessions,
            counts_flows: spec.kernel.counted,
            drain: spec.drain,
            pools: spec
                .pools
                .iter()
                .map(|pool| Arc::clone(&pools[pool.name.as_str()]))
                .collect(),
            denied: Prefixes::new(spec.denied.iter().map(|prefix| (*prefix, ()))),
            listeners,
            bound,
        })
    }

    /// Has pools go by what `spec` says, which this snapshot was built from; the names (of pool
    /// and server) of the servers that drain.
    pub(crate) fn take_states(&self, spec: &PlaneSpec) -> Vec<(Arc<str>, Arc<str>)> {
        for listener in &self.listeners {
            listener.state.drains.clear();
        }
        let mut draining = vec![];
        for (pool, pool_spec) in self.pools.iter().zip(&spec.pools) {
            pool.roster.apply(&pool.settings(pool_spec));
            let drains = |one: &&Member| one.server.state().drains();
            let drained = pool.members.iter().filter(drains);
            draining.extend(drained.map(|one| (Arc::clone(&pool.name), Arc::clone(&one.name))));
        }
        draining
    }

    /// Has sessions leave the servers that `newer` hasn't any more; the names of their pools, and
    /// theirs.
    pub(crate) fn retire_servers(&self, newer: &Self) -> Vec<(Arc<str>, Arc<str>)> {
        let stay: HashSet<_> = newer
            .servers()
            .map(|(_, one)| Arc::as_ptr(&one.server))
            .collect();
        let mut retired = vec![];
        for pool in &self.pools {
            let left = pool.members.iter();
            let left = left.filter(|one| !stay.contains(&Arc::as_ptr(&one.server)));
            let mut states = vec![];
            for member in left {
                states.push((member.seat, ServerState::Drain));
                retired.push((Arc::clone(&pool.name), Arc::clone(&member.name)));
            }
            if !states.is_empty() {
                pool.roster.set_states(&states);
            }
        }
        retired
    }

    /// The same of listeners; their names.
    pub(crate) fn retire_listeners(&self, newer: &Self) -> Vec<Arc<str>> {
        let stay: HashSet<_> = newer.listeners.iter().map(|one| &one.state.name).collect();
        let mut retired = vec![];
        for state in self.listeners.iter().map(|one| &one.state) {
            if !stay.contains(&state.name) {
                state.drains.set_first(Instant::now());
                retired.push(Arc::clone(&state.name));
            }
        }
        retired
    }

    fn servers(&self) -> impl Iterator<Item = (&Pool, &Member)> {
        let pools = self.pools.iter();
        pools.flat_map(|pool| pool.members.iter().map(|member| (&**pool, member)))
    }

    /// Whether an operator lets an address in nowhere.
    pub(crate) fn denies(&self, client: IpAddr) -> bool {
        self.denied.find(client).is_some()
    }

    /// The listener that `key` belongs to, by its index.
    pub(crate) fn listener_at(&self, key: &BindKey) -> Option<usize> {
        self.bound.get(key).copied()
    }

    pub(crate) fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools
            .iter()
            .map(|one| &**one)
            .find(|one| *one.name == *name)
    }
}

impl Listener {
    /// What the source of an address may, where that is limited.
    pub(crate) fn source_terms(&self, client: IpAddr) -> Option<&SourceTerms> {
        self.per_source
            .as_ref()
            .filter(|terms| !terms.exempts(client))
    }

    /// What counts as one source where refused ones are told of: what does for its limits, else what
    /// they have by default.
    pub(crate) fn source(&self) -> SourceSpec {
        let usual = SourceSpec {
            prefix4: 32,
            prefix6: 64,
        };
        self.per_source.as_ref().map_or(usual, |terms| terms.source)
    }

    /// The pools that its sessions may come to, its own first.
    pub(crate) fn pools(&self) -> impl Iterator<Item = &Pool> {
        [&self.pool]
            .into_iter()
            .chain(&self.overflow)
            .map(|one| &**one)
    }

    /// The window scale to announce to clients: it fits all servers that they may get.
    pub(crate) fn window_scale(&self) -> u8 {
        let members = self.pools().flat_map(|pool| &pool.members);
        scales::fitting(members.map(|one| one.server.scale.smallest()))
    }

    /// What clients' SYNs are to be without, since a server that they may get lacks it.
    pub(crate) fn lacking(&self) -> Without {
        self.pools()
            .map(Pool::lacking)
            .fold(Without::default(), Without::or)
    }

    /// Whether its sessions may take the kernel path, as far as it says itself.
    pub(crate) fn may_leave(&self) -> bool {
        self.forwarding != Forwarding::Relay && self.protocol == Protocol::Smtp
    }

    /// Whether sources are limited.
    pub(crate) fn limits_sources(&self) -> bool {
        self.per_source.is_some()
    }

    fn build(
        spec: &ListenerSpec,
        pools: &HashMap<&str, Arc<Pool>>,
        registry: &mut Registry,
        times_seen: &mut HashMap<SocketAddr, usize>,
    ) -> Self {
        let bind = spec
            .bind
            .iter()
            .map(|address| {
                let times = times_seen.entry(*address).or_default();
                *times += 1;
                BindKey {
                    address: *address,
                    nth: *times,
                }
            })
            .collect();
        let pool = Arc::clone(&pools[spec.pool.as_str()]);
        let others = pool.overflow.iter().map(|name| Arc::clone(&pools[&**name]));
        Self {
            bind,
            overflow: others.collect(),
            protocol: spec.protocol,
            timeouts: spec.timeouts,
            max_sessions: spec.max_sessions,
            max_age: spec.max_age,
            forwarding: spec.forwarding,
            paused: spec.paused,
            access: Access::new(&spec.access),
            deny_code: spec.access.deny_code,
            refuse: spec.refuse,
            per_source: spec.per_source.as_ref().map(SourceTerms::new),
            dry_run: spec.dry_run,
            pool,
            state: registry.listener(&spec.name),
        }
    }
}
