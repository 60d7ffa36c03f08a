//! Finds a server that takes the session: the next one of the pool, and another one as long as
//! that fails and time is left. No server is tried twice. The client notices nothing: it waits
//! for a greeting, or for an answer to its TLS hello.

mod attempt;
mod candidates;
mod watching;

use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::Socket;
use tokio::net::TcpStream;
use tokio::time::{timeout, timeout_at};

use crate::client::Client;
use crate::conduct::{GreetingFailure, Spoiled};
use crate::connect;
use crate::doors::Doors;
use crate::greet::FirstWords;
use crate::hello;
use crate::holdings::Holdings;
use crate::kernel_path::{Guest, KernelPath, Passage, Port, Refusal};
use crate::metrics::{CONNECT_BOUNDS, WorkerId};
use crate::moment::nanos;
use crate::proxy_header;
use crate::record::{End, EndBy, EndReason, Record, SessionId};
use crate::roster::{GreetingOutcome, InFlight};
use crate::select::{self, Asking, InVain, Picked};
use crate::server::{ConnectFailure, Server};
use crate::snapshot::{Listener, Member};
use crate::spec::{Protocol, ProxyVersion};
use crate::troubles::{Trouble, Troubles};

use attempt::Attempt;
use candidates::Candidates;
pub(crate) use watching::WATCHED_AFTER;
use watching::{gives_up, is_over};

/// Ports of our own that are tried for a session before the kernel may choose one.
const PORTS: usize = 8;

/// The session that a server is sought for.
#[derive(Debug)]
pub(crate) struct Seeking<'a> {
    pub(crate) client: &'a Client,
    pub(crate) listener: &'a Listener,
    pub(crate) troubles: &'a Troubles,
    pub(crate) holdings: &'a Holdings,
    pub(crate) doors: &'a Doors,
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
    /// A source port of our own that the connection has, where it has no such place any more.
    pub(crate) port: Option<Port>,
    /// Counts the session in at the server until this is dropped.
    pub(crate) in_flight: InFlight,
}

/// How a session ended that no server took.
#[derive(Debug)]
pub(crate) struct Unserved {
    pub(crate) end: End,
    /// What the client is to be told, where that isn't ours to say.
    pub(crate) words: Option<Vec<u8>>,
}

impl Unserved {
    fn rejected(words: Vec<u8>) -> Self {
        Self {
            end: End::by_server(EndReason::Rejected),
            words: Some(words),
        }
    }
}

impl From<End> for Unserved {
    fn from(end: End) -> Self {
        Self { end, words: None }
    }
}

/// Why there is no attempt at another server.
enum Missed {
    /// One failed; there may be others.
    Failed,
    /// There is none.
    Over(End),
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
pub(crate) async fn find_server(
    seeking: &Seeking<'_>,
    record: &mut Record,
) -> Result<Found, Unserved> {
    let live = Arc::clone(record.live());
    tokio::select! {
        biased;
        found = hear_and_seek(seeking, record) => found,
        end = is_over(seeking.client, &live) => Err(end.into()),
    }
}

async fn hear_and_seek(seeking: &Seeking<'_>, record: &mut Record) -> Result<Found, Unserved> {
    let listener = seeking.listener;
    let asked = if listener.protocol == Protocol::Smtps {
        // Not waited for in vain: a client that says nothing would be told nothing for long.
        select::look_anywhere(listener).map_err(End::ours)?;
        hello::client_hello(seeking.client, listener.timeouts.accept_total).await?
    } else {
        vec![]
    };
    let mut search = Search {
        deadline: Instant::now() + listener.timeouts.accept_total,
        tried: InVain::default(),
        reason: None,
        failed: vec![],
    };
    let found = seek(seeking, &mut search, asked, record).await;
    search.blame(&found, record.worker());
    found
}

async fn seek(
    seeking: &Seeking<'_>,
    search: &mut Search,
    asked: Vec<u8>,
    record: &mut Record,
) -> Result<Found, Unserved> {
    let mut candidates = Candidates::default();
    let none = loop {
        if let Some(words) = candidates.judgement() {
            return Err(Unserved::rejected(words));
        }
        // Whoever is overdue may greet at any moment; who greets first has the session.
        let reached = tokio::select! {
            biased;
            Some(winner) = candidates.winner(&asked) => return Ok(winner.take(asked, record)),
            reached = seeking.reach_another(search, record) => reached,
        };
        let mut attempt = match reached {
            Ok(attempt) => attempt,
            Err(Missed::Failed) => continue,
            // What was tried says more than that the others can't be.
            Err(Missed::Over(end)) if end.by == EndBy::Balancer => break end.reason,
            Err(Missed::Over(end)) => return Err(end.into()),
        };
        candidates.leave_surplus();
        let limit = seeking.listener.timeouts.greeting.min(search.left());
        let heard = tokio::select! {
            biased;
            Some(winner) = candidates.winner(&asked) => return Ok(winner.take(asked, record)),
            heard = timeout(limit, attempt.hear(&asked)) => heard,
        };
        let failure = match heard {
            Ok(Ok(())) => return Ok(attempt.take(asked, record)),
            Ok(Err(failure)) => failure,
            Err(_) => GreetingFailure::Timeout,
        };
        attempt.failed(failure);
        seeking.note(Failure::Greeting(failure), attempt.member, record, search);
        if failure != GreetingFailure::Timeout {
            candidates.hear_refusal(failure, &attempt.member.server, &attempt.first_words.said);
        } else if let Some(place) = seeking.holdings.overdue() {
            attempt.take_the_relay();
            candidates.keep(attempt, place);
        }
    };
    // No other server is left: those that are overdue have all the time that is.
    let late = timeout_at(search.deadline.into(), candidates.winner(&asked)).await;
    if let Ok(Some(winner)) = late {
        return Ok(winner.take(asked, record));
    }
    Err(candidates.judgement().map_or_else(
        || End::ours(search.reason.unwrap_or(none)).into(),
        Unserved::rejected,
    ))
}

/// How far the search for a server is.
struct Search {
    deadline: Instant,
    tried: InVain,
    /// How the session ends that finds no better server.
    reason: Option<EndReason>,
    /// Servers that failed it, and how.
    failed: Vec<(Arc<Server>, Spoiled)>,
}

impl Search {
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Holds against servers that they didn't take the session, where another one did.
    fn blame(&self, found: &Result<Found, Unserved>, worker: WorkerId) {
        match found {
            Ok(found) => {
                let taker = found.in_flight.server().id;
                // One that greeted late after all has failed nobody.
                let others = self.failed.iter().filter(|(one, _)| one.id != taker);
                others.for_each(|(server, what)| server.spoiled(worker, *what));
            }
            // Whoever left may have been about to be taken.
            Err(unserved) if unserved.end.by == EndBy::Client => {}
            Err(_) => {
                for (server, what) in &self.failed {
                    // 5yz of all is the farm's judgement of this client.
                    if *what != Spoiled::Greeting(GreetingFailure::Refused) {
                        server.counters.of(worker).conduct.in_vain.add(1);
                    }
                }
            }
        }
    }
}

impl Seeking<'_> {
    /// A server, the number of its pool, and how long it was waited for; at once where one has room.
    async fn pick(
        &self,
        tried: &mut InVain,
        record: &mut Record,
    ) -> Result<(Picked<'_>, usize, Duration), End> {
        let (client, now) = (self.client.address.ip(), Instant::now());
        match select::pick_anywhere(self.listener, client, tried, now) {
            Ok((picked, pool)) => return Ok((picked, pool, Duration::ZERO)),
            Err(EndReason::Full) => {}
            Err(none) => return Err(End::ours(none)),
        }
        let (pool, tried) = (&self.listener.pool, tried.own());
        let asking = Asking { client, tried, now };
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
        Ok((picked, 0, waited.time))
    }

