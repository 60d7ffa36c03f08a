//! One session on the kernel path while it lives: how far it is, what limits it, and its end. Known by
//! the table of flows alone.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use mailweir_flow::layout::{END_FIN_ACKED, ticks};
use mailweir_flow::{Direction, Flow, Key, State};
use rustix::time::{ClockId, clock_gettime};

use crate::limits::{Silence, Standing, Terms};
use crate::moment::ProcessDrain;
use crate::record::{End, EndBy, EndReason, Side, Told};
use crate::snapshot::Listener;

use super::course::LastWords;
use super::flows::Carried;
use super::gates::MappedGate;
use super::leg;
use super::note::Note;
use super::passage::Passage;
use super::{KernelPath, SharedPath};

/// For a client to acknowledge its greeting.
const GREETING_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct LiveFlow {
    pub(super) passage: Passage,
    pub(super) carried: Carried,
    /// The client's socket, which says the greeting again until that is acknowledged.
    /// Boxed: most have none any more.
    greets: Option<Box<Greets>>,
}

#[derive(Debug)]
struct Greets {
    client: TcpStream,
    until: Instant,
}

impl LiveFlow {
    /// The client's socket, if it still has one, is kept until the client has its greeting.
    pub(super) fn new(passage: Passage, carried: Carried, client: Option<TcpStream>) -> Self {
        Self {
            passage,
            carried,
            greets: client.map(|client| {
                Box::new(Greets {
                    client,
                    until: Instant::now() + GREETING_LIMIT,
                })
            }),
        }
    }

    /// Whether its client may not have its greeting yet.
    pub(super) fn greets(&self) -> bool {
        self.greets.is_some()
    }

