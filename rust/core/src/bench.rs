//! What the benches in rust/core/benches measure: tables that nobody outside sees.
//!
//! Only built with the feature `bench`; nothing of it is part of the API.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::hashing::{Hashing, Maglev};
use crate::prefixes::{Prefix, Prefixes, source_key};
use crate::record::{EndReason, Refused, Side};
use crate::registry::Registry;
use crate::select::{self, Asking};
use crate::smtp::dialogue::Dialogue;
use crate::snapshot::Snapshot;
use crate::sources::{Met, Rate, SourceLimits, Sources};
use crate::spec::{
    Balance, DrainSpec, KernelSpec, LogFormat, LogSpec, LogTarget, PlaneSpec, PoolSpec, Protocol,
    RoomSpec, ServerSpec, SourceSpec, SpecError,
};

/// A table of prefixes that lets clients in or not.
#[derive(Debug)]
pub struct PrefixTable(Prefixes<bool>);

impl PrefixTable {
    /// Of these.
    #[must_use]
    pub fn new(prefixes: &[(Prefix, bool)]) -> Self {
        Self(Prefixes::new(prefixes.iter().copied()))
    }

    /// What is said of `address`.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Option<bool> {
        self.0.find(address)
    }
}

/// Limits of sources, with a table as large as a listener's.
#[derive(Debug)]
pub struct Limited {
    sources: Arc<Sources>,
    limits: SourceLimits,
}

impl Limited {
    /// 20 sessions a source, and 100 a minute.
    #[must_use]
    pub fn new() -> Self {
        Self {
            sources: Arc::new(Sources::new()),
            limits: SourceLimits {
                sessions: Some(20),
                rate: Some(Rate::new(100, Duration::from_secs(60), 100)),
            },
        }
    }

    /// A session of `client`, from its begin to its end; whether it was let in.
    #[must_use]
    pub fn pass(&self, client: IpAddr, now: u64) -> bool {
        let key = source_key(client, 32, 64);
        let tried = Met::default();
        self.sources.look(key, &self.limits, now) == tried
            && self.sources.enter(key, &self.limits, tried, now).is_ok()
    }

    /// How many sources something is remembered of.
    #[must_use]
    pub fn entries(&self, now: u64) -> u64 {
        self.sources.stats(now).entries
    }
}

/// Whom a listener refused.
#[derive(Debug)]
pub struct RefusedClients(Refused);

impl RefusedClients {
    /// Nobody.
    #[must_use]
    pub fn none() -> Self {
        Self(Refused::new())
    }

    /// A client is refused.
    pub fn note(&self, client: IpAddr, now: Instant) {
        let source = SourceSpec {
            prefix4: 32,
            prefix6: 64,
        };
        self.0.note(client, source, EndReason::Denied, now);
    }
}

impl Default for Limited {
    fn default() -> Self {
        Self::new()
    }
}

/// A pool of servers that are up.
#[derive(Debug)]
pub struct Farm(Snapshot);

/// A session at a server, until it is dropped.
#[derive(Debug)]
pub struct HeldSeat {
    _in_flight: crate::roster::InFlight,
}

impl Farm {
    /// Of so many servers.
    ///
    /// # Errors
    /// With none.
    pub fn new(balance: Balance, servers: u32) -> Result<Self, SpecError> {
        let server = |number: u32| {
            let address = (std::net::Ipv4Addr::from_bits(0x0a00_0001 + number), 25);
            ServerSpec::new(&format!("mx{number}"), address.into())
        };
        let servers = (0..servers).map(server).collect();
        let spec = PlaneSpec {
            hostname: "bench".into(),
            max_sessions: 1,
            room: RoomSpec {
                sessions: 1000,
                spare: 100,
            },
            drain: DrainSpec::default(),
            log: LogSpec {
                sessions: LogTarget::Off,
                format: LogFormat::Json,
            },
            kernel: KernelSpec {
                instance: "bench".into(),
                source_ports: 10_000..=32_767,
                max_flows: 1,
                counted: false,
            },
            listeners: vec![],
            pools: vec![PoolSpec::new("farm", balance, servers)],
            denied: vec![],
        };
        let snapshot = Snapshot::build(&spec, 1, &mut Registry::new(1))?;
        snapshot.take_states(&spec);
        Ok(Self(snapshot))
    }

    /// A session of `client`.
    #[must_use]
    pub fn pick(&self, client: IpAddr, now: Instant) -> Option<HeldSeat> {
        let asking = Asking {
            client,
            tried: &[],
            now,
        };
        let picked = select::pick(&self.0.pools[0], &asking).ok()?;
        Some(HeldSeat {
            _in_flight: picked.in_flight,
        })
    }
}

/// The rows of a table of servers.
#[derive(Debug)]
pub struct MaglevTable(Maglev, Hashing);

impl MaglevTable {
    /// Of so many servers.
    #[must_use]
    pub fn new(servers: u32) -> Self {
        let names: Vec<String> = (0..servers).map(|number| format!("mx{number}")).collect();
        let hashing = Hashing::new("");
        let servers = names.iter().map(|name| (name.as_str(), 100));
        Self(Maglev::build(hashing, servers), hashing)
    }

    /// Whose a client is.
    #[must_use]
    pub fn find(&self, client: IpAddr) -> Option<usize> {
        let key = source_key(client, 32, 64);
        self.0.find(self.1.source(key), 0)
    }
}

/// Listens to a whole session, as the relay does: pieces by whether the client says them. How often
/// it was between two commands.
#[must_use]
pub fn follow(pieces: &[(bool, &[u8])]) -> usize {
    let mut dialogue = Dialogue::new(Protocol::Smtp);
    let mut hear = |&(client, piece): &(bool, &[u8])| {
        dialogue.hear(if client { Side::Client } else { Side::Server }, piece);
        let course = (dialogue.spoke_last(), dialogue.tls(), dialogue.in_data());
        std::hint::black_box(course);
        dialogue.is_between_commands()
    };
    pieces.iter().filter(|piece| hear(piece)).count()
}
