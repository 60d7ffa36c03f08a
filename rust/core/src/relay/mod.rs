//! The user-space path: carries bytes both ways until a session ends.
//!
//! Each direction goes on to its own end: a half-close travels as a half-close, behind the
//! last byte. A reset travels as a reset. Nothing is held but what one read brought.

mod copy;
mod direction;
mod hearing;
mod outcome;
pub(crate) mod pipes;
mod splice;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionread;
use rustix::net::{RecvFlags, recv};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep_until};

use crate::limits::{AGAIN, Standing, Terms, keepalive, user_timeout};
use crate::record::{End, EndReason, Side};
use crate::spec::Protocol;
use crate::sys;

use direction::{Broken, Direction};
pub(crate) use hearing::Traffic;
use hearing::{Hearing, Piece};
use outcome::Outcome;
use pipes::Pipes;

/// How long a session is carried before its connections are watched over: most are over by then,
/// and are spared the calls and the timers. Less than the silence after which they are probed.
const WATCHED_AFTER: Duration = Duration::from_secs(5);
/// What may be unacknowledged where no more than a goodbye was on its way: acknowledgements are
/// delayed, and a reset carries none.
const LAST_WORD: usize = 1024;

/// The two connections of a session.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) client: TcpStream,
    pub(crate) server: TcpStream,
    /// What the client said already: the server has it.
    pub(crate) asked: Vec<u8>,
    /// What the server said already.
    pub(crate) said: Vec<u8>,
    /// How much of that the client has; it gets the rest first.
    pub(crate) told: usize,
}

/// How a session ended.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) end: End,
    /// The client, where it may be told why.
    pub(crate) client: Option<TcpStream>,
    /// The server, where it may be told QUIT.
    pub(crate) server: Option<TcpStream>,
}

/// Carries bytes between the two ends until both directions have ended, one end is lost, a
/// limit of `terms` is reached or an operator ends it. Closes both connections, but those that
/// may still be told something.
///
/// No `async fn`: that would keep what it is given beside what becomes of it, for as long as the
/// session lasts.
pub(crate) fn relay<'a>(
    ends: Ends,
    protocol: Protocol,
    terms: Terms<'a>,
    pipes: &'a Arc<Pipes>,
    traffic: Traffic<'a>,
) -> impl Future<Output = Ending> + use<'a> {
    let mut session = RelayedSession::begin(ends, protocol, terms, traffic);
    async move {
        let (limit, _) = session.limit();
        let mut alarm = pin!(sleep_until(session.next_look(limit).into()));
        let end = poll_fn(|cx| {
            if let Poll::Ready(end) = session.poll(cx, pipes) {
                return Poll::Ready(end);
            }
            session.poll_limit(cx, alarm.as_mut())
        })
        .await;
        session.close(end)
    }
}

/// Has a peer found that is gone: by probes while nothing moves, by its silence otherwise.
fn watch_over(socket: &TcpStream) {
    let socket = SockRef::from(socket);
    // Refused, the idle limits find it.
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(keepalive()));
    let _ = socket.set_tcp_user_timeout(Some(user_timeout()));
}

#[derive(Debug)]
struct RelayedSession<'a> {
    terms: Terms<'a>,
    client: TcpStream,
    server: TcpStream,
    /// From the client to the server.
    up: Direction,
    /// From the server to the client.
    down: Direction,
    hearing: Hearing<'a>,
    /// When its connections are watched over, until they are.
    watched_from: Option<Instant>,
    /// The alarm for the next limit was polled and is to wake the session.
    alarmed: bool,
    outcome: Outcome,
}

