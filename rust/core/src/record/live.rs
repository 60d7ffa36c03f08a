//! The sessions that live: for a list of them, and so that one can be ended or woken.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::metrics::{PerWorker, WorkerId};
use crate::moment::AtomicMoment;
use crate::prefixes::Prefix;

use super::account::{Path, SessionId, Side, Taker};
use super::reason::EndReason;
use crate::spec::wire;

/// Written by the session itself, read by anybody.
#[derive(Debug)]
pub(crate) struct LiveSession {
    pub(super) id: SessionId,
    pub(super) listener: Arc<str>,
    pub(super) client: SocketAddr,
    pub(super) accepted: Instant,
    /// The listener's.
    pub(super) pool: Arc<str>,
    /// Of this or, where it overflowed, of another pool.
    pub(super) taker: OnceLock<Arc<Taker>>,
    /// From the client, and to it.
    received: AtomicU64,
    sent: AtomicU64,
    spoke: AtomicMoment,
    flags: AtomicU8,
    /// The number of the reason that it was ended for from outside, or `NOT_KILLED`.
    killed: AtomicU8,
    /// None where nobody serves it yet.
    waker: Mutex<Option<Waker>>,
}

const SERVER_SPOKE: u8 = 1;
const CLIENT_SPOKE: u8 = 2;
const TLS: u8 = 4;
const IN_DATA: u8 = 8;
const SPLICED: u8 = 16;
const IN_KERNEL: u8 = 32;
const UNKNOWN_DATA: u8 = 64;

/// No reason has that number.
const NOT_KILLED: u8 = u8::MAX;

/// What is known of a session's course.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course {
    pub(crate) spoke_last: Option<Side>,
    pub(crate) tls: bool,
    /// Whether a message is under way; none where that isn't known.
    pub(crate) in_data: Option<bool>,
    pub(crate) path: Path,
}

impl LiveSession {
    /// `from` said so many bytes, which were or are being passed on.
    pub(crate) fn carried(&self, from: Side, size: u64) {
        let counter = match from {
            Side::Client => &self.received,
            Side::Server => &self.sent,
        };
        // Nobody else writes it.
        counter.store(counter.load(Relaxed) + size, Relaxed);
    }

    /// Where it has got to, at this moment.
    pub(crate) fn note(&self, course: Course, now: Instant) {
        let speaker = match course.spoke_last {
            Some(Side::Client) => CLIENT_SPOKE,
            Some(Side::Server) => SERVER_SPOKE,
            None => 0,
        };
        let flag = |set, flag| if set { flag } else { 0 };
        let flags = speaker
            | flag(course.tls, TLS)
            | flag(course.in_data == Some(true), IN_DATA)
            | flag(course.in_data.is_none(), UNKNOWN_DATA)
            | flag(course.path == Path::Splice, SPLICED)
            | flag(course.path == Path::Kernel, IN_KERNEL);
        self.flags.store(flags, Relaxed);
        self.spoke.set(now);
    }

    /// When something was said last, or when it was accepted.
    pub(crate) fn spoke(&self) -> Instant {
        self.spoke.read().unwrap_or(self.accepted)
    }

    /// Where it had got to when it was noted last.
    pub(crate) fn course(&self) -> Course {
        let flags = self.flags.load(Relaxed);
        let spoke_last = match flags & (CLIENT_SPOKE | SERVER_SPOKE) {
            CLIENT_SPOKE => Some(Side::Client),
            SERVER_SPOKE => Some(Side::Server),
            _ => None,
        };
        Course {
            spoke_last,
            tls: flags & TLS > 0,
            // Nothing was said yet where nothing was noted.
            in_data: (flags & UNKNOWN_DATA == 0).then_some(flags & IN_DATA > 0),
            path: match flags & (SPLICED | IN_KERNEL) {
                IN_KERNEL => Path::Kernel,
                SPLICED => Path::Splice,
                _ => Path::Copy,
            },
        }
    }

    /// From the client, and to it.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.received.load(Relaxed), self.sent.load(Relaxed))
    }

    /// No task serves it any more, whose memory would be kept as long as it can be woken: `waker`
    /// has it looked at.
    pub(crate) fn is_woken_by(&self, waker: Waker) {
        *lock(&self.waker) = Some(waker);
    }

    fn wake(&self) {
        if let Some(waker) = &*lock(&self.waker) {
            waker.wake_by_ref();
        }
    }

    /// Ends it; whether nobody had before.
    fn kill(&self, why: EndReason) -> bool {
        let first = self
            .killed
            .compare_exchange(NOT_KILLED, why as u8, Relaxed, Relaxed)
            .is_ok();
        self.wake();
        first
    }

    /// Why it was ended from outside, by an operator say, if it was.
    pub(crate) fn killed(&self) -> Option<EndReason> {
        let number = self.killed.load(Relaxed);
        EndReason::ALL.get(usize::from(number)).copied()
    }
}

/// A live session at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct SessionStats {
    /// Its number.
    #[serde(serialize_with = "wire::text")]
    pub id: SessionId,
    /// Its listener's name.
    pub listener: String,
    /// Who connected.
    pub client: SocketAddr,
    /// Its pool's name.
    pub pool: String,
    /// The server that took it, if one has.
    pub server: Option<String>,
    /// Since it was accepted.
    #[serde(with = "wire::seconds")]
    pub age: Duration,
    /// Since payload last went either way.
    #[serde(with = "wire::seconds")]
    pub silent: Duration,
    /// Who sent that.
    pub spoke_last: Option<Side>,
    /// From the client.
    pub received_bytes: u64,
    /// To the client.
    pub sent_bytes: u64,
    /// Whether it was seen to speak TLS.
    pub tls: bool,
    /// How its bytes go.
    pub path: Path,
    /// Our end of its connection with the server, where no socket shows that any more: on the
    /// kernel path.
    pub source: Option<SocketAddr>,
}

