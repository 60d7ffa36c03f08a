//! What servers answer to options that their SYNs are offered: time stamps (RFC 7323) and selective
//! acknowledgements (RFC 2018). The kernel path is taken where both legs of a session have the same,
//! so clients aren't left with what a server of theirs hasn't, nor a server with what its client
//! hasn't.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use mailweir_flow::Without;

use crate::moment::AtomicMoment;

/// For so long an answer goes on to count that another one of the same server contradicts.
const LASTS: Duration = Duration::from_secs(60);

/// What a server answered lately.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    timestamps: Answer,
    sack: Answer,
}

impl Answers {
    /// A connection with it lacks these options, of which our SYN was without some: about those it
    /// tells nothing. Whether that changes what clients are to be without.
    pub(crate) fn hear(&self, lacking: Without, unoffered: Without, now: Instant) -> bool {
        let timestamps = !unoffered.timestamps && self.timestamps.hear(lacking.timestamps, now);
        let sack = !unoffered.sack && self.sack.hear(lacking.sack, now);
        timestamps || sack
    }

    /// What it lacks, as far as it is known.
    pub(crate) fn lacking(&self) -> Without {
        Without {
            timestamps: self.timestamps.lacks.load(Relaxed),
            sack: self.sack.lacks.load(Relaxed),
        }
    }

    /// What our SYN to it is to be without for a client that lacks these.
    pub(crate) fn unoffered(&self, lacking: Without, now: Instant) -> Without {
        Without {
            timestamps: lacking.timestamps && !self.timestamps.is_asked_for(now),
            sack: lacking.sack && !self.sack.is_asked_for(now),
        }
    }
}

/// To one option.
#[derive(Debug, Default)]
struct Answer {
    lacks: AtomicBool,
    /// When it lacked it last.
    lacked: AtomicMoment,
    /// When it had it after all.
    had: AtomicMoment,
}

impl Answer {
    /// Whether that changes what counts. Of two that differ, another server behind the same address,
    /// say, the one that lacks it: what it has can be kept from the other.
    fn hear(&self, lacks: bool, now: Instant) -> bool {
        if lacks {
            self.lacked.set(now);
        } else if self.lacks.load(Relaxed) && is_late(&self.lacked, now) {
            self.had.set(now);
            return false;
        }
        self.lacks.swap(lacks, Relaxed) != lacks
    }

    /// Whether it is offered also where the client hasn't it: whoever lacks it won't take it, and if
    /// that has changed, it is heard. Not where it just was.
    fn is_asked_for(&self, now: Instant) -> bool {
        self.lacks.load(Relaxed) && !is_late(&self.had, now)
    }
}

fn is_late(moment: &AtomicMoment, now: Instant) -> bool {
    let then = moment.read();
    then.is_some_and(|then| now.duration_since(then) < LASTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Without = Without {
        timestamps: false,
        sack: false,
    };
    const TIMESTAMPS: Without = Without {
        timestamps: true,
        ..NONE
    };
    const SACK: Without = Without { sack: true, ..NONE };

    #[test]
    fn what_it_lacks_is_known_until_it_is_contradicted() {
        let (answers, start) = (Answers::default(), Instant::now());
        assert_eq!(answers.lacking(), NONE);
        // Nothing is known of it: what its client hasn't it isn't offered.
        assert_eq!(answers.unoffered(TIMESTAMPS, start), TIMESTAMPS);
        assert!(!answers.hear(TIMESTAMPS, TIMESTAMPS, start));
        assert!(answers.hear(TIMESTAMPS, NONE, start));
        assert!(!answers.hear(TIMESTAMPS, NONE, start));
        assert_eq!(answers.lacking(), TIMESTAMPS);
        // However long ago: it is asked with each session.
        let later = start + 100 * LASTS;
        assert_eq!(answers.unoffered(TIMESTAMPS, later), NONE);
        assert_eq!(answers.lacking(), TIMESTAMPS);
        assert!(answers.hear(NONE, NONE, later));
        assert_eq!(answers.lacking(), NONE);
        assert_eq!(answers.unoffered(TIMESTAMPS, later), TIMESTAMPS);
    }

    #[test]
    fn of_two_behind_one_address_the_one_that_lacks_it_counts() {
        let (answers, start) = (Answers::default(), Instant::now());
        answers.hear(SACK, NONE, start);
        assert!(!answers.hear(NONE, NONE, start + LASTS / 2));
        assert_eq!(answers.lacking(), SACK);
        // Neither is offered it, so both are without.
        assert_eq!(answers.unoffered(SACK, start + LASTS), SACK);
        let later = start + LASTS / 2 + LASTS;
        assert_eq!(answers.unoffered(SACK, later), NONE);
        assert!(!answers.hear(SACK, NONE, later));
        assert_eq!(answers.lacking(), SACK);
        // One is gone.
        assert!(answers.hear(NONE, NONE, later + LASTS));
    }

    #[test]
    fn one_option_says_nothing_of_the_other() {
        let (answers, start) = (Answers::default(), Instant::now());
        answers.hear(TIMESTAMPS, SACK, start);
        assert_eq!(answers.lacking(), TIMESTAMPS);
        assert_eq!(answers.unoffered(SACK, start), SACK);
    }
}
