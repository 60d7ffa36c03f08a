//! One direction of a session: what is read from one end is written to the other, in order.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::{io, mem};

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use super::copy::{self, Rest};
use super::hearing::{Ear, Piece};
use super::pipes::{Pipe, Pipes};
use super::splice::{self, Filled};

/// What a direction must have carried before it splices. Dialogues never get there.
const SPLICE_AFTER: u64 = 32 * 1024;
/// What the last read must have brought: for less, two calls with a copy cost no more than
/// two without, and need no pipe.
const SPLICE_LEAST: usize = 16 * 1024;
/// What a direction carries before the worker's other sessions get a turn.
const QUANTUM: usize = 1024 * 1024;

/// Which end of a direction failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// Reading.
    From,
    /// Writing: it was reset, or is lost.
    To,
    /// Writing, where the other end had ended its own stream before.
    Ended,
}

impl Broken {
    /// By what writing says: the kernel tells a reset behind an end of stream from others.
    pub(super) fn to(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Ended,
            _ => Self::To,
        }
    }
}

/// One direction, as far as it has got.
#[derive(Debug, Default)]
pub(super) struct Direction {
    held: Held,
    carried: u64,
    last_read: usize,
    over: bool,
}

/// What was read and isn't written yet.
#[derive(Debug, Default)]
enum Held {
    #[default]
    Nothing,
    Copied(Rest),
    /// The pipe may be empty: then it is kept for the next read.
    Piped(Pipe),
}

impl Direction {
    /// A direction that has `bytes` to write before it reads.
    pub(super) fn beginning_with(bytes: Vec<u8>) -> Self {
        let held = if bytes.is_empty() {
            Held::Nothing
        } else {
            Held::Copied(Rest::of(bytes))
        };
        Self {
            held,
            ..Self::default()
        }
    }

    /// Whether nothing can come this way any more.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether something was read that isn't written yet.
    pub(super) fn holds_something(&self) -> bool {
        match &self.held {
            Held::Nothing => false,
            Held::Copied(_) => true,
            Held::Piped(pipe) => pipe.held() > 0,
        }
    }

    /// Carries what there is; `ear` hears each piece as it is read. Ready once at the end of the
    /// stream, when all of it was written; closing the other end's direction is left to the
    /// caller.
    pub(super) fn poll_carry(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut TcpStream,
        to: &mut TcpStream,
        pipes: &Arc<Pipes>,
        mut ear: Ear<'_, '_>,
    ) -> Poll<Result<(), Broken>> {
        let mut quantum = QUANTUM;
        loop {
            let result = match ready!(self.poll_step(cx, from, to, pipes, &mut ear)) {
                Ok(0) => Ok(()),
                Ok(size) => {
                    self.carried += size as u64;
                    self.last_read = size;
                    quantum = quantum.saturating_sub(size);
                    if quantum > 0 {
                        continue;
                    }
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Err(broken) => Err(broken),
            };
            self.over = true;
            self.held = Held::Nothing;
            return Poll::Ready(result);
        }
    }

    /// Writes what is held, then reads once.
    fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut TcpStream,
        to: &mut TcpStream,
        pipes: &Arc<Pipes>,
        ear: &mut Ear<'_, '_>,
    ) -> Poll<Result<usize, Broken>> {
        match &mut self.held {
            Held::Nothing => {}
            Held::Copied(rest) => {
                ready!(rest.poll_write(cx, to)).map_err(|error| Broken::to(&error))?;
            }
            Held::Piped(pipe) => {
                ready!(splice::poll_drain(cx, pipe, to)).map_err(|error| Broken::to(&error))?;
            }
        }
        let most = ear.may_miss().unwrap_or(usize::MAX);
        if let Some(mut pipe) = self.pipe_for_next(pipes, most) {
            // Dropped while it is empty and nothing comes: it returns to the pool.
            match ready!(splice::poll_fill(cx, from, &mut pipe, most)) {
                Ok(Filled::Bytes(size)) => {
                    self.held = Held::Piped(pipe);
                    if size > 0 {
                        ear.hear(Piece::Unseen(size));
                    }
                    return Poll::Ready(Ok(size));
                }
                Ok(Filled::Stopped) => {}
                // Nothing was taken: it can be copied.
                Err(error) if splice::is_refused(&error) => pipes.give_up(),
                Err(_) => return Poll::Ready(Err(Broken::From)),
            }
        }
        let hear = |bytes: &[u8]| {
            ear.hear(Piece::Seen(bytes));
            ear.may_end()
        };
        let (size, rest) = ready!(copy::poll_copy(cx, from, to, hear))?;
        self.held = rest.map_or(Held::Nothing, Held::Copied);
        Poll::Ready(Ok(size))
    }

    /// A pipe, if the next read is to be spliced, of `most` bytes at most. Everything held was
    /// written before.
    fn pipe_for_next(&mut self, pipes: &Arc<Pipes>, most: usize) -> Option<Pipe> {
        let held = mem::take(&mut self.held);
        if self.carried < SPLICE_AFTER || self.last_read.min(most) < SPLICE_LEAST {
            return None;
        }
        if let Held::Piped(pipe) = held {
            return Some(pipe);
        }
        let pipe = pipes.lend();
        if pipe.is_none() {
            // Not asked for again before as much was carried once more.
            self.carried = 0;
        }
        pipe
    }
}

/// Tells the other end that no more comes this way.
pub(super) fn close(cx: &mut Context<'_>, to: &mut TcpStream) {
    // A TcpStream's shutdown is one call and never pending; it fails only where the
    // connection is gone, which reading finds out as well.
    let _ = Pin::new(to).poll_shutdown(cx);
}
