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
    spoke_last: Side,
}

impl<'a> Words<'a> {
    pub(super) fn of(flow: &'a Flow) -> Self {
        let [client, server] = &flow.sides;
        // Without a word of the server's since, its last one was the greeting.
        let reply = match server.said_ns {
            0 => None,
            _ => code(&server.head),
        };
        Self {
            client: &client.head,
            reply,
            tls: is_tls(&client.head),
            spoke_last: if client.said_ns > server.said_ns {
                Side::Client
            } else {
                Side::Server
            },
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
