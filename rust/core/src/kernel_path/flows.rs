//! The sessions on the kernel path: watched, limited and, once they have ended, recorded.
//!
//! A thread of its own looks at the gates many times a second, in memory alone. What ends is
//! recorded at once; its place lingers until no late segment of it can come any more.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fail::fail_point;
use mailweir_flow::layout::{END_FIN_ACKED, ticks};
use mailweir_flow::{Flow, Key, Said, State};
use rustix::time::{ClockId, clock_gettime};

use crate::limits::{Silence, Standing, Terms};
use crate::moment::AtomicMoment;
use crate::occupancy::Occupied;
use crate::record::{End, EndBy, EndReason, Place, Record, SessionId, Side, Told};
use crate::roster::InFlight;
use crate::snapshot::{Listener, Snapshot};

use super::course::{self, Words};
use super::gates::Gate;
use super::leg;
use super::lingering::Lingering;
use super::note::Note;
use super::passage::Passage;
use super::{KernelPath, Shared, lock};

/// For a client to acknowledge its greeting.
const GREETING_LIMIT: Duration = Duration::from_secs(60);

/// The same once the process ends.
const SETTLE: Duration = Duration::from_secs(1);

/// A session that was handed over, with all that is kept of it.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) record: Record,
    /// None where none was left: the session began in an earlier process.
    pub(crate) place: Option<Place>,
    /// As long as it has the client's socket.
    pub(crate) held: Option<Occupied>,
    pub(crate) in_flight: InFlight,
    pub(crate) snapshot: Arc<Snapshot>,
    /// The listener's index in that.
    pub(crate) listener: usize,
    /// Since when the process drains.
    pub(crate) drains: Arc<AtomicMoment>,
}

/// All flows.
#[derive(Debug, Default)]
pub(super) struct Flows(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    live: Places,
    /// Both connections of those whose sockets closed since the last look, by who began them.
    fresh: Vec<Key>,
    lingering: Lingering,
}

/// Those that live, by their numbers.
#[derive(Debug, Default)]
struct Places {
    places: Vec<Option<Box<Live>>>,
    taken: usize,
}

impl Places {
    fn put(&mut self, number: u32, live: Live) {
        let at = number as usize;
        if self.places.len() <= at {
            self.places.resize_with(at + 1, || None);
        }
        self.taken += usize::from(self.places[at].is_none());
        self.places[at] = Some(Box::new(live));
    }

    fn any(&self, is: impl Fn(&Live) -> bool) -> bool {
        self.places.iter().flatten().any(|live| is(live))
    }

    /// Takes those out that are no more to be here.
    fn extract_if(&mut self, mut is_over: impl FnMut(&mut Live) -> bool) -> Vec<Live> {
        let over = self.places.iter_mut().filter_map(|place| {
            let is_over = place.as_deref_mut().is_some_and(&mut is_over);
            is_over.then(|| place.take()).flatten().map(|live| *live)
        });
        let over: Vec<_> = over.collect();
        self.taken -= over.len();
        over
    }
}

/// Notes that a flow's record is in the log.
#[derive(Debug)]
struct Recorded {
    path: Shared,
    number: u32,
    ended: Instant,
}

impl Told for Recorded {
    fn written(&self) {
        let table = lock(&self.path.flows.0);
        table.lingering.note_written(self.number, self.ended);
    }
}

#[derive(Debug)]
struct Live {
    passage: Passage,
    carried: Carried,
    /// The client's socket, which says the greeting again until that is acknowledged.
    greets: Option<Greets>,
}

#[derive(Debug)]
struct Greets {
    client: TcpStream,
    until: Instant,
}

impl Flows {
    /// How many there are.
    pub(super) fn live(&self) -> usize {
        lock(&self.0).live.taken
    }

    /// Our end of each one's connection with its server.
    pub(super) fn sources(&self) -> HashMap<SessionId, SocketAddr> {
        let table = lock(&self.0);
        let live = table.live.places.iter().flatten();
        let sources = live.map(|live| {
            let [_, server] = live.passage.keys;
            (live.carried.record.id(), server.to.into())
        });
        sources.collect()
    }

    /// What both peers of each one say, by its key.
    pub(super) fn legs(&self) -> Vec<[Key; 2]> {
        let table = lock(&self.0);
        let live = table.live.places.iter().flatten();
        live.map(|live| live.passage.keys).collect()
    }

    /// Has each one's segments go by other ways, by its keys; how many went by others before.
    pub(super) fn lead(&self, ways: impl Fn([Key; 2]) -> [Option<u32>; 2]) -> u64 {
        let table = lock(&self.0);
        let live = table.live.places.iter().flatten();
        live.map(|live| live.passage.gate().lead(ways(live.passage.keys)))
            .sum()
    }

