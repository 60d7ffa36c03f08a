//! Sessions that the process before this one has still, where it was upgraded: they hold places of
//! the process, of listeners and of servers as if they were ours, so that the limits hold for both
//! together. What a source may have isn't counted so.

use std::collections::HashMap;
use std::hash::Hash;

use serde::Deserialize;

use super::{DataPlane, lock};
use crate::record::SessionPlace;
use crate::roster::InFlight;

/// How many there are.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elsewhere {
    /// By listener.
    pub listeners: Vec<(String, usize)>,
    /// By pool and server.
    pub servers: Vec<(String, String, usize)>,
}

/// The places that they hold here.
#[derive(Debug, Default)]
pub(super) struct StandIns {
    listeners: HashMap<String, Vec<SessionPlace>>,
    servers: HashMap<(String, String), Vec<InFlight>>,
}

impl DataPlane {
    /// So many sessions there are elsewhere from now on. Whom this process doesn't know is passed
    /// over: a listener or a server that its configuration hasn't.
    pub fn set_elsewhere(&self, elsewhere: Elsewhere) {
        let snapshot = self.shared.current.load();
        let mut held = lock(&self.shared.stand_ins);
        let mut before = std::mem::take(&mut *held);
        for (name, number) in elsewhere.listeners {
            let mut listeners = snapshot.listeners.iter();
            let Some(listener) = listeners.find(|one| *one.state.name == *name) else {
                continue;
            };
            let take = || {
                // Without a limit there always is a place.
                let mut place = SessionPlace::take(&self.shared.occupancy, None)?;
                place.enter(&listener.state, None);
                Some(place)
            };
            fill(
                &mut before.listeners,
                &mut held.listeners,
                name,
                number,
                take,
            );
        }
        for (pool, server, number) in elsewhere.servers {
            let Some(of_pool) = snapshot.pool(&pool) else {
                continue;
            };
            let Some(seat) = of_pool.member(&server).map(|member| member.seat) else {
                continue;
            };
            let take = || Some(of_pool.roster.adopt(seat));
            fill(
                &mut before.servers,
                &mut held.servers,
                (pool, server),
                number,
                take,
            );
        }
        // What is left of those before is given back now, whoever waits for a place.
    }
}

/// Has `held` so many, those that there were first of all.
fn fill<K: Eq + Hash, P>(
    before: &mut HashMap<K, Vec<P>>,
    held: &mut HashMap<K, Vec<P>>,
    of: K,
    number: usize,
    take: impl FnMut() -> Option<P>,
) {
    let mut places = before.remove(&of).unwrap_or_default();
    let more = number.saturating_sub(places.len());
    places.extend(std::iter::repeat_with(take).take(more).flatten());
    places.truncate(number);
    held.insert(of, places);
}
