//! Finds the end of a message (`CRLF . CRLF`) in a stream, whatever the read boundaries.

use memchr::memmem;

const END: &[u8] = b"\r\n.\r\n";
const KEEP: usize = END.len() - 1;

/// Looks for the end of one message, chunk after chunk.
#[derive(Debug)]
pub struct EndOfData {
    /// The last bytes of what came before, for an end that lies across a boundary.
    tail: Vec<u8>,
}

impl Default for EndOfData {
    fn default() -> Self {
        Self::new()
    }
}

impl EndOfData {
    /// A scanner for a new message: the CRLF of the DATA line counts, so that `.CRLF` alone
    /// ends an empty message.
    #[must_use]
    pub fn new() -> Self {
        Self {
            tail: b"\r\n".to_vec(),
        }
    }

    /// Returns how many bytes of `chunk` belong to the message up to and with its final dot
    /// line, or `None` if all of them do and the end is yet to come.
    pub fn scan(&mut self, chunk: &[u8]) -> Option<usize> {
        if let Some(end) = self.scan_boundary(chunk) {
            return Some(end);
        }
        if let Some(at) = memmem::find(chunk, END) {
            return Some(at + END.len());
        }
        self.remember(chunk);
        None
    }

    fn scan_boundary(&self, chunk: &[u8]) -> Option<usize> {
        let mut joint = [0u8; 2 * KEEP];
        let old = self.tail.len();
        let new = chunk.len().min(KEEP);
        joint[..old].copy_from_slice(&self.tail);
        joint[old..old + new].copy_from_slice(&chunk[..new]);
        let at = memmem::find(&joint[..old + new], END)?;
        Some(at + END.len() - old)
    }

    fn remember(&mut self, chunk: &[u8]) {
        self.tail
            .extend_from_slice(&chunk[chunk.len().saturating_sub(KEEP)..]);
        let surplus = self.tail.len().saturating_sub(KEEP);
        self.tail.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_end_at_every_boundary() {
        let wire = b"a\r\n..\r\n.x\r\n\r\n.\r\nQUIT\r\n";
        let end = wire.len() - b"QUIT\r\n".len();
        for step in 1..=wire.len() {
            let mut scanner = EndOfData::new();
            let mut seen = 0;
            let found = wire.chunks(step).find_map(|chunk| {
                let hit = scanner.scan(chunk).map(|n| seen + n);
                seen += chunk.len();
                hit
            });
            assert_eq!(found, Some(end), "in steps of {step}");
        }
    }

    #[test]
    fn an_empty_message_ends_at_once() {
        assert_eq!(EndOfData::new().scan(b".\r\n"), Some(3));
        assert_eq!(EndOfData::new().scan(b".\r\nRSET\r\n"), Some(3));
    }

    #[test]
    fn bare_line_feeds_do_not_end_a_message() {
        assert_eq!(EndOfData::new().scan(b"a\n.\nb\r\n.\nc\n.\r\n"), None);
    }
}
