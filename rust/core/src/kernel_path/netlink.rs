//! Messages of netlink(7), as bytes: written for the kernel, and read of what it says. For
//! `conntrack`, `links` and `ways`.

use std::io::{self, Read, Write};

use socket2::{Domain, Protocol, Socket, Type};

/// Of the message itself: its length, kind and flags, a number and whose it is.
const HEADER: usize = 16;
/// Of an attribute: its length and kind.
const HEAD: usize = 4;
/// NLM_F_REQUEST of linux/netlink.h.
const REQUEST: u16 = 1;
/// NLM_F_ROOT and NLM_F_MATCH: of all that there is.
const DUMP: u16 = 0x300;
/// NLM_F_DUMP_INTR: there was a change while all was told, and something may be missing.
const INTERRUPTED: u16 = 0x10;
/// How often all is asked for where it changes meanwhile.
const TRIES: usize = 16;
/// NLMSG_ERROR, NLMSG_DONE.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// As much as the kernel says at a time.
const MOST: usize = 64 * 1024;

/// A socket to ask with.
#[derive(Debug)]
pub(super) struct Netlink(Socket);

impl Netlink {
    /// `protocol` is one of NETLINK_ROUTE and its like.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn open(protocol: i32) -> io::Result<Self> {
        let kind = Type::RAW.nonblocking().cloexec();
        let protocol = Protocol::from(protocol);
        let socket = Socket::new(Domain::from(libc::AF_NETLINK), kind, Some(protocol))?;
        Ok(Self(socket))
    }

    /// Tells the kernel something and takes what it answers, which doesn't matter.
    pub(super) fn tell(&self, messages: &[u8]) {
        // What can't be told is as if it hadn't been.
        let _ = (&self.0).write(messages);
        let mut answer = [0; 4096];
        while (&self.0).read(&mut answer).is_ok_and(|size| size > 0) {}
    }

    /// The body of the one answer to a question.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn ask(&self, kind: u16, body: &[u8]) -> io::Result<Vec<u8>> {
        (&self.0).write_all(&message(kind, REQUEST, body))?;
        let mut buffer = [0; 4096];
        let size = (&self.0).read(&mut buffer)?;
        let answer = messages(&buffer[..size]).next().ok_or_else(nonsense)?;
        match answer.kind {
            ERROR => Err(error(answer.body)),
            _ => Ok(answer.body.to_vec()),
        }
    }

    /// The bodies of all answers to a question about everything that there is.
    ///
    /// # Errors
    /// What the kernel says, or that there are changes all the time.
    pub(super) fn ask_of_all(&self, kind: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let mut buffer = vec![0; MOST];
        for _ in 0..TRIES {
            (&self.0).write_all(&message(kind, REQUEST | DUMP, body))?;
            let mut all = All::default();
            while !all.is_done {
                let size = (&self.0).read(&mut buffer)?;
                all.read(&buffer[..size])?;
            }
            if !all.is_interrupted {
                return Ok(all.found);
            }
        }
        Err(io::ErrorKind::Interrupted.into())
    }
}

/// Answers to a question about everything that there is, as far as they have come.
#[derive(Debug, Default)]
struct All {
    found: Vec<Vec<u8>>,
    is_done: bool,
    is_interrupted: bool,
}

impl All {
    fn read(&mut self, said: &[u8]) -> io::Result<()> {
        for message in messages(said) {
            self.is_interrupted |= message.flags & INTERRUPTED != 0;
            match message.kind {
                DONE => self.is_done = true,
                ERROR => return Err(error(message.body)),
                _ => self.found.push(message.body.to_vec()),
            }
        }
        Ok(())
    }
}

/// A message of the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    flags: u16,
    body: &'a [u8],
}

/// A request.
pub(super) fn request(kind: u16, body: &[u8]) -> Vec<u8> {
    message(kind, REQUEST, body)
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut message = vec![];
    message.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// Length, kind and value, padded to four bytes.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let size = HEAD + value.len();
    let mut all = vec![];
    all.extend((size as u16).to_ne_bytes());
    all.extend(kind.to_ne_bytes());
    all.extend(value);
    all.resize(size.next_multiple_of(4), 0);
    all
}

/// What the kernel says in one go.
pub(super) fn messages(mut rest: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let size = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
        let message = rest.get(..size)?;
        rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: word(message.get(4..)?)?,
            flags: word(message.get(6..)?)?,
            body: message.get(HEADER..)?,
        })
    })
}

/// Kinds and values; those that are nested are read by the same.
pub(super) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let size = usize::from(word(rest)?);
        let value = rest.get(HEAD..size)?;
        // Without the bits that say how it is to be read.
        let kind = word(&rest[2..])? & 0x3fff;
        rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A number of the machine's own order at the beginning of a value.
pub(super) fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(*value.first_chunk()?))
}

fn word(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.first_chunk()?))
}

/// What an answer of this kind says.
fn error(body: &[u8]) -> io::Error {
    let code = number(body).map(|code| (code as i32).wrapping_neg());
    code.map_or_else(nonsense, io::Error::from_raw_os_error)
}

fn nonsense() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let inner = attribute(2, b"abc");
        let body = [
            attribute(0x8001, &inner),
            attribute(3, &7_u32.to_ne_bytes()),
        ]
        .concat();
        let both = [message(16, REQUEST, &body), message(17, 0, b"")].concat();
        let found: Vec<_> = messages(&both).collect();
        let expected = |kind, flags, body| Message { kind, flags, body };
        assert_eq!(found, [expected(16, REQUEST, &body), expected(17, 0, b"")]);
        let read: Vec<_> = attributes(&body).collect();
        assert_eq!(read, [(1, &inner[..]), (3, &7_u32.to_ne_bytes()[..])]);
        let nested: Vec<_> = attributes(read[0].1).collect();
        assert_eq!(nested, [(2, &b"abc"[..])]);
        assert_eq!(number(read[1].1), Some(7));
    }

    #[test]
    fn what_changed_meanwhile_is_asked_for_again() {
        let some = message(16, 0, b"some");
        for (last, expected) in [(0, false), (INTERRUPTED, true)] {
            let mut all = All::default();
            all.read(&some).unwrap();
            assert!(!all.is_done);
            all.read(&message(DONE, last, b"")).unwrap();
            assert!(all.is_done);
            assert_eq!(
                (all.found, all.is_interrupted),
                (vec![b"some".to_vec()], expected)
            );
        }
        let refused = message(ERROR, 0, &(-libc::EPERM).to_ne_bytes());
        let error = All::default().read(&refused).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            for message in messages(&bytes) {
                attributes(message.body).count();
            }
            attributes(&bytes).count();
        }
    }
}
