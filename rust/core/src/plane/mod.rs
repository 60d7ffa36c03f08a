//! The data plane as its owner sees it: start, apply, drain, stats, stop.
//!
//! A change goes one way: a specification is built to a snapshot, its new addresses are
//! bound, and then one pointer is stored. Until that moment nothing has changed.

mod kernel_start;
mod parting;
mod reading;
mod sockets;
mod stand_ins;
mod watchdog;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;

use crate::doors::Doors;
use crate::holdings::Holdings;
use crate::kernel_path::{Heir, KernelPath, NoKernelPath, adopt};
use crate::listener::Parting;
use crate::metrics::{PerWorker, WorkerCounters, WorkerId};
use crate::moment::ProcessDrain;
use crate::occupancy::Occupancy;
use crate::record::{Ledger, LiveSessions, SessionFilter, SessionLog, last_written};
use crate::registry::Registry;
use crate::relay::pipes::{Budget, Pipes};
use crate::session::Commons;
use crate::snapshot::{BindKey, Snapshot};
use crate::spec::{LogFormat, LogSpec, LogTarget, PlaneSpec, ServerState, SpecError};
use crate::sys;
use crate::troubles::{Trouble, Troubles};
use crate::worker::Worker;

use kernel_start::{KernelStart, Wish};
use sockets::Control;
use stand_ins::StandIns;
use watchdog::Watchdog;

pub use stand_ins::Elsewhere;

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
    /// The session log can't be opened.
    #[error("log.sessions: {0}")]
    Log(io::Error),
    /// A listener insists on the kernel path, and there is none.
    #[error("forwarding: kernel: {0}")]
    KernelPath(#[from] NoKernelPath),
    /// It has been told to drain or to stop: nothing new runs any more.
    #[error("the data plane is draining")]
    Draining,
}

/// Worker threads and what they run. Every method may be called from any thread, also one that
/// belongs to no runtime; those that wait say so.
#[derive(Debug)]
pub struct DataPlane {
    shared: Arc<Watched>,
    watchdog: Mutex<Option<Watchdog>>,
}

/// What the watchdog sees as well.
#[derive(Debug)]
struct Watched {
    current: Arc<ArcSwap<Snapshot>>,
    counters: Arc<PerWorker<WorkerCounters>>,
    live: Arc<LiveSessions>,
    log: Arc<SessionLog>,
    troubles: Arc<Troubles>,
    /// Since when the process drains, if it does.
    drains: Arc<ProcessDrain>,
    /// Once it is wanted and can be had.
    kernel: Arc<OnceLock<Arc<KernelPath>>>,
    kernel_start: Mutex<KernelStart>,
    /// Whose the sessions are that an earlier process began.
    ledger: Arc<Ledger>,
    occupancy: Arc<Occupancy>,
    holdings: Arc<Holdings>,
    doors: Arc<Doors>,
    /// Of one worker.
    pipe_budget: usize,
    /// Where the sockets of each key are. Locked for moments only, so that reading never
    /// waits for a change.
    bound: Mutex<HashMap<BindKey, SocketAddr>>,
    draining: AtomicBool,
    control: Mutex<Control>,
    stand_ins: Mutex<StandIns>,
}

