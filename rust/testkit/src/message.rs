//! Messages of an exact size on the wire, each with its own Message-ID.
//!
//! The body is made once and shared; only the header section differs from message to
//! message. It declares the hash of the body, see [`crate::digest`].

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::digest::{HASH_HEADER, hex};

const LINE: usize = 76;
const FINAL_DOT: &[u8] = b".\r\n";

/// Makes messages of one size.
#[derive(Debug, Clone)]
pub struct Messages {
    body: Arc<[u8]>,
    body_hash: String,
}

impl Messages {
    /// Messages of `size` bytes, the final dot line not counted. The header section alone
    /// takes about 230 bytes, so that smaller messages come out a little larger.
    #[must_use]
    pub fn of_size(size: usize) -> Self {
        let head = head("", &hex(&[0; 32]), 0).len();
        let mut body = body(size.saturating_sub(head));
        let body_hash = hex(&Sha256::digest(&body));
        body.extend_from_slice(FINAL_DOT);
        Self {
            body: body.into(),
            body_hash,
        }
    }

    /// The header section of the message `number` of `session`, empty line included.
    /// Both together, with the run's name in `session`, make the Message-ID unique.
    #[must_use]
    pub fn head(&self, session: &str, number: u64) -> Vec<u8> {
        head(session, &self.body_hash, number)
    }

    /// The body with the final dot line.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

/// As long for any session and number, so that the size on the wire is exact.
fn head(session: &str, body_hash: &str, number: u64) -> Vec<u8> {
    format!(
        "From: <source@load.test>\r\nTo: <sink@load.test>\r\nSubject: load\r\n\
         Message-ID: <{session:0>40}.{number:08}@load.test>\r\n\
         {HASH_HEADER}: {body_hash}\r\n\r\n"
    )
    .into_bytes()
}

/// Lines of letters and digits: no dot to be stuffed, hard to compress.
fn body(size: usize) -> Vec<u8> {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut state = 0x9e37_79b9_u32;
    let mut body = Vec::with_capacity(size + FINAL_DOT.len());
    let mut left = size.max(2);
    while left > 0 {
        // A last line of one byte would have no room for its CRLF.
        let line = if left == LINE + 1 {
            LINE - 1
        } else {
            left.min(LINE)
        };
        for _ in 0..line - 2 {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            body.push(LETTERS[(state % 32) as usize]);
        }
        body.extend_from_slice(b"\r\n");
        left -= line;
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::ServerSession;

    fn bare_line_ends(wire: &[u8]) -> usize {
        let lines = wire.windows(2).filter(|pair| *pair == b"\r\n").count();
        let ends = wire.iter().filter(|byte| byte.is_ascii_control()).count();
        ends - 2 * lines
    }

    #[test]
    fn every_size_is_exact_and_arrives_intact() {
        for size in (300..700).chain([65_536, 1 << 20]) {
            let messages = Messages::of_size(size);
            let mut wire = messages.head("run-1", 7);
            wire.extend_from_slice(messages.body());
            assert_eq!(wire.len(), size + 3, "size {size}");
            assert_eq!(bare_line_ends(&wire), 0, "size {size}");

            let mut server = ServerSession::new("sink".into(), true);
            server.feed(b"MAIL\r\nRCPT\r\nDATA\r\n");
            server.feed(&wire);
            let received = server.take_received().pop().unwrap();
            assert_eq!(received.bytes, size as u64 + 3);
            let digest = received.digest.unwrap();
            assert!(digest.intact);
            assert!(digest.id.unwrap().contains("run-1.00000007@"));
        }
    }
}
