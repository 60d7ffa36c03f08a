//! A session played by choices, in which it is known what is under way: what [`Dialogue`] says is
//! compared with that. For property tests and fuzzing.

use crate::record::Side;
use crate::spec::Protocol;

use super::Dialogue;

const GREETING: &[u8] = b"220-teaser\r\n220 mx.test\r\n";

/// Numbers that decide what happens; 0 once there are no more.
#[derive(Debug)]
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn below(&mut self, number: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or(0)) % number
    }

    fn is_over(&self) -> bool {
        self.0.as_slice().is_empty()
    }
}

/// What a client says to get one reply.
#[derive(Debug)]
struct Unit {
    bytes: Vec<u8>,
    reply: Vec<u8>,
    kind: Kind,
    /// Whether its client waits for every reply before it.
    waits: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Command,
    /// The server asks for more: a message, or an answer.
    Begins {
        message: bool,
    },
    /// A message to its dot.
    Body,
    /// A command line of so many bytes, and a chunk.
    Chunk {
        line: usize,
        last: bool,
    },
}

/// Plays a session; `choices` say which, and how it is cut into pieces.
///
/// # Panics
/// If the dialogue says what isn't so.
pub(crate) fn play(choices: &[u8]) {
    let mut choices = Choices(choices.iter());
    let units = units(&mut choices);
    Play {
        units: &units,
        dialogue: Dialogue::new(Protocol::Smtp),
        unsaid: GREETING.to_vec(),
        greeting: GREETING.len(),
        said: 0,
        within: 0,
        answered: 0,
        missed: false,
        closes: false,
    }
    .run(&mut choices);
}

fn units(choices: &mut Choices<'_>) -> Vec<Unit> {
    let by_chunks = choices.below(2) == 1;
    let mut units = vec![];
    for _ in 0..choices.below(8) {
        match choices.below(6) {
            0 | 1 => units.push(command(choices, "NOOP some words", &[250, 500])),
            2 => units.extend(authentication(choices)),
            3 => units.push(command(choices, "rset", &[250])),
            _ if by_chunks => units.extend(chunks(choices)),
            _ => units.extend(message(choices)),
        }
    }
    units
}

fn command(choices: &mut Choices<'_>, line: &str, codes: &[u16]) -> Unit {
    let end = ["\r\n", "\n"][choices.below(2)];
    let code = codes[choices.below(codes.len())];
    Unit {
        bytes: [line, end].concat().into(),
        reply: reply(choices, code),
        kind: Kind::Command,
        waits: choices.below(2) == 1,
    }
}

fn reply(choices: &mut Choices<'_>, code: u16) -> Vec<u8> {
    let more = format!("{code}-more\r\n").repeat(choices.below(3));
    let last = ["", " ", " ok"][choices.below(3)];
    format!("{more}{code}{last}\r\n").into()
}

fn authentication(choices: &mut Choices<'_>) -> Vec<Unit> {
    let challenges = choices.below(3);
    let mut units = vec![command(choices, "AUTH LOGIN", &[535])];
    for _ in 0..challenges {
        let before = units.last_mut().expect("there is one");
        before.kind = Kind::Begins { message: false };
        before.reply = b"334 VXNlcm5hbWU6\r\n".to_vec();
        let line = ["QUIT", "DATA", "BDAT 9", "dXNlcg=="][choices.below(4)];
        let mut answer = command(choices, line, &[235, 535]);
        answer.waits = true;
        units.push(answer);
    }
    // Whatever comes next waits for how it went.
    units.push(Unit {
        waits: true,
        ..command(choices, "NOOP", &[250])
    });
    units
}

fn message(choices: &mut Choices<'_>) -> Vec<Unit> {
    let mut units = vec![
        command(choices, "MAIL FROM:<a@b>", &[250]),
        command(choices, "RCPT TO:<c@d>", &[250, 550]),
        command(choices, "DATA", &[354, 554]),
    ];
    if units[2].reply.starts_with(b"354") {
        units[2].kind = Kind::Begins { message: true };
        let lines = [
            "text\r\n", "..\r\n", "QUIT\r\n", "\r\n", ".\n", "\r.\r\n", "x",
        ];
        let mut body: String = (0..choices.below(6))
            .map(|_| lines[choices.below(lines.len())])
            .collect();
        if !body.is_empty() && !body.ends_with("\r\n") {
            body.push_str("\r\n");
        }
        body.push_str(".\r\n");
        let code = [250, 451, 552][choices.below(3)];
        units.push(Unit {
            bytes: body.into(),
            reply: reply(choices, code),
            kind: Kind::Body,
            waits: true,
        });
    } else {
        let reset = command(choices, "RSET", &[250]);
        units.push(Unit {
            waits: true,
            ..reset
        });
    }
    units
}

