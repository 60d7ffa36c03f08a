//! Follows a session's dialogue as it is carried: what the client's next byte is, and how many
//! replies are due. For the relay, which cuts a session by it, and for the record. Nothing is held
//! back here.
//!
//! What is known is exact, however the bytes were cut into pieces. What can't be followed is said to
//! be unclear: TLS, what never came into user space, and whoever doesn't keep to RFC 5321.

mod commands;
mod exchange;
mod message;
mod replies;

use crate::record::Side;
use crate::smtp::codes::{CLOSING, GOODBYE};
use crate::spec::Protocol;
use crate::tls;

use exchange::{Exchange, Lost, Step};
use replies::{Replies, ReplyLine};

/// What is known of a session's dialogue.
#[derive(Debug)]
pub(crate) struct Dialogue {
    state: State,
    replies: Replies,
    spoke_last: Option<Side>,
}

#[derive(Debug)]
enum State {
    /// Plain text, followed line by line.
    Plain(Exchange),
    /// The client's next piece is to begin TLS.
    Hello,
    Tls(Goodbyes),
    /// Plain text. The server has said that it ends the session, and nobody had asked (RFC 5321,
    /// 3.8): what the client says now has no answer.
    Closing,
    /// Plain text whose thread is lost: replies are read, commands aren't.
    Adrift,
    /// Nothing that we know.
    Opaque,
}

/// Whether the last that each side said inside TLS was an alert, as far as can be seen.
#[derive(Debug, Default)]
struct Goodbyes {
    client: bool,
    server: bool,
}

impl Dialogue {
    pub(crate) fn new(protocol: Protocol) -> Self {
        Self {
            state: match protocol {
                Protocol::Smtp => State::Plain(Exchange::new()),
                Protocol::Smtps => State::Hello,
                Protocol::Tcp => State::Opaque,
            },
            replies: Replies::default(),
            spoke_last: None,
        }
    }

    /// `from` said `piece`, which isn't empty.
    pub(crate) fn hear(&mut self, from: Side, piece: &[u8]) {
        self.spoke_last = Some(from);
        match (&mut self.state, from) {
            (State::Plain(exchange), Side::Client) => {
                let outcome = exchange.hear(piece);
                self.go_on(outcome);
            }
            (State::Plain(_) | State::Closing | State::Adrift, Side::Server) => {
                self.hear_server(piece);
            }
            (State::Hello, Side::Client) => {
                self.state = if tls::is_record(piece) {
                    State::Tls(Goodbyes::default())
                } else {
                    State::Adrift
                };
            }
            (State::Tls(goodbyes), _) => goodbyes.note(from, tls::ends_with_alert(piece)),
            (State::Hello, Side::Server)
            | (State::Closing | State::Adrift, Side::Client)
            | (State::Opaque, _) => {}
        }
    }

    /// `from` said so many bytes, unseen.
    pub(crate) fn miss(&mut self, from: Side, size: usize) {
        self.spoke_last = Some(from);
        match (&mut self.state, from) {
            (State::Plain(exchange), Side::Client) => {
                let outcome = exchange.miss(size);
                self.go_on(outcome);
            }
            (State::Plain(_) | State::Closing | State::Adrift, Side::Server) => {
                self.replies = Replies::from_anywhere();
                self.state = State::Adrift;
            }
            (State::Tls(goodbyes), _) => goodbyes.note(from, false),
            (State::Hello, Side::Client) => self.state = State::Adrift,
            (State::Hello, Side::Server)
            | (State::Closing | State::Adrift, Side::Client)
            | (State::Opaque, _) => {}
        }
    }

    fn hear_server(&mut self, mut piece: &[u8]) {
        while let Some(line) = self.replies.next(&mut piece) {
            let outcome = match (&mut self.state, line) {
                (_, ReplyLine::GoesOn) | (State::Closing, ReplyLine::Last(CLOSING)) => continue,
                (State::Plain(exchange), ReplyLine::Last(code)) => exchange.answered(code),
                (State::Plain(_) | State::Closing, _) => Err(Lost),
                _ => continue,
            };
            self.go_on(outcome);
        }
    }

    fn go_on(&mut self, outcome: Result<Step, Lost>) {
        match outcome {
            Ok(Step::Plain) => {}
            Ok(Step::Hello) => self.state = State::Hello,
            Ok(Step::Closing) => self.state = State::Closing,
            Err(Lost) => self.state = State::Adrift,
        }
    }

    /// Who said something last.
    pub(crate) fn spoke_last(&self) -> Option<Side> {
        self.spoke_last
    }

    /// Whether the session speaks TLS, as far as was seen.
    pub(crate) fn tls(&self) -> bool {
        matches!(self.state, State::Tls(_))
    }

    /// Whether a message is under way: between a 354 (or a chunk) and what answers it; none where
    /// that can't be known.
    pub(crate) fn in_data(&self) -> Option<bool> {
        match &self.state {
            State::Plain(exchange) => Some(exchange.has_message()),
            // Whoever begins TLS has no message under way, and one that was is refused.
            State::Hello | State::Closing => Some(false),
            State::Tls(_) | State::Adrift | State::Opaque => None,
        }
    }

    /// Whether a whole message was said and isn't answered yet, whatever the server has said since: it
    /// may have answered what was pipelined before it.
    pub(crate) fn message_is_due(&self) -> bool {
        self.exchange().is_some_and(Exchange::message_is_due)
    }

    /// Whether every command has its reply and no message is under way, in plain text: what the
    /// client says next is a command, and may be answered by us.
    pub(crate) fn is_between_commands(&self) -> bool {
        self.exchange().is_some_and(Exchange::is_between_commands)
    }

    /// How much of what `from` says next may stay unseen without the thread being lost; none where
    /// it doesn't matter how much.
    pub(crate) fn may_miss(&self, from: Side) -> Option<usize> {
        let exchange = self.exchange()?;
        match from {
            Side::Client => exchange.may_miss(),
            Side::Server => Some(0),
        }
    }

    /// Whether the client took leave.
    pub(crate) fn has_quit(&self) -> bool {
        let said_goodbye = self.replies.last() == Some(GOODBYE);
        match &self.state {
            State::Plain(exchange) => exchange.has_quit() || (!exchange.is_sure() && said_goodbye),
            State::Adrift => said_goodbye,
            State::Hello | State::Tls(_) | State::Closing | State::Opaque => false,
        }
    }

    /// Whether the server's last word was that it ends the session.
    pub(crate) fn server_is_closing(&self) -> bool {
        let reads = matches!(self.state, State::Plain(_) | State::Closing | State::Adrift);
        reads && self.replies.last() == Some(CLOSING)
    }

    /// Whether `from` may have nothing to say any more.
    pub(crate) fn may_end(&self, from: Side) -> bool {
        let has_answered = from == Side::Server && (self.has_quit() || self.server_is_closing());
        has_answered || self.said_goodbye_in_tls()
    }

    /// Whether somebody said goodbye inside TLS and nobody said anything behind that but the same.
    pub(crate) fn said_goodbye_in_tls(&self) -> bool {
        match &self.state {
            State::Tls(goodbyes) => goodbyes.client || goodbyes.server,
            _ => false,
        }
    }

    fn exchange(&self) -> Option<&Exchange> {
        match &self.state {
            State::Plain(exchange) => Some(exchange),
            _ => None,
        }
    }
}

impl Goodbyes {
    fn note(&mut self, from: Side, alert: bool) {
        match from {
            Side::Client => self.client = alert,
            Side::Server => self.server = alert,
        }
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod model;
#[cfg(test)]
mod tests;
