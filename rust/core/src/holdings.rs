//! What the process has of what takes descriptors and memory, and how much of it there may be: so
//! that whatever clients and servers do, some is left for servers' checks and for operators.
//!
//! Known by whoever lets clients in, waits for servers and says goodbye.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::metrics::Counter;
use crate::occupancy::{Occupancy, Occupied};
use crate::spec::RoomSpec;

/// Counts of the process.
#[derive(Debug)]
pub(crate) struct Holdings {
    room: ArcSwap<RoomSpec>,
    sessions: Arc<Occupancy>,
    lingering: Arc<Occupancy>,
    overdue: Arc<Occupancy>,
    /// Connections that weren't waited for at their end, for want of room.
    pub(crate) hurried: Counter,
}

impl Holdings {
    pub(crate) fn new() -> Self {
        let nothing = RoomSpec {
            sessions: 0,
            spare: 0,
        };
        Self {
            room: ArcSwap::from_pointee(nothing),
            sessions: Arc::default(),
            lingering: Arc::default(),
            overdue: Arc::default(),
            hurried: Counter::default(),
        }
    }

    /// There is this much room from now on.
    pub(crate) fn apply(&self, room: RoomSpec) {
        self.room.store(Arc::new(room));
    }

    pub(crate) fn room(&self) -> RoomSpec {
        **self.room.load()
    }

    /// A session that isn't a flow: its two connections.
    pub(crate) fn session(&self) -> Option<Occupied> {
        Occupied::take(&self.sessions, Some(self.room().sessions))
    }

    /// Whether there is room for another one.
    pub(crate) fn has_room(&self) -> bool {
        self.sessions.now() < self.room().sessions
    }

    /// A connection that is over, but for the other end's reading of the last words.
    pub(crate) fn farewell(&self) -> Option<Occupied> {
        let place = Occupied::take(&self.lingering, Some(self.room().spare));
        if place.is_none() {
            self.hurried.add(1);
        }
        place
    }

    /// A server that is waited for beside the one that is tried.
    pub(crate) fn overdue(&self) -> Option<Occupied> {
        Occupied::take(&self.overdue, Some(self.room().spare))
    }

    /// Sessions that aren't flows, now.
    pub(crate) fn sessions_now(&self) -> u64 {
        self.sessions.now()
    }

    /// Connections that linger now, and servers that are overdue.
    pub(crate) fn spare_now(&self) -> [u64; 2] {
        [self.lingering.now(), self.overdue.now()]
    }
}
