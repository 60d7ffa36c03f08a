//! Identity and SHA-256 of a received message, computed while it streams in.
//!
//! The hash covers the body as it is on the wire (dots still stuffed): what follows the
//! empty line after the headers, without the final dot line. A message without an empty
//! line has an empty body. [`crate::message`] writes that hash into a header of its own,
//! so that a receiver can tell a damaged body without knowing the original.

use memchr::memmem;
use sha2::{Digest, Sha256};

/// The header in which [`crate::message`] declares the hash of its body.
pub const HASH_HEADER: &str = "X-Body-SHA256";

/// More than any header section of a test; what is longer has no identity.
const HEAD_LIMIT: usize = 64 * 1024;
const FINAL_DOT: usize = b".\r\n".len();

/// What is known of a message once its final dot has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageDigest {
    /// The Message-ID with its angle brackets, if there was one.
    pub id: Option<String>,
    /// SHA-256 of the body.
    pub body: [u8; 32],
    /// False if the message declared another hash than its body has.
    pub intact: bool,
}

/// Takes a message in pieces.
#[derive(Debug, Default)]
pub struct Digester {
    head: Vec<u8>,
    in_body: bool,
    hash: Sha256,
    /// The last bytes, which may turn out to be the final dot line.
    held: Vec<u8>,
}

impl Digester {
    /// Takes the next piece, the one with the final dot line included.
    pub fn update(&mut self, bytes: &[u8]) {
        if self.in_body {
            return self.update_body(bytes);
        }
        let before = self.head.len().saturating_sub(3);
        self.head.extend_from_slice(bytes);
        if let Some(at) = memmem::find(&self.head[before..], b"\r\n\r\n") {
            let body = self.head.split_off(before + at + 4);
            self.in_body = true;
            self.update_body(&body);
        } else {
            self.head.truncate(HEAD_LIMIT);
        }
    }

    fn update_body(&mut self, bytes: &[u8]) {
        let Some(sure) = bytes.len().checked_sub(FINAL_DOT) else {
            self.held.extend_from_slice(bytes);
            let sure = self.held.len().saturating_sub(FINAL_DOT);
            self.hash.update(&self.held[..sure]);
            self.held.drain(..sure);
            return;
        };
        self.hash.update(&self.held);
        self.hash.update(&bytes[..sure]);
        self.held.clear();
        self.held.extend_from_slice(&bytes[sure..]);
    }

    /// Ends the message and leaves the digester ready for the next one.
    pub fn finish(&mut self) -> MessageDigest {
        let done = std::mem::take(self);
        let body: [u8; 32] = done.hash.finalize().into();
        let declared = header(&done.head, HASH_HEADER);
        MessageDigest {
            id: header(&done.head, "Message-ID"),
            intact: declared.is_none_or(|value| value == hex(&body)),
            body,
        }
    }
}

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn header(head: &[u8], name: &str) -> Option<String> {
    String::from_utf8_lossy(head).lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.trim_end()
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_do_not_matter() {
        let wire = b"Subject: x\r\nmessage-id: <1@a>\r\n\r\nbody\r\n..\r\n.\r\n";
        for step in 1..=wire.len() {
            let mut digester = Digester::default();
            wire.chunks(step).for_each(|piece| digester.update(piece));
            let digest = digester.finish();
            assert_eq!(digest.id.as_deref(), Some("<1@a>"), "in steps of {step}");
            assert_eq!(
                digest.body,
                <[u8; 32]>::from(Sha256::digest(b"body\r\n..\r\n"))
            );
            assert!(digest.intact);
        }
    }

    #[test]
    fn a_wrong_declaration_is_noticed() {
        let mut digester = Digester::default();
        digester.update(b"X-Body-SHA256: 00\r\n\r\nbody\r\n.\r\n");
        assert!(!digester.finish().intact);
    }
}
