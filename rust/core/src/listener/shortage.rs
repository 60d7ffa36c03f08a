//! Out of descriptors or memory: accepting pauses without a spin, and those who wait too long
//! are told so by means of descriptors that were kept back.

use std::fs::File;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::client::Client;

/// Trying again at once would only burn the CPU.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
/// For so long those in the queue may still get a place. Then they are turned away: a client
/// that hears 421 tries elsewhere, one that hears nothing waits for minutes.
const PATIENCE: Duration = Duration::from_secs(1);
/// Clients turned away at a time.
const MOST: usize = 64;

/// Descriptors of the process that are given up to turn clients away: one for each socket that
/// accepts. They are everybody's, since one that was given up may go to somebody else, who may
/// keep it for long: then those of the other sockets serve this one too.
static SPARES: Mutex<Spares> = Mutex::new(Spares {
    wanted: 0,
    files: Vec::new(),
});

#[derive(Debug)]
struct Spares {
    wanted: usize,
    files: Vec<File>,
}

impl Spares {
    fn of_the_process() -> MutexGuard<'static, Self> {
        SPARES.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens what is missing, as far as it can be had.
    fn fill(&mut self) {
        while self.files.len() < self.wanted {
            let Ok(file) = File::open("/dev/null") else {
                return;
            };
            self.files.push(file);
        }
    }
}

/// What is known of a shortage at one socket.
#[derive(Debug)]
pub(super) struct Shortage {
    since: Option<Instant>,
}

impl Shortage {
    pub(super) fn new() -> Self {
        let mut spares = Spares::of_the_process();
        spares.wanted += 1;
        spares.fill();
        Self { since: None }
    }

    /// A client was accepted as usual.
    pub(super) fn is_over(&mut self) {
        self.since = None;
    }

    /// Accepting failed for want of something; whether it has for so long that those who wait
    /// are to be turned away.
    pub(super) fn is_long(&mut self, now: Instant) -> bool {
        now.duration_since(*self.since.get_or_insert(now)) >= PATIENCE
    }

    /// Accepts who is in the queue by means of the spare descriptors; `turn_away` is given one
    /// after the other and has to close each. Not even a moment is waited: who comes later may
    /// well get a place.
    pub(super) fn shed(accept: impl Fn() -> io::Result<Client>, turn_away: impl Fn(Client)) {
        for _ in 0..MOST {
            // Held until it is had again, so that two workers don't take each other's.
            let mut spares = Spares::of_the_process();
            spares.fill();
            drop(spares.files.pop());
            let accepted = accept().map(&turn_away);
            spares.fill();
            if accepted.is_err() {
                break;
            }
        }
    }
}

impl Drop for Shortage {
    fn drop(&mut self) {
        let mut spares = Spares::of_the_process();
        spares.wanted -= 1;
        let wanted = spares.wanted;
        spares.files.truncate(wanted);
    }
}

/// Whether accepting again at once would fail again: no descriptor or memory is left.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_begins_with_the_first_failure_of_a_row() {
        let mut shortage = Shortage::new();
        let start = Instant::now();
        assert!(!shortage.is_long(start));
        assert!(!shortage.is_long(start + PATIENCE / 2));
        assert!(shortage.is_long(start + PATIENCE));
        shortage.is_over();
        assert!(!shortage.is_long(start + PATIENCE));
    }
}
