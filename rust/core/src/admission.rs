//! Who is let in: the caps on how many sessions there are at a time.

use std::sync::Arc;

use crate::occupancy::Occupancy;
use crate::record::{EndReason, ListenerState};
use crate::snapshot::{Listener, Snapshot};

/// A session's place in the process and at its listener, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    process: Arc<Occupancy>,
    listener: Arc<ListenerState>,
}

/// A place for a session of `listener`. `process` counts those of all listeners.
///
/// # Errors
/// Why there is none.
pub(crate) fn admit(
    snapshot: &Snapshot,
    listener: &Listener,
    process: &Arc<Occupancy>,
) -> Result<Place, EndReason> {
    if !process.try_enter(Some(snapshot.max_sessions)) {
        return Err(EndReason::Full);
    }
    if !listener.state.occupancy.try_enter(listener.max_sessions) {
        process.leave();
        return Err(EndReason::Full);
    }
    Ok(Place {
        process: Arc::clone(process),
        listener: Arc::clone(&listener.state),
    })
}

impl Drop for Place {
    fn drop(&mut self) {
        self.process.leave();
        self.listener.occupancy.leave();
    }
}
