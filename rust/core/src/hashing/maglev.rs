//! A table with many rows for each server: one look says whose a source is. (Eisenbud and others,
//! "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4.)

use super::{Hashing, mix};

/// A prime, large enough that the shares of a hundred servers are right within a percent.
pub(crate) const ROWS: usize = 65_537;

/// A row that nobody has yet.
const NOBODY: u16 = u16::MAX;

/// The table of some servers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Maglev {
    hashing: Hashing,
    /// By name; only those that have a weight.
    servers: Box<[(Box<str>, u32)]>,
    /// The number of a server in that.
    rows: Box<[u16]>,
}

/// A server while rows are given out: its own order of all rows, and when it may have the next.
struct Turn {
    offset: u64,
    skip: u64,
    next: u64,
    due: u64,
}

impl Maglev {
    /// Whether the table of these would be this one; see [`build`](Self::build).
    pub(crate) fn is_of<'a>(
        &self,
        hashing: Hashing,
        servers: impl Iterator<Item = (&'a str, u32)>,
    ) -> bool {
        let servers = sorted(servers);
        let own = self.servers.iter().map(|(name, weight)| (&**name, *weight));
        self.hashing == hashing && own.eq(servers.iter().copied())
    }

    /// The table of servers by name and weight, in any order; those of weight 0 have no rows.
    pub(crate) fn build<'a>(
        hashing: Hashing,
        servers: impl Iterator<Item = (&'a str, u32)>,
    ) -> Self {
        let servers = sorted(servers);
        let rows = give_out(hashing, &servers);
        Self {
            hashing,
            servers: servers
                .into_iter()
                .map(|(name, weight)| (name.into(), weight))
                .collect(),
            rows,
        }
    }

    /// The names of the servers, by their numbers.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.servers.iter().map(|(name, _)| &**name)
    }

    /// The number of the server whose a source with this hash is; where that one can't be, those
    /// of later attempts are as good as drawn by lot, and the same on every balancer.
    pub(crate) fn find(&self, hash: u64, attempt: u64) -> Option<usize> {
        let hash = if attempt == 0 {
            hash
        } else {
            mix(hash ^ attempt)
        };
        let row = ((u128::from(hash) * ROWS as u128) >> 64) as usize;
        self.rows.get(row).map(|number| usize::from(*number))
    }
}

fn sorted<'a>(servers: impl Iterator<Item = (&'a str, u32)>) -> Vec<(&'a str, u32)> {
    let mut servers: Vec<_> = servers.filter(|(_, weight)| *weight > 0).collect();
    servers.sort_unstable();
    servers.truncate(usize::from(NOBODY));
    servers
}

fn give_out(hashing: Hashing, servers: &[(&str, u32)]) -> Box<[u16]> {
    let Some(heaviest) = servers.iter().map(|(_, weight)| u64::from(*weight)).max() else {
        return Box::default();
    };
    let size = ROWS as u64;
    let mut turns: Vec<Turn> = servers
        .iter()
        .map(|(name, _)| Turn {
            offset: hashing.name(name, 1) % size,
            skip: hashing.name(name, 2) % (size - 1) + 1,
            next: 0,
            due: 0,
        })
        .collect();
    let mut rows = vec![NOBODY; ROWS];
    let mut left = ROWS;
    // In each round the heaviest have a turn, and the others as often as they weigh less.
    for round in 1_u64.. {
        for (number, turn) in turns.iter_mut().enumerate() {
            let weight = u64::from(servers[number].1);
            if round * weight < turn.due {
                continue;
            }
            turn.due += heaviest;
            let row = turn.first_free(&rows);
            rows[row] = u16::try_from(number).unwrap_or(NOBODY);
            left -= 1;
            if left == 0 {
                return rows.into();
            }
        }
    }
    rows.into()
}

impl Turn {
    fn first_free(&mut self, rows: &[u16]) -> usize {
        loop {
            let row = ((self.offset + self.next * self.skip) % ROWS as u64) as usize;
            self.next += 1;
            if rows[row] == NOBODY {
                return row;
            }
        }
    }
}
