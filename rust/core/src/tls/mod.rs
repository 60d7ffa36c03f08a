//! How a client begins TLS: whether its first bytes are a ClientHello. Bytes only.
//!
//! Nothing in the hello is read but its length: what it says is between client and server.

/// How much of a stream a whole hello may take, records and all. Real ones have some hundred
/// bytes, or about 2000 with a post-quantum key share. What begins like one and isn't whole
/// after this many bytes is none, so that nobody need hold more.
pub(crate) const LONGEST: usize = 64 << 10;

/// Type, version and length of a record (RFC 8446, 5.1).
const RECORD_HEAD: usize = 5;
const HANDSHAKE: u8 = 22;
const LONGEST_FRAGMENT: usize = 1 << 14;
const ALERT: u8 = 21;
const APPLICATION_DATA: u8 = 23;

/// A warning: close_notify.
const PLAIN_ALERT: [u8; 2] = [1, 0];
/// The records that an alert is alone in, by their types and lengths: its two bytes with what the
/// ciphers in use add. In TLS 1.3 a type and a tag, in 1.2 a nonce and a tag, or a vector, a MAC and
/// what fills the block.
const ALERTS: [(u8, u8); 11] = [
    (APPLICATION_DATA, 2 + 1 + 16),
    (APPLICATION_DATA, 2 + 1 + 8),
    (ALERT, 2),
    (ALERT, 2 + 16),
    (ALERT, 8 + 2 + 16),
    (ALERT, 24),
    (ALERT, 32),
    (ALERT, 48),
    (ALERT, 52),
    (ALERT, 64),
    (ALERT, 80),
];

/// Type and length of a handshake message (RFC 8446, 4).
const MESSAGE_HEAD: usize = 4;
const CLIENT_HELLO: u8 = 1;
/// Version, random, and nothing but the smallest lists (RFC 8446, 4.1.2; RFC 5246, 7.4.1.2).
const SHORTEST_BODY: usize = 2 + 32 + 1 + (2 + 2) + (1 + 1);
/// With the largest records it still fits into [`LONGEST`].
const LONGEST_BODY: usize = LONGEST - (LONGEST >> 14) * RECORD_HEAD - MESSAGE_HEAD;

/// What the bytes from the beginning of a client's stream are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hello {
    /// The start of a ClientHello, as far as they go. They are fewer than [`LONGEST`].
    Incomplete,
    /// A whole ClientHello message, and perhaps more.
    Complete,
    /// Anything else, an SSLv2 hello among them.
    Other,
}

#[cfg(any(test, fuzzing))]
impl Hello {
    /// What `bytes` are, all at once.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        Reader::default().read(bytes)
    }
}

/// Reads the beginning of a client's stream as it comes, each byte once: as far as the end of the
/// first handshake message, which may be spread over records in any way (RFC 8446, 5.1). The first
/// byte that can't be right decides.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// Bytes that were read, heads of records included.
    read: usize,
    /// The head of the record that is being read.
    head: [u8; RECORD_HEAD],
    /// How much of that has come.
    head_length: usize,
    /// Bytes of its fragment that haven't.
    missing: usize,
    message: HandshakeMessage,
}

impl Reader {
    /// What the stream is with `piece` as its next bytes. Final unless it is incomplete.
    pub(crate) fn read(&mut self, piece: &[u8]) -> Hello {
        let within = &piece[..piece.len().min(LONGEST - self.read)];
        self.read += within.len();
        match self.read_records(within) {
            Hello::Incomplete if self.read == LONGEST => Hello::Other,
            decided => decided,
        }
    }

