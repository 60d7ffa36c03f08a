//! The thread that has the flows, and looks after the interfaces that they go by: it brings the
//! [`FlowTable`] what happens, and carries out what that says.

use std::collections::{HashMap, VecDeque};
use std::hint::black_box;
use std::net::TcpStream;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fail::fail_point;
use mailweir_flow::{Flow, Key, State};

use crate::record::{End, EndReason};
use crate::sys;

use super::ahead::Ahead;
use super::carried::Carried;
use super::course;
use super::flow_table::{Effect, FlowTable};
use super::flows::{Arrival, Errand};
use super::keepalive::{Patience, said};
use super::leg;
use super::owed::{Claim, Owed};
use super::{NoKernelPath, SharedPath, lock};

/// Between looks at the flows that moved: what a session's end is late by.
const LOOK: Duration = Duration::from_millis(20);
/// Between looks at limits, and counts.
const LONG_LOOK: Duration = Duration::from_secs(1);
/// For clients to acknowledge their greetings once the process ends.
const SETTLE: Duration = Duration::from_secs(1);

type Table = FlowTable<Carried, TcpStream>;

/// The thread, as its owner sees it.
#[derive(Debug)]
pub(crate) struct Sweeper {
    path: SharedPath,
    thread: JoinHandle<bool>,
}

impl Sweeper {
    /// # Errors
    /// If the system has no thread left.
    pub(crate) fn start(path: &SharedPath) -> Result<Self, NoKernelPath> {
        let of_thread = Arc::clone(path);
        let thread = thread::Builder::new()
            .name("mailweir-flows".into())
            .spawn(move || {
                sys::block_signals();
                run(of_thread)
            })
            .map_err(|cause| NoKernelPath::System {
                what: "there is no thread for it",
                cause,
            })?;
        Ok(Self {
            path: Arc::clone(path),
            thread,
        })
    }

    /// What it looks after.
    pub(crate) fn path(&self) -> &SharedPath {
        &self.path
    }

    /// Ends the thread. Flows that can't go on without it end.
    pub(crate) fn stop(self) {
        let (path, goes_on) = self.end();
        if !goes_on {
            path.leave();
        }
    }

    /// Ends the thread before the path had a flow. Those of an earlier process go on by themselves,
    /// as they did.
    pub(crate) fn give_up(self) {
        let (path, _) = self.end();
        if lock(&path.inherited).is_empty() {
            path.leave();
        }
    }

    /// Whether a flow goes on.
    fn end(self) -> (SharedPath, bool) {
        self.path.flows.send(Errand::Stop);
        // A panic of its own was printed already; whatever it had goes on, as where a process is killed.
        let goes_on = self.thread.join().unwrap_or(true);
        (self.path, goes_on)
    }
}

/// Until it is told to stop; whether a flow goes on then. After a panic it begins again with the
/// same flows: each is looked at anew.
fn run(path: SharedPath) -> bool {
    let mut sweep = Sweep {
        path,
        table: FlowTable::new(Instant::now(), Patience::here()),
        owed: Owed::default(),
        arrivals: VecDeque::new(),
        errands: VecDeque::new(),
        untracked: vec![],
        over: vec![],
        forgotten: vec![],
        in_hand: None,
        stops: false,
        goes_on: false,
        long: Instant::now(),
    };
    loop {
        match catch_unwind(AssertUnwindSafe(|| sweep.sweep())) {
            Ok(()) => return sweep.goes_on,
            // It was printed already.
            Err(_) => sweep.begin_again(),
        }
    }
}

/// What the thread has.
struct Sweep {
    path: SharedPath,
    table: Table,
    owed: Owed,
    /// What has come and wasn't looked at yet, and connections that connection tracking is to forget, by who
    /// began them: after a panic they are still there.
    arrivals: VecDeque<Arrival>,
    errands: VecDeque<Errand>,
    untracked: Vec<Key>,
    /// Flows that are about to be nothing but keys, and keys that are about to be forgotten, with whether
    /// the server says it: likewise.
    over: Vec<(u32, [Key; 2])>,
    forgotten: Vec<(Key, bool)>,
    /// The flow whose record is about to be closed.
    in_hand: Option<u32>,
    stops: bool,
    /// Whether a flow goes on when the process has ended.
    goes_on: bool,
    /// When limits were looked at last.
    long: Instant,
}

impl Sweep {
    fn sweep(&mut self) {
        while !self.stops {
            let news = self
                .path
                .interfaces
                .news_within(LOOK, self.path.flows.bell());
            let is_due = self.long.elapsed() >= LONG_LOOK;
            // What can't be attached to takes the relay, told; the next look tries again.
            let has_more =
                (news.links || is_due) && self.path.interfaces.attach().unwrap_or_default();
            // A route may have led to an interface before the program was there.
            if news.routes || has_more {
                self.path.ways.change();
            }
            self.look();
            // Behind it: who has arrived before the routes changed goes by them too.
            self.path.look_for_ways(Instant::now(), &self.table);
            if is_due {
                self.long = Instant::now();
                self.table.second(self.long);
                self.carry_out(self.long);
                self.path.leave_earlier(self.long);
            }
        }
        self.stop();
    }

