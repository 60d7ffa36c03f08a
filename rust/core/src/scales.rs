//! Window scales (RFC 7323, 2) that servers announce, as their connections tell, and the one that
//! fits all servers of a pool. The kernel path is taken where what is announced to a client is no
//! larger than what its server announced.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::moment::AtomicMoment;

/// The least that is announced to clients, whatever their servers say: 512 KiB of window. One of
/// less would hold back whoever sends from far away, on the relay as well.
pub(crate) const LEAST: u8 = 3;
/// Of systems that are as they came; until servers have said theirs.
const USUAL: u8 = 7;
/// For so long the smallest that was heard goes on to count.
const LASTS: Duration = Duration::from_secs(60);

/// The smallest scale that a server announced lately.
#[derive(Debug, Default)]
pub(crate) struct HeardScale {
    /// One more, so that none has a number as well.
    smallest: AtomicU8,
    heard: AtomicMoment,
}

impl HeardScale {
    /// It announced `scale`; whether that changes what counts.
    pub(crate) fn hear(&self, scale: u8, now: Instant) -> bool {
        let known = self.heard.read();
        let is_old = known.is_none_or(|heard| now.duration_since(heard) >= LASTS);
        if !is_old && self.smallest().is_some_and(|smallest| scale > smallest) {
            return false;
        }
        self.heard.set(now);
        self.smallest.swap(scale + 1, Relaxed) != scale + 1
    }

    pub(crate) fn smallest(&self) -> Option<u8> {
        self.smallest.load(Relaxed).checked_sub(1)
    }
}

/// What fits all servers that announced these, or nothing yet.
pub(crate) fn fitting(servers: impl Iterator<Item = Option<u8>>) -> u8 {
    servers.flatten().min().unwrap_or(USUAL).max(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_of_late_counts() {
        let start = Instant::now();
        let heard = HeardScale::default();
        assert_eq!(heard.smallest(), None);
        assert!(heard.hear(7, start));
        assert!(!heard.hear(7, start));
        assert!(!heard.hear(8, start));
        assert!(heard.hear(0, start + LASTS / 2));
        assert_eq!(heard.smallest(), Some(0));
        // Another server behind the same address, say: the smaller one is still about.
        assert!(!heard.hear(7, start + LASTS));
        assert_eq!(heard.smallest(), Some(0));
        assert!(heard.hear(7, start + LASTS / 2 + LASTS));
        assert_eq!(heard.smallest(), Some(7));
    }

    #[test]
    fn what_fits_is_the_smallest_but_no_odd_one() {
        for (servers, expected) in [
            (vec![], USUAL),
            (vec![None, None], USUAL),
            (vec![None, Some(10)], 10),
            (vec![Some(8), Some(6)], 6),
            (vec![Some(8), Some(0)], LEAST),
        ] {
            assert_eq!(fitting(servers.iter().copied()), expected, "{servers:?}");
        }
    }
}
