//! Pipes for splice(2), lent to a direction while it carries data and kept for the next one.
//!
//! A pipe that may hold bytes is never reused: they would reach another session. Giving a
//! pipe back is dropping it: an empty one goes to the pool, any other is closed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
};

use crate::metrics::{PerWorker, WorkerCounters, WorkerId};

/// What a large pipe holds, in bytes: as much as an unprivileged user may ask for. The fewer
/// calls carry a message, the less often its two ends are woken, which is most of the cost.
const LARGE: usize = 1024 * 1024;
/// What any other pipe holds, as the kernel makes it.
const USUAL: usize = 64 * 1024;
const PAGE: usize = 4096;
/// In pages, what an unprivileged user's pipes may take where the system doesn't say.
const USUAL_SOFT_LIMIT: usize = 16384;
const SOFT_LIMIT: &str = "/proc/sys/fs/pipe-user-pages-soft";
/// Idle pipes that a worker keeps, for bursts; each is two descriptors and little memory.
const MOST_IDLE: usize = 64;

const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

/// How many pipes there may be.
///
/// Beyond `pipe-user-pages-soft` an unprivileged user's new pipes hold next to nothing, and
/// the limit is shared with whatever else runs as that user. So all of ours take three
/// quarters of it at most; whoever finds none left copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    large: usize,
    usual: usize,
}

impl Budget {
    /// By what the system allows.
    pub(crate) fn read() -> Self {
        let text = std::fs::read_to_string(SOFT_LIMIT).unwrap_or_default();
        Self::of(text.trim().parse().unwrap_or(0))
    }

    /// `pages` of 0 stands for no limit; then the usual one is enough.
    fn of(pages: usize) -> Self {
        let pages = if pages == 0 { USUAL_SOFT_LIMIT } else { pages };
        let pages = pages.min(4 * USUAL_SOFT_LIMIT);
        Self {
            large: pages / 2 / (LARGE / PAGE),
            usual: pages / 4 / (USUAL / PAGE),
        }
    }

    /// One worker's part.
    pub(crate) fn share(self, workers: usize) -> Self {
        Self {
            large: (self.large / workers).max(1),
            usual: (self.usual / workers).max(1),
        }
    }

    /// The most pipes there ever are.
    pub(crate) fn pipes(self) -> usize {
        self.large + self.usual
    }
}

/// One worker's pipes.
#[derive(Debug)]
pub(crate) struct Pipes {
    shelf: Mutex<Shelf>,
    worker: WorkerId,
    counters: Arc<PerWorker<WorkerCounters>>,
}

#[derive(Debug)]
struct Shelf {
    idle: Vec<PipeEnds>,
    /// What may still be made.
    left: Budget,
}

#[derive(Debug)]
struct PipeEnds {
    into: OwnedFd,
    out: OwnedFd,
    capacity: usize,
}

/// A pipe on loan, and how many bytes are in it.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// None only once it is dropped.
    ends: Option<PipeEnds>,
    held: usize,
    pipes: Arc<Pipes>,
}

impl Pipes {
    /// `budget` is this worker's own.
    pub(crate) fn new(
        worker: WorkerId,
        counters: Arc<PerWorker<WorkerCounters>>,
        budget: Budget,
    ) -> Self {
        Self {
            shelf: Mutex::new(Shelf {
                idle: vec![],
                left: budget,
            }),
            worker,
            counters,
        }
    }

    /// An empty pipe, or none if none is left, or the system gives none of use: then bytes are
    /// copied instead.
    pub(crate) fn lend(self: &Arc<Self>) -> Option<Pipe> {
        if self.counters().splice_refused.load(Ordering::Relaxed) {
            self.counters().pipe_fallbacks.add(1);
            return None;
        }
        let mut shelf = self.shelf();
        let Some(ends) = shelf.largest().or_else(|| self.make(&mut shelf)) else {
            self.counters().pipe_fallbacks.add(1);
            return None;
        };
        Some(Pipe {
            ends: Some(ends),
            held: 0,
            pipes: Arc::clone(self),
        })
    }

    /// The system refuses splice(2): from here on all bytes are copied.
    pub(crate) fn give_up(&self) {
        self.counters()
            .splice_refused
            .store(true, Ordering::Relaxed);
    }

    fn make(&self, shelf: &mut Shelf) -> Option<PipeEnds> {
        if shelf.left.pipes() == 0 {
            return None;
        }
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        let large = shelf.left.large > 0 && fcntl_setpipe_size(&into, LARGE).is_ok();
        let capacity = fcntl_getpipe_size(&into).ok()?;
        if capacity < USUAL {
            // The user's limit is used up elsewhere. Such a pipe costs more calls than copying.
            return None;
        }
        if large {
            shelf.left.large -= 1;
        } else {
            // Where a large one was refused, its place stays for later.
            shelf.left.usual = shelf.left.usual.checked_sub(1)?;
        }
        self.counters().pipes_made.add(1);
        Some(PipeEnds {
            into,
            out,
            capacity,
        })
    }

    fn give_back(&self, ends: PipeEnds) {
        let mut shelf = self.shelf();
        if shelf.idle.len() < MOST_IDLE {
            shelf.idle.push(ends);
        } else {
            self.close(&mut shelf, &ends);
        }
    }

