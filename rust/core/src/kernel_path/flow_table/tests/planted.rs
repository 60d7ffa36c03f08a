//! What the histories of a table do wrong, each in turn.

use super::history;

/// What is done wrong, to show that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Planted {
    NumberIsLost,
    NumberTwice,
    NumberAtOnce,
    PortIsLost,
    PortTooSoon,
    RecordTwice,
    RecordIsLost,
    SocketIsLost,
    LimitIsForgotten,
    CutThoughItMoved,
    KeysBeforeTheRecord,
    PanicLosesFlows,
    TimeGoesTooSoon,
}

impl Planted {
    pub(super) const ALL: [Self; 13] = [
        Self::NumberIsLost,
        Self::NumberTwice,
        Self::NumberAtOnce,
        Self::PortIsLost,
        Self::PortTooSoon,
        Self::RecordTwice,
        Self::RecordIsLost,
        Self::SocketIsLost,
        Self::LimitIsForgotten,
        Self::CutThoughItMoved,
        Self::KeysBeforeTheRecord,
        Self::PanicLosesFlows,
        Self::TimeGoesTooSoon,
    ];
}

#[test]
fn planted_faults_are_found() {
    for fault in Planted::ALL {
        let found = (0..50).find_map(|seed| history(seed, 2_000, Some(fault)).err());
        let (step, what) = found.unwrap_or_else(|| panic!("{fault:?} isn't found"));
        println!("{fault:?}: after {step} steps: {what}");
    }
}