    /// Gives up a place that only lingers, or is about to: its client has come back.
    pub(super) fn forget_lingering(&self, path: &KernelPath, number: u32) {
        if !lock(&self.0).lingering.forget(number) {
            self.look(path);
            lock(&self.0).lingering.forget(number);
        }
    }

    /// Has connection tracking forget those that came: their sockets are closed.
    pub(super) fn forget_fresh(&self, path: &KernelPath) {
        let fresh = std::mem::take(&mut lock(&self.0).fresh);
        if let Some(conntrack) = &path.conntrack
            && !fresh.is_empty()
        {
            conntrack.forget(&fresh);
        }
    }

    /// Closes the sockets of clients that have their greeting, records what has ended, and gives
    /// up places that have lingered.
    pub(super) fn look(&self, path: &KernelPath) {
        let now = Instant::now();
        let mut table = lock(&self.0);
        let Table {
            live,
            fresh,
            lingering,
        } = &mut *table;
        let mut greeted = vec![];
        let ended = live.extract_if(|live| {
            if let Some(client) = live.greeted(now) {
                greeted.push(client);
                fresh.extend(live.begun());
            }
            !live.lives()
        });
        for live in ended {
            let flow = path.flow(live.passage.number);
            let end = live.passage.end(flow.as_ref());
            lingering.add(now, live.close(flow.as_ref(), end, now));
        }
        lingering.give_up(now);
        drop(table);
        for client in greeted {
            fail_point!("hand_over_acknowledged");
            leg::silence(&client);
            fail_point!("hand_over_silent");
        }
    }

    /// Brings the counts of all flows up to date, and ends those that have reached a limit.
    pub(super) fn look_long(&self, path: &KernelPath) {
        let mut table = lock(&self.0);
        let Table {
            live, lingering, ..
        } = &mut *table;
        let now = Instant::now();
        let mut reasons = vec![];
        let over = live.extract_if(|live| {
            // Before anything else is looked at: what comes later is seen by that.
            let counted = live.passage.gate().counted();
            let Some(flow) = path.flow(live.passage.number) else {
                return false;
            };
            live.count(&flow, now);
            if live.greets.is_some() {
                return false;
            }
            let reason = live.over(path, &flow, now);
            let reason = reason.filter(|why| live.cut(path, *why, counted));
            reasons.extend(reason);
            reason.is_some()
        });
        for (live, reason) in over.into_iter().zip(reasons) {
            let flow = path.flow(live.passage.number);
            lingering.add(now, live.close(flow.as_ref(), End::ours(reason), now));
        }
    }

    /// The process ends. Flows that can go on without it do, and the next process goes on with
    /// them; any other one ends. Whether any goes on.
    pub(super) fn stop(&self, path: &KernelPath) -> bool {
        self.settle(path);
        let mut table = lock(&self.0);
        let mut goes_on = false;
        for live in table.live.extract_if(|_| true) {
            let flow = path.flow(live.passage.number);
            if path.outlives_us() && live.greets.is_none() {
                goes_on = true;
                live.leave(flow.as_ref());
                continue;
            }
            let gate = live.passage.gate();
            if gate.change(State::Live, State::Hold)
                && let Some(flow) = &flow
            {
                path.resets.end(flow);
            }
            drop(live.close(flow.as_ref(), End::ours(EndReason::Stopped), Instant::now()));
        }
        table.lingering = Lingering::default();
        goes_on
    }
}

impl Flows {
    /// Records what has ended, and waits a little for clients to acknowledge their greetings: our
    /// sockets say these again, and end with us.
    fn settle(&self, path: &KernelPath) {
        let until = Instant::now() + SETTLE;
        loop {
            self.look(path);
            let is_due = lock(&self.0).live.any(|live| live.greets.is_some());
            if !is_due || Instant::now() >= until {
                break;
            }
            std::thread::sleep(SETTLE / 50);
        }
    }
}

