//! A pool as it runs: its servers, and how one is picked.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use mailweir_flow::Without;

use crate::hashing::{Hashing, Maglev, Rendezvous};
use crate::record::Taker;
use crate::registry::Registry;
use crate::roster::{Roster, SeatTerms, Settings};
use crate::server::Server;
use crate::spec::{Balance, PoolSpec, ProxyVersion, QueueSpec, ServerSpec, SourceSpec, StickySpec};

/// A pool's settings, and what is known of it.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) name: Arc<str>,
    pub(crate) choice: Choice,
    pub(crate) members: Vec<Member>,
    pub(crate) sticky: Option<StickySpec>,
    pub(crate) queue: Option<QueueSpec>,
    /// The names of the pools that it overflows into.
    pub(crate) overflow: Box<[Box<str>]>,
    pub(crate) roster: Arc<Roster>,
    /// The member (by its index) that has each seat of the roster.
    by_seat: Box<[Option<usize>]>,
}

/// How a pool picks a server.
#[derive(Debug)]
pub(crate) enum Choice {
    LeastConn,
    RoundRobin,
    RandomTwo,
    LeastLoad,
    SourceHash {
        source: SourceSpec,
        hashing: Hashing,
        /// Of the members, in their order.
        claims: Rendezvous,
    },
    Maglev {
        source: SourceSpec,
        hashing: Hashing,
        table: Arc<Maglev>,
        /// The member of each of the table's servers.
        members: Box<[usize]>,
    },
}

/// A server's settings, and what is known of it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: Arc<str>,
    /// The same with its pool, as sessions know who took them.
    pub(crate) taker: Arc<Taker>,
    pub(crate) address: SocketAddr,
    pub(crate) weight: u32,
    pub(crate) backup: bool,
    pub(crate) proxy: ProxyVersion,
    pub(crate) source: Box<[IpAddr]>,
    pub(crate) server: Arc<Server>,
    /// In the pool's roster.
    pub(crate) seat: usize,
}

impl Pool {
    pub(super) fn build(spec: &PoolSpec, registry: &mut Registry) -> Self {
        let roster = registry.roster(&spec.name);
        let workers = registry.workers;
        let name = Arc::from(spec.name.as_str());
        let members: Vec<Member> = spec
            .servers
            .iter()
            .map(|server| Member::build(server, &name, &roster, workers))
            .collect();
        let seats = members.iter().map(|one| one.seat + 1).max();
        let mut by_seat = vec![None; seats.unwrap_or_default()];
        for (index, member) in members.iter().enumerate() {
            by_seat[member.seat] = Some(index);
        }
        Self {
            name,
            choice: Choice::build(spec, registry),
            members,
            sticky: spec.sticky,
            queue: spec.queue,
            overflow: spec
                .overflow
                .iter()
                .map(|name| name.as_str().into())
                .collect(),
            roster,
            by_seat: by_seat.into(),
        }
    }

    /// What its roster is to go by.
    pub(super) fn settings(&self, spec: &PoolSpec) -> Settings {
        let servers = self.members.iter().zip(&spec.servers);
        let of_server = |(member, spec): (&Member, &ServerSpec)| {
            let terms = SeatTerms {
                weight: spec.weight,
                most: spec.max_sessions,
                backup: spec.backup,
            };
            (member.seat, terms, spec.state)
        };
        Settings {
            slow_start: spec.slow_start,
            overflows: !spec.overflow.is_empty(),
            by_load: spec.balance == Balance::LeastLoad,
            servers: servers.map(of_server).collect(),
        }
    }

    /// A server by its name.
    pub(crate) fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|one| *one.name == *name)
    }

    /// What clients' SYNs are to be without, since a server lacks it.
    pub(crate) fn lacking(&self) -> Without {
        let servers = self.members.iter().map(|one| one.server.answers.lacking());
        servers.fold(Without::default(), Without::or)
    }

    /// The member that has this seat, by its index. A seat is nobody else's as long as a snapshot
    /// has its server.
    pub(crate) fn member_at(&self, seat: usize) -> Option<usize> {
        self.by_seat.get(seat).copied().flatten()
    }
}

impl Member {
    fn build(spec: &ServerSpec, pool: &Arc<str>, roster: &Roster, workers: usize) -> Self {
        let (server, seat) = roster.server(&spec.name, workers);
        Self {
            name: Arc::clone(&server.name),
            taker: Arc::new(Taker {
                pool: Arc::clone(pool),
                server: Arc::clone(&server.name),
            }),
            address: spec.address,
            weight: spec.weight,
            backup: spec.backup,
            proxy: spec.proxy,
            source: spec.source.as_slice().into(),
            server,
            seat,
        }
    }
}

impl Choice {
    fn build(spec: &PoolSpec, registry: &mut Registry) -> Self {
        let source = spec.hash_key.source;
        let hashing = Hashing::new(&spec.hash_key.seed);
        let servers = spec.servers.iter();
        match spec.balance {
            Balance::LeastConn => Self::LeastConn,
            Balance::RoundRobin => Self::RoundRobin,
            Balance::RandomTwo => Self::RandomTwo,
            Balance::LeastLoad => Self::LeastLoad,
            Balance::SourceHash => Self::SourceHash {
                source,
                hashing,
                claims: Rendezvous::new(hashing, servers.map(|one| one.name.as_str())),
            },
            Balance::Maglev => {
                let weighed = servers.map(|one| (one.name.as_str(), one.weight));
                let table = registry.table(&spec.name, hashing, weighed);
                let indexes = spec.servers.iter().enumerate();
                let indexes: HashMap<&str, usize> = indexes
                    .map(|(index, one)| (one.name.as_str(), index))
                    .collect();
                Self::Maglev {
                    source,
                    hashing,
                    members: table.names().map(|name| indexes[name]).collect(),
                    table,
                }
            }
        }
    }
}
