//! What runs: immutable, checked and numbered. Holding a snapshot means that it is runnable.
//!
//! A session takes the current one when it is accepted and keeps it to its end.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::metrics::PerWorker;
use crate::record::ListenerCounters;
use crate::registry::Registry;
use crate::server::{Rotation, Server};
use crate::spec::{
    Balance, ListenerSpec, MAX_WEIGHT, PlaneSpec, PoolSpec, Protocol, ServerSpec, Timeouts,
};

/// One configuration as it runs.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Counts snapshots from 1; 0 is [`Snapshot::empty`].
    pub(crate) generation: u64,
    pub(crate) hostname: Box<str>,
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
    pub(crate) name: Box<str>,
    pub(crate) bind: Vec<BindKey>,
    pub(crate) protocol: Protocol,
    pub(crate) timeouts: Timeouts,
    pub(crate) pool: Arc<Pool>,
    pub(crate) counters: Arc<PerWorker<ListenerCounters>>,
}

/// A pool's settings, and its place in the rotation.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) name: Box<str>,
    pub(crate) balance: Balance,
    pub(crate) members: Vec<Member>,
    pub(crate) rotation: Arc<Rotation>,
}

/// A server's settings, and what is known of it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: Box<str>,
    pub(crate) address: SocketAddr,
    pub(crate) weight: u32,
    pub(crate) server: Arc<Server>,
}

/// What contradicts itself in a specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct SpecError {
    /// The part that is wrong, as `pools.farm.servers.a`.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Snapshot {
    /// What runs before the first one: nothing.
    pub(crate) fn empty() -> Self {
        Self {
            generation: 0,
            hostname: Box::default(),
            listeners: vec![],
            pools: vec![],
            bound: HashMap::new(),
        }
    }

    /// A runnable snapshot. Doesn't touch the servers' states: see [`Snapshot::take_states`].
    ///
    /// # Errors
    /// The first contradiction that [`check`] finds.
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
            pools: spec
                .pools
                .iter()
                .map(|pool| Arc::clone(&pools[pool.name.as_str()]))
                .collect(),
            listeners,
            bound,
        })
    }

    /// Brings the servers' states to what `spec` says, which this snapshot was built from.
    pub(crate) fn take_states(&self, spec: &PlaneSpec) {
        for (pool, pool_spec) in self.pools.iter().zip(&spec.pools) {
            for (member, server_spec) in pool.members.iter().zip(&pool_spec.servers) {
                member.server.set_state(server_spec.state);
            }
        }
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
            name: spec.name.as_str().into(),
            bind,
            protocol: spec.protocol,
            timeouts: spec.timeouts,
            pool,
            counters: registry.listener(&spec.name),
        }
    }
}

impl Pool {
    fn build(spec: &PoolSpec, registry: &mut Registry) -> Self {
        let member = |server: &ServerSpec| Member {
            name: server.name.as_str().into(),
            address: server.address,
            weight: server.weight,
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

/// Says what contradicts itself in `spec`, if anything does.
///
/// # Errors
/// The first contradiction.
pub fn check(spec: &PlaneSpec) -> Result<(), SpecError> {
    // It opens lines that are sent to clients: nothing in it may end a line or a word.
    let graphic = spec.hostname.bytes().all(|byte| byte.is_ascii_graphic());
    if spec.hostname.is_empty() || !graphic {
        return Err(wrong("hostname", "must be one word of printable ASCII"));
    }
    unique("pools", spec.pools.iter().map(|pool| pool.name.as_str()))?;
    for pool in &spec.pools {
        check_pool(pool)?;
    }
    let names = spec.listeners.iter().map(|listener| listener.name.as_str());
    unique("listeners", names)?;
    let pools: HashSet<&str> = spec.pools.iter().map(|pool| pool.name.as_str()).collect();
    let mut taken = HashSet::new();
    for listener in &spec.listeners {
        check_listener(listener, &pools, &mut taken)?;
    }
    Ok(())
}

fn check_pool(pool: &PoolSpec) -> Result<(), SpecError> {
    let path = format!("pools.{}", pool.name);
    if pool.servers.is_empty() {
        return Err(wrong(&path, "has no servers"));
    }
    let names = pool.servers.iter().map(|server| server.name.as_str());
    unique(&format!("{path}.servers"), names)?;
    for server in &pool.servers {
        let path = format!("{path}.servers.{}", server.name);
        if server.weight > MAX_WEIGHT {
            return Err(wrong(&path, format!("weight is above {MAX_WEIGHT}")));
        }
        if server.address.port() == 0 || server.address.ip().is_unspecified() {
            return Err(wrong(
                &path,
                format!("{} isn't a destination", server.address),
            ));
        }
    }
    Ok(())
}

fn check_listener(
    listener: &ListenerSpec,
    pools: &HashSet<&str>,
    taken: &mut HashSet<SocketAddr>,
) -> Result<(), SpecError> {
    let path = format!("listeners.{}", listener.name);
    if !pools.contains(listener.pool.as_str()) {
        return Err(wrong(&path, format!("there is no pool {}", listener.pool)));
    }
    if listener.bind.is_empty() {
        return Err(wrong(&path, "binds nothing"));
    }
    for address in &listener.bind {
        if address.port() != 0 && !taken.insert(*address) {
            return Err(wrong(&path, format!("{address} is bound twice")));
        }
    }
    let timeouts = &listener.timeouts;
    for (name, value) in [
        ("connect", timeouts.connect),
        ("greeting", timeouts.greeting),
        ("accept_total", timeouts.accept_total),
        ("idle_client", timeouts.idle_client),
        ("idle_server", timeouts.idle_server),
        ("half_closed", timeouts.half_closed),
    ] {
        if value.is_zero() {
            return Err(wrong(&format!("{path}.timeouts.{name}"), "is zero"));
        }
    }
    Ok(())
}

fn unique<'a>(path: &str, names: impl Iterator<Item = &'a str>) -> Result<(), SpecError> {
    let mut seen = HashSet::new();
    for name in names {
        if name.is_empty() || !seen.insert(name) {
            return Err(wrong(path, format!("{name:?} is there twice, or empty")));
        }
    }
    Ok(())
}

fn wrong(path: &str, problem: impl Into<String>) -> SpecError {
    SpecError {
        path: path.into(),
        problem: problem.into(),
    }
}