    fn read_records(&mut self, mut bytes: &[u8]) -> Hello {
        while !bytes.is_empty() {
            if self.missing == 0 {
                let (head, rest) = bytes.split_at(bytes.len().min(RECORD_HEAD - self.head_length));
                self.head[self.head_length..][..head.len()].copy_from_slice(head);
                self.head_length += head.len();
                bytes = rest;
                if !may_begin_record(&self.head[..self.head_length]) {
                    return Hello::Other;
                }
                if self.head_length < RECORD_HEAD {
                    return Hello::Incomplete;
                }
                let [_, _, _, high, low] = self.head;
                self.missing = usize::from(u16::from_be_bytes([high, low]));
                self.head_length = 0;
            }
            let (fragment, rest) = bytes.split_at(bytes.len().min(self.missing));
            self.missing -= fragment.len();
            bytes = rest;
            let decided = self.message.append(fragment);
            if decided != Hello::Incomplete {
                return decided;
            }
        }
        Hello::Incomplete
    }
}

/// Whether a piece of a stream begins like a TLS record, of any type and version in use.
pub(crate) fn is_record(bytes: &[u8]) -> bool {
    matches!(bytes, [0x14..=0x17, 0x03, 0x00..=0x04, ..])
}

/// Whether a piece of a stream ends with a record that an alert fits exactly, and nothing that is
/// known to be worse than a goodbye (close_notify, RFC 8446, 6.1). A fatal alert that is sealed looks
/// the same, and nothing else that SMTP says does: the shortest is `QUIT` with its CRLF.
pub(crate) fn ends_with_alert(piece: &[u8]) -> bool {
    ALERTS.iter().any(|(_, length)| {
        let at = piece.len().checked_sub(RECORD_HEAD + usize::from(*length));
        at.is_some_and(|at| alert(&piece[at..]) == Some(*length))
    })
}

/// Whether a piece of a stream begins with one, as far as its first bytes tell.
pub(crate) fn begins_with_alert(head: &[u8]) -> bool {
    alert(head).is_some()
}

/// The length of the alert that `head` begins.
fn alert(head: &[u8]) -> Option<u8> {
    match head {
        [kind, 3, 0..=4, 0, length, body @ ..] if ALERTS.contains(&(*kind, *length)) => {
            let plain = usize::from(*length) == PLAIN_ALERT.len();
            (!plain || body.starts_with(&PLAIN_ALERT)).then_some(*length)
        }
        _ => None,
    }
}

/// Whether `head` is the head of a handshake record, as far as it goes. RFC 8446 wants the version
/// ignored; its major half is looked at all the same, since plain text must be told from TLS.
fn may_begin_record(head: &[u8]) -> bool {
    let (least, most) = bounds::<2>(head.get(3..).unwrap_or_default());
    head.first().is_none_or(|kind| *kind == HANDSHAKE)
        && head.get(1).is_none_or(|major| *major == 3)
        // A fragment of a handshake is never empty.
        && (least <= LONGEST_FRAGMENT && most >= 1)
}

/// A handshake message that arrives in fragments.
#[derive(Debug, Default)]
struct HandshakeMessage {
    head: [u8; MESSAGE_HEAD],
    arrived: usize,
}

impl HandshakeMessage {
    /// What it is with `fragment`.
    fn append(&mut self, fragment: &[u8]) -> Hello {
        let missing = self.head.iter_mut().skip(self.arrived);
        for (place, byte) in missing.zip(fragment) {
            *place = *byte;
        }
        self.arrived += fragment.len();
        let head = &self.head[..self.arrived.min(MESSAGE_HEAD)];
        let (least, most) = bounds::<3>(head.get(1..).unwrap_or_default());
        if head.first().is_some_and(|kind| *kind != CLIENT_HELLO)
            || least > LONGEST_BODY
            || most < SHORTEST_BODY
        {
            Hello::Other
        } else if self.arrived >= MESSAGE_HEAD + most {
            Hello::Complete
        } else {
            Hello::Incomplete
        }
    }
}

/// The smallest and the largest number of `WIDTH` bytes that begins with `known`.
fn bounds<const WIDTH: usize>(known: &[u8]) -> (usize, usize) {
    let number = |unknown: u8| {
        let byte = |at| usize::from(known.get(at).copied().unwrap_or(unknown));
        (0..WIDTH).fold(0, |number, at| number << 8 | byte(at))
    };
    (number(0), number(0xff))
}

#[cfg(test)]
mod tests;
