//! Every server's claim on a source: whose is the highest has it. Where a server goes, its sources
//! alone move. (Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998;
//! the weights are Schindelhauer and Schomaker's, "Weighted Distributed Hash Tables", 2005.)

use super::{Hashing, mix};

/// The hashes of some servers' names, in their order.
#[derive(Debug)]
pub(crate) struct Rendezvous {
    names: Box<[u64]>,
}

impl Rendezvous {
    pub(crate) fn new<'a>(hashing: Hashing, names: impl Iterator<Item = &'a str>) -> Self {
        Self {
            names: names.map(|name| hashing.name(name, 0)).collect(),
        }
    }

    /// The claim of a server of this weight on a source with this hash.
    pub(crate) fn claim(&self, number: usize, weight: u32, hash: u64) -> f64 {
        let drawn = mix(self.names[number] ^ hash) >> 11;
        // Above 0 and at most 1.
        let drawn = (drawn + 1) as f64 / (1_u64 << 53) as f64;
        f64::from(weight) / -drawn.ln().min(-f64::MIN_POSITIVE)
    }
}
