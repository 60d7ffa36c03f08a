//! Looks after the workers: the sockets of one that doesn't move are taken out of use, so that
//! new clients go to the others, and given back once it moves again. Has listening sockets
//! announce what servers are found to announce, and offer what they take.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::sys;
use crate::worker::TICK;

use super::{Watched, lock};

const LOOK: Duration = Duration::from_millis(250);
/// Six ticks missed: no work of a worker takes that long, and a machine that stands still for
/// so long has other worries.
const STUCK: Duration = Duration::from_secs(3);

/// The thread that looks.
#[derive(Debug)]
pub(super) struct Watchdog {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watchdog {
    /// # Errors
    /// If the system has no thread left.
    pub(super) fn start(shared: Arc<Watched>) -> io::Result<Self> {
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let thread = thread::Builder::new()
            .name("mailweir-dog".into())
            .spawn(move || {
                sys::block_signals();
                while !told.load(Relaxed) {
                    look(&shared);
                    thread::park_timeout(LOOK);
                }
            })?;
        Ok(Self { ends, thread })
    }

    /// Ends the thread and waits for it.
    pub(super) fn stop(self) {
        self.ends.store(true, Relaxed);
        self.thread.thread().unpark();
        // A panic of its own was printed already.
        let _ = self.thread.join();
    }
}

fn look(shared: &Watched) {
    look_at_workers(shared);
    if let Some(path) = shared.kernel.get()
        && path.is_outdated()
    {
        let control = lock(&shared.control);
        control.prepare_for_kernel_path(&shared.current.load(), path);
    }
}

fn look_at_workers(shared: &Watched) {
    let now = Instant::now();
    let lag = |moved: Option<Instant>| moved.map_or(Duration::ZERO, |at| now.duration_since(at));
    let lags: Vec<Duration> = shared
        .counters
        .iter()
        .map(|one| lag(one.moved.read()))
        .collect();
    for (worker, counters) in shared.counters.iter().enumerate() {
        let stuck = counters.stuck.load(Relaxed);
        if !stuck && lags[worker] > STUCK {
            // Where none moves, taking sockets away would only lose who waits at them.
            let Some(other) = lags.iter().position(|lag| *lag <= 2 * TICK) else {
                continue;
            };
            lock(&shared.control).take_over(worker, other);
            counters.stuck.store(true, Relaxed);
        } else if stuck && lags[worker] <= 2 * TICK {
            let bound = lock(&shared.bound).clone();
            let kernel = shared.kernel.get().is_some();
            let snapshot = shared.current.load();
            let given = lock(&shared.control).give_back(worker, &bound, &snapshot, kernel);
            // Not given: tried again at the next look.
            counters.stuck.store(given.is_err(), Relaxed);
        }
    }
}
