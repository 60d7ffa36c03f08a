//! Panics of any thread, for whoever tells of them. Rust writes a panic's message to standard error
//! by itself, in the thread that panics: where nobody reads that, the thread would stand still, and
//! with it all sessions of a worker. Here nothing waits: what can't be kept is counted.

use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError, TryLockError};
use std::thread;

/// Messages that wait to be taken; more are counted alone.
const MOST: usize = 100;

/// Those that wait.
#[derive(Debug, Default)]
pub(crate) struct Panics {
    kept: Mutex<Vec<String>>,
    missed: AtomicU64,
}

impl Panics {
    /// Keeps a panic of this thread. Never waits, not even for who holds the lock: that may be this
    /// very thread, which panics there.
    pub(crate) fn keep(&self, panic: &PanicHookInfo<'_>) {
        let mut kept = match self.kept.try_lock() {
            Ok(kept) => kept,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.missed.fetch_add(1, Relaxed);
                return;
            }
        };
        if kept.len() < MOST {
            kept.push(words(panic));
        } else {
            self.missed.fetch_add(1, Relaxed);
        }
    }

    /// What waits: where, and what was said; and how many weren't kept.
    pub(crate) fn take(&self) -> (Vec<String>, u64) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut *kept), self.missed.swap(0, Relaxed))
    }
}

fn words(panic: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let place = panic.location().map(ToString::to_string);
    format!(
        "{}, thread {}: {}",
        place.as_deref().unwrap_or("somewhere"),
        thread.name().unwrap_or("without a name"),
        panic.payload_as_str().unwrap_or("no message"),
    )
}
