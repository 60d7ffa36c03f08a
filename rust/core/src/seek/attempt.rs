//! An attempt at one server: it is connected to, and waited for.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::conduct::GreetingFailure;
use crate::greet::FirstWords;
use crate::kernel_path::{Passage, Port, Refusal};
use crate::metrics::GREETING_BOUNDS;
use crate::record::{Greeted, Record};
use crate::roster::{GreetingOutcome, InFlight};
use crate::snapshot::{Member, Pool};

use super::Found;

/// A server that was connected to, until it takes the session or doesn't.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    /// The listener's pool; the server's may be one that this overflows into.
    pub(super) own: &'a Pool,
    pub(super) member: &'a Member,
    pub(super) in_flight: InFlight,
    pub(super) stream: TcpStream,
    pub(super) passage: Option<Passage>,
    /// That the connection has, once the passage is given up.
    pub(super) port: Option<Port>,
    /// When it was connected to, and how long that took.
    pub(super) connected: Instant,
    pub(super) connect_time: Duration,
    pub(super) first_words: FirstWords,
}

impl Attempt<'_> {
    pub(super) async fn hear(&mut self, hello: &[u8]) -> Result<(), GreetingFailure> {
        self.first_words.hear(&mut self.stream, hello).await
    }

    pub(super) fn poll_hear(
        &mut self,
        cx: &mut Context<'_>,
        hello: &[u8],
    ) -> Poll<Result<(), GreetingFailure>> {
        self.first_words.poll_hear(cx, &mut self.stream, hello)
    }

    /// It is late. The kernel path knows a client by its address alone, and the next attempt has a
    /// place there for the same one: should this server greet after all, the relay carries it.
    pub(super) fn take_the_relay(&mut self) {
        if let Some(passage) = self.passage.take() {
            self.port = passage.refused(Refusal::Greeting);
            // It was spared that. Refused: it is carried as it is.
            let _ = self.stream.set_nodelay(true);
        }
    }

    /// It doesn't take the session, or not in time.
    pub(super) fn failed(&mut self, failure: GreetingFailure) {
        // What a server says to one client is no sign that it serves others badly.
        let outcome = match failure {
            GreetingFailure::Refused => GreetingOutcome::Refused,
            _ => GreetingOutcome::Failed,
        };
        self.in_flight.took(self.connected.elapsed(), outcome);
    }

    /// It takes the session.
    pub(super) fn take(mut self, asked: Vec<u8>, record: &mut Record) -> Found {
        let greeting_time = self.connected.elapsed();
        let in_all = self.connect_time + greeting_time;
        self.in_flight.took(in_all, GreetingOutcome::Greeted);
        let counters = self.member.server.counters.of(record.worker());
        if !self.first_words.said.is_empty() {
            counters
                .greeting_time
                .observe(&GREETING_BOUNDS, greeting_time);
        }
        counters.sessions.add(1);
        self.member.server.conduct.took();
        let greeted = Greeted {
            connect: Some(self.connect_time.into()),
            greeting: self.first_words.greets().then(|| greeting_time.into()),
            code: self.first_words.code(),
        };
        let pool = &self.member.taker.pool;
        if *pool != self.own.name {
            self.own.roster.overflowed(pool);
        }
        record.taken(&self.member.taker, greeted);
        Found {
            stream: self.stream,
            asked,
            said: self.first_words.said,
            passage: self.passage,
            port: self.port,
            in_flight: self.in_flight,
        }
    }
}
