//! Who has the least load and whose turn it is, among a thousand servers as quickly as among ten:
//! of every sixteen seats the first by either order is kept.

/// Seats that have a summary together.
const BLOCK: usize = 16;
/// The load of a server that can't be picked now.
pub(super) const NEVER: u64 = u64::MAX;

/// Loads and turns of all seats.
#[derive(Debug, Default)]
pub(super) struct Ranking {
    ranks: Vec<Rank>,
    summaries: Vec<Summary>,
}

/// Where one seat stands. Compared by the load first: turns decide between equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// Sessions for the weight, or [`NEVER`].
    pub(super) load: u64,
    /// The place in the rotation; the least is next.
    pub(super) pass: u64,
}

/// The first ones of a block, each with its seat.
#[derive(Debug, Clone, Copy)]
struct Summary {
    least: (Rank, usize),
    /// Of those that can be picked.
    next: (u64, usize),
}

impl Rank {
    /// Of a seat that can't be picked, and never was.
    pub(super) const NEW: Self = Self {
        load: NEVER,
        pass: 0,
    };
}

const LAST: Rank = Rank {
    load: NEVER,
    pass: u64::MAX,
};

impl Ranking {
    /// One more seat, which can't be picked.
    pub(super) fn add(&mut self) {
        self.ranks.push(Rank::NEW);
        self.summaries.resize(
            self.ranks.len().div_ceil(BLOCK),
            Summary {
                least: (LAST, 0),
                next: (u64::MAX, 0),
            },
        );
    }

    /// One seat less: the last.
    pub(super) fn remove(&mut self) {
        if self.ranks.pop().is_some() {
            self.summaries.truncate(self.ranks.len().div_ceil(BLOCK));
            if let Some(last) = self.ranks.len().checked_sub(1) {
                self.summarize(last);
            }
        }
    }

    pub(super) fn of(&self, seat: usize) -> Rank {
        self.ranks[seat]
    }

    pub(super) fn set(&mut self, seat: usize, rank: Rank) {
        self.ranks[seat] = rank;
        self.summarize(seat);
    }

    pub(super) fn is_pickable(&self, seat: usize) -> bool {
        self.ranks[seat].load != NEVER
    }

    /// Whether any can be picked.
    pub(super) fn any(&self) -> bool {
        self.summaries.iter().any(|one| one.least.0.load != NEVER)
    }

    /// The least load of those that suit; the next in turn of equals.
    pub(super) fn least(&self, suits: impl Fn(usize) -> bool) -> Option<usize> {
        let (rank, seat) = self.summaries.iter().map(|one| one.least).min()?;
        if rank.load == NEVER {
            return None;
        }
        if suits(seat) {
            return Some(seat);
        }
        self.pickable(suits).min().map(|(_, seat)| seat)
    }

    /// The next in turn of those that suit.
    pub(super) fn next_in_turn(&self, suits: impl Fn(usize) -> bool) -> Option<usize> {
        let (pass, seat) = self.summaries.iter().map(|one| one.next).min()?;
        if pass == u64::MAX {
            return None;
        }
        if suits(seat) {
            return Some(seat);
        }
        let suiting = self.pickable(suits);
        suiting
            .min_by_key(|(rank, seat)| (rank.pass, *seat))
            .map(|(_, seat)| seat)
    }

    fn pickable(&self, suits: impl Fn(usize) -> bool) -> impl Iterator<Item = (Rank, usize)> {
        let ranks = self.ranks.iter().copied().zip(0..);
        ranks.filter(move |(rank, seat)| rank.load != NEVER && suits(*seat))
    }

    fn summarize(&mut self, seat: usize) {
        let first = seat / BLOCK * BLOCK;
        let last = (first + BLOCK).min(self.ranks.len());
        let mut summary = Summary {
            least: (LAST, 0),
            next: (u64::MAX, 0),
        };
        for (seat, rank) in (first..).zip(&self.ranks[first..last]) {
            if rank.load == NEVER {
                continue;
            }
            if *rank < summary.least.0 {
                summary.least = (*rank, seat);
            }
            if rank.pass < summary.next.0 {
                summary.next = (rank.pass, seat);
            }
        }
        self.summaries[seat / BLOCK] = summary;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever changes, the first ones are those that a look at all of them finds.
        #[test]
        fn the_first_ones_are_known(
            number in 1_usize..60,
            changes in prop::collection::vec(
                (any::<prop::sample::Index>(), 0_u64..4, 0_u64..9), 1..100),
            barred in any::<prop::sample::Index>(),
        ) {
            let mut ranking = Ranking::default();
            (0..number + 3).for_each(|_| ranking.add());
            (0..3).for_each(|_| ranking.remove());
            let mut ranks = vec![LAST; number];
            let barred = barred.index(number);
            for (seat, load, pass) in changes {
                let load = if load == 3 { NEVER } else { load };
                let seat = seat.index(number);
                ranks[seat] = Rank { load, pass };
                ranking.set(seat, ranks[seat]);
                let pickable = |suits: &dyn Fn(usize) -> bool| -> Vec<(Rank, usize)> {
                    let all = ranks.iter().copied().zip(0..);
                    all.filter(|(rank, seat)| rank.load != NEVER && suits(*seat)).collect()
                };
                let (all, most): (&dyn Fn(usize) -> bool, &dyn Fn(usize) -> bool) =
                    (&|_| true, &|seat| seat != barred);
                for suits in [all, most] {
                    let found = pickable(suits);
                    let least = found.iter().min().map(|(_, seat)| *seat);
                    prop_assert_eq!(ranking.least(suits), least);
                    let next = found.iter().min_by_key(|(rank, seat)| (rank.pass, *seat));
                    prop_assert_eq!(ranking.next_in_turn(suits), next.map(|(_, seat)| *seat));
                }
                prop_assert_eq!(ranking.any(), !pickable(&|_| true).is_empty());
            }
        }
    }
}
