//! Finds a server that takes the session: the next one of the pool, and another one as long as
//! that fails and time is left. No server is tried twice. The client notices nothing: it waits
//! for a greeting, or for an answer to its TLS hello.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;

use crate::client::Client;
use crate::connect;
use crate::greet;
use crate::hello;
use crate::kernel_path::{Guest, KernelPath, Passage, Refusal};
use crate::metrics::{CONNECT_BOUNDS, GREETING_BOUNDS};
use crate::proxy_header;
use crate::record::{End, EndBy, EndReason, Greeted, Live, Record, SessionId};
use crate::roster::InFlight;
use crate::select::{self, Asking, Picked};
use crate::server::{ConnectFailure, GreetingFailure, ServerCounters};
use crate::smtp::greeting;
use crate::snapshot::{Listener, Member};
use crate::spec::{Protocol, ProxyVersion};
use crate::troubles::{Trouble, Troubles};

/// Ports of our own that are tried for a session before the kernel may choose one.
const PORTS: usize = 8;

/// Until a client is watched while a server is sought for it. Mostly one is found before that.
const WATCHED_AFTER: Duration = Duration::from_millis(100);

/// The session that a server is sought for.
#[derive(Debug)]
pub(crate) struct Seeking<'a> {
    pub(crate) client: &'a Client,
    pub(crate) listener: &'a Listener,
    pub(crate) troubles: &'a Troubles,
    /// The kernel path, where it is to be taken, and the client as that has to know it.
    pub(crate) kernel: Option<(&'a Arc<KernelPath>, Guest)>,
}

/// A server that takes the session.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) stream: TcpStream,
    /// What the client said already; the server has it.
    pub(crate) asked: Vec<u8>,
    /// What the server said already; not passed on yet.
    pub(crate) said: Vec<u8>,
    /// A place on the kernel path, if there is one.
    pub(crate) passage: Option<Passage>,
    /// Counts the session in at the server until this is dropped.
    pub(crate) in_flight: InFlight,
}

/// A server that was connected to, and took the session.
struct Reached {
    stream: TcpStream,
    said: Vec<u8>,
    passage: Option<Passage>,
    greeted: Greeted,
}

/// Why a server didn't take the session.
#[derive(Debug, Clone, Copy)]
enum Failure {
    Connect(ConnectFailure),
    Greeting(GreetingFailure),
}

/// A server that takes the session, within `accept_total`.
///
/// # Errors
/// How the session ended without one.
pub(crate) async fn find_server(seeking: &Seeking<'_>, record: &mut Record) -> Result<Found, End> {
    let live = Arc::clone(record.live());
    tokio::select! {
        biased;
        found = hear_and_seek(seeking, record) => found,
        end = is_over(seeking.client, &live) => Err(end),
    }
}

async fn hear_and_seek(seeking: &Seeking<'_>, record: &mut Record) -> Result<Found, End> {
    let listener = seeking.listener;
    let asked = if listener.protocol == Protocol::Smtps {
        // Not waited for in vain: a client that says nothing would be told nothing for long.
        select::look(&listener.pool).map_err(End::ours)?;
        hello::client_hello(seeking.client, listener.timeouts.accept_total).await?
    } else {
        vec![]
    };
    let mut deadline = Instant::now() + listener.timeouts.accept_total;
    let mut left = listener.timeouts.accept_total;
    let mut tried = Vec::new();
    let mut reason = None;
    loop {
        let (mut picked, waited) = match seeking.pick(&tried, record).await {
            Ok(found) => found,
            // What was tried says more than that the others can't be.
            Err(end) if end.by == EndBy::Balancer => {
                return Err(End::ours(reason.unwrap_or(end.reason)));
            }
            Err(gone) => return Err(gone),
        };
        // The wait for a place is a limit of its own.
        deadline += waited;
        left += waited;
        if left.is_zero() {
            return Err(End::ours(reason.unwrap_or(EndReason::ConnectFailed)));
        }
        let member = picked.member;
        let counters = member.server.counters.of(record.worker());
        let began = Instant::now();
        let reached = seeking.try_server(member, &asked, left, record).await;
        // What failed on our side says nothing of the server.
        if !matches!(reached, Err(Failure::Connect(ConnectFailure::Local))) {
            picked.in_flight.took(began.elapsed(), reached.is_err());
        }
        match reached {
            Ok(reached) => {
                counters.sessions.add(1);
                record.taken(&member.name, reached.greeted);
                return Ok(Found {
                    stream: reached.stream,
                    asked,
                    said: reached.said,
                    passage: reached.passage,
                    in_flight: picked.in_flight,
                });
            }
            Err(failure) => {
                seeking.note(failure, member, counters);
                let (step, cause) = failure.labels();
                record.failed(&member.name, step, cause);
                reason = Some(failure.reason());
            }
        }
        tried.push(picked.index);
        left = deadline.saturating_duration_since(Instant::now());
    }
}

