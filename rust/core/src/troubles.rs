//! Servers that failed a session, for whoever checks them: a failure that a client would have
//! met says more than the last check. At most one report of a server waits to be taken. Beside them
//! panics, which go the same way.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::panic::PanicHookInfo;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use serde::Serialize;

use crate::panics::Panics;
use crate::server::Server;

/// A server failed a session.
#[derive(Debug, Clone, Serialize)]
pub struct Trouble {
    /// Its pool's name.
    pub pool: Arc<str>,
    /// Its name.
    pub server: Arc<str>,
    /// What failed: `connect` or `greeting`.
    pub step: &'static str,
    /// How: the label of a failure.
    pub cause: &'static str,
}

/// The reports that wait.
#[derive(Debug)]
pub(crate) struct Troubles {
    waiting: Mutex<Vec<(Arc<Server>, Trouble)>>,
    panics: Panics,
    /// Readable while something waits.
    wake: OwnedFd,
}

impl Troubles {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            waiting: Mutex::default(),
            panics: Panics::default(),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// Has `trouble` wait, unless one of the same server does.
    pub(crate) fn report(&self, server: &Arc<Server>, trouble: impl FnOnce() -> Trouble) {
        if !server.suspect() {
            return;
        }
        self.waiting().push((Arc::clone(server), trouble()));
        self.wake();
    }

    /// Has a panic of this thread wait. Never waits itself.
    pub(crate) fn panicked(&self, panic: &PanicHookInfo<'_>) {
        self.panics.keep(panic);
        self.wake();
    }

    fn wake(&self) {
        // Full only where it is readable anyway.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// The panics that wait, and how many more there were. To be taken after the reports, since those
    /// clear the descriptor.
    pub(crate) fn take_panics(&self) -> (Vec<String>, u64) {
        self.panics.take()
    }

    /// All that wait; from now on their servers are reported again.
    pub(crate) fn take(&self) -> Vec<Trouble> {
        // Before the reports: one that comes in between is told of again.
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        let taken = std::mem::take(&mut *self.waiting());
        let looked_at = taken.into_iter().map(|(server, trouble)| {
            server.looked_at();
            trouble
        });
        looked_at.collect()
    }

    /// For poll(2) and the like.
    pub(crate) fn wake_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(Arc<Server>, Trouble)>> {
        // A push or a take can't panic half-way.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble() -> Trouble {
        Trouble {
            pool: Arc::from("farm"),
            server: Arc::from("a"),
            step: "greeting",
            cause: "4xx",
        }
    }

    #[test]
    fn one_report_of_a_server_waits_at_a_time() {
        let troubles = Troubles::new().unwrap();
        let server = Arc::new(Server::new("a", 1));
        for _ in 0..3 {
            for _ in 0..100 {
                troubles.report(&server, trouble);
            }
            let taken = troubles.take();
            assert_eq!(taken.len(), 1);
            assert_eq!((taken[0].step, taken[0].cause), ("greeting", "4xx"));
            assert_eq!(troubles.take().len(), 0);
        }
    }
}
