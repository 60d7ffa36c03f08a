//! What an earlier process left: flows that live go on as if it were still there.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use mailweir_flow::{Flow, Key, Place, State};

use crate::moment::nanos;
use crate::occupancy::Occupancy;
use crate::record::{End, EndReason, Ledger, Record, SessionId, SessionPlace, Side, Taker};
use crate::roster::InFlight;
use crate::server::Server;
use crate::snapshot::{Listener, Member, Pool, Snapshot};
use crate::spec::ServerState;

use super::carried::Carried;
use super::course::LastWords;
use super::flows::{Arrival, Errand};
use super::note::{Note, hash};
use super::owed::Claim;
use super::{KernelPath, SharedPath, lock};

/// The process that goes on with them.
#[derive(Debug)]
pub(crate) struct Heir<'a> {
    /// Of the worker whose sessions they become.
    pub(crate) ledger: &'a Arc<Ledger>,
    pub(crate) snapshot: &'a Arc<Snapshot>,
    /// Sessions of the whole process.
    pub(crate) occupancy: &'a Arc<Occupancy>,
    /// Which the log ends with.
    pub(crate) written: HashSet<SessionId>,
    pub(crate) workers: usize,
}

/// What was found in the tables.
#[derive(Debug, Default)]
pub(super) struct FoundFlows {
    /// Both keys of each flow, by its number.
    pub(super) flows: HashMap<u32, [Option<Key>; 2]>,
    /// Keys of flows that are over, and whether the server says them.
    over: Vec<(Key, bool)>,
}

impl FoundFlows {
    /// Whether there is no flow.
    pub(super) fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Whether there is no key either.
    pub(super) fn is_nothing(&self) -> bool {
        self.flows.is_empty() && self.over.is_empty()
    }
}

pub(super) fn found(places: Vec<(Key, Place)>) -> FoundFlows {
    let mut found = FoundFlows::default();
    for (key, place) in places {
        match place.number() {
            Some(number) => {
                let keys = found.flows.entry(number).or_default();
                keys[(place.side & 1) as usize] = Some(key);
            }
            None => found.over.push((key, place.side == 1)),
        }
    }
    found
}

/// Goes on with the flows that were found when this process began.
///
/// What was in the middle of its hand-over has no socket any more: its peers were told so by the
/// one that it had or, where the program had taken over already, are now.
pub(crate) fn adopt(path: &SharedPath, heir: &Heir<'_>) {
    let found = std::mem::take(&mut *lock(&path.inherited));
    let heir = NamedHeir::new(heir);
    for (key, of_server) in found.over {
        if of_server {
            path.claim_port(key);
        }
        path.flows.send(Errand::Lingers(key, of_server));
    }
    for (number, found) in found.flows {
        let flow = lock(path.of_sweeper()).flow(number).ok();
        let is_flow = path.gates.of(number).is_flow();
        // Its client came back from the same port: that key is another session's.
        let told = flow.filter(|_| is_flow).map(|flow| flow.sides);
        let [client, server] = found;
        let client = client.or_else(|| told.map(|[_, server]| server.told_as.told.reversed()));
        let server = server.or_else(|| told.map(|[client, _]| client.told_as.told.reversed()));
        match (client, server, flow) {
            (Some(client), Some(server), Some(flow)) => {
                path.claim_port(server);
                heir.adopt_flow(path, number, [client, server], &flow);
            }
            _ => drop_places(path, number, found.into_iter().flatten()),
        }
    }
}

/// Of a flow that nobody goes on with.
fn drop_places(path: &KernelPath, number: u32, keys: impl IntoIterator<Item = Key>) {
    path.drop_places(|| lock(path.of_sweeper()), number, keys);
}

/// The same, with what a note may name by its hash: made once for all flows.
#[derive(Debug)]
struct NamedHeir<'a> {
    heir: &'a Heir<'a>,
    names: HashMap<u32, Arc<str>>,
    listeners: HashMap<u32, usize>,
    /// Servers with their pools, by both.
    seats: HashMap<(u32, u32), (&'a Pool, &'a Member)>,
}

impl<'a> Deref for NamedHeir<'a> {
    type Target = Heir<'a>;

    fn deref(&self) -> &Self::Target {
        self.heir
    }
}

impl<'a> NamedHeir<'a> {
    fn new(heir: &'a Heir<'a>) -> Self {
        let mut named = Self {
            heir,
            names: HashMap::new(),
            listeners: HashMap::new(),
            seats: HashMap::new(),
        };
        for (index, listener) in heir.snapshot.listeners.iter().enumerate() {
            let name = named.name(&listener.state.name);
            named.listeners.entry(name).or_insert(index);
        }
        for pool in &heir.snapshot.pools {
            let of_pool = named.name(&pool.name);
            for member in &pool.members {
                let server = named.name(&member.name);
                named
                    .seats
                    .entry((of_pool, server))
                    .or_insert((pool, member));
            }
        }
        let others = heir.snapshot.listeners.iter().flat_map(|one| &one.overflow);
        for member in others.flat_map(|pool| &pool.members) {
            // As it is called where it was tried in vain.
            named.name(&member.taker.name(""));
        }
        named
    }

