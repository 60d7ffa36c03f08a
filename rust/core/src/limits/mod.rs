//! When a session is over as things stand, whichever path it takes. Pure; time is an argument.

mod idle;
mod leave;
mod lost;

use std::time::Instant;

use crate::moment::{AtomicMoment, ProcessDrain};
use crate::record::{EndReason, SessionId};
use crate::spec::{DrainSpec, Timeouts};

pub(crate) use idle::Silence;
use leave::Moment;
pub(crate) use leave::{AGAIN, Leave, Standing, share};
pub(crate) use lost::{keepalive, user_timeout};

/// What limits a session.
#[derive(Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) id: SessionId,
    pub(crate) timeouts: &'a Timeouts,
    pub(crate) drain: &'a DrainSpec,
    pub(crate) process: &'a ProcessDrain,
    /// Since when the listener drains, and the server.
    pub(crate) drains: [&'a AtomicMoment; 2],
    /// When the session will have reached its age.
    pub(crate) aged: Option<Instant>,
}

impl Terms<'_> {
    /// When the session is over, and why.
    pub(crate) fn limit(&self, silence: &Silence, standing: Standing) -> (Instant, EndReason) {
        let idle = self.idle(silence, standing);
        let Some(leave) = self.leave() else {
            return idle;
        };
        let moment = Moment {
            since: silence.since(),
            spoke: silence.spoke(),
            standing,
        };
        match leave.limit(self.drain, moment) {
            Some(cut) if cut.0 < idle.0 => cut,
            _ => idle,
        }
    }

    /// When it is over whatever is on its way, and why: a cut that waits for a quiet moment hides no
    /// limit behind it.
    pub(crate) fn hard_limit(&self, silence: &Silence, standing: Standing) -> (Instant, EndReason) {
        let idle = self.idle(silence, standing);
        let deadline = self.leave().and_then(|leave| leave.deadline(self.drain));
        match deadline {
            Some(deadline) if deadline.0 < idle.0 => deadline,
            _ => idle,
        }
    }

    fn idle(&self, silence: &Silence, standing: Standing) -> (Instant, EndReason) {
        silence.limit(self.timeouts, standing == Standing::AnswerDue)
    }

    /// What it is to be cut for beside its silence, if there is anything.
    pub(crate) fn leave(&self) -> Option<Leave> {
        let process = &self.process.since;
        let drains = self.drains.into_iter().chain([process]);
        let drains = drains.filter_map(AtomicMoment::read).min();
        if drains.is_none() && self.aged.is_none() {
            return None;
        }
        Some(Leave {
            drains,
            aged: self.aged,
            share: if self.process.hurries() {
                0.0
            } else {
                leave::share(self.id.0)
            },
        })
    }
}
