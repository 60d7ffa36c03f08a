//! A session on the kernel path, with all that is kept of it: what it has carried, what limits it,
//! and how its record is closed.

use std::net::TcpStream;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Instant;

use mailweir_flow::layout::END_FIN_ACKED;
use mailweir_flow::{Direction, Flow};

use crate::limits::{Silence, Standing, Terms};
use crate::moment::ProcessDrain;
use crate::occupancy::Occupied;
use crate::record::{End, EndReason, Record, SessionPlace, Side, Told};
use crate::roster::InFlight;
use crate::snapshot::{Listener, Snapshot};

use super::clock;
use super::course::{self, LastWords};
use super::flows::Errand;
use super::gates::MappedGate;
use super::leg;
use super::note::Note;
use super::owed::Claim;
use super::{KernelPath, SharedPath};

/// A session that was handed over.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) record: Record,
    pub(crate) place: SessionPlace,
    /// As long as it has the client's socket.
    pub(crate) held: Option<Occupied>,
    pub(crate) in_flight: InFlight,
    pub(crate) snapshot: Arc<Snapshot>,
    /// The listener's index in that.
    pub(crate) listener: usize,
}

impl Carried {
    /// Whoever wakes the session has the sweeper look at it.
    pub(super) fn wakes(&self, path: &SharedPath, number: u32) {
        let waker = Waker::from(Arc::new(Marks {
            path: SharedPath::clone(path),
            number,
        }));
        self.record.live().is_woken_by(waker);
    }

    /// What it has carried since it was counted last, and where it has got to. Since when nobody has
    /// acknowledged anything new, is given back.
    pub(super) fn count(&self, gate: MappedGate<'_>, flow: &Flow, now: Instant) -> Instant {
        let Self {
            record, in_flight, ..
        } = self;
        let counters = in_flight.server().counters.of(record.worker());
        let [client, server] = [&flow.sides[0], &flow.sides[1]];
        // The greeting was counted before.
        let greeted = u64::from(Note::from_bytes(&flow.note).greeted);
        let (had_received, had_sent) = record.live().bytes();
        // Of a flow that has ended, also what nobody will acknowledge any more.
        let last = |side: &Direction| {
            let last = if gate.lives() { 0 } else { side.outstanding() };
            side.bytes_acked + u64::from(last)
        };
        let received = last(client).saturating_sub(had_received);
        let sent = (last(server) + greeted).saturating_sub(had_sent);
        record.process().kernel_bytes.add(received + sent);
        record.listener().received_bytes.add(received);
        counters.sent_bytes.add(received);
        counters.received_bytes.add(sent);
        record.listener().sent_bytes.add(sent);
        record.live().carried(Side::Client, received);
        record.live().carried(Side::Server, sent);
        let silent_since = self.silent_since(gate, now);
        record
            .live()
            .note(LastWords::of(flow).course(), silent_since);
        silent_since
    }

    /// Until when it may go on as things stand, and why we end it then.
    pub(super) fn limit(
        &self,
        path: &KernelPath,
        flow: &Flow,
        now: Instant,
        silent_since: Instant,
    ) -> (Instant, End) {
        if let Some(reason) = self.record.live().killed() {
            return (now, End::ours(reason));
        }
        let words = LastWords::of(flow);
        let mut silence = Silence::new(silent_since);
        silence.broken_by(words.heard_last(), silent_since);
        for (side, said) in [Side::Client, Side::Server].into_iter().zip(&flow.sides) {
            if said.ends & END_FIN_ACKED != 0 {
                silence.closed_by(side, silent_since);
            }
        }
        // Of a flow it is never certain that its silence is that between two commands.
        let limit = |process| self.terms(process).limit(&silence, Standing::Unclear);
        let nobody = ProcessDrain::default();
        let (mut at, mut reason) = if path.is_handed_on() {
            limit(&nobody)
        } else {
            limit(&path.drains)
        };
        if reason == EndReason::DrainDeadline && path.outlives_us() {
            // That of the process ends the process, which the flow needn't notice.
            (at, reason) = limit(&nobody);
        }
        (at, End::ours(words.owed(reason)))
    }

