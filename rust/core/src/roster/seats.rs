//! All servers of a pool under the roster's lock: who can be picked, whose turn it is, counts.
//!
//! The rotation is stride scheduling: every server has a pass, the one with the least pass is
//! next, and being picked moves its pass on by a stride that is smaller for larger weights.
//! (Waldspurger and Weihl, "Stride Scheduling", 1995.)

mod draw;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use crate::server::{Server, ServerId};
use crate::spec::ServerState;

use super::overflow::Overflow;
use super::pace::Pace;
use super::queue::WaitingLine;
use super::ranking::{NEVER, Rank, Ranking};
use super::seat::Seat;
use super::{GreetingOutcome, Settings};

/// Of one session on a server of weight 1. Loads of different fractions of weights up to 1000
/// differ, and those of 10^9 sessions fit.
const SESSION: u64 = 1 << 32;
/// Small enough that passes don't overflow in 10^12 picks, large enough that the rounding of
/// a stride is below 0.01 % of it.
const STRIDE: u64 = 1 << 24;
/// Turns that slow start may owe a server. Where lots or hashes decide, they don't fall on it
/// evenly; what is beyond isn't caught up later.
const MOST_CREDIT: f64 = 8.0;
/// From this share of its weight on a server isn't held back any more: those that came up within
/// a second of each other are soon as good as together.
const ALL_BUT: f64 = 0.95;

/// The servers of a pool.
#[derive(Debug)]
pub(crate) struct Seats {
    seats: Vec<Seat>,
    ids: Vec<ServerId>,
    ranking: Ranking,
    /// The pass of who was picked last: who comes in later starts here, instead of catching up
    /// on all that it missed.
    clock: u64,
    slow_start: u64,
    /// Those for which time alone changes whether they can be picked.
    timed: Vec<usize>,
    /// Servers in use that aren't backups.
    primaries: usize,
    /// Of those that new sessions are shared among: weights, the greatest of these, and sessions.
    weight: u64,
    heaviest: u64,
    in_flight: u64,
    /// Since when the server has been up that has been up longest.
    longest_up: u64,
    now: u64,
    random: u64,
    pace: Option<Pace>,
    /// Where the pool overflows into others.
    pub(super) overflow: Option<Overflow>,
    pub(super) line: WaitingLine,
}

impl Seats {
    pub(super) fn new() -> Self {
        Self {
            seats: vec![],
            ids: vec![],
            ranking: Ranking::default(),
            clock: 0,
            slow_start: 0,
            timed: vec![],
            primaries: 0,
            weight: 0,
            heaviest: 0,
            in_flight: 0,
            longest_up: 0,
            now: 0,
            random: RandomState::new().build_hasher().finish(),
            pace: None,
            overflow: None,
            line: WaitingLine::default(),
        }
    }

    // --- who is there --------------------------------------------------------

    pub(super) fn find_or_add(&mut self, name: &str, workers: usize) -> (Arc<Server>, usize) {
        if let Some(seat) = self.seats.iter().position(|one| *one.server.name == *name) {
            return (Arc::clone(&self.seats[seat].server), seat);
        }
        let server = Arc::new(Server::new(name, workers));
        let seat = Seat::new(Arc::clone(&server));
        if let Some(number) = self.seats.iter().position(Seat::is_left) {
            self.seats[number] = seat;
            self.ids[number] = server.id;
            if let Some(pace) = &mut self.pace {
                pace.forget(number);
            }
            self.ranking.set(number, Rank::NEW);
            return (server, number);
        }
        self.seats.push(seat);
        self.ids.push(server.id);
        self.ranking.add();
        (server, self.seats.len() - 1)
    }

    pub(super) fn prune(&mut self) {
        while self.seats.last().is_some_and(Seat::is_left) {
            self.seats.pop();
            self.ids.pop();
            self.ranking.remove();
        }
        let left = self.seats.len();
        self.timed.retain(|seat| *seat < left);
    }

    pub(crate) fn server(&self, seat: usize) -> &Arc<Server> {
        &self.seats[seat].server
    }

    /// The seat of a server, while it has one.
    pub(crate) fn seat_of(&self, id: ServerId) -> Option<usize> {
        self.ids.iter().position(|one| *one == id)
    }

