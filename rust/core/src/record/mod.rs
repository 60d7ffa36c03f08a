//! What is kept of a session: opened when it is accepted, closed once, with a reason.
//!
//! A [`Record`] is a guard. Whatever way a session ends, its end is counted and logged exactly
//! once: dropped without [`close`](Record::close), it was stopped, or it panicked.

mod account;
mod format;
mod listener;
mod live;
mod log;
mod place;
mod reason;
mod refused;
mod sink;
mod tail;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime};

use crate::metrics::{PerWorker, SESSION_BOUNDS, WorkerCounters, WorkerId};
use crate::moment::{Micros, WallMoment};

use account::Account;
pub(crate) use account::{FailedAttempt, Taker};
pub use account::{Path, SessionId, Side};
pub use listener::WouldRefuse;
pub(crate) use listener::{ListenerCounters, ListenerState, TriedOut};
use live::Begin;
pub(crate) use live::{Course, LiveSession, LiveSessions};
pub use live::{SessionFilter, SessionStats};
pub use log::LogStats;
pub(crate) use log::{SessionLog, Told};
pub(crate) use place::SessionPlace;
pub(crate) use reason::{End, Served};
pub use reason::{EndBy, EndReason};
#[cfg(feature = "bench")]
pub(crate) use refused::Refused;
pub use refused::RefusedSource;
pub(crate) use refused::most_refused;
pub(crate) use tail::last_written;

/// A server that ends a session after so long a silence in a message ran out of patience with a
/// client: the least that RFC 5321, 4.5.3.2.5, has anybody wait is three minutes; some wait less.
const SERVERS_PATIENCE: Duration = Duration::from_secs(60);

/// Where a worker's sessions are written down.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) worker: WorkerId,
    pub(crate) counters: Arc<PerWorker<WorkerCounters>>,
    live: Arc<LiveSessions>,
    log: Arc<SessionLog>,
    /// The next session's number. It begins anywhere, so that no two processes have the same.
    next: AtomicU64,
}

impl Ledger {
    pub(crate) fn new(
        worker: WorkerId,
        counters: Arc<PerWorker<WorkerCounters>>,
        live: Arc<LiveSessions>,
        log: Arc<SessionLog>,
    ) -> Self {
        Self {
            worker,
            counters,
            live,
            log,
            next: AtomicU64::new(RandomState::new().build_hasher().finish()),
        }
    }
}

/// One session's account while it is open.
#[derive(Debug)]
pub(crate) struct Record {
    ledger: Arc<Ledger>,
    listener: Arc<ListenerState>,
    live: Arc<LiveSession>,
    accepted: WallMoment,
    tried: Vec<FailedAttempt>,
    wait: Option<Micros>,
    queued: Option<Micros>,
    greeted: Greeted,
    /// None where another process let it in.
    tried_out: Option<TriedOut>,
    /// None until it is closed.
    end: Option<End>,
    /// Nothing is left to do for it.
    is_done: bool,
}

/// How the server that took a session did so.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Greeted {
    pub(crate) connect: Option<Micros>,
    pub(crate) greeting: Option<Micros>,
    pub(crate) code: Option<u16>,
}

/// What is known of a session once a server took it.
#[derive(Debug, Clone)]
pub(crate) struct Outline {
    pub(crate) id: SessionId,
    pub(crate) accepted: SystemTime,
    /// Since then, whatever became of the clock.
    pub(crate) age: Duration,
    pub(crate) listener: Arc<str>,
    pub(crate) taker: Arc<Taker>,
    /// In vain, before that.
    pub(crate) tried: Vec<FailedAttempt>,
    pub(crate) wait: Duration,
    pub(crate) greeted: Greeted,
}

impl Record {
    /// Opens the account of a connection that was just accepted. `waker` wakes the task that
    /// serves it.
    pub(crate) fn open(
        ledger: &Arc<Ledger>,
        listener: &Arc<ListenerState>,
        pool: &Arc<str>,
        client: SocketAddr,
        waker: Waker,
    ) -> Self {
        listener.counters.of(ledger.worker).accepted.add(1);
        ledger.counters.of(ledger.worker).begun.add(1);
        let id = SessionId(ledger.next.fetch_add(1, Relaxed));
        let begin = Begin {
            id,
            listener: &listener.name,
            pool,
            client,
            accepted: Instant::now(),
            waker: Some(waker),
        };
        let live = ledger.live.insert(ledger.worker, begin);
        Self {
            ledger: Arc::clone(ledger),
            listener: Arc::clone(listener),
            live,
            accepted: SystemTime::now().into(),
            tried: vec![],
            wait: None,
            queued: None,
            greeted: Greeted::default(),
            tried_out: Some(TriedOut::default()),
            end: None,
            is_done: false,
        }
    }

