//! What leads segments to a flow: its keys in the program's tables, from the first segment of a
//! session to the last late one. And its number.
//!
//! Workers put keys, the sweeper takes them away. Who changes one that is there has its turn: a
//! client may come back from a port whose key lingers yet.

use mailweir_flow::{Key, Late, Place, State};

use crate::metrics::WorkerId;

use super::clock;
use super::flow_table::LINGER;
use super::refusal::Refusal;
use super::{KernelPath, lock};

impl KernelPath {
    /// Has the segments of one side of a session find `place`, also where they found one that is over.
    ///
    /// # Errors
    /// They find one that isn't, or the tables are full.
    pub(super) fn put_key(&self, worker: WorkerId, key: Key, place: Place) -> Result<(), Refusal> {
        if self.tables(worker).put(key, place).is_ok() {
            return Ok(());
        }
        let _turn = lock(&self.turn);
        let found = self.tables(worker).place(key);
        let is_over = found.is_some_and(|found| match found.number() {
            None => true,
            // Its client has come back from the same port.
            Some(number) => self.gates.of(number).state() == Some(State::Passed),
        });
        if found.is_some() && !is_over {
            return Err(Refusal::Busy);
        }
        let put = self.tables(worker).replace(key, place);
        put.map_err(|_| Refusal::TableFull)
    }

    /// From now on a flow is nothing but keys; of one whose client came back not even that.
    pub(super) fn linger(&self, number: u32, keys: [Key; 2]) {
        let gate = self.gates.of(number);
        let flow = self.flow(number);
        let _turn = lock(&self.turn);
        for (side, key) in (0..).zip(keys) {
            let mut tables = lock(self.of_sweeper());
            if tables.place(key).is_none_or(|place| place.flow != number) {
                continue;
            }
            let late = flow
                .as_ref()
                .filter(|_| gate.state() == Some(State::Closing));
            let lingers = late.is_some_and(|flow| {
                let late = Late {
                    told_as: flow.sides[side as usize].told_as,
                    out: gate.ways()[1 - side as usize],
                    until: seconds() + LINGER.as_secs() as u32,
                };
                tables.linger(key, side, &late).is_ok()
            });
            if !lingers {
                // It can only be gone already.
                let _ = tables.remove(key);
            }
        }
    }

    /// No late segment of it can come any more.
    pub(super) fn forget(&self, key: Key, of_server: bool) {
        {
            let _turn = lock(&self.turn);
            let mut tables = lock(self.of_sweeper());
            // That of a later session between the same ports may linger by now.
            if tables
                .lingers_until(key)
                .is_none_or(|until| until <= seconds() + 1)
            {
                tables.forget(key);
            }
        }
        if of_server {
            self.give_port(key);
        }
    }

    /// Forgets what of a flow is in the tables.
    pub(super) fn drop_places(&self, number: u32, keys: [Option<Key>; 2]) {
        {
            let mut tables = lock(self.of_sweeper());
            for key in keys.into_iter().flatten() {
                // It can only be gone already.
                let _ = tables.remove(key);
            }
        }
        self.free_number(number);
    }

    /// None where as many are used as may be.
    pub(super) fn take_number(&self) -> Option<u32> {
        lock(&self.numbers).take()
    }

    pub(super) fn free_number(&self, number: u32) {
        lock(&self.numbers).free(number);
    }
}

fn seconds() -> u32 {
    clock::kernel_time().as_secs() as u32
}
