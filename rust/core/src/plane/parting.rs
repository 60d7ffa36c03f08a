//! How the plane's sessions are taken off: where the process is to end, where an operator says so, and
//! where their server is down. A part of the data plane.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::{DataPlane, lock};
use crate::listener::Parting;
use crate::prefixes::Prefix;
use crate::record::{EndReason, SessionFilter, SessionId};

impl DataPlane {
    /// Stops accepting, and takes sessions off as the specification's drain has it. Where it is
    /// for good, waits until the accept queues are empty (some seconds at most).
    pub fn drain(&self, parting: Parting) {
        let mut control = lock(&self.shared.control);
        self.shared.draining.store(true, Relaxed);
        self.shared.leave(&mut control, parting, |_| true);
        if let (Parting::ToSuccessor, Some(path)) = (parting, self.shared.kernel.get()) {
            path.hand_on();
        }
        self.shared.drains.since.set_first(Instant::now());
        self.shared.live.wake(SessionFilter::default());
    }

    /// Leaves the listening sockets and what is in the kernel to the next process, which has the
    /// sockets already, and may begin with the rest when this returns. The other sessions go on to
    /// their end. Nothing is applied any more. Takes some seconds at most.
    pub fn hand_over(&self) {
        let mut control = lock(&self.shared.control);
        self.shared.draining.store(true, Relaxed);
        self.shared
            .leave(&mut control, Parting::ToSuccessor, |_| true);
        if let Some(path) = self.shared.kernel.get() {
            path.end_tenancy();
        }
        lock(&self.shared.kernel_start).stop();
        if let Some(path) = self.shared.kernel.get() {
            path.let_go();
        }
        // The next one looks there for what has ended.
        self.shared.log.settle();
    }

    /// Of a process that drains: sessions leave at the next place for it, whatever their turn in the
    /// spread. The addresses they came to are about to be another machine's.
    pub fn hurry(&self) {
        self.shared.drains.hurry();
        self.shared.live.wake(SessionFilter::default());
    }

    /// Ends a session, by an operator's word; false where there is none with this number.
    pub fn kill(&self, id: SessionId) -> bool {
        self.shared.live.kill(id)
    }

    /// The same of every session of a client in `prefix`; how many.
    pub fn kill_from(&self, prefix: Prefix) -> usize {
        let filter = SessionFilter {
            client: Some(prefix),
            ..SessionFilter::default()
        };
        self.shared.live.kill_all(filter, EndReason::Killed)
    }

    /// Ends every session of a server, since it is down; how many.
    pub fn end_of_server(&self, pool: &str, server: &str) -> usize {
        let filter = SessionFilter {
            server: Some((pool, server)),
            ..SessionFilter::default()
        };
        self.shared.live.kill_all(filter, EndReason::ServerDown)
    }
}
