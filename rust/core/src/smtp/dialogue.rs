//! Listens to a session as it is carried: who spoke last, and what that was, as far as one
//! look at each piece can tell. Nothing is held back and nothing depends on it but when a
//! session may be cut and what its record says.
//!
//! Only the last line of a piece is looked at. A line that came in two pieces isn't put
//! together: the dialogue is then unclear until the next one, and an unclear one is cut later.

use crate::record::Side;
use crate::spec::Protocol;
use crate::tls;

use super::greeting::code;

/// The longest line that is looked for (RFC 5321, 4.5.3.1.4 and .5: 512).
const LONGEST_LINE: usize = 512;
/// RFC 5321, 4.2.1: the server waits for the message.
const START_MAIL_INPUT: u16 = 354;
/// The service ends the session.
const CLOSING: u16 = 421;
/// The end of a message, and the command that leaves.
const LAST_WORDS: &[u8] = b"\r\n.\r\nQUIT\r\n";

/// What is known of a session's dialogue.
#[derive(Debug)]
pub(crate) struct Dialogue {
    /// Whether it is worth listening: plain SMTP, or TLS from the first.
    protocol: Protocol,
    /// The server's last reply, where its last piece ended with a whole one.
    reply: Option<u16>,
    spoke_last: Option<Side>,
    asked: Asked,
    tls: bool,
    /// BDAT was seen: an answer may belong to a chunk before the last (RFC 3030).
    chunks: bool,
}

/// The client's last command, of those that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Other,
    StartTls,
    Bdat,
    Quit,
}

impl Dialogue {
    pub(crate) fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            reply: None,
            spoke_last: None,
            asked: Asked::Other,
            tls: false,
            chunks: false,
        }
    }

    /// `from` said `piece`, which isn't empty.
    pub(crate) fn hear(&mut self, from: Side, piece: &[u8]) {
        match from {
            _ if self.tls || self.protocol == Protocol::Tcp => {}
            Side::Client => self.hear_client(piece),
            Side::Server => self.reply = last_reply(piece),
        }
        self.spoke_last = Some(from);
    }

    /// `from` said a lot, unseen.
    pub(crate) fn miss(&mut self, from: Side) {
        if from == Side::Server {
            self.reply = None;
        } else if self.asked == Asked::Quit {
            self.asked = Asked::Other;
        }
        self.spoke_last = Some(from);
    }

    fn hear_client(&mut self, piece: &[u8]) {
        let first = self.spoke_last != Some(Side::Client);
        let expected = match self.protocol {
            Protocol::Smtps => true,
            _ => self.asked == Asked::StartTls && self.reply == Some(220),
        };
        if first && expected && tls::is_record(piece) {
            self.tls = true;
            return;
        }
        if self.in_data() {
            // A line of a message can look like a command; only what follows its end is one.
            if ends_with_ignoring_case(piece, LAST_WORDS)
                || piece.eq_ignore_ascii_case(&LAST_WORDS[2..])
            {
                self.asked = Asked::Quit;
            }
            return;
        }
        self.asked = command(last_line(piece));
        if self.asked == Asked::Other && command(piece) == Asked::Bdat {
            self.asked = Asked::Bdat;
        }
        self.chunks |= self.asked == Asked::Bdat;
    }

    /// Who said something last.
    pub(crate) fn spoke_last(&self) -> Option<Side> {
        self.spoke_last
    }

    /// Whether the session speaks TLS, as far as was seen.
    pub(crate) fn tls(&self) -> bool {
        self.tls
    }

    /// Whether a message is under way: between a 354 (or a chunk) and what answers it.
    pub(crate) fn in_data(&self) -> bool {
        let chunk = self.asked == Asked::Bdat && self.spoke_last == Some(Side::Client);
        !self.tls && (self.reply == Some(START_MAIL_INPUT) || chunk)
    }

    /// Whether the client took leave.
    pub(crate) fn has_quit(&self) -> bool {
        !self.tls && self.asked == Asked::Quit
    }

    /// Whether the server's last word was that it ends the session.
    pub(crate) fn server_is_closing(&self) -> bool {
        !self.tls && self.reply == Some(CLOSING)
    }

    /// Whether the server has answered a command in plain text and waits for the next one:
    /// the one moment at which a 421 of our own is understood.
    pub(crate) fn at_command(&self) -> bool {
        let answered = matches!(self.reply, Some(200..=299 | 400..=599));
        !self.tls && answered && self.spoke_last == Some(Side::Server)
    }

    /// Whether such a moment is certain to be one where nothing is under way.
    pub(crate) fn is_clear(&self) -> bool {
        self.at_command() && !self.chunks
    }
}

