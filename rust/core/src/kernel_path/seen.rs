//! Which clients' segments come by the program: it notes their SYNs in memory.

use std::io;
use std::sync::atomic::Ordering::SeqCst;

use mailweir_flow::{SYN_WORDS, Tables};

use crate::sys::MappedWords;

use super::leg::Syn;

/// The SYNs that came in lately.
#[derive(Debug)]
pub(super) struct Seen(MappedWords);

impl Seen {
    /// # Errors
    /// What the kernel says.
    pub(super) fn map(tables: &Tables) -> io::Result<Self> {
        Ok(Self(MappedWords::map(tables.syns_handle(), SYN_WORDS)?))
    }

    /// Whether the program saw this one, before the stack did. One that another SYN took the place of
    /// counts as unseen.
    pub(super) fn has(&self, syn: &Syn) -> bool {
        let (at, words) = Tables::syn_of(syn.key.from, syn.isn);
        let noted = [at, at + 1].map(|at| self.0[at].load(SeqCst));
        noted == words
    }
}
