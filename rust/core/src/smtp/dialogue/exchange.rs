//! Commands and replies in plain text: what the client's next byte is, and what is still due to it.
//!
//! The end of a message that was spliced isn't seen, nor what stood behind it in the same piece. The
//! next reply is that message's, since they come in order: nothing that could come twice is under way
//! then. Until the next 354 there may be replies to what was asked unseen.

use crate::smtp::codes::{CLOSING, START_MAIL_INPUT};

use super::commands::{Command, CommandLine};
use super::message::EndOfData;

/// RFC 4954, 4: the server waits for an answer, which isn't a command.
const CHALLENGE: u16 = 334;
/// RFC 3207, 4.
const READY_FOR_TLS: u16 = 220;
/// RFC 5321, 4.2.1: from here on a command has failed.
const FAILURES: u16 = 400;
/// More than any server answers: whoever asks so much doesn't wait for it.
const MOST_DUE: u32 = 1 << 20;

/// A dialogue in plain text.
#[derive(Debug)]
pub(super) struct Exchange {
    next: Next,
    line: CommandLine,
    asked: Command,
    /// Replies that are to come, at least.
    due: u32,
    /// Which of them, counted from 1, answers the last message that is whole. 0: none does.
    message_due: u32,
    /// Whether `due` is all that is to come.
    sure: bool,
    /// A chunk came that wasn't the last.
    open: bool,
    /// The client sends chunks.
    chunks: bool,
}

/// What the client's next byte belongs to.
#[derive(Debug)]
enum Next {
    Command,
    /// The answer to a challenge.
    Answer,
    Message(EndOfData),
    /// So many bytes, not 0, of a chunk.
    Chunk(u64),
    /// A message of which some wasn't seen, or commands behind its end. One reply is due, or more.
    Unseen(EndOfData),
}

/// How the dialogue goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Plain,
    /// The server waits for a TLS hello.
    Hello,
    /// The server ends the session, and hears nothing more.
    Closing,
}

/// It can't be said any more what is what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost;

impl Exchange {
    /// The greeting is due.
    pub(super) fn new() -> Self {
        Self {
            next: Next::Command,
            line: CommandLine::new(),
            asked: Command::Other,
            due: 1,
            message_due: 0,
            sure: true,
            open: false,
            chunks: false,
        }
    }

    /// The client said `piece`.
    pub(super) fn hear(&mut self, mut piece: &[u8]) -> Result<Step, Lost> {
        while !piece.is_empty() {
            match &mut self.next {
                Next::Command => {
                    if let Some(command) = self.line.next(&mut piece) {
                        self.asked(command)?;
                    }
                }
                Next::Answer => {
                    if self.line.next(&mut piece).is_some() {
                        self.next = Next::Command;
                    }
                }
                Next::Message(end) | Next::Unseen(end) => {
                    let Some(length) = end.find(piece) else {
                        break;
                    };
                    piece = &piece[length..];
                    self.next = Next::Command;
                    self.message_due = self.due;
                }
                Next::Chunk(left) => {
                    let length = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(piece.len());
                    piece = &piece[length..];
                    self.chunk_goes_on(length as u64);
                }
            }
        }
        Ok(Step::Plain)
    }

    /// The client said so many bytes, unseen.
    pub(super) fn miss(&mut self, size: usize) -> Result<Step, Lost> {
        match &self.next {
            Next::Chunk(left) if size as u64 <= *left => self.chunk_goes_on(size as u64),
            Next::Message(_) | Next::Unseen(_) if !self.chunks => {
                self.next = Next::Unseen(EndOfData::anywhere());
                self.asked = Command::Other;
                self.sure = false;
            }
            // A last chunk may be among it.
            _ => return Err(Lost),
        }
        Ok(Step::Plain)
    }

    /// The server gave a whole reply.
    pub(super) fn answered(&mut self, code: u16) -> Result<Step, Lost> {
        match code {
            START_MAIL_INPUT => self.take_message(),
            CHALLENGE if self.waits_for_one() => {
                self.next = Next::Answer;
                Ok(Step::Plain)
            }
            CHALLENGE => Err(Lost),
            READY_FOR_TLS if self.asked == Command::StartTls && self.due == 1 => {
                // Of what has come of a line the same can't be said.
                if self.waits_for_line() {
                    Ok(Step::Hello)
                } else {
                    Err(Lost)
                }
            }
            _ => self.settle(code),
        }
    }

