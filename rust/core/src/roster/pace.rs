//! How fast servers are, as far as their greetings and bytes tell: what `least_load` goes by.
//!
//! A server's load is its sessions, a tenth of those that it was given within about the last second,
//! and what its bytes make it carry in sessions of the pool's average; that by its time to
//! greeting, which is what a mail server that has too much to do lets grow first.
//!
//! Sessions tell at once that a server has more to do, its greetings only when they come. So what
//! was given lately is there to part servers that have no sessions, and no more: where it outweighs
//! them, servers take turns at being flooded.

use std::time::Duration;

use super::seat::Seat;

/// How often what decays is brought up to date, in nanoseconds.
const TICK: u64 = 100_000_000;
/// How fast what was observed of a server is forgotten, in nanoseconds.
const FORGOTTEN_IN: f64 = 10e9;
/// The same of how many sessions it was given lately.
const RECENT: f64 = 1e9;
/// What one of these counts beside a session that is there.
const LATELY: f64 = 0.1;
/// A session that a server failed counts as one that it greeted after so long, in seconds, or
/// twice the usual time: what fails at once isn't fast.
const FAILED: f64 = 1.0;
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
    /// Seconds to a greeting, on average of those servers that were heard: what the others are
    /// taken for.
    usual: f64,
    servers: Vec<Observed>,
}

/// What was observed of a server.
#[derive(Debug, Clone, Copy, Default)]
struct Observed {
    /// Seconds to a greeting, as an average that forgets.
    greeting: f64,
    /// When that was last brought up to date by a greeting.
    at: Option<u64>,
    /// Sessions that wait for its greeting, and since when it lets some wait and greets none.
    unheard: u64,
    silent_since: u64,
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
            usual: 0.0,
            servers: vec![],
        }
    }

    /// The load of a server that has so many sessions, before its weight.
    pub(super) fn load(&self, seat: usize, sessions: u64, now: u64) -> f64 {
        let known = self.servers.get(seat).copied().unwrap_or_default();
        let sessions = sessions as f64 + LATELY * known.recent + known.as_sessions;
        let greeting = known.at.map_or(self.usual, |_| known.greeting);
        let silent = if known.unheard > 0 {
            now.saturating_sub(known.silent_since) as f64 / 1e9
        } else {
            0.0
        };
        sessions * (greeting.max(silent) + NEGLIGIBLE)
    }

    /// Another server has this seat now.
    pub(super) fn forget(&mut self, seat: usize) {
        if let Some(known) = self.servers.get_mut(seat) {
            *known = Observed::default();
        }
    }

    /// A server was given a session, which waits for its greeting.
    pub(super) fn given(&mut self, seat: usize, now: u64) {
        if let Some(known) = self.servers.get_mut(seat) {
            known.recent += 1.0;
            if known.unheard == 0 {
                known.silent_since = now;
            }
            known.unheard += 1;
        }
    }

    /// A session that waited for a greeting doesn't any more.
    pub(super) fn gave_up(&mut self, seat: usize) {
        if let Some(known) = self.servers.get_mut(seat) {
            known.unheard = known.unheard.saturating_sub(1);
        }
    }

    /// A server greeted after this time, or failed to.
    pub(super) fn observe(&mut self, seat: usize, time: Duration, failed: bool, now: u64) {
        let usual = self.usual;
        let Some(known) = self.servers.get_mut(seat) else {
            return;
        };
        known.unheard = known.unheard.saturating_sub(1);
        known.silent_since = now;
        let part = known.at.map_or(1.0, |at| {
            (now.saturating_sub(at) as f64 / FORGOTTEN_IN).clamp(LEAST_PART, 1.0)
        });
        let least = if failed { FAILED.max(2.0 * usual) } else { 0.0 };
        known.greeting += part * (time.as_secs_f64().max(least) - known.greeting);
        let is_new = known.at.is_none();
        known.at = Some(now);
        if is_new {
            self.average();
        }
    }

    fn average(&mut self) {
        let heard = self.servers.iter().filter(|known| known.at.is_some());
        let (sum, number) = heard.fold((0.0, 0.0), |(sum, number), known| {
            (sum + known.greeting, number + 1.0)
        });
        self.usual = if number > 0.0 { sum / number } else { 0.0 };
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
            let unheard = |at: u64| known.unheard == 0 && now.saturating_sub(at) > UNHEARD;
            if known.at.is_some_and(unheard) {
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
        self.average();
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::server::Server;

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const FAST: Duration = Duration::from_millis(20);

    fn pace(servers: usize) -> (Pace, Vec<Seat>) {
        let seat = |_| Seat::new(Arc::new(Server::new("a", 1)));
        let seats: Vec<Seat> = (0..servers).map(seat).collect();
        let mut pace = Pace::new(0);
        pace.tick(SECOND, 0, &seats);
        (pace, seats)
    }

    fn greets(pace: &mut Pace, seat: usize, time: Duration, now: u64) {
        pace.given(seat, now);
        pace.observe(seat, time, false, now);
    }

    #[test]
    fn who_greets_late_has_more_to_do() {
        let (mut pace, _) = pace(2);
        greets(&mut pace, 0, FAST, SECOND);
        greets(&mut pace, 1, 5 * FAST, SECOND);
        assert!(pace.load(1, 10, SECOND) > 4.0 * pace.load(0, 10, SECOND));
    }

    /// Not as one that greets at once: it would be flooded before it is heard of.
    #[test]
    fn who_was_never_heard_is_taken_for_the_others() {
        let (mut pace, _) = pace(2);
        greets(&mut pace, 0, FAST, SECOND);
        let (known, unknown) = (pace.load(0, 10, SECOND), pace.load(1, 10, SECOND));
        assert!((unknown / known - 1.0).abs() < 0.02, "{unknown} {known}");
    }

    #[test]
    fn who_is_silent_while_somebody_waits_is_as_slow_as_that() {
        let (mut pace, seats) = pace(2);
        greets(&mut pace, 0, FAST, SECOND);
        greets(&mut pace, 1, FAST, SECOND);
        pace.given(1, SECOND);
        let later = 6 * SECOND;
        pace.tick(later, 1, &seats);
        assert!(pace.load(1, 1, later) > 100.0 * pace.load(0, 1, later));
        pace.gave_up(1);
        assert!(pace.load(1, 1, later) < 2.0 * pace.load(0, 1, later));
    }

    #[test]
    fn who_fails_at_once_is_not_fast() {
        let (mut pace, _) = pace(2);
        greets(&mut pace, 0, FAST, SECOND);
        pace.given(1, SECOND);
        pace.observe(1, Duration::ZERO, true, SECOND);
        assert!(pace.load(1, 1, SECOND) > pace.load(0, 1, SECOND));
    }

    #[test]
    fn another_server_in_the_same_seat_begins_anew() {
        let (mut pace, _) = pace(2);
        greets(&mut pace, 0, FAST, SECOND);
        greets(&mut pace, 1, 100 * FAST, SECOND);
        let before = pace.load(1, 1, SECOND);
        pace.forget(1);
        pace.average();
        assert!(pace.load(1, 1, SECOND) < before / 10.0);
    }
}
