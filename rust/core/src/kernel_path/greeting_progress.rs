//! A server's greeting as it comes, for the hand-over: where it ends, and how much of it is kept.

/// The most that is kept of it: a server may say lines without end. Its size is kept in 16 bits.
pub(super) const LONGEST: usize = u16::MAX as usize;

/// Where a line says that others follow it (RFC 5321, 4.2.1).
const DASH: usize = 3;

/// How far it has come. Each byte is looked at once.
#[derive(Debug, Default)]
pub(super) struct Progress {
    read: usize,
    /// Bytes of the line that is under way.
    line: usize,
    /// That line isn't the last one.
    goes_on: bool,
    whole: bool,
}

/// What it is, as far as it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// More is to come.
    Part,
    /// All of it, and nothing else.
    Whole,
    /// More than a greeting: something behind its last line, or more than is kept.
    TooMuch,
}

impl Progress {
    /// Reads on in `said`, all that has come from the first byte on.
    pub(super) fn read_on(&mut self, said: &[u8]) -> Heard {
        for byte in &said[self.read..] {
            if self.whole {
                return Heard::TooMuch;
            }
            match byte {
                b'\n' => {
                    self.whole = !self.goes_on;
                    self.line = 0;
                    self.goes_on = false;
                }
                byte => {
                    self.goes_on |= self.line == DASH && *byte == b'-';
                    self.line += 1;
                }
            }
            self.read += 1;
        }
        if self.whole {
            Heard::Whole
        } else if self.read < LONGEST {
            Heard::Part
        } else {
            Heard::TooMuch
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_greeting_is_whole_with_its_last_line() {
        use Heard::{Part, TooMuch, Whole};
        for (said, expected) in [
            ("", Part),
            ("220 mx", Part),
            ("220 mx\r\n", Whole),
            ("220-mx\r\n", Part),
            ("220-mx\r\n220 mx\r", Part),
            ("220-mx\r\n220-more\r\n220 mx\r\n", Whole),
            ("220\r\n", Whole),
            ("220 mx\r\n250 what\r\n", TooMuch),
            ("220 mx\r\n2", TooMuch),
        ] {
            assert_eq!(
                Progress::default().read_on(said.as_bytes()),
                expected,
                "{said:?}"
            );
        }
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        let mut said = b"220-and so on\r\n".repeat(LONGEST / 15 + 1);
        said.truncate(LONGEST);
        assert_eq!(
            Progress::default().read_on(&said[..LONGEST - 1]),
            Heard::Part
        );
        assert_eq!(Progress::default().read_on(&said), Heard::TooMuch);
        // One that fits is taken to its last byte.
        let last = said.len() - 1;
        said[last - 15..].copy_from_slice(b"\n220 at last...\n");
        assert_eq!(Progress::default().read_on(&said), Heard::Whole);
    }

    proptest! {
        /// However it was cut into pieces, and no byte is read again.
        #[test]
        fn pieces_make_the_same(said in "(220[- ][a\n-]{0,9}\r\n){0,4}", cuts: Vec<prop::sample::Index>) {
            let said = said.as_bytes();
            let mut progress = Progress::default();
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(said.len() + 1)).collect();
            ends.push(said.len());
            ends.sort_unstable();
            for end in ends {
                let heard = progress.read_on(&said[..end]);
                prop_assert!(progress.read == end || heard == Heard::TooMuch);
                prop_assert_eq!(heard, Progress::default().read_on(&said[..end]));
            }
        }
    }
}
