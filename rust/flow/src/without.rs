//! What SYNs are to be without, so that both legs of a session have the same. Their offer of ECN is
//! always taken back.

use std::net::SocketAddrV4;

use crate::layout::{Listener, Reserved, WITHOUT_SACK, WITHOUT_TIMESTAMPS};

/// Options that a SYN is to be without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Without {
    /// Time stamps (RFC 7323).
    pub timestamps: bool,
    /// Selective acknowledgements (RFC 2018).
    pub sack: bool,
}

impl Without {
    /// What either is without.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            timestamps: self.timestamps || other.timestamps,
            sack: self.sack || other.sack,
        }
    }

    /// As the program reads it, in [`Gate::mss`](crate::Gate::mss) too.
    #[must_use]
    pub fn bits(self) -> u32 {
        let bit = |is_set, bit| if is_set { bit } else { 0 };
        bit(self.timestamps, WITHOUT_TIMESTAMPS) | bit(self.sack, WITHOUT_SACK)
    }

    /// The opposite of [`Without::bits`], whatever else there is.
    #[must_use]
    pub fn of(bits: u32) -> Self {
        Self {
            timestamps: bits & WITHOUT_TIMESTAMPS != 0,
            sack: bits & WITHOUT_SACK != 0,
        }
    }
}

/// A listener's address as the table has it; 0.0.0.0 stands for all.
pub(crate) fn listener(address: SocketAddrV4) -> [u8; Listener::SIZE] {
    let listener = Listener {
        address: *address.ip(),
        port: address.port().to_be_bytes(),
        reserved: Reserved,
    };
    listener.to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_without_comes_back() {
        for (timestamps, sack) in [(false, false), (true, false), (false, true), (true, true)] {
            let without = Without { timestamps, sack };
            assert_eq!(Without::of(without.bits() | 0x8000_ffff), without);
            // Beside the segment size and `CUT`.
            assert_eq!(without.bits() & (crate::layout::CUT | 0xffff), 0);
        }
    }
}
