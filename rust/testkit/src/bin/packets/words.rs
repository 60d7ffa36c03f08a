//! What clients and servers say to each other: the same lines in each session, so that whoever
//! hears others knows that they aren't as they were sent.

/// What a server says first.
pub(crate) const GREETING: &[u8] = b"220 packets.test ESMTP\r\n";

/// What a client says, in one segment each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    Ehlo,
    Mail,
    Rcpt,
    Data,
    /// The mail itself, with its end.
    Text,
    Noop,
    Quit,
}

impl Line {
    pub(crate) const ALL: [Self; 7] = [
        Self::Ehlo,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::Text,
        Self::Noop,
        Self::Quit,
    ];

    pub(crate) fn bytes(self) -> &'static [u8] {
        match self {
            Self::Ehlo => b"EHLO client.packets.test\r\n",
            Self::Mail => b"MAIL FROM:<from@packets.test>\r\n",
            Self::Rcpt => b"RCPT TO:<to@packets.test>\r\n",
            Self::Data => b"DATA\r\n",
            Self::Text => &TEXT,
            Self::Noop => b"NOOP\r\n",
            Self::Quit => b"QUIT\r\n",
        }
    }

    /// What a server answers, in one segment.
    pub(crate) fn reply(self) -> &'static [u8] {
        match self {
            Self::Ehlo => b"250-packets.test\r\n250-8BITMIME\r\n250 SIZE\r\n",
            Self::Data => b"354 go on\r\n",
            Self::Text => b"250 taken\r\n",
            Self::Quit => b"221 bye\r\n",
            Self::Mail | Self::Rcpt | Self::Noop => b"250 fine\r\n",
        }
    }

    /// What a client has said; none of what no client says.
    pub(crate) fn heard(said: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|line| line.bytes() == said)
    }
}

/// What a server answers to anything else.
pub(crate) const WHAT: &[u8] = b"500 that is not as it was sent\r\n";

const HEAD: &[u8] = b"Subject: packets\r\n\r\n";
const END: &[u8] = b"\r\n.\r\n";

/// A mail of 1 KB, whose lines have 62 letters.
static TEXT: [u8; 1024] = {
    let mut text = [0; 1024];
    let mut at = 0;
    while at < text.len() {
        text[at] = if at < HEAD.len() {
            HEAD[at]
        } else if at >= text.len() - END.len() {
            END[at + END.len() - text.len()]
        } else {
            match (at - HEAD.len()) % 64 {
                62 => b'\r',
                63 => b'\n',
                letter => b'A' + (letter % 26) as u8,
            }
        };
        at += 1;
    }
    text
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_known_when_it_is_heard() {
        for line in Line::ALL {
            assert_eq!(Line::heard(line.bytes()), Some(line));
            assert!(line.bytes().ends_with(b"\r\n"));
            assert!(line.reply().ends_with(b"\r\n"));
            let mut other = line.bytes().to_vec();
            other[0] ^= 1;
            assert_eq!(Line::heard(&other), None);
        }
    }

    #[test]
    fn the_mail_has_one_end() {
        let text = Line::Text.bytes();
        let ends = text.windows(END.len()).filter(|part| *part == END);
        assert_eq!(ends.count(), 1);
        assert!(text.ends_with(END) && text.starts_with(HEAD));
        let longest = text.split(|byte| *byte == b'\n').map(<[u8]>::len).max();
        assert!(longest <= Some(63));
    }
}