    pub(super) fn apply(&mut self, settings: &Settings, now: u64) {
        for seat in &mut self.seats {
            seat.terms = None;
        }
        for (seat, terms, state) in &settings.servers {
            self.seats[*seat].terms = Some(*terms);
            self.seats[*seat].state = *state;
            self.seats[*seat].server.set_state(*state);
        }
        self.slow_start = u64::try_from(settings.slow_start.as_nanos()).unwrap_or(u64::MAX);
        if settings.by_load {
            self.pace.get_or_insert_with(|| Pace::new(now));
        } else {
            self.pace = None;
        }
        if settings.overflows {
            let overflow = self.overflow.get_or_insert_with(Overflow::new);
            overflow.set_slow_start(settings.slow_start);
        } else {
            self.overflow = None;
        }
        self.restate(now);
    }

    pub(super) fn set_states(&mut self, states: &[(usize, ServerState)], now: u64) {
        for (seat, state) in states {
            self.seats[*seat].state = *state;
            self.seats[*seat].server.set_state(*state);
        }
        self.restate(now);
    }

    /// Brings everything up to date after settings or states changed.
    fn restate(&mut self, now: u64) {
        self.now = now;
        for seat in &mut self.seats {
            seat.note_up(now);
        }
        let primary = |one: &&Seat| one.is_usable(now) && !one.is_backup();
        self.primaries = self.seats.iter().filter(primary).count();
        let ups = self.seats.iter().filter_map(|one| one.up_since);
        self.longest_up = ups.min().unwrap_or(now);
        [self.weight, self.heaviest, self.in_flight] = [0; 3];
        self.timed.clear();
        let is_up = self.is_up();
        if let Some(overflow) = &mut self.overflow {
            overflow.note(is_up, now);
        }
        for number in 0..self.seats.len() {
            let seat = &self.seats[number];
            if self.is_shared(seat) {
                let weight = u64::from(seat.weight());
                self.weight += weight;
                self.heaviest = self.heaviest.max(weight);
                self.in_flight += seat.in_flight;
            }
            self.look_at(number);
            self.settle(number);
        }
    }

    /// Brings up to date what time changes of a server.
    fn look_at(&mut self, number: usize) {
        let ramps = self.ramp(number, self.now) < 1.0;
        let seat = &mut self.seats[number];
        seat.ramps = ramps;
        if ramps || seat.rests(self.now) {
            self.timed.push(number);
        }
    }

    // --- who can be picked -----------------------------------------------------

    /// Whether new sessions are shared among it and others now.
    fn is_shared(&self, seat: &Seat) -> bool {
        seat.is_usable(self.now) && (self.primaries == 0 || !seat.is_backup())
    }

    /// Looks again what time has changed. A session that comes `first` to this pool earns servers
    /// in slow start their share of a turn.
    pub(crate) fn refresh(&mut self, now: u64, first: bool) {
        self.now = now;
        if let Some(pace) = &mut self.pace {
            pace.tick(now, self.in_flight, &self.seats);
        }
        if self.timed.is_empty() {
            return;
        }
        let timed = std::mem::take(&mut self.timed);
        let woke = |seat: &usize| self.seats[*seat].is_awake(now);
        if timed.iter().any(woke) {
            self.restate(now);
        } else {
            if first {
                self.give_credit(&timed);
            }
            for seat in timed {
                self.look_at(seat);
                // Mostly nothing came of it; for a thousand that began together that counts.
                if self.is_pickable(seat) != self.can_be_picked(seat) {
                    self.settle(seat);
                }
            }
        }
    }

    /// Gives servers in slow start their share of a turn.
    fn give_credit(&mut self, timed: &[usize]) {
        let of = |seat: usize, ramp: f64| f64::from(self.seats[seat].weight()) * ramp;
        let shares: Vec<f64> = timed
            .iter()
            .map(|seat| of(*seat, self.ramp(*seat, self.now)))
            .collect();
        let missing: f64 = timed
            .iter()
            .zip(&shares)
            .map(|(seat, share)| of(*seat, 1.0) - share)
            .sum();
        let whole = (self.weight as f64 - missing).max(1.0);
        for (seat, share) in timed.iter().zip(shares) {
            let credit = &mut self.seats[*seat].credit;
            *credit = (*credit + share / whole).min(MOST_CREDIT);
        }
    }

