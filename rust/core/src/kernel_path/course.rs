//! What a flow's course was, as far as the first bytes of each side's last words tell.

use mailweir_flow::Flow;
use mailweir_flow::layout::{END_FIRST, END_RST};

use crate::record::{Course, End, EndReason, Path, Side};
use crate::smtp::greeting::code;

/// RFC 5321, 4.2.1 and 3.8.
const START_MAIL_INPUT: u16 = 354;
const CLOSING: u16 = 421;
const QUIT: &[u8] = b"QUIT";
/// The end of a message, with QUIT behind it.
const DOT_QUIT: &[u8] = b".\r\nQUIT";

/// What is known of a flow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words<'a> {
    client: &'a [u8; 8],
    reply: Option<u16>,
    tls: bool,
    heard_last: Side,
    spoke_last: Side,
}

impl<'a> Words<'a> {
    pub(super) fn of(flow: &'a Flow) -> Self {
        let [client, server] = &flow.sides;
        // What nobody has acknowledged yet may be on its way.
        let is_asked = client.outstanding() > 0;
        let heard_last = if is_asked || client.said_ns > server.said_ns {
            Side::Client
        } else {
            Side::Server
        };
        let is_answered = !is_asked && server.outstanding() > 0;
        Self {
            client: &client.head,
            // Without a word of the server's since, its last one was the greeting.
            reply: code(&server.head),
            tls: is_tls(&client.head),
            heard_last,
            spoke_last: if is_answered {
                Side::Server
            } else {
                heard_last
            },
        }
    }

    /// Who spoke last, as far as limits go: an answer counts once the client has it.
    pub(super) fn heard_last(&self) -> Side {
        self.heard_last
    }

    /// What a limit that was reached is called: a client that doesn't acknowledge the answer that
    /// it waited for is the one that is silent.
    pub(super) fn owed(&self, reason: EndReason) -> EndReason {
        match (reason, self.spoke_last) {
            (EndReason::IdleServer, Side::Server) => EndReason::IdleClient,
            _ => reason,
        }
    }

    pub(super) fn course(&self) -> Course {
        Course {
            spoke_last: Some(self.spoke_last),
            tls: self.tls,
            // Otherwise it isn't known: of several replies in a segment only the first is seen.
            in_data: (!self.tls && self.reply == Some(START_MAIL_INPUT)).then_some(true),
            path: Path::Kernel,
        }
    }

    /// `end` by what was said before it.
    fn known(&self, end: End) -> End {
        if !self.tls && self.reply == Some(CLOSING) {
            End::by_server(EndReason::Server421)
        } else if !self.tls && took_leave(self.client) {
            End::by_client(EndReason::ClientQuit)
        } else {
            end
        }
    }
}

/// How a flow ended that ended by itself.
pub(super) fn end(flow: &Flow) -> End {
    let [client, server] = &flow.sides;
    let was_first = |ends: u32| ends & END_FIRST != 0;
    let end = if was_first(server.ends) && server.ends & END_RST != 0 {
        End::by_server(EndReason::ServerLost)
    } else if was_first(server.ends) {
        End::by_server(EndReason::ServerClosed)
    } else if was_first(client.ends) && client.ends & END_RST == 0 {
        End::by_client(EndReason::ClientClosed)
    } else {
        // By a reset, or it never acknowledged its greeting.
        End::by_client(EndReason::ClientLost)
    };
    Words::of(flow).known(end)
}

fn took_leave(head: &[u8; 8]) -> bool {
    let begins = |words: &[u8]| head[..words.len()].eq_ignore_ascii_case(words);
    begins(DOT_QUIT) || (begins(QUIT) && head[QUIT.len()].is_ascii_whitespace())
}

/// Whether these bytes begin a record of TLS (RFC 8446, 5.1).
fn is_tls(head: &[u8; 8]) -> bool {
    matches!(head, [20..=23, 3, 0..=4, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leave_is_taken_by_quit() {
        for (head, expected) in [
            (b"QUIT\r\n\0\0", true),
            (b"quit \r\n\0", true),
            (b".\r\nQUIT\r", true),
            (b"QUITE\r\n\0", false),
            (b"\0\0\0\0\0\0\0\0", false),
        ] {
            assert_eq!(took_leave(head), expected, "{head:?}");
        }
    }

    #[test]
    fn records_of_tls_are_known() {
        assert!(is_tls(b"\x17\x03\x03\x01\x02abc"));
        assert!(is_tls(b"\x16\x03\x01\x01\x02abc"));
        assert!(!is_tls(b"EHLO cli"));
    }
}
