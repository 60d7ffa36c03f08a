//! Who is let in: nobody where an operator says so, and as many at a time as the caps allow.

use std::sync::Arc;

use crate::occupancy::Occupancy;
use crate::record::{EndReason, Place};
use crate::snapshot::{Listener, Snapshot};

/// A place for a session of `listener`. `process` counts those of all listeners.
///
/// # Errors
/// Why there is none.
pub(crate) fn admit(
    snapshot: &Snapshot,
    listener: &Listener,
    process: &Arc<Occupancy>,
) -> Result<Place, EndReason> {
    if listener.paused {
        return Err(EndReason::Paused);
    }
    let of_process = (process, Some(snapshot.max_sessions));
    Place::take(of_process, (&listener.state, listener.max_sessions)).ok_or(EndReason::Full)
}
