//! What is noted of each piece that is carried: counts, who spoke last, what it was.

use std::time::Instant;

use crate::limits::Silence;
use crate::metrics::WorkerCounters;
use crate::record::{Course, EndReason, ListenerCounters, LiveSession, Path, Side};
use crate::server::ServerCounters;
use crate::smtp::dialogue::Dialogue;
use crate::spec::Protocol;

/// Where a session's bytes are counted.
#[derive(Debug)]
pub(crate) struct Traffic<'a> {
    pub(crate) process: &'a WorkerCounters,
    pub(crate) listener: &'a ListenerCounters,
    pub(crate) server: &'a ServerCounters,
    pub(crate) live: &'a LiveSession,
}

/// What was read at once.
#[derive(Debug, Clone, Copy)]
pub(super) enum Piece<'a> {
    /// Not empty.
    Seen(&'a [u8]),
    /// So many bytes that never came into user space.
    Unseen(usize),
}

/// Listens to a session.
#[derive(Debug)]
pub(super) struct Hearing<'a> {
    traffic: Traffic<'a>,
    pub(super) silence: Silence,
    pub(super) dialogue: Dialogue,
    path: Path,
}

/// Listens to one side of it.
#[derive(Debug)]
pub(super) struct Ear<'h, 'a> {
    hearing: &'h mut Hearing<'a>,
    from: Side,
}

impl Ear<'_, '_> {
    pub(super) fn hear(&mut self, piece: Piece<'_>) {
        self.hearing.hear(self.from, piece);
    }

    /// Whether what was heard last may be the last of all.
    pub(super) fn may_end(&self) -> bool {
        self.hearing.dialogue.may_end(self.from)
    }

    /// How much of the next piece may stay unseen; none for any amount.
    pub(super) fn may_miss(&self) -> Option<usize> {
        self.hearing.dialogue.may_miss(self.from)
    }
}

impl<'a> Hearing<'a> {
    pub(super) fn new(protocol: Protocol, traffic: Traffic<'a>) -> Self {
        Self {
            traffic,
            silence: Silence::new(Instant::now()),
            dialogue: Dialogue::new(protocol),
            path: Path::Copy,
        }
    }

    /// Why the session is ended from outside, if it is.
    pub(super) fn killed(&self) -> Option<EndReason> {
        self.traffic.live.killed()
    }

    /// For what `from` says.
    pub(super) fn ear(&mut self, from: Side) -> Ear<'_, 'a> {
        Ear {
            hearing: self,
            from,
        }
    }

    /// `from` said `piece`.
    pub(super) fn hear(&mut self, from: Side, piece: Piece<'_>) {
        let now = Instant::now();
        let counters = self.traffic.process;
        let (size, counter) = match piece {
            Piece::Seen(bytes) => {
                self.dialogue.hear(from, bytes);
                (bytes.len() as u64, &counters.copied_bytes)
            }
            Piece::Unseen(size) => {
                self.dialogue.miss(from, size);
                self.path = Path::Splice;
                (size as u64, &counters.spliced_bytes)
            }
        };
        counter.add(size);
        let (received, sent) = match from {
            Side::Client => (
                &self.traffic.listener.received_bytes,
                &self.traffic.server.sent_bytes,
            ),
            Side::Server => (
                &self.traffic.server.received_bytes,
                &self.traffic.listener.sent_bytes,
            ),
        };
        received.add(size);
        sent.add(size);
        self.silence.broken_by(from, now);
        let course = Course {
            spoke_last: self.dialogue.spoke_last(),
            tls: self.dialogue.tls(),
            in_data: self.dialogue.in_data(),
            path: self.path,
        };
        self.traffic.live.carried(from, size);
        self.traffic.live.note(course, now);
    }
}
