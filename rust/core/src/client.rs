//! A client before it has a server: its connection, which the reactor is told of only where
//! something of it is waited for.
//!
//! A server that greets at once leaves nothing to wait for. Where the kernel path then takes the
//! session, telling the reactor, being told at once that the client can be written to, and taking
//! all that back would be a good part of what is left to pay for.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream as StdStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;

use tokio::io::Interest;
use tokio::net::TcpStream;

/// Who connected.
#[derive(Debug)]
pub(crate) struct Client {
    socket: StdStream,
    pub(crate) address: SocketAddr,
    /// The same socket, once it was waited for.
    watched: OnceLock<TcpStream>,
}

impl Client {
    /// `socket` is a nonblocking one.
    pub(crate) fn new(socket: StdStream, address: SocketAddr) -> Self {
        Self {
            socket,
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
        let watched = self.watch()?;
        loop {
            watched.readable().await?;
            match watched.try_read_buf(said) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }

    /// Waits until it has said something, its stream ended or broke; that is left where it is.
    ///
    /// # Errors
    /// It broke, or what the reactor says.
    pub(crate) async fn speaks(&self) -> io::Result<()> {
        self.watch()?.peek(&mut [0]).await.map(drop)
    }

    /// Waits until its connection broke. Its end of stream doesn't count.
    ///
    /// # Errors
    /// What the reactor says: it can't be waited for.
    pub(crate) async fn breaks(&self) -> io::Result<()> {
        let watched = self.watch()?;
        while !watched.ready(Interest::ERROR).await?.is_error() {}
        Ok(())
    }

    /// Says what it takes at once; how much that was.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn tell(&self, words: &[u8]) -> io::Result<usize> {
        (&self.socket).write(words)
    }

    /// For a session that waits for it all the time.
    ///
    /// # Errors
    /// What the reactor says.
    pub(crate) fn into_stream(self) -> io::Result<TcpStream> {
        match self.watched.into_inner() {
            Some(watched) => Ok(watched),
            None => TcpStream::from_std(self.socket),
        }
    }

    pub(crate) fn into_socket(self) -> StdStream {
        self.socket
    }

    fn watch(&self) -> io::Result<&TcpStream> {
        if let Some(watched) = self.watched.get() {
            return Ok(watched);
        }
        let watched = TcpStream::from_std(self.socket.try_clone()?)?;
        Ok(self.watched.get_or_init(|| watched))
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