impl Seeking<'_> {
    /// A server, and how long it was waited for; at once where one has room.
    async fn pick(
        &self,
        tried: &[usize],
        record: &mut Record,
    ) -> Result<(Picked<'_>, Duration), End> {
        let pool = &self.listener.pool;
        let asking = Asking {
            client: self.client.address.ip(),
            tried,
            now: Instant::now(),
        };
        match select::pick(pool, &asking) {
            Ok(picked) => return Ok((picked, Duration::ZERO)),
            Err(EndReason::Full) => {}
            Err(none) => return Err(End::ours(none)),
        }
        let full = End::ours(EndReason::Full);
        let queue = pool.queue.ok_or(full)?;
        let waiting = select::waiting(pool, tried);
        let ticket = pool.roster.queue(waiting, queue.length).ok_or(full)?;
        let waited = tokio::select! {
            biased;
            waited = ticket.wait(queue.wait) => waited,
            () = gives_up(self.client, self.listener.protocol) => {
                return Err(End::by_client(EndReason::ClientClosed));
            }
        };
        record.queued(waited.time);
        let timeout = End::ours(EndReason::QueueTimeout);
        let in_flight = waited.in_flight.ok_or(timeout)?;
        let picked = select::given_after_waiting(pool, &asking, in_flight).map_err(End::ours)?;
        Ok((picked, waited.time))
    }

    /// Connects to a server, tells it who the client is and, where it is heard of first, waits
    /// for what it says.
    async fn try_server(
        &self,
        member: &Member,
        asked: &[u8],
        left: Duration,
        record: &Record,
    ) -> Result<Reached, Failure> {
        let counters = member.server.counters.of(record.worker());
        let timeouts = &self.listener.timeouts;
        let began = Instant::now();
        let (passage, mut stream) = self
            .dial(member, record, timeouts.connect.min(left))
            .await
            .map_err(Failure::Connect)?;
        let connect_time = began.elapsed();
        counters.connect_time.observe(&CONNECT_BOUNDS, connect_time);
        if member.proxy != ProxyVersion::Off {
            self.introduce(member.proxy, &stream, record.id())
                .map_err(Failure::Connect)?;
        }
        let limit = timeouts.greeting.min(left.saturating_sub(connect_time));
        let said = match self.listener.protocol {
            Protocol::Smtp => greet::greeting(&mut stream, limit).await,
            Protocol::Smtps => greet::answer(&mut stream, asked, limit).await,
            Protocol::Tcp => Ok(vec![]),
        };
        let said = said.map_err(Failure::Greeting)?;
        let greeting_time = began.elapsed().saturating_sub(connect_time);
        if !said.is_empty() {
            counters
                .greeting_time
                .observe(&GREETING_BOUNDS, greeting_time);
        }
        let greets = self.listener.protocol != Protocol::Tcp;
        let smtp = self.listener.protocol == Protocol::Smtp;
        Ok(Reached {
            greeted: Greeted {
                connect: Some(connect_time.into()),
                greeting: greets.then(|| greeting_time.into()),
                code: smtp.then(|| greeting::code(&said)).flatten(),
            },
            stream,
            said,
            passage,
        })
    }

    /// Connects to a server, for the kernel path where that is to be taken.
    async fn dial(
        &self,
        member: &Member,
        record: &Record,
        limit: Duration,
    ) -> Result<(Option<Passage>, TcpStream), ConnectFailure> {
        for left in (0..PORTS).rev() {
            let Some((passage, socket)) = self.passage(member, record) else {
                break;
            };
            match connect::dial(member, Some(socket), limit).await {
                // The port has a connection there that its process has left behind.
                Err(ConnectFailure::Local) if left > 0 => {}
                Err(ConnectFailure::Local) => self.refused(record, Refusal::NoPort),
                result => return result.map(|stream| (Some(passage), stream)),
            }
        }
        let stream = connect::dial(member, None, limit).await?;
        Ok((None, stream))
    }

    /// A place on the kernel path with this server, if that is wanted and can be had.
    fn passage(&self, member: &Member, record: &Record) -> Option<(Passage, TcpSocket)> {
        let (path, guest) = self.kernel.as_ref()?;
        match Passage::prepare(path, record.worker(), guest, member) {
            Ok(prepared) => Some(prepared),
            Err(why) => {
                self.refused(record, why);
                None
            }
        }
    }

    /// The session takes the relay.
    fn refused(&self, record: &Record, why: Refusal) {
        if let Some((path, _)) = &self.kernel {
            path.refused(record.worker(), why);
        }
    }

    /// Sends the PROXY header: whole, first, in one write. A new connection takes it at once;
    /// one that doesn't is of no use.
    fn introduce(
        &self,
        version: ProxyVersion,
        server: &TcpStream,
        id: SessionId,
    ) -> Result<(), ConnectFailure> {
        let destination = self
            .client
            .local_address()
            .map_err(|_| ConnectFailure::Other)?;
        let header = proxy_header::header(version, self.client.address, destination, &id.text());
        match server.try_write(&header) {
            Ok(size) if size == header.len() => Ok(()),
            _ => Err(ConnectFailure::Other),
        }
    }

    /// Counts a failure and, where the server is to blame, tells whoever checks it.
    fn note(&self, failure: Failure, member: &Member, counters: &ServerCounters) {
        match failure {
            Failure::Connect(cause) => counters.count_connect_failure(cause),
            Failure::Greeting(cause) => counters.count_greeting_failure(cause),
        }
        if matches!(failure, Failure::Connect(ConnectFailure::Local)) {
            return;
        }
        let (step, cause) = failure.labels();
        self.troubles.report(&member.server, || Trouble {
            pool: self.listener.pool.name.clone(),
            server: member.name.clone(),
            step,
            cause,
        });
    }
}

