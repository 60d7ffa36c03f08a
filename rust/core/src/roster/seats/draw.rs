//! Drawing a server by lot, of those of a pool that can be picked.

use crate::hashing::mix;

use super::Seats;

/// Tries to draw a server by its weight before it is counted off.
const DRAWS: usize = 32;

impl Seats {
    /// One of those that can be picked, at random by weight.
    pub(crate) fn draw(&mut self) -> Option<usize> {
        let number = self.seats.len() as u64;
        if number == 0 {
            return None;
        }
        // One drawn without regard to its weight is taken as often as that weighs.
        for _ in 0..DRAWS {
            let seat = self.random_below(number) as usize;
            let weight = u64::from(self.seats[seat].weight());
            if self.is_pickable(seat) && self.random_below(self.heaviest.max(1)) < weight {
                return Some(seat);
            }
        }
        self.count_off()
    }

    /// The same where few of many can be picked.
    fn count_off(&mut self) -> Option<usize> {
        let pickable = (0..self.seats.len()).filter(|seat| self.is_pickable(*seat));
        let weights: Vec<(usize, u64)> = pickable
            .map(|seat| (seat, u64::from(self.seats[seat].weight())))
            .collect();
        let whole: u64 = weights.iter().map(|(_, weight)| weight).sum();
        let mut left = self.random_below(whole.max(1));
        for (seat, weight) in weights {
            if left < weight {
                return Some(seat);
            }
            left -= weight;
        }
        None
    }

    fn random_below(&mut self, bound: u64) -> u64 {
        self.random = mix(self.random);
        ((u128::from(self.random) * u128::from(bound)) >> 64) as u64
    }
}
