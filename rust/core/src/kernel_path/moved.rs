//! Which flows moved, as the program marks them in memory: a bit for each.

use std::io;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use mailweir_flow::Tables;

use crate::sys::MappedWords;

/// All bits.
#[derive(Debug)]
pub(super) struct Moved(MappedWords);

impl Moved {
    /// # Errors
    /// What the kernel says.
    pub(super) fn map(tables: &Tables) -> io::Result<Self> {
        let words = 2 * tables.most_flows().div_ceil(u64::BITS) as usize;
        Ok(Self(MappedWords::map(tables.moved_handle(), words)?))
    }

    /// Has a flow looked at.
    pub(super) fn mark(&self, number: u32) {
        let word = &self.0[(number / u32::BITS) as usize];
        word.fetch_or(1 << (number % u32::BITS), SeqCst);
    }

    /// Those that were marked since the last call. What they did before they were is seen
    /// after it (see `mark` in flow.bpf.c).
    pub(super) fn take(&self) -> Vec<u32> {
        let mut numbers = vec![];
        for (at, word) in (0..).zip(self.0.iter()) {
            if word.load(Relaxed) == 0 {
                continue;
            }
            let mut bits = word.swap(0, SeqCst);
            while bits != 0 {
                numbers.push(at * u32::BITS + bits.trailing_zeros());
                bits &= bits - 1;
            }
        }
        numbers
    }
}
