//! Pipes for splice(2), lent to a direction while it carries data and kept for the next one.
//!
//! A pipe that may hold bytes is never reused: they would reach another session. Giving a
//! pipe back is dropping it: an empty one goes to the pool, any other is closed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
};

use crate::metrics::{PerWorker, WorkerCounters, WorkerId};

/// What a large pipe holds, in bytes: as much as an unprivileged user may ask for. The fewer
/// calls carry a message, the less often its two ends are woken, which is most of the cost.
const LARGE: usize = 1024 * 1024;
/// Large pipes in the process. Together they take half of what an unprivileged user's pipes
/// may take (`pipe-user-pages-soft`: 64 MiB); beyond all of that, new pipes hold next to
/// nothing. The others keep the size that the kernel gives them, 64 KiB.
const MOST_LARGE: usize = 32;
/// Idle pipes that a worker keeps, for bursts; each is two descriptors and little memory.
const MOST_IDLE: usize = 64;

const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

/// One worker's pipes.
#[derive(Debug)]
pub(crate) struct Pipes {
    shelf: Mutex<Shelf>,
    worker: WorkerId,
    counters: Arc<PerWorker<WorkerCounters>>,
}

#[derive(Debug)]
struct Shelf {
    idle: Vec<Ends>,
    /// Large pipes that may still be made.
    large_left: usize,
}

#[derive(Debug)]
struct Ends {
    into: OwnedFd,
    out: OwnedFd,
    capacity: usize,
}

/// A pipe on loan, and how many bytes are in it.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// None only once it is dropped.
    ends: Option<Ends>,
    held: usize,
    pipes: Arc<Pipes>,
}

impl Pipes {
    pub(crate) fn new(worker: WorkerId, counters: Arc<PerWorker<WorkerCounters>>) -> Self {
        let workers = counters.iter().count();
        Self {
            shelf: Mutex::new(Shelf {
                idle: vec![],
                large_left: (MOST_LARGE / workers).max(1),
            }),
            worker,
            counters,
        }
    }

    /// An empty pipe, or none if the system has none left: then bytes are copied instead.
    pub(crate) fn lend(self: &Arc<Self>) -> Option<Pipe> {
        let mut shelf = self.shelf();
        let Ok(ends) = shelf.largest().map_or_else(|| self.make(&mut shelf), Ok) else {
            self.counters().pipe_failures.add(1);
            return None;
        };
        Some(Pipe {
            ends: Some(ends),
            held: 0,
            pipes: Arc::clone(self),
        })
    }

    fn make(&self, shelf: &mut Shelf) -> io::Result<Ends> {
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        if shelf.large_left > 0 && fcntl_setpipe_size(&into, LARGE).is_ok() {
            shelf.large_left -= 1;
        }
        let capacity = fcntl_getpipe_size(&into)?;
        self.counters().pipes_made.add(1);
        Ok(Ends {
            into,
            out,
            capacity,
        })
    }

    fn give_back(&self, ends: Ends) {
        let mut shelf = self.shelf();
        if shelf.idle.len() < MOST_IDLE {
            shelf.idle.push(ends);
        } else {
            self.close(&mut shelf, &ends);
        }
    }

    /// Counts a pipe out that is dropped next.
    fn close(&self, shelf: &mut Shelf, ends: &Ends) {
        shelf.large_left += usize::from(ends.capacity >= LARGE);
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
    fn largest(&mut self) -> Option<Ends> {
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

    /// Takes as much as there is and fits. Only for an empty pipe: then `WouldBlock` means
    /// that the socket has nothing, and never that the pipe is full.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn fill(&mut self, from: impl AsFd) -> io::Result<usize> {
        debug_assert_eq!(self.held, 0, "an empty pipe");
        let ends = self.ends();
        let size = splice(from, None, &ends.into, None, ends.capacity, FLAGS)?;
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

    fn ends(&self) -> &Ends {
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
        Arc::new(Pipes::new(WorkerId(0), Arc::new(PerWorker::new(1))))
    }

    #[test]
    fn an_empty_pipe_is_lent_again_and_a_dirty_one_is_closed() {
        let pipes = pipes();
        let (mut source, from) = UnixStream::pair().unwrap();
        let (to, mut sink) = UnixStream::pair().unwrap();

        let mut pipe = pipes.lend().unwrap();
        source.write_all(b"first").unwrap();
        assert_eq!(pipe.fill(&from).unwrap(), 5);
        assert_eq!(pipe.drain(&to).unwrap(), 5);
        drop(pipe);
        assert_eq!(pipes.shelf().idle.len(), 1);

        let mut pipe = pipes.lend().unwrap();
        source.write_all(b"lost").unwrap();
        assert_eq!(pipe.fill(&from).unwrap(), 4);
        drop(pipe);
        assert_eq!(pipes.shelf().idle.len(), 0);
        assert_eq!(pipes.counters().pipes_made.value(), 1);
        assert_eq!(pipes.counters().pipes_closed.value(), 1);

        let mut pipe = pipes.lend().unwrap();
        source.write_all(b"second").unwrap();
        assert_eq!(pipe.fill(&from).unwrap(), 6);
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
        let lent: Vec<Pipe> = (0..MOST_LARGE + 2).filter_map(|_| pipes.lend()).collect();
        let large = |pipe: &Pipe| pipe.ends().capacity == LARGE;
        assert_eq!(lent.iter().filter(|pipe| large(pipe)).count(), MOST_LARGE);
        drop(lent);
        let lent: Vec<Pipe> = (0..MOST_LARGE).filter_map(|_| pipes.lend()).collect();
        assert!(lent.iter().all(large));
    }
}
