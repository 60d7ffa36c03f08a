//! Live sessions, and servers that failed some: from the core's values to Python's.

use mailweir_core as core;
use pyo3::prelude::*;

/// A live session at one moment.
#[pyclass(frozen, get_all, module = "mailweir._dataplane")]
pub(crate) struct Session {
    id: String,
    listener: String,
    client: String,
    pool: String,
    server: String,
    age_seconds: f64,
    silent_seconds: f64,
    spoke_last: &'static str,
    received_bytes: u64,
    sent_bytes: u64,
    tls: bool,
    path: &'static str,
    source: String,
}

impl From<core::SessionStats> for Session {
    fn from(session: core::SessionStats) -> Self {
        Self {
            id: session.id.to_string(),
            listener: session.listener,
            client: session.client.to_string(),
            pool: session.pool,
            server: session.server.unwrap_or_default(),
            age_seconds: session.age.as_secs_f64(),
            silent_seconds: session.silent.as_secs_f64(),
            // Nobody has yet: the client waits for the server.
            spoke_last: session.spoke_last.unwrap_or(core::Side::Client).label(),
            received_bytes: session.received_bytes,
            sent_bytes: session.sent_bytes,
            tls: session.tls,
            path: session.path.label(),
            source: session
                .source
                .map(|one| one.to_string())
                .unwrap_or_default(),
        }
    }
}

/// A server failed a session.
#[pyclass(frozen, get_all, module = "mailweir._dataplane")]
pub(crate) struct ServerTrouble {
    pool: String,
    server: String,
    cause: String,
}

impl From<core::Trouble> for ServerTrouble {
    fn from(trouble: core::Trouble) -> Self {
        Self {
            pool: trouble.pool.to_string(),
            server: trouble.server.to_string(),
            cause: format!("{} {}", trouble.step, trouble.cause),
        }
    }
}
