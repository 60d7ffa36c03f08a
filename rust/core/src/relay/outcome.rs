//! How a session ended, by what was seen of each side in the order in which it was seen. Pure.
//!
//! An end of stream when nobody waited for an answer is an orderly end, and a reset behind it no loss:
//! whoever closes with something unread (the other's goodbye) sends one.

use crate::record::{End, EndReason, Side};
use crate::smtp::dialogue::Dialogue;

/// What is known of how a session ends, as it does.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    first: Option<Gone>,
    /// Who took nothing any more, before anybody's stream ended: by a reset, or it has closed
    /// both ways, which its own stream tells.
    deaf: Option<Side>,
}

#[derive(Debug, Clone, Copy)]
struct Gone {
    side: Side,
    how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// Its stream ended, and nobody waited for an answer.
    InOrder,
    /// Its stream ended.
    Closed,
    Lost,
}

impl Outcome {
    /// The stream of `side` has ended.
    pub(super) fn closed(&mut self, side: Side, dialogue: &Dialogue) {
        let answered = dialogue.spoke_last() == Some(Side::Server);
        let how = if answered || dialogue.said_goodbye_in_tls() {
            How::InOrder
        } else {
            How::Closed
        };
        self.first.get_or_insert(Gone { side, how });
    }

    /// The connection with `side` was reset, or is lost; `had_all` says whether everything that was
    /// on its way there had arrived, but perhaps a last word.
    pub(super) fn lost(&mut self, side: Side, had_all: bool, dialogue: &Dialogue) {
        let how = if had_all && dialogue.said_goodbye_in_tls() {
            How::InOrder
        } else {
            How::Lost
        };
        let in_message = dialogue.in_data() == Some(true);
        let stands = |first: &Gone| match first.how {
            // Who ends in the middle of a message has broken it off, whatever the other does then.
            How::InOrder | How::Closed if in_message && first.side != side => true,
            How::InOrder => had_all,
            How::Closed | How::Lost => false,
        };
        self.first = self.first.filter(stands).or(Some(Gone { side, how }));
    }

    /// Nothing can be written to `side` any more.
    pub(super) fn deaf(&mut self, side: Side) {
        self.deaf.get_or_insert(side);
    }

