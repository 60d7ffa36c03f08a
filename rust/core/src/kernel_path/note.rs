//! What the table keeps of a session's record, so that a process that comes later can complete
//! it. Names are kept as hashes: who knows the names finds them again.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use mailweir_flow::layout::NOTE_SIZE;

use crate::conduct::GreetingFailure;
use crate::record::{FailedAttempt, Greeted, Outline, SessionId, Taker};
use crate::server::ConnectFailure;

use super::clock;

/// Servers tried in vain that there is room for; later ones are only counted.
const TRIED: usize = 3;

/// A session's record before the hand-over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Note {
    pub(super) id: SessionId,
    /// When it was accepted: microseconds since 1970, as the log says it, and the kernel's ticks, by
    /// which its age goes whatever becomes of the other.
    accepted: u64,
    began: u32,
    pub(super) listener: u32,
    pub(super) pool: u32,
    pub(super) server: u32,
    /// Microseconds.
    wait: u32,
    connect: u32,
    greeting: u32,
    code: u16,
    /// Bytes that the client was told before.
    pub(super) greeted: u16,
    /// Server and step of each.
    tried: [(u32, u8); TRIED],
    tries: u8,
}

impl Note {
    /// `greeted` bytes were the greeting.
    pub(crate) fn of(outline: &Outline, greeted: usize) -> Self {
        let mut tried = [(0, 0); TRIED];
        for (place, attempt) in tried.iter_mut().zip(&outline.tried) {
            *place = (hash(&attempt.server), step(attempt));
        }
        Self {
            id: outline.id,
            accepted: micros(
                outline
                    .accepted
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default(),
            ),
            began: clock::kernel_ticks().wrapping_sub(clock::ticks(outline.age)),
            listener: hash(&outline.listener),
            pool: hash(&outline.taker.pool),
            server: hash(&outline.taker.server),
            wait: short(Some(outline.wait)),
            connect: short(outline.greeted.connect.map(Duration::from)),
            greeting: short(outline.greeted.greeting.map(Duration::from)),
            code: outline.greeted.code.unwrap_or_default(),
            greeted: u16::try_from(greeted).unwrap_or(u16::MAX),
            tried,
            tries: u8::try_from(outline.tried.len()).unwrap_or(u8::MAX),
        }
    }

    /// The record, with names by their hashes, and the server that took it.
    pub(super) fn outline(&self, name: impl Fn(u32) -> Arc<str>, taker: Arc<Taker>) -> Outline {
        let tried = self.tried.iter().take(self.tries.into());
        Outline {
            id: self.id,
            accepted: UNIX_EPOCH + Duration::from_micros(self.accepted),
            age: clock::since(clock::kernel_ticks(), self.began),
            listener: name(self.listener),
            taker,
            wait: Duration::from_micros(self.wait.into()),
            greeted: Greeted {
                connect: long(self.connect).map(Into::into),
                greeting: long(self.greeting).map(Into::into),
                code: (self.code != 0).then_some(self.code),
            },
            tried: tried
                .map(|(server, step)| attempt(name(*server), *step))
                .collect(),
        }
    }

    pub(super) fn to_bytes(self) -> [u8; NOTE_SIZE] {
        let mut bytes = vec![];
        bytes.extend(self.id.0.to_ne_bytes());
        bytes.extend(self.accepted.to_ne_bytes());
        for word in [
            self.began,
            self.listener,
            self.pool,
            self.server,
            self.wait,
            self.connect,
            self.greeting,
        ] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(self.code.to_ne_bytes());
        bytes.extend(self.greeted.to_ne_bytes());
        bytes.push(self.tries);
        for (server, step) in self.tried {
            bytes.extend(server.to_ne_bytes());
            bytes.push(step);
        }
        let mut all = [0; NOTE_SIZE];
        all[..bytes.len()].copy_from_slice(&bytes);
        all
    }

    pub(super) fn from_bytes(bytes: &[u8; NOTE_SIZE]) -> Self {
        let mut rest = &bytes[..];
        let [id, accepted] = std::array::from_fn(|_| u64::from_ne_bytes(take(&mut rest)));
        let [began, listener, pool, server, wait, connect, greeting] =
            std::array::from_fn(|_| u32::from_ne_bytes(take(&mut rest)));
        let [code, greeted] = std::array::from_fn(|_| u16::from_ne_bytes(take(&mut rest)));
        let [tries] = take(&mut rest);
        let tried = std::array::from_fn(|_| {
            let server = u32::from_ne_bytes(take(&mut rest));
            let [step] = take(&mut rest);
            (server, step)
        });
        Self {
            id: SessionId(id),
            accepted,
            began,
            listener,
            pool,
            server,
            wait,
            connect,
            greeting,
            code,
            greeted,
            tried,
            tries,
        }
    }
}

/// The same for the same name in every process (FNV-1a).
pub(super) fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let mut taken = [0; N];
    let (first, more) = rest.split_at(N);
    taken.copy_from_slice(first);
    *rest = more;
    taken
}

/// What failed, as a number that isn't 0: connects first.
fn step(attempt: &FailedAttempt) -> u8 {
    let at = steps().position(|step| step == (attempt.step, attempt.cause));
    at.map_or(0, |at| at as u8 + 1)
}

fn attempt(server: Arc<str>, step: u8) -> FailedAttempt {
    let found = usize::from(step)
        .checked_sub(1)
        .and_then(|at| steps().nth(at));
    let (step, cause) = found.unwrap_or(("unknown", "unknown"));
    FailedAttempt {
        server,
        step,
        cause,
    }
}

fn steps() -> impl Iterator<Item = (&'static str, &'static str)> {
    let connects = ConnectFailure::ALL.map(|cause| ("connect", cause.label()));
    let greetings = GreetingFailure::ALL.map(|cause| ("greeting", cause.label()));
    connects.into_iter().chain(greetings)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// None is written as the largest number.
fn short(time: Option<Duration>) -> u32 {
    time.map_or(u32::MAX, |time| {
        u32::try_from(time.as_micros()).unwrap_or(u32::MAX - 1)
    })
}

fn long(micros: u32) -> Option<Duration> {
    (micros != u32::MAX).then(|| Duration::from_micros(micros.into()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_record_survives_the_table() {
        let names = ["mx", "farm", "a", "b", "c"];
        let by_hash: HashMap<u32, &str> = names.iter().map(|name| (hash(name), *name)).collect();
        let attempt = |server: &str, step, cause| FailedAttempt {
            server: server.into(),
            step,
            cause,
        };
        let outline = Outline {
            id: SessionId(0x0123_4567_89ab_cdef),
            accepted: UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456),
            age: Duration::from_secs(100_000),
            listener: "mx".into(),
            taker: Arc::new(Taker {
                pool: "farm".into(),
                server: "a".into(),
            }),
            wait: Duration::from_micros(1234),
            greeted: Greeted {
                connect: Some(Duration::from_micros(5).into()),
                greeting: None,
                code: Some(220),
            },
            tried: vec![
                attempt("b", "connect", "refused"),
                attempt("c", "greeting", "nonsense"),
            ],
        };
        let bytes = Note::of(&outline, 20).to_bytes();
        let note = Note::from_bytes(&bytes);
        let names = (by_hash[&note.pool], by_hash[&note.server]);
        assert_eq!(names, ("farm", "a"));
        let taker = Arc::clone(&outline.taker);
        let mut found = note.outline(|name| by_hash[&name].into(), taker);
        // It is older by now.
        assert!(found.age + Duration::from_millis(3) >= outline.age);
        found.age = outline.age;
        assert_eq!(format!("{found:?}"), format!("{outline:?}"));
    }
}
