//! One session, from its accept to its end. Linear: each step is a call that says what happens.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::connect;
use crate::greet;
use crate::metrics::{CONNECT_BOUNDS, GREETING_BOUNDS, PerWorker, WorkerCounters, WorkerId};
use crate::record::{EndReason, Record};
use crate::refuse;
use crate::relay::pipes::Pipes;
use crate::relay::{Ends, Traffic, relay};
use crate::select;
use crate::server::{InFlight, ServerCounters};
use crate::smtp;
use crate::snapshot::{Listener, Snapshot};
use crate::spec::Protocol;

/// What the sessions of a worker share.
#[derive(Debug)]
pub(crate) struct Commons {
    pub(crate) worker: WorkerId,
    pub(crate) counters: Arc<PerWorker<WorkerCounters>>,
    pub(crate) pipes: Arc<Pipes>,
}

/// A server that takes the session.
struct Found {
    stream: TcpStream,
    /// What it said already; not passed on yet.
    said: Vec<u8>,
    /// Counts the session in at the server until this is dropped.
    in_flight: InFlight,
}

/// Serves a client of the listener with this index. `snapshot` is kept to the end.
pub(crate) async fn serve(
    client: TcpStream,
    snapshot: Arc<Snapshot>,
    listener: usize,
    commons: Arc<Commons>,
) {
    let listener = &snapshot.listeners[listener];
    let record = Record::open(commons.worker, &listener.counters, &commons.counters);
    let found = tokio::select! {
        biased;
        found = find_server(listener, &record, commons.worker) => found,
        () = is_lost(&client) => Err(EndReason::ClientReset),
    };
    let reason = match found {
        Ok(found) => {
            let traffic = Traffic {
                process: record.process(),
                listener: record.listener(),
                server: found.in_flight.server().counters.of(commons.worker),
            };
            let ends = Ends {
                client,
                server: found.stream,
                said: found.said,
            };
            relay(ends, &listener.timeouts, &commons.pipes, &traffic).await
        }
        Err(EndReason::ClientReset) => EndReason::ClientReset,
        Err(reason) => {
            turn_away(client, listener.protocol, &snapshot.hostname).await;
            reason
        }
    };
    record.close(reason);
}

/// Finds a server that takes the session: the next one of the pool, and another one as long
/// as that fails and time is left. No server is tried twice. The client notices nothing: it
/// waits for a greeting.
async fn find_server(
    listener: &Listener,
    record: &Record,
    worker: WorkerId,
) -> Result<Found, EndReason> {
    let deadline = record.began() + listener.timeouts.accept_total;
    let mut tried = Vec::new();
    let mut left = listener.timeouts.accept_total;
    let mut reason = EndReason::NoServer;
    while !left.is_zero()
        && let Some(picked) = select::pick(&listener.pool, &tried)
    {
        let counters = picked.in_flight.server().counters.of(worker);
        match try_server(picked.member.address, listener, left, counters).await {
            Ok((stream, said)) => {
                counters.sessions.add(1);
                return Ok(Found {
                    stream,
                    said,
                    in_flight: picked.in_flight,
                });
            }
            Err(failed) => reason = failed,
        }
        tried.push(picked.index);
        left = deadline.saturating_duration_since(Instant::now());
    }
    Err(reason)
}

/// Connects to a server and, where servers speak first, waits for its greeting: the connection
/// and what was said on it. Counts what came of it.
async fn try_server(
    address: SocketAddr,
    listener: &Listener,
    left: Duration,
    counters: &ServerCounters,
) -> Result<(TcpStream, Vec<u8>), EndReason> {
    let timeouts = &listener.timeouts;
    let began = Instant::now();
    let mut stream = match connect::dial(address, timeouts.connect.min(left)).await {
        Ok(stream) => stream,
        Err(cause) => {
            counters.count_connect_failure(cause);
            return Err(EndReason::ConnectFailed);
        }
    };
    let connect_time = began.elapsed();
    counters.connect_time.observe(&CONNECT_BOUNDS, connect_time);
    if listener.protocol != Protocol::Smtp {
        return Ok((stream, vec![]));
    }
    let left = left.saturating_sub(connect_time);
    match greet::greeting(&mut stream, timeouts.greeting.min(left)).await {
        Ok(said) => {
            let greeting_time = began.elapsed().saturating_sub(connect_time);
            counters
                .greeting_time
                .observe(&GREETING_BOUNDS, greeting_time);
            Ok((stream, said))
        }
        Err(cause) => {
            counters.count_greeting_failure(cause);
            Err(EndReason::GreetingFailed)
        }
    }
}

/// Returns once the client's connection broke. Its end of stream doesn't count: it may have
/// said all that it has to say.
async fn is_lost(client: &TcpStream) {
    // An error of the reactor's says that the process ends.
    while let Ok(ready) = client.ready(Interest::ERROR).await {
        if ready.is_error() {
            return;
        }
    }
}

/// Tells the client to come back later, where the protocol has words for it.
async fn turn_away(client: TcpStream, protocol: Protocol, hostname: &str) {
    let line = match protocol {
        Protocol::Smtp => smtp::no_server(hostname),
        // TLS or anything: nothing that we could say would be understood.
        Protocol::Smtps | Protocol::Tcp => String::new(),
    };
    refuse::refuse(client, line.as_bytes()).await;
}
