//! Where a session is counted while it lives.

use std::sync::Arc;

use crate::occupancy::{Occupancy, Occupied};
use crate::sources::SourcePlace;

use super::ListenerState;

/// A session's place in the process, at its listener and at its source, until it is dropped.
#[derive(Debug, Default)]
pub(crate) struct SessionPlace {
    /// None once it takes nothing of the process.
    process: Option<Occupied>,
    /// None while it takes nothing of the listener.
    listener: Option<Arc<ListenerState>>,
    /// None where sources aren't limited. Boxed: most sessions have none, and idle ones are many.
    source: Option<Box<SourcePlace>>,
}

impl SessionPlace {
    /// One in the process, if it has one left.
    pub(crate) fn take(process: &Arc<Occupancy>, most: Option<u64>) -> Option<Self> {
        Occupied::take(process, most).map(|process| Self {
            process: Some(process),
            listener: None,
            source: None,
        })
    }

    /// One at the listener as well, if that has one left.
    pub(crate) fn enter(&mut self, listener: &Arc<ListenerState>, most: Option<u64>) -> bool {
        let entered = listener.occupancy.try_enter(most);
        if entered {
            self.listener = Some(Arc::clone(listener));
        }
        entered
    }

    /// It is one of its source's as well.
    pub(crate) fn of_source(&mut self, place: SourcePlace) {
        self.source = Some(Box::new(place));
    }

    /// The session takes nothing of the process any more; elsewhere it stays.
    pub(crate) fn leave_process(&mut self) {
        self.process = None;
    }
}

impl Drop for SessionPlace {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.occupancy.leave();
        }
    }
}