    /// Counts a pipe out that is dropped next.
    fn close(&self, shelf: &mut Shelf, ends: &PipeEnds) {
        if ends.capacity >= LARGE {
            shelf.left.large += 1;
        } else {
            shelf.left.usual += 1;
        }
        self.counters().pipes_closed.add(1);
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        // Nothing can panic half-way through a change.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counters(&self) -> &WorkerCounters {
        self.counters.of(self.worker)
    }
}

impl Shelf {
    fn largest(&mut self) -> Option<PipeEnds> {
        let ends = self.idle.iter().enumerate();
        let (at, _) = ends.max_by_key(|(_, ends)| ends.capacity)?;
        Some(self.idle.swap_remove(at))
    }
}

impl Pipe {
    /// Bytes in it.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Takes as much as there is and fits, `most` bytes at most. Only for an empty pipe: then
    /// `WouldBlock` means that the socket has nothing, and never that the pipe is full.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn fill(&mut self, from: impl AsFd, most: usize) -> io::Result<usize> {
        debug_assert_eq!(self.held, 0, "an empty pipe");
        let ends = self.ends();
        let size = splice(from, None, &ends.into, None, ends.capacity.min(most), FLAGS)?;
        self.held = size;
        Ok(size)
    }

    /// Gives as much as `to` takes. Only for a pipe that holds something: then `WouldBlock`
    /// means that the socket takes nothing.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn drain(&mut self, to: impl AsFd) -> io::Result<usize> {
        debug_assert_ne!(self.held, 0, "something to give");
        let size = splice(&self.ends().out, None, to, None, self.held, FLAGS)?;
        self.held -= size;
        Ok(size)
    }

    fn ends(&self) -> &PipeEnds {
        self.ends.as_ref().expect("there until it is dropped")
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take() else {
            return;
        };
        if self.held == 0 {
            self.pipes.give_back(ends);
        } else {
            self.pipes.close(&mut self.pipes.shelf(), &ends);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pipes() -> Arc<Pipes> {
        Arc::new(Pipes::new(
            WorkerId::new(0),
            Arc::new(PerWorker::new(1)),
            Budget {
                large: 3,
                usual: MOST_IDLE + 10,
            },
        ))
    }

    #[test]
    fn the_budget_follows_the_systems_limit() {
        let usual = Budget {
            large: 32,
            usual: 256,
        };
        assert_eq!(Budget::of(USUAL_SOFT_LIMIT), usual);
        assert_eq!(Budget::of(0), usual);
        let small = Budget::of(1024);
        assert_eq!((small.large, small.usual), (2, 16));
        assert_eq!(small.share(4).pipes(), 1 + 4);
        assert_eq!(Budget::read().share(1), Budget::read());
    }

    #[test]
    fn none_is_made_beyond_the_budget() {
        let pipes = pipes();
        let lent: Vec<Pipe> = (0..200).filter_map(|_| pipes.lend()).collect();
        assert_eq!(lent.len(), 3 + MOST_IDLE + 10);
        let fallbacks = 200 - lent.len() as u64;
        assert_eq!(pipes.counters().pipe_fallbacks.value(), fallbacks);
        drop(lent);
        assert!(pipes.lend().is_some());
    }

    #[test]
    fn an_empty_pipe_is_lent_again_and_a_dirty_one_is_closed() {
        let pipes = pipes();
        let (mut source, from) = UnixStream::pair().unwrap();
        let (to, mut sink) = UnixStream::pair().unwrap();

        let mut pipe = pipes.lend().unwrap();
        source.write_all(b"first").unwrap();
        assert_eq!(pipe.fill(&from, LARGE).unwrap(), 5);
        assert_eq!(pipe.drain(&to).unwrap(), 5);
        drop(pipe);
        assert_eq!(pipes.shelf().idle.len(), 1);

        let mut pipe = pipes.lend().unwrap();
        source.write_all(b"lost").unwrap();
        assert_eq!(pipe.fill(&from, LARGE).unwrap(), 4);
        drop(pipe);
        assert_eq!(pipes.shelf().idle.len(), 0);
        assert_eq!(pipes.counters().pipes_made.value(), 1);
        assert_eq!(pipes.counters().pipes_closed.value(), 1);

        let mut pipe = pipes.lend().unwrap();
        source.write_all(b"second").unwrap();
        assert_eq!(pipe.fill(&from, LARGE).unwrap(), 6);
        assert_eq!(pipe.drain(&to).unwrap(), 6);
        let mut seen = [0; 11];
        sink.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"firstsecond");
    }

    #[test]
    fn the_pool_keeps_a_bounded_number() {
        let pipes = pipes();
        let lent: Vec<Pipe> = (0..MOST_IDLE + 3).filter_map(|_| pipes.lend()).collect();
        drop(lent);
        assert_eq!(pipes.shelf().idle.len(), MOST_IDLE);
        assert_eq!(pipes.counters().pipes_closed.value(), 3);
    }
    #[test]
    fn only_some_are_large_and_those_are_lent_first() {
        let pipes = pipes();
        let lent: Vec<Pipe> = (0..5).filter_map(|_| pipes.lend()).collect();
        let large = |pipe: &Pipe| pipe.ends().capacity == LARGE;
        assert_eq!(lent.iter().filter(|pipe| large(pipe)).count(), 3);
        drop(lent);
        let lent: Vec<Pipe> = (0..3).filter_map(|_| pipes.lend()).collect();
        assert!(lent.iter().all(large));
    }
}