impl<'a> RelayedSession<'a> {
    fn begin(mut ends: Ends, protocol: Protocol, terms: Terms<'a>, traffic: Traffic<'a>) -> Self {
        let mut hearing = Hearing::new(protocol, traffic);
        for (from, said) in [(Side::Client, &ends.asked), (Side::Server, &ends.said)] {
            if !said.is_empty() {
                hearing.hear(from, Piece::Seen(said));
            }
        }
        Self {
            terms,
            client: ends.client,
            server: ends.server,
            up: Direction::default(),
            down: Direction::beginning_with(ends.said.split_off(ends.told)),
            hearing,
            watched_from: Some(Instant::now() + WATCHED_AFTER),
            alarmed: false,
            outcome: Outcome::default(),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, pipes: &Arc<Pipes>) -> Poll<End> {
        if let Some(end) = self.carry(cx, Side::Server, pipes) {
            return Poll::Ready(end);
        }
        if let Some(reason) = self.is_cut_at_a_command() {
            return Poll::Ready(End::ours(reason));
        }
        if let Some(end) = self.carry(cx, Side::Client, pipes) {
            return Poll::Ready(end);
        }
        if let Some(reason) = self.hearing.killed() {
            return Poll::Ready(End::ours(reason));
        }
        Poll::Pending
    }

    /// Why the session is cut before the client's next command is passed on, if it is: it is to
    /// leave, and the client has just said one. Whoever says QUIT leaves by itself.
    fn is_cut_at_a_command(&self) -> Option<EndReason> {
        if !self.may_be_told() {
            return None;
        }
        let leave = self.terms.leave()?;
        let reason = leave.is_due(self.terms.drain, Instant::now())?;
        let mut begun = [0; 5];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let (_, size) = recv(&self.client, &mut begun, flags).ok()?;
        let [verb @ .., behind] = begun;
        let quits = verb.eq_ignore_ascii_case(b"QUIT") && behind.is_ascii_whitespace();
        (size > 0 && !quits).then_some(reason)
    }

    /// Whether the client has every reply and waits for none: the one moment at which a word of our
    /// own is understood.
    fn may_be_told(&self) -> bool {
        self.hearing.dialogue.is_between_commands() && !self.down.holds_something()
    }

    /// Carries what `from` says as far as that goes; how the session has ended, if it has.
    fn carry(&mut self, cx: &mut Context<'_>, from: Side, pipes: &Arc<Pipes>) -> Option<End> {
        let (direction, reader, writer) = match from {
            Side::Client => (&mut self.up, &mut self.client, &mut self.server),
            Side::Server => (&mut self.down, &mut self.server, &mut self.client),
        };
        if direction.is_over() {
            return None;
        }
        let ear = self.hearing.ear(from);
        match direction.poll_carry(cx, reader, writer, pipes, ear) {
            Poll::Ready(result) => self.ended(cx, from, result),
            Poll::Pending => None,
        }
    }

    /// The direction that `from` speaks in has ended; how the session has, if it has.
    fn ended(
        &mut self,
        cx: &mut Context<'_>,
        from: Side,
        result: Result<(), Broken>,
    ) -> Option<End> {
        let dialogue = &self.hearing.dialogue;
        let to = from.other();
        match result {
            Ok(()) => self.outcome.closed(from, dialogue),
            Err(Broken::From) => {
                self.outcome.lost(from, self.has_all(from), dialogue);
                return Some(self.outcome.end(dialogue));
            }
            // The other end takes nothing any more. What it said before that is still to be
            // read and passed on (a server's last word, say).
            Err(Broken::To) => self.outcome.lost(to, self.has_all(to), dialogue),
            // Reading finds the end.
            Err(Broken::Ended) => self.outcome.deaf(to),
        }
        if self.up.is_over() && self.down.is_over() {
            return Some(self.outcome.end(dialogue));
        }
        self.hearing.silence.closed_by(from, Instant::now());
        if result.is_ok() {
            match from {
                Side::Client => direction::close(cx, &mut self.server),
                Side::Server => direction::close(cx, &mut self.client),
            }
        }
        None
    }

    /// Whether all that was written to `side` has arrived there, but perhaps a last word.
    fn has_all(&self, side: Side) -> bool {
        let stream = match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        };
        sys::unacknowledged(stream).is_ok_and(|bytes| bytes <= LAST_WORD)
    }

