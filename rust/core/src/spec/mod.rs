//! What a caller may ask of the data plane, as plain values.
//!
//! The twin of python/mailweir/spec.py, which comes as JSON: every field under its name, and no
//! other ([`decode`]). Nothing here is checked yet; a [`Snapshot`](crate::snapshot::Snapshot) is,
//! and only that can run.

mod check;
mod plain;
pub(crate) mod wire;

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use check::{SpecError, check};
pub use wire::decode;

pub use crate::prefixes::{Prefix, PrefixError};

use crate::prefixes::source_key;

/// All that the data plane is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaneSpec {
    /// Opens the refusal lines: `421 4.3.2 <hostname> ...`.
    pub hostname: String,
    /// Of all listeners together; more are refused.
    pub max_sessions: u64,
    /// What the process can have at all.
    pub room: RoomSpec,
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
    /// Let in at no listener, by an operator's word.
    pub denied: Vec<Prefix>,
}

/// What the descriptors and the memory of the process are enough for, whatever it is told to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomSpec {
    /// Sessions at a time; not those on the kernel path, which take neither.
    pub sessions: u64,
    /// Connections beside theirs: so many that are over and linger, and so many to servers that are
    /// waited for although their time-out is over.
    pub spare: u64,
}

/// How sessions are taken off a server, or off the process, without a message coming twice.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainSpec {
    /// How long both sides must be silent, after a server's answer to a command, for a cut.
    #[serde(with = "wire::seconds")]
    pub quiet: Duration,
    /// The same where that isn't known to be the end of a command: TLS, BDAT, DATA.
    #[serde(with = "wire::seconds")]
    pub quiet_opaque: Duration,
    /// Sessions become ready for a cut evenly over this time.
    #[serde(with = "wire::seconds")]
    pub spread: Duration,
    /// What is left then is cut whoever spoke last.
    #[serde(with = "wire::seconds")]
    pub deadline: Duration,
}

/// What the kernel path may use. All but `counted` is read once, when there comes to be one: a change
/// of it counts for the next process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelSpec {
    /// Sets its flows apart from those of other processes on this machine; a word for a file's
    /// name.
    pub instance: String,
    /// Its own source ports, which the system gives to nobody: apart from the range in
    /// /proc/sys/net/ipv4/ip_local_port_range.
    #[serde(with = "wire::ports")]
    pub source_ports: RangeInclusive<u16>,
    /// The most flows at a time, those that linger included.
    pub max_flows: u32,
    /// Whether they count as sessions of the process; not where that is limited by descriptors.
    pub counted: bool,
}

/// Which path a listener's sessions take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forwarding {
    /// The kernel path where it can be had, else the relay.
    Auto,
    /// The same, but it must be there.
    Kernel,
    /// The relay.
    Relay,
}

/// The session log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSpec {
    /// Where it goes.
    pub sessions: LogTarget,
    /// How a line looks.
    pub format: LogFormat,
}

/// Where the session log goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object.
    Json,
    /// `key=value` pairs.
    Logfmt,
}

/// Addresses that clients connect to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    #[serde(deserialize_with = "wire::present")]
    pub max_sessions: Option<u64>,
    /// Older sessions are cut once that can't make a message come twice.
    #[serde(with = "wire::some_seconds")]
    pub max_age: Option<Duration>,
    /// Which path they take.
    pub forwarding: Forwarding,
    /// Every new session is refused; those that are there go on.
    pub paused: bool,
    /// Who is let in.
    pub access: AccessSpec,
    /// How those that are denied or above a limit of their source are turned away.
    pub refuse: Refuse,
    /// What one source may.
    #[serde(deserialize_with = "wire::present")]
    pub per_source: Option<PerSourceSpec>,
    /// What is counted and doesn't refuse.
    pub dry_run: DryRun,
}

/// Who is let in at a listener. The longest prefix that holds a client decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessSpec {
    /// Those that are let in.
    pub allow: Vec<Prefix>,
    /// Those that aren't. None of them is allowed as well.
    pub deny: Vec<Prefix>,
    /// Whether clients in none of them are let in.
    pub admits_others: bool,
    /// What denied clients are told, where they are told anything.
    pub deny_code: DenyCode,
}

/// What a denied client is told instead of a greeting (RFC 5321, 3.1 and 4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub enum DenyCode {
    /// 554: never.
    Never,
    /// 421: not now.
    NotNow,
}

impl DenyCode {
    /// As a client hears it.
    pub(crate) fn code(self) -> u16 {
        match self {
            Self::Never => 554,
            Self::NotNow => 421,
        }
    }
}

/// How a client is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refuse {
    /// It is told, and closed.
    Reply,
    /// Its connection is reset.
    Reset,
    /// Its connection is forgotten without a word.
    Drop,
}

/// What one source may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerSourceSpec {
    /// Who a client is.
    pub source: SourceSpec,
    /// At a time.
    #[serde(deserialize_with = "wire::present")]
    pub sessions: Option<u32>,
    /// How fast it may open them.
    #[serde(deserialize_with = "wire::present")]
    pub rate: Option<RateSpec>,
    /// Those that may what they want.
    pub exempt: Vec<Prefix>,
}

/// A token bucket: `burst` at once, and then `count` in each `period`. None is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateSpec {
    /// In each period.
    pub count: u32,
    /// How long that is.
    #[serde(with = "wire::seconds")]
    pub period: Duration,
    /// At once.
    pub burst: u32,
}

