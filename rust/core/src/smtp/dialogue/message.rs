//! The end of a message, `CRLF . CRLF` (RFC 5321, 4.1.1.4), in a stream of pieces.

use std::sync::LazyLock;

use memchr::memmem::Finder;

const END: &[u8] = b"\r\n.\r\n";
static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(END));

/// Looks for the end of one message, piece after piece.
#[derive(Debug, Clone, Copy)]
pub(super) struct EndOfData {
    /// How much of the end stands at the end of what came.
    matched: usize,
}

impl EndOfData {
    /// At the beginning of a line, as behind DATA: a dot alone ends an empty message.
    pub(super) fn at_line() -> Self {
        Self { matched: 2 }
    }

    /// Anywhere in a message.
    pub(super) fn anywhere() -> Self {
        Self { matched: 0 }
    }

    /// How many bytes of `piece` belong to the message, its end included; none if all do and the end
    /// is still to come.
    pub(super) fn find(&mut self, piece: &[u8]) -> Option<usize> {
        let mut at = 0;
        while self.matched > 0 && at < piece.len() {
            self.step(piece[at]);
            at += 1;
            if self.matched == END.len() {
                return Some(at);
            }
        }
        let rest = &piece[at..];
        if rest.is_empty() {
            return None;
        }
        if let Some(found) = FINDER.find(rest) {
            return Some(at + found + END.len());
        }
        let begun = (1..END.len()).rev();
        self.matched = begun
            .into_iter()
            .find(|length| rest.ends_with(&END[..*length]))
            .unwrap_or(0);
        None
    }

    fn step(&mut self, byte: u8) {
        self.matched = if END[self.matched] == byte {
            self.matched + 1
        } else {
            // No other beginning of the end stands within it.
            usize::from(byte == END[0])
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Where the message ends in what `pieces` are together.
    fn end(pieces: &[&[u8]]) -> Option<usize> {
        let mut end = EndOfData::at_line();
        let mut before = 0;
        for piece in pieces {
            if let Some(length) = end.find(piece) {
                return Some(before + length);
            }
            before += piece.len();
        }
        None
    }

    #[test]
    fn a_dot_alone_on_its_line_is_the_end() {
        for (message, expected) in [
            (".\r\n", Some(3)),
            (".\r\nQUIT\r\n", Some(3)),
            ("a\r\n.\r\n", Some(6)),
            ("a\r\n\r\n.\r\n", Some(8)),
            ("a\r\r\n.\r\n", Some(7)),
            ("\r\n.\r\r\n.\r\n", Some(9)),
            ("..\r\n.\n.\r\n\n.\r\n", None),
            ("a\r\n.", None),
            ("", None),
        ] {
            assert_eq!(end(&[message.as_bytes()]), expected, "{message:?}");
        }
    }

    proptest! {
        /// However it is cut, it ends where it ends in one piece.
        #[test]
        fn cuts_change_nothing(
            message in "[\r\n.a]{0,40}", cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let bytes = message.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let whole = ["\r\n", &message].concat();
            let expected = whole.find("\r\n.\r\n").map(|at| at + 3);
            prop_assert_eq!(end(&pieces), expected);
            prop_assert_eq!(end(&[bytes]), expected);
        }
    }
}
