//! The listening sockets of all workers: bound for a snapshot before it runs, closed after it.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::io::unix::AsyncFd;

use crate::kernel_path::{self, KernelPath};
use crate::listener::{self, Parting};
use crate::registry::Registry;
use crate::snapshot::{BindKey, Listener, Snapshot};
use crate::spec::LogSpec;
use crate::worker::Worker;

use super::ApplyError;

/// For all workers to empty their queues. One that is stuck isn't waited for.
const LEAVE_LIMIT: Duration = Duration::from_secs(3);

/// What only changes go through: one at a time.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) workers: Vec<Worker>,
    pub(super) registry: Registry,
    /// What the session log was opened with.
    pub(super) log: LogSpec,
    /// Second descriptors of each worker's sockets, by which those of a stuck one are closed.
    doubles: HashMap<BindKey, Vec<Option<StdListener>>>,
    /// What an earlier process listened with, until the first snapshot runs.
    kept: Vec<(SocketAddr, StdListener)>,
}

/// Sockets that were bound for a snapshot that doesn't run yet. Dropping them closes them.
pub(super) struct Opened {
    by_worker: Vec<Vec<(BindKey, AsyncFd<StdListener>)>>,
    doubles: HashMap<BindKey, Vec<Option<StdListener>>>,
    /// Kept ones beyond a worker each.
    surplus: Vec<(BindKey, StdListener)>,
    /// Where they are.
    pub(super) bound: Vec<(BindKey, SocketAddr)>,
}

impl Control {
    pub(super) fn new(
        workers: Vec<Worker>,
        registry: Registry,
        log: LogSpec,
        kept: Vec<(SocketAddr, StdListener)>,
    ) -> Self {
        Self {
            workers,
            registry,
            log,
            doubles: HashMap::new(),
            kept,
        }
    }

