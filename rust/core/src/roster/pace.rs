//! How fast servers are, as far as their greetings and bytes tell: what `least_load` goes by.
//!
//! A server's load is its sessions, those that it was given within about the last second once
//! more, and what its bytes make it carry in sessions of the pool's average; that by its time to
//! greeting, which is what a mail server that has too much to do lets grow first.

use std::time::Duration;

use super::seat::Seat;

/// How often what decays is brought up to date, in nanoseconds.
const TICK: u64 = 100_000_000;
/// How fast what was observed of a server is forgotten, in nanoseconds.
const FORGOTTEN_IN: f64 = 10e9;
/// The same of how many sessions it was given lately.
const RECENT: f64 = 1e9;
/// Without a greeting for so long, a server's time to greeting is forgotten as well: one that
/// is given nothing would never be heard of again.
const UNHEARD: u64 = 2_000_000_000;
/// Added to every time to greeting, in seconds: below it differences don't matter.
const NEGLIGIBLE: f64 = 0.005;
/// The least part of a new observation in what is known.
const LEAST_PART: f64 = 0.05;

/// What is known of all servers of a pool, by seat.
#[derive(Debug)]
pub(super) struct Pace {
    ticked: u64,
    servers: Vec<Observed>,
}

/// What was observed of a server.
#[derive(Debug, Clone, Copy, Default)]
struct Observed {
    /// Seconds to a greeting, as an average that forgets.
    greeting: f64,
    /// When that was last brought up to date by a greeting.
    at: Option<u64>,
    /// Sessions that it was given lately.
    recent: f64,
    /// Bytes per second, as an average that forgets, and all bytes at the last tick.
    rate: f64,
    bytes: u64,
    /// What its bytes count for, in sessions.
    as_sessions: f64,
}

impl Pace {
    pub(super) fn new(now: u64) -> Self {
        Self {
            ticked: now,
            servers: vec![],
        }
    }

    /// The load of a server that has so many sessions, before its weight.
    pub(super) fn load(&self, seat: usize, sessions: u64) -> f64 {
        let known = self.servers.get(seat).copied().unwrap_or_default();
        let sessions = sessions as f64 + known.recent + known.as_sessions;
        sessions * (known.greeting + NEGLIGIBLE)
    }

    /// A server was given a session.
    pub(super) fn given(&mut self, seat: usize) {
        if let Some(known) = self.servers.get_mut(seat) {
            known.recent += 1.0;
        }
    }

    /// A server greeted after this time.
    pub(super) fn observe(&mut self, seat: usize, time: Duration, now: u64) {
        let Some(known) = self.servers.get_mut(seat) else {
            return;
        };
        let part = known.at.map_or(1.0, |at| {
            (now.saturating_sub(at) as f64 / FORGOTTEN_IN).clamp(LEAST_PART, 1.0)
        });
        known.greeting += part * (time.as_secs_f64() - known.greeting);
        known.at = Some(now);
    }

    /// Brings up to date what decays with time, once that is due.
    pub(super) fn tick(&mut self, now: u64, sessions: u64, seats: &[Seat]) {
        let since = now.saturating_sub(self.ticked);
        if since < TICK && self.servers.len() == seats.len() {
            return;
        }
        self.ticked = now;
        self.servers.resize(seats.len(), Observed::default());
        let elapsed = since as f64;
        let left = |forgotten_in: f64| (-elapsed / forgotten_in).exp();
        for (known, seat) in self.servers.iter_mut().zip(seats) {
            known.recent *= left(RECENT);
            if known.at.is_some_and(|at| now.saturating_sub(at) > UNHEARD) {
                known.greeting *= left(FORGOTTEN_IN);
            }
            let counters = &seat.server.counters;
            let [received, sent] = [
                counters.sum(|one| &one.received_bytes),
                counters.sum(|one| &one.sent_bytes),
            ];
            let carried = (received + sent).saturating_sub(known.bytes) as f64;
            known.bytes = received + sent;
            if since > 0 {
                known.rate += (1.0 - left(FORGOTTEN_IN)) * (carried * 1e9 / elapsed - known.rate);
            }
        }
        let whole: f64 = self.servers.iter().map(|known| known.rate).sum();
        for known in &mut self.servers {
            known.as_sessions = if whole > 0.0 {
                known.rate / whole * sessions as f64
            } else {
                0.0
            };
        }
    }
}
