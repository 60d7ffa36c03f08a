//! One session, from its accept to its end. Linear: each step is a call that says what happens.

use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;

use crate::connect;
use crate::metrics::{CONNECT_BOUNDS, PerWorker, WorkerCounters, WorkerId};
use crate::record::{EndReason, Record};
use crate::refuse;
use crate::relay::pipes::Pipes;
use crate::relay::{Traffic, relay};
use crate::select;
use crate::server::InFlight;
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

/// A server that accepted.
struct Connected {
    stream: TcpStream,
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
    let reason = match find_server(listener, &record, commons.worker).await {
        Ok(Connected { stream, in_flight }) => {
            let traffic = Traffic {
                process: record.process(),
                listener: record.listener(),
                server: in_flight.server().counters.of(commons.worker),
            };
            relay(client, stream, &listener.timeouts, &commons.pipes, &traffic).await
        }
        Err(reason) => {
            turn_away(client, listener.protocol, &snapshot.hostname).await;
            reason
        }
    };
    record.close(reason);
}

/// Connects to the next server of the pool, and to another one as long as that fails and
/// time is left. No server is tried twice. The client notices nothing: it waits for a greeting.
async fn find_server(
    listener: &Listener,
    record: &Record,
    worker: WorkerId,
) -> Result<Connected, EndReason> {
    let deadline = record.began() + listener.timeouts.accept_total;
    let mut tried = Vec::new();
    let mut left = listener.timeouts.accept_total;
    while !left.is_zero()
        && let Some(picked) = select::pick(&listener.pool, &tried)
    {
        let counters = picked.in_flight.server().counters.of(worker);
        let began = Instant::now();
        let limit = listener.timeouts.connect.min(left);
        match connect::dial(picked.member.address, limit).await {
            Ok(stream) => {
                counters.sessions.add(1);
                counters
                    .connect_time
                    .observe(&CONNECT_BOUNDS, began.elapsed());
                return Ok(Connected {
                    stream,
                    in_flight: picked.in_flight,
                });
            }
            Err(cause) => counters.count_failure(cause),
        }
        tried.push(picked.index);
        left = deadline.saturating_duration_since(Instant::now());
    }
    Err(if tried.is_empty() {
        EndReason::NoServer
    } else {
        EndReason::ConnectFailed
    })
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
