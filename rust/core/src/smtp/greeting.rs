//! A server's greeting: its first line decides whether a session goes there.

/// The longest first line of a greeting that is taken for one. RFC 5321, 4.5.3.1.5 has 512.
const LONGEST_LINE: usize = 2048;

/// What the first bytes of a server are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// The first line isn't whole yet.
    Incomplete,
    /// 2yz: the server takes the session. More lines may follow, at once or later: postscreen
    /// sends the first one as a teaser and the last one seconds after it.
    Accepts,
    /// 4yz: not now.
    RefusesNow,
    /// 5yz: not at all.
    Refuses,
    /// No SMTP.
    Nonsense,
}

impl Greeting {
    /// Reads the first line of a greeting (RFC 5321, 4.2), however it was cut into pieces.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            let plausible = bytes.len() <= LONGEST_LINE && may_begin_reply(bytes);
            return if plausible {
                Self::Incomplete
            } else {
                Self::Nonsense
            };
        };
        let line = bytes[..end].trim_ascii_end();
        let complete = matches!(line.get(3), None | Some(b' ' | b'-'));
        // Measured where the line ends, so that how it came doesn't matter.
        let fits = line.len() >= 3 && end <= LONGEST_LINE;
        if !fits || !complete || !may_begin_reply(line) {
            return Self::Nonsense;
        }
        match line[0] {
            b'2' => Self::Accepts,
            b'4' => Self::RefusesNow,
            b'5' => Self::Refuses,
            _ => Self::Nonsense,
        }
    }
}

/// Whether `bytes` are the beginning of a reply as far as they go: three digits first.
fn may_begin_reply(bytes: &[u8]) -> bool {
    bytes.iter().take(3).all(u8::is_ascii_digit)
}

/// The code of the reply line at the start of `bytes`, if they begin with one.
pub(crate) fn code(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.first_chunk::<3>()?;
    let number = |sum: u16, digit: &u8| {
        digit
            .is_ascii_digit()
            .then(|| sum * 10 + u16::from(*digit - b'0'))
    };
    digits.iter().try_fold(0, number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_line_of_a_greeting_decides() {
        use Greeting::{Accepts, Incomplete, Nonsense, Refuses, RefusesNow};
        for (bytes, expected) in [
            ("", Incomplete),
            ("22", Incomplete),
            ("220 mx.test ESMTP\r", Incomplete),
            ("220 mx.test ESMTP\r\n", Accepts),
            ("220\r\n", Accepts),
            ("220 bare line feed\n", Accepts),
            ("220-teaser\r\n", Accepts),
            ("220-first\r\n220 last\r\n", Accepts),
            ("421 4.3.2 busy\r\n", RefusesNow),
            ("450-a\r\n450 b\r\n", RefusesNow),
            ("554 no SMTP service here\r\n", Refuses),
            ("354 go ahead\r\n", Nonsense),
            ("2200 mx\r\n", Nonsense),
            ("22\r\n", Nonsense),
            ("\r\n220 mx\r\n", Nonsense),
            ("SSH-2.0-OpenSSH\r\n", Nonsense),
            ("S", Nonsense),
        ] {
            assert_eq!(Greeting::parse(bytes.as_bytes()), expected, "{bytes:?}");
        }
        // However the packets were cut: a line that is too long already stays so.
        let long = [b"220".as_slice(), &[b' '; LONGEST_LINE]].concat();
        assert_eq!(Greeting::parse(&long), Nonsense);
        assert_eq!(Greeting::parse(&[&long[..], b"\r\n"].concat()), Nonsense);
        let endless = [b"220 ".as_slice(), &[b'x'; LONGEST_LINE]].concat();
        assert_eq!(Greeting::parse(&endless), Nonsense);
    }

    proptest! {
        /// What was decided stays so, whatever comes after it.
        #[test]
        fn more_bytes_never_change_a_decision(bytes: Vec<u8>, more: Vec<u8>) {
            let decided = Greeting::parse(&bytes);
            if decided != Greeting::Incomplete {
                prop_assert_eq!(Greeting::parse(&[bytes, more].concat()), decided);
            }
        }

        #[test]
        fn any_pieces_of_a_greeting_are_understood(
            text in "[ -~]{0,80}", dash: bool, class in 2_u8..6, cut: prop::sample::Index,
        ) {
            let separator = if dash { '-' } else { ' ' };
            let line = format!("{class}20{separator}{text}\r\n");
            let cut = cut.index(line.len() - 1);
            prop_assert_eq!(Greeting::parse(&line.as_bytes()[..cut]), Greeting::Incomplete);
            prop_assert_ne!(Greeting::parse(line.as_bytes()), Greeting::Incomplete);
        }
    }

    #[test]
    fn codes_are_read() {
        assert_eq!(code(b"220 mx.test\r\n"), Some(220));
        assert_eq!(code(b"421"), Some(421));
        assert_eq!(code(b"22"), None);
        assert_eq!(code(b"2x0 "), None);
    }
}