    /// Which share of its weight slow start allows it: by how long it has been up, in relation to
    /// the one that has been up longest. So those that enter together don't wait for each other.
    pub(super) fn ramp(&self, seat: usize, now: u64) -> f64 {
        let Some(since) = self.seats[seat].up_since else {
            return 1.0;
        };
        let longest = now.saturating_sub(self.longest_up);
        let (own, of) = (now.saturating_sub(since), longest.min(self.slow_start));
        // Both are 0 for who comes up first.
        let ramp = if own >= of {
            1.0
        } else {
            own as f64 / of as f64
        };
        if ramp < ALL_BUT { ramp } else { 1.0 }
    }

    /// Whether it can be, whatever the ranking has.
    fn can_be_picked(&self, number: usize) -> bool {
        let seat = &self.seats[number];
        self.is_shared(seat) && !seat.is_full() && !seat.is_held_back()
    }

    /// Brings a server's load up to date.
    fn settle(&mut self, number: usize) {
        self.place(number, self.ranking.of(number).pass);
    }

    /// The same where its pass is this from now on.
    fn place(&mut self, number: usize, mut pass: u64) {
        let seat = &self.seats[number];
        let load = if self.can_be_picked(number) {
            seat.in_flight.saturating_mul(SESSION) / u64::from(seat.weight())
        } else {
            NEVER
        };
        if load != NEVER && !self.is_pickable(number) {
            // Behind the one that was picked last.
            pass = pass.max(self.clock + 1);
        }
        self.ranking.set(number, Rank { load, pass });
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.seats.len()
    }

    pub(crate) fn is_pickable(&self, seat: usize) -> bool {
        self.ranking.is_pickable(seat)
    }

    /// Whether a server takes new sessions, or would if it weren't full.
    pub(crate) fn is_usable(&self, seat: usize) -> bool {
        self.seats[seat].is_usable(self.now)
    }

    /// The same, and no other server comes before it: a backup's turn comes without any of those.
    pub(crate) fn is_wanted(&self, seat: usize) -> bool {
        self.is_shared(&self.seats[seat])
    }

    pub(crate) fn is_full(&self, seat: usize) -> bool {
        self.seats[seat].is_full()
    }

    /// Whether the configuration has it for new sessions, in this state.
    pub(crate) fn is_in_state(&self, seat: usize, state: ServerState) -> bool {
        self.seats[seat].weight() > 0 && self.seats[seat].state == state
    }

    /// Whether a server is up, full or not; one that is down and tried all the same isn't.
    pub(super) fn is_up(&self) -> bool {
        self.seats
            .iter()
            .any(|one| one.state == ServerState::Up && one.weight() > 0)
    }

    /// Whether a session that comes now is this pool's own.
    pub(super) fn keeps(&mut self, now: u64) -> bool {
        self.overflow.as_mut().is_none_or(|one| one.keeps(now))
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.line.len()
    }

    /// Whether those who wait come before anybody else.
    pub(crate) fn somebody_waits(&self) -> bool {
        !self.line.is_empty()
    }

    /// Whether any server could take a session, held back or not.
    pub(super) fn has_room(&self) -> bool {
        self.ranking.any() || self.least_of_all(|_| true).is_some()
    }

    // --- ways to choose --------------------------------------------------------

    /// The fewest sessions for its weight, of those that suit; the next in turn of equals.
    pub(crate) fn least(&self, suits: impl Fn(usize) -> bool) -> Option<usize> {
        self.ranking.least(suits)
    }

    /// The next in turn, of those that suit.
    pub(crate) fn next_in_turn(&self, suits: impl Fn(usize) -> bool) -> Option<usize> {
        self.ranking.next_in_turn(suits)
    }

