//! The data plane as its owner sees it: start, apply, drain, stats, stop.
//!
//! A change goes one way: a specification is built to a snapshot, its new addresses are
//! bound, and then one pointer is stored. Until that moment nothing has changed.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use arc_swap::ArcSwap;

use crate::listener;
use crate::metrics::{PerWorker, WorkerCounters, WorkerId};
use crate::registry::Registry;
use crate::relay::pipes::Pipes;
use crate::session::Commons;
use crate::snapshot::{BindKey, Snapshot, SpecError};
use crate::spec::{PlaneSpec, ServerState};
use crate::stats::{ListenerStats, RelayStats, ServerStats, Stats};
use crate::worker::Worker;

/// Why a specification isn't running.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// It contradicts itself.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// An address can't be had.
    #[error("listener {listener}: {address} can't be bound: {cause}")]
    Bind {
        /// The listener's name.
        listener: String,
        /// What it wants.
        address: SocketAddr,
        /// What the kernel says.
        cause: io::Error,
    },
    /// It has been told to drain or to stop: nothing new runs any more.
    #[error("the data plane is draining")]
    Draining,
}

/// Worker threads and what they run. Every method may be called from any thread, also one that
/// belongs to no runtime; those that wait say so.
#[derive(Debug)]
pub struct DataPlane {
    current: Arc<ArcSwap<Snapshot>>,
    counters: Arc<PerWorker<WorkerCounters>>,
    /// Where the sockets of each key are. Locked for moments only, so that reading never
    /// waits for a change.
    bound: Mutex<HashMap<BindKey, SocketAddr>>,
    draining: AtomicBool,
    control: Mutex<Control>,
}

/// What only changes go through: one at a time.
#[derive(Debug)]
struct Control {
    workers: Vec<Worker>,
    registry: Registry,
}

impl DataPlane {
    /// Starts this many worker threads, at least one. Nothing listens before the first
    /// [`apply`](Self::apply).
    ///
    /// # Errors
    /// If the system has no threads or descriptors left.
    pub fn start(workers: usize) -> io::Result<Self> {
        let workers = workers.max(1);
        let current = Arc::new(ArcSwap::from_pointee(Snapshot::empty()));
        let counters = Arc::new(PerWorker::new(workers));
        let plane = Self {
            current: Arc::clone(&current),
            counters: Arc::clone(&counters),
            bound: Mutex::default(),
            draining: AtomicBool::new(false),
            control: Mutex::new(Control {
                workers: Vec::with_capacity(workers),
                registry: Registry::new(workers),
            }),
        };
        for id in (0..workers).map(WorkerId) {
            let commons = Commons {
                worker: id,
                counters: Arc::clone(&counters),
                pipes: Arc::new(Pipes::new(id, Arc::clone(&counters))),
            };
            let worker = Worker::start(Arc::clone(&current), commons)?;
            lock(&plane.control).workers.push(worker);
        }
        Ok(plane)
    }

    /// Makes `spec` the running one, at once and whole; the new generation number.
    ///
    /// Sessions go on with what they began with. Addresses that are left are closed once their
    /// queues are empty, which is waited for (a second at most).
    ///
    /// # Errors
    /// If it can't run. Then nothing has changed.
    pub fn apply(&self, spec: &PlaneSpec) -> Result<u64, ApplyError> {
        let mut control = lock(&self.control);
        if self.draining.load(Relaxed) {
            return Err(ApplyError::Draining);
        }
        let generation = self.current.load().generation + 1;
        let snapshot = Snapshot::build(spec, generation, &mut control.registry)?;
        let opened = control.open(&snapshot, &lock(&self.bound))?;
        snapshot.take_states(spec);
        self.current.store(Arc::new(snapshot));
        for (worker, sockets) in control.workers.iter().zip(opened.by_worker) {
            worker.listen(sockets);
        }
        lock(&self.bound).extend(opened.bound);
        let current = self.current.load();
        self.leave(&control, |key| current.listener_at(key).is_none());
        control.registry.prune();
        Ok(generation)
    }

    /// Changes what a server may be used for. One that the running snapshot hasn't is passed
    /// over: it left while its check was under way, say.
    pub fn set_server_state(&self, pool: &str, server: &str, state: ServerState) {
        if let Some(member) = self.current.load().member(pool, server) {
            member.server.set_state(state);
        }
    }

