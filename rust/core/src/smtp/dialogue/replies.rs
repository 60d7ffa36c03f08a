//! The server's lines, as far as one has to look at them: three digits, and a dash or not.

use memchr::memchr;

use crate::smtp::greeting::code;

/// Digits, and what tells whether more lines follow.
const HEAD: usize = 4;

/// Reads the stream of a server.
#[derive(Debug, Default)]
pub(super) struct Replies {
    /// The beginning of the line that isn't whole yet, and how long that is.
    head: [u8; HEAD],
    length: usize,
    last: Option<u16>,
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplyLine {
    /// More lines of this reply follow (RFC 5321, 4.2.1).
    GoesOn,
    /// A reply is whole.
    Last(u16),
    Nonsense,
}

impl Replies {
    /// Of a stream of which something wasn't seen.
    pub(super) fn from_anywhere() -> Self {
        Self {
            // No line begins so: what comes up to the next end of a line is none.
            head: [0; HEAD],
            length: HEAD,
            last: None,
        }
    }

    /// The code of the last whole reply.
    pub(super) fn last(&self) -> Option<u16> {
        self.last
    }

    /// The line that `piece` completes first. What was read is taken off it.
    pub(super) fn next(&mut self, piece: &mut &[u8]) -> Option<ReplyLine> {
        let end = memchr(b'\n', piece);
        let (part, rest) = piece.split_at(end.map_or(piece.len(), |end| end + 1));
        *piece = rest;
        let missing = self.head.iter_mut().skip(self.length);
        for (place, byte) in missing.zip(part) {
            *place = *byte;
        }
        self.length = self.length.saturating_add(part.len());
        end?;
        let head = &self.head[..self.length.min(HEAD)];
        self.length = 0;
        let line = match (code(head), head.get(3)) {
            (Some(_), Some(b'-')) => ReplyLine::GoesOn,
            (Some(code), Some(_)) => {
                self.last = Some(code);
                ReplyLine::Last(code)
            }
            _ => ReplyLine::Nonsense,
        };
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&str]) -> Vec<ReplyLine> {
        let mut replies = Replies::default();
        let mut found = vec![];
        for piece in pieces {
            let mut rest = piece.as_bytes();
            while let Some(line) = replies.next(&mut rest) {
                found.push(line);
            }
        }
        found
    }

    #[test]
    fn lines_are_told_apart_however_they_come() {
        use ReplyLine::{GoesOn, Last, Nonsense};
        let expected = [Last(220), GoesOn, GoesOn, Last(250), Nonsense, Last(354)];
        let stream = "220 mx\r\n250-mx\r\n250-\n250\r\nhello\r\n354-\n".replace("354-", "354 ");
        assert_eq!(lines(&[&stream]), expected);
        for cut in 1..stream.len() {
            assert_eq!(lines(&[&stream[..cut], &stream[cut..]]), expected, "{cut}");
        }
        assert_eq!(
            lines(&["22\r\n", "\n", "2200 x\n"]),
            [Nonsense, Nonsense, Last(220)]
        );
    }

    #[test]
    fn after_a_gap_reading_goes_on_with_the_next_line() {
        let mut replies = Replies::from_anywhere();
        let mut rest = b"250 the rest of something\r\n221 bye\r\n".as_slice();
        assert_eq!(replies.next(&mut rest), Some(ReplyLine::Nonsense));
        assert_eq!(replies.last(), None);
        assert_eq!(replies.next(&mut rest), Some(ReplyLine::Last(221)));
        assert_eq!(replies.last(), Some(221));
        assert_eq!(replies.next(&mut rest), None);
    }
}