    /// Picks a server that wasn't tried, connects to it and tells it who the client is.
    async fn reach_another(
        &self,
        search: &mut Search,
        record: &mut Record,
    ) -> Result<Attempt<'_>, Missed> {
        let picked = self.pick(&mut search.tried, record).await;
        let (mut picked, pool, waited) = picked.map_err(Missed::Over)?;
        search.tried.add(pool, picked.index);
        // The wait for a place is a limit of its own.
        search.deadline += waited;
        let left = search.left();
        if left.is_zero() {
            return Err(Missed::Over(End::ours(EndReason::ConnectFailed)));
        }
        let (member, began) = (picked.member, Instant::now());
        match self.connect(member, left, record).await {
            Ok((passage, stream)) => {
                let connect_time = began.elapsed();
                Ok(Attempt {
                    own: &self.listener.pool,
                    member,
                    in_flight: picked.in_flight,
                    stream,
                    passage,
                    port: None,
                    connected: began + connect_time,
                    connect_time,
                    first_words: FirstWords::new(self.listener.protocol),
                })
            }
            Err(cause) => {
                // What failed on our side says nothing of the server.
                if !matches!(cause, ConnectFailure::Local) {
                    picked
                        .in_flight
                        .took(began.elapsed(), GreetingOutcome::Failed);
                }
                self.note(Failure::Connect(cause), member, record, search);
                Err(Missed::Failed)
            }
        }
    }

    /// Connects to a server and tells it who the client is.
    async fn connect(
        &self,
        member: &Member,
        left: Duration,
        record: &Record,
    ) -> Result<(Option<Passage>, TcpStream), ConnectFailure> {
        let began = Instant::now();
        let limit = self.listener.timeouts.connect.min(left);
        let whose = &member.server.whose;
        if self.doors.lead_from(member.address, whose, nanos(began)) {
            return Err(ConnectFailure::Loop);
        }
        let (passage, stream) = self.dial(member, record, limit).await?;
        let counters = member.server.counters.of(record.worker());
        counters
            .connect_time
            .observe(&CONNECT_BOUNDS, began.elapsed());
        if member.proxy != ProxyVersion::Off {
            self.introduce(member.proxy, &stream, record.id())?;
        }
        Ok((passage, stream))
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
    fn passage(&self, member: &Member, record: &Record) -> Option<(Passage, Socket)> {
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
    fn note(&self, failure: Failure, member: &Member, record: &mut Record, search: &mut Search) {
        let counters = member.server.counters.of(record.worker());
        match failure {
            Failure::Connect(cause) => counters.count_connect_failure(cause),
            Failure::Greeting(cause) => counters.count_greeting_failure(cause),
        }
        let (step, cause) = failure.labels();
        record.failed(&member.taker, step, cause);
        search.reason = Some(failure.reason());
        if let Some(what) = failure.spoiled() {
            search.failed.push((Arc::clone(&member.server), what));
        }
        if matches!(failure, Failure::Connect(ConnectFailure::Local)) {
            return;
        }
        self.troubles.report(&member.server, || Trouble {
            pool: member.taker.pool.clone(),
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

    /// What the server did to the session; none where that was our doing.
    fn spoiled(self) -> Option<Spoiled> {
        match self {
            Self::Connect(ConnectFailure::Local | ConnectFailure::Loop) => None,
            Self::Connect(_) => Some(Spoiled::Connect),
            Self::Greeting(failure) => Some(Spoiled::Greeting(failure)),
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
