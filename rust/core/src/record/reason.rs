//! Why sessions end, and who ended them. Closed lists: alerts and log searches depend on them.

use std::time::Instant;

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The client said QUIT, as far as that can be seen: it wasn't inside TLS.
    ClientQuit,
    /// Inside TLS, in order: one side closed when it had been answered, or when it was the server
    /// that had answered, or with a goodbye (a last record that only an alert fits).
    TlsClosed,
    /// The client closed first, without QUIT, or inside TLS while an answer was due.
    ClientClosed,
    /// The client reset the connection, or was lost.
    ClientLost,
    /// The server closed first, without 421, or inside TLS while an answer was due.
    ServerClosed,
    /// The server said 421 last, and closed.
    Server421,
    /// The server reset the connection, or was lost.
    ServerLost,
    /// Ended by anything between a server's 354 and its answer to the message: the client
    /// sends it again, and where the server had taken it, it comes twice.
    CutInData,
    /// The server spoke last and the client said nothing for `idle_client`.
    IdleClient,
    /// The client spoke last and the server said nothing for `idle_server`.
    IdleServer,
    /// One side closed and the other was silent for `half_closed`.
    HalfClosed,
    /// Its server or the process drains, and it was between two commands.
    Drain,
    /// Its server or the process drains, and the deadline was there.
    DrainDeadline,
    /// Older than `max_age`, and between two commands.
    Age,
    /// An operator ended it.
    Killed,
    /// Refused: no server of the pool is up.
    NoServer,
    /// Refused: every server of the pool that isn't down drains.
    Draining,
    /// Refused: every server of the pool that isn't down is in maintenance.
    Maintenance,
    /// Refused: an operator paused the listener, or all of them.
    Paused,
    /// Refused: `max_sessions` of the process, the listener or every server is reached.
    Full,
    /// Refused: every server of the pool was full for as long as sessions wait for one.
    QueueTimeout,
    /// Refused: its address may not send mail here, by `deny` or by an operator.
    Denied,
    /// Refused: its source has as many sessions as it may.
    SourceSessions,
    /// Refused: its source opens sessions faster than it may.
    SourceRate,
    /// Refused: no server of the pool could be connected to.
    ConnectFailed,
    /// Refused: servers were connected to, and none of them greeted as it should.
    GreetingFailed,
    /// Refused by the farm: two servers said 5yz to this client instead of greeting it, and it
    /// heard the words of the last one.
    Rejected,
    /// Refused: the process has no descriptor, source address or port left.
    OutOfDescriptors,
    /// The process ended before the session did.
    Stopped,
    /// A bug of ours: please report it. The log of the process has more.
    Panicked,
    /// Its server is down, by its checks, and its pool has sessions end then.
    ServerDown,
}

impl EndReason {
    /// Every reason there is.
    pub const ALL: [Self; 31] = [
        Self::ClientQuit,
        Self::TlsClosed,
        Self::ClientClosed,
        Self::ClientLost,
        Self::ServerClosed,
        Self::Server421,
        Self::ServerLost,
        Self::CutInData,
        Self::IdleClient,
        Self::IdleServer,
        Self::HalfClosed,
        Self::Drain,
        Self::DrainDeadline,
        Self::Age,
        Self::Killed,
        Self::NoServer,
        Self::Draining,
        Self::Maintenance,
        Self::Paused,
        Self::Full,
        Self::QueueTimeout,
        Self::Denied,
        Self::SourceSessions,
        Self::SourceRate,
        Self::ConnectFailed,
        Self::GreetingFailed,
        Self::Rejected,
        Self::OutOfDescriptors,
        Self::Stopped,
        Self::Panicked,
        Self::ServerDown,
    ];

    /// Those for which no server got the session.
    pub const REFUSALS: [Self; 13] = [
        Self::NoServer,
        Self::Draining,
        Self::Maintenance,
        Self::Paused,
        Self::Full,
        Self::QueueTimeout,
        Self::Denied,
        Self::SourceSessions,
        Self::SourceRate,
        Self::ConnectFailed,
        Self::GreetingFailed,
        Self::Rejected,
        Self::OutOfDescriptors,
    ];

    /// As metrics and logs write it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ClientQuit => "client_quit",
            Self::TlsClosed => "tls_closed",
            Self::ClientClosed => "client_closed",
            Self::ClientLost => "client_lost",
            Self::ServerClosed => "server_closed",
            Self::Server421 => "server_421",
            Self::ServerLost => "server_lost",
            Self::CutInData => "cut_in_data",
            Self::IdleClient => "idle_client",
            Self::IdleServer => "idle_server",
            Self::HalfClosed => "half_closed",
            Self::Drain => "drain",
            Self::DrainDeadline => "drain_deadline",
            Self::Age => "age",
            Self::Killed => "killed",
            Self::NoServer => "no_server",
            Self::Draining => "draining",
            Self::Maintenance => "maintenance",
            Self::Paused => "paused",
            Self::Full => "full",
            Self::QueueTimeout => "queue_timeout",
            Self::Denied => "denied",
            Self::SourceSessions => "source_sessions",
            Self::SourceRate => "source_rate",
            Self::ConnectFailed => "connect_failed",
            Self::GreetingFailed => "greeting_failed",
            Self::Rejected => "rejected",
            Self::OutOfDescriptors => "out_of_descriptors",
            Self::Stopped => "stopped",
            Self::Panicked => "panicked",
            Self::ServerDown => "server_down",
        }
    }
}

impl EndReason {
    /// Whether it is one for which a session ends at once, whatever moves in it.
    pub(crate) fn is_at_once(self) -> bool {
        matches!(self, Self::Killed | Self::ServerDown)
    }

    /// Whether it is where the client comes from that it was refused for.
    pub(crate) fn is_by_source(self) -> bool {
        matches!(self, Self::Denied | Self::SourceSessions | Self::SourceRate)
    }
}

/// Who ended a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndBy {
    /// The client.
    Client,
    /// The server.
    Server,
    /// This process: a limit, a refusal, an operator.
    Balancer,
}

impl EndBy {
    /// Everybody there is.
    pub const ALL: [Self; 3] = [Self::Client, Self::Server, Self::Balancer];

    /// As logs write it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Balancer => "balancer",
        }
    }
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) reason: EndReason,
    pub(crate) by: EndBy,
}

/// How a server served a session that it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    /// It was there until the end; when it took it.
    Well { taken: Instant },
    /// It left first, without a word, in the middle of a message.
    CutOff,
    /// Neither can be said.
    Unclear,
}

impl End {
    /// Ended by this process.
    pub(crate) fn ours(reason: EndReason) -> Self {
        Self {
            reason,
            by: EndBy::Balancer,
        }
    }

    pub(crate) fn by_client(reason: EndReason) -> Self {
        Self {
            reason,
            by: EndBy::Client,
        }
    }

    pub(crate) fn by_server(reason: EndReason) -> Self {
        Self {
            reason,
            by: EndBy::Server,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_in_the_order_of_their_numbers() {
        for (number, reason) in EndReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
        }
        for (number, by) in EndBy::ALL.into_iter().enumerate() {
            assert_eq!(by as usize, number);
        }
    }
}
