//! Which server a source's hash says, the same on every balancer and in every process: by the
//! names of the servers, their weights, and a seed that is configured.

mod maglev;
mod rendezvous;

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

pub(crate) use maglev::Maglev;
pub(crate) use rendezvous::Rendezvous;

/// What a seed makes of names and sources. SipHash: who doesn't know the seed can't choose
/// addresses that meet at one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hashing {
    keys: (u64, u64),
}

impl Hashing {
    pub(crate) fn new(seed: &str) -> Self {
        let half = |number: u64| {
            let mut hasher = SipHasher13::new_with_keys(number, !number);
            hasher.write(seed.as_bytes());
            hasher.finish()
        };
        Self {
            keys: (half(1), half(2)),
        }
    }

    fn name(self, name: &str, purpose: u8) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.keys.0, self.keys.1);
        hasher.write(name.as_bytes());
        hasher.write_u8(purpose);
        hasher.finish()
    }

    /// The hash of a source.
    pub(crate) fn source(self, key: u128) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.keys.0, self.keys.1);
        // As bytes of one order, on any machine.
        hasher.write(&key.to_le_bytes());
        hasher.finish()
    }
}

/// A number that looks as if it had nothing to do with `number`. (The end of SplitMix64: Steele,
/// Lea and Flood, "Fast splittable pseudorandom number generators", 2014.)
pub(crate) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests;
