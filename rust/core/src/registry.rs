//! Where everything that outlives snapshots is found by its name.
//!
//! Used while a snapshot is built; sessions reach what they need through their snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use crate::record::ListenerState;
use crate::server::{Rotation, Server};

/// Servers, rotations and listeners by name.
#[derive(Debug)]
pub(crate) struct Registry {
    workers: usize,
    /// By pool and name.
    servers: HashMap<(String, String), Arc<Server>>,
    rotations: HashMap<String, Arc<Rotation>>,
    listeners: HashMap<String, Arc<ListenerState>>,
}

impl Registry {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            workers,
            servers: HashMap::new(),
            rotations: HashMap::new(),
            listeners: HashMap::new(),
        }
    }

    pub(crate) fn server(&mut self, pool: &str, name: &str) -> Arc<Server> {
        let server = self
            .servers
            .entry((pool.to_owned(), name.to_owned()))
            .or_insert_with(|| Arc::new(Server::new(self.workers)));
        Arc::clone(server)
    }

    pub(crate) fn rotation(&mut self, pool: &str) -> Arc<Rotation> {
        Arc::clone(self.rotations.entry(pool.to_owned()).or_default())
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
        self.servers.retain(|_, one| Arc::strong_count(one) > 1);
        self.rotations.retain(|_, one| Arc::strong_count(one) > 1);
        self.listeners.retain(|_, one| Arc::strong_count(one) > 1);
    }
}