    /// Goes on with the account of a session that another process began; `pool` is its
    /// listener's.
    pub(crate) fn restore(
        ledger: &Arc<Ledger>,
        listener: &Arc<ListenerState>,
        pool: &Arc<str>,
        client: SocketAddr,
        outline: Outline,
    ) -> Self {
        listener.counters.of(ledger.worker).accepted.add(1);
        ledger.counters.of(ledger.worker).begun.add(1);
        let now = Instant::now();
        let begin = Begin {
            id: outline.id,
            listener: &outline.listener,
            pool,
            client,
            accepted: now.checked_sub(outline.age).unwrap_or(now),
            waker: None,
        };
        let live = ledger.live.insert(ledger.worker, begin);
        // It was just made.
        let _ = live.taker.set(outline.taker);
        Self {
            ledger: Arc::clone(ledger),
            listener: Arc::clone(listener),
            live,
            accepted: outline.accepted.into(),
            tried: outline.tried,
            wait: Some(outline.wait.into()),
            queued: None,
            greeted: outline.greeted,
            tried_out: None,
            end: None,
            is_done: false,
        }
    }

    /// What is known of it; none before a server took it.
    pub(crate) fn outline(&self) -> Option<Outline> {
        Some(Outline {
            id: self.live.id,
            accepted: self.accepted.into(),
            age: self.live.accepted.elapsed(),
            listener: Arc::clone(&self.live.listener),
            taker: Arc::clone(self.live.taker.get()?),
            tried: self.tried.clone(),
            wait: self.wait.map(Duration::from).unwrap_or_default(),
            greeted: self.greeted,
        })
    }

    pub(crate) fn id(&self) -> SessionId {
        self.live.id
    }

    /// When the client was accepted.
    pub(crate) fn began(&self) -> Instant {
        self.live.accepted
    }

    pub(crate) fn worker(&self) -> WorkerId {
        self.ledger.worker
    }

    /// The session as others see it.
    pub(crate) fn live(&self) -> &Arc<LiveSession> {
        &self.live
    }

    /// What this worker counts of the listener.
    pub(crate) fn listener(&self) -> &ListenerCounters {
        self.listener.counters.of(self.ledger.worker)
    }

    /// What this worker counts of itself.
    pub(crate) fn process(&self) -> &WorkerCounters {
        self.ledger.counters.of(self.ledger.worker)
    }

    /// This would have refused it.
    pub(crate) fn tried_out(&mut self, what: WouldRefuse) {
        self.listener().count_dry_run(what);
        if let Some(tried_out) = &mut self.tried_out {
            tried_out.add(what);
        }
    }

    /// A server was tried in vain: at `step`, for `cause`.
    pub(crate) fn failed(&mut self, server: &Taker, step: &'static str, cause: &'static str) {
        self.tried.push(FailedAttempt {
            server: server.name(&self.live.pool),
            step,
            cause,
        });
    }

    /// It has waited for so long because every server was full.
    pub(crate) fn queued(&mut self, time: Duration) {
        let before = self.queued.map_or(Duration::ZERO, Duration::from);
        self.queued = Some((before + time).into());
    }

    /// It is decided whether a server takes the session.
    pub(crate) fn decided(&mut self) {
        let accepted = self.live.accepted;
        self.wait.get_or_insert_with(|| accepted.elapsed().into());
    }

    /// A server took the session.
    pub(crate) fn taken(&mut self, taker: &Arc<Taker>, greeted: Greeted) {
        self.decided();
        self.greeted = greeted;
        if !self.tried.is_empty() {
            // It was late; that it wasn't tried in vain is known now.
            let name = taker.name(&self.live.pool);
            self.tried.retain(|attempt| attempt.server != name);
        }
        // Set once: a session is taken once.
        let _ = self.live.taker.set(Arc::clone(taker));
    }

