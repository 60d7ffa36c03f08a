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
    /// Reads the first line all at once.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        Self::parse_on(bytes, 0)
    }

    /// Reads the first line of a greeting (RFC 5321, 4.2), however it was cut into pieces. The
    /// first `seen` bytes were read before and decided nothing: each is read once.
    pub(crate) fn parse_on(bytes: &[u8], seen: usize) -> Self {
        let new = bytes[seen..].iter().position(|byte| *byte == b'\n');
        let Some(end) = new.map(|at| seen + at) else {
            let plausible = bytes.len() <= LONGEST_LINE && may_begin_reply(bytes);
            return if plausible {
                Self::Incomplete
            } else {
                Self::Nonsense
            };
        };
        let mut line = &bytes[..end];
        while let [before @ .., b'\r'] = line {
            line = before;
        }
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

/// A refusal in the place of a greeting, to be passed on: all of it that came, made whole where it
/// didn't. The rest of it isn't waited for.
pub(crate) fn refusal(bytes: &[u8]) -> Vec<u8> {
    let mut words = Vec::with_capacity(bytes.len());
    let mut last = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if code(line).is_none() || line.last() != Some(&b'\n') {
            break;
        }
        last = words.len();
        words.extend_from_slice(line);
        if line[3] != b'-' {
            break;
        }
    }
    if let Some(separator) = words.get_mut(last + 3)
        && *separator == b'-'
    {
        *separator = b' ';
    }
    words
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
    fn a_refusal_is_passed_on_whole() {
        for (said, expected) in [
            ("554 5.7.1 blocked\r\n", "554 5.7.1 blocked\r\n"),
            ("554-a\r\n554 b\r\n", "554-a\r\n554 b\r\n"),
            // What came of it is made whole; what comes behind it is no part of it.
            ("554-a\r\n554-b\r\n554 c", "554-a\r\n554 b\r\n"),
            ("554-a\r\n", "554 a\r\n"),
            ("554\r\n220 more\r\n", "554\r\n"),
            ("554-a\r\nwhat\r\n", "554 a\r\n"),
        ] {
            assert_eq!(refusal(said.as_bytes()), expected.as_bytes(), "{said:?}");
        }
    }

    /// What checks go by as well: see there.
    const VECTORS: &str = include_str!("greetings.txt");

    /// What is written as `text` there.
    fn said(text: &str) -> Vec<u8> {
        let text = text.replace("\\r", "\r").replace("\\n", "\n");
        let text = text.replace("\\t", "\t");
        let Some((before, rest)) = text.split_once('<') else {
            return text.into();
        };
        let (repeated, after) = rest.split_once('>').unwrap();
        let (what, times) = repeated.split_once('*').unwrap();
        [before, &what.repeat(times.parse().unwrap()), after]
            .concat()
            .into()
    }

    #[test]
    fn the_first_line_of_a_greeting_decides() {
        use Greeting::{Accepts, Incomplete, Nonsense, Refuses, RefusesNow};
        let rows = VECTORS.lines().filter(|row| !row.starts_with('#'));
        let mut read = 0;
        for row in rows {
            let (verdict, text) = row.split_once(' ').unwrap_or((row, ""));
            let expected = match verdict {
                "incomplete" => Incomplete,
                "accepts" => Accepts,
                "refuses_now" => RefusesNow,
                "refuses" => Refuses,
                "nonsense" => Nonsense,
                other => panic!("{other}"),
            };
            let bytes = said(text);
            assert_eq!(Greeting::parse(&bytes), expected, "{text}");
            // However the packets were cut.
            let last = bytes.len().saturating_sub(1);
            let before = Greeting::parse(&bytes[..last]);
            assert!(before == Incomplete || before == expected, "{text}");
            read += 1;
        }
        assert!(read > 30);
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
            let at_once = Greeting::parse(line.as_bytes());
            prop_assert_eq!(Greeting::parse_on(line.as_bytes(), cut), at_once);
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