    fn asked(&mut self, command: Command) -> Result<(), Lost> {
        if self.asked == Command::StartTls && self.due > 0 {
            // A command, or the first of TLS: that depends on the reply.
            return Err(Lost);
        }
        self.due += 1;
        self.asked = command;
        match command {
            Command::Bdat { size, last } if self.sure => {
                self.chunks = true;
                self.open = !last;
                if last {
                    self.message_due = self.due;
                }
                if size > 0 {
                    self.next = Next::Chunk(size);
                }
            }
            // With replies to come that nobody has counted, its own one wouldn't be known.
            Command::Bdat { .. } | Command::Unclear => return Err(Lost),
            Command::Reset | Command::Quit => self.open = false,
            Command::Data | Command::StartTls | Command::Other => {}
        }
        if self.due > MOST_DUE {
            return Err(Lost);
        }
        Ok(())
    }

    fn chunk_goes_on(&mut self, size: u64) {
        if let Next::Chunk(left) = &mut self.next {
            *left = left.saturating_sub(size);
            if *left == 0 {
                self.next = Next::Command;
            }
        }
    }

    /// The server waits for a message: DATA was the last that was asked, and all before it is
    /// answered.
    fn take_message(&mut self) -> Result<Step, Lost> {
        let asked = self.waits_for_one() && self.asked == Command::Data;
        let asked_unseen = !self.sure && self.waits_for_line() && self.due <= 1;
        if !asked && !asked_unseen {
            return Err(Lost);
        }
        self.next = Next::Message(EndOfData::at_line());
        self.due = 1;
        self.sure = true;
        Ok(Step::Plain)
    }

    /// A reply settles what it answers.
    fn settle(&mut self, code: u16) -> Result<Step, Lost> {
        match &self.next {
            Next::Command | Next::Chunk(_) => {}
            // The server doesn't wait for the answer.
            Next::Answer if self.line.is_empty() => self.next = Next::Command,
            Next::Unseen(_) => {
                self.next = Next::Command;
                self.due = 1;
                self.message_due = 0;
            }
            // A server that takes another end for the end, or that has heard enough.
            Next::Answer | Next::Message(_) => return unasked(code),
        }
        if self.due == 0 {
            // Nobody has asked for it, or nobody has seen that.
            return if self.sure {
                unasked(code)
            } else {
                Ok(Step::Plain)
            };
        }
        if self.due == 1 && code >= FAILURES && matches!(self.asked, Command::Bdat { .. }) {
            self.open = false;
        }
        self.due -= 1;
        self.message_due = self.message_due.saturating_sub(1);
        Ok(Step::Plain)
    }

    pub(super) fn is_between_commands(&self) -> bool {
        self.due == 0 && !self.open && self.waits_for_line()
    }

    /// Whether a message is under way, or may be.
    pub(super) fn has_message(&self) -> bool {
        let goes_on = matches!(
            self.next,
            Next::Message(_) | Next::Chunk(_) | Next::Unseen(_)
        );
        goes_on || self.open || self.message_due > 0
    }

    /// Whether a message was said, and the server is to answer it.
    pub(super) fn message_is_due(&self) -> bool {
        self.message_due > 0
    }

    pub(super) fn has_quit(&self) -> bool {
        self.asked == Command::Quit
    }

    /// Whether all that was asked was seen.
    pub(super) fn is_sure(&self) -> bool {
        self.sure
    }

    /// How much of what the client says next may stay unseen; none for any amount.
    pub(super) fn may_miss(&self) -> Option<usize> {
        match self.next {
            Next::Command | Next::Answer => Some(0),
            Next::Chunk(left) => Some(usize::try_from(left).unwrap_or(usize::MAX)),
            Next::Message(_) | Next::Unseen(_) => None,
        }
    }

    /// Whether the client is at the beginning of a line.
    fn waits_for_line(&self) -> bool {
        matches!(self.next, Next::Command) && self.line.is_empty()
    }

    /// The same, and one reply is due, to what it said last.
    fn waits_for_one(&self) -> bool {
        self.waits_for_line() && self.due == 1
    }
}

/// A reply that isn't to anything that the client has said whole.
fn unasked(code: u16) -> Result<Step, Lost> {
    if code == CLOSING {
        Ok(Step::Closing)
    } else {
        Err(Lost)
    }
}
