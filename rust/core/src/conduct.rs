//! How a server treats its sessions: what is held against it, as evidence for those who decide
//! whether it is given any more.
//!
//! Only what is the server's doing is evidence. A server that doesn't take a session is blamed once
//! another one took the same session: what all of them say to a client is that client's affair, and
//! what none of them can do is nobody's fault. A message that is cut off counts where the server
//! left first, without a word, while the client was speaking.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Instant;

use crate::metrics::{Counter, Tally};
use crate::moment::AtomicMoment;

/// Why a server's greeting was no use to a session. A closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GreetingFailure {
    /// 4yz, 421 above all: not now.
    RefusedNow,
    /// 5yz: not at all.
    Refused,
    /// It closed the connection instead.
    Closed,
    /// It reset the connection instead.
    Reset,
    /// It didn't greet in time.
    Timeout,
    /// It spoke, but not SMTP.
    Nonsense,
}

impl GreetingFailure {
    /// Every cause there is.
    pub const ALL: [Self; 6] = [
        Self::RefusedNow,
        Self::Refused,
        Self::Closed,
        Self::Reset,
        Self::Timeout,
        Self::Nonsense,
    ];

    /// As metrics and logs write it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::RefusedNow => "4xx",
            Self::Refused => "5xx",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Nonsense => "nonsense",
        }
    }
}

/// What a server did to a session. A closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoiled {
    /// It couldn't be connected to.
    Connect,
    /// Its greeting was no use.
    Greeting(GreetingFailure),
    /// It closed or reset the connection in the middle of a message.
    CutInData,
}

impl Spoiled {
    /// Everything there is.
    pub const ALL: [Self; 8] = [
        Self::Connect,
        Self::Greeting(GreetingFailure::RefusedNow),
        Self::Greeting(GreetingFailure::Refused),
        Self::Greeting(GreetingFailure::Closed),
        Self::Greeting(GreetingFailure::Reset),
        Self::Greeting(GreetingFailure::Timeout),
        Self::Greeting(GreetingFailure::Nonsense),
        Self::CutInData,
    ];

    /// As metrics write it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Greeting(failure) => failure.label(),
            Self::CutInData => "cut_in_data",
        }
    }

    /// Its place in [`Spoiled::ALL`].
    fn number(self) -> usize {
        match self {
            Self::Connect => 0,
            Self::Greeting(failure) => 1 + failure as usize,
            Self::CutInData => Self::ALL.len() - 1,
        }
    }
}

/// What a worker counts of it.
#[derive(Debug, Default)]
pub(crate) struct ConductCounters {
    spoiled: Tally<{ Spoiled::ALL.len() }>,
    /// Sessions that it didn't take, and neither did another server: for other reasons than that
    /// it said 5yz, which is meant for the client then.
    pub(crate) in_vain: Counter,
}

impl ConductCounters {
    pub(crate) fn spoiled(&self, what: Spoiled) -> u64 {
        self.spoiled.value(what.number())
    }
}

/// What all workers know of a server's last sessions.
#[derive(Debug, Default)]
pub(crate) struct Conduct {
    /// Sessions that it didn't take, without one between them that it did.
    refused: Row,
    /// Sessions that it cut off in a message, without one that began since and that it didn't.
    cut: Row,
}

impl Conduct {
    /// It spoiled a session, now.
    pub(crate) fn spoiled(&self, counters: &ConductCounters, what: Spoiled, now: Instant) {
        counters.spoiled.count(what.number());
        match what {
            Spoiled::CutInData => self.cut.goes_on(now),
            _ => self.refused.goes_on(now),
        }
    }

    /// It took a session.
    pub(crate) fn took(&self) {
        self.refused.ends();
    }

    /// A session that it took at `taken` ended, and it wasn't the server that spoiled it.
    pub(crate) fn kept(&self, taken: Instant) {
        // How an earlier one went says nothing of what it does now.
        if self.cut.began().is_some_and(|began| began <= taken) {
            self.cut.ends();
        }
    }

    /// How many it has spoiled in a row by now.
    pub(crate) fn in_a_row(&self) -> u32 {
        self.refused.length().max(self.cut.length())
    }
}

/// Sessions in a row. Where two workers meet, one of them may go uncounted: it is a matter of
/// whose session came first.
#[derive(Debug, Default)]
struct Row {
    length: AtomicU32,
    began: AtomicMoment,
}

impl Row {
    fn goes_on(&self, now: Instant) {
        self.began.set_first(now);
        self.length.fetch_add(1, Relaxed);
    }

    fn ends(&self) {
        // Read first: nearly always there is none, and the line stays where all workers have it.
        if self.length() > 0 {
            self.began.clear();
            self.length.store(0, Relaxed);
        }
    }

    fn length(&self) -> u32 {
        self.length.load(Relaxed)
    }

    fn began(&self) -> Option<Instant> {
        self.began.read()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn moments() -> impl Iterator<Item = Instant> {
        let began = Instant::now();
        (0..).map(move |second| began + Duration::from_secs(second))
    }

    #[test]
    fn the_list_is_in_the_order_of_its_numbers() {
        for (number, what) in Spoiled::ALL.into_iter().enumerate() {
            assert_eq!(what.number(), number);
        }
    }

    #[test]
    fn a_session_that_it_takes_ends_a_row_of_those_that_it_did_not() {
        let (conduct, counters) = (Conduct::default(), ConductCounters::default());
        let mut now = moments();
        for _ in 0..3 {
            conduct.spoiled(
                &counters,
                Spoiled::Greeting(GreetingFailure::Closed),
                now.next().unwrap(),
            );
        }
        assert_eq!(conduct.in_a_row(), 3);
        conduct.took();
        assert_eq!(conduct.in_a_row(), 0);
        conduct.spoiled(
            &counters,
            Spoiled::Greeting(GreetingFailure::Refused),
            now.next().unwrap(),
        );
        assert_eq!(conduct.in_a_row(), 1);
        assert_eq!(
            counters.spoiled(Spoiled::Greeting(GreetingFailure::Closed)),
            3
        );
        assert_eq!(
            counters.spoiled(Spoiled::Greeting(GreetingFailure::Refused)),
            1
        );
    }

    #[test]
    fn a_row_of_cuts_is_ended_by_a_session_that_began_since() {
        let (conduct, counters) = (Conduct::default(), ConductCounters::default());
        let now: Vec<Instant> = moments().take(5).collect();
        conduct.spoiled(&counters, Spoiled::CutInData, now[1]);
        conduct.spoiled(&counters, Spoiled::CutInData, now[2]);
        // It greets, which says nothing of what it does with messages; nor does one of before.
        conduct.took();
        conduct.kept(now[0]);
        assert_eq!(conduct.in_a_row(), 2);
        conduct.kept(now[3]);
        assert_eq!(conduct.in_a_row(), 0);
        conduct.spoiled(&counters, Spoiled::CutInData, now[4]);
        conduct.kept(now[3]);
        assert_eq!(
            conduct.in_a_row(),
            1,
            "the row that it ended was another one"
        );
    }
}
