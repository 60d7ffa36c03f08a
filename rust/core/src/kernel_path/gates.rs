//! The program's gates, as they are mapped into memory: what becomes of each flow's segments.

use std::io;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{self, Relaxed, SeqCst};

use mailweir_flow::layout::{CUT, GATE_WORDS};
use mailweir_flow::{State, Tables, Without, Word};

use crate::record::{End, EndBy, EndReason};
use crate::sys::MappedWords;

/// What [`Word::Recorded`] says: there is nothing to record yet; the record is in the log; it is owed,
/// or owed by a flow that was ended from here, and why: a reason and who ended it.
const NOTHING: u32 = 0;
const RECORDED: u32 = 1;
const OWED: u32 = 2;
const ENDED: u32 = 3;

/// All gates.
#[derive(Debug)]
pub(super) struct Gates(MappedWords);

impl Gates {
    /// # Errors
    /// What the kernel says.
    pub(super) fn map(tables: &Tables) -> io::Result<Self> {
        let words = tables.most_flows() as usize * GATE_WORDS;
        Ok(Self(MappedWords::map(tables.gates_handle(), words)?))
    }

    pub(super) fn of(&self, number: u32) -> MappedGate<'_> {
        let at = number as usize * GATE_WORDS;
        MappedGate(&self.0[at..at + GATE_WORDS])
    }
}

/// One flow's. Each word is the program's to write or ours, but for the state.
#[derive(Debug, Clone, Copy)]
pub(super) struct MappedGate<'a>(&'a [AtomicU32]);

impl<'a> MappedGate<'a> {
    /// As it begins, before a segment can find it.
    pub(super) fn clear(self) {
        for word in self.0 {
            word.store(0, SeqCst);
        }
    }

    /// None where it makes no sense.
    pub(super) fn state(self) -> Option<State> {
        State::of(self.word(Word::State).load(SeqCst))
    }

    /// Whatever the program counts from now on, it sees this first (for the order on both sides
    /// see `ingress` in flow.bpf.c).
    pub(super) fn set(self, state: State) {
        self.word(Word::State).store(state.number(), SeqCst);
    }

    /// Sets it to `new` if it is `old`; whether it was.
    pub(super) fn change(self, old: State, new: State) -> bool {
        let word = self.word(Word::State);
        let changed = word.compare_exchange(old.number(), new.number(), SeqCst, SeqCst);
        changed.is_ok()
    }

    pub(super) fn lives(self) -> bool {
        matches!(self.state(), Some(State::Live | State::Hold))
    }

    /// Whether the client hasn't acknowledged all of the greeting.
    pub(super) fn greeting_is_due(self) -> bool {
        self.word(Word::Greeting).load(SeqCst) != 0
    }

    pub(super) fn expect_greeting(self) {
        self.word(Word::Greeting).store(1, SeqCst);
    }

    /// Of client and server: bytes that came, ends counted as one each.
    pub(super) fn counted(self) -> [u32; 2] {
        self.pair(Word::Counted, SeqCst)
    }

    /// Of client and server: the time stamp that each said last; 0 for none.
    pub(super) fn clocks(self) -> [u32; 2] {
        self.pair(Word::Tsval, SeqCst)
    }

    /// Behind what the client said last.
    pub(super) fn set_client_rcv_nxt(self, next: u32) {
        self.word(Word::RcvNxt).store(next, SeqCst);
    }

    /// The client's time stamp, as long as no segment has said a later one; 0 for none.
    pub(super) fn set_client_tsval(self, tsval: u32) {
        self.word(Word::Tsval).store(tsval, SeqCst);
    }

    /// Behind what the client said last, as it was set.
    pub(super) fn client_rcv_nxt(self) -> u32 {
        self.word(Word::RcvNxt).load(SeqCst)
    }

    /// The interfaces that lead to client and server; 0 where no segment of ours was seen that
    /// went there.
    pub(super) fn ways(self) -> [u32; 2] {
        self.pair(Word::Out, SeqCst)
    }

    /// Has segments to client and server go by these interfaces from now on; how many of the two
    /// went by others.
    pub(super) fn lead(self, ways: [Option<u32>; 2]) -> u64 {
        let words = self.0[Word::Out as usize..].iter().zip(ways);
        let moved =
            words.filter(|(word, way)| way.is_some_and(|way| word.swap(way, SeqCst) != way));
        moved.count() as u64
    }

    /// Of client and server: when the other acknowledged something new of each last; 0 for never.
    pub(super) fn acked(self) -> [u32; 2] {
        self.pair(Word::Acked, Relaxed)
    }

