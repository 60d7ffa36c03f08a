//! What one end of a session says and hears, with hashes of both: any amount of it, a piece at a time.

use std::collections::VecDeque;

use sha2::{Digest, Sha256};
use smoltcp::socket::tcp::Socket;

/// So much is made at a time of what is to be said.
const PIECE: usize = 64 * 1024;
/// Of a line that is made up, without its end.
const LINE: usize = 60;

/// One end of a session.
#[derive(Default)]
pub(crate) struct Speech {
    /// What it is about to say, and what comes behind that.
    owed: Vec<u8>,
    later: VecDeque<Words>,
    /// What it has heard of a line that has no end yet.
    line: Vec<u8>,
    said: Sha256,
    heard: Sha256,
}

/// Something to be said.
pub(crate) type Words = Box<dyn Iterator<Item = Vec<u8>>>;

impl Speech {
    pub(crate) fn say(&mut self, words: &[u8]) {
        self.say_all(Box::new(std::iter::once(words.to_vec())));
    }

    pub(crate) fn say_all(&mut self, words: Words) {
        self.later.push_back(words);
    }

    /// Whether all was said, as far as this end's buffer.
    pub(crate) fn is_silent(&self) -> bool {
        self.owed.is_empty() && self.later.is_empty()
    }

    /// Says as much as there is room for.
    pub(crate) fn write(&mut self, socket: &mut Socket<'_>) {
        while self.prepare() {
            let taken = socket.send_slice(&self.owed).unwrap_or(0);
            self.said.update(&self.owed[..taken]);
            self.owed.drain(..taken);
            if taken == 0 {
                return;
            }
        }
    }

    /// Hears all that is there, as whole lines.
    pub(crate) fn read(&mut self, socket: &mut Socket<'_>) -> Vec<Vec<u8>> {
        let mut lines = vec![];
        while socket.can_recv() {
            let taken = socket.recv(|bytes| (bytes.len(), bytes.to_vec()));
            let mut rest = &taken.unwrap_or_default()[..];
            self.heard.update(rest);
            while let Some(end) = memchr::memchr(b'\n', rest) {
                self.line.extend(&rest[..=end]);
                lines.push(std::mem::take(&mut self.line));
                rest = &rest[end + 1..];
            }
            self.line.extend(rest);
        }
        lines
    }

    /// Hashes of what was said and heard.
    pub(crate) fn hashes(&self) -> [String; 2] {
        [&self.said, &self.heard].map(|hash| {
            let bytes = hash.clone().finalize();
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        })
    }

    /// Whether there is something to be said.
    fn prepare(&mut self) -> bool {
        while self.owed.len() < PIECE
            && let Some(words) = self.later.front_mut()
        {
            match words.next() {
                Some(more) => self.owed.extend(more),
                None => drop(self.later.pop_front()),
            }
        }
        !self.owed.is_empty()
    }
}

/// Lines of letters, `size` bytes or a little more: others for each seed.
pub(crate) fn lines(seed: u32, size: usize, begin: &'static str) -> Words {
    let mut state = seed;
    let number = size.div_ceil(begin.len() + LINE + 2);
    Box::new((0..number).map(move |_| {
        let mut line = begin.as_bytes().to_vec();
        for _ in 0..LINE {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            line.push(b'a' + (state >> 24) as u8 % 26);
        }
        line.extend(b"\r\n");
        line
    }))
}
