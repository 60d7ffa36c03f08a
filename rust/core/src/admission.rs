//! Who is let in: the caps on how many sessions there are at a time.

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
    let of_process = (process, Some(snapshot.max_sessions));
    Place::take(of_process, (&listener.state, listener.max_sessions)).ok_or(EndReason::Full)
}