    /// What has happened since the last look, in memory alone where nothing has.
    fn look(&mut self) {
        fail_point!("flows_look");
        let now = Instant::now();
        // Flows that are known end before later ones do: a session between the same ports is behind
        // the one that it follows, in the log as well. What moves from here on is marked again.
        for number in self.path.moved.take() {
            self.look_at(now, number);
        }
        self.arrivals.extend(self.path.flows.take_arrivals());
        while !self.arrivals.is_empty() {
            fail_point!("flow_arrives");
            if let Some(arrival) = self.arrivals.pop_front() {
                self.arrive(now, arrival);
            }
        }
        self.errands.extend(self.path.flows.take_errands());
        self.obey_all(now);
        if self.path.flows.is_room_wanted() {
            let given_up = self.owed.give_up(now);
            self.path.given_up.add(given_up.len() as u64);
            self.errands
                .extend(given_up.into_iter().map(Errand::Recorded));
            self.obey_all(now);
        }
        self.table.tick(now);
        self.carry_out(now);
        self.path
            .flows
            .lingering
            .store(self.table.lingering() as u64, Relaxed);
        fail_point!("flows_looked");
    }

    fn arrive(&mut self, now: Instant, arrival: Arrival) {
        let number = arrival.number;
        arrival.carried.wakes(&self.path, number);
        if arrival.client.is_none() {
            self.untracked.extend(begun(arrival.keys));
        }
        self.table
            .arrive(now, number, arrival.keys, arrival.carried, arrival.client);
        // It may have ended before anybody looked.
        self.look_at(now, number);
    }

    fn look_at(&mut self, now: Instant, number: u32) {
        self.table.look(now, number, self.path.sight(number));
    }

    fn obey_all(&mut self, now: Instant) {
        while !self.errands.is_empty() {
            fail_point!("flows_errand");
            if let Some(errand) = self.errands.pop_front() {
                self.obey(now, errand);
            }
        }
    }

    fn obey(&mut self, now: Instant, errand: Errand) {
        match errand {
            Errand::Recorded(number) => self.recorded(number),
            Errand::Owed(number, keys, claim) => {
                self.owed.begin(now, number, claim);
                self.table.owe(now, number, keys);
            }
            Errand::Lingers(key, of_server) => self.table.linger(now, key, of_server),
            Errand::Sources(answer) => {
                let sessions = self.table.sessions();
                let sources = sessions
                    .map(|([_, server], _, carried)| (carried.record.id(), server.to.into()));
                // Nobody waits any more.
                let _ = answer.send(sources.collect::<HashMap<_, _>>());
            }
            Errand::LookAtAll => {
                for (_, number, _) in self.table.sessions() {
                    self.path.moved.mark(number);
                }
            }
            Errand::Stop => self.stops = true,
        }
    }

    fn carry_out(&mut self, now: Instant) {
        // What a panic left, before a number of it is free.
        self.carry_out_together();
        let mut ahead = Ahead::of(self.table.to_be_measured());
        // One by one: after a panic the others are still there.
        while let Some(effect) = self.table.next_effect() {
            self.carry_out_one(now, effect, &mut ahead);
        }
        self.carry_out_together();
    }

    /// What costs a call of the kernel each time, however many it is for.
    fn carry_out_together(&mut self) {
        if !self.over.is_empty() {
            self.path.linger(&self.over);
            let now = Instant::now();
            while let Some((number, keys)) = self.over.pop() {
                self.table.lingers(now, number, keys);
            }
        }
        if !self.forgotten.is_empty() {
            self.path.forget(&mut self.forgotten);
        }
        if let Some(conntrack) = &self.path.conntrack
            && !self.untracked.is_empty()
        {
            conntrack.forget(&self.untracked);
        }
        self.untracked.clear();
    }

    fn carry_out_one(
        &mut self,
        now: Instant,
        effect: Effect<Carried, TcpStream>,
        ahead: &mut Ahead,
    ) {
        match effect {
            Effect::Measure(number) => {
                let table = &mut self.table;
                let flow = ahead.flow(&self.path, number, |numbers| fetch(table, numbers));
                let asked = self.measure(now, number, flow);
                self.untracked.extend(asked);
            }
            Effect::Silence {
                number,
                keys,
                client,
            } => {
                if let Some(carried) = self.table.session(number) {
                    carried.held = None;
                }
                self.untracked.extend(begun(keys));
                fail_point!("hand_over_acknowledged");
                leg::silence(&client);
                fail_point!("hand_over_silent");
                drop(client);
            }
            Effect::Abandon(number) => self.path.abandon(number),
            Effect::Close {
                number,
                session,
                client,
                why,
            } => self.close(number, session, client, why),
            Effect::Linger(number, keys) => self.over.push((number, keys)),
            Effect::FreeNumber(number) => self.path.free_number(number),
            Effect::Forget { key, of_server } => self.forgotten.push((key, of_server)),
        }
    }