    /// Once both sides have ended, or one is lost.
    pub(super) fn end(&self, dialogue: &Dialogue) -> End {
        let deaf = Gone {
            side: self.deaf.unwrap_or(Side::Client),
            how: How::Lost,
        };
        let Gone { side, how } = self.first.unwrap_or(deaf);
        let in_tls = dialogue.tls() && how == How::InOrder;
        match side {
            _ if dialogue.server_is_closing() => End::by_server(EndReason::Server421),
            _ if dialogue.has_quit() => End::by_client(EndReason::ClientQuit),
            Side::Client if in_tls => End::by_client(EndReason::TlsClosed),
            Side::Server if in_tls => End::by_server(EndReason::TlsClosed),
            Side::Client if how == How::Lost => End::by_client(EndReason::ClientLost),
            Side::Server if how == How::Lost => End::by_server(EndReason::ServerLost),
            Side::Client => End::by_client(EndReason::ClientClosed),
            Side::Server => End::by_server(EndReason::ServerClosed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Side::{Client, Server};
    use super::*;
    use crate::spec::Protocol;

    /// A session in which this was said, in order.
    fn dialogue(protocol: Protocol, said: &[(Side, &[u8])]) -> Dialogue {
        let mut dialogue = Dialogue::new(protocol);
        for (from, piece) in said {
            dialogue.hear(*from, piece);
        }
        dialogue
    }

    /// What comes of these events: `c` and `s` close, `C` and `S` are lost, `X` is the client that
    /// had something on its way, `1` and `2` say that the client or the server takes nothing any
    /// more.
    fn end(dialogue: &Dialogue, events: &str) -> (&'static str, &'static str) {
        let mut outcome = Outcome::default();
        for event in events.chars() {
            match event {
                'c' => outcome.closed(Client, dialogue),
                's' => outcome.closed(Server, dialogue),
                'C' => outcome.lost(Client, true, dialogue),
                'X' => outcome.lost(Client, false, dialogue),
                'S' => outcome.lost(Server, true, dialogue),
                '1' => outcome.deaf(Client),
                _ => outcome.deaf(Server),
            }
        }
        let end = outcome.end(dialogue);
        (end.reason.label(), end.by.label())
    }

    #[test]
    fn in_plain_text_the_last_words_count() {
        let quit: [(Side, &[u8]); 3] = [
            (Server, b"220 mx\r\n"),
            (Client, b"QUIT\r\n"),
            (Server, b"221 bye\r\n"),
        ];
        for events in ["sc", "cs", "sC", "C", "cS", "2s", "1C"] {
            let dialogue = dialogue(Protocol::Smtp, &quit);
            assert_eq!(
                end(&dialogue, events),
                ("client_quit", "client"),
                "{events}"
            );
        }
        let asked: [(Side, &[u8]); 2] = [(Server, b"220 mx\r\n"), (Client, b"NOOP\r\n")];
        let answered: [(Side, &[u8]); 3] = [asked[0], asked[1], (Server, b"250 ok\r\n")];
        let message: [(Side, &[u8]); 4] = [
            (Server, b"220 mx\r\n"),
            (Client, b"DATA\r\n"),
            (Server, b"354 go\r\n"),
            (Client, b"Subject: a\r\n"),
        ];
        for (said, events, expected) in [
            (&answered[..], "cs", ("client_closed", "client")),
            (&answered[..], "sc", ("server_closed", "server")),
            // A reset behind an end in order takes nothing from anybody.
            (&answered[..], "cS", ("client_closed", "client")),
            (&answered[..], "sC", ("server_closed", "server")),
            (&answered[..], "sX", ("client_lost", "client")),
            (&answered[..], "C", ("client_lost", "client")),
            (&answered[..], "S", ("server_lost", "server")),
            // Somebody still waited for an answer.
            (&asked[..], "cs", ("client_closed", "client")),
            (&asked[..], "cS", ("server_lost", "server")),
            (&asked[..], "sc", ("server_closed", "server")),
            (&asked[..], "2s", ("server_closed", "server")),
            (&asked[..], "2S", ("server_lost", "server")),
            (&asked[..], "2", ("server_lost", "server")),
            // A message was broken off: by whoever ended first.
            (&message[..], "cS", ("client_closed", "client")),
            (&message[..], "cs", ("client_closed", "client")),
            (&message[..], "sC", ("server_closed", "server")),
            (&message[..], "sc", ("server_closed", "server")),
            (&message[..], "S", ("server_lost", "server")),
            (&answered[..], "1", ("client_lost", "client")),
        ] {
            let dialogue = dialogue(Protocol::Smtp, said);
            assert_eq!(end(&dialogue, events), expected, "{said:?} {events}");
        }
    }

    #[test]
    fn inside_tls_an_end_in_order_has_its_own_word() {
        let hello: (Side, &[u8]) = (Client, b"\x16\x03\x01\x00\x05hello");
        let text = |side| (side, b"\x17\x03\x03\x00\x04text".as_slice());
        let goodbye = [b"\x17\x03\x03\x00\x13".as_slice(), &[7; 19]].concat();
        let goodbye = |side| (side, goodbye.as_slice());
        let waits = [hello, text(Server), text(Client)];
        let answered = [hello, text(Client), text(Server)];
        let client_leaves = [hello, text(Client), goodbye(Client)];
        let both_leave = [hello, goodbye(Server), goodbye(Client)];
        for (said, events, expected) in [
            (&answered[..], "cs", ("tls_closed", "client")),
            (&answered[..], "sc", ("tls_closed", "server")),
            (&answered[..], "sC", ("tls_closed", "server")),
            (&answered[..], "C", ("client_lost", "client")),
            (&client_leaves[..], "cs", ("tls_closed", "client")),
            (&client_leaves[..], "cS", ("tls_closed", "client")),
            (&both_leave[..], "2s", ("tls_closed", "server")),
            // Closed with the other's goodbye unread.
            (&both_leave[..], "S", ("tls_closed", "server")),
            (&both_leave[..], "C", ("tls_closed", "client")),
            (&both_leave[..], "X", ("client_lost", "client")),
            // In the middle.
            (&waits[..], "cs", ("client_closed", "client")),
            (&waits[..], "sc", ("server_closed", "server")),
            (&waits[..], "cS", ("server_lost", "server")),
            (&waits[..], "S", ("server_lost", "server")),
        ] {
            let dialogue = dialogue(Protocol::Smtps, said);
            assert_eq!(end(&dialogue, events), expected, "{said:?} {events}");
        }
    }
}
