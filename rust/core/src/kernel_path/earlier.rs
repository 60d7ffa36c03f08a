//! What processes of other versions left in the kernel. Their flows can't be adopted: what the
//! tables hold is another thing in each version. They go on by their own program, which stays
//! attached until it has had nothing to carry for as long as a session may be silent. Until then
//! nobody limits them or closes their records, and their ports aren't ours to give.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mailweir_flow::{Key, SCHEMA};

use crate::ports::Ports;

/// Longer than any silence that RFC 5321 has senders and servers bear (4.5.3.2): 10 minutes.
const QUIET: Duration = Duration::from_secs(11 * 60);

/// Of one other version.
#[derive(Debug)]
pub(super) struct Earlier {
    pins: PathBuf,
    /// None where it can't be read: then it stays until somebody flushes it.
    tables: Option<mailweir_flow::Earlier>,
    /// Segments that it had carried, and when that was seen first.
    carried: (u64, Instant),
}

impl Earlier {
    /// All that an instance has there; its ports are taken.
    pub(super) fn found(files: &Path, instance: &str, ports: &Ports, now: Instant) -> Vec<Self> {
        let found = others(files, instance).into_iter().map(|pins| {
            let tables = mailweir_flow::Earlier::open(&pins).ok();
            let earlier = Self {
                pins,
                tables,
                carried: (0, now),
            };
            for key in earlier.servers() {
                ports.claim(*key.to.ip(), key.from, key.to.port());
            }
            earlier
        });
        found.collect()
    }

    /// How many flows it had.
    pub(super) fn flows(&self) -> usize {
        self.servers().len()
    }

    /// Removes it once it has nothing to carry any more; whether that is so.
    pub(super) fn is_over(&mut self, ports: &Ports, now: Instant) -> bool {
        let carried = self.tables.as_ref().map(mailweir_flow::Earlier::carried);
        let Some(Ok(carried)) = carried else {
            return false;
        };
        if !self.is_quiet(carried, now) || mailweir_flow::flush(&self.pins).is_err() {
            return false;
        }
        for key in self.servers() {
            ports.give(*key.to.ip(), key.from, key.to.port());
        }
        true
    }

    /// What has no flow is over at once.
    fn is_quiet(&mut self, carried: u64, now: Instant) -> bool {
        self.flows() == 0 || self.is_silent(carried, now)
    }

    fn is_silent(&mut self, carried: u64, now: Instant) -> bool {
        let (before, since) = self.carried;
        if carried != before {
            self.carried = (carried, now);
        }
        carried == before && now.duration_since(since) >= QUIET
    }

    fn servers(&self) -> &[Key] {
        let tables = self.tables.as_ref();
        tables.map_or(&[], mailweir_flow::Earlier::servers)
    }
}

/// The folder of each version but this one that an instance has among these files.
pub(super) fn others(files: &Path, instance: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(files).into_iter().flatten().flatten();
    let others = files.filter(|file| {
        let name = file.file_name();
        let version = name.to_str().and_then(|name| version(name, instance));
        version.is_some_and(|version| version != SCHEMA)
    });
    others.map(|file| file.path()).collect()
}

/// The version of an instance's folder; none of other names.
fn version(name: &str, instance: &str) -> Option<u32> {
    let (version, whose) = name.strip_prefix("mailweir-")?.split_once('-')?;
    (whose == instance).then(|| version.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_say_whose_they_are() {
        assert_eq!(version("mailweir-2-abc", "abc"), Some(2));
        for other in [
            "mailweir-2-abcd",
            "mailweir-x-abc",
            "mailweir-abc",
            "xdp",
            "places",
        ] {
            assert_eq!(version(other, "abc"), None);
        }
    }

    #[test]
    fn what_carries_nothing_for_long_is_over() {
        let began = Instant::now();
        let mut earlier = Earlier {
            pins: PathBuf::new(),
            tables: None,
            carried: (0, began),
        };
        // Without flows at once.
        assert!(earlier.is_quiet(7, began));
        let flows = |carried, after: Duration, earlier: &mut Earlier| {
            earlier.is_silent(carried, began + after)
        };
        let minutes = |number: u64| Duration::from_secs(60 * number);
        assert!(!flows(7, minutes(10), &mut earlier));
        assert!(!flows(8, minutes(20), &mut earlier));
        assert!(!flows(8, minutes(30), &mut earlier));
        assert!(flows(8, minutes(31), &mut earlier));
    }
}
