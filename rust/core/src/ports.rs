//! Source ports that are ours to give: those of sessions on the kernel path, which have no socket
//! that would keep the kernel from giving their ports to somebody else.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// From where to where.
type FromTo = (Ipv4Addr, SocketAddrV4);

/// The ports of each source address towards each server. The one that was given back first is
/// given first: its last segments had the most time to arrive.
#[derive(Debug)]
pub(crate) struct Ports {
    range: RangeInclusive<u16>,
    free: Mutex<HashMap<FromTo, VecDeque<u16>>>,
}

impl Ports {
    pub(crate) fn new(range: RangeInclusive<u16>) -> Self {
        Self {
            range,
            free: Mutex::default(),
        }
    }

    /// A port of `source` towards `server`; none is left where there is none.
    pub(crate) fn take(&self, source: Ipv4Addr, server: SocketAddrV4) -> Option<u16> {
        self.of((source, server), VecDeque::pop_front)
    }

    /// The port is taken already.
    pub(crate) fn claim(&self, source: Ipv4Addr, server: SocketAddrV4, port: u16) {
        self.of((source, server), |free| free.retain(|one| *one != port));
    }

    /// The port is free again.
    pub(crate) fn give(&self, source: Ipv4Addr, server: SocketAddrV4, port: u16) {
        self.of((source, server), |free| free.push_back(port));
    }

    fn of<T>(&self, pair: FromTo, use_them: impl FnOnce(&mut VecDeque<u16>) -> T) -> T {
        let mut free = self.lock();
        use_them(free.entry(pair).or_insert_with(|| self.all()))
    }

    /// All ports, from any of them on: those that another process used last before this one
    /// began aren't the first again.
    fn all(&self) -> VecDeque<u16> {
        let mut ports: VecDeque<u16> = self.range.clone().collect();
        let start = RandomState::new().build_hasher().finish() as usize;
        if !ports.is_empty() {
            ports.rotate_left(start % ports.len());
        }
        ports
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FromTo, VecDeque<u16>>> {
        // What a panic leaves is a port that is given to nobody.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 2), 25);

    #[test]
    fn each_pair_has_all_ports_once() {
        let ports = Ports::new(10..=12);
        let all = |source| {
            let mut taken: Vec<u16> = std::iter::from_fn(|| ports.take(source, SERVER)).collect();
            taken.sort_unstable();
            taken
        };
        assert_eq!(all(SOURCE), [10, 11, 12]);
        assert_eq!(all(Ipv4Addr::LOCALHOST), [10, 11, 12]);
        assert_eq!(ports.take(SOURCE, SERVER), None);
    }

    #[test]
    fn who_was_given_back_first_is_taken_first() {
        let ports = Ports::new(10..=12);
        let taken: Vec<u16> = std::iter::from_fn(|| ports.take(SOURCE, SERVER)).collect();
        for port in &taken {
            ports.give(SOURCE, SERVER, *port);
        }
        let again: Vec<u16> = std::iter::from_fn(|| ports.take(SOURCE, SERVER)).collect();
        assert_eq!(again, taken);
    }
}
