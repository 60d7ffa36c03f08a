//! A flow by its number: how it stands, and what its peers are told of it. The sweeper's.

use mailweir_flow::{Flow, Key, State};

use crate::record::{End, Side};

use super::flow_table::Sight;
use super::gates::MappedGate;
use super::{KernelPath, lock};

impl KernelPath {
    pub(super) fn flow(&self, number: u32) -> Option<Flow> {
        lock(self.of_sweeper()).flow(number).ok()
    }

    pub(super) fn sight(&self, number: u32) -> Sight {
        let gate = self.gates.of(number);
        Sight {
            state: gate.state(),
            greeting_is_due: gate.greeting_is_due(),
        }
    }

    /// Asks client and server whether they are there, as far as they are to be asked: by whom each was
    /// asked.
    pub(super) fn ask(&self, gate: MappedGate<'_>, flow: &Flow, asks: [bool; 2]) -> Vec<Key> {
        let sides = [Side::Client, Side::Server].into_iter().zip(asks);
        let asked = sides.filter(|(_, is_asked)| *is_asked);
        let said = asked.filter_map(|(side, _)| self.voice.ask(flow, side, gate.clocks()));
        let said: Vec<Key> = said.collect();
        self.keepalives.add(said.len() as u64);
        said
    }

    /// Ends a flow for this reason, unless more came than was `counted` when that was found, or its peers
    /// can't be told now; whether it did.
    pub(super) fn cut(&self, number: u32, why: End, counted: [u32; 2]) -> bool {
        let gate = self.gates.of(number);
        if !gate.change(State::Live, State::Hold) {
            return false;
        }
        let moves = gate.counted() != counted && !why.reason.is_at_once();
        if moves {
            gate.change(State::Hold, State::Live);
            return false;
        }
        if let Some(flow) = self.flow(number)
            && !self.voice.end(&flow)
        {
            // Its peers would go on: it is tried again.
            gate.change(State::Hold, State::Live);
            return false;
        }
        gate.set(State::Closing);
        true
    }

    /// Ends a flow whose peers nobody else can tell so.
    pub(super) fn abandon(&self, number: u32) {
        let gate = self.gates.of(number);
        gate.set(State::Hold);
        if let Some(flow) = self.flow(number) {
            self.voice.end_early(&flow);
        }
        gate.set(State::Closing);
    }
}
