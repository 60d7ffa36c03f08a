//! The data plane of mailweir: accepts SMTP sessions, chooses a server for each, relays.
//!
//! The life of a connection, one step a file:
//!
//! 1. [`listener`]: accepted at one of a worker's own sockets, it gets the current snapshot.
//! 2. [`session`]: `serve` takes it through everything that follows, and keeps that snapshot.
//! 3. [`select`]: the next server of the listener's pool, counted in.
//! 4. [`connect`]: dialled; if that fails, back to 3 for another one.
//! 5. [`greet`]: the server's first line is waited for; if that isn't a welcome, back to 3.
//! 6. [`refuse`] with the words of [`smtp`], where no server is left.
//! 7. [`relay`]: bytes both ways, copied or spliced, until both directions have ended.
//! 8. [`record`]: its end is counted, with a reason.
//!
//! The life of a change: [`plane`] builds a [`snapshot`] from a [`spec`], binds what is new and
//! stores one pointer. What outlives snapshots ([`server`]) is found again through [`registry`].
//!
//! [`worker`] is a thread with its own runtime; [`metrics`] counts per worker, [`stats`] reads;
//! [`sys`] has what no library wraps.
#![allow(rustdoc::private_intra_doc_links)]

mod connect;
mod greet;
mod listener;
mod metrics;
mod plane;
mod record;
mod refuse;
mod registry;
mod relay;
mod select;
mod server;
mod session;
mod smtp;
mod snapshot;
pub mod spec;
mod stats;
mod sys;
mod worker;

pub use metrics::HistogramStats;
pub use plane::{ApplyError, DataPlane};
pub use record::EndReason;
pub use server::{ConnectFailure, GreetingFailure};
pub use snapshot::{SpecError, check};
pub use stats::{ListenerStats, RelayStats, ServerStats, Stats};
