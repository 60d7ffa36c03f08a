//! The program's gates, as they are mapped into memory: what becomes of each flow's segments.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{self, Relaxed, SeqCst};

use mailweir_flow::layout::GATE_WORDS;
use mailweir_flow::{MOST_FLOWS, State, Tables, Word};

use crate::sys::Words;

/// All gates.
#[derive(Debug)]
pub(super) struct Gates(Words);

impl Gates {
    /// # Errors
    /// What the kernel says.
    pub(super) fn map(tables: &Tables) -> io::Result<Self> {
        let words = MOST_FLOWS as usize * GATE_WORDS;
        Ok(Self(Words::map(tables.gates_handle(), words)?))
    }

    pub(super) fn of(&self, number: u32) -> Gate<'_> {
        let at = number as usize * GATE_WORDS;
        Gate(&self.0[at..at + GATE_WORDS])
    }

    /// Has segments that were to go out by one of the `old` interfaces go by `new` from now on.
    pub(super) fn lead_to(&self, new: u32, old: &HashSet<u32>) {
        for number in 0..MOST_FLOWS {
            let out = &self.of(number).0[Word::Out as usize..][..2];
            for way in out {
                // The program may write it at the same time: what it says is newer.
                let now = way.load(Relaxed);
                if now != new && old.contains(&now) {
                    let _ = way.compare_exchange(now, new, SeqCst, Relaxed);
                }
            }
        }
    }
}

/// One flow's. Each word is the program's to write or ours, but for the state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gate<'a>(&'a [AtomicU32]);

impl<'a> Gate<'a> {
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
    pub(super) fn client_is_at(self, next: u32) {
        self.word(Word::Next).store(next, SeqCst);
    }

    /// The client's time stamp, as long as no segment has said a later one; 0 for none.
    pub(super) fn client_has(self, tsval: u32) {
        self.word(Word::Tsval).store(tsval, SeqCst);
    }

    /// Behind what the client said last, as it was set.
    pub(super) fn client_next(self) -> u32 {
        self.word(Word::Next).load(SeqCst)
    }

    /// The interface that leads to the client, as long as no segment has shown another one.
    pub(super) fn set_way_to_client(self, interface: u32) {
        self.word(Word::Out).store(interface, SeqCst);
    }

    /// The interface that leads to the server; 0 where no segment went there.
    pub(super) fn way_to_server(self) -> u32 {
        self.pair(Word::Out, SeqCst)[1]
    }

    /// Of client and server: when the other acknowledged something new of each last; 0 for never.
    pub(super) fn said(self) -> [u32; 2] {
        self.pair(Word::Said, Relaxed)
    }

    /// The largest segment that the server takes, options included; 0 where it said nothing.
    pub(super) fn server_takes(self) -> u32 {
        self.word(Word::Takes).load(SeqCst)
    }

    /// Whether the record of it was closed: by another process, it may be.
    pub(super) fn is_recorded(self) -> bool {
        self.word(Word::Recorded).load(SeqCst) != 0
    }

    pub(super) fn set_recorded(self) {
        self.word(Word::Recorded).store(1, SeqCst);
    }

    fn pair(self, word: Word, order: Ordering) -> [u32; 2] {
        let at = word as usize;
        [self.0[at].load(order), self.0[at + 1].load(order)]
    }

    fn word(self, word: Word) -> &'a AtomicU32 {
        &self.0[word as usize]
    }
}
