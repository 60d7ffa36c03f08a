//! The thread that looks after flows and the interfaces that they go by.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::sys;

use super::{KernelPath, NoKernelPath, SharedPath, lock};

/// Between looks at the gates while there are flows: what a session's end is late by.
const LOOK: Duration = Duration::from_millis(20);
/// Between looks at limits.
const LONG_LOOK: Duration = Duration::from_secs(1);

/// The thread, as its owner sees it.
#[derive(Debug)]
pub(crate) struct Sweeper {
    path: SharedPath,
    ends: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Sweeper {
    /// # Errors
    /// If the system has no thread left.
    pub(crate) fn start(path: &SharedPath) -> Result<Self, NoKernelPath> {
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let of_thread = Arc::clone(path);
        let thread = thread::Builder::new()
            .name("mailweir-flows".into())
            .spawn(move || {
                sys::block_signals();
                sweep(&of_thread, &told);
            })
            .map_err(|cause| NoKernelPath::System {
                what: "there is no thread for it",
                cause,
            })?;
        Ok(Self {
            path: Arc::clone(path),
            ends,
            thread,
        })
    }

    /// What it looks after.
    pub(crate) fn path(&self) -> &SharedPath {
        &self.path
    }

    /// Ends the thread. Flows that can't go on without it end.
    pub(crate) fn stop(self) {
        let path = self.end();
        if !path.flows.stop(&path) {
            path.leave();
        }
    }

    /// Ends the thread before the path had a flow. Those of an earlier process go on by themselves,
    /// as they did.
    pub(crate) fn give_up(self) {
        let path = self.end();
        if lock(&path.inherited).is_empty() {
            path.leave();
        }
    }

    fn end(self) -> SharedPath {
        self.ends.store(true, Relaxed);
        // A panic of its own was printed already.
        let _ = self.thread.join();
        self.path
    }
}

fn sweep(path: &KernelPath, ends: &AtomicBool) {
    let mut long = Instant::now();
    while !ends.load(Relaxed) {
        let news = path.interfaces.news_within(LOOK);
        let due = long.elapsed() >= LONG_LOOK;
        if news.links || due {
            // What can't be attached to takes the relay, told; the next look tries again.
            let _ = path.interfaces.attach();
        }
        if news.routes {
            path.ways.change();
        }
        path.look_for_ways(Instant::now());
        path.flows.look(path);
        path.flows.forget_fresh(path);
        if due {
            long = Instant::now();
            path.flows.look_long(path);
            path.leave_earlier(long);
        }
    }
}