    /// What it has carried since it was counted last, and where it has got to.
    pub(super) fn count(&mut self, flow: &Flow, now: Instant) {
        let Carried {
            record, in_flight, ..
        } = &self.carried;
        let counters = in_flight.server().counters.of(record.worker());
        let [client, server] = [&flow.sides[0], &flow.sides[1]];
        // The greeting was counted before.
        let greeted = u64::from(Note::from_bytes(&flow.note).greeted);
        let (had_received, had_sent) = record.live().bytes();
        // Of a flow that has ended, also what nobody will acknowledge any more.
        let last = |side: &Direction| {
            let last = if self.lives() { 0 } else { side.outstanding() };
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
        record
            .live()
            .note(LastWords::of(flow).course(), self.silent_since(now));
    }

    pub(super) fn lives(&self) -> bool {
        let state = self.passage.gate().state();
        matches!(state, Some(State::Live | State::Hold))
    }

    /// Both connections, by who began them: we began the one with the server.
    pub(super) fn begun(&self) -> [Key; 2] {
        let [client, server] = self.passage.keys;
        [client, server.reversed()]
    }

    /// The client's socket, once nothing needs it any more. A client that doesn't acknowledge its
    /// greeting is lost: both peers hear of that.
    pub(super) fn greeted(&mut self, now: Instant) -> Option<TcpStream> {
        let until = self.greets.as_ref()?.until;
        if self.lives() && self.passage.gate().greeting_is_due() {
            if now < until {
                return None;
            }
            self.passage.abandon();
        }
        self.carried.held = None;
        self.greets.take().map(|greets| greets.client)
    }

    /// It goes on, and this process doesn't.
    pub(super) fn leave(mut self, flow: Option<&Flow>) {
        if let Some(flow) = flow {
            self.count(flow, Instant::now());
        }
        self.passage.stay();
        self.carried.record.leave();
    }

    /// Closes the record; what is left lingers.
    pub(super) fn close(mut self, flow: Option<&Flow>, end: End, now: Instant) -> Passage {
        if let Some(greets) = &self.greets {
            leg::silence(&greets.client);
        }
        if let Some(flow) = flow {
            self.count(flow, now);
        }
        let Carried {
            record,
            place,
            in_flight,
            ..
        } = self.carried;
        if end.by == EndBy::Balancer {
            self.passage.gate().set_ended_for(end.reason);
        }
        let recorded = Recorded {
            path: SharedPath::clone(self.passage.path()),
            number: self.passage.number,
            ended: now,
        };
        if !record.close_and_tell(end, Box::new(recorded)) {
            // It isn't to be in the log.
            self.passage.gate().set_recorded();
        }
        drop((place, in_flight));
        self.passage
    }

    /// Why it is over as things stand, if it is.
    pub(super) fn over(&self, path: &KernelPath, flow: &Flow, now: Instant) -> Option<EndReason> {
        if self.carried.record.live().is_killed() {
            return Some(EndReason::Killed);
        }
        let since = self.silent_since(now);
        let words = LastWords::of(flow);
        let mut silence = Silence::new(since);
        silence.broken_by(words.heard_last(), since);
        for (side, said) in [Side::Client, Side::Server].into_iter().zip(&flow.sides) {
            if said.ends & END_FIN_ACKED != 0 {
                silence.closed_by(side, since);
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
        (at <= now).then(|| words.owed(reason))
    }

    /// What limits it, where its process drains since then.
    fn terms<'a>(&'a self, process: &'a ProcessDrain) -> Terms<'a> {
        let Carried { record, .. } = &self.carried;
        let listener = self.listener();
        Terms {
            id: record.id(),
            timeouts: &listener.timeouts,
            drain: &self.carried.snapshot.drain,
            process,
            drains: [
                &listener.state.drains,
                &self.carried.in_flight.server().drains,
            ],
            aged: listener.max_age.map(|age| record.began() + age),
        }
    }

    /// Ends it for `reason`, unless more came than was `counted` when that was found; whether it
    /// did.
    pub(super) fn cut(&self, path: &KernelPath, reason: EndReason, counted: [u32; 2]) -> bool {
        let gate = self.passage.gate();
        if !gate.change(State::Live, State::Hold) {
            return false;
        }
        let moves = gate.counted() != counted && reason != EndReason::Killed;
        if moves {
            gate.change(State::Hold, State::Live);
            return false;
        }
        if let Some(flow) = path.flow(self.passage.number) {
            path.resets.end(&flow);
        }
        gate.set(State::Closing);
        true
    }

    fn listener(&self) -> &Listener {
        &self.carried.snapshot.listeners[self.carried.listener]
    }

    /// Since when nobody has acknowledged anything new.
    fn silent_since(&self, now: Instant) -> Instant {
        let spoken = spoken(self.passage.gate(), now).into_iter().flatten().max();
        // Nothing since the greeting, which was noted.
        spoken.unwrap_or_else(|| self.carried.record.live().spoke())
    }
}

/// Notes that a flow's record is in the log.
#[derive(Debug)]
struct Recorded {
    path: SharedPath,
    number: u32,
    ended: Instant,
}

impl Told for Recorded {
    fn written(&self) {
        self.path.flows.note_written(self.number, self.ended);
    }
}

/// When something of each side was acknowledged last, if it was.
fn spoken(gate: MappedGate<'_>, now: Instant) -> [Option<Instant>; 2] {
    // Before the clock: it may go on meanwhile.
    let said = gate.acked();
    let time = clock_gettime(ClockId::Monotonic);
    let nanos = Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    );
    let ticks_now = ticks(u64::try_from(nanos.as_nanos()).unwrap_or(u64::MAX));
    said.map(|said| {
        let before = Duration::from_nanos(u64::from(age(ticks_now, said)) << 20);
        let spoke = now.checked_sub(before);
        spoke.filter(|_| said != 0)
    })
}

/// How many ticks ago something was said; none where another CPU is ahead of this one.
fn age(now: u32, said: u32) -> u32 {
    let ago = now.wrapping_sub(said);
    if ago > i32::MAX as u32 { 0 } else { ago }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_was_said_in_the_future() {
        assert_eq!(age(1_000, 990), 10);
        assert_eq!(age(5, u32::MAX), 6);
        for ahead in [1, 3, 1 << 20] {
            assert_eq!(age(1_000, 1_000 + ahead), 0);
        }
    }
}
