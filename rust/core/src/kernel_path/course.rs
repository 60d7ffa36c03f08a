//! What a flow's course was, as far as eight bytes of each side's last words tell: how a reply or a
//! record of TLS begins, and how a client's commands end.

use mailweir_flow::Flow;
use mailweir_flow::layout::{END_FIN, END_FIRST, END_RST};

use crate::record::{Course, End, EndReason, Path, Side};
use crate::smtp::codes::{CLOSING, GOODBYE, START_MAIL_INPUT};
use crate::smtp::greeting::code;
use crate::tls;

const QUIT: &[u8] = b"QUIT";

/// What is known of a flow.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastWords<'a> {
    client: &'a [u8; 8],
    reply: Option<u16>,
    tls: bool,
    heard_last: Side,
    /// The last that somebody said inside TLS is an alert.
    said_goodbye: bool,
    spoke_last: Side,
}

impl<'a> LastWords<'a> {
    pub(super) fn of(flow: &'a Flow) -> Self {
        let [client, server] = &flow.sides;
        // What nobody has acknowledged yet may be on its way.
        let is_asked = client.outstanding() > 0;
        let heard_last = if is_asked || client.acked_ns > server.acked_ns {
            Side::Client
        } else {
            Side::Server
        };
        let is_answered = !is_asked && server.outstanding() > 0;
        Self {
            client: &client.words,
            // Without a word of the server's since, its last one was the greeting.
            reply: code(&server.words),
            // What goes on with a record of before begins like none.
            tls: [client, server]
                .iter()
                .any(|side| tls::is_record(&side.words)),
            said_goodbye: [client, server]
                .iter()
                .any(|side| tls::begins_with_alert(&side.words)),
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

    /// How it ended, if what was said before that tells.
    fn end(&self) -> Option<End> {
        if self.tls {
            None
        } else if self.reply == Some(CLOSING) {
            Some(End::by_server(EndReason::Server421))
        } else if self.took_leave() || self.reply == Some(GOODBYE) {
            Some(End::by_client(EndReason::ClientQuit))
        } else {
            None
        }
    }

    /// The client's last command was QUIT. A mail may end with such a line too.
    fn took_leave(&self) -> bool {
        self.reply != Some(START_MAIL_INPUT) && ends_with_quit(self.client)
    }
}

/// How a flow ended that ended by itself.
pub(super) fn end(flow: &Flow) -> End {
    let words = LastWords::of(flow);
    words.end().unwrap_or_else(|| end_by_segments(flow, words))
}

/// How a flow ended one of whose peers is gone without a word: as if it had reset it.
pub(super) fn lost(flow: &Flow, side: Side) -> End {
    let mut flow = *flow;
    let is_first = flow.sides.iter().all(|side| side.ends == 0);
    let [client, server] = &mut flow.sides;
    let gone = match side {
        Side::Client => client,
        Side::Server => server,
    };
    gone.ends |= if is_first {
        END_RST | END_FIRST
    } else {
        END_RST
    };
    end(&flow)
}

fn end_by_segments(flow: &Flow, words: LastWords<'_>) -> End {
    let [client, server] = &flow.sides;
    let has = |ends: u32, bits: u32| ends & bits == bits;
    let closed_first = |ends: u32| has(ends, END_FIRST | END_FIN);
    let reset_first = |ends: u32| has(ends, END_FIRST | END_RST) && !has(ends, END_FIN);
    let goodbye = words.tls && words.said_goodbye;
    // Nobody waited for an answer.
    let in_order = goodbye || words.spoke_last == Side::Server;
    let in_tls = |ends: u32| {
        let closed = closed_first(ends) && words.tls && in_order;
        closed || reset_first(ends) && goodbye
    };
    let (client, server) = (client.ends, server.ends);
    if in_tls(server) {
        End::by_server(EndReason::TlsClosed)
    } else if in_tls(client) {
        End::by_client(EndReason::TlsClosed)
    } else if closed_first(server) {
        End::by_server(EndReason::ServerClosed)
    } else if closed_first(client) && words.course().in_data == Some(true) {
        // It can't be answered any more: it has broken its message off.
        End::by_client(EndReason::ClientClosed)
    } else if reset_first(server) || has(server, END_RST) && !in_order {
        End::by_server(EndReason::ServerLost)
    } else if closed_first(client) {
        End::by_client(EndReason::ClientClosed)
    } else {
        // By a reset, or it never acknowledged its greeting.
        End::by_client(EndReason::ClientLost)
    }
}

fn ends_with_quit(words: &[u8; 8]) -> bool {
    let Some((before, last)) = words.trim_ascii_end().split_last_chunk::<4>() else {
        return false;
    };
    // As long as nothing was said before, there are zeros.
    last.eq_ignore_ascii_case(QUIT) && matches!(before.last(), Some(b'\n' | 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leave_is_taken_by_quit() {
        for (words, expected) in [
            (b"\r\nQUIT\r\n", true),
            (b"\0\0QUIT\r\n", true),
            (b"\nquit \r\n", true),
            (b"\r\n\nQUIT\n", true),
            (b"\nQUITE\r\n", false),
            (b" 1QUIT\r\n", false),
            (b"QUIT\r\n..", false),
            (b"\0\0\0\0\0\0\0\0", false),
        ] {
            assert_eq!(ends_with_quit(words), expected, "{words:?}");
        }
    }

    /// How a flow ended whose sides said these last, `first` before the other.
    fn ended(first: Side, last: [&[u8; 8]; 2], ends: [u32; 2]) -> (&'static str, &'static str) {
        let mut flow = Flow::from_bytes(&[0; Flow::SIZE]);
        for (side, (words, ends)) in flow.sides.iter_mut().zip(last.into_iter().zip(ends)) {
            (side.words, side.ends, side.acked_ns) = (*words, ends, 2);
        }
        let earlier = match first {
            Side::Client => 0,
            Side::Server => 1,
        };
        flow.sides[earlier].acked_ns = 1;
        let end = end(&flow);
        (end.reason.label(), end.by.label())
    }

    #[test]
    fn ends_are_told_by_segments_and_words() {
        use Side::{Client, Server};
        let (ok, text) = (b"250 ok\r\n", b"\x17\x03\x03\x01\x02abc");
        let (noop, alert) = (b"\r\nNOOP\r\n", b"\x17\x03\x03\x00\x13abc");
        let (fin, rst) = (END_FIRST | END_FIN, END_FIRST | END_RST);
        for (first, last, ends, expected) in [
            (
                Client,
                [b"\r\nQUIT\r\n", ok],
                [END_FIN, fin],
                ("client_quit", "client"),
            ),
            // With both answers in one segment only the client's words tell; here the last answer does.
            (
                Client,
                [noop, b"221 bye\r"],
                [END_FIN, fin],
                ("client_quit", "client"),
            ),
            // The mail isn't at its end.
            (
                Server,
                [b"\r\nQUIT\r\n", b"354 go\r\n"],
                [fin, END_FIN],
                ("client_closed", "client"),
            ),
            (
                Server,
                [b"text\r\n\r\n", b"354 go\r\n"],
                [fin, END_RST],
                ("client_closed", "client"),
            ),
            (
                Server,
                [b"text\r\n\r\n", b"354 go\r\n"],
                [END_RST, fin],
                ("server_closed", "server"),
            ),
            (
                Client,
                [noop, b"421 bye\r"],
                [END_FIN, fin],
                ("server_421", "server"),
            ),
            (
                Client,
                [noop, ok],
                [fin, END_FIN],
                ("client_closed", "client"),
            ),
            (
                Client,
                [noop, ok],
                [END_RST, fin],
                ("server_closed", "server"),
            ),
            (
                Client,
                [noop, ok],
                [fin | END_RST, END_FIN],
                ("client_closed", "client"),
            ),
            (Client, [noop, ok], [rst, 0], ("client_lost", "client")),
            (
                Server,
                [noop, ok],
                [fin, END_RST],
                ("server_lost", "server"),
            ),
            (Client, [noop, ok], [0, rst], ("server_lost", "server")),
            (
                Client,
                [text, text],
                [END_FIN, fin],
                ("tls_closed", "server"),
            ),
            (
                Client,
                [text, text],
                [fin, END_RST],
                ("tls_closed", "client"),
            ),
            (
                Server,
                [alert, text],
                [fin, END_RST],
                ("tls_closed", "client"),
            ),
            // In the middle of a record.
            (
                Client,
                [b"\x01\x02recor\x03", alert],
                [END_FIN, fin],
                ("tls_closed", "server"),
            ),
            (Client, [text, alert], [rst, 0], ("tls_closed", "client")),
            (
                Server,
                [text, text],
                [fin, END_FIN],
                ("client_closed", "client"),
            ),
            (Client, [text, text], [rst, 0], ("client_lost", "client")),
        ] {
            assert_eq!(ended(first, last, ends), expected, "{last:?} {ends:?}");
        }
    }

    /// As on the relay, whose socket finds that.
    #[test]
    fn who_is_gone_without_a_word_is_lost_unless_that_was_the_end() {
        use Side::{Client, Server};
        let (ok, noop) = (b"250 ok\r\n", b"\r\nNOOP\r\n");
        let (text, alert) = (b"\x17\x03\x03\x01\x02abc", b"\x17\x03\x03\x00\x13abc");
        for (gone, said, ends, expected) in [
            (Client, [noop, ok], [0, 0], ("client_lost", "client")),
            (Server, [noop, ok], [0, 0], ("server_lost", "server")),
            (
                Server,
                [noop, b"421 bye\r"],
                [0, 0],
                ("server_421", "server"),
            ),
            (
                Client,
                [b"\r\nQUIT\r\n", ok],
                [0, 0],
                ("client_quit", "client"),
            ),
            (Client, [text, text], [0, 0], ("client_lost", "client")),
            (Client, [text, alert], [0, 0], ("tls_closed", "client")),
            (
                Server,
                [noop, ok],
                [END_FIRST | END_FIN, 0],
                ("client_closed", "client"),
            ),
        ] {
            let mut flow = Flow::from_bytes(&[0; Flow::SIZE]);
            for (side, (words, ends)) in flow.sides.iter_mut().zip(said.into_iter().zip(ends)) {
                (side.words, side.ends) = (*words, ends);
            }
            // The server spoke last.
            flow.sides[1].acked_ns = 2;
            let end = lost(&flow, gone);
            let found = (end.reason.label(), end.by.label());
            assert_eq!(found, expected, "{gone:?} {said:?} {ends:?}");
        }
    }
}
