//! Waits for what a server says first, so that one that refuses is replaced before the client
//! knows: its greeting, or its answer to the client's TLS hello.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::server::GreetingFailure;
use crate::smtp::greeting::Greeting;
use crate::smtp::words::QUIT;

/// Enough for the greetings that servers use.
const USUAL: usize = 256;

/// What the server said, from its first byte to at least the end of its first line; that
/// line takes the session. Everything is to be passed on.
///
/// # Errors
/// Why the session needs another server. This one was told QUIT if it speaks SMTP.
pub(crate) async fn greeting(
    server: &mut TcpStream,
    limit: Duration,
) -> Result<Vec<u8>, GreetingFailure> {
    let Ok(greeting) = timeout(limit, read_greeting(server)).await else {
        return Err(GreetingFailure::Timeout);
    };
    if let Err(GreetingFailure::RefusedNow | GreetingFailure::Refused) = greeting {
        // It may have closed already; and what it answers, nobody waits for.
        let _ = server.try_write(QUIT);
    }
    greeting
}

/// Says `hello` to the server; what it answered, to be passed on. Whatever that is, a TLS
/// alert also: it is the server's word for this client.
///
/// # Errors
/// Why the session needs another server: this one said nothing.
pub(crate) async fn answer(
    server: &mut TcpStream,
    hello: &[u8],
    limit: Duration,
) -> Result<Vec<u8>, GreetingFailure> {
    let mut said = Vec::with_capacity(USUAL);
    let answered = timeout(limit, async {
        server.write_all(hello).await?;
        server.read_buf(&mut said).await
    });
    match answered.await {
        Err(_) => Err(GreetingFailure::Timeout),
        Ok(Ok(0)) => Err(GreetingFailure::Closed),
        Ok(Ok(_)) => Ok(said),
        Ok(Err(error)) => Err(broken(&error)),
    }
}

async fn read_greeting(server: &mut TcpStream) -> Result<Vec<u8>, GreetingFailure> {
    let mut bytes = Vec::with_capacity(USUAL);
    loop {
        match server.read_buf(&mut bytes).await {
            Ok(0) => return Err(GreetingFailure::Closed),
            Ok(_) => {}
            Err(error) => return Err(broken(&error)),
        }
        match Greeting::parse(&bytes) {
            Greeting::Incomplete => {}
            Greeting::Accepts => return Ok(bytes),
            Greeting::RefusesNow => return Err(GreetingFailure::RefusedNow),
            Greeting::Refuses => return Err(GreetingFailure::Refused),
            Greeting::Nonsense => return Err(GreetingFailure::Nonsense),
        }
    }
}

fn broken(error: &io::Error) -> GreetingFailure {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => GreetingFailure::Reset,
        _ => GreetingFailure::Closed,
    }
}