/// The code of the reply that `piece` ends with, if it ends with a whole one.
fn last_reply(piece: &[u8]) -> Option<u16> {
    let line = last_line(piece);
    // A dash says that more lines follow.
    let ends = line.len() > 3 && matches!(line[3], b' ' | b'\r' | b'\n');
    if ends && piece.ends_with(b"\n") {
        code(line)
    } else {
        None
    }
}

/// The last line of `piece`, with its end.
fn last_line(piece: &[u8]) -> &[u8] {
    let body = &piece[..piece.len().saturating_sub(1)];
    let near = body.len().saturating_sub(LONGEST_LINE);
    let end = body[near..].iter().rposition(|byte| *byte == b'\n');
    &piece[end.map_or(near, |at| near + at + 1)..]
}

fn command(line: &[u8]) -> Asked {
    let begins = |verb: &[u8]| {
        line.len() > verb.len()
            && line[..verb.len()].eq_ignore_ascii_case(verb)
            && line[verb.len()].is_ascii_whitespace()
    };
    if begins(b"QUIT") {
        Asked::Quit
    } else if begins(b"STARTTLS") {
        Asked::StartTls
    } else if begins(b"BDAT") {
        Asked::Bdat
    } else {
        Asked::Other
    }
}

fn ends_with_ignoring_case(piece: &[u8], end: &[u8]) -> bool {
    piece.len() >= end.len() && piece[piece.len() - end.len()..].eq_ignore_ascii_case(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Pieces by who says them: `C` or `S` first.
    fn heard(pieces: &[&str]) -> Dialogue {
        let mut dialogue = Dialogue::new(Protocol::Smtp);
        for piece in pieces {
            let from = if piece.starts_with('C') {
                Side::Client
            } else {
                Side::Server
            };
            dialogue.hear(from, &piece.as_bytes()[1..]);
        }
        dialogue
    }

    const TO_DATA: [&str; 3] = ["S220 mx\r\n", "CDATA\r\n", "S354 go\r\n"];

    #[test]
    fn between_commands_a_session_may_be_told_something() {
        for (pieces, expected) in [
            (vec!["S220 mx\r\n"], true),
            (vec!["S220-teaser\r\n"], false),
            (vec!["S220-teaser\r\n", "S220 mx\r\n"], true),
            (vec!["S220 mx\r\n", "CEHLO a\r\n"], false),
            (
                vec!["S220 mx\r\n", "CEHLO a\r\n", "S250-mx\r\n250 SIZE\r\n"],
                true,
            ),
            (
                vec!["S220 mx\r\n", "CEHLO a\r\n", "S250-mx\r\n250 SI"],
                false,
            ),
            (
                vec!["S220 mx\r\n", "CAUTH LOGIN\r\n", "S334 VXNl\r\n"],
                false,
            ),
            (TO_DATA.to_vec(), false),
            ([&TO_DATA[..], &["Ctext\r\n"]].concat(), false),
            ([&TO_DATA[..], &["C.\r\n", "S250 ok\r\n"]].concat(), true),
            ([&TO_DATA[..], &["C.\r\n", "S451 no\r\n"]].concat(), true),
        ] {
            assert_eq!(heard(&pieces).at_command(), expected, "{pieces:?}");
            assert_eq!(heard(&pieces).is_clear(), expected, "{pieces:?}");
        }
    }

    #[test]
    fn a_message_under_way_is_known() {
        assert!(heard(&TO_DATA).in_data());
        assert!(
            heard(&[
                "S220 mx\r\n",
                "CMAIL\r\nRCPT\r\nDATA\r\n",
                "S250 a\r\n354 go\r\n"
            ])
            .in_data()
        );
        assert!(heard(&[&TO_DATA[..], &["Ctext\r\n.\r\n"]].concat()).in_data());
        assert!(!heard(&[&TO_DATA[..], &["C.\r\n", "S250 ok\r\n"]].concat()).in_data());
        let chunk = ["S250 ok\r\n", "CBDAT 5 LAST\r\nhello"];
        assert!(heard(&chunk).in_data());
        let answered = heard(&[&chunk[..], &["S250 ok\r\n"]].concat());
        assert!(!answered.in_data());
        assert!(answered.at_command() && !answered.is_clear());
        let mut unseen = heard(&TO_DATA);
        unseen.miss(Side::Client);
        assert!(unseen.in_data());
    }

    #[test]
    fn leave_is_taken_by_a_command_and_not_by_a_line_of_a_message() {
        assert!(heard(&["S250 ok\r\n", "CQUIT\r\n"]).has_quit());
        assert!(heard(&["S250 ok\r\n", "Cquit \r\n", "S221 bye\r\n"]).has_quit());
        assert!(heard(&["S250 ok\r\n", "CRSET\r\nQUIT\r\n"]).has_quit());
        assert!(!heard(&["S250 ok\r\n", "CQUITE\r\n"]).has_quit());
        assert!(!heard(&["S250 ok\r\n", "CQUIT\r\n", "S221 bye\r\n", "CNOOP\r\n"]).has_quit());
        let data = |last| heard(&[&TO_DATA[..], &[last]].concat());
        assert!(!data("Ctext\r\nQUIT\r\n").has_quit());
        assert!(data("Ctext\r\n.\r\nquit\r\n").has_quit());
        assert!(data("C.\r\nQUIT\r\n").has_quit());
    }

    #[test]
    fn a_server_that_ends_the_session_is_known() {
        assert!(heard(&["S220 mx\r\n", "S421 4.4.2 timeout\r\n"]).server_is_closing());
        assert!(!heard(&["S220 mx\r\n"]).server_is_closing());
    }

    #[test]
    fn tls_is_known_and_nothing_in_it_is_read() {
        let hello = "C\u{16}\u{3}\u{1}\u{0}\u{5}hello";
        let start = ["S220 mx\r\n", "CSTARTTLS\r\n", "S220 go\r\n", hello];
        let mut dialogue = heard(&start);
        assert!(dialogue.tls());
        dialogue.hear(Side::Server, b"250 looks like\r\n");
        assert!(!dialogue.at_command() && !dialogue.in_data() && !dialogue.has_quit());
        // The same bytes elsewhere are a client's nonsense.
        assert!(!heard(&["S220 mx\r\n", hello]).tls());
        let mut smtps = Dialogue::new(Protocol::Smtps);
        smtps.hear(Side::Client, &hello.as_bytes()[1..]);
        assert!(smtps.tls());
    }

    proptest! {
        #[test]
        fn any_bytes_are_listened_to(pieces: Vec<(bool, Vec<u8>)>) {
            let mut dialogue = Dialogue::new(Protocol::Smtp);
            for (client, piece) in pieces {
                let from = if client { Side::Client } else { Side::Server };
                dialogue.hear(from, &piece);
                prop_assert_eq!(dialogue.spoke_last(), Some(from));
                prop_assert!(!(dialogue.in_data() && dialogue.at_command()));
            }
        }
    }
}
