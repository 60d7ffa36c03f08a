//! The sessions on the kernel path: watched, limited and, once they have ended, recorded.
//!
//! A thread of its own looks at the gates many times a second, in memory alone. What ends is
//! recorded at once; its place lingers until no late segment of it can come any more.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fail::fail_point;
use mailweir_flow::{Flow, Key, State};

use crate::occupancy::Occupied;
use crate::record::{End, EndReason, Record, SessionId, SessionPlace};
use crate::roster::InFlight;
use crate::snapshot::Snapshot;

use super::course;
use super::leg;
use super::lingering::Lingering;
use super::live_flow::LiveFlow;
use super::passage::Passage;
use super::{KernelPath, SharedPath, lock};

/// For clients to acknowledge their greetings once the process ends.
const SETTLE: Duration = Duration::from_secs(1);

/// A session that was handed over, with all that is kept of it.
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
    places: Vec<Option<Box<LiveFlow>>>,
    taken: usize,
}

impl Places {
    fn put(&mut self, number: u32, live: LiveFlow) {
        let at = number as usize;
        if self.places.len() <= at {
            self.places.resize_with(at + 1, || None);
        }
        self.taken += usize::from(self.places[at].is_none());
        self.places[at] = Some(Box::new(live));
    }

    fn any(&self, is: impl Fn(&LiveFlow) -> bool) -> bool {
        self.places.iter().flatten().any(|live| is(live))
    }

    /// Takes those out that are no more to be here.
    fn extract_if(&mut self, mut is_over: impl FnMut(&mut LiveFlow) -> bool) -> Vec<LiveFlow> {
        let over = self.places.iter_mut().filter_map(|place| {
            let is_over = place.as_deref_mut().is_some_and(&mut is_over);
            is_over.then(|| place.take()).flatten().map(|live| *live)
        });
        let over: Vec<_> = over.collect();
        self.taken -= over.len();
        over
    }
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

    /// The record of what `ended` then is in the log.
    pub(super) fn note_written(&self, number: u32, ended: Instant) {
        lock(&self.0).lingering.note_written(number, ended);
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

    /// Gives up a place that only lingers, or is about to: its client has come back. Not before its
    /// record is in the log: it is known by that place alone where this process dies.
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
            if live.greets() {
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
            if path.outlives_us() && !live.greets() {
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
            let is_due = lock(&self.0).live.any(|live| live.greets());
            if !is_due || Instant::now() >= until {
                break;
            }
            std::thread::sleep(SETTLE / 50);
        }
    }
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
        let path = SharedPath::clone(self.path());
        let number = self.number;
        carried.record.live().has_no_task();
        let live = LiveFlow::new(self, carried, client);
        let mut table = lock(&path.flows.0);
        if !live.greets() {
            table.fresh.extend(live.begun());
        }
        live.passage.goes_on();
        table.live.put(number, live);
    }

    /// Closes the record of a session that has ended, and lingers.
    pub(super) fn close(self, carried: Carried, flow: &Flow, end: End) {
        let path = SharedPath::clone(self.path());
        let now = Instant::now();
        carried.record.live().has_no_task();
        // Before its record may be noted as written.
        let mut table = lock(&path.flows.0);
        let passage = LiveFlow::new(self, carried, None).close(Some(flow), end, now);
        table.lingering.add(now, passage);
    }

    /// Is kept until no late segment can come any more.
    pub(super) fn linger(self) {
        let path = SharedPath::clone(self.path());
        let mut table = lock(&path.flows.0);
        table.lingering.add(Instant::now(), self);
    }
}

impl KernelPath {
    pub(super) fn flow(&self, number: u32) -> Option<Flow> {
        lock(self.of_sweeper()).flow(number).ok()
    }
}
