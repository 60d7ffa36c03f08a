//! What a scripted server does with a connection.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::exchange;
use crate::server::Entry;
use crate::smtp::ServerSession;

const READ_SIZE: usize = 64 * 1024;

/// A behaviour; every connection of a server gets the same.
#[derive(Debug, Clone)]
pub enum Script {
    /// A correct SMTP server that takes every message.
    Smtp,
    /// Says these pieces, with pauses between them, before anything else.
    Greeting {
        /// What to say, as it is on the wire; one write each.
        pieces: Vec<Vec<u8>>,
        /// The time before each piece.
        pause: Duration,
        /// What comes after the last piece.
        then: Then,
    },
    /// `421`, then a clean close.
    RefuseWith421,
    /// A reset, right after the connection was accepted.
    ResetOnAccept,
    /// An end of stream, right after the connection was accepted.
    CloseOnAccept,
    /// Says nothing and reads to the end.
    Silent,
    /// Greets with 220, then reads slowly, to the end.
    SlowReader {
        /// At most so many bytes at a time.
        bytes: usize,
        /// The time before each read.
        every: Duration,
    },
    /// Sends back whatever comes, and ends when the client ends.
    Echo,
    /// The server's side of [`crate::exchange`], after this greeting; an empty one sends none.
    HashExchange {
        /// As it is on the wire.
        greeting: Vec<u8>,
    },
}

/// What follows a scripted greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// SMTP, as if the greeting had been the usual one.
    Serve,
    /// A clean close: end of stream, and reading until the client ends too.
    Close,
}

impl Script {
    /// This greeting in one piece, then SMTP.
    #[must_use]
    pub fn greeting(text: &str) -> Self {
        let pieces = vec![text.as_bytes().to_vec()];
        Self::Greeting {
            pieces,
            pause: Duration::ZERO,
            then: Then::Serve,
        }
    }

    /// This greeting in one piece, then a clean close.
    #[must_use]
    pub fn greeting_then_close(text: &str) -> Self {
        let pieces = vec![text.as_bytes().to_vec()];
        Self::Greeting {
            pieces,
            pause: Duration::ZERO,
            then: Then::Close,
        }
    }

    pub(crate) async fn play(&self, mut stream: TcpStream, entry: &Entry) -> io::Result<()> {
        stream.set_nodelay(true)?;
        match self {
            Self::Smtp => serve_smtp(&mut stream, true, entry).await,
            Self::Greeting {
                pieces,
                pause,
                then,
            } => {
                say_slowly(&mut stream, pieces, *pause).await?;
                match then {
                    Then::Serve => serve_smtp(&mut stream, false, entry).await,
                    Then::Close => close(&mut stream).await,
                }
            }
            Self::RefuseWith421 => {
                stream.write_all(b"421 4.3.2 scripted too busy\r\n").await?;
                close(&mut stream).await
            }
            Self::ResetOnAccept => stream.set_zero_linger(),
            Self::CloseOnAccept => Ok(()),
            Self::Silent => read_to_end(&mut stream).await,
            Self::SlowReader { bytes, every } => read_slowly(&mut stream, *bytes, *every).await,
            Self::Echo => echo(&mut stream).await,
            Self::HashExchange { greeting } => {
                stream.write_all(greeting).await?;
                let (plan, outcome) = exchange::serve(&mut stream).await?;
                entry.exchanged(plan, outcome);
                Ok(())
            }
        }
    }
}

async fn serve_smtp(stream: &mut TcpStream, greet: bool, entry: &Entry) -> io::Result<()> {
    let mut session = ServerSession::new("scripted".into(), true);
    if greet {
        session.greet();
    }
    let mut buffer = vec![0; READ_SIZE];
    loop {
        // First the books, then the answer: a test that has the answer finds the message.
        entry.received(session.take_received());
        stream.write_all(session.replies()).await?;
        session.replies().clear();
        if session.has_quit() {
            return close(stream).await;
        }
        let size = stream.read(&mut buffer).await?;
        if size == 0 {
            return Ok(());
        }
        session.feed(&buffer[..size]);
    }
}

async fn say_slowly(stream: &mut TcpStream, pieces: &[Vec<u8>], pause: Duration) -> io::Result<()> {
    for piece in pieces {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        stream.write_all(piece).await?;
    }
    Ok(())
}

async fn read_slowly(stream: &mut TcpStream, bytes: usize, every: Duration) -> io::Result<()> {
    stream.write_all(b"220 scripted slow reader\r\n").await?;
    let mut buffer = vec![0; bytes];
    loop {
        tokio::time::sleep(every).await;
        if stream.read(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

async fn echo(stream: &mut TcpStream) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await
}

/// Ends this direction and reads on, so that nothing unread turns the end into a reset.
async fn close(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    read_to_end(stream).await
}

async fn read_to_end(stream: &mut TcpStream) -> io::Result<()> {
    tokio::io::copy(stream, &mut tokio::io::sink()).await?;
    Ok(())
}
