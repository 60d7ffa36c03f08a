//! Who is let in: nobody where an operator says so, whom the listener's prefixes allow, as many
//! of a source and as quickly as it may, and as many at a time as the caps allow.
//!
//! What is only tried out (`dry_run`) is counted and refuses nobody. Each limit is judged by itself: a
//! session that it would have refused isn't counted by it, so that it meets what it would meet, and
//! is counted by all others, which hold as if nothing were tried out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::holdings::Holdings;
use crate::moment::nanos;
use crate::occupancy::{Occupancy, Occupied};
use crate::record::{EndReason, Record, SessionPlace, TriedOut, WouldRefuse};
use crate::snapshot::{Listener, Snapshot, SourceTerms};
use crate::sources::{Met, SourcePlace};

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
    let mut count = |what: WouldRefuse| record.tried_out(what);
    applicant.may_enter(&mut count)?;
    let now = nanos(Instant::now());
    // Looked at before a place is taken: a flood of one source takes none from others.
    let tracked = applicant.is_within(now, &mut count)?;
    let room = applicant.room(&mut count);
    if let (Err(_), Some((_, met))) = (&room, tracked) {
        applicant.tried_out(met, &mut count);
    }
    let (mut place, held) = room?;
    if let Some((terms, _)) = tracked {
        place.of_source(applicant.enter(terms, now, &mut count)?);
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
    match applicant.is_within(nanos(Instant::now()), count) {
        Err(why) => return Some(why),
        Ok(tracked) => {
            if let Some((_, met)) = tracked {
                applicant.tried_out(met, count);
            }
        }
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

    /// By what the session is to be counted at its source, if it is, and what it would meet there.
    fn is_within(
        &self,
        now: u64,
        count: &mut impl FnMut(WouldRefuse),
    ) -> Result<Option<(&'a SourceTerms, Met)>, EndReason> {
        let Some(terms) = self.listener.source_terms(self.client) else {
            return Ok(None);
        };
        let key = terms.source.key(self.client);
        let met = self.listener.state.sources().look(key, &terms.limits, now);
        if met.beyond(self.tried()) {
            return Err(self.refusal(met, count));
        }
        Ok(Some((terms, met)))
    }

    /// A place in the process and at the listener.
    fn room(
        &self,
        count: &mut impl FnMut(WouldRefuse),
    ) -> Result<(SessionPlace, Occupied), EndReason> {
        let listener = self.listener;
        let held = self.holdings.session().ok_or(EndReason::Full)?;
        let most = Some(self.snapshot.max_sessions);
        let mut place = SessionPlace::take(self.process, most).ok_or(EndReason::Full)?;
        if !place.enter(&listener.state, listener.max_sessions) {
            if !listener.dry_run.sessions {
                return Err(EndReason::Full);
            }
            count(WouldRefuse::Sessions);
        }
        Ok((place, held))
    }

    /// Counts the session in at its source. Another one may have been quicker since.
    fn enter(
        &self,
        terms: &SourceTerms,
        now: u64,
        count: &mut impl FnMut(WouldRefuse),
    ) -> Result<SourcePlace, EndReason> {
        let (key, sources) = (terms.source.key(self.client), self.listener.state.sources());
        match sources.enter(key, &terms.limits, self.tried(), now) {
            Ok((place, met)) => {
                self.tried_out(met, count);
                Ok(place)
            }
            Err(met) => Err(self.refusal(met, count)),
        }
    }

    /// The limits of a source that are only tried out.
    fn tried(&self) -> Met {
        Met {
            sessions: self.listener.dry_run.source_sessions,
            rate: self.listener.dry_run.source_rate,
        }
    }

    fn tried_out(&self, met: Met, count: &mut impl FnMut(WouldRefuse)) {
        let tried = self.tried();
        if met.sessions && tried.sessions {
            count(WouldRefuse::SourceSessions);
        }
        if met.rate && tried.rate {
            count(WouldRefuse::SourceRate);
        }
    }

    /// Why the session is refused, where limits are met that aren't only tried out.
    fn refusal(&self, met: Met, count: &mut impl FnMut(WouldRefuse)) -> EndReason {
        self.tried_out(met, count);
        if met.sessions && !self.tried().sessions {
            EndReason::SourceSessions
        } else {
            EndReason::SourceRate
        }
    }
}
