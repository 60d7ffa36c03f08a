//! What the source measures, and its report.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::session::Failure;

/// Ten minutes, the longest that SMTP lets anybody wait.
const LONGEST: Duration = Duration::from_secs(600);

/// Counts and times of one thread, added up at the end.
pub(crate) struct Record {
    pub(crate) connect: Times,
    pub(crate) greeting: Times,
    pub(crate) round_trip: Times,
    pub(crate) message: Times,
    pub(crate) session: Times,
    pub(crate) messages: MessageCounts,
    ok: u64,
    failures: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
}

/// A histogram in nanoseconds.
pub(crate) struct Times(Histogram<u64>);

/// Messages by what became of them.
#[derive(Default, Clone, Copy, Serialize)]
pub(crate) struct MessageCounts {
    /// Final dot written.
    pub(crate) sent: u64,
    /// Answered 2yz.
    pub(crate) acknowledged: u64,
    /// Answered otherwise.
    pub(crate) refused: u64,
    /// Not answered: the server may have the message or not.
    pub(crate) unknown: u64,
}

/// The end of it all, as JSON.
#[derive(Serialize)]
pub(crate) struct LoadReport<'a> {
    seconds: f64,
    sessions: Sessions,
    failures: &'a BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    messages: MessageCounts,
    sessions_per_second: f64,
    messages_per_second: f64,
    bytes_per_second: f64,
    times_us: BTreeMap<&'static str, Quantiles>,
}

#[derive(Serialize)]
struct Sessions {
    started: u64,
    ok: u64,
    failed: u64,
}

#[derive(Serialize)]
struct Quantiles {
    count: u64,
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

impl Times {
    fn new() -> Self {
        let longest = LONGEST.as_nanos() as u64;
        Self(Histogram::new_with_bounds(1, longest, 3).expect("constant bounds are valid"))
    }

    pub(crate) fn add(&mut self, time: Duration) {
        self.0.saturating_record(time.as_nanos() as u64);
    }

    fn quantiles(&self) -> Quantiles {
        let us = |ns: u64| (ns as f64 / 100.0).round() / 10.0;
        Quantiles {
            count: self.0.len(),
            p50: us(self.0.value_at_quantile(0.5)),
            p99: us(self.0.value_at_quantile(0.99)),
            p999: us(self.0.value_at_quantile(0.999)),
            max: us(self.0.max()),
        }
    }
}

impl Record {
    pub(crate) fn new() -> Self {
        Self {
            connect: Times::new(),
            greeting: Times::new(),
            round_trip: Times::new(),
            message: Times::new(),
            session: Times::new(),
            messages: MessageCounts::default(),
            ok: 0,
            failures: BTreeMap::new(),
        }
    }

    /// Counts a session as it ended.
    pub(crate) fn ended(&mut self, result: Result<(), Failure>) {
        match result {
            Ok(()) => self.ok += 1,
            Err(Failure { stage, kind }) => self.add_failures(stage, kind, 1),
        }
    }

    fn add_failures(&mut self, stage: &'static str, kind: &'static str, count: u64) {
        *self
            .failures
            .entry(stage)
            .or_default()
            .entry(kind)
            .or_default() += count;
    }

    /// Adds what another thread recorded.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.connect, &other.connect),
            (&mut self.greeting, &other.greeting),
            (&mut self.round_trip, &other.round_trip),
            (&mut self.message, &other.message),
            (&mut self.session, &other.session),
        ] {
            mine.0.add(&theirs.0).expect("all have the same bounds");
        }
        self.messages.sent += other.messages.sent;
        self.messages.acknowledged += other.messages.acknowledged;
        self.messages.refused += other.messages.refused;
        self.messages.unknown += other.messages.unknown;
        self.ok += other.ok;
        for (stage, kinds) in &other.failures {
            for (kind, count) in kinds {
                self.add_failures(stage, kind, *count);
            }
        }
    }

    pub(crate) fn report(&self, elapsed: Duration, message_size: usize) -> LoadReport<'_> {
        let failed = self.failures.values().flat_map(BTreeMap::values).sum();
        let seconds = elapsed.as_secs_f64();
        let acknowledged = self.messages.acknowledged as f64;
        LoadReport {
            seconds,
            sessions: Sessions {
                started: self.ok + failed,
                ok: self.ok,
                failed,
            },
            failures: &self.failures,
            messages: self.messages,
            sessions_per_second: self.ok as f64 / seconds,
            messages_per_second: acknowledged / seconds,
            bytes_per_second: acknowledged * message_size as f64 / seconds,
            times_us: BTreeMap::from([
                ("connect", self.connect.quantiles()),
                ("greeting", self.greeting.quantiles()),
                ("round_trip", self.round_trip.quantiles()),
                ("message", self.message.quantiles()),
                ("session", self.session.quantiles()),
            ]),
        }
    }
}

impl LoadReport<'_> {
    pub(crate) fn all_ok(&self) -> bool {
        self.sessions.failed == 0
    }

    /// A short table to read.
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "{:.2} s: {} sessions ok, {} failed; messages: {} acknowledged, {} refused, {} unknown\n\
             per second: {:.0} sessions, {:.0} messages, {:.1} MB\n",
            self.seconds,
            self.sessions.ok,
            self.sessions.failed,
            self.messages.acknowledged,
            self.messages.refused,
            self.messages.unknown,
            self.sessions_per_second,
            self.messages_per_second,
            self.bytes_per_second / 1e6,
        );
        for (stage, kinds) in self.failures {
            for (kind, count) in kinds {
                let _ = writeln!(text, "failed: {stage} {kind} {count}");
            }
        }
        let _ = write!(
            text,
            "{:12}{:>10}{:>12}{:>12}{:>12}{:>12}",
            "us", "count", "p50", "p99", "p999", "max"
        );
        for (what, q) in &self.times_us {
            let _ = write!(
                text,
                "\n{what:12}{:>10}{:>12.1}{:>12.1}{:>12.1}{:>12.1}",
                q.count, q.p50, q.p99, q.p999, q.max
            );
        }
        text
    }
}
