//! The server's side of SMTP as a state machine: bytes in, replies out, no sockets.
//!
//! It takes every message and throws it away. Commands are answered in order, so that a
//! pipelined batch yields one block of replies, to be sent in one write.

use std::sync::Arc;

use crate::data::EndOfData;
use crate::digest::{Digester, MessageDigest};

/// RFC 5321 asks for 512; the rest is room for parameters.
const LINE_LIMIT: usize = 2048;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Mail,
    Rcpt,
    Data,
    Quit,
}

/// A message taken to its final dot.
#[derive(Debug, Clone)]
pub struct Received {
    /// Bytes on the wire, final dot line included.
    pub bytes: u64,
    /// Present if the session was asked to hash.
    pub digest: Option<MessageDigest>,
}

/// One SMTP session as the server sees it.
#[derive(Debug)]
pub struct ServerSession {
    name: Arc<str>,
    state: State,
    line: Vec<u8>,
    replies: Vec<u8>,
    end: EndOfData,
    message_bytes: u64,
    digester: Option<Digester>,
    received: Vec<Received>,
}

impl ServerSession {
    /// A session of the server called `name`; with `hash`, messages come with a digest.
    #[must_use]
    pub fn new(name: Arc<str>, hash: bool) -> Self {
        Self {
            name,
            state: State::Idle,
            line: Vec::new(),
            replies: Vec::new(),
            end: EndOfData::new(),
            message_bytes: 0,
            digester: hash.then(Digester::default),
            received: Vec::new(),
        }
    }

    /// Queues the usual greeting.
    pub fn greet(&mut self) {
        let greeting = format!("220 {} ESMTP\r\n", self.name);
        self.replies.extend_from_slice(greeting.as_bytes());
    }

    /// Takes what the client sent, in pieces of any size.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.state != State::Quit {
            let taken = if self.state == State::Data {
                self.feed_data(bytes)
            } else {
                self.feed_line(bytes)
            };
            bytes = &bytes[taken..];
        }
    }

    /// The replies to be written now; the caller clears them.
    pub fn replies(&mut self) -> &mut Vec<u8> {
        &mut self.replies
    }

    /// The messages finished since the last call.
    pub fn take_received(&mut self) -> Vec<Received> {
        std::mem::take(&mut self.received)
    }

    /// True once QUIT was answered: write the replies and close.
    #[must_use]
    pub fn has_quit(&self) -> bool {
        self.state == State::Quit
    }

    fn feed_line(&mut self, bytes: &[u8]) -> usize {
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            if self.line.len() <= LINE_LIMIT {
                self.line.extend_from_slice(bytes);
            }
            return bytes.len();
        };
        if self.line.is_empty() {
            self.command(&bytes[..end]);
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(&bytes[..end]);
            self.command(&line);
        }
        end + 1
    }

    fn feed_data(&mut self, bytes: &[u8]) -> usize {
        let end = self.end.scan(bytes);
        let taken = end.unwrap_or(bytes.len());
        self.message_bytes += taken as u64;
        if let Some(digester) = &mut self.digester {
            digester.update(&bytes[..taken]);
        }
        if end.is_some() {
            self.received.push(Received {
                bytes: std::mem::take(&mut self.message_bytes),
                digest: self.digester.as_mut().map(Digester::finish),
            });
            self.state = State::Idle;
            self.reply("250 2.0.0 Ok: taken");
        }
        taken
    }

    fn command(&mut self, line: &[u8]) {
        if line.len() > LINE_LIMIT {
            return self.reply("500 5.5.2 Line too long");
        }
        let line = line.trim_ascii();
        let verb = line.split(|byte| *byte == b' ').next().unwrap_or_default();
        match verb.to_ascii_uppercase().as_slice() {
            b"EHLO" => self.ehlo(),
            b"HELO" => {
                self.state = State::Idle;
                let reply = format!("250 {}", self.name);
                self.reply(&reply);
            }
            b"MAIL" => self.step(&[State::Idle], State::Mail, "250 2.1.0 Ok"),
            b"RCPT" => self.step(&[State::Mail, State::Rcpt], State::Rcpt, "250 2.1.5 Ok"),
            b"DATA" => {
                self.end = EndOfData::new();
                self.step(
                    &[State::Rcpt],
                    State::Data,
                    "354 End data with <CR><LF>.<CR><LF>",
                );
            }
            b"RSET" => {
                self.state = State::Idle;
                self.reply("250 2.0.0 Ok");
            }
            b"NOOP" => self.reply("250 2.0.0 Ok"),
            b"QUIT" => {
                self.state = State::Quit;
                self.reply("221 2.0.0 Bye");
            }
            _ => self.reply("502 5.5.2 Command not recognized"),
        }
    }

    fn ehlo(&mut self) {
        self.state = State::Idle;
        let reply = format!(
            "250-{}\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 0",
            self.name
        );
        self.reply(&reply);
    }

    fn step(&mut self, from: &[State], to: State, reply: &str) {
        if from.contains(&self.state) {
            self.state = to;
            self.reply(reply);
        } else {
            self.reply("503 5.5.1 Bad sequence of commands");
        }
    }

    fn reply(&mut self, text: &str) {
        self.replies.extend_from_slice(text.as_bytes());
        self.replies.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies(session: &mut ServerSession) -> String {
        String::from_utf8(std::mem::take(session.replies())).unwrap()
    }

    #[test]
    fn a_pipelined_session_in_pieces_of_any_size() {
        let wire = b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n\
            Message-ID: <1@x>\r\n\r\nhello\r\n.\r\nmail from:<a@b>\r\nRSET\r\nQUIT\r\nNOOP\r\n";
        let mut whole = ServerSession::new("sink".into(), true);
        whole.greet();
        whole.feed(wire);
        let expected = replies(&mut whole);
        let codes: Vec<&str> = expected.lines().map(|line| &line[..4]).collect();
        let wanted = "220 |250-|250-|250-|250 |250 |250 |354 |250 |250 |250 |221 ";
        assert_eq!(codes.join("|"), wanted);
        for step in 1..wire.len() {
            let mut session = ServerSession::new("sink".into(), true);
            session.greet();
            wire.chunks(step).for_each(|piece| session.feed(piece));
            assert_eq!(replies(&mut session), expected, "in steps of {step}");
            assert!(session.has_quit());
            let received = session.take_received();
            assert_eq!(received.len(), 1);
            assert_eq!(received[0].bytes, 31);
        }
    }

    #[test]
    fn wrong_order_and_nonsense_are_refused() {
        let mut session = ServerSession::new("sink".into(), false);
        session.feed(b"DATA\r\nRCPT TO:<a@b>\r\nSTARTTLS\r\n\r\n");
        session.feed(&[b'x'; 5000]);
        session.feed(b"\r\nNOOP\r\n");
        let text = replies(&mut session);
        let codes: Vec<&str> = text.lines().map(|line| &line[..3]).collect();
        assert_eq!(codes, ["503", "503", "502", "502", "500", "250"]);
    }
}