fn chunks(choices: &mut Choices<'_>) -> Vec<Unit> {
    let mut units = vec![command(choices, "MAIL FROM:<a@b>", &[250])];
    let number = choices.below(4);
    for at in 0..=number {
        let last = at == number;
        let body = ["", "x", "QUIT\r\n", ".\r\n\r\n.\r\nDATA\r\n"][choices.below(4)];
        let word = if last { " LAST" } else { "" };
        let line = format!("BDAT {}{word}\r\n", body.len());
        let fails = choices.below(8) == 1;
        units.push(Unit {
            bytes: [line.as_str(), body].concat().into(),
            reply: reply(choices, if fails { 552 } else { 250 }),
            kind: Kind::Chunk {
                line: line.len(),
                last,
            },
            waits: choices.below(2) == 1,
        });
        if fails {
            let reset = command(choices, "RSET", &[250]);
            units.push(Unit {
                waits: true,
                ..reset
            });
            break;
        }
    }
    units
}

struct Play<'a> {
    units: &'a [Unit],
    dialogue: Dialogue,
    /// What the server could say by now and hasn't.
    unsaid: Vec<u8>,
    /// How much of the greeting that is.
    greeting: usize,
    /// Units that the client said, and how much of the next.
    said: usize,
    within: usize,
    /// Units whose reply was said whole.
    answered: usize,
    /// Whether something wasn't seen, and no message has begun since.
    missed: bool,
    /// Whether the server has ended the session unasked.
    closes: bool,
}

