//! How long a session may be silent: by who spoke last. Pure; time is an argument.

use std::time::{Duration, Instant};

use crate::record::{EndReason, Side};
use crate::spec::Timeouts;

/// Who spoke last and when, and who has closed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Silence {
    since: Instant,
    spoke: Side,
    client_closed: bool,
    server_closed: bool,
}

impl Silence {
    /// At the beginning the server is waited for: it greets.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            since: now,
            spoke: Side::Client,
            client_closed: false,
            server_closed: false,
        }
    }

    /// Since when there is silence.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// Who spoke last.
    pub(crate) fn spoke(&self) -> Side {
        self.spoke
    }

    /// `side` sent payload.
    pub(crate) fn broken_by(&mut self, side: Side, now: Instant) {
        self.since = now;
        self.spoke = side;
    }

    /// `side` closed its direction.
    pub(crate) fn closed_by(&mut self, side: Side, now: Instant) {
        self.since = now;
        match side {
            Side::Client => self.client_closed = true,
            Side::Server => self.server_closed = true,
        }
    }

    /// When the silence has lasted too long, and what that is called.
    ///
    /// A client may close its direction behind the final dot. Its server has all the time
    /// that RFC 5321 gives it to answer: a session cut before that is sent again. So where an answer
    /// to a message is `due`, whoever spoke last.
    pub(crate) fn limit(&self, timeouts: &Timeouts, due: bool) -> (Instant, EndReason) {
        let awaited = if due { Side::Client } else { self.spoke };
        let (length, reason): (Duration, _) = match awaited {
            _ if self.server_closed => (timeouts.half_closed, EndReason::HalfClosed),
            Side::Client => (timeouts.idle_server, EndReason::IdleServer),
            Side::Server if self.client_closed => (timeouts.half_closed, EndReason::HalfClosed),
            Side::Server => (timeouts.idle_client, EndReason::IdleClient),
        };
        (self.since + length, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        connect: Duration::from_secs(3),
        greeting: Duration::from_secs(15),
        accept_total: Duration::from_secs(45),
        idle_client: Duration::from_secs(330),
        idle_server: Duration::from_secs(660),
        half_closed: Duration::from_secs(60),
    };

    fn limit(events: &[(u64, &str)]) -> (u64, EndReason) {
        limit_where(events, false)
    }

    fn limit_where(events: &[(u64, &str)], due: bool) -> (u64, EndReason) {
        let start = Instant::now();
        let mut silence = Silence::new(start);
        for (at, event) in events {
            let now = start + Duration::from_secs(*at);
            match *event {
                "client" => silence.broken_by(Side::Client, now),
                "server" => silence.broken_by(Side::Server, now),
                "client closes" => silence.closed_by(Side::Client, now),
                "server closes" => silence.closed_by(Side::Server, now),
                other => panic!("{other}"),
            }
        }
        let (deadline, reason) = silence.limit(&TIMEOUTS, due);
        ((deadline - start).as_secs(), reason)
    }

    #[test]
    fn who_spoke_last_decides() {
        assert_eq!(limit(&[]), (660, EndReason::IdleServer));
        assert_eq!(limit(&[(1, "server")]), (331, EndReason::IdleClient));
        assert_eq!(
            limit(&[(1, "server"), (5, "client")]),
            (665, EndReason::IdleServer)
        );
    }

    #[test]
    fn a_half_closed_session_is_soon_over_unless_an_answer_is_due() {
        let due = [(1, "server"), (2, "client"), (3, "client closes")];
        assert_eq!(limit(&due), (663, EndReason::IdleServer));
        let answered = [(2, "client"), (3, "client closes"), (100, "server")];
        assert_eq!(limit(&answered), (160, EndReason::HalfClosed));
        // Replies to what was pipelined before a message (RFC 3030) aren't the answer to it.
        let pipelined = [(2, "client"), (3, "client closes"), (4, "server")];
        assert_eq!(limit_where(&pipelined, true), (664, EndReason::IdleServer));
        assert_eq!(limit_where(&pipelined, false), (64, EndReason::HalfClosed));
        let no_answer_can_come = [(2, "client"), (3, "server closes")];
        assert_eq!(limit(&no_answer_can_come), (63, EndReason::HalfClosed));
        let still_sending = [(3, "server closes"), (50, "client")];
        assert_eq!(limit(&still_sending), (110, EndReason::HalfClosed));
    }
}
