//! What runs: immutable, checked and numbered. Holding a snapshot means that it is runnable.
//!
//! A session takes the current one when it is accepted and keeps it to its end.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::record::ListenerState;
use crate::registry::Registry;
use crate::server::{Rotation, Server};
use crate::spec::{
    Balance, DrainSpec, Forwarding, ListenerSpec, PlaneSpec, PoolSpec, Protocol, ProxyVersion,
    ServerSpec, ServerState, SpecError, Timeouts, check,
};

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
    pub(crate) pool: Arc<Pool>,
    pub(crate) state: Arc<ListenerState>,
}

/// A pool's settings, and its place in the rotation.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) name: Arc<str>,
    pub(crate) balance: Balance,
    pub(crate) members: Vec<Member>,
    pub(crate) rotation: Arc<Rotation>,
}

/// A server's settings, and what is known of it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: Arc<str>,
    pub(crate) address: SocketAddr,
    pub(crate) weight: u32,
    pub(crate) max_sessions: Option<u64>,
    pub(crate) proxy: ProxyVersion,
    pub(crate) source: Box<[IpAddr]>,
    pub(crate) server: Arc<Server>,
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
            .map(|listener| {
                let pool = Arc::clone(&pools[listener.pool.as_str()]);
                Listener::build(listener, pool, registry, &mut times_seen)
            })
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
            listeners,
            bound,
        })
    }

    /// Brings the servers' states to what `spec` says, which this snapshot was built from; the
    /// names (of pool and server) of those that drain.
    pub(crate) fn take_states(&self, spec: &PlaneSpec) -> Vec<(Arc<str>, Arc<str>)> {
        for listener in &self.listeners {
            listener.state.drains.clear();
        }
        let mut draining = vec![];
        for (pool, pool_spec) in self.pools.iter().zip(&spec.pools) {
            for (member, server_spec) in pool.members.iter().zip(&pool_spec.servers) {
                member.server.set_state(server_spec.state);
                if server_spec.state.drains() {
                    draining.push((Arc::clone(&pool.name), Arc::clone(&member.name)));
                }
            }
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
        for (pool, member) in self.servers() {
            if !stay.contains(&Arc::as_ptr(&member.server)) {
                member.server.set_state(ServerState::Drain);
                retired.push((Arc::clone(&pool.name), Arc::clone(&member.name)));
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

    /// The listener that `key` belongs to, by its index.
    pub(crate) fn listener_at(&self, key: &BindKey) -> Option<usize> {
        self.bound.get(key).copied()
    }

    /// A server by its identity.
    pub(crate) fn member(&self, pool: &str, server: &str) -> Option<&Member> {
        let pool = self.pools.iter().find(|one| *one.name == *pool)?;
        pool.members.iter().find(|one| *one.name == *server)
    }
}

impl Listener {
    fn build(
        spec: &ListenerSpec,
        pool: Arc<Pool>,
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
        Self {
            bind,
            protocol: spec.protocol,
            timeouts: spec.timeouts,
            max_sessions: spec.max_sessions,
            max_age: spec.max_age,
            forwarding: spec.forwarding,
            paused: spec.paused,
            pool,
            state: registry.listener(&spec.name),
        }
    }
}

impl Pool {
    fn build(spec: &PoolSpec, registry: &mut Registry) -> Self {
        let member = |server: &ServerSpec| Member {
            name: server.name.as_str().into(),
            address: server.address,
            weight: server.weight,
            max_sessions: server.max_sessions,
            proxy: server.proxy,
            source: server.source.as_slice().into(),
            server: registry.server(&spec.name, &server.name),
        };
        Self {
            name: spec.name.as_str().into(),
            balance: spec.balance,
            members: spec.servers.iter().map(member).collect(),
            rotation: registry.rotation(&spec.name),
        }
    }
}
