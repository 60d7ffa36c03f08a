//! Specifications to begin with: nothing in them but what must be there.

use std::net::SocketAddr;
use std::time::Duration;

use super::{
    AccessSpec, Balance, DenyCode, DryRun, Forwarding, HashKeySpec, ListenerSpec, PoolSpec,
    Protocol, ProxyVersion, Refuse, ServerSpec, ServerState, SourceSpec, Timeouts,
};

impl ListenerSpec {
    /// A listener of plain SMTP without limits.
    #[must_use]
    pub fn new(name: &str, bind: Vec<SocketAddr>, pool: &str, timeouts: Timeouts) -> Self {
        Self {
            name: name.into(),
            bind,
            protocol: Protocol::Smtp,
            pool: pool.into(),
            timeouts,
            max_sessions: None,
            max_age: None,
            forwarding: Forwarding::Auto,
            paused: false,
            access: AccessSpec {
                allow: vec![],
                deny: vec![],
                admits_others: true,
                deny_code: DenyCode::Never,
            },
            refuse: Refuse::Reply,
            per_source: None,
            dry_run: DryRun::default(),
        }
    }
}

impl ServerSpec {
    /// A server that is up and has no limits.
    #[must_use]
    pub fn new(name: &str, address: SocketAddr) -> Self {
        Self {
            name: name.into(),
            address,
            weight: 100,
            state: ServerState::Up,
            max_sessions: None,
            proxy: ProxyVersion::Off,
            source: vec![],
            backup: false,
        }
    }
}

impl PoolSpec {
    /// A pool that does nothing beside picking.
    #[must_use]
    pub fn new(name: &str, balance: Balance, servers: Vec<ServerSpec>) -> Self {
        Self {
            name: name.into(),
            balance,
            servers,
            hash_key: HashKeySpec {
                source: SourceSpec::ADDRESS,
                seed: String::new(),
            },
            sticky: None,
            slow_start: Duration::ZERO,
            queue: None,
            overflow: vec![],
        }
    }
}
