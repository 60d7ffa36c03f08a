//! A small SMTP client that shows every reply.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::message::Messages;
use crate::reply::{Reply, ReplyReader};
use crate::wait::within_limit;

/// One SMTP session. Every step ends with an error after the limit of [`crate::wait`].
#[derive(Debug)]
pub struct SmtpClient {
    stream: TcpStream,
    replies: ReplyReader,
    messages: u64,
}

impl SmtpClient {
    /// Connects; the greeting is not read yet.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn connect(addr: SocketAddr) -> io::Result<Self> {
        Ok(Self::over(
            within_limit("connect", TcpStream::connect(addr)).await?,
        ))
    }

    /// Connects from the local address `source`, as another client than the others.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn connect_from(source: IpAddr, addr: SocketAddr) -> io::Result<Self> {
        let socket = if addr.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.bind(SocketAddr::new(source, 0))?;
        Ok(Self::over(
            within_limit("connect", socket.connect(addr)).await?,
        ))
    }

    /// A session over a connection that exists.
    #[must_use]
    pub fn over(stream: TcpStream) -> Self {
        Self {
            stream,
            replies: ReplyReader::default(),
            messages: 0,
        }
    }

    /// Reads the greeting, whatever its code.
    ///
    /// # Errors
    /// As [`ReplyReader::read`].
    pub async fn greeting(&mut self) -> io::Result<Reply> {
        self.reply("greeting").await
    }

    /// Sends one line (CRLF is added) and reads the reply.
    ///
    /// # Errors
    /// As [`ReplyReader::read`], and what writing says.
    pub async fn command(&mut self, line: &str) -> io::Result<Reply> {
        self.send(format!("{line}\r\n").as_bytes()).await?;
        self.reply(line).await
    }

    /// MAIL, RCPT, DATA and a message of `size` bytes; returns the reply to the final dot or
    /// the first negative one.
    ///
    /// # Errors
    /// As [`command`](Self::command).
    pub async fn send_message(&mut self, size: usize) -> io::Result<Reply> {
        for line in [
            "MAIL FROM:<source@load.test>",
            "RCPT TO:<sink@load.test>",
            "DATA",
        ] {
            let reply = self.command(line).await?;
            if !reply.is_positive() {
                return Ok(reply);
            }
        }
        let message = Messages::of_size(size);
        let session = format!("client-{}", self.stream.local_addr()?.port());
        self.messages += 1;
        self.send(&message.head(&session, self.messages)).await?;
        self.send(message.body()).await?;
        self.reply("final dot").await
    }

    /// QUIT, its reply and the server's end of stream.
    ///
    /// # Errors
    /// As [`command`](Self::command), and `InvalidData` if more comes after the reply.
    pub async fn quit(mut self) -> io::Result<Reply> {
        let reply = self.command("QUIT").await?;
        let more = within_limit("end", self.stream.read(&mut [0; 64])).await?;
        if more > 0 || !self.replies.surplus().is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "bytes after QUIT",
            ));
        }
        Ok(reply)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        within_limit("send", self.stream.write_all(bytes)).await
    }

    /// Reads the next reply; `what` names it in the error.
    ///
    /// # Errors
    /// As [`ReplyReader::read`].
    pub async fn reply(&mut self, what: &str) -> io::Result<Reply> {
        within_limit(what, self.replies.read(&mut self.stream)).await
    }

    /// The connection, to go on with by other means.
    #[must_use]
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }
}