impl SessionStats {
    fn read(live: &LiveSession, now: Instant) -> Self {
        let (received_bytes, sent_bytes) = live.bytes();
        let spoke = live.spoke();
        let course = live.course();
        let taker = live.taker.get();
        Self {
            id: live.id,
            listener: live.listener.to_string(),
            client: live.client,
            pool: taker.map_or(&live.pool, |taker| &taker.pool).to_string(),
            server: taker.map(|taker| taker.server.to_string()),
            age: now.saturating_duration_since(live.accepted),
            silent: now.saturating_duration_since(spoke),
            spoke_last: course.spoke_last,
            received_bytes,
            sent_bytes,
            tls: course.tls,
            path: course.path,
            source: None,
        }
    }
}

/// Which sessions are meant; None is any.
#[derive(Debug, Clone, Copy, Default)]
pub struct SessionFilter<'a> {
    /// A listener's name.
    pub listener: Option<&'a str>,
    /// A pool's and a server's name.
    pub server: Option<(&'a str, &'a str)>,
    /// Where the client comes from.
    pub client: Option<Prefix>,
}

impl SessionFilter<'_> {
    fn takes(&self, live: &LiveSession) -> bool {
        let taker = live.taker.get();
        let server = taker.map(|taker| (&*taker.pool, &*taker.server));
        self.listener.is_none_or(|name| *live.listener == *name)
            && self.server.is_none_or(|names| server == Some(names))
            && self
                .client
                .is_none_or(|prefix| prefix.contains(live.client.ip()))
    }
}

/// A session as it begins.
#[derive(Debug)]
pub(super) struct Begin<'a> {
    pub(super) id: SessionId,
    pub(super) listener: &'a Arc<str>,
    pub(super) pool: &'a Arc<str>,
    pub(super) client: SocketAddr,
    pub(super) accepted: Instant,
    /// Wakes the task that serves it, if one does.
    pub(super) waker: Option<Waker>,
}

/// All live sessions, each in the table of its worker.
#[derive(Debug)]
pub(crate) struct LiveSessions(PerWorker<Mutex<HashSet<Numbered>>>);

/// Known by its number, which it has itself.
#[derive(Debug)]
struct Numbered(Arc<LiveSession>);

impl Borrow<SessionId> for Numbered {
    fn borrow(&self) -> &SessionId {
        &self.0.id
    }
}

impl Hash for Numbered {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl PartialEq for Numbered {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Numbered {}

impl LiveSessions {
    pub(crate) fn new(workers: usize) -> Self {
        Self(PerWorker::new(workers))
    }

    pub(super) fn insert(&self, worker: WorkerId, begin: Begin<'_>) -> Arc<LiveSession> {
        let live = Arc::new(LiveSession {
            id: begin.id,
            listener: Arc::clone(begin.listener),
            client: begin.client,
            accepted: begin.accepted,
            pool: Arc::clone(begin.pool),
            taker: OnceLock::new(),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            spoke: AtomicMoment::default(),
            flags: AtomicU8::new(0),
            killed: AtomicU8::new(NOT_KILLED),
            waker: Mutex::new(begin.waker),
        });
        lock(self.0.of(worker)).insert(Numbered(Arc::clone(&live)));
        live
    }

    pub(super) fn remove(&self, worker: WorkerId, id: SessionId) {
        lock(self.0.of(worker)).remove(&id);
    }

    /// Those that `filter` takes, the oldest first, at most `limit`.
    pub(crate) fn read(&self, filter: SessionFilter<'_>, limit: usize) -> Vec<SessionStats> {
        let mut found = self.all(filter);
        found.sort_by_key(|live| live.accepted);
        found.truncate(limit);
        let now = Instant::now();
        let read = found.iter().map(|live| SessionStats::read(live, now));
        read.collect()
    }

    /// Ends a session, by an operator's word; false where there is none with this number.
    pub(crate) fn kill(&self, id: SessionId) -> bool {
        let found = self
            .0
            .iter()
            .find_map(|table| lock(table).get(&id).map(|found| Arc::clone(&found.0)));
        if let Some(live) = &found {
            live.kill(EndReason::Killed);
        }
        found.is_some()
    }

    /// Ends those that `filter` takes and nobody has ended yet; how many.
    pub(crate) fn kill_all(&self, filter: SessionFilter<'_>, why: EndReason) -> usize {
        let all = self.all(filter);
        all.iter().filter(|live| live.kill(why)).count()
    }

    /// Has those that `filter` takes look whether they are to end.
    pub(crate) fn wake(&self, filter: SessionFilter<'_>) {
        for live in self.all(filter) {
            live.wake();
        }
    }

    fn all(&self, filter: SessionFilter<'_>) -> Vec<Arc<LiveSession>> {
        let mut found = vec![];
        for table in self.0.iter() {
            let table = lock(table);
            let all = table.iter().map(|Numbered(live)| live);
            found.extend(all.filter(|live| filter.takes(live)).cloned());
        }
        found
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
