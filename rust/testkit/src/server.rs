//! A server that plays a [`Script`] and keeps a log of what it saw.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::exchange::{Outcome, Plan};
use crate::proxy::{self, Parsed};
use crate::script::Script;
use crate::smtp::Received;
use crate::wait::within_limit;

/// A server on loopback. Dropping it closes its socket and its connections.
#[derive(Debug)]
pub struct ScriptedServer {
    addr: SocketAddr,
    log: watch::Sender<Log>,
    accepting: AbortHandle,
}

/// What a server saw so far.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// In the order of acceptance.
    pub connections: Vec<Connection>,
    /// Finished hash exchanges by the seed of their plan.
    pub exchanges: HashMap<u64, (Plan, Outcome)>,
}

/// One accepted connection.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The address at the other end of the socket.
    pub peer: SocketAddr,
    /// The PROXY header, once read.
    pub proxy: Option<proxy::Header>,
    /// Messages taken by the SMTP script.
    pub messages: Vec<Received>,
    /// None while the script runs, then how it ended.
    pub end: Option<Result<(), io::ErrorKind>>,
}

impl ScriptedServer {
    /// Starts on a free port of 127.0.0.1, without PROXY headers.
    ///
    /// # Errors
    /// If the socket can't be had.
    pub async fn start(script: Script) -> io::Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), script, None).await
    }

    /// Starts at `addr`; if `proxy` says so, reads a PROXY header on every connection before
    /// the script begins.
    ///
    /// # Errors
    /// If the socket can't be had.
    pub async fn start_at(
        addr: SocketAddr,
        script: Script,
        proxy: Option<proxy::Accept>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let log = watch::Sender::new(Log::default());
        let accepting = tokio::spawn(accept(listener, Arc::new(script), proxy, log.clone()));
        Ok(Self {
            addr,
            log,
            accepting: accepting.abort_handle(),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.log.borrow().connections.len()
    }

    /// The log as it is now.
    #[must_use]
    pub fn log(&self) -> Log {
        self.log.borrow().clone()
    }

    /// Waits until the log satisfies `condition`, and returns it.
    ///
    /// # Errors
    /// `TimedOut` if that takes longer than the limit.
    pub async fn wait_for(&self, condition: impl FnMut(&Log) -> bool) -> io::Result<Log> {
        let mut log = self.log.subscribe();
        within_limit("server log", async {
            let seen = log.wait_for(condition).await.map_err(io::Error::other)?;
            Ok(seen.clone())
        })
        .await
    }

    /// Waits until every connection accepted so far has ended, and returns the log.
    ///
    /// # Errors
    /// `TimedOut` if that takes longer than the limit.
    pub async fn wait_for_ends(&self) -> io::Result<Log> {
        self.wait_for(|log| log.connections.iter().all(|c| c.end.is_some()))
            .await
    }

    /// Waits for the hash exchange with this seed and returns the server's side of it.
    ///
    /// # Errors
    /// `TimedOut` if it does not finish within the limit, for instance because it failed.
    pub async fn outcome(&self, seed: u64) -> io::Result<Outcome> {
        let log = self
            .wait_for(|log| log.exchanges.contains_key(&seed))
            .await?;
        Ok(log.exchanges[&seed].1)
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One connection's place in the log.
pub(crate) struct Entry {
    log: watch::Sender<Log>,
    index: usize,
}

impl Entry {
    fn new(log: watch::Sender<Log>, peer: SocketAddr) -> Self {
        let mut index = 0;
        log.send_modify(|log| {
            index = log.connections.len();
            log.connections.push(Connection {
                peer,
                proxy: None,
                messages: vec![],
                end: None,
            });
        });
        Self { log, index }
    }

    fn modify(&self, change: impl FnOnce(&mut Connection)) {
        self.log
            .send_modify(|log| change(&mut log.connections[self.index]));
    }

    pub(crate) fn received(&self, messages: Vec<Received>) {
        if !messages.is_empty() {
            self.modify(|connection| connection.messages.extend(messages));
        }
    }

    pub(crate) fn exchanged(&self, plan: Plan, outcome: Outcome) {
        self.log.send_modify(|log| {
            log.exchanges.insert(plan.seed, (plan, outcome));
        });
    }
}

async fn accept(
    listener: TcpListener,
    script: Arc<Script>,
    proxy: Option<proxy::Accept>,
    log: watch::Sender<Log>,
) {
    // Aborting this task drops the set, which ends all connections.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let entry = Entry::new(log.clone(), peer);
        let script = Arc::clone(&script);
        connections.spawn(async move {
            let result = serve(stream, &script, proxy, &entry).await;
            entry.modify(|connection| connection.end = Some(result.map_err(|e| e.kind())));
        });
    }
}

async fn serve(
    mut stream: TcpStream,
    script: &Script,
    proxy: Option<proxy::Accept>,
    entry: &Entry,
) -> io::Result<()> {
    if let Some(accept) = proxy {
        let header = read_proxy_header(&mut stream, accept).await?;
        entry.modify(|connection| connection.proxy = Some(header));
    }
    script.play(stream, entry).await
}

/// Reads the header byte by byte, so as to leave the client's bytes to the script.
async fn read_proxy_header(
    stream: &mut TcpStream,
    accept: proxy::Accept,
) -> io::Result<proxy::Header> {
    let mut bytes = Vec::new();
    loop {
        bytes.push(stream.read_u8().await?);
        match proxy::parse(&bytes, accept) {
            Parsed::Complete(header, _) => return Ok(header),
            Parsed::Incomplete => {}
            Parsed::Invalid(why) => return Err(io::Error::new(io::ErrorKind::InvalidData, why)),
        }
    }
}