impl Play<'_> {
    fn run(mut self, choices: &mut Choices<'_>) {
        while !choices.is_over() {
            if choices.below(2) == 0 {
                self.server(choices);
            } else {
                self.client(choices);
            }
            self.compare();
            if self.missed && self.dialogue.exchange().is_none() {
                // A challenge to what was asked unseen, say. It stays lost.
                return;
            }
        }
    }

    fn client(&mut self, choices: &mut Choices<'_>) {
        let miss = choices.below(16) == 1;
        let mut piece = vec![];
        let mut most = 1 + choices.below(64);
        while most > 0 && self.may_say() {
            let unit = &self.units[self.said];
            let rest = &unit.bytes[self.within..];
            let size = rest.len().min(most);
            piece.extend_from_slice(&rest[..size]);
            most -= size;
            self.within += size;
            if self.within == unit.bytes.len() {
                self.unsaid.extend_from_slice(&unit.reply);
                self.said += 1;
                self.within = 0;
            }
        }
        if piece.is_empty() {
            return;
        }
        let may_miss = self.dialogue.may_miss(Side::Client);
        if miss && may_miss.is_none_or(|most| piece.len() <= most) {
            self.dialogue.miss(Side::Client, piece.len());
            // Within a chunk it was counted.
            self.missed |= may_miss.is_none();
        } else {
            self.dialogue.hear(Side::Client, &piece);
        }
    }

    fn may_say(&self) -> bool {
        if self.closes {
            // Whatever more it says has no answer.
            return self.said < self.units.len();
        }
        let Some(unit) = self.units.get(self.said) else {
            return false;
        };
        let begun = self
            .said
            .checked_sub(1)
            .map(|before| self.units[before].kind);
        let waits = unit.waits || matches!(begun, Some(Kind::Begins { .. }));
        !waits || self.within > 0 || (self.answered == self.said && self.greeting == 0)
    }

    fn server(&mut self, choices: &mut Choices<'_>) {
        if self.closes {
            return;
        }
        let most = 1 + choices.below(64);
        let size = most.min(self.unsaid.len());
        let piece: Vec<u8> = self.unsaid.drain(..size).collect();
        if piece.is_empty() {
            if most == 64 && self.may_close() {
                self.dialogue.hear(Side::Server, b"421 4.4.2 timeout\r\n");
                self.closes = true;
            }
            return;
        }
        self.greeting = self.greeting.saturating_sub(size);
        self.dialogue.hear(Side::Server, &piece);
        // What is left are whole replies, the last ones, and the rest of one.
        let mut left = self.unsaid.len() - self.greeting;
        self.answered = self.said;
        while left > 0 {
            self.answered -= 1;
            left = left.saturating_sub(self.units[self.answered].reply.len());
        }
        let begun = self
            .answered
            .checked_sub(1)
            .map(|last| self.units[last].kind);
        let goes_on = self.answered == self.said && self.within == 0;
        if begun == Some(Kind::Begins { message: true }) && goes_on {
            self.missed = false;
        }
    }

    /// Whether a 421 would be the answer to nothing.
    fn may_close(&self) -> bool {
        let chunk = match self.units.get(self.said).map(|unit| unit.kind) {
            Some(Kind::Chunk { line, .. }) => self.within >= line,
            _ => false,
        };
        let last = self.said.checked_sub(1).map(|last| self.units[last].kind);
        let answer = last == Some(Kind::Begins { message: false });
        !self.missed && !chunk && !answer
    }

    fn compare(&self) {
        let (between, message) = (self.is_between(), self.has_message());
        assert!(!(between && message), "the model");
        let dialogue = &self.dialogue;
        if self.closes {
            assert!(dialogue.server_is_closing(), "{dialogue:?}");
            assert!(!dialogue.is_between_commands(), "{dialogue:?}");
            assert_eq!(dialogue.in_data(), Some(false), "{dialogue:?}");
        } else if self.missed {
            // It may know less. What it must never do is to take a message for nothing.
            let whole = self.whole_message_due();
            assert!(!(dialogue.is_between_commands() && whole), "{dialogue:?}");
        } else {
            assert!(dialogue.exchange().is_some(), "lost");
            assert_eq!(dialogue.is_between_commands(), between, "{dialogue:?}");
            assert_eq!(dialogue.in_data(), Some(message), "{dialogue:?}");
        }
    }

    fn is_between(&self) -> bool {
        let rest = self.greeting == 0 && self.within == 0 && self.answered == self.said;
        let last = self.said.checked_sub(1).map(|last| &self.units[last]);
        rest && !last.is_some_and(|last| matches!(last.kind, Kind::Begins { .. }))
            && !self.is_open()
    }

    /// Whether chunks came, and not the last, and none failed.
    fn is_open(&self) -> bool {
        let begun = self.units.get(self.said).filter(|unit| match unit.kind {
            Kind::Chunk { line, .. } => self.within >= line,
            _ => false,
        });
        let said = self.units[..self.said].iter().enumerate();
        let said = said.map(|(at, unit)| {
            let failed = unit.reply.starts_with(b"5") && at < self.answered;
            (unit, failed)
        });
        let mut all = said.chain(begun.map(|unit| (unit, false))).rev();
        let last = all.find(|(unit, _)| {
            matches!(unit.kind, Kind::Chunk { .. })
                || unit.bytes.eq_ignore_ascii_case(b"rset\r\n")
                || unit.bytes.eq_ignore_ascii_case(b"rset\n")
        });
        last.is_some_and(|(unit, failed)| {
            matches!(unit.kind, Kind::Chunk { last: false, .. }) && !failed
        })
    }

    /// Whether a message that the server has got whole isn't answered.
    fn whole_message_due(&self) -> bool {
        self.units[self.answered..self.said]
            .iter()
            .any(Unit::ends_message)
    }

    fn has_message(&self) -> bool {
        let begun = self
            .units
            .get(self.said)
            .is_some_and(|unit| match unit.kind {
                Kind::Chunk { line, .. } => self.within >= line,
                Kind::Body => self.answered == self.said,
                _ => false,
            });
        let invited = self.answered == self.said
            && self
                .said
                .checked_sub(1)
                .is_some_and(|last| self.units[last].kind == Kind::Begins { message: true });
        begun || invited || self.is_open() || self.whole_message_due()
    }
}

impl Unit {
    fn ends_message(&self) -> bool {
        matches!(self.kind, Kind::Body | Kind::Chunk { last: true, .. })
    }
}