    /// The largest segment that the server takes, options included; 0 where it said nothing.
    pub(super) fn server_mss(self) -> u32 {
        self.word(Word::Mss).load(SeqCst) & u32::from(u16::MAX)
    }

    /// Has our SYN to the server be without that; before it is said.
    pub(super) fn set_unoffered(self, unoffered: Without) {
        self.word(Word::Mss).store(unoffered.bits(), SeqCst);
    }

    /// What our SYN to the server was without.
    pub(super) fn unoffered(self) -> Without {
        Without::of(self.word(Word::Mss).load(SeqCst))
    }

    /// Whether what the server says may be cut into fragments on its way.
    pub(super) fn server_is_cut(self) -> bool {
        self.word(Word::Mss).load(SeqCst) & CUT != 0
    }

    /// Whether it is a flow, or was: what the table of flows has of it is its own. As long as a session is
    /// on its way there, that is what an earlier one of the same number left.
    pub(super) fn is_flow(self) -> bool {
        let had_begun = matches!(
            self.state(),
            Some(State::Live | State::Closing | State::Passed)
        );
        had_begun && self.word(Word::Recorded).load(SeqCst) != NOTHING
    }

    /// Whether its record is in the log: of another process, it may be.
    pub(super) fn is_recorded(self) -> bool {
        self.word(Word::Recorded).load(SeqCst) == RECORDED
    }

    pub(super) fn set_recorded(self) {
        self.word(Word::Recorded).store(RECORDED, SeqCst);
    }

    /// Whether somebody is to record it who finds it.
    pub(super) fn owes_record(self) -> bool {
        self.word(Word::Recorded).load(SeqCst) >= OWED
    }

    /// From now on, or no more: the session takes the relay.
    pub(super) fn owe_record(self, owes: bool) {
        let word = if owes { OWED } else { NOTHING };
        self.word(Word::Recorded).store(word, SeqCst);
    }

    /// Why it was ended from here, if it was and isn't in the log.
    pub(super) fn ended_for(self) -> Option<End> {
        let word = self.word(Word::Recorded).load(SeqCst);
        let number = word.checked_sub(ENDED)? as usize;
        let [reason, by] = [number / EndBy::ALL.len(), number % EndBy::ALL.len()];
        let reason = *EndReason::ALL.get(reason)?;
        Some(End {
            reason,
            by: EndBy::ALL[by],
        })
    }

    /// It was ended from here: if this process is gone before that is in the log, the next one
    /// is to know.
    pub(super) fn set_ended_for(self, end: End) {
        let number = end.reason as u32 * EndBy::ALL.len() as u32 + end.by as u32;
        self.word(Word::Recorded).store(ENDED + number, SeqCst);
    }

    fn pair(self, word: Word, order: Ordering) -> [u32; 2] {
        let at = word as usize;
        [self.0[at].load(order), self.0[at + 1].load(order)]
    }

    fn word(self, word: Word) -> &'a AtomicU32 {
        &self.0[word as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process may be killed as a session leaves its place, its keys in part.
    #[test]
    fn a_session_that_was_never_handed_over_is_no_flow() {
        let words: [AtomicU32; GATE_WORDS] = std::array::from_fn(|_| AtomicU32::new(7));
        let gate = MappedGate(&words);
        gate.clear();
        for state in State::ALL {
            gate.set(state);
            assert!(!gate.is_flow(), "{state:?}");
        }
        for (state, expected) in State::ALL.into_iter().zip([false, false, true, true, true]) {
            gate.set(state);
            gate.owe_record(true);
            assert_eq!(gate.is_flow(), expected, "{state:?}");
            gate.set_recorded();
            assert_eq!(gate.is_flow(), expected, "{state:?}");
        }
    }

    #[test]
    fn why_a_flow_was_ended_is_known_until_that_is_in_the_log() {
        let words: [AtomicU32; GATE_WORDS] = std::array::from_fn(|_| AtomicU32::new(7));
        let gate = MappedGate(&words);
        gate.clear();
        assert!(!gate.owes_record() && !gate.is_recorded());
        gate.owe_record(true);
        assert!(gate.owes_record() && !gate.is_recorded());
        assert_eq!(gate.ended_for(), None);
        let ends = EndReason::ALL.map(|reason| EndBy::ALL.map(|by| End { reason, by }));
        for end in ends.into_iter().flatten() {
            gate.set_ended_for(end);
            assert_eq!((gate.ended_for(), gate.is_recorded()), (Some(end), false));
        }
        assert!(gate.owes_record());
        gate.set_recorded();
        assert!(!gate.owes_record() && gate.is_recorded());
        assert_eq!(gate.ended_for(), None);
    }
}
