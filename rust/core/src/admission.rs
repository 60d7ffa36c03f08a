//! Who is let in: nobody where an operator says so, whom the listener's prefixes allow, as many
//! of a source and as quickly as it may, and as many at a time as the caps allow.
//!
//! What is only tried out (`dry_run`) is counted and refuses nobody. A session that it would have
//! refused isn't counted as one of its source or its listener, so that what is counted is what
//! would be refused.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::holdings::Holdings;
use crate::moment::nanos;
use crate::occupancy::{Occupancy, Occupied};
use crate::record::{EndReason, Record, SessionPlace, TriedOut, WouldRefuse};
use crate::snapshot::{Listener, Snapshot, SourceTerms};
use crate::sources::{SourceLimits, SourcePlace, SourceRefusal};

/// Who wants to be let in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Applicant<'a> {
    pub(crate) client: IpAddr,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) listener: &'a Listener,
    /// Counts the sessions of all listeners.
    pub(crate) process: &'a Arc<Occupancy>,
    pub(crate) holdings: &'a Holdings,
}

/// What a session has of the process, its listener and its source until it ends.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) place: SessionPlace,
    /// As long as it has connections of its own.
    pub(crate) held: Occupied,
}

/// A place for a session, whose record has what is only tried out.
///
/// # Errors
/// Why there is none.
pub(crate) fn admit(applicant: &Applicant<'_>, record: &mut Record) -> Result<Admitted, EndReason> {
    let listener = applicant.listener;
    let mut count = |what: WouldRefuse| record.tried_out(what);
    applicant.may_enter(&mut count)?;
    let now = nanos(Instant::now());
    // Looked at before a place is taken: a flood of one source takes none from others.
    let tracked = applicant.is_within(now, &mut count)?;
    let held = applicant.holdings.session().ok_or(EndReason::Full)?;
    let most = Some(applicant.snapshot.max_sessions);
    let mut place = SessionPlace::take(applicant.process, most).ok_or(EndReason::Full)?;
    if !place.enter(&listener.state, listener.max_sessions) {
        if !listener.dry_run.sessions {
            return Err(EndReason::Full);
        }
        count(WouldRefuse::Sessions);
    }
    if let Some(terms) = tracked
        && let Some(of_source) = applicant.enter(terms, now, &mut count)?
    {
        place.of_source(of_source);
    }
    Ok(Admitted { place, held })
}

/// Why a client would be refused at this moment, if it would be; and what would refuse it, were it
/// more than tried out.
pub(crate) fn foresee(applicant: &Applicant<'_>) -> (Option<EndReason>, TriedOut) {
    let mut tried_out = TriedOut::default();
    let refused = refusal(applicant, &mut |what| tried_out.add(what));
    (refused, tried_out)
}

fn refusal(applicant: &Applicant<'_>, count: &mut impl FnMut(WouldRefuse)) -> Option<EndReason> {
    let listener = applicant.listener;
    let room = |now: u64, most: Option<u64>| most.is_none_or(|most| now < most);
    if let Err(why) = applicant.may_enter(count) {
        return Some(why);
    }
    if let Err(why) = applicant.is_within(nanos(Instant::now()), count) {
        return Some(why);
    }
    let process = room(
        applicant.process.now(),
        Some(applicant.snapshot.max_sessions),
    );
    let at_listener = room(listener.state.occupancy.now(), listener.max_sessions);
    if !at_listener && listener.dry_run.sessions {
        count(WouldRefuse::Sessions);
    }
    (!process || !applicant.holdings.has_room() || !at_listener && !listener.dry_run.sessions)
        .then_some(EndReason::Full)
}

impl<'a> Applicant<'a> {
    /// Whether this client may be here at all.
    fn may_enter(&self, count: &mut impl FnMut(WouldRefuse)) -> Result<(), EndReason> {
        let listener = self.listener;
        if listener.paused {
            return Err(EndReason::Paused);
        }
        if self.snapshot.denies(self.client) {
            return Err(EndReason::Denied);
        }
        if listener.access.lets_in(self.client) {
            return Ok(());
        }
        if !listener.dry_run.access {
            return Err(EndReason::Denied);
        }
        count(WouldRefuse::Access);
        Ok(())
    }

    /// By what the session is to be counted at its source, if it is.
    fn is_within(
        &self,
        now: u64,
        count: &mut impl FnMut(WouldRefuse),
    ) -> Result<Option<&'a SourceTerms>, EndReason> {
        let Some(terms) = self.listener.source_terms(self.client) else {
            return Ok(None);
        };
        let sources = self.listener.state.sources();
        let key = terms.source.key(self.client);
        let Some(refusal) = sources.look(key, &terms.limits, now) else {
            return Ok(Some(terms));
        };
        self.try_out(refusal, count)?;
        if refusal == SourceRefusal::Sessions {
            let rate_alone = SourceLimits {
                sessions: None,
                ..terms.limits
            };
            if let Some(refusal) = sources.look(key, &rate_alone, now)
                && !self.listener.dry_run.source_rate
            {
                return Err(reason(refusal));
            }
        }
        Ok(None)
    }

    /// Counts the session in at its source. Another one may have been quicker since.
    fn enter(
        &self,
        terms: &SourceTerms,
        now: u64,
        count: &mut impl FnMut(WouldRefuse),
    ) -> Result<Option<SourcePlace>, EndReason> {
        let key = terms.source.key(self.client);
        match self.listener.state.sources().enter(key, &terms.limits, now) {
            Ok(place) => Ok(Some(place)),
            Err(refusal) => self.try_out(refusal, count).map(|()| None),
        }
    }

    /// A limit of the source refuses the session, or would.
    fn try_out(
        &self,
        refusal: SourceRefusal,
        count: &mut impl FnMut(WouldRefuse),
    ) -> Result<(), EndReason> {
        let dry_run = self.listener.dry_run;
        match refusal {
            SourceRefusal::Sessions if dry_run.source_sessions => {
                count(WouldRefuse::SourceSessions);
            }
            SourceRefusal::Rate if dry_run.source_rate => count(WouldRefuse::SourceRate),
            _ => return Err(reason(refusal)),
        }
        Ok(())
    }
}

fn reason(refusal: SourceRefusal) -> EndReason {
    match refusal {
        SourceRefusal::Sessions => EndReason::SourceSessions,
        SourceRefusal::Rate => EndReason::SourceRate,
    }
}
