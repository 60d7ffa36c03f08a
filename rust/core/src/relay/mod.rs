//! The user-space path: carries bytes both ways until a session ends.
//!
//! Each direction goes on to its own end: a half-close travels as a half-close, behind the
//! last byte. A reset travels as a reset. Nothing is held but what one read brought.

mod copy;
mod direction;
mod idle;
pub(crate) mod pipes;
mod splice;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use crate::metrics::WorkerCounters;
use crate::record::{EndReason, ListenerCounters};
use crate::server::ServerCounters;
use crate::spec::Timeouts;
use crate::sys;

use direction::{Broken, Direction, Path};
use idle::{Side, Silence};
use pipes::Pipes;

/// The two connections of a session.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) client: TcpStream,
    pub(crate) server: TcpStream,
    /// What the server said already: the client gets it first.
    pub(crate) said: Vec<u8>,
}

/// Where a session's bytes are counted.
#[derive(Debug)]
pub(crate) struct Traffic<'a> {
    pub(crate) process: &'a WorkerCounters,
    pub(crate) listener: &'a ListenerCounters,
    pub(crate) server: &'a ServerCounters,
}

/// Carries bytes between the two ends until both directions have ended, one end is
/// lost or a limit of `timeouts` is reached. Closes both connections.
pub(crate) async fn relay(
    ends: Ends,
    timeouts: &Timeouts,
    pipes: &Arc<Pipes>,
    traffic: &Traffic<'_>,
) -> EndReason {
    let mut silence = Silence::new(Instant::now());
    if !ends.said.is_empty() {
        silence.broken_by(Side::Server, Instant::now());
        traffic.count(Side::Server, ends.said.len() as u64, Path::Copied);
    }
    let mut session = Session {
        client: ends.client,
        server: ends.server,
        up: Direction::default(),
        down: Direction::beginning_with(ends.said),
        silence,
        first_end: None,
    };
    let mut alarm = pin!(sleep_until(silence.limit(timeouts).0));
    let reason = poll_fn(|cx| {
        if let Poll::Ready(reason) = session.poll(cx, pipes, traffic) {
            return Poll::Ready(reason);
        }
        // The alarm is moved only where it would ring too late. Where it rings too early,
        // it is set anew: rarely, since most turns only put the limit off.
        loop {
            let (limit, reason) = session.silence.limit(timeouts);
            if limit < alarm.deadline() {
                alarm.as_mut().reset(limit);
            }
            match alarm.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) if limit <= Instant::now() => return Poll::Ready(reason),
                Poll::Ready(()) => alarm.as_mut().reset(limit),
            }
        }
    })
    .await;
    session.close(reason);
    reason
}

#[derive(Debug)]
struct Session {
    client: TcpStream,
    server: TcpStream,
    /// From the client to the server.
    up: Direction,
    /// From the server to the client.
    down: Direction,
    silence: Silence,
    /// What ended first, once something has.
    first_end: Option<EndReason>,
}

impl Session {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        pipes: &Arc<Pipes>,
        traffic: &Traffic<'_>,
    ) -> Poll<EndReason> {
        for from in [Side::Server, Side::Client] {
            if let Some(reason) = self.carry(cx, from, pipes, traffic) {
                return Poll::Ready(reason);
            }
        }
        Poll::Pending
    }

    /// Carries what `from` says as far as that goes; why the session has ended, if it has.
    fn carry(
        &mut self,
        cx: &mut Context<'_>,
        from: Side,
        pipes: &Arc<Pipes>,
        traffic: &Traffic<'_>,
    ) -> Option<EndReason> {
        let (direction, reader, writer) = match from {
            Side::Client => (&mut self.up, &mut self.client, &mut self.server),
            Side::Server => (&mut self.down, &mut self.server, &mut self.client),
        };
        if direction.is_over() {
            return None;
        }
        let silence = &mut self.silence;
        let carried = |size: usize, path| {
            silence.broken_by(from, Instant::now());
            traffic.count(from, size as u64, path);
        };
        match direction.poll_carry(cx, reader, writer, pipes, carried) {
            Poll::Ready(result) => self.ended(cx, from, result),
            Poll::Pending => None,
        }
    }

    /// The direction that `from` speaks in has ended; why the session has, if it has.
    fn ended(
        &mut self,
        cx: &mut Context<'_>,
        from: Side,
        result: Result<(), Broken>,
    ) -> Option<EndReason> {
        let reason = match (from, result) {
            (Side::Client, Ok(())) => EndReason::ClientClosed,
            (Side::Server, Ok(())) => EndReason::ServerClosed,
            (Side::Client, Err(Broken::From)) => return Some(EndReason::ClientReset),
            (Side::Server, Err(Broken::From)) => return Some(EndReason::ServerReset),
            // The other end takes nothing any more. What it said before that is still to be
            // read and passed on (a server's last word, say); reading finds its end as well.
            (Side::Client, Err(Broken::To)) => EndReason::ServerReset,
            (Side::Server, Err(Broken::To)) => EndReason::ClientReset,
        };
        let first = *self.first_end.get_or_insert(reason);
        if self.up.is_over() && self.down.is_over() {
            return Some(first);
        }
        self.silence.closed_by(from, Instant::now());
        if result.is_ok() {
            match from {
                Side::Client => direction::close(cx, &mut self.server),
                Side::Server => direction::close(cx, &mut self.client),
            }
        }
        None
    }

    /// Closes both connections: the other end of one that was reset gets a reset as well,
    /// unless that would take back bytes that are still on their way to it.
    fn close(self, reason: EndReason) {
        let survivor = match reason {
            EndReason::ClientReset => &self.server,
            EndReason::ServerReset => &self.client,
            _ => return,
        };
        if sys::unacknowledged(survivor).is_ok_and(|bytes| bytes == 0) {
            // Without it the survivor gets an end of stream, which is the next best thing.
            let _ = survivor.set_zero_linger();
        }
    }
}

impl Traffic<'_> {
    fn count(&self, from: Side, size: u64, path: Path) {
        let (received, sent) = match from {
            Side::Client => (&self.listener.received_bytes, &self.server.sent_bytes),
            Side::Server => (&self.server.received_bytes, &self.listener.sent_bytes),
        };
        received.add(size);
        sent.add(size);
        match path {
            Path::Copied => self.process.copied_bytes.add(size),
            Path::Spliced => self.process.spliced_bytes.add(size),
        }
    }
}