    /// Binds what `snapshot` has and nobody listens at yet; `kernel` says that there is a kernel
    /// path.
    pub(super) fn open(
        &self,
        snapshot: &Snapshot,
        bound: &HashMap<BindKey, SocketAddr>,
        kernel: bool,
    ) -> Result<Opened, ApplyError> {
        let mut opened = Opened {
            by_worker: self.workers.iter().map(|_| vec![]).collect(),
            doubles: HashMap::new(),
            surplus: vec![],
            bound: vec![],
        };
        for listener in &snapshot.listeners {
            let scale = scale(listener, kernel);
            for key in listener.bind.iter().filter(|key| !bound.contains_key(key)) {
                self.open_one(*key, scale, bound, &mut opened)
                    .map_err(|cause| ApplyError::Bind {
                        listener: listener.state.name.to_string(),
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
        scale: Option<u8>,
        bound: &HashMap<BindKey, SocketAddr>,
        opened: &mut Opened,
    ) -> io::Result<()> {
        let new = opened.bound.iter().map(|(_, address)| address);
        let shared = bound
            .values()
            .chain(new)
            .any(|ours| overlaps(*ours, key.address));
        let at = |(address, _): &&(SocketAddr, StdListener)| *address == key.address;
        let kept = self.kept.iter().filter(at);
        let kept: io::Result<_> = kept.map(|(_, socket)| socket.try_clone()).collect();
        let mut sockets = listener::bind(key.address, self.workers.len(), shared, kept?, scale)?;
        let address = sockets.first().map(StdListener::local_addr);
        let surplus = sockets.split_off(self.workers.len());
        let mut doubles = vec![];
        for ((worker, to), socket) in self.workers.iter().zip(&mut opened.by_worker).zip(sockets) {
            doubles.push(Some(socket.try_clone()?));
            to.push((key, worker.adopt(socket)?));
        }
        opened.doubles.insert(key, doubles);
        opened
            .surplus
            .extend(surplus.into_iter().map(|socket| (key, socket)));
        opened
            .bound
            .push((key, address.unwrap_or(Ok(key.address))?));
        Ok(())
    }

    /// Has the workers accept at what was opened.
    pub(super) fn listen(&mut self, opened: Opened) {
        for (worker, sockets) in self.workers.iter().zip(opened.by_worker) {
            worker.listen(sockets);
        }
        self.doubles.extend(opened.doubles);
        for (key, socket) in opened.surplus {
            self.workers[0].serve(key, listener::take_over(&socket));
        }
        for (address, socket) in self.kept.drain(..) {
            // The others are in use now; whoever waits at this one waits in vain.
            if !opened.bound.iter().any(|(_, bound)| *bound == address) {
                listener::shut(&socket);
            }
        }
    }

    /// More descriptors of all sockets that clients are accepted at.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub(super) fn listening(&self) -> io::Result<Vec<OwnedFd>> {
        let sockets = self.doubles.values().flatten().flatten();
        sockets.map(|one| Ok(one.try_clone()?.into())).collect()
    }

    /// Has the sockets, which listen already, go by what is known by now: who comes from now on
    /// may take the kernel path, is announced what fits the servers, and offers no more than they
    /// take.
    pub(super) fn prepare_for_kernel_path(&self, snapshot: &Snapshot, path: &KernelPath) {
        let mut lacking = vec![];
        for (key, doubles) in &self.doubles {
            let Some(listener) = snapshot.listener_at(key) else {
                continue;
            };
            let listener = &snapshot.listeners[listener];
            let scale = scale(listener, true);
            for socket in doubles.iter().flatten() {
                // Where it is refused, their clients take the relay, which is counted.
                let _ = kernel_path::prepare_listener(socket, key.address, scale);
            }
            let address = doubles.iter().flatten().next().map(StdListener::local_addr);
            if let (Some(_), Some(Ok(SocketAddr::V4(address)))) = (scale, address) {
                lacking.push((address, listener.lacking()));
            }
        }
        path.blank_offers(&lacking);
    }

    /// Leaves these addresses; waits until no worker accepts there any more.
    pub(super) fn leave(&mut self, keys: &[BindKey], parting: Parting) {
        let (done, all_done) = mpsc::channel();
        for worker in &self.workers {
            worker.leave(keys.to_vec(), parting, done.clone());
        }
        drop(done);
        let until = Instant::now() + LEAVE_LIMIT;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // Ends once every worker has answered or, where it died, dropped its end.
            match all_done.recv_timeout(left) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => break,
            }
        }
        for doubles in keys.iter().filter_map(|key| self.doubles.remove(key)) {
            if parting == Parting::ForGood {
                doubles.iter().flatten().for_each(listener::shut);
            }
        }
    }

    /// Takes the sockets of a worker that doesn't accept out of use; whoever waits at them is
    /// served by `other`.
    pub(super) fn take_over(&mut self, stuck: usize, other: usize) {
        for (key, doubles) in &mut self.doubles {
            if let Some(socket) = doubles[stuck].take() {
                self.workers[other].serve(*key, listener::take_over(&socket));
            }
        }
    }

    /// Gives a worker sockets again, at all addresses that are `bound`, as `snapshot` has them;
    /// `kernel` says that there is a kernel path.
    ///
    /// # Errors
    /// What the kernel says; it has those that could be had.
    pub(super) fn give_back(
        &mut self,
        worker: usize,
        bound: &HashMap<BindKey, SocketAddr>,
        snapshot: &Snapshot,
        kernel: bool,
    ) -> io::Result<()> {
        for (key, doubles) in &mut self.doubles {
            let (None, Some(address)) = (&doubles[worker], bound.get(key)) else {
                continue;
            };
            let listener = snapshot.listener_at(key);
            let scale = listener.and_then(|one| scale(&snapshot.listeners[one], kernel));
            let socket = listener::bind_another(*address, scale)?;
            doubles[worker] = Some(socket.try_clone()?);
            let adopted = self.workers[worker].adopt(socket)?;
            self.workers[worker].listen(vec![(*key, adopted)]);
        }
        Ok(())
    }
}

/// The window scale to announce to a listener's clients, where they may take the kernel path.
fn scale(listener: &Listener, kernel: bool) -> Option<u8> {
    (kernel && listener.may_leave()).then(|| listener.window_scale())
}

/// Whether the kernel would say that `new` is in use because of `bound`.
fn overlaps(bound: SocketAddr, new: SocketAddr) -> bool {
    let either_all = bound.ip().is_unspecified() || new.ip().is_unspecified();
    bound.port() == new.port()
        && bound.is_ipv4() == new.is_ipv4()
        && (bound.ip() == new.ip() || either_all)
}
