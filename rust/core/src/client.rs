//! A client before it has a server: its connection, which the reactor is told of only where
//! something of it is waited for.
//!
//! A server that greets at once leaves nothing to wait for. Where the kernel path then takes the
//! session, telling the reactor, being told at once that the client can be written to, and taking
//! all that back would be a good part of what is left to pay for.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream as StdStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, OnceLock};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;

use crate::sys;

/// Read at a time: enough for the hellos that clients send.
const PIECE: usize = 2048;

/// Who connected.
#[derive(Debug)]
pub(crate) struct Client {
    socket: Arc<StdStream>,
    pub(crate) address: SocketAddr,
    /// The same socket, once it was waited for.
    watched: OnceLock<AsyncFd<Arc<StdStream>>>,
}

impl Client {
    /// `socket` is a nonblocking one.
    pub(crate) fn new(socket: StdStream, address: SocketAddr) -> Self {
        Self {
            socket: Arc::new(socket),
            address,
            watched: OnceLock::new(),
        }
    }

    /// # Errors
    /// What the kernel says.
    pub(crate) fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Waits until it has said something, and appends that; 0 bytes at its end of stream.
    ///
    /// # Errors
    /// What the kernel says, or the reactor.
    pub(crate) async fn read(&self, said: &mut Vec<u8>) -> io::Result<usize> {
        let read = |mut socket: &StdStream| {
            let mut piece = [0; PIECE];
            let size = socket.read(&mut piece)?;
            said.extend(&piece[..size]);
            Ok(size)
        };
        self.once_readable(read).await
    }

    /// Waits until it has said something, its stream ended or broke; that is left where it is.
    ///
    /// # Errors
    /// It broke, or what the reactor says.
    pub(crate) async fn speaks(&self) -> io::Result<()> {
        let peek = |socket: &StdStream| socket.peek(&mut [0]).map(drop);
        self.once_readable(peek).await
    }

    /// Waits until its connection broke. Its end of stream doesn't count.
    ///
    /// # Errors
    /// What the reactor says: it can't be waited for.
    pub(crate) async fn breaks(&self) -> io::Result<()> {
        self.watch()?.ready(Interest::ERROR).await.map(drop)
    }

    /// Waits until its stream ended. Not seen of one that spoke before: then this never returns.
    ///
    /// # Errors
    /// What the reactor says: it can't be waited for.
    pub(crate) async fn leaves(&self) -> io::Result<()> {
        let ready = self.watch()?.ready(Interest::READABLE).await?.ready();
        if !ready.is_read_closed() {
            // To be told again, what it said would have to be forgotten.
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    /// Says what it takes at once; how much that was.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn tell(&self, words: &[u8]) -> io::Result<usize> {
        (&*self.socket).write(words)
    }

    /// For a session that waits for it all the time.
    ///
    /// # Errors
    /// What the reactor says.
    pub(crate) fn into_stream(self) -> io::Result<TcpStream> {
        TcpStream::from_std(self.into_socket()?)
    }

    /// For a session that doesn't.
    ///
    /// # Errors
    /// Never, since nobody else has it by now.
    pub(crate) fn into_socket(self) -> io::Result<StdStream> {
        drop(self.watched);
        Arc::into_inner(self.socket).ok_or_else(|| io::ErrorKind::ResourceBusy.into())
    }

    async fn once_readable<T>(
        &self,
        mut act: impl FnMut(&StdStream) -> io::Result<T>,
    ) -> io::Result<T> {
        let act = |socket: &Arc<StdStream>| act(socket);
        self.watch()?.async_io(Interest::READABLE, act).await
    }

    fn watch(&self) -> io::Result<&AsyncFd<Arc<StdStream>>> {
        if let Some(watched) = self.watched.get() {
            return Ok(watched);
        }
        let watched = sys::watch_client(Arc::clone(&self.socket))?;
        Ok(self.watched.get_or_init(|| watched))
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
