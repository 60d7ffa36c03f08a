//! What a caller may ask of the data plane, as plain values.
//!
//! The twin of python/mailweir/spec.py. Nothing here is checked yet; a
//! [`Snapshot`](crate::snapshot::Snapshot) is, and only that can run.

use std::net::SocketAddr;
use std::time::Duration;

/// All that the data plane is to do.
#[derive(Debug, Clone)]
pub struct PlaneSpec {
    /// Opens the refusal lines: `421 4.3.2 <hostname> ...`.
    pub hostname: String,
    /// In any order; names are unique.
    pub listeners: Vec<ListenerSpec>,
    /// In any order; names are unique.
    pub pools: Vec<PoolSpec>,
}

/// Addresses that clients connect to.
#[derive(Debug, Clone)]
pub struct ListenerSpec {
    /// The listener's identity, which outlives changes.
    pub name: String,
    /// At least one. Port 0 lets the kernel choose one, once.
    pub bind: Vec<SocketAddr>,
    /// Who speaks first.
    pub protocol: Protocol,
    /// The name of a pool.
    pub pool: String,
    /// How long its sessions may wait, and for what.
    pub timeouts: Timeouts,
}

/// How long a session may wait, and for what. None is zero.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For one server to accept.
    pub connect: Duration,
    /// For one server to greet, once it has accepted.
    pub greeting: Duration,
    /// For all attempts to reach a server together.
    pub accept_total: Duration,
    /// After the server spoke last.
    pub idle_client: Duration,
    /// After the client spoke last (RFC 5321, 4.5.3.2.6: 10 min for the final dot).
    pub idle_server: Duration,
    /// After one side closed its direction and an answer can't or needn't come any more.
    pub half_closed: Duration,
}

/// Servers that share sessions.
#[derive(Debug, Clone)]
pub struct PoolSpec {
    /// The pool's identity, which outlives changes.
    pub name: String,
    /// How one is picked.
    pub balance: Balance,
    /// At least one; names are unique in the pool.
    pub servers: Vec<ServerSpec>,
}

/// A mail server.
#[derive(Debug, Clone)]
pub struct ServerSpec {
    /// With the pool's name the server's identity, which outlives changes.
    pub name: String,
    /// Where it is reached.
    pub address: SocketAddr,
    /// Its share, 0 to [`MAX_WEIGHT`]; 0 takes no new sessions.
    pub weight: u32,
    /// What it may be used for.
    pub state: ServerState,
}

/// The largest weight.
pub const MAX_WEIGHT: u32 = 1000;

/// Who speaks first behind a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// The server, with a greeting.
    Smtp,
    /// The client, with TLS.
    Smtps,
    /// Unknown.
    Tcp,
}

/// How a pool picks a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// The fewest sessions for its weight.
    LeastConn,
    /// In turn, by weight.
    RoundRobin,
}

/// What a server may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    /// Everything.
    Up,
    /// Nothing: checks failed.
    Down,
    /// No new sessions, by an operator's word; checks go on.
    Drain,
    /// No new sessions, by an operator's word; no checks.
    Maint,
}

impl Protocol {
    const ALL: [Self; 3] = [Self::Smtp, Self::Smtps, Self::Tcp];

    /// As the configuration writes it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Smtps => "smtps",
            Self::Tcp => "tcp",
        }
    }

    /// The reverse of [`label`](Self::label).
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.label() == label)
    }
}

impl Balance {
    const ALL: [Self; 2] = [Self::LeastConn, Self::RoundRobin];

    /// As the configuration writes it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::LeastConn => "least_conn",
            Self::RoundRobin => "round_robin",
        }
    }

    /// The reverse of [`label`](Self::label).
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.label() == label)
    }
}

impl ServerState {
    pub(crate) const ALL: [Self; 4] = [Self::Up, Self::Down, Self::Drain, Self::Maint];

    /// As metrics and commands write it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Drain => "drain",
            Self::Maint => "maint",
        }
    }

    /// The reverse of [`label`](Self::label).
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.label() == label)
    }
}
