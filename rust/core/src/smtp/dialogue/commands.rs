//! The client's command lines, as far as they change what comes next.

use memchr::memchr;

/// What is kept of a line that comes in pieces: enough for the longest that is read to its end, a
/// BDAT with its arguments.
const KEPT: usize = 40;

/// A command line as far as it has come.
#[derive(Debug)]
pub(super) struct CommandLine {
    kept: [u8; KEPT],
    length: usize,
}

/// What a line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Data,
    /// A chunk of a message follows at once (RFC 3030).
    Bdat {
        size: u64,
        last: bool,
    },
    StartTls,
    /// A message that was begun is none any more.
    Reset,
    Quit,
    Other,
    /// It can't be said what follows it.
    Unclear,
}

impl CommandLine {
    pub(super) fn new() -> Self {
        Self {
            kept: [0; KEPT],
            length: 0,
        }
    }

    /// Whether nothing of it has come.
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The command that `piece` completes, if it does. What was read is taken off it.
    pub(super) fn next(&mut self, piece: &mut &[u8]) -> Option<Command> {
        let end = memchr(b'\n', piece);
        let (part, rest) = piece.split_at(end.map_or(piece.len(), |end| end + 1));
        *piece = rest;
        if end.is_some() && self.length == 0 {
            return Some(Command::parse(part, true));
        }
        let missing = self.kept.iter_mut().skip(self.length);
        for (place, byte) in missing.zip(part) {
            *place = *byte;
        }
        self.length = self.length.saturating_add(part.len());
        end?;
        let length = std::mem::take(&mut self.length);
        let kept = &self.kept[..length.min(KEPT)];
        Some(Command::parse(kept, length <= KEPT))
    }
}

impl Command {
    /// `line` is all of the line, if it is `whole`.
    fn parse(line: &[u8], whole: bool) -> Self {
        let line = line.trim_ascii();
        let end = line.iter().position(u8::is_ascii_whitespace);
        let (verb, arguments) = line.split_at(end.unwrap_or(line.len()));
        let is = |word: &[u8]| verb.eq_ignore_ascii_case(word);
        if is(b"DATA") {
            Self::Data
        } else if is(b"BDAT") {
            match chunk(arguments) {
                Some((size, last)) if whole => Self::Bdat { size, last },
                _ => Self::Unclear,
            }
        } else if is(b"STARTTLS") {
            Self::StartTls
        } else if is(b"RSET") || is(b"EHLO") || is(b"HELO") {
            Self::Reset
        } else if is(b"QUIT") {
            Self::Quit
        } else {
            Self::Other
        }
    }
}

/// The size of a chunk, and whether it is the last.
fn chunk(arguments: &[u8]) -> Option<(u64, bool)> {
    let text = std::str::from_utf8(arguments).ok()?;
    let mut words = text.split_ascii_whitespace();
    let digits = words.next()?;
    // A sign, which parse() takes, is none to a server.
    let size = digits.bytes().all(|byte| byte.is_ascii_digit());
    let size = if size {
        digits.parse().ok()?
    } else {
        return None;
    };
    match (words.next(), words.next()) {
        (None, _) => Some((size, false)),
        (Some(last), None) if last.eq_ignore_ascii_case("LAST") => Some((size, true)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(pieces: &[&[u8]]) -> Vec<Command> {
        let mut line = CommandLine::new();
        let mut found = vec![];
        for piece in pieces {
            let mut rest = *piece;
            while let Some(command) = line.next(&mut rest) {
                found.push(command);
            }
        }
        found
    }

    #[test]
    fn commands_are_known_however_they_come() {
        use Command::{Bdat, Data, Other, Quit, Reset, StartTls, Unclear};
        let long = "x".repeat(1000);
        for (line, expected) in [
            ("DATA\r\n", Data),
            ("data\n", Data),
            (" DATA \r\n", Data),
            ("DATA\0\r\n", Other),
            ("DATABASE\r\n", Other),
            ("STARTTLS\r\n", StartTls),
            ("QUIT\r\n", Quit),
            ("quit \r\n", Quit),
            ("QUITE\r\n", Other),
            ("RSET\r\n", Reset),
            ("ehlo a\r\n", Reset),
            ("HELO a\r\n", Reset),
            ("\r\n", Other),
            ("\n", Other),
            (".\r\n", Other),
            (
                "BDAT 5\r\n",
                Bdat {
                    size: 5,
                    last: false,
                },
            ),
            (
                "bdat 18446744073709551615 last\r\n",
                Bdat {
                    size: u64::MAX,
                    last: true,
                },
            ),
            (
                "BDAT 0 LAST\r\n",
                Bdat {
                    size: 0,
                    last: true,
                },
            ),
            ("BDAT\r\n", Unclear),
            ("BDAT +5\r\n", Unclear),
            ("BDAT 5 FIRST\r\n", Unclear),
            ("BDAT 5 LAST more\r\n", Unclear),
            ("BDAT 18446744073709551616\r\n", Unclear),
            (&format!("RCPT TO:<{long}@b>\r\n"), Other),
        ] {
            let bytes = line.as_bytes();
            assert_eq!(commands(&[bytes]), [expected], "{line:?}");
            for cut in 1..bytes.len() {
                let pieces = [&bytes[..cut], &bytes[cut..]];
                assert_eq!(commands(&pieces), [expected], "{line:?} at {cut}");
            }
        }
        let padded = format!("BDAT{}5 LAST\r\n", " ".repeat(KEPT));
        assert_eq!(
            commands(&[&padded.as_bytes()[..1], &padded.as_bytes()[1..]]),
            [Unclear]
        );
    }
}
