//! Where a session is counted while it lives.

use std::sync::Arc;

use crate::occupancy::Occupancy;

use super::ListenerState;

/// A session's place in the process and at its listener, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    /// None once it takes nothing of the process.
    process: Option<Arc<Occupancy>>,
    listener: Arc<ListenerState>,
}

impl Place {
    /// One in both, if both have one left.
    pub(crate) fn take(
        process: (&Arc<Occupancy>, Option<u64>),
        listener: (&Arc<ListenerState>, Option<u64>),
    ) -> Option<Self> {
        let ((process, of_process), (listener, of_listener)) = (process, listener);
        if !process.try_enter(of_process) {
            return None;
        }
        if !listener.occupancy.try_enter(of_listener) {
            process.leave();
            return None;
        }
        Some(Self {
            process: Some(Arc::clone(process)),
            listener: Arc::clone(listener),
        })
    }
}

impl Place {
    /// The session takes nothing of the process any more; at the listener it stays.
    pub(crate) fn leave_process(&mut self) {
        if let Some(process) = self.process.take() {
            process.leave();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave_process();
        self.listener.occupancy.leave();
    }
}
