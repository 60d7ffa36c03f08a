//! Where everything that outlives snapshots is found by its name.
//!
//! Used while a snapshot is built; sessions reach what they need through their snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use crate::hashing::{Hashing, Maglev};
use crate::record::ListenerState;
use crate::roster::Roster;

/// Pools and listeners by name.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) workers: usize,
    rosters: HashMap<String, Arc<Roster>>,
    tables: HashMap<String, Arc<Maglev>>,
    listeners: HashMap<String, Arc<ListenerState>>,
}

impl Registry {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            workers,
            rosters: HashMap::new(),
            tables: HashMap::new(),
            listeners: HashMap::new(),
        }
    }

    pub(crate) fn roster(&mut self, pool: &str) -> Arc<Roster> {
        let roster = self
            .rosters
            .entry(pool.to_owned())
            .or_insert_with(|| Arc::new(Roster::new()));
        Arc::clone(roster)
    }

    /// The table of a pool's servers; the last one where nothing changed that it is made of, since
    /// making one takes milliseconds.
    pub(crate) fn table<'a>(
        &mut self,
        pool: &str,
        hashing: Hashing,
        servers: impl Iterator<Item = (&'a str, u32)> + Clone,
    ) -> Arc<Maglev> {
        if let Some(table) = self.tables.get(pool)
            && table.is_of(hashing, servers.clone())
        {
            return Arc::clone(table);
        }
        let table = Arc::new(Maglev::build(hashing, servers));
        self.tables.insert(pool.to_owned(), Arc::clone(&table));
        table
    }

    pub(crate) fn listener(&mut self, name: &str) -> Arc<ListenerState> {
        let listener = self
            .listeners
            .entry(name.to_owned())
            .or_insert_with(|| Arc::new(ListenerState::new(name, self.workers)));
        Arc::clone(listener)
    }

    /// Forgets what neither a snapshot nor a session uses any more.
    pub(crate) fn prune(&mut self) {
        self.rosters.retain(|_, one| Arc::strong_count(one) > 1);
        for roster in self.rosters.values() {
            roster.prune();
        }
        self.tables.retain(|_, one| Arc::strong_count(one) > 1);
        self.listeners.retain(|_, one| Arc::strong_count(one) > 1);
    }
}
