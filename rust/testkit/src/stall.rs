//! Clients that make trouble: they read nothing, stop reading, or send a reset.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::wait::within_limit;

/// Small, so that the other end feels the stall after little.
const RECEIVE_BUFFER: u32 = 4096;

/// A client that reads only when told to, and by itself never. Its receive buffer is small.
#[derive(Debug)]
pub struct StalledReader {
    stream: TcpStream,
}

impl StalledReader {
    /// Connects and reads nothing.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn connect(addr: SocketAddr) -> io::Result<Self> {
        let socket = if addr.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        let stream = within_limit("connect", socket.connect(addr)).await?;
        Ok(Self { stream })
    }

    /// Sends bytes, as long as the other end takes them.
    ///
    /// # Errors
    /// `TimedOut` if it no longer does, else what the socket says.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        within_limit("send", self.stream.write_all(bytes)).await
    }

    /// Reads exactly so many bytes, then stalls again.
    ///
    /// # Errors
    /// `UnexpectedEof` if fewer come, else what the socket says.
    pub async fn read(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        let mut read = vec![0; bytes];
        within_limit("read", self.stream.read_exact(&mut read)).await?;
        Ok(read)
    }

    /// Half-closes, then reads everything up to the other end's end of stream.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn finish(mut self) -> io::Result<Vec<u8>> {
        self.stream.shutdown().await?;
        let mut rest = Vec::new();
        while within_limit("read to the end", self.stream.read_buf(&mut rest)).await? > 0 {}
        Ok(rest)
    }
}

/// Ends a connection with a reset instead of an end of stream.
///
/// # Errors
/// What the socket says.
pub fn reset(stream: TcpStream) -> io::Result<()> {
    stream.set_zero_linger()?;
    drop(stream);
    Ok(())
}
