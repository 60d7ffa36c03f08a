//! Source ports that are ours to give: those of sessions on the kernel path, which have no socket
//! that would keep the kernel from giving their ports to somebody else.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// From where to where.
type FromTo = (Ipv4Addr, SocketAddrV4);

/// The ports of each source address towards each server. They are given in turn, so that the last
/// segments of one that was given back have the most time to arrive.
#[derive(Debug)]
pub(crate) struct Ports {
    range: RangeInclusive<u16>,
    /// Of pairs of which a port is taken.
    pairs: Mutex<HashMap<FromTo, Taken>>,
}

/// The ports of one pair: a bit for each that is taken.
#[derive(Debug)]
struct Taken {
    words: Box<[u64]>,
    /// Ports that there are, and how many of them are taken.
    all: usize,
    taken: usize,
    /// Where the next one is looked for.
    turn: usize,
}

impl Taken {
    /// None is. The turn begins at any of them: those that another process used last before this
    /// one began aren't the first again.
    fn none(all: usize) -> Self {
        let start = RandomState::new().build_hasher().finish() as usize;
        Self {
            words: vec![0; all.div_ceil(BITS)].into(),
            all,
            taken: 0,
            turn: start.checked_rem(all).unwrap_or_default(),
        }
    }

    fn take(&mut self) -> Option<usize> {
        if self.taken >= self.all {
            return None;
        }
        let mut at = self.turn;
        // The rest of a word at a time.
        loop {
            let free = !(self.words[at / BITS] >> (at % BITS));
            let next = at + free.trailing_zeros() as usize;
            let end = self.all.min((at / BITS + 1) * BITS);
            if next < end {
                self.claim(next);
                self.turn = (next + 1) % self.all;
                return Some(next);
            }
            at = end % self.all;
        }
    }

    fn claim(&mut self, at: usize) {
        if let Some(word) = self.words.get_mut(at / BITS) {
            let bit = 1 << (at % BITS);
            self.taken += usize::from(*word & bit == 0);
            *word |= bit;
        }
    }

    fn give(&mut self, at: usize) {
        if let Some(word) = self.words.get_mut(at / BITS) {
            let bit = 1 << (at % BITS);
            self.taken -= usize::from(*word & bit != 0);
            *word &= !bit;
        }
    }
}

const BITS: usize = u64::BITS as usize;

impl Ports {
    pub(crate) fn new(range: RangeInclusive<u16>) -> Self {
        Self {
            range,
            pairs: Mutex::default(),
        }
    }

    /// A port of `source` towards `server`; none is left where there is none.
    pub(crate) fn take(&self, source: Ipv4Addr, server: SocketAddrV4) -> Option<u16> {
        let taken = self.of((source, server), Taken::take)?;
        self.range.clone().nth(taken)
    }

    /// The port is taken already.
    pub(crate) fn claim(&self, source: Ipv4Addr, server: SocketAddrV4, port: u16) {
        if let Some(at) = self.place(port) {
            self.of((source, server), |pair| pair.claim(at));
        }
    }

    /// The port is free again.
    pub(crate) fn give(&self, source: Ipv4Addr, server: SocketAddrV4, port: u16) {
        if let Some(at) = self.place(port) {
            self.of((source, server), |pair| pair.give(at));
        }
    }

    fn place(&self, port: u16) -> Option<usize> {
        let is_ours = self.range.contains(&port);
        is_ours.then(|| usize::from(port - self.range.start()))
    }

    /// A pair of which nothing is taken afterwards is forgotten.
    fn of<T>(&self, pair: FromTo, use_them: impl FnOnce(&mut Taken) -> T) -> T {
        let mut pairs = self.lock();
        let found = pairs
            .entry(pair)
            .or_insert_with(|| Taken::none(self.range.len()));
        let used = use_them(found);
        if found.taken == 0 {
            pairs.remove(&pair);
        }
        used
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FromTo, Taken>> {
        // What a panic leaves is a port that is given to nobody.
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 2), 25);

    #[test]
    fn each_pair_has_all_ports_once() {
        for range in [10..=12, 10_000..=10_127, 1..=65_535] {
            let ports = Ports::new(range.clone());
            let all = |source| {
                let taken = std::iter::from_fn(|| ports.take(source, SERVER));
                taken.collect::<Vec<u16>>()
            };
            for source in [SOURCE, Ipv4Addr::LOCALHOST] {
                let mut taken = all(source);
                taken.sort_unstable();
                assert!(taken.into_iter().eq(range.clone()));
            }
            assert_eq!(ports.take(SOURCE, SERVER), None);
        }
    }

    #[test]
    fn they_are_taken_in_turn() {
        let ports = Ports::new(10..=13);
        ports.take(SOURCE, SERVER);
        let first = ports.take(SOURCE, SERVER).unwrap();
        ports.give(SOURCE, SERVER, first);
        for _ in 0..2 {
            assert_ne!(ports.take(SOURCE, SERVER), Some(first));
        }
        assert_eq!(ports.take(SOURCE, SERVER), Some(first));
    }

    #[test]
    fn what_nobody_uses_is_forgotten() {
        let ports = Ports::new(10..=12);
        ports.claim(SOURCE, SERVER, 9);
        ports.give(SOURCE, SERVER, 11);
        assert!(ports.lock().is_empty());
        ports.claim(SOURCE, SERVER, 11);
        let port = ports.take(SOURCE, SERVER).unwrap();
        assert_ne!(port, 11);
        for port in [port, 11] {
            assert!(!ports.lock().is_empty());
            ports.give(SOURCE, SERVER, port);
        }
        assert!(ports.lock().is_empty());
    }

    proptest! {
        /// Nobody has a port that another one has.
        #[test]
        fn none_is_given_twice(steps: Vec<Option<prop::sample::Index>>, size in 1..140_u16) {
            let ports = Ports::new(1..=size);
            let mut taken: Vec<u16> = vec![];
            for step in steps {
                match step {
                    Some(which) if !taken.is_empty() => {
                        let port = taken.swap_remove(which.index(taken.len()));
                        ports.give(SOURCE, SERVER, port);
                    }
                    _ => {
                        let port = ports.take(SOURCE, SERVER);
                        prop_assert_eq!(port.is_none(), taken.len() == usize::from(size));
                        taken.extend(port);
                    }
                }
                let distinct: HashSet<_> = taken.iter().collect();
                prop_assert_eq!(distinct.len(), taken.len());
            }
        }
    }
}
