//! The waiting room: who waits while every server is full, first come, first served.
//!
//! A place that gets free is given to the first of those who can use it, in its name, before
//! anybody else can pick it. Who gives up leaves at once, and what was given to it meanwhile goes
//! on to the next. (Priorities would be one line for each of them.)

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::metrics::{Counter, Histogram, QUEUE_BOUNDS, Tally};
use crate::moment::nanos;

use super::{InFlight, Roster, Seats};

/// How often somebody who waits looks whether time has made a server free.
const LOOK: Duration = Duration::from_secs(1);

/// How waiting for a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueEnd {
    /// With a place at a server.
    Served,
    /// The wait was over.
    Timeout,
    /// The client gave up, or its session was ended.
    ClientGone,
    /// It didn't begin: the queue was full.
    Full,
}

impl QueueEnd {
    /// Every way there is.
    pub const ALL: [Self; 4] = [Self::Served, Self::Timeout, Self::ClientGone, Self::Full];
}

/// What is counted of a queue.
#[derive(Debug, Default)]
pub(crate) struct QueueCounters {
    /// Sessions that began to wait.
    pub(crate) queued: Counter,
    ends: Tally<{ QueueEnd::ALL.len() }>,
    /// How long those that ended waiting had waited.
    pub(crate) time: Histogram,
}

impl QueueCounters {
    pub(crate) fn ends(&self, end: QueueEnd) -> u64 {
        self.ends.value(end as usize)
    }
}

/// What somebody waits for.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// By seat: whether that would do. Those beyond wouldn't.
    pub(crate) allowed: Box<[bool]>,
    /// Whether the session has tried no server yet.
    pub(crate) first: bool,
}

/// Somebody who waits.
#[derive(Debug)]
struct Waiter {
    number: u64,
    waiting: Waiting,
    told: oneshot::Sender<InFlight>,
}

/// Those who wait, the first first.
#[derive(Debug, Default)]
pub(super) struct WaitingLine {
    waiters: VecDeque<Waiter>,
    next: u64,
}

impl WaitingLine {
    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }
}

/// A place in the line, until it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    roster: Arc<Roster>,
    number: u64,
    began: Instant,
    told: oneshot::Receiver<InFlight>,
    end: QueueEnd,
}

/// What came of waiting.
#[derive(Debug)]
pub(crate) struct Waited {
    /// None where the wait was over before.
    pub(crate) in_flight: Option<InFlight>,
    pub(crate) time: Duration,
}

impl Roster {
    /// A place at the end of the line, unless `length` are there.
    pub(crate) fn queue(self: &Arc<Self>, waiting: Waiting, length: usize) -> Option<Ticket> {
        let mut seats = self.lock();
        if seats.line.len() >= length {
            self.counters.ends.count(QueueEnd::Full as usize);
            return None;
        }
        let (tell, told) = oneshot::channel();
        let number = seats.line.next;
        seats.line.next += 1;
        seats.line.waiters.push_back(Waiter {
            number,
            waiting,
            told: tell,
        });
        self.counters.queued.add(1);
        let ticket = Ticket {
            roster: Arc::clone(self),
            number,
            began: Instant::now(),
            told,
            end: QueueEnd::ClientGone,
        };
        // Something may be free that nobody before it can use.
        self.serve(&mut seats);
        Some(ticket)
    }

    /// The same where time alone may have made something free.
    fn look_again(self: &Arc<Self>) {
        let mut seats = self.lock();
        seats.refresh(nanos(Instant::now()), false);
        self.serve(&mut seats);
    }

    /// Gives what is free to those who wait.
    pub(super) fn serve(self: &Arc<Self>, seats: &mut Seats) {
        let mut first = 0;
        while first < seats.line.len() && seats.has_room() {
            let allowed = &seats.line.waiters[first].waiting.allowed;
            let suits = |seat: usize| allowed.get(seat).copied().unwrap_or_default();
            let Some(seat) = seats.least_of_all(suits) else {
                first += 1;
                continue;
            };
            let Some(waiter) = seats.line.waiters.remove(first) else {
                return;
            };
            seats.take(seat, waiter.waiting.first);
            let in_flight = self.guard(seats, seat);
            if let Err(mut refused) = waiter.told.send(in_flight) {
                // It gave up a moment ago. Counted out here, since the roster is locked.
                refused.roster = None;
                seats.leave(seat, true);
            }
        }
    }
}

impl Ticket {
    /// Waits until it is this one's turn, or for `limit`.
    pub(crate) async fn wait(mut self, limit: Duration) -> Waited {
        let until = self.began + limit;
        let told = loop {
            let left = until.saturating_duration_since(Instant::now());
            match timeout(left.min(LOOK), &mut self.told).await {
                Ok(told) => break told.ok(),
                Err(_) if left > LOOK => self.roster.look_again(),
                Err(_) => break None,
            }
        };
        // One that was told at the last moment has its place.
        let in_flight = told.or_else(|| {
            self.leave();
            self.told.try_recv().ok()
        });
        self.end = if in_flight.is_some() {
            QueueEnd::Served
        } else {
            QueueEnd::Timeout
        };
        Waited {
            in_flight,
            time: self.began.elapsed(),
        }
    }

    /// Leaves the line.
    fn leave(&self) {
        let mut seats = self.roster.lock();
        let waiters = &mut seats.line.waiters;
        if let Ok(index) = waiters.binary_search_by_key(&self.number, |one| one.number) {
            waiters.remove(index);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.leave();
        let counters = &self.roster.counters;
        counters.ends.count(self.end as usize);
        counters.time.observe(&QUEUE_BOUNDS, self.began.elapsed());
    }
}