    /// Closes the record. Its place is the session's until that is in the log, or until `claim` was
    /// given up.
    pub(super) fn close(
        self,
        path: &SharedPath,
        (number, claim): (u32, Claim),
        flow: Option<&Flow>,
        client: Option<TcpStream>,
        why: Option<End>,
    ) {
        let gate = path.gates.of(number);
        if let Some(client) = client {
            leg::silence(&client);
        }
        if let Some(flow) = flow {
            self.count(gate, flow, Instant::now());
        }
        let Self {
            record,
            place,
            in_flight,
            ..
        } = self;
        if let Some(end) = why {
            gate.set_ended_for(end);
        }
        let end = why.unwrap_or_else(|| ended(gate, flow));
        in_flight.ended(&record, end);
        let recorded = Recorded {
            path: SharedPath::clone(path),
            number,
            claim,
        };
        if !record.close_and_tell(end, Box::new(recorded)) {
            // It isn't to be in the log.
            gate.set_recorded();
        }
        drop((place, in_flight));
    }

    /// It goes on, and this process doesn't.
    pub(super) fn leave(self, gate: MappedGate<'_>, flow: Option<&Flow>) {
        if let Some(flow) = flow {
            self.count(gate, flow, Instant::now());
        }
        self.record.leave();
    }

    /// What limits it, where its process drains since then.
    fn terms<'a>(&'a self, process: &'a ProcessDrain) -> Terms<'a> {
        let listener = self.listener();
        Terms {
            id: self.record.id(),
            timeouts: &listener.timeouts,
            drain: &self.snapshot.drain,
            process,
            drains: [&listener.state.drains, &self.in_flight.server().drains],
            aged: listener.max_age.map(|age| self.record.began() + age),
        }
    }

    fn listener(&self) -> &Listener {
        &self.snapshot.listeners[self.listener]
    }

    /// Since when nobody has acknowledged anything new.
    fn silent_since(&self, gate: MappedGate<'_>, now: Instant) -> Instant {
        let spoken = spoken(gate, now).into_iter().flatten().max();
        // Nothing since the greeting, which was noted.
        spoken.unwrap_or_else(|| self.record.live().spoke())
    }
}

/// How a flow ended, which it has.
pub(super) fn ended(gate: MappedGate<'_>, flow: Option<&Flow>) -> End {
    let from_here = gate.ended_for();
    from_here
        .or_else(|| flow.map(course::end))
        .unwrap_or_else(|| End::ours(EndReason::Stopped))
}

/// Notes that a flow's record is in the log. Dropped, it is there or will never be: its place is kept
/// no longer.
#[derive(Debug)]
struct Recorded {
    path: SharedPath,
    number: u32,
    claim: Claim,
}

impl Told for Recorded {
    fn written(&self) {
        let gate = self.path.gates.of(self.number);
        self.claim.with_place(|| gate.set_recorded());
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        let errand = Errand::Recorded(self.number);
        self.claim.with_place(|| self.path.flows.send(errand));
    }
}

/// Has the sweeper look at a flow: it was killed, or its server drains.
struct Marks {
    path: SharedPath,
    number: u32,
}

impl Wake for Marks {
    fn wake(self: Arc<Self>) {
        self.path.moved.mark(self.number);
    }
}

/// When something of each side was acknowledged last, if it was.
fn spoken(gate: MappedGate<'_>, now: Instant) -> [Option<Instant>; 2] {
    // Before the clock: it may go on meanwhile.
    let acked = gate.acked();
    let ticks = clock::kernel_ticks();
    acked.map(|acked| {
        let spoke = now.checked_sub(clock::since(ticks, acked));
        spoke.filter(|_| acked != 0)
    })
}