    /// Stops listening, for good; sessions go on. Waits until the accept queues are empty (a
    /// second at most).
    pub fn drain(&self) {
        let control = lock(&self.control);
        self.draining.store(true, Relaxed);
        self.leave(&control, |_| true);
    }

    /// Counters and gauges of this moment.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let current = self.current.load();
        let bound = lock(&self.bound);
        // Ends first, so that the difference is never below zero.
        let ended = self.counters.sum(|one| &one.ended);
        let begun = self.counters.sum(|one| &one.begun);
        let address = |key: &BindKey| bound.get(key).copied();
        let listener = |listener| ListenerStats::read(listener, address);
        let servers = current.pools.iter().flat_map(|pool| {
            let of_pool = pool.members.iter();
            of_pool.map(|member| ServerStats::read(pool, member))
        });
        Stats {
            generation: current.generation,
            workers: self.counters.iter().count(),
            draining: self.draining.load(Relaxed),
            active: begun.saturating_sub(ended),
            listeners: current.listeners.iter().map(listener).collect(),
            servers: servers.collect(),
            relay: RelayStats::read(&self.counters),
        }
    }

    /// Ends every session and waits for the worker threads. A second call does nothing.
    pub fn stop(&self) {
        let mut control = lock(&self.control);
        self.draining.store(true, Relaxed);
        for worker in control.workers.drain(..) {
            worker.stop();
        }
        lock(&self.bound).clear();
    }

    /// Closes the addresses that are `unwanted`, once their queues are empty; waits for that.
    fn leave(&self, control: &Control, unwanted: impl Fn(&BindKey) -> bool) {
        let keys: Vec<BindKey> = {
            let bound = lock(&self.bound);
            bound.keys().filter(|key| unwanted(key)).copied().collect()
        };
        if keys.is_empty() {
            return;
        }
        let (done, all_done) = mpsc::channel();
        for worker in &control.workers {
            worker.leave(keys.clone(), done.clone());
        }
        drop(done);
        // Ends once every worker has answered or, where it died, dropped its end.
        while all_done.recv().is_ok() {}
        lock(&self.bound).retain(|key, _| !keys.contains(key));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in between leaves at worst an address bound that no snapshot has.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sockets that were bound for a snapshot that doesn't run yet. Dropping them closes them.
struct Opened {
    by_worker: Vec<Vec<(BindKey, tokio::net::TcpListener)>>,
    bound: Vec<(BindKey, SocketAddr)>,
}

impl Control {
    /// Binds what `snapshot` has and nobody listens at yet.
    fn open(
        &self,
        snapshot: &Snapshot,
        bound: &HashMap<BindKey, SocketAddr>,
    ) -> Result<Opened, ApplyError> {
        let mut opened = Opened {
            by_worker: self.workers.iter().map(|_| vec![]).collect(),
            bound: vec![],
        };
        for listener in &snapshot.listeners {
            for key in listener.bind.iter().filter(|key| !bound.contains_key(key)) {
                self.open_one(*key, bound, &mut opened)
                    .map_err(|cause| ApplyError::Bind {
                        listener: listener.name.to_string(),
                        address: key.address,
                        cause,
                    })?;
            }
        }
        Ok(opened)
    }

    fn open_one(
        &self,
        key: BindKey,
        bound: &HashMap<BindKey, SocketAddr>,
        opened: &mut Opened,
    ) -> io::Result<()> {
        let new = opened.bound.iter().map(|(_, address)| address);
        let shared = bound
            .values()
            .chain(new)
            .any(|ours| overlaps(*ours, key.address));
        let sockets: Vec<StdListener> = listener::bind(key.address, self.workers.len(), shared)?;
        let address = sockets.first().map(StdListener::local_addr);
        for ((worker, to), socket) in self.workers.iter().zip(&mut opened.by_worker).zip(sockets) {
            to.push((key, worker.adopt(socket)?));
        }
        opened
            .bound
            .push((key, address.unwrap_or(Ok(key.address))?));
        Ok(())
    }
}

/// Whether the kernel would say that `new` is in use because of `bound`.
fn overlaps(bound: SocketAddr, new: SocketAddr) -> bool {
    let either_all = bound.ip().is_unspecified() || new.ip().is_unspecified();
    bound.port() == new.port()
        && bound.is_ipv4() == new.is_ipv4()
        && (bound.ip() == new.ip() || either_all)
}