    /// Counts what it has carried, ends it where it has reached a limit or a peer is gone, and asks peers
    /// that are silent: connection tracking takes that for a connection that begins. Which, is said.
    /// What was read ahead ends none: it may have moved since.
    fn measure(&mut self, now: Instant, number: u32, read_ahead: Option<Flow>) -> Vec<Key> {
        let gate = self.path.gates.of(number);
        // Before anything else is looked at: what comes later is seen by that.
        let counted = gate.counted();
        let is_ahead = read_ahead.is_some();
        let Some(carried) = self.table.session(number) else {
            return vec![];
        };
        let Some(flow) = read_ahead.or_else(|| self.path.flow(number)) else {
            return vec![];
        };
        let silent_since = carried.count(gate, &flow, now);
        let (mut until, mut why) = carried.limit(&self.path, &flow, now, silent_since);
        let (mut asks, mut lost) = ([false; 2], None);
        // Of one that is over nobody is asked, and it may turn out that it isn't.
        if until > now
            && let Some((step, next)) = self.table.hear(now, number, said(&flow))
        {
            (asks, lost) = (step.asks, step.lost);
            until = until.min(next);
        }
        if let Some(side) = lost {
            (until, why) = (now, course::lost(&flow, side));
        }
        let sight = self.path.sight(number);
        let is_over = self.table.stands(now, number, sight, until);
        if is_over && is_ahead {
            return self.measure(Instant::now(), number, None);
        }
        if is_over && self.path.cut(number, why, counted) {
            self.table.was_cut(number, why);
            self.path.unanswered.add(u64::from(lost.is_some()));
        } else if !is_over && sight.state == Some(State::Live) {
            return self.path.ask(gate, &flow, asks);
        }
        vec![]
    }

    fn close(
        &mut self,
        number: u32,
        session: Carried,
        client: Option<TcpStream>,
        why: Option<End>,
    ) {
        self.in_hand = Some(number);
        let flow = self.path.flow(number);
        self.path.flows.live.fetch_sub(1, Relaxed);
        fail_point!("flow_closes");
        let claim = Claim::new();
        self.owed.begin(Instant::now(), number, claim.clone());
        session.close(&self.path, (number, claim), flow.as_ref(), client, why);
        self.in_hand = None;
    }

    /// A record is in the log, or will never be.
    fn recorded(&mut self, number: u32) {
        self.owed.end(number);
        self.table.recorded(number);
    }

    /// After a panic: the same flows. The record that was in hand was closed by that, and one that was held
    /// to be ended is tried again.
    fn begin_again(&mut self) {
        self.path.flows.restarts.add(1);
        let now = Instant::now();
        let new = FlowTable::new(now, Patience::here());
        let table = std::mem::replace(&mut self.table, new);
        self.table = table.again(now);
        if let Some(number) = self.in_hand.take() {
            self.owed.give_up_one(number);
            self.path.gates.of(number).set_recorded();
            self.recorded(number);
        }
        for (_, number, _) in self.table.sessions() {
            self.path.gates.of(number).change(State::Hold, State::Live);
        }
        // What keeps on doing that isn't to have a processor for itself.
        thread::sleep(LOOK);
    }

    /// The process ends. Flows that can go on without it do, and the next process goes on with
    /// them; any other one ends.
    fn stop(&mut self) {
        self.settle();
        let path = &self.path;
        while let Some((number, carried, client)) = self.table.take_session() {
            let (gate, flow) = (path.gates.of(number), path.flow(number));
            path.flows.live.fetch_sub(1, Relaxed);
            if path.outlives_us() && client.is_none() {
                self.goes_on = true;
                carried.leave(gate, flow.as_ref());
                continue;
            }
            if gate.change(State::Live, State::Hold) {
                match (&flow, &client) {
                    (Some(flow), Some(_)) => path.voice.end_early(flow),
                    (Some(flow), None) => {
                        // Whoever can't be told now is when he says something.
                        let _ = path.voice.end(flow);
                    }
                    (None, _) => {}
                }
                gate.set(State::Closing);
            }
            carried.close(
                path,
                (number, Claim::new()),
                flow.as_ref(),
                client,
                Some(End::ours(EndReason::Stopped)),
            );
        }
    }

    /// Records what has ended, and waits a little for clients to acknowledge their greetings: our
    /// sockets say these again, and end with us.
    fn settle(&mut self) {
        let until = Instant::now() + SETTLE;
        loop {
            self.look();
            if !self.table.greets() || Instant::now() >= until {
                break;
            }
            thread::sleep(SETTLE / 50);
        }
    }
}

/// Has the processor fetch what is kept of these flows, of many at a time: one by one, each look
/// waits for memory.
fn fetch(table: &mut Table, numbers: Range<u32>) {
    let received = numbers.filter_map(|number| {
        let carried = table.session(number)?;
        Some(carried.record.live().bytes().0)
    });
    black_box(received.fold(0, u64::wrapping_add));
}

/// Both connections of a flow, by who began them: we began the one with the server.
fn begun([client, server]: [Key; 2]) -> [Key; 2] {
    [client, server.reversed()]
}
