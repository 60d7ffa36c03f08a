//! What an earlier process left: flows that live go on as if it were still there.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use mailweir_flow::{Flow, Key, Place, State};

use crate::moment::nanos;
use crate::occupancy::Occupancy;
use crate::record::{End, EndReason, Ledger, Record, SessionPlace, Side};
use crate::roster::InFlight;
use crate::server::Server;
use crate::snapshot::{Listener, Snapshot};
use crate::spec::ServerState;

use super::course::LastWords;
use super::flows::Carried;
use super::note::{Note, hash};
use super::passage::Passage;
use super::{SharedPath, lock};

/// The process that goes on with them.
#[derive(Debug)]
pub(crate) struct Heir<'a> {
    /// Of the worker whose sessions they become.
    pub(crate) ledger: &'a Arc<Ledger>,
    pub(crate) snapshot: &'a Arc<Snapshot>,
    /// Sessions of the whole process.
    pub(crate) occupancy: &'a Arc<Occupancy>,
    pub(crate) workers: usize,
}

/// Both keys of each flow that was found in the tables, by its number.
pub(super) type FoundFlows = HashMap<u32, [Option<Key>; 2]>;

pub(super) fn found(places: Vec<(Key, Place)>) -> FoundFlows {
    let mut found = FoundFlows::new();
    for (key, place) in places {
        found.entry(place.flow).or_default()[(place.side & 1) as usize] = Some(key);
    }
    found
}

/// Goes on with the flows that were found when this process began.
///
/// What was in the middle of its hand-over has no socket any more: its peers were told so by the
/// one that it had or, where the program had taken over already, are now.
pub(crate) fn adopt(path: &SharedPath, heir: &Heir<'_>) {
    let found = std::mem::take(&mut *lock(&path.inherited));
    for (number, keys) in found {
        let [Some(client), Some(server)] = keys else {
            path.drop_places(number, keys);
            continue;
        };
        let passage = Passage::adopted(path, heir.ledger.worker, number, [client, server]);
        let flow = lock(path.of_sweeper()).flow(number);
        match (passage.gate().state(), flow) {
            (Some(State::Live), Ok(flow)) if passage.gate().greeting_is_due() => {
                passage.abandon();
                heir.close(passage, &flow, End::ours(EndReason::Stopped));
            }
            // Its peers were told by the sockets that the process had.
            (Some(State::Hold), Ok(flow)) if passage.gate().owes_record() => {
                passage.gate().set(State::Passed);
                heir.close(passage, &flow, End::ours(EndReason::Stopped));
            }
            // It had ended, and its client came back from the same port.
            (Some(State::Passed), Ok(flow)) if passage.gate().owes_record() => {
                let end = passage.end(Some(&flow));
                heir.close(passage, &flow, end);
            }
            (Some(State::Closing), Ok(_)) if passage.gate().is_recorded() => passage.linger(),
            // Also what has ended while nobody was there: its record is still to be closed.
            (Some(State::Live | State::Closing), Ok(flow)) => {
                path.adopted.add(1);
                heir.go_on(passage, &flow);
            }
            _ => drop(passage),
        }
    }
}

impl Heir<'_> {
    fn go_on(&self, passage: Passage, flow: &Flow) {
        let carried = self.carried(&passage, flow);
        passage.keep(carried, None);
    }

    /// Closes the record of one that is over. Its place is kept until that is in the log: this
    /// process may be gone before.
    fn close(&self, passage: Passage, flow: &Flow, end: End) {
        let carried = self.carried(&passage, flow);
        passage.close(carried, flow, end);
    }

    fn carried(&self, passage: &Passage, flow: &Flow) -> Carried {
        let note = Note::from_bytes(&flow.note);
        let names = self.names();
        let outline = note.outline(|hash| match names.get(&hash) {
            Some(name) => Arc::clone(name),
            // It isn't configured any more.
            None => format!("#{hash:08x}").into(),
        });
        let listeners = &self.snapshot.listeners;
        let listener = listeners
            .iter()
            .position(|one| hash(&one.state.name) == note.listener)
            .unwrap_or_default();
        let state = &listeners[listener].state;
        let client = SocketAddr::V4(passage.keys[0].from);
        let record = Record::restore(self.ledger, state, client, outline);
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
        let pools = self.snapshot.pools.iter();
        let mut of_pool = pools.filter(|pool| hash(&pool.name) == note.pool);
        let found = of_pool.next().and_then(|pool| {
            let mut members = pool.members.iter();
            let member = members.find(|one| hash(&one.name) == note.server)?;
            Some(pool.roster.adopt(member.seat))
        });
        found.unwrap_or_else(|| {
            // It isn't configured any more: left, and counted where nobody looks.
            let gone = Server::new("", self.workers);
            gone.set_state(ServerState::Drain);
            InFlight::apart(gone)
        })
    }

    /// All that the record of a flow may name, by its hash.
    fn names(&self) -> HashMap<u32, Arc<str>> {
        let listeners = self.snapshot.listeners.iter();
        let listeners = listeners.map(|one| &one.state.name);
        let pools = self.snapshot.pools.iter();
        let pools = pools.flat_map(|pool| {
            let members = pool.members.iter().map(|one| &one.name);
            members.chain([&pool.name])
        });
        let all = listeners.chain(pools);
        all.map(|name| (hash(name), Arc::clone(name))).collect()
    }
}