    /// The least load as it was observed, of those that suit; the next in turn of equals.
    pub(crate) fn lightest(&self, suits: impl Fn(usize) -> bool) -> Option<usize> {
        let Some(pace) = &self.pace else {
            return self.least(suits);
        };
        let mut best = (f64::INFINITY, u64::MAX);
        let mut found = None;
        for (seat, one) in self.seats.iter().enumerate() {
            if !self.is_pickable(seat) || !suits(seat) {
                continue;
            }
            let load = pace.load(seat, one.in_flight, self.now) / f64::from(one.weight());
            let pass = self.ranking.of(seat).pass;
            if (load, pass) < best {
                best = (load, pass);
                found = Some(seat);
            }
        }
        found
    }

    /// The fewest sessions for its weight of all that suit and have room, also where slow start
    /// holds them back: that is no reason to refuse anybody. Backups only where no other server in
    /// use suits, full or not.
    pub(crate) fn least_of_all(&self, suits: impl Fn(usize) -> bool) -> Option<usize> {
        let usable = |seat: &usize| self.is_usable(*seat) && suits(*seat);
        let all = || (0..self.seats.len()).filter(usable);
        let backups = all().all(|seat| self.seats[seat].is_backup());
        all()
            .filter(|seat| self.seats[*seat].is_backup() == backups && !self.is_full(*seat))
            .min_by(|a, b| {
                let (one, other) = (&self.seats[*a], &self.seats[*b]);
                let crossed = |one: &Seat, other: &Seat| one.in_flight * u64::from(other.weight());
                let by_load = crossed(one, other).cmp(&crossed(other, one));
                by_load.then(self.ranking.of(*a).pass.cmp(&self.ranking.of(*b).pass))
            })
    }

    /// Whether one more session leaves a server within `bound` times its share of all; `bound` is
    /// a fraction.
    pub(crate) fn is_within(&self, seat: usize, bound: (u64, u64)) -> bool {
        let one = &self.seats[seat];
        let all = bound.0 * (self.in_flight + 1) * u64::from(one.weight());
        one.in_flight < all.div_ceil(bound.1 * self.weight.max(1))
    }

    /// Where a server stands: who has the fewest sessions for its weight is first.
    pub(crate) fn rank(&self, seat: usize) -> impl Ord + use<> {
        self.ranking.of(seat)
    }

    // --- counting ----------------------------------------------------------------

    /// Counts a session in. One that comes to its first server has its turn there.
    pub(crate) fn take(&mut self, number: usize, charged: bool) {
        let seat = &mut self.seats[number];
        seat.in_flight += 1;
        seat.server.in_flight.enter();
        if let Some(pace) = &mut self.pace {
            pace.given(number, self.now);
        }
        let weight = u64::from(seat.weight());
        let mut pass = self.ranking.of(number).pass;
        if charged && weight > 0 {
            let stride = STRIDE / weight;
            // One that was passed over for its load doesn't get all of that back later.
            pass = pass.max(self.clock.saturating_sub(stride));
            self.clock = self.clock.max(pass);
            pass += stride;
            seat.credit = (seat.credit - 1.0).max(0.0);
        }
        if self.is_shared(&self.seats[number]) {
            self.in_flight += 1;
        }
        self.place(number, pass);
    }

    /// A session that was counted in had its greeting before.
    pub(super) fn greeted_before(&mut self, number: usize) {
        if let Some(pace) = &mut self.pace {
            pace.gave_up(number);
        }
    }

    /// Counts a session out; perhaps one that still awaited a greeting.
    pub(super) fn leave(&mut self, number: usize, awaited: bool) {
        if let Some(pace) = &mut self.pace
            && awaited
        {
            pace.gave_up(number);
        }
        let seat = &mut self.seats[number];
        seat.in_flight -= 1;
        seat.server.in_flight.leave();
        if self.is_shared(&self.seats[number]) {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        self.settle(number);
    }

    /// A server greeted, or failed to, after this time.
    pub(crate) fn observe(
        &mut self,
        number: usize,
        time: Duration,
        outcome: GreetingOutcome,
        now: u64,
    ) {
        if outcome == GreetingOutcome::Failed && self.seats[number].state == ServerState::Panic {
            self.seats[number].failed(now);
            self.restate(now);
        }
        if let Some(pace) = &mut self.pace {
            pace.observe(number, time, outcome != GreetingOutcome::Greeted, now);
        }
    }
}