/// What is only counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<wire::Tried>", into = "Vec<wire::Tried>")]
pub struct DryRun {
    /// `allow` and `deny`.
    pub access: bool,
    /// The sessions of a source.
    pub source_sessions: bool,
    /// The rate of a source.
    pub source_rate: bool,
    /// The sessions of the listener.
    pub sessions: bool,
}

/// How long a session may wait, and for what. None is zero.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// For one server to accept.
    #[serde(with = "wire::seconds")]
    pub connect: Duration,
    /// For one server to greet, once it has accepted.
    #[serde(with = "wire::seconds")]
    pub greeting: Duration,
    /// For all attempts to reach a server together.
    #[serde(with = "wire::seconds")]
    pub accept_total: Duration,
    /// After the server spoke last.
    #[serde(with = "wire::seconds")]
    pub idle_client: Duration,
    /// After the client spoke last (RFC 5321, 4.5.3.2.6: 10 min for the final dot).
    #[serde(with = "wire::seconds")]
    pub idle_server: Duration,
    /// After one side closed its direction and an answer can't or needn't come any more.
    #[serde(with = "wire::seconds")]
    pub half_closed: Duration,
}

/// Servers that share sessions.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolSpec {
    /// The pool's identity, which outlives changes.
    pub name: String,
    /// How one is picked.
    pub balance: Balance,
    /// At least one; names are unique in the pool.
    pub servers: Vec<ServerSpec>,
    /// What is hashed where picking goes by hashes.
    pub hash_key: HashKeySpec,
    /// Whether a source stays with a server.
    #[serde(deserialize_with = "wire::present")]
    pub sticky: Option<StickySpec>,
    /// Over this time a server's share rises from nothing to its weight.
    #[serde(with = "wire::seconds")]
    pub slow_start: Duration,
    /// Whether sessions wait while every server is full; else they are refused.
    #[serde(deserialize_with = "wire::present")]
    pub queue: Option<QueueSpec>,
    /// Pools that get its sessions where it can't take them: the first of them that can.
    pub overflow: Vec<String>,
}

/// Which part of a client's address says who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// Leading bits of an IPv4 address, at most 32.
    pub prefix4: u8,
    /// The same of an IPv6 address, at most 128.
    pub prefix6: u8,
}

impl SourceSpec {
    /// Each address is a source of its own.
    pub const ADDRESS: Self = Self {
        prefix4: 32,
        prefix6: 128,
    };

    /// The source that an address belongs to.
    pub(crate) fn key(self, address: IpAddr) -> u128 {
        source_key(address, self.prefix4, self.prefix6)
    }

    /// The addresses of that.
    pub(crate) fn prefix(self, address: IpAddr) -> Prefix {
        Prefix::of(address, self.prefix4, self.prefix6)
    }
}

/// What is hashed: the same on every balancer gives the same choice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HashKeySpec {
    /// Who a client is.
    pub source: SourceSpec,
    /// Anything.
    pub seed: String,
}

/// A source's next session goes to the server that had its last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StickySpec {
    /// Who a client is.
    pub source: SourceSpec,
    /// For so long after its last session began.
    #[serde(with = "wire::seconds")]
    pub ttl: Duration,
}

/// The waiting room of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueSpec {
    /// The most that wait at a time.
    pub length: usize,
    /// The longest that one waits.
    #[serde(with = "wire::seconds")]
    pub wait: Duration,
}

/// A mail server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    #[serde(deserialize_with = "wire::present")]
    pub max_sessions: Option<u64>,
    /// Whether it is told who the client is.
    pub proxy: ProxyVersion,
    /// The addresses that it is dialled from, in turn; none: the one that the route gives.
    pub source: Vec<IpAddr>,
    /// Used only while no other server of the pool can be.
    pub backup: bool,
}

/// The largest weight.
pub const MAX_WEIGHT: u32 = 1000;

/// Who speaks first behind a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// The server, with a greeting.
    Smtp,
    /// The client, with TLS.
    Smtps,
    /// Unknown.
    Tcp,
}

/// How a pool picks a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// The fewest sessions for its weight.
    LeastConn,
    /// In turn, by weight.
    RoundRobin,
    /// The one with fewer sessions for its weight, of two drawn at random.
    RandomTwo,
    /// By the source: whose claim on it is highest.
    SourceHash,
    /// By the source: whose row of a table it falls on.
    Maglev,
    /// The least work: sessions and bytes, by how fast it greets.
    LeastLoad,
}

impl Balance {
    /// Every way there is.
    pub const ALL: [Self; 6] = [
        Self::LeastConn,
        Self::RoundRobin,
        Self::RandomTwo,
        Self::SourceHash,
        Self::Maglev,
        Self::LeastLoad,
    ];
}

/// What a server may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// Everything.
    Up,
    /// Nothing: checks failed.
    Down,
    /// New sessions although checks failed: too few others are up.
    Panic,
    /// No new sessions, by an operator's word; checks go on.
    Drain,
    /// No new sessions, by an operator's word; no checks.
    Maint,
    /// No new sessions for a while: it spoiled those that it had.
    Ejected,
}

impl ServerState {
    /// Every state there is.
    pub const ALL: [Self; 6] = [
        Self::Up,
        Self::Down,
        Self::Panic,
        Self::Drain,
        Self::Maint,
        Self::Ejected,
    ];

    /// Whether sessions are taken off it, each where that can't make a message come twice.
    pub(crate) fn drains(self) -> bool {
        matches!(self, Self::Drain | Self::Maint)
    }
}

/// Which PROXY header a server gets before anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyVersion {
    /// None.
    Off,
    /// The text form.
    V1,
    /// The binary form.
    V2,
}