impl DataPlane {
    /// Starts this many worker threads, at least one. Nothing listens before the first
    /// [`apply`](Self::apply). `kept` are listening sockets of an earlier process, of which it
    /// makes descriptors of its own; the first `apply` goes on with those that it has an address
    /// for, and shuts the others.
    ///
    /// # Errors
    /// If the system has no threads or descriptors left, or `kept` has something else.
    pub fn start(workers: usize, kept: &[RawFd]) -> io::Result<Self> {
        let kept = kept.iter().map(|fd| {
            let socket = StdListener::from(sys::double(*fd)?);
            Ok((socket.local_addr()?, socket))
        });
        let kept = kept.collect::<io::Result<_>>()?;
        let number = workers.max(1);
        let current = Arc::new(ArcSwap::from_pointee(Snapshot::empty()));
        let counters = Arc::new(PerWorker::new(number));
        let live = Arc::new(LiveSessions::new(number));
        let log = Arc::new(SessionLog::start()?);
        let troubles = Arc::new(Troubles::new()?);
        let occupancy = Arc::new(Occupancy::default());
        let holdings = Arc::new(Holdings::new());
        let doors = Arc::new(Doors::default());
        let drains = Arc::new(ProcessDrain::default());
        let kernel = Arc::new(OnceLock::new());
        let budget = Budget::read().share(number);
        let ledger = |id| {
            let (counters, live, log) =
                (Arc::clone(&counters), Arc::clone(&live), Arc::clone(&log));
            Arc::new(Ledger::new(id, counters, live, log))
        };
        let ledgers: Vec<Arc<Ledger>> = (0..number).map(WorkerId::new).map(ledger).collect();
        let mut workers = Vec::with_capacity(number);
        for ledger in &ledgers {
            let pipes = Pipes::new(ledger.worker, Arc::clone(&counters), budget);
            let commons = Commons {
                ledger: Arc::clone(ledger),
                pipes: Arc::new(pipes),
                occupancy: Arc::clone(&occupancy),
                holdings: Arc::clone(&holdings),
                doors: Arc::clone(&doors),
                drains: Arc::clone(&drains),
                troubles: Arc::clone(&troubles),
                kernel: Arc::clone(&kernel),
            };
            workers.push(Worker::start(Arc::clone(&current), commons)?);
        }
        let no_log = LogSpec {
            sessions: LogTarget::Off,
            format: LogFormat::Json,
        };
        let shared = Arc::new(Watched {
            current,
            counters,
            live,
            log,
            troubles,
            drains,
            kernel,
            kernel_start: Mutex::default(),
            ledger: Arc::clone(&ledgers[0]),
            occupancy,
            holdings,
            doors,
            pipe_budget: budget.pipes(),
            bound: Mutex::default(),
            draining: AtomicBool::new(false),
            stand_ins: Mutex::default(),
            control: Mutex::new(Control::new(workers, Registry::new(number), no_log, kept)),
        });
        let watchdog = Watchdog::start(Arc::clone(&shared))?;
        Ok(Self {
            shared,
            watchdog: Mutex::new(Some(watchdog)),
        })
    }

    /// Makes `spec` the running one, at once and whole; the new generation number.
    ///
    /// Sessions go on with what they began with. Addresses that are left are closed once their
    /// queues are empty, which is waited for (some seconds at most).
    ///
    /// # Errors
    /// If it can't run. Then nothing has changed.
    pub fn apply(&self, spec: &PlaneSpec) -> Result<u64, ApplyError> {
        let shared = &*self.shared;
        let mut control = lock(&shared.control);
        if shared.draining.load(Relaxed) {
            return Err(ApplyError::Draining);
        }
        let generation = shared.current.load().generation + 1;
        let snapshot = Snapshot::build(spec, generation, &mut control.registry)?;
        let log = if control.log == spec.log {
            None
        } else {
            Some(SessionLog::open(&spec.log).map_err(ApplyError::Log)?)
        };
        let wish = Wish::of(spec);
        let workers = shared.counters.iter().count();
        let start = || KernelPath::start(workers, &spec.kernel, Arc::clone(&shared.drains));
        let fresh = lock(&shared.kernel_start).act_on(wish, start)?;
        let kernel = fresh.is_some() || shared.kernel.get().is_some();
        let opened = control.open(&snapshot, &lock(&shared.bound), kernel);
        if let Some(fresh) = fresh {
            if opened.is_ok() {
                lock(&shared.kernel_start).now_runs(fresh, &shared.kernel);
            } else {
                fresh.give_up();
            }
        }
        let opened = opened?;
        let drained = snapshot.take_states(spec);
        shared.holdings.apply(spec.room);
        lock(&shared.kernel_start).now_wanted(wish);
        let snapshot = Arc::new(snapshot);
        let previous = shared.current.swap(Arc::clone(&snapshot));
        if let Some(log) = log {
            shared.log.switch(log);
            control.log = spec.log.clone();
        }
        // Which are written there, where they have ended.
        shared.adopt_flows(&snapshot, &spec.log);
        {
            let mut bound = lock(&shared.bound);
            bound.extend(opened.bound.iter().copied());
            shared.doors.set(bound.values().copied().collect());
        }
        control.listen(opened);
        if let Some(path) = shared.kernel.get() {
            // Those that listened before too.
            control.prepare_for_kernel_path(&snapshot, path);
        }
        shared.leave(&mut control, Parting::ForGood, |key| {
            snapshot.listener_at(key).is_none()
        });
        let gone = previous.retire_servers(&snapshot);
        for (pool, server) in drained.iter().chain(&gone) {
            shared.wake(pool, server);
        }
        for listener in &previous.retire_listeners(&snapshot) {
            shared.live.wake(SessionFilter {
                listener: Some(listener),
                ..SessionFilter::default()
            });
        }
        control.registry.prune();
        Ok(generation)
    }