    fn name(&mut self, name: &Arc<str>) -> u32 {
        let hash = hash(name);
        self.names.entry(hash).or_insert_with(|| Arc::clone(name));
        hash
    }

    fn adopt_flow(&self, path: &SharedPath, number: u32, keys: [Key; 2], flow: &Flow) {
        let gate = path.gates.of(number);
        let is_written = self.written.contains(&Note::from_bytes(&flow.note).id);
        if is_written && gate.owes_record() {
            // The process that wrote it hadn't noted that yet.
            gate.set_recorded();
        }
        let stopped = Some(End::ours(EndReason::Stopped));
        match gate.state() {
            Some(State::Live) if gate.greeting_is_due() => {
                path.abandon(number);
                self.close(path, number, keys, flow, stopped);
            }
            // Its peers were told by the sockets that the process had.
            Some(State::Hold) if gate.owes_record() => {
                gate.set(State::Passed);
                self.close(path, number, keys, flow, stopped);
            }
            // It had ended, and its client came back from the same port.
            Some(State::Passed) if gate.owes_record() => {
                self.close(path, number, keys, flow, None);
            }
            Some(State::Closing) if gate.is_recorded() => {
                path.flows.send(Errand::Owed(number, keys, Claim::new()));
                path.flows.send(Errand::Recorded(number));
            }
            // Also what has ended while nobody was there: its record is still to be closed.
            Some(State::Live | State::Closing) => {
                path.adopted.add(1);
                let arrival = Arrival {
                    number,
                    keys,
                    carried: self.carried(keys[0], flow),
                    client: None,
                };
                path.flows.arrive(self.ledger.worker, arrival);
                // Nobody looked while no process was there.
                path.ways.change();
            }
            _ => {
                gate.set(State::Passed);
                drop_places(path, number, keys);
                path.give_port(keys[1]);
            }
        }
    }

    /// Closes the record of one that is over. Its place is kept until that is in the log: this
    /// process may be gone before.
    fn close(&self, path: &SharedPath, number: u32, keys: [Key; 2], flow: &Flow, why: Option<End>) {
        // Before its record may be noted as written.
        let claim = Claim::new();
        path.flows.send(Errand::Owed(number, keys, claim.clone()));
        self.carried(keys[0], flow)
            .close(path, (number, claim), Some(flow), None, why);
    }

    fn carried(&self, client: Key, flow: &Flow) -> Carried {
        let note = Note::from_bytes(&flow.note);
        let name = |hash: u32| match self.names.get(&hash) {
            Some(name) => Arc::clone(name),
            // It isn't configured any more.
            None => format!("#{hash:08x}").into(),
        };
        let taker = match self.seats.get(&(note.pool, note.server)) {
            Some((_, member)) => Arc::clone(&member.taker),
            None => Arc::new(Taker {
                pool: name(note.pool),
                server: name(note.server),
            }),
        };
        let listeners = &self.snapshot.listeners;
        let listener = self.listeners.get(&note.listener).copied();
        let listener = listener.unwrap_or_default();
        let state = &listeners[listener].state;
        let client = SocketAddr::V4(client.from);
        let overflow = &listeners[listener].overflow;
        let own = if overflow.iter().any(|one| one.name == taker.pool) {
            Arc::clone(&listeners[listener].pool.name)
        } else {
            Arc::clone(&taker.pool)
        };
        let outline = note.outline(name, taker);
        let record = Record::restore(self.ledger, state, &own, client, outline);
        let [received, sent] = [flow.sides[0].bytes_acked, flow.sides[1].bytes_acked];
        record.live().carried(Side::Client, received);
        record
            .live()
            .carried(Side::Server, sent + u64::from(note.greeted));
        record
            .live()
            .note(LastWords::of(flow).course(), Instant::now());
        let place = self.place(&listeners[listener], client.ip());
        Carried {
            record,
            place,
            held: None,
            in_flight: self.in_flight(&note),
            snapshot: Arc::clone(self.snapshot),
            listener,
        }
    }

    /// Counted in whatever the limits say.
    fn place(&self, listener: &Listener, client: IpAddr) -> SessionPlace {
        // Without a limit there always is one.
        let mut place = SessionPlace::take(self.occupancy, None).unwrap_or_default();
        place.enter(&listener.state, None);
        if let Some(terms) = listener.source_terms(client) {
            let key = terms.source.key(client);
            place.of_source(listener.state.sources().adopt(key, nanos(Instant::now())));
        }
        if !self.snapshot.counts_flows {
            place.leave_process();
        }
        place
    }

    fn in_flight(&self, note: &Note) -> InFlight {
        if let Some((pool, member)) = self.seats.get(&(note.pool, note.server)) {
            return pool.roster.adopt(member.seat);
        }
        // It isn't configured any more: left, and counted where nobody looks.
        let gone = Server::new("", self.workers);
        gone.set_state(ServerState::Drain);
        InFlight::apart(gone)
    }
}

#[cfg(test)]
mod tests;
