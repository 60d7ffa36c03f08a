//! The data plane of mailweir: accepts SMTP sessions, chooses a server for each, relays.
//!
//! The life of a connection, one step a file:
//!
//! 1. [`listener`]: accepted at one of a worker's own sockets, it gets the current snapshot.
//! 2. [`session`]: `serve` takes it through everything that follows, and keeps that snapshot.
//!    Its [`record`] is opened.
//! 3. [`admission`]: there is a place for it, or it is refused.
//! 4. [`seek`] finds a server, going back to the first of these steps where one fails:
//!    1. [`hello`]: where the client speaks TLS first, that is read and kept.
//!    2. [`select`]: the next server of the listener's pool, counted in.
//!    3. [`connect`]: dialled, and told by a [`proxy_header`] who the client is.
//!    4. [`greet`]: the server's first line is waited for, or its answer to the hello.
//! 5. [`relay`]: bytes both ways, copied or spliced, until both directions have ended, or until
//!    it may be cut.
//! 6. [`farewell`] with the words of [`smtp`], where an end may be told that this is all.
//! 7. [`record`]: its end is counted and logged, with a reason.
//!
//! The life of a change: [`plane`] builds a [`snapshot`] from a [`spec`], binds what is new and
//! stores one pointer. What outlives snapshots ([`server`], [`roster`]) is found again through
//! [`registry`].
//!
//! Or it goes on without us: [`kernel_path`] hands sessions over to the kernel once their clients
//! were greeted, by [`ports`] of our own; [`limits`] are the same on both paths.
//!
//! A [`client`] is watched only once there is something to wait for. [`worker`] is a thread with its own runtime; [`metrics`] counts per worker, [`stats`] reads;
//! [`troubles`] tells of servers that failed, [`conduct`] has how often and in a row, [`panics`] are told the same way; [`scales`] has the windows that they announce, [`answers`] the options that they take; [`tls`],
//! [`moment`] and [`occupancy`] are small
//! parts of these, and [`sys`] has what no library wraps.
//!
//! Who a client is: [`prefixes`] say whether an address is among some, and which source it belongs
//! to; [`sources`] has what each of these uses up, in a [`bounded`] table. Whose a source is where
//! servers are picked by hashes: [`hashing`].
#![allow(rustdoc::private_intra_doc_links)]

mod admission;
mod answers;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod bounded;
mod client;
mod conduct;
mod connect;
mod doors;
mod farewell;
#[cfg(fuzzing)]
pub mod fuzz;
mod greet;
mod hashing;
mod hello;
mod holdings;
mod kernel_path;
mod limits;
mod listener;
mod metrics;
mod moment;
mod occupancy;
mod panics;
mod plane;
mod ports;
mod prefixes;
mod proxy_header;
mod record;
mod registry;
mod relay;
mod roster;
mod scales;
mod seek;
mod select;
mod server;
mod session;
mod smtp;
mod snapshot;
mod sources;
pub mod spec;
mod stats;
mod sys;
mod tls;
mod troubles;
mod worker;

pub use conduct::{GreetingFailure, Spoiled};
pub use kernel_path::{KernelPathStats, Left, NoKernelPath, Refusal, flush, left};
pub use listener::Parting;
pub use mailweir_flow::Counter as SegmentCounter;
pub use mailweir_flow::is_built as kernel_path_is_built;
pub use metrics::{BoundsStats, HistogramStats};
pub use plane::{ApplyError, DataPlane, Elsewhere};
pub use record::{
    EndBy, EndReason, LogStats, Path, RefusedSource, SessionFilter, SessionId, SessionStats, Side,
    WouldRefuse,
};
pub use roster::{OverflowCourse, OverflowStats, QueueEnd, StickyStats};
pub use server::ConnectFailure;
pub use sources::SourcesStats;
pub use spec::{SpecError, check};
pub use stats::{
    Admission, ListenerStats, NoKernelPathStats, PoolConduct, PoolStats, RelayStats, RoomStats,
    ServerConduct, ServerStats, ServerTimes, Stats, WorkerStats,
};
pub use troubles::Trouble;