    /// Changes what servers may be used for, by pool and name; those of a pool all at once. One that
    /// the running snapshot hasn't is passed over: it left while its check was under way, say.
    pub fn set_server_states<N: AsRef<str>>(&self, states: &[(N, N, ServerState)]) {
        let current = self.shared.current.load();
        let mut by_pool: HashMap<&str, Vec<(&str, ServerState)>> = HashMap::new();
        for (pool, server, state) in states {
            let of_pool = by_pool.entry(pool.as_ref()).or_default();
            of_pool.push((server.as_ref(), *state));
        }
        for (name, servers) in by_pool {
            let Some(pool) = current.pool(name) else {
                continue;
            };
            let seats = servers.iter().filter_map(|(server, state)| {
                let member = pool.member(server)?;
                Some((member.seat, *state))
            });
            pool.roster.set_states(&seats.collect::<Vec<_>>());
            for (server, _) in servers {
                self.shared.wake(name, server);
            }
        }
    }

    /// Descriptors of all sockets that clients are accepted at, for whoever keeps them for the
    /// next process. Waits for a change that is under way.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub fn listening(&self) -> io::Result<Vec<OwnedFd>> {
        lock(&self.shared.control).listening()
    }

    /// Opens the session log's file anew, soon: it was moved away.
    pub fn reopen_logs(&self) {
        self.shared.log.reopen();
    }

    /// Servers that failed sessions since the last call.
    #[must_use]
    pub fn take_troubles(&self) -> Vec<Trouble> {
        self.shared.troubles.take()
    }

    /// Has panics of this process's threads told by [`take_panics`](Self::take_panics) from now on,
    /// instead of on standard error, where whoever doesn't read that stops the thread.
    pub fn keep_panics(&self) {
        let troubles = Arc::clone(&self.shared.troubles);
        std::panic::set_hook(Box::new(move |panic| troubles.panicked(panic)));
    }

    /// Panics since the last call: where, and what was said; and how many more there were. To be taken
    /// after the troubles.
    #[must_use]
    pub fn take_panics(&self) -> (Vec<String>, u64) {
        self.shared.troubles.take_panics()
    }

    /// Readable while there are troubles or panics to take; valid as long as this is.
    #[must_use]
    pub fn wake_fd(&self) -> RawFd {
        self.shared.troubles.wake_fd()
    }

    /// Ends every session and waits for the worker threads; sessions on the kernel path go on where
    /// they can without a process, for the next one. A second call does nothing.
    pub fn stop(&self) {
        if let Some(watchdog) = lock(&self.watchdog).take() {
            watchdog.stop();
        }
        let mut control = lock(&self.shared.control);
        self.shared.draining.store(true, Relaxed);
        for worker in control.workers.drain(..) {
            worker.stop();
        }
        lock(&self.shared.kernel_start).stop();
        lock(&self.shared.bound).clear();
        self.shared.log.stop();
    }
}

impl Watched {
    /// Goes on with what an earlier process left in the kernel.
    fn adopt_flows(&self, snapshot: &Arc<Snapshot>, log: &LogSpec) {
        if let Some(path) = self.kernel.get()
            && path.is_to_be_adopted()
        {
            let heir = Heir {
                ledger: &self.ledger,
                snapshot,
                occupancy: &self.occupancy,
                workers: self.counters.iter().count(),
                written: last_written(log),
            };
            adopt(path, &heir);
        }
    }

    /// Leaves the addresses that are `unwanted`; waits for that.
    fn leave(&self, control: &mut Control, parting: Parting, unwanted: impl Fn(&BindKey) -> bool) {
        let keys: Vec<BindKey> = {
            let bound = lock(&self.bound);
            bound.keys().filter(|key| unwanted(key)).copied().collect()
        };
        if !keys.is_empty() {
            control.leave(&keys, parting);
            lock(&self.bound).retain(|key, _| !keys.contains(key));
        }
    }

    /// Has the sessions of a server look whether they are to leave it.
    fn wake(&self, pool: &str, server: &str) {
        self.live.wake(SessionFilter {
            server: Some((pool, server)),
            ..SessionFilter::default()
        });
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
