//! One session, from its accept to its end. Linear: each step is a call that says what happens.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use fail::fail_point;
use tokio::net::TcpStream;

use crate::admission;
use crate::farewell;
use crate::moment::AtomicMoment;
use crate::occupancy::Occupancy;
use crate::record::{End, EndBy, EndReason, Ledger, Record};
use crate::relay::pipes::Pipes;
use crate::relay::{Ending, Ends, Terms, Traffic, relay};
use crate::seek::{self, Found, Seeking};
use crate::smtp::words;
use crate::snapshot::{Listener, Snapshot};
use crate::spec::Protocol;
use crate::troubles::Troubles;

/// What the sessions of a worker share.
#[derive(Debug)]
pub(crate) struct Commons {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) pipes: Arc<Pipes>,
    /// Sessions of the whole process.
    pub(crate) occupancy: Arc<Occupancy>,
    /// Since when the process drains, if it does.
    pub(crate) drains: Arc<AtomicMoment>,
    pub(crate) troubles: Arc<Troubles>,
}

/// Who connected.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) address: SocketAddr,
}

/// Serves a client of the listener with this index. `snapshot` is kept to the end.
pub(crate) async fn serve(
    client: Client,
    snapshot: Arc<Snapshot>,
    listener: usize,
    commons: Arc<Commons>,
) {
    let listener = &snapshot.listeners[listener];
    let mut record = open_record(&client, listener, &commons).await;
    fail_point!("session");
    let ending = match admission::admit(&snapshot, listener, &commons.occupancy) {
        Ok(_place) => {
            let seeking = Seeking {
                client: &client.stream,
                address: client.address,
                listener,
                troubles: &commons.troubles,
            };
            match seek::find_server(&seeking, &mut record).await {
                Ok(found) => carry(client, found, &snapshot, listener, &commons, &record).await,
                Err(end) => before_the_greeting(client, end),
            }
        }
        Err(reason) => before_the_greeting(client, End::ours(reason)),
    };
    record.decided();
    let end = ending.end;
    part(ending, listener.protocol, &snapshot.hostname).await;
    record.close(end);
}

async fn open_record(client: &Client, listener: &Listener, commons: &Commons) -> Record {
    let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    let pool = &listener.pool.name;
    Record::open(
        &commons.ledger,
        &listener.state,
        pool,
        client.address,
        waker,
    )
}

/// Carries the session of a client and the server that was found for it, to its end.
async fn carry(
    client: Client,
    found: Found,
    snapshot: &Snapshot,
    listener: &Listener,
    commons: &Commons,
    record: &Record,
) -> Ending {
    let server = found.in_flight.server();
    let traffic = Traffic {
        process: record.process(),
        listener: record.listener(),
        server: server.counters.of(record.worker()),
        live: record.live(),
    };
    let terms = Terms {
        id: record.id(),
        protocol: listener.protocol,
        timeouts: &listener.timeouts,
        drain: &snapshot.drain,
        drains: [&commons.drains, &server.drains],
        aged: listener.max_age.map(|age| record.began() + age),
    };
    let ends = Ends {
        client: client.stream,
        server: found.stream,
        asked: found.asked,
        said: found.said,
    };
    relay(ends, &terms, &commons.pipes, &traffic).await
}

/// How a session ends that no server took: a client that is still there may be told.
fn before_the_greeting(client: Client, end: End) -> Ending {
    Ending {
        end,
        client: (end.by == EndBy::Balancer).then_some(client.stream),
        server: None,
    }
}

/// Closes what is still open, politely: the client is told to come back later, where the
/// protocol has words for it, and the server that nobody will say anything more.
async fn part(ending: Ending, protocol: Protocol, hostname: &str) {
    let line = match protocol {
        Protocol::Smtp => words::last_word(hostname, ending.end.reason),
        // TLS or anything: nothing that we could say would be understood.
        Protocol::Smtps | Protocol::Tcp => String::new(),
    };
    let tell_client = async {
        match ending.client {
            Some(client) if ending.end.reason == EndReason::OutOfDescriptors => {
                farewell::hurry_away(client, line.as_bytes());
            }
            Some(client) => farewell::say(client, line.as_bytes()).await,
            None => {}
        }
    };
    let tell_server = async {
        if let Some(server) = ending.server {
            farewell::say(server, words::QUIT).await;
        }
    };
    tokio::join!(tell_client, tell_server);
}
