//! Whose the program's tables are: ours, until a living process leaves them to the next one. Sessions
//! on their way to be flows touch them within a stay; the sweeper, which ends with the tenancy, needs
//! none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use super::{KernelPath, SharedPath};

/// For stays that have begun: each is some system calls long.
const LIMIT: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
pub(super) struct Tenancy {
    stays: AtomicU64,
    is_over: AtomicBool,
}

/// The tables are ours until this is dropped.
#[derive(Debug)]
pub(super) struct Stay(SharedPath);

impl KernelPath {
    /// None once they are the next process's.
    pub(super) fn stay(self: &Arc<Self>) -> Option<Stay> {
        let tenancy = &self.tenancy;
        tenancy.stays.fetch_add(1, SeqCst);
        let stay = Stay(Arc::clone(self));
        // Looked at after it is counted: who ends the tenancy then waits for it, or it isn't begun.
        (!tenancy.is_over.load(SeqCst)).then_some(stay)
    }

    /// From now on no session becomes a flow, and no place of one that was to be is touched. Waits
    /// for those on their way.
    pub(crate) fn end_tenancy(&self) {
        self.tenancy.is_over.store(true, SeqCst);
        let until = Instant::now() + LIMIT;
        while self.tenancy.stays.load(SeqCst) > 0 && Instant::now() < until {
            thread::sleep(LOOK);
        }
    }

    /// Once the sweeper has ended: what is pinned may be the next process's.
    pub(crate) fn let_go(&self) {
        self.interfaces.let_go();
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.0.tenancy.stays.fetch_sub(1, SeqCst);
    }
}
