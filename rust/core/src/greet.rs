//! Waits for what a server says first, so that one that refuses is replaced before the client
//! knows: its greeting, or its answer to the client's TLS hello.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::conduct::GreetingFailure;
use crate::smtp::greeting::{self, Greeting};
use crate::smtp::words::QUIT;
use crate::spec::Protocol;

/// Enough for the greetings that servers use.
const USUAL: usize = 256;

/// What is waited for of a server, and what came of it. Waiting can be left and gone on with.
#[derive(Debug)]
pub(crate) struct FirstWords {
    protocol: Protocol,
    /// How much of the client's hello it was told.
    told: usize,
    /// From its first byte on; everything is to be passed on.
    pub(crate) said: Vec<u8>,
}

impl FirstWords {
    pub(crate) fn new(protocol: Protocol) -> Self {
        let said = match protocol {
            Protocol::Smtp | Protocol::Smtps => Vec::with_capacity(USUAL),
            Protocol::Tcp => vec![],
        };
        Self {
            protocol,
            told: 0,
            said,
        }
    }

    /// Waits until it is decided whether the server takes the session: by the end of the first
    /// line of its greeting; where TLS comes first, by whatever it says to `hello`, an alert also:
    /// that is its word for this client.
    ///
    /// # Errors
    /// Why the session needs another server. This one was told QUIT if it said so itself.
    pub(crate) async fn hear(
        &mut self,
        server: &mut TcpStream,
        hello: &[u8],
    ) -> Result<(), GreetingFailure> {
        poll_fn(|cx| self.poll_hear(cx, server, hello)).await
    }

    /// The same for whoever waits for more than one.
    pub(crate) fn poll_hear(
        &mut self,
        cx: &mut Context<'_>,
        server: &mut TcpStream,
        hello: &[u8],
    ) -> Poll<Result<(), GreetingFailure>> {
        match self.protocol {
            Protocol::Smtp => self.poll_greeting(cx, server),
            Protocol::Smtps => self.poll_answer(cx, server, hello),
            Protocol::Tcp => Poll::Ready(Ok(())),
        }
    }

    fn poll_greeting(
        &mut self,
        cx: &mut Context<'_>,
        server: &mut TcpStream,
    ) -> Poll<Result<(), GreetingFailure>> {
        loop {
            let before = self.said.len();
            ready!(self.poll_read(cx, server))?;
            let failure = match Greeting::parse_on(&self.said, before) {
                Greeting::Incomplete => continue,
                Greeting::Accepts => return Poll::Ready(Ok(())),
                Greeting::Nonsense => return Poll::Ready(Err(GreetingFailure::Nonsense)),
                Greeting::RefusesNow => GreetingFailure::RefusedNow,
                Greeting::Refuses => GreetingFailure::Refused,
            };
            // It may have closed already; and what it answers, nobody waits for.
            let _ = server.try_write(QUIT);
            return Poll::Ready(Err(failure));
        }
    }

    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        server: &mut TcpStream,
        hello: &[u8],
    ) -> Poll<Result<(), GreetingFailure>> {
        while self.told < hello.len() {
            let write = pin!(server.write(&hello[self.told..]));
            let size = ready!(write.poll(cx)).map_err(|error| broken(&error))?;
            self.told += size;
        }
        self.poll_read(cx, server)
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        server: &mut TcpStream,
    ) -> Poll<Result<(), GreetingFailure>> {
        let read = pin!(server.read_buf(&mut self.said));
        match ready!(read.poll(cx)) {
            Ok(0) => Poll::Ready(Err(GreetingFailure::Closed)),
            Ok(_) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(broken(&error))),
        }
    }

    /// Whether anything is waited for.
    pub(crate) fn greets(&self) -> bool {
        self.protocol != Protocol::Tcp
    }

    /// The code of its greeting.
    pub(crate) fn code(&self) -> Option<u16> {
        let smtp = self.protocol == Protocol::Smtp;
        smtp.then(|| greeting::code(&self.said)).flatten()
    }
}

fn broken(error: &io::Error) -> GreetingFailure {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => GreetingFailure::Reset,
        _ => GreetingFailure::Closed,
    }
}