impl Failure {
    /// What failed, and how.
    fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Connect(cause) => ("connect", cause.label()),
            Self::Greeting(cause) => ("greeting", cause.label()),
        }
    }

    /// How a session ends that met no better server.
    fn reason(self) -> EndReason {
        match self {
            Self::Connect(ConnectFailure::Local) => EndReason::OutOfDescriptors,
            Self::Connect(_) => EndReason::ConnectFailed,
            Self::Greeting(_) => EndReason::GreetingFailed,
        }
    }
}

/// Returns once the client's connection broke, or an operator ended the session. A client's
/// end of stream doesn't count: it may have said all that it has to say.
async fn is_over(client: &Client, live: &Live) -> End {
    let killed = poll_fn(|_| {
        // A kill wakes the task that this is part of.
        if live.is_killed() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    tokio::select! {
        () = is_lost(client) => End::by_client(EndReason::ClientLost),
        () = killed => End::ours(EndReason::Killed),
    }
}

/// Returns once the client has said that it will say nothing, before it was greeted: it doesn't
/// wait for a server any more. Where anything may be spoken, it may mean that it has said all.
async fn gives_up(client: &Client, protocol: Protocol) {
    if protocol == Protocol::Tcp || client.leaves().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn is_lost(client: &Client) {
    sleep(WATCHED_AFTER).await;
    if client.breaks().await.is_err() {
        // It can't be watched, or the process ends: then whoever speaks to it notices.
        std::future::pending::<()>().await;
    }
}
