//! The way to the thread that has the flows: workers leave what they have handed over, the others
//! say what they want. Nobody waits for that thread but who asks it something.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mailweir_flow::Key;
use rustix::event::{EventfdFlags, eventfd};

use crate::metrics::{Counter, PerWorker, WorkerId};
use crate::record::SessionId;

use super::carried::Carried;
use super::owed::Claim;

/// For the thread to answer: it looks far more often.
const ANSWER: Duration = Duration::from_secs(1);

/// Sessions on their way to the thread, and what is known of those that are there.
#[derive(Debug)]
pub(super) struct Flows {
    arrivals: PerWorker<Mutex<Vec<Arrival>>>,
    errands: Mutex<Vec<Errand>>,
    /// A session has found no place or no port.
    wants_room: AtomicBool,
    /// Readable when an errand is not to wait for the next look.
    bell: OwnedFd,
    /// Sessions that were handed over and haven't ended.
    pub(super) live: AtomicU64,
    /// Keys of flows that are over.
    pub(super) lingering: AtomicU64,
    /// How often the thread began again after a panic.
    pub(super) restarts: Counter,
}

/// A session that was handed over.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) number: u32,
    pub(super) keys: [Key; 2],
    pub(super) carried: Carried,
    /// Until the client has acknowledged its greeting.
    pub(super) client: Option<TcpStream>,
}

/// What the thread is to do.
#[derive(Debug)]
pub(super) enum Errand {
    /// The record of a flow is in the log, or will never be.
    Recorded(u32),
    /// The record of a flow was closed by whoever found it, and isn't in the log.
    Owed(u32, [Key; 2], Claim),
    /// A key of a flow that is over; whether the server says it.
    Lingers(Key, bool),
    /// Say our end of each flow's connection with its server.
    Sources(Sender<HashMap<SessionId, SocketAddr>>),
    /// Limits are others now.
    LookAtAll,
    /// The process ends: flows that can go on without it do.
    Stop,
}

impl Flows {
    /// # Errors
    /// What the kernel says.
    pub(super) fn new(workers: usize) -> io::Result<Self> {
        Ok(Self {
            arrivals: PerWorker::new(workers),
            errands: Mutex::default(),
            wants_room: AtomicBool::new(false),
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            live: AtomicU64::new(0),
            lingering: AtomicU64::new(0),
            restarts: Counter::default(),
        })
    }

    /// A session is a flow from now on.
    pub(super) fn arrive(&self, worker: WorkerId, arrival: Arrival) {
        self.live.fetch_add(1, Relaxed);
        lock(self.arrivals.of(worker)).push(arrival);
    }

    /// With the next look, or at once where it has to be.
    pub(super) fn send(&self, errand: Errand) {
        let is_urgent = matches!(
            errand,
            Errand::Sources(_) | Errand::LookAtAll | Errand::Stop
        );
        lock(&self.errands).push(errand);
        if is_urgent {
            // Full, it rings already.
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
    }

    /// A session has found no place or no port: what can be given up is to be.
    pub(super) fn want_room(&self) {
        self.wants_room.store(true, Relaxed);
    }

    /// Whether any has since the last call.
    pub(super) fn is_room_wanted(&self) -> bool {
        self.wants_room.swap(false, Relaxed)
    }

    /// Our end of each flow's connection with its server; none once the thread has ended.
    pub(super) fn sources(&self) -> HashMap<SessionId, SocketAddr> {
        let (sender, answer) = channel();
        self.send(Errand::Sources(sender));
        answer.recv_timeout(ANSWER).unwrap_or_default()
    }

    /// What has come since the last call.
    pub(super) fn take_arrivals(&self) -> Vec<Arrival> {
        let queues = self.arrivals.iter();
        queues
            .flat_map(|queue| std::mem::take(&mut *lock(queue)))
            .collect()
    }

    /// What was sent since the last call; the bell is silent again.
    pub(super) fn take_errands(&self) -> Vec<Errand> {
        // Empty, it didn't ring.
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        std::mem::take(&mut lock(&self.errands))
    }

    /// Readable when it rings.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A push or a take is done or isn't.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
