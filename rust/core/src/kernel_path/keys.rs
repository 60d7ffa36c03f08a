//! What leads segments to a flow: its keys in the program's tables, from the first segment of a
//! session to the last late one. And its number.
//!
//! Workers put keys, the sweeper takes them away. Who changes one that is there has its turn: a
//! client may come back from a port whose key lingers yet.

use std::sync::MutexGuard;

use mailweir_flow::{Key, Late, Place, State, Tables};

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

    /// From now on these flows are nothing but keys; of one whose client came back not even that.
    pub(super) fn linger(&self, over: &[(u32, [Key; 2])]) {
        let flows: Vec<_> = over.iter().map(|(number, _)| self.flow(*number)).collect();
        let _turn = lock(&self.turn);
        let mut tables = lock(self.of_sweeper());
        let mut late = vec![];
        for ((number, keys), flow) in over.iter().zip(flows) {
            let gate = self.gates.of(*number);
            // Its keys are its own as long as its client hasn't come back.
            let Some(flow) = flow.filter(|_| gate.state() == Some(State::Closing)) else {
                remove_own(&mut tables, *number, *keys);
                continue;
            };
            let [client, server] = gate.ways();
            let until = seconds() + LINGER.as_secs() as u32;
            for (side, out) in [server, client].into_iter().enumerate() {
                let told_as = flow.sides[side].told_as;
                let told = Late {
                    told_as,
                    out,
                    until,
                };
                late.push((keys[side], side as u32, told));
            }
        }
        tables.linger(&late);
    }

    /// No late segments with these keys can come any more; whether it is the server that says it, by
    /// each. None is left.
    pub(super) fn forget(&self, over: &mut Vec<(Key, bool)>) {
        {
            let _turn = lock(&self.turn);
            let mut tables = lock(self.of_sweeper());
            let now = seconds() + 1;
            // Ours with the server is nobody else's yet.
            let ended = over
                .iter()
                .filter(|(key, of_server)| *of_server || is_over(&tables, *key, now));
            let ended: Vec<_> = ended.map(|(key, _)| *key).collect();
            tables.forget(&ended);
        }
        // One by one: after a panic no port is given back twice.
        while let Some((key, of_server)) = over.pop() {
            if of_server {
                self.give_port(key);
            }
        }
    }

    /// Forgets what of a flow is in the tables; `tables` are taken when it is its turn.
    pub(super) fn drop_places<'a>(
        &self,
        tables: impl FnOnce() -> MutexGuard<'a, Tables>,
        number: u32,
        keys: impl IntoIterator<Item = Key>,
    ) {
        {
            let _turn = lock(&self.turn);
            remove_own(&mut tables(), number, keys);
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

/// Removes keys that lead to this flow: one may lead to a later session of the same client by now.
fn remove_own(tables: &mut Tables, number: u32, keys: impl IntoIterator<Item = Key>) {
    for key in keys {
        if tables.place(key).is_some_and(|place| place.flow == number) {
            tables.remove(key);
        }
    }
}

/// Whether a client's key leads to nothing but what is left of a flow, and that is over by now: it may
/// have come back from its port, and there is a flow, or a later one lingers. Of what a process left that
/// was killed as it forgot this, a key may be all that there is.
fn is_over(tables: &Tables, key: Key, now: u32) -> bool {
    let lingers = tables
        .place(key)
        .is_some_and(|place| place.number().is_none());
    lingers && tables.lingers_until(key).is_none_or(|until| until <= now)
}

fn seconds() -> u32 {
    clock::kernel_time().as_secs() as u32
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use mailweir_flow::{Program, Translation};

    use super::*;

    fn key(port: u16) -> Key {
        Key {
            from: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
            to: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 2525),
        }
    }

    /// Where the program can be loaded at all; the flow crate's tests fail in CI where it can't.
    #[test]
    fn the_key_of_a_client_that_came_back_stays() {
        let Ok(mut program) = Program::load() else {
            return;
        };
        let tables = program.tables();
        let [client, server] = [key(25), key(26)];
        let place = |flow| Place { flow, side: 0 };
        tables.put(client, place(1)).unwrap();
        tables.put(server, place(1)).unwrap();
        tables.replace(client, place(2)).unwrap();
        remove_own(tables, 1, [client, server]);
        assert_eq!(tables.place(client), Some(place(2)));
        assert_eq!(tables.place(server), None);
        remove_own(tables, 2, [client]);
        assert_eq!(tables.place(client), None);
    }

    /// Where the program can be loaded at all, likewise.
    #[test]
    fn what_is_left_of_a_flow_is_forgotten_and_no_session() {
        let Ok(mut program) = Program::load() else {
            return;
        };
        let tables = program.tables();
        let late = |until| Late {
            told_as: Translation::to(key(7)),
            out: 3,
            until,
        };
        let [over, later, back, left, nobody] = [1, 2, 3, 4, 5].map(key);
        tables.linger(&[(over, 0, late(9)), (later, 0, late(11)), (back, 0, late(9))]);
        // Its client has come back.
        tables.replace(back, Place { flow: 3, side: 0 }).unwrap();
        // A process was killed as it forgot that.
        let place = Place {
            flow: Place::LINGERS,
            side: 0,
        };
        tables.put(left, place).unwrap();
        let is_over = |key| is_over(tables, key, 10);
        assert_eq!(
            [over, later, back, left, nobody].map(is_over),
            [true, false, false, true, false]
        );
    }
}