impl Live {
    /// What it has carried since it was counted last, and where it has got to.
    fn count(&mut self, flow: &Flow, now: Instant) {
        let Carried {
            record, in_flight, ..
        } = &self.carried;
        let counters = in_flight.server().counters.of(record.worker());
        let [client, server] = [&flow.sides[0], &flow.sides[1]];
        // The greeting was counted before.
        let greeted = u64::from(Note::from_bytes(&flow.note).greeted);
        let (had_received, had_sent) = record.live().bytes();
        // Of a flow that has ended, also what nobody will acknowledge any more.
        let last = |side: &Said| {
            let last = if self.lives() { 0 } else { side.outstanding() };
            side.bytes + u64::from(last)
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
            .note(Words::of(flow).course(), self.silent_since(now));
    }

    fn lives(&self) -> bool {
        let state = self.passage.gate().state();
        matches!(state, Some(State::Live | State::Hold))
    }

    /// Both connections, by who began them: we began the one with the server.
    fn begun(&self) -> [Key; 2] {
        let [client, server] = self.passage.keys;
        [client, server.reversed()]
    }

    /// The client's socket, once nothing needs it any more. A client that doesn't acknowledge its
    /// greeting is lost: both peers hear of that.
    fn greeted(&mut self, now: Instant) -> Option<TcpStream> {
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
    fn leave(mut self, flow: Option<&Flow>) {
        if let Some(flow) = flow {
            self.count(flow, Instant::now());
        }
        self.passage.stay();
        self.carried.record.leave();
    }

    /// Closes the record; what is left lingers.
    fn close(mut self, flow: Option<&Flow>, end: End, now: Instant) -> Passage {
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
            path: Shared::clone(self.passage.path()),
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
    fn over(&self, path: &KernelPath, flow: &Flow, now: Instant) -> Option<EndReason> {
        if self.carried.record.live().is_killed() {
            return Some(EndReason::Killed);
        }
        let since = self.silent_since(now);
        let words = Words::of(flow);
        let mut silence = Silence::new(since);
        silence.broken_by(words.heard_last(), since);
        for (side, said) in [Side::Client, Side::Server].into_iter().zip(&flow.sides) {
            if said.ends & END_FIN_ACKED != 0 {
                silence.closed_by(side, since);
            }
        }
        // Of a flow it is never certain that its silence is that between two commands.
        let limit = |process| self.terms(process).limit(&silence, Standing::Unclear);
        let nobody = AtomicMoment::default();
        let (mut at, mut reason) = if path.is_handed_on() {
            limit(&nobody)
        } else {
            limit(&self.carried.drains)
        };
        if reason == EndReason::DrainDeadline && path.outlives_us() {
            // That of the process ends the process, which the flow needn't notice.
            (at, reason) = limit(&nobody);
        }
        (at <= now).then(|| words.owed(reason))
    }

    /// What limits it, where its process drains since then.
    fn terms<'a>(&'a self, process: &'a AtomicMoment) -> Terms<'a> {
        let Carried { record, .. } = &self.carried;
        let listener = self.listener();
        Terms {
            id: record.id(),
            timeouts: &listener.timeouts,
            drain: &self.carried.snapshot.drain,
            drains: [
                process,
                &listener.state.drains,
                &self.carried.in_flight.server().drains,
            ],
            aged: listener.max_age.map(|age| record.began() + age),
        }
    }

    /// Ends it for `reason`, unless more came than was `counted` when that was found; whether it
    /// did.
    fn cut(&self, path: &KernelPath, reason: EndReason, counted: [u32; 2]) -> bool {
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

/// When something of each side was acknowledged last, if it was.
fn spoken(gate: Gate<'_>, now: Instant) -> [Option<Instant>; 2] {
    // Before the clock: it may go on meanwhile.
    let said = gate.said();
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

impl Passage {
    /// How it ended, which it has.
    pub(super) fn end(&self, flow: Option<&Flow>) -> End {
        let ours = self.gate().ended_for().map(End::ours);
        ours.or_else(|| flow.map(course::end))
            .unwrap_or_else(|| End::ours(EndReason::Stopped))
    }

    /// Has a session looked after from now on. The client's socket, if it still has one, is kept
    /// until the client has acknowledged its greeting.
    pub(super) fn keep(self, carried: Carried, client: Option<TcpStream>) {
        let path = Shared::clone(self.path());
        let number = self.number;
        carried.record.live().has_no_task();
        let live = Live {
            passage: self,
            carried,
            greets: client.map(|client| Greets {
                client,
                until: Instant::now() + GREETING_LIMIT,
            }),
        };
        let mut table = lock(&path.flows.0);
        if live.greets.is_none() {
            table.fresh.extend(live.begun());
        }
        live.passage.goes_on();
        table.live.put(number, live);
    }

    /// Is kept until no late segment can come any more.
    pub(super) fn linger(self) {
        let path = Shared::clone(self.path());
        let mut table = lock(&path.flows.0);
        table.lingering.add(Instant::now(), self);
    }
}

impl KernelPath {
    fn flow(&self, number: u32) -> Option<Flow> {
        lock(self.of_sweeper()).flow(number).ok()
    }
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
