//! What is kept of a session: opened when it is accepted, closed once, with a reason.
//!
//! A [`Record`] is a guard. Whatever way a session ends, its end is counted exactly once:
//! dropped without [`close`](Record::close), it counts as stopped, or as a panic.

use std::sync::Arc;
use std::time::Instant;

use crate::metrics::{
    Counter, Histogram, PerWorker, SESSION_BOUNDS, Tally, WorkerCounters, WorkerId,
};

/// Why a session ended. A closed list: alerts and log searches depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The client closed first, and both directions ended.
    ClientClosed,
    /// The server closed first, and both directions ended.
    ServerClosed,
    /// The client reset the connection, or was lost.
    ClientReset,
    /// The server reset the connection, or was lost.
    ServerReset,
    /// The server spoke last and the client said nothing for `idle_client`.
    IdleClient,
    /// The client spoke last and the server said nothing for `idle_server`.
    IdleServer,
    /// One side closed and the other was silent for `half_closed`.
    HalfClosed,
    /// Refused: no server of the pool takes sessions.
    NoServer,
    /// Refused: no server of the pool could be connected to.
    ConnectFailed,
    /// Refused: servers were connected to, and none of them greeted as it should.
    GreetingFailed,
    /// The process ended.
    Stopped,
    /// A bug: the session panicked.
    Panicked,
}

impl EndReason {
    /// Every reason there is.
    pub const ALL: [Self; 12] = [
        Self::ClientClosed,
        Self::ServerClosed,
        Self::ClientReset,
        Self::ServerReset,
        Self::IdleClient,
        Self::IdleServer,
        Self::HalfClosed,
        Self::NoServer,
        Self::ConnectFailed,
        Self::GreetingFailed,
        Self::Stopped,
        Self::Panicked,
    ];

    /// As metrics and logs write it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ClientClosed => "client_closed",
            Self::ServerClosed => "server_closed",
            Self::ClientReset => "client_reset",
            Self::ServerReset => "server_reset",
            Self::IdleClient => "idle_client",
            Self::IdleServer => "idle_server",
            Self::HalfClosed => "half_closed",
            Self::NoServer => "no_server",
            Self::ConnectFailed => "connect_failed",
            Self::GreetingFailed => "greeting_failed",
            Self::Stopped => "stopped",
            Self::Panicked => "panicked",
        }
    }
}

/// What a worker counts of a listener.
#[derive(Debug, Default)]
pub(crate) struct ListenerCounters {
    pub(crate) accepted: Counter,
    /// From clients.
    pub(crate) received_bytes: Counter,
    /// To clients.
    pub(crate) sent_bytes: Counter,
    pub(crate) accept_pauses: Counter,
    pub(crate) session_time: Histogram,
    ended: Tally<{ EndReason::ALL.len() }>,
}

impl ListenerCounters {
    /// Sessions that ended for this reason.
    pub(crate) fn ended(&self, reason: EndReason) -> u64 {
        self.ended.value(reason as usize)
    }
}

/// One session's account.
#[derive(Debug)]
pub(crate) struct Record {
    began: Instant,
    worker: WorkerId,
    listener: Arc<PerWorker<ListenerCounters>>,
    process: Arc<PerWorker<WorkerCounters>>,
    /// None until it is closed.
    end: Option<EndReason>,
}

impl Record {
    /// Opens the account of a connection that was just accepted.
    pub(crate) fn open(
        worker: WorkerId,
        listener: &Arc<PerWorker<ListenerCounters>>,
        process: &Arc<PerWorker<WorkerCounters>>,
    ) -> Self {
        listener.of(worker).accepted.add(1);
        process.of(worker).begun.add(1);
        Self {
            began: Instant::now(),
            worker,
            listener: Arc::clone(listener),
            process: Arc::clone(process),
            end: None,
        }
    }

    /// When the client was accepted.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// What this worker counts of the listener.
    pub(crate) fn listener(&self) -> &ListenerCounters {
        self.listener.of(self.worker)
    }

    /// What this worker counts of itself.
    pub(crate) fn process(&self) -> &WorkerCounters {
        self.process.of(self.worker)
    }

    /// The session ended for this reason.
    pub(crate) fn close(mut self, reason: EndReason) {
        self.end = Some(reason);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let reason = self.end.unwrap_or_else(|| {
            if std::thread::panicking() {
                EndReason::Panicked
            } else {
                EndReason::Stopped
            }
        });
        let listener = self.listener();
        listener.ended.count(reason as usize);
        listener
            .session_time
            .observe(&SESSION_BOUNDS, self.began.elapsed());
        self.process().ended.add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(end: impl FnOnce(Record)) -> Vec<EndReason> {
        let listener = Arc::new(PerWorker::<ListenerCounters>::new(1));
        let process = Arc::new(PerWorker::new(1));
        let record = Record::open(WorkerId(0), &listener, &process);
        assert_eq!(process.sum(|one| &one.begun), 1);
        end(record);
        assert_eq!(process.sum(|one| &one.ended), 1);
        let counters = listener.of(WorkerId(0));
        let counted = |reason: &EndReason| counters.ended(*reason) == 1;
        EndReason::ALL.into_iter().filter(counted).collect()
    }

    #[test]
    fn every_end_is_counted_once() {
        assert_eq!(
            ended(|record| record.close(EndReason::IdleServer)),
            [EndReason::IdleServer]
        );
        assert_eq!(ended(drop), [EndReason::Stopped]);
        let panic = |record: Record| {
            let thread = std::thread::spawn(move || {
                let _record = record;
                panic!("as a bug would");
            });
            thread.join().unwrap_err();
        };
        assert_eq!(ended(panic), [EndReason::Panicked]);
    }

    #[test]
    fn the_list_is_in_the_order_of_its_numbers() {
        for (number, reason) in EndReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
        }
    }
}