    /// Waits for the next limit; ready once one is reached that ends the session.
    ///
    /// The alarm is moved only where it would ring too late. Where it rings too early, it is
    /// set anew: rarely, since most turns only put the limit off. One that was polled and hasn't
    /// rung isn't polled again: the task that it wakes stays the same.
    fn poll_limit(&mut self, cx: &mut Context<'_>, mut alarm: Pin<&mut Sleep>) -> Poll<End> {
        // Where a cut has to be put off.
        let mut again = None;
        loop {
            let (limit, reason) = self.limit();
            let limit = again.map_or(limit, |again| limit.max(again));
            let look = self.next_look(limit);
            if alarm.deadline() > look.into() {
                alarm.as_mut().reset(look.into());
            } else if self.alarmed && !alarm.is_elapsed() {
                return Poll::Pending;
            }
            self.alarmed = true;
            ready!(alarm.as_mut().poll(cx));
            self.alarmed = false;
            let now = Instant::now();
            self.watch_over(now);
            if limit > now {
                alarm.as_mut().reset(self.next_look(limit).into());
            } else if self.is_cuttable(reason) {
                return Poll::Ready(End::ours(reason));
            } else if let (at, reason) = self
                .terms
                .hard_limit(&self.hearing.silence, self.standing())
                && at <= now
            {
                return Poll::Ready(End::ours(reason));
            } else {
                again = Some(now + AGAIN);
            }
        }
    }

    /// When the session is looked at next that is over at `limit`.
    fn next_look(&self, limit: Instant) -> Instant {
        self.watched_from.map_or(limit, |from| limit.min(from))
    }

    /// Has both connections watched over, once the session has lasted.
    fn watch_over(&mut self, now: Instant) {
        if self.watched_from.take_if(|from| *from <= now).is_some() {
            watch_over(&self.client);
            watch_over(&self.server);
        }
    }

    /// When the session is over as things stand, and why.
    fn limit(&self) -> (Instant, EndReason) {
        self.terms.limit(&self.hearing.silence, self.standing())
    }

    fn standing(&self) -> Standing {
        let dialogue = &self.hearing.dialogue;
        if dialogue.is_between_commands() {
            Standing::BetweenCommands
        } else if dialogue.message_is_due() {
            Standing::AnswerDue
        } else if dialogue.in_data() == Some(true) {
            Standing::InMessage
        } else {
            Standing::Unclear
        }
    }

    /// Whether the session may be cut for `reason` at this moment: a cut for a drain or for age
    /// takes nothing from the client that is on its way to it, and nothing that it has said.
    fn is_cuttable(&self, reason: EndReason) -> bool {
        let polite = matches!(reason, EndReason::Drain | EndReason::Age);
        !polite
            || (!self.down.holds_something()
                && sys::unacknowledged(&self.client).is_ok_and(|bytes| bytes == 0)
                && ioctl_fionread(&self.client).is_ok_and(|bytes| bytes == 0))
    }

    /// Closes both connections. The other end of one that was reset gets a reset as well,
    /// unless that would take back bytes that are still on their way to it. Those of a session
    /// that is cut between two commands aren't closed: both can be told so.
    fn close(self, end: End) -> Ending {
        let leaves = matches!(
            end.reason,
            EndReason::Drain | EndReason::DrainDeadline | EndReason::Age
        );
        if (leaves || end.reason.is_at_once()) && self.may_be_told() {
            return Ending {
                end,
                client: Some(self.client),
                server: Some(self.server),
            };
        }
        let survivor = match end.reason {
            EndReason::ClientLost => Some(&self.server),
            EndReason::ServerLost => Some(&self.client),
            _ => None,
        };
        if let Some(survivor) = survivor
            && sys::unacknowledged(survivor).is_ok_and(|bytes| bytes == 0)
        {
            // Without it the survivor gets an end of stream, which is the next best thing.
            let _ = survivor.set_zero_linger();
        }
        Ending {
            end,
            client: None,
            server: None,
        }
    }
}