    /// How its server served it, where it ends so now.
    pub(crate) fn served(&self, end: End, now: Instant) -> Served {
        let taken = self.live.accepted + self.wait.map(Duration::from).unwrap_or_default();
        let silent = now.saturating_duration_since(self.live.spoke());
        let is_cut = self.live.course().in_data == Some(true) && silent < SERVERS_PATIENCE;
        match (end.by, end.reason) {
            (EndBy::Server, EndReason::ServerClosed | EndReason::ServerLost) if is_cut => {
                Served::CutOff
            }
            (EndBy::Client, _) | (_, EndReason::TlsClosed) => Served::Well { taken },
            _ => Served::Unclear,
        }
    }

    /// It is over so, and is closed soon.
    pub(crate) fn ends(&mut self, end: End) {
        self.end = Some(end);
    }

    /// The session ended so.
    pub(crate) fn close(mut self, end: End) {
        self.end = Some(end);
    }

    /// The same; `told` hears of it once it was written. Whether it will be.
    pub(crate) fn close_and_tell(mut self, end: End, told: Box<dyn Told>) -> bool {
        self.end = Some(end);
        self.finish(Some(told))
    }

    /// The session goes on when this process is gone.
    pub(crate) fn leave(mut self) {
        self.is_done = true;
        self.ledger.live.remove(self.ledger.worker, self.live.id);
        self.process().ended.add(1);
    }

    /// How it ended.
    fn end(&self, course: Course) -> End {
        let end = self.end.unwrap_or_else(|| {
            End::ours(if std::thread::panicking() {
                EndReason::Panicked
            } else {
                EndReason::Stopped
            })
        });
        Self::counted_as(end, course)
    }

    /// What is counted where it ends so now.
    pub(crate) fn reason(&self, end: End) -> EndReason {
        Self::counted_as(end, self.live.course()).reason
    }

    /// How an end is counted and written: what cuts a message off is that above all.
    fn counted_as(end: End, course: Course) -> End {
        let limit = matches!(end.reason, EndReason::IdleClient | EndReason::IdleServer);
        if course.in_data == Some(true) && !limit && end.reason != EndReason::Panicked {
            return End {
                reason: EndReason::CutInData,
                ..end
            };
        }
        end
    }

    fn account(&mut self, total: Duration, course: Course, end: End) -> Account {
        let (received, sent) = self.live.bytes();
        let (taker, own) = (self.live.taker.get(), &self.live.pool);
        let pool = taker.map_or(own, |taker| &taker.pool);
        Account {
            id: self.live.id,
            accepted: self.accepted.into(),
            listener: Arc::clone(&self.live.listener),
            client: self.live.client,
            pool: Arc::clone(pool),
            overflow_of: (pool != own).then(|| Arc::clone(own)),
            server: taker.map(|taker| Arc::clone(&taker.server)),
            tried: std::mem::take(&mut self.tried),
            wait: self.wait.map_or(total, Duration::from),
            queued: self.queued.map(Duration::from),
            connect: self.greeted.connect.map(Duration::from),
            greeting: self.greeted.greeting.map(Duration::from),
            total,
            received,
            sent,
            greeting_code: self.greeted.code,
            tls: course.tls,
            path: course.path,
            in_data: course.in_data,
            spoke_last: course.spoke_last,
            end,
            tried_out: self.tried_out,
        }
    }

    /// Counts it out and has it written; whether it will be.
    fn finish(&mut self, told: Option<Box<dyn Told>>) -> bool {
        self.is_done = true;
        let total = self.live.accepted.elapsed();
        let course = self.live.course();
        let end = self.end(course);
        let is_queued = self.ledger.log.is_on() && {
            let account = self.account(total, course, end);
            self.ledger.log.push(Box::new(account), told)
        };
        self.ledger.live.remove(self.ledger.worker, self.live.id);
        let listener = self.listener();
        listener.count_end(end.reason);
        listener.session_time.observe(&SESSION_BOUNDS, total);
        self.process().ended.add(1);
        is_queued
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.is_done {
            self.finish(None);
        }
    }
}

#[cfg(test)]
mod tests;
