//! What a caller may ask of the data plane, as plain values.
//!
//! The twin of python/mailweir/spec.py. Nothing here is checked yet; a
//! [`Snapshot`](crate::snapshot::Snapshot) is, and only that can run.

mod check;

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

pub use check::{SpecError, check};

/// All that the data plane is to do.
#[derive(Debug, Clone)]
pub struct PlaneSpec {
    /// Opens the refusal lines: `421 4.3.2 <hostname> ...`.
    pub hostname: String,
    /// Of all listeners together; more are refused.
    pub max_sessions: u64,
    /// How sessions are taken off a server, or off the process.
    pub drain: DrainSpec,
    /// Where finished sessions are written to.
    pub log: LogSpec,
    /// What the kernel path may use.
    pub kernel: KernelSpec,
    /// In any order; names are unique.
    pub listeners: Vec<ListenerSpec>,
    /// In any order; names are unique.
    pub pools: Vec<PoolSpec>,
}

/// How sessions are taken off a server, or off the process, without a message coming twice.
#[derive(Debug, Clone, Copy, Default)]
pub struct DrainSpec {
    /// How long both sides must be silent, after a server's answer to a command, for a cut.
    pub quiet: Duration,
    /// The same where that isn't known to be the end of a command: TLS, BDAT, DATA.
    pub quiet_opaque: Duration,
    /// Sessions become ready for a cut evenly over this time.
    pub spread: Duration,
    /// What is left then is cut whoever spoke last.
    pub deadline: Duration,
}

/// What the kernel path may use. Read once, when it is first wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelSpec {
    /// Sets its flows apart from those of other processes on this machine; a word for a file's
    /// name.
    pub instance: String,
    /// Its own source ports, which the system gives to nobody: apart from the range in
    /// /proc/sys/net/ipv4/ip_local_port_range.
    pub source_ports: RangeInclusive<u16>,
    /// The most flows at a time, those that linger included.
    pub max_flows: u32,
    /// Whether they count as sessions of the process; not where that is limited by descriptors.
    pub counted: bool,
}

/// Which path a listener's sessions take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarding {
    /// The kernel path where it can be had, else the relay.
    Auto,
    /// The same, but it must be there.
    Kernel,
    /// The relay.
    Relay,
}

/// The session log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSpec {
    /// Where it goes.
    pub sessions: LogTarget,
    /// How a line looks.
    pub format: LogFormat,
}

/// Where the session log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Nowhere.
    Off,
    /// Standard error.
    Stderr,
    /// The system's log, by its socket /dev/log.
    Syslog,
    /// A file, which is appended to.
    File(PathBuf),
}

/// How a line of the session log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object.
    Json,
    /// `key=value` pairs.
    Logfmt,
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
    /// More are refused.
    pub max_sessions: Option<u64>,
    /// Older sessions are cut once that can't make a message come twice.
    pub max_age: Option<Duration>,
    /// Which path they take.
    pub forwarding: Forwarding,
    /// Every new session is refused; those that are there go on.
    pub paused: bool,
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
    /// More go to other servers.
    pub max_sessions: Option<u64>,
    /// Whether it is told who the client is.
    pub proxy: ProxyVersion,
    /// The addresses that it is dialled from, in turn; none: the one that the route gives.
    pub source: Vec<IpAddr>,
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

/// Which PROXY header a server gets before anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVersion {
    /// None.
    Off,
    /// The text form.
    V1,
    /// The binary form.
    V2,
}

impl ProxyVersion {
    const ALL: [Self; 3] = [Self::Off, Self::V1, Self::V2];

    /// As the configuration writes it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }

    /// The reverse of [`label`](Self::label).
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.label() == label)
    }
}

impl Forwarding {
    const ALL: [Self; 3] = [Self::Auto, Self::Kernel, Self::Relay];

    /// As the configuration writes it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Kernel => "kernel",
            Self::Relay => "relay",
        }
    }

    /// The reverse of [`label`](Self::label).
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.label() == label)
    }
}

impl LogTarget {
    /// As the configuration writes it; a path must be absolute.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "off" => Some(Self::Off),
            "stderr" => Some(Self::Stderr),
            "syslog" => Some(Self::Syslog),
            path => path.starts_with('/').then(|| Self::File(path.into())),
        }
    }
}

impl LogFormat {
    /// As the configuration writes it.
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        match label {
            "json" => Some(Self::Json),
            "logfmt" => Some(Self::Logfmt),
            _ => None,
        }
    }
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

    /// Whether sessions are taken off it, each where that can't make a message come twice.
    pub(crate) fn drains(self) -> bool {
        matches!(self, Self::Drain | Self::Maint)
    }

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
